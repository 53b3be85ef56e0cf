"""Every oracle keeps the contract. The simulated one is right, or wrong in a way that depends on the item alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysal.config import choice
from raysal.errors import ConfigError, LabelError
from raysal.labels import ORACLES, SimulatedOracle, write_labels
from raysal.pool import ChunkStage, Manifest, PoolWriter, open_pool
from raysal.types import Label

CLASSES = ["bee", "cat", "dog"]
IDS = [id for id in range(60) if id % 7]  # some were quarantined


def truth_of(id):
    return CLASSES[id % 3]


def make_pool(path, **carried):
    manifest = Manifest(
        dim=2,
        modality="vector",
        items=60,
        chunks=2,
        chunk_rows=30,
        encoder={"name": "precomputed", "fingerprint": "e"},
        source={"fingerprint": "s"},
    )
    writer, stage = PoolWriter(path, manifest), ChunkStage(path, 2)
    for index in range(2):
        ids = np.array([id for id in IDS if id // 30 == index], np.int64)
        staged = stage.write(
            index=index,
            first_id=30 * index,
            vectors=np.zeros((len(ids), 2), np.float16),
            ids=ids,
            keys=[f"k{id}" for id in ids],
            uris=[None] * len(ids),
            carried={name: [of(int(id)) for id in ids] for name, of in carried.items()},
            quarantined=[],
        )
        writer.commit(staged)
    return open_pool(path)


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return make_pool(
        tmp_path_factory.mktemp("pool"),
        label=truth_of,
        digit=lambda id: id % 3 if id % 5 else None,
        half=lambda id: id + 0.5,
        endless=lambda id: float("inf"),
        same=lambda id: "one",
    )


BATCH = [(id, f"k{id}") for id in [59, 3, 1, 30, 29, 8]]


@pytest.mark.parametrize("name", sorted(ORACLES))
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_contract(pool, name, noise):
    fields = {"noise": noise} if name == "simulated" else {}
    oracle = choice({"name": name, **fields}).build("oracle", ORACLES).bind(pool, seed=3)
    whole = oracle.answer(BATCH)
    assert all(isinstance(label, Label) and label.label for label in whole)
    order = {key: place for place, (_, key) in enumerate(BATCH)}
    places = [order[label.key] for label in whole]
    assert places == sorted(set(places))
    assert oracle.answer(BATCH) == whole
    assert [label for pair in BATCH for label in oracle.answer([pair])] == whole
    assert sorted(oracle.answer(BATCH[::-1]), key=lambda label: order[label.key]) == whole
    assert oracle.answer([]) == []


def test_the_files_oracle_waits(pool):
    assert ORACLES["files"]().bind(pool, seed=0).answer(BATCH) == []


def test_the_truth_comes_from_the_column(pool):
    oracle = SimulatedOracle().bind(pool, seed=0)
    assert oracle.answer(BATCH) == [Label(key=key, label=truth_of(id), annotator="simulated") for id, key in BATCH]
    assert oracle.truth(IDS) == {id: truth_of(id) for id in IDS}
    assert oracle.truth(np.array([7, 1], np.int64)) == {1: truth_of(1)}
    assert oracle.truth([]) == {}


def test_numbers_are_labels_and_gaps_are_not_answered(pool):
    oracle = SimulatedOracle(column="digit").bind(pool, seed=0)
    assert [(label.key, label.label) for label in oracle.answer([(5, "k5"), (4, "k4")])] == [("k4", "1")]
    halves = SimulatedOracle(column="half").bind(pool, seed=0).answer([(5, "k5")])
    assert [label.label for label in halves] == ["5.5"]
    with pytest.raises(LabelError, match="endless"):
        SimulatedOracle(column="endless").bind(pool, seed=0).answer(BATCH)


@pytest.mark.parametrize("column", ["key", "id"])
def test_any_column_may_be_the_truth(pool, column):
    truth = SimulatedOracle(column=column).bind(pool, seed=0).truth([1, 2])
    assert truth == ({1: "k1", 2: "k2"} if column == "key" else {1: "1", 2: "2"})


@given(order=st.permutations(IDS), cut=st.integers(1, len(IDS)), seed=st.integers(0, 2**32))
@settings(max_examples=15)
def test_noise_is_the_items_own(pool, order, cut, seed):
    oracle = SimulatedOracle(noise=0.3).bind(pool, seed=seed)
    whole = {label.key: label.label for label in oracle.answer([(id, f"k{id}") for id in IDS])}
    parts = [order[begin : begin + cut] for begin in range(0, len(order), cut)]
    split = {label.key: label.label for ids in parts for label in oracle.answer([(id, f"k{id}") for id in ids])}
    assert split == whole
    assert oracle.truth(IDS) == {id: truth_of(id) for id in IDS}


def test_noise_replaces_its_share_by_other_classes(pool):
    wrong = []
    for seed in range(100):
        oracle = SimulatedOracle(noise=0.3).bind(pool, seed=seed)
        answers = {label.key: label.label for label in oracle.answer([(id, f"k{id}") for id in IDS])}
        wrong += [(truth_of(id), answers[f"k{id}"]) for id in IDS if answers[f"k{id}"] != truth_of(id)]
    assert abs(len(wrong) / (100 * len(IDS)) - 0.3) < 0.03
    counts = [wrong.count((a, b)) for a in CLASSES for b in CLASSES if a != b]
    assert min(counts) > 0.75 * max(counts)


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_the_truth_may_come_from_a_file(pool, tmp_path, kind):
    path = tmp_path / f"truth.{kind}"
    write_labels(path, [Label(key=f"k{id}", label=truth_of(id)) for id in (1, 2, 3)])
    fields = {"name": "simulated", "labels": str(path), "column": "nowhere", "noise": 0.9}
    oracle = choice(fields).build("oracle", ORACLES).bind(pool, seed=0)
    assert oracle.truth(IDS) == {id: truth_of(id) for id in (1, 2, 3)}
    answers = oracle.answer(BATCH)
    assert [label.key for label in answers] == ["k3", "k1"]
    assert {label.label for label in answers} <= {truth_of(id) for id in (1, 2, 3)}


def test_what_cannot_be_bound_is_named(pool, tmp_path):
    with pytest.raises(ConfigError, match=r"oracle\.column.*'klass'.*label, digit"):
        SimulatedOracle(column="klass").bind(pool, seed=0)
    with pytest.raises(ConfigError, match=r"oracle\.noise"):
        SimulatedOracle(noise=1.0)
    with pytest.raises(ConfigError, match=r"oracle\.noise"):
        SimulatedOracle(column="same", noise=0.1).bind(pool, seed=0)
    path = tmp_path / "truth.csv"
    write_labels(path, [Label(key="elsewhere", label="cat")])
    with pytest.raises(ConfigError, match=r"oracle\.labels"):
        SimulatedOracle(labels=path).bind(pool, seed=0)
    two = [Label(key="k1", label="cat"), Label(key="k1", label="dog", annotator="bob")]
    write_labels(path, two, overwrite=True)
    with pytest.raises(LabelError, match="'k1'"):
        SimulatedOracle(labels=path).bind(pool, seed=0)
    with pytest.raises(ConfigError, match=r"oracle\.nois"):
        choice({"name": "simulated", "nois": 0.1}).build("oracle", ORACLES)


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_a_skip_is_no_truth(pool, tmp_path, noise):
    path = tmp_path / "truth.csv"
    path.write_text("key,label\nk1,cat\nk2,!skip\nk3,dog\n")
    oracle = SimulatedOracle(labels=path, noise=noise).bind(pool, seed=0)
    assert oracle.truth([1, 2, 3]) == {1: "cat", 3: "dog"}
    answers = oracle.answer([(id, f"k{id}") for id in (1, 2, 3)])
    assert {label.key for label in answers} == {"k1", "k3"}
    assert {label.label for label in answers} <= {"cat", "dog"}
    skips = make_pool(tmp_path / "pool", label=lambda id: "!SKIP" if id == 2 else truth_of(id))
    assert set(SimulatedOracle(noise=noise).bind(skips, seed=0).truth([1, 2, 3])) == {1, 3}
