"""Class probabilities given at the start: matched by key, judged by the slow rules, refused by the name of the item."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import reference
import reference_wrappers
from numpy.typing import NDArray
from pools import make_pool, mixture
from programs import random_head

import raysal
from raysal.errors import ConfigError, PoolError
from raysal.pool import Pool
from raysal.rng import derive
from raysal.rounds.given_probabilities import read_probabilities
from raysal.rounds.session import Session
from raysal.tables import write_tables

N, DIM = 200, 6
CLASSES = ("cat", "dog", "eel", "fox")
MISSING = (3, 77)
IDS = np.setdiff1d(np.arange(N), MISSING)
STAGE = derive(derive(0, 0), "select")


@pytest.fixture(scope="module")
def values() -> NDArray[np.float64]:
    """Probabilities [n, C] of every item; nobody predicts `eel` of many."""
    p = np.random.default_rng(4).dirichlet([1.0, 1.0, 0.2, 2.0], size=N)
    return p.astype(np.float32).astype(np.float64)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    x, names = mixture(N, DIM, classes=4)
    labels = [CLASSES[int(name[-1])] for name in names]
    return make_pool(tmp_path_factory.mktemp("given") / "pool", x, chunk_rows=45, missing=MISSING, labels=labels)


def table_of(values: NDArray[np.float64], ids: NDArray[np.int64] = IDS, classes: Any = CLASSES) -> pa.Table:
    """A table in another order than the pool's."""
    turned = ids[::-1]
    columns = {name: values[turned, place] for place, name in enumerate(classes)}
    return pa.table({"dog": columns["dog"], "key": [f"item-{id:06d}" for id in turned], **columns})


def file_of(path: Path, table: pa.Table) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        write_tables(path, path.suffix[1:], table.schema, [table])
    return path


def picked(pool: Pool, k: int, strategy: Any, probabilities: Any, **options: Any) -> pa.Table:
    return raysal.select(pool, k=k, strategy=strategy, probabilities=probabilities, **options)


@pytest.mark.parametrize("form", ["a.csv", "a.tsv", "a.parquet", "arrow", "pandas", "columns"])
def test_every_form_says_the_same(form: str, pool: Pool, values: NDArray[np.float64], tmp_path: Path) -> None:
    table = table_of(values)
    given: Any = file_of(tmp_path / form, table) if "." in form else table
    if form == "pandas":
        given = table.to_pandas()
    elif form == "columns":
        given = {name: table[name].to_pylist() for name in table.column_names}
    found = read_probabilities(pool, given)
    assert found.ids.tolist() == IDS.tolist()
    assert found.classes == ("dog", "cat", "eel", "fox")
    np.testing.assert_array_equal(found.values, values[IDS][:, [1, 0, 2, 3]].astype(np.float32))
    assert found.digest == read_probabilities(pool, table).digest


@pytest.mark.parametrize("score", ["margin", "entropy", "least_confidence"])
def test_a_score_of_given_probabilities_is_that_of_the_definition(
    score: str, pool: Pool, values: NDArray[np.float64]
) -> None:
    table = picked(pool, 30, score, table_of(values))
    slow = reference.score(score, values[IDS])
    wanted = reference.ranked(slow, IDS, 30, derive(STAGE, "ties"))
    assert table["id"].to_pylist() == wanted.tolist()
    np.testing.assert_allclose(table["score"], np.sort(slow)[::-1][:30], atol=1e-6)
    for partitions in (2, 5):
        assert picked(pool, 30, score, table_of(values), partitions=partitions).equals(table)


