"""The step `filter`: what plain loops over all rows drop, and for the reason that they give."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from cli_tools import cli, refused
from curation_steps import Draw
from numpy.typing import NDArray
from pools import mixture
from tiers import deep

import raysal
from raysal.curation.curated import Curated
from raysal.errors import ConfigError, PoolError, RaysalWarning, UnknownName
from raysal.pool import Pool, open_pool
from raysal.sources.memory import Memory
from raysal.types import Metric

N = 120
Said = dict[str, tuple[str, float | None]]


def carried(n: int = N) -> dict[str, list[Any]]:
    rng = np.random.default_rng(1)
    sharp = np.round(rng.uniform(0, 20, n), 1).tolist()
    return {
        "sharp": [None if i % 17 == 3 else math.nan if i % 17 == 4 else sharp[i] for i in range(n)],
        "size": rng.integers(0, 6, n).tolist(),
        "split": [("train", "test", None)[i % 3] for i in range(n)],
        "none": [None] * n,
    }


def vectors(n: int = N) -> NDArray[np.float32]:
    return mixture(n, 12, 3)[0]


def make(place: Path, *, chunk_rows: int = 50, metric: Metric = "cosine", x: Any = None, **columns: Any) -> Pool:
    x = vectors() if x is None else x
    columns = columns or carried(len(x))
    source = Memory(vectors=x, keys=[f"k{i:03d}" for i in range(len(x))], carry=columns)
    return raysal.embed(source, out=place, chunk_rows=chunk_rows, metric=metric)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """That of `make`, as several tests filter it in ways of their own."""
    return make(tmp_path_factory.mktemp("filter") / "pool")


def said(found: Curated) -> Said:
    rows = found.table("dropped").to_pylist()
    assert all(row["step"] == "filter" and row["nearest_kept"] is None for row in rows)
    return {row["key"]: (row["reason"], row["value"]) for row in rows}


def number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not math.isnan(value) else None


# A slow, obvious reference.


def failing(columns: Mapping[str, Sequence[Any]], where: Mapping[str, Any], row: int, keep_missing: bool) -> Any:
    for column, test in where.items():
        value = columns[column][row]
        if value is None or value != value:
            if not keep_missing:
                return f"{column} is missing", None
            continue
        if isinstance(test, dict) and "not" in test:
            if value == test["not"]:
                return f"{column} is {test['not']}", number(value)
        elif isinstance(test, dict):
            if "min" in test and value < test["min"]:
                return f"{column} is below {test['min']}", number(value)
            if "max" in test and value > test["max"]:
                return f"{column} is above {test['max']}", number(value)
        elif value not in (test if isinstance(test, list) else [test]):
            wanted = " or ".join(map(str, test if isinstance(test, list) else [test]))
            return f"{column} is not {wanted}", number(value)
    return None


def unlike(values: Mapping[str, float], share: float) -> list[str]:
    """The keys of the highest share, of which those that tie with the first to stay, stay."""
    ordered = sorted(values.values(), reverse=True)
    first = ordered[int(share * len(ordered) + 1e-9)] if ordered else 0
    return [key for key, value in values.items() if value > first]


WHERE: list[dict[str, Any]] = [
    {"sharp": {"min": 5}},
    {"sharp": {"min": 5, "max": 15.5}, "size": [1, 2, 3, 5]},
    {"split": {"not": "test"}, "size": {"max": 4}},
    {"split": "train"},
]


@pytest.mark.parametrize("keep_missing", [False, True])
@pytest.mark.parametrize("where", WHERE)
def test_where_drops_what_a_loop_drops(pool: Pool, where: dict[str, Any], keep_missing: bool) -> None:
    columns = carried()
    found = raysal.filter(pool, where=where, keep_missing=keep_missing)
    wanted = {f"k{row:03d}": failing(columns, where, row, keep_missing) for row in range(N)}
    assert said(found) == {key: why for key, why in wanted.items() if why is not None}
    assert 0 < found.dropped < N


@pytest.mark.parametrize("share", [0.001, 0.05, 0.29, 0.999])
def test_the_lowest_and_highest_share_of_what_has_a_value_is_dropped(pool: Pool, share: float) -> None:
    columns = carried()
    found = raysal.filter(pool, where={"size": {"min": 1}}, lowest={"sharp": share}, highest={"size": share})
    left = [row for row in range(N) if columns["size"][row] >= 1]
    sharp = {f"k{row:03d}": -columns["sharp"][row] for row in left if number(columns["sharp"][row]) is not None}
    size = {f"k{row:03d}": columns["size"][row] for row in left}
    percent = f"{share * 100:.6g} %"
    wanted: Said = {key: (f"size is among the highest {percent}", size[key]) for key in unlike(size, share)}
    wanted |= {key: (f"sharp is among the lowest {percent}", -sharp[key]) for key in unlike(sharp, share)}
    wanted |= {f"k{row:03d}": ("size is below 1", 0) for row in range(N) if row not in left}
    assert said(found) == wanted


def distances(x: NDArray[np.float64], reference: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    every = np.sqrt(((x[:, None] - reference[None]) ** 2).sum(2))
    return np.sort(every, axis=1)[:, min(k, len(reference)) - 1]


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_outliers_are_the_farthest_from_the_reference(tmp_path: Path, metric: Metric) -> None:
    x = vectors() * (100_000 if metric == "l2" else 1)
    pool, columns = make(tmp_path / "pool", metric=metric, x=x), carried()
    assert (pool.scale < 1) == (metric == "l2")  # it stores a fraction of what is given
    found = raysal.filter(pool, outliers="knn", like={"split": "train"}, outlier_share=0.1, outlier_k=3)
    wide = x.astype(np.float64)
    wide = wide / np.linalg.norm(wide, axis=1, keepdims=True) if metric == "cosine" else wide
    is_like = np.array([split == "train" for split in columns["split"]])
    far = distances(wide, wide[is_like], 3)
    wanted = unlike({f"k{row:03d}": far[row] for row in np.flatnonzero(~is_like)}, 0.1)
    assert set(said(found)) == set(wanted)
    assert len(wanted) == 8
    for key, (reason, value) in said(found).items():
        assert reason == "among the 10 % farthest from the reference, by knn"
        assert value == pytest.approx(far[int(key[1:])], rel=1e-3)


def test_mahalanobis_finds_what_lies_beside_the_reference(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 8)) * [20, 1, 1, 1, 1, 1, 1, 1]
    x[150:160, 7] += 12  # near by the distance, far for a direction that varies little
    split = ["train" if row < 100 else "new" for row in range(200)]
    pool = make(tmp_path / "pool", metric="l2", x=x.astype(np.float32), split=split)
    found = raysal.filter(pool, outliers="mahalanobis", like={"split": "train"}, outlier_share=0.1)
    assert set(said(found)) == {f"k{row:03d}" for row in range(150, 160)}


def test_novelty_is_fitted_on_what_is_left(pool: Pool) -> None:
    columns = carried()
    wide = vectors().astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    found = raysal.filter(pool, where={"split": ["train", "test"]}, novelty={"name": "knn", "k": 2}, novelty_share=0.05)
    left = np.flatnonzero([split is not None for split in columns["split"]])
    far = distances(wide[left], wide[left], 3)  # the nearest is the item itself
    wanted = unlike({f"k{row:03d}": value for row, value in zip(left, far, strict=True)}, 0.05)
    novel = {key for key, (reason, _) in said(found).items() if reason == "among the 5 % most novel, by knn"}
    assert novel == set(wanted)
    assert found.steps[0].result.facts["notes"] == [
        f"novelty: distance to the last of the 2 nearest among all {len(left)}"
    ]


ALL: dict[str, Any] = {
    "where": {"size": {"min": 1}},
    "lowest": {"sharp": 0.1},
    "outliers": "knn",
    "like": {"split": "train"},
    "outlier_share": 0.1,
    "outlier_sample": 20,
    "novelty": "isolation_forest",
    "novelty_share": 0.1,
}


@pytest.mark.parametrize(("chunk_rows", "partitions"), [(33, 2), (64, 5), (120, 3)])
def test_nothing_depends_on_chunks_and_partitions(tmp_path: Path, chunk_rows: int, partitions: int) -> None:
    one = said(raysal.filter(make(tmp_path / "one", chunk_rows=1000), **ALL))
    other = raysal.filter(make(tmp_path / "other", chunk_rows=chunk_rows), partitions=partitions, **ALL)
    assert said(other) == one
    assert len({reason for reason, _ in one.values()}) == 4


@deep
def test_ray_finds_the_same(tmp_path: Path, ray_session: None) -> None:
    here = said(raysal.filter(make(tmp_path / "here"), **ALL))
    there = raysal.filter(make(tmp_path / "there"), backend="ray", partitions=2, **ALL)
    assert said(there) == here


def test_another_seed_draws_another_sample(pool: Pool) -> None:
    found = [said(raysal.filter(pool, seed=seed, **ALL)) for seed in (0, 1, 0)]
    assert found[0] == found[2] != found[1]


def test_only_what_is_left_is_looked_at(pool: Pool) -> None:
    step = {"name": "filter", "where": {"size": {"min": 1}}, "highest": {"size": 0.5}, "novelty": "knn"}
    found = raysal.api.curate.curate(pool, [Draw(), step])
    first, last = found.steps
    assert not np.isin(last.result.ids, first.result.ids).any()
    assert last.left == N - first.dropped


# Degenerate pools.


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("x", [np.ones((30, 4)), np.zeros((30, 4)), np.ones((1, 4))], ids=["equal", "zero", "one"])
def test_of_what_is_equal_nothing_is_an_outlier(tmp_path: Path, x: NDArray[np.float64], metric: Metric) -> None:
    pool = make(tmp_path / "pool", metric=metric, x=x.astype(np.float32), same=[1.5] * len(x), n=range(len(x)))
    asked: dict[str, Any] = {"lowest": {"same": 0.5}, "highest": {"same": 0.5}, "like": {"n": 0}}
    for outliers, novelty in (("knn", "knn"), ("mahalanobis", "mahalanobis"), ("knn", "local_density")):
        found = raysal.filter(pool, outliers=outliers, novelty=novelty, novelty_share=0.3, **asked)  # type: ignore[arg-type]
        assert found.dropped == 0


def test_nothing_is_left_by_a_column_without_values(pool: Pool) -> None:
    with pytest.warns(RaysalWarning, match="no item is left"):
        found = raysal.filter(pool, where={"none": {"min": 1}}, lowest={"sharp": 0.5}, novelty="knn")
    assert found.steps[0].reasons == {"none is missing": N}
    assert raysal.filter(pool, where={"none": {"min": 1}}, keep_missing=True).dropped == 0
    assert raysal.filter(pool, lowest={"none": 0.5}).dropped == 0


# Bad input.


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "there is nothing to filter by"),
        ({"lowest": {"sharp": 0.1}, "novelty_share": 0.1}, r"filter\.novelty_share: nothing is dropped by novelty"),
        ({"lowest": {"sharp": 0.1}, "outlier_share": 0.1}, r"filter\.outlier_share: nothing is dropped by outliers"),
        ({"where": {"blur": {"min": 1}}}, "filter.where.blur: the pool has no such column"),
        ({"where": {"sharpness": {"min": 1}}}, "with --measure sharpness"),
        ({"lowest": {"blur": 0.1}}, "filter.lowest.blur"),
        ({"lowest": {"split": 0.1}}, "no share of it is lowest"),
        ({"where": {"split": {"min": 1}}}, "filter.where.split: the column is string"),
        ({"where": {"size": {"min": 3, "max": 1}}}, "is above max"),
        ({"where": {"size": None}}, "null is no value"),
        ({"lowest": {"size": 1.0}}, "lowest"),
        ({"highest": {"size": 0}}, "highest"),
        ({"novelty": "knn", "novelty_share": 1}, "novelty_share"),
        ({"outliers": "knn"}, "none is named"),
        ({"like": {"split": "train"}}, "nothing goes by it"),
        ({"outliers": "knn", "like": {"split": "nowhere"}}, "no item that is left passes it"),
        ({"outliers": "far", "like": {"split": "train"}}, "outliers"),
        ({"outliers": "knn", "like": {"split": "train"}, "outlier_k": 0}, "outlier_k"),
        ({"where": {"size": 1}, "keep_missing": "maybe"}, "keep_missing"),
    ],
)
def test_what_cannot_be_is_refused(pool: Pool, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        raysal.filter(pool, **asked)


def test_names_that_there_are_not_are_refused(tmp_path: Path, pool: Pool) -> None:
    with pytest.raises(UnknownName, match="isolation_forest"):
        raysal.filter(pool, novelty="knnn")
    with pytest.raises(PoolError):
        raysal.filter(tmp_path / "nowhere", novelty="knn")


# The command.


def test_the_command_does_what_the_function_does(tmp_path: Path, pool: Pool) -> None:
    words = ["--where", 'size={"min": 1}', "--lowest", "sharp=0.1", "--outliers", "knn", "--like", "split=train"]
    words += ["--outlier-share", 0.1, "--outlier-sample", 20, "--novelty", "isolation_forest", "--novelty-share", 0.1]
    done = cli("filter", pool.path, *words, "-o", tmp_path / "dropped.parquet", "--rows", "dropped", "--json")
    assert done.code == 0, done.err
    assert pq.read_table(tmp_path / "dropped.parquet").equals(raysal.filter(pool, **ALL).table("dropped"))
    kept = cli("filter", pool.path, *words, "-o", tmp_path / "kept.csv")
    assert kept.code == 0
    assert "dropped by filter" in kept.out
    assert cli("pool", "remove", pool.path, "--keys", tmp_path / "dropped.parquet").code == 0
    assert len(open_pool(pool.path)) == done.json["kept_items"]


@pytest.mark.parametrize(
    ("words", "said_of_it"),
    [
        ((), "nothing to filter by"),
        (("--where", "size"), "is not COLUMN=TEST"),
        (("--lowest", "size"), "is not COLUMN=SHARE"),
        (("--lowest", "size=few"), "is no share"),
        (("--lowest", "size=0.1", "--lowest", "size=0.2"), "is given twice"),
        (("--like", "size=1", "--like", "size=2"), "--like"),
        (("--highest", "size=2"), "highest"),
    ],
)
def test_the_command_refuses_what_it_cannot_read(
    tmp_path: Path, pool: Pool, words: tuple[str, ...], said_of_it: str
) -> None:
    refused(cli("filter", pool.path, *words, "-o", tmp_path / "out.csv"), said_of_it)
    assert not (tmp_path / "out.csv").exists()


def test_a_column_of_texts_has_no_lowest_though_its_first_chunk_has_none(tmp_path: Path) -> None:
    pool = make(tmp_path / "pool", chunk_rows=40, text=[None] * 40 + ["a"] * 80, number=[None] * 40 + [*range(80)])
    with pytest.raises(ConfigError, match=r"filter\.lowest\.text: the column is string"):
        raysal.filter(pool, lowest={"text": 0.1})
    assert sorted(said(raysal.filter(pool, lowest={"number": 0.1}))) == [f"k{i:03d}" for i in range(40, 48)]
