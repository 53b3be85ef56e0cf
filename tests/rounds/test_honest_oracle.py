"""A simulated oracle hands out what it is asked for, and a few examples that the config names; nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pools import make_pool, mixture

from raysal.config import parse_config
from raysal.errors import ConfigError
from raysal.labels import write_labels
from raysal.labels.oracles import Simulation
from raysal.pool import Pool
from raysal.rng import derive
from raysal.rounds.held_out import HeldOut
from raysal.rounds.loop import run
from raysal.rounds.session import Session
from raysal.rounds.training_labels import TrainingLabels
from raysal.types import Label

N, SEED, RARE = 600, 2, "class-3"
SHARE = 0.3


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    vectors, names = mixture(N, 8, classes=12)
    return make_pool(tmp_path_factory.mktemp("honest") / "pool", vectors, chunk_rows=200, labels=names)


@pytest.fixture(scope="module")
def truth(pool: Pool) -> dict[str, str]:
    return {row["key"]: row["label"] for table in pool.items(["key", "label"]) for row in table.to_pylist()}


def config_of(pool: Pool, **fields: Any) -> Any:
    oracle = {"name": "simulated", "examples": {RARE: 4}, "others": 16}
    base = {"pool": str(pool.path), "seed": SEED, "oracle": oracle, "target": [RARE], "fleet": {"backend": "local"}}
    rounds = {"count": 3, "k": 12, "holdout": SHARE, "tests": 0.25}
    return parse_config({**base, "select": "probability", "rounds": rounds, **fields})


def held(ids: Sequence[int]) -> np.ndarray:
    return HeldOut(derive(SEED, "holdout"), SHARE).among(np.array(ids, np.int64))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"select": {"name": "reveal", "of": "margin", "every": 3}},
        {"select": "margin", "narrow": {"name": "anchoral", "anchors": 3, "neighbours": 20, "subpool": 60}},
        {"select": "badge", "update": {"mode": "laplace"}},
    ],
    ids=["probability", "reveal", "anchoral", "laplace"],
)
def test_a_search_gets_the_labels_that_it_asks_for_and_no_others(
    fields: dict[str, Any], pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is answered is in a batch, what is looked at besides is held out, and what trains is in a batch or given."""
    answered: set[int] = set()
    looked_at: set[int] = set()
    answer, look = Simulation.answer, Simulation.truth

    def watched_answer(self: Simulation, batch: Sequence[tuple[int, str]]) -> list[Label]:
        answered.update(id for id, _ in batch)
        before = set(looked_at)
        found = answer(self, batch)
        looked_at.intersection_update(before)
        return found

    def watched_look(self: Simulation, ids: Sequence[int]) -> dict[int, str]:
        looked_at.update(ids)
        return look(self, ids)

    monkeypatch.setattr(Simulation, "answer", watched_answer)
    monkeypatch.setattr(Simulation, "truth", watched_look)
    run(config_of(pool, **fields), tmp_path / "run")
    with Session.open(tmp_path / "run", read_only=True) as session:
        batches = [session.batch(round) for round in range(3)]
        asked = {id for batch in batches for id in batch.ids}
        tests = {id for batch in batches for id, test in zip(batch.ids, batch.tests, strict=True) if test}
        labelled = {item.id for item in session.ledger.labels()}
        trained = TrainingLabels.of(session.ledger, session.config, None)
        trains = {item.id for item in trained.labels(trained.head_seq)}
    assert answered == asked
    assert held(sorted(looked_at)).all()
    assert asked <= labelled
    examples = labelled - asked
    assert len(examples) == 20
    assert trains == labelled - tests
    assert not held(sorted(examples)).any()


def test_examples_are_a_seeded_uniform_sample_of_what_is_not_held_out(
    pool: Pool, truth: dict[str, str], tmp_path: Path
) -> None:
    """As many as the config says, of exactly these classes; the same in each arm and for any chunks, right if noisy."""
    oracle = {"name": "simulated", "examples": {RARE: 4, "class-5": 1}, "others": 16, "noise": 0.5}
    rounds = {"count": 1, "k": 12, "holdout": SHARE, "control": True}
    run(config_of(pool, oracle=oracle, rounds=rounds), tmp_path / "run")
    begun = []
    for out in (tmp_path / "run", tmp_path / "run" / "control"):
        with Session.open(out, read_only=True) as session:
            record = session.record(0)
            assert record["labels"] == 21
            assert record["head_digest"] is not None, "the first round has a head"
            begun.append({item.key: item.label for item in session.ledger.labels(upto=record["ledger_seq"])})
            assert session.status().search.known - session.status().search.found == 4
    assert begun[0] == begun[1]
    assert all(truth[key] == label for key, label in begun[0].items())
    counts = Counter(begun[0].values())
    assert (counts[RARE], counts["class-5"], counts.total()) == (4, 1, 21)
    free = [key for id, key in enumerate(truth) if not held([id])[0] and truth[key] not in (RARE, "class-5")]
    others = [key for key, label in begun[0].items() if label not in (RARE, "class-5")]
    assert set(others) <= set(free)
    free += [key for id, key in enumerate(truth) if not held([id])[0] and truth[key] == "class-5"]
    seen: Counter[str] = Counter()
    for seed in range(150):
        few, more = (
            Simulation(pool=pool, seed=seed, column="label", noise=0, by_key=None, examples={RARE: n}, others=n + 1)
            for n in (1, 2)
        )
        labels, further = (one.first_labels(lambda ids: held(ids.tolist())) for one in (few, more))
        assert [label.label == RARE for label in labels] == [False, False, True]
        assert {label.key for label in labels} < {label.key for label in further}
        seen.update(label.key for label in labels[:2])
    assert set(seen) <= set(free)
    assert max(seen.values()) <= 8, "each with the same probability"
    assert len(seen) > 0.4 * len(free)


def killed(*args: Any) -> None:
    raise KeyboardInterrupt


def test_examples_are_told_once_and_before_the_first_round_alone(
    pool: Pool, truth: dict[str, str], tmp_path: Path
) -> None:
    """Killed after they were told, a run goes on with the same ones; also where a file holds the labels."""
    path = tmp_path / "truth.csv"
    write_labels(path, [Label(key=key, label=label) for key, label in truth.items()])
    by_file = {"name": "simulated", "labels": str(path), "examples": {RARE: 4}, "others": 16}
    found = []
    for out, oracle in (("a", {"name": "simulated", "examples": {RARE: 4}, "others": 16}), ("b", by_file)):
        with Session(tmp_path / out, pool, config=config_of(pool, oracle=oracle)) as session:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(
                    "raysal.rounds.session.choose_round", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt)
                )
                with pytest.raises(KeyboardInterrupt):
                    session.query()
            assert session.ledger.counts()["labeled"] == 20
            seq = session.ledger.head_seq
            first = session.query()
            assert session.record(0)["ledger_seq"] == seq
            session.query()
            found.append(first.keys)
    assert found[0] == found[1]


def test_examples_that_are_not_there_are_refused_before_anything_is_begun(pool: Pool, tmp_path: Path) -> None:
    for oracle, field in (
        ({"examples": {RARE: 5000}}, f"oracle.examples.{RARE}"),
        ({"examples": {"nowhere": 1}}, "oracle.examples.nowhere"),
        ({"others": 5000}, "oracle.others"),
    ):
        with pytest.raises(ConfigError, match=field):
            run(config_of(pool, oracle={"name": "simulated", **oracle}), tmp_path / "run")
        assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match=r"oracle\.examples"):
        run(config_of(pool, oracle={"name": "simulated", "examples": {RARE: -1}}), tmp_path / "run")