@pytest.mark.parametrize("inner", ["random", "margin"])
def test_pcb_starts_from_given_probabilities(inner: str, pool: Pool, values: NDArray[np.float64]) -> None:
    """Without labels every class is as rare as the others; the picks level them until a class has none left."""
    table = picked(pool, 90, f"class_balanced:{inner}", table_of(values))
    order = ("dog", "cat", "eel", "fox")
    p = values[:, [1, 0, 2, 3]]

    def best(ids: list[int], k: int) -> list[int]:
        some = np.array(ids, np.int64)
        if inner == "random":
            return reference.uniform_sample(STAGE, some, k).tolist()
        return reference.ranked(reference.score("margin", p[some]), some, k, derive(STAGE, "ties")).tolist()

    wanted = reference_wrappers.class_balanced(
        p[IDS].argmax(1).tolist(), [0] * 4, [derive(STAGE, "class", name) for name in order], IDS.tolist(), 90, best
    )
    assert table["id"].to_pylist() == wanted
    counts, there = (np.bincount(p[ids].argmax(1), minlength=4) for ids in (wanted, IDS))
    assert counts[2] == there[2] < counts[[0, 1, 3]].min() >= counts.max() - 1, "all of eel, and the others alike"
    for partitions in (2, 5):
        again = picked(pool, 90, f"class_balanced:{inner}", table_of(values), partitions=partitions)
        assert again.equals(table)
    assert picked(pool, 20, f"class_balanced:{inner}", table_of(values))["id"].to_pylist() == wanted[:20]


@pytest.mark.parametrize(
    "strategy", ["class_balanced:typiclust", "class_balanced:skip_extremes:random", "power_margin"]
)
def test_others_that_go_by_probabilities(strategy: str, pool: Pool, values: NDArray[np.float64]) -> None:
    ids = picked(pool, 25, strategy, table_of(values))["id"].to_pylist()
    assert len(set(ids)) == 25


@pytest.mark.parametrize("strategy", ["badge", "class_balanced", "class_balanced:bald", "bald", "random", "typiclust"])
def test_a_strategy_that_cannot_go_by_them_is_refused(strategy: str, pool: Pool, values: NDArray[np.float64]) -> None:
    with pytest.raises(ConfigError, match=rf"probabilities: the strategy '{strategy}' cannot go by them"):
        picked(pool, 5, strategy, table_of(values))


def test_with_labels_a_head_predicts(pool: Pool, values: NDArray[np.float64]) -> None:
    labels = {"item-000001": "cat", "item-000002": "dog"}
    with pytest.raises(ConfigError, match="probabilities: there are labels"):
        picked(pool, 5, "margin", table_of(values), labels=labels)


def broken(values: NDArray[np.float64], how: str) -> Any:
    table = table_of(values)
    names = ["key", *CLASSES]
    frame = table.select(names).to_pandas()
    if how == "lacks":
        return frame[~frame["key"].isin(["item-000005", "item-000199"])]
    if how == "lacks many":
        return frame.iloc[:40]
    if how == "twice":
        return pd.concat([frame, frame.iloc[:1]])
    if how == "foreign":
        return frame.replace({"key": {"item-000005": "item-five"}})
    if how == "logits":
        return frame.assign(cat=frame["cat"] * 3)
    if how == "negative":
        return frame.assign(cat=frame["cat"] - 2, dog=frame["dog"] + 2)
    if how == "nan":
        return frame.assign(cat=np.nan)
    if how == "text":
        return frame.assign(cat="high")
    if how == "no key":
        return frame.rename(columns={"key": "name"})
    if how == "no classes":
        return frame[["key"]]
    return 3


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("lacks", "2 items that may be offered have none: 'item-000005', 'item-000199'"),
        ("lacks many", "158 items that may be offered have none: 'item-0000.*and 153 more"),
        ("twice", "keys with several rows: 'item-000199'"),
        ("foreign", ".*: 1 key is not in the pool: 'item-five'"),
        ("logits", "those of 'item-.*' add up to .*a softmax"),
        ("negative", "those of 'item-000199' add up to 1, or one is below 0"),
        ("nan", "the row of 'item-000199' has no number"),
        ("text", "the column 'cat' holds something else than numbers"),
        ("no key", "there is no column key"),
        ("no classes", "there is no column key, or none beside it"),
        ("a number", "int is no table"),
    ],
)
def test_what_is_wrong_with_them_is_named(how: str, message: str, pool: Pool, values: NDArray[np.float64]) -> None:
    with pytest.raises(ConfigError, match=f"probabilities: {message}"):
        picked(pool, 5, "margin", broken(values, how), partitions=3)


@pytest.mark.parametrize(("name", "message"), [("no.csv", "no such file"), ("a.json", "unknown extension '.json'")])
def test_a_file_that_cannot_be_read_is_named(name: str, message: str, pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_probabilities(pool, tmp_path / name)
    with pytest.raises(PoolError, match="holds no predictions"):
        read_probabilities(pool, tmp_path)


def test_predictions_of_a_head_will_do(pool: Pool, tmp_path: Path) -> None:
    head = replace(random_head(DIM, 3), encoder=pool.vector_space)
    raysal.predict(pool, out=tmp_path / "all", head=head, top="all")
    found = read_probabilities(pool, tmp_path / "all")
    assert found.classes == head.classes
    assert found.ids.tolist() == IDS.tolist()
    x = np.concatenate([chunk.vectors() for chunk in pool.chunks])
    np.testing.assert_allclose(found.values, reference.probabilities(x, head.weight, head.bias), atol=1e-5)
    raysal.predict(pool, out=tmp_path / "some", head=head)
    with pytest.raises(ConfigError, match="--top all"):
        read_probabilities(pool, tmp_path / "some")


@pytest.mark.parametrize("partitions", [1, 3])
def test_a_run_starts_from_them_and_goes_on_with_its_head(
    partitions: int, pool: Pool, values: NDArray[np.float64], tmp_path: Path
) -> None:
    """The first record says which probabilities chose the batch; later ones do not, as a head does."""
    fields: dict[str, Any] = {
        "start": "class_balanced:margin",
        "select": "margin",
        "oracle": "simulated",
        "rounds": {"k": 12, "holdout": 0.2},
        "probabilities": file_of(tmp_path / "given.parquet", table_of(values)),
        "fleet": {"backend": "local", "partitions": partitions},
    }
    with Session(tmp_path / "run", pool, **fields) as session:
        batch = session.query()
        assert len(batch) == 12
        assert all("predicted " in reason for reason in batch.table["reason"].to_pylist())
        assert set(batch.table["strategy"].to_pylist()) == {"class_balanced:margin"}
        assert session.record(0)["probabilities"] == read_probabilities(pool, table_of(values)).digest
        session.ask_oracle(batch)
        assert "probabilities" not in session.record(session.query().round)


def test_a_run_refuses_a_start_that_cannot_go_by_them(pool: Pool, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="probabilities: the strategy 'typiclust' cannot go by them"):
        Session(tmp_path / "run", pool, probabilities=tmp_path / "given.csv")


def test_a_control_arm_needs_none(pool: Pool, values: NDArray[np.float64], tmp_path: Path) -> None:
    """A whole run, begun and taken up again; the random arm beside it goes by nothing."""
    from raysal.config import parse_config
    from raysal.rounds.arms import validate
    from raysal.rounds.loop import resume, run

    fields = {
        "pool": pool.path,
        "start": "class_balanced:random",
        "oracle": "simulated",
        "rounds": {"count": 2, "k": 8, "control": True},
        "probabilities": file_of(tmp_path / "given.csv", table_of(values)),
        "fleet": {"backend": "local"},
    }
    config = parse_config(fields)
    validate(config)
    result = run(config, tmp_path / "run")
    assert (result.rounds, result.labels, result.finished) == (2, 16, True)
    assert resume(tmp_path / "run").labels == 16
    with Session.open(tmp_path / "run" / "control", read_only=True) as session:
        assert "probabilities" not in session.record(0)
    with pytest.raises(ConfigError, match="probabilities: the strategy 'typiclust' cannot go by them"):
        validate(parse_config({**fields, "start": "typiclust"}))
