"""Dropping rows before another narrower sees them: exactly those, wherever they lie, and never again."""

from __future__ import annotations

import math
from datetime import date, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import reference
from pools import make_pool, mixture
from programs import Outcome, labelled_of, local, random_head, run_program, task_of
from tiers import deep_unless

import raysal
from raysal.cli import main
from raysal.config import choice
from raysal.context import LabelledVectors
from raysal.errors import ConfigError, PoolExhausted, UnknownName
from raysal.fleet import Fleet, exclude
from raysal.narrowing import NARROWERS
from raysal.narrowing.base import Narrower
from raysal.narrowing.duplicates import first_of_duplicates
from raysal.narrowing.filter import Filter
from raysal.narrowing.outliers import fit_gaussians
from raysal.narrowing.predicates import passing_values
from raysal.pool import Pool
from raysal.rounds.session import Session
from raysal.scoring.novelty.gaussian import shrunk_covariance
from raysal.sources import Memory as Items
from raysal.strategies import SELECTORS
from raysal.types import Metric

N, DIM = 400, 6
HEAD = random_head(DIM)
LAYOUTS = ((400, 1), (64, 2), (150, 5))
NO_LABELS = LabelledVectors(ids=np.empty(0, np.int64), vectors=np.empty((0, DIM), np.float32), classes=[])


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, list[str], LabelledVectors]:
    """A tenth of the rows are copies, among them of labelled ones; one is zero, and some are double another."""
    x, names = mixture(N, DIM, classes=3, seed=2)
    rng = np.random.default_rng(0)
    copies = rng.choice(np.arange(60, N), 40, replace=False)
    x[copies] = x[rng.integers(60, size=40)]
    x[copies[:9]] *= 2
    x[333] = 0
    return x, names, labelled_of(x, names, range(0, 60, 3))


@pytest.fixture(scope="module")
def pools(data, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, Metric], Pool]:
    root = tmp_path_factory.mktemp("filter")
    metrics: tuple[Metric, ...] = ("cosine", "l2")
    return {
        (rows, metric): make_pool(root / f"{rows}-{metric}", data[0], chunk_rows=rows, labels=data[1], metric=metric)
        for rows, _ in LAYOUTS
        for metric in metrics
    }


def built(**fields: Any) -> Filter:
    """As a config builds it."""
    rule = choice({"name": "filter", **fields}).build("narrow", NARROWERS)
    assert isinstance(rule, Filter)
    return rule


def outcome_of(fleet: Fleet, rule: Narrower, known: LabelledVectors, k: int = 8, **options: Any) -> Outcome:
    return run_program(fleet, SELECTORS["coreset"](), rule, head=HEAD, labelled=known, k=k, **options)


def left_of(fleet: Fleet) -> list[int]:
    """What may still be picked, narrowed away or not."""
    return np.concatenate(fleet.each(available_ids)).tolist()


def available_ids(partition):
    return partition.ids[partition.available]


def left_after(fleet: Fleet, rule: Narrower, known: LabelledVectors) -> list[int]:
    fleet.reset()
    left = sum(fleet.each(exclude, known.ids))
    rule.narrow(fleet, task_of(fleet, known, available=left))
    return left_of(fleet)


def offered(known: LabelledVectors) -> np.ndarray:
    return np.setdiff1d(np.arange(N), known.ids)


# -- wherever the rows lie -----------------------------------------------------------------------------------

EVERY_KIND: list[dict[str, Any]] = [
    {"where": {"label": ["class-0", "class-1"]}, "inner": {"name": "anchoral", "anchors": 2, "subpool": 50}},
    {"outliers": "knn", "outlier_share": 0.1, "inner": {"name": "seals", "neighbours": 5}},
    {"outliers": "mahalanobis", "outlier_share": 0.1, "inner": {"name": "top_score", "size": 50}},
    {"duplicates": 0.9, "inner": {"name": "uniform", "size": 150}},
    {"duplicates": 0.97},
    {"where": {"label": {"not": "class-2"}}, "outliers": "knn", "outlier_share": 0.2, "duplicates": 1, "inner": "none"},
]


@pytest.mark.parametrize("fields", EVERY_KIND, ids="-".join)
@pytest.mark.parametrize("metric", deep_unless(["cosine"], ["cosine", "l2"]))
def test_what_is_left_depends_neither_on_partitions_nor_on_chunks(fields, metric, pools, data):
    outcomes, left = [], []
    for rows, partitions in LAYOUTS:
        fleet = local(pools[rows, metric], partitions)
        outcomes.append(outcome_of(fleet, built(**fields), data[2]))
        left.append(left_of(fleet))
    assert all(outcome.same_as(outcomes[0]) for outcome in outcomes)
    assert left[1:] == left[:1] * 2
    assert 8 <= len(left[0]) < N - len(data[2])


@pytest.mark.parametrize("inner", ["none", "uniform", "anchoral", "seals", "top_score", "mixed"])
def test_the_inner_rule_never_knows_that_dropped_rows_were_there(inner, pools, data):
    """Dropping by a predicate is the same as a pool in which those rows are taken out."""
    _, names, known = data
    sizes = {"uniform": {"size": 40}, "anchoral": {"subpool": 40}, "top_score": {"size": 40}, "mixed": {"size": 40}}
    fields = {"name": inner, **sizes.get(inner, {})}
    pool, gone = pools[64, "cosine"], [i for i in range(N) if names[i] == "class-1"]
    mine = outcome_of(local(pool, 3), built(inner=fields, where={"label": {"not": "class-1"}}), known, k=50)
    bare = outcome_of(local(pool), choice(fields).build("narrow", NARROWERS), known, k=50, excluded=gone)
    assert np.array_equal(mine.picks.ids, bare.picks.ids)
    assert not np.isin(mine.picks.ids, gone).any()
    count = len(np.setdiff1d(gone, known.ids))
    bare_rule, _, topped = bare.candidates.rule.partition(", topped")
    assert mine.candidates.rule == f"{bare_rule}, dropped {count} by where{', topped' if topped else ''}{topped}"


def test_the_inner_rule_is_told_how_many_are_left(pools, data):
    _, names, known = data
    left = sum(names[i] == "class-0" for i in offered(known))
    for size, narrowed in ((left, False), (left - 1, True)):
        rule = built(inner={"name": "anchoral", "subpool": size}, where={"label": "class-0"})
        assert (outcome_of(local(pools[64, "cosine"], 2), rule, known).candidates.ids is not None) == narrowed


def test_nothing_is_dropped_unless_asked(pools, data):
    plain = outcome_of(local(pools[64, "cosine"]), NARROWERS["uniform"](size=30), data[2])
    mine = outcome_of(local(pools[64, "cosine"]), built(inner={"name": "uniform", "size": 30}), data[2])
    assert np.array_equal(plain.picks.ids, mine.picks.ids)
    assert mine.candidates.rule == plain.candidates.rule + ", dropped nothing"


def test_the_rule_counts_each_kind(pools, data):
    fields = {"where": {"label": {"not": "class-1"}}, "outliers": "knn", "outlier_share": 0.1, "duplicates": 0.999}
    fleet = local(pools[64, "cosine"], 2)
    rule = outcome_of(fleet, built(**fields), data[2]).candidates.rule
    numbers = [int(word) for word in rule.partition("dropped ")[2].split() if word.isdecimal()]
    assert "by where" in rule
    assert "outliers" in rule
    assert "near-duplicates of labelled" in rule
    assert "among the candidates" in rule
    assert len(numbers) == 4
    assert min(numbers) > 0
    assert len(left_of(fleet)) == N - len(data[2]) - sum(numbers)


def test_too_few_left_is_an_error_with_the_number_left(pools, data):
    _, names, known = data
    left = sum(names[i] == "class-1" for i in offered(known))
    rule = built(inner="anchoral", where={"label": "class-1"})
    outcome_of(local(pools[64, "cosine"], 3), rule, known, k=left)
    with pytest.raises(PoolExhausted) as caught:
        outcome_of(local(pools[64, "cosine"], 3), rule, known, k=left + 1)
    assert caught.value.available == left


def test_filters_may_be_nested(pools, data):
    _, names, known = data
    rule = built(inner={"name": "filter", "inner": "uniform", "where": {"label": {"not": "class-1"}}}, outliers="knn")
    left = left_after(local(pools[64, "cosine"], 2), rule, known)
    assert {names[i] for i in left} == {"class-0", "class-2"}
    assert built(inner="filter:anchoral").inner.part == built(inner="anchoral")


# -- predicates ----------------------------------------------------------------------------------------------

COLUMNS: dict[str, list[Any]] = {
    "year": [1999, 2020, None, 2021, 2024, -3, 2**60, 2**60 + 1, 2020, 7],
    "score": [0.5, None, math.nan, 0.25, -1.0, 7.0, 0.1, math.inf, 0.5, 2.0],
    "source": ["web", "scan", None, "", "Web", "scan", "é", "web", "zz", "a"],
    "good": [True, False, None, True, True, False, False, None, True, False],
    "day": [date(2024, 1, i + 1) if i != 4 else None for i in range(10)],
    "at": [datetime(2024, 1, 1, i) if i != 7 else None for i in range(10)],
    "nothing": [None] * 10,
}
TESTS: list[tuple[str, Any]] = [
    ("year", 2020),
    ("year", 2020.0),
    ("year", 2020.5),
    ("year", [2020, 2021, 7]),
    ("year", []),
    ("year", {"min": 2020}),
    ("year", {"min": 2020.5, "max": 2024.5}),
    ("year", {"max": 2020}),
    ("year", {"min": 2**60 + 1}),
    ("year", {"min": -math.inf, "max": 10**30}),
    ("year", {"not": {"min": 2020, "max": 2021}}),
    ("year", {"not": [1999, 7]}),
    ("year", {"not": {"not": 7}}),
    ("score", 0.5),
    ("score", {"min": 0, "max": 1}),
    ("score", {"not": 0.5}),
    ("score", {"min": 2}),
    ("source", "web"),
    ("source", ["scan", "é"]),
    ("source", {"not": "web"}),
    ("source", {"min": "a", "max": "web"}),
    ("good", True),
    ("good", {"not": True}),
    ("day", date(2024, 1, 3)),
    ("day", {"min": date(2024, 1, 3), "max": date(2024, 1, 6)}),
    ("at", {"max": datetime(2024, 1, 1, 4)}),
    ("nothing", "web"),
    ("nothing", {"not": 3}),
]


def slowly(value: Any, test: Any) -> bool:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return False
    if isinstance(test, dict) and "not" in test:
        return not slowly(value, test["not"])
    if isinstance(test, dict):
        return ("min" not in test or value >= test["min"]) and ("max" not in test or value <= test["max"])
    return value in test if isinstance(test, list) else value == test


@pytest.mark.parametrize(("column", "test"), TESTS, ids=str)
def test_a_predicate_is_what_python_says_of_each_value(column, test):
    built(where={column: test})
    values = pa.array(COLUMNS[column])
    chunked = pa.chunked_array([values[:3], values[3:]])
    expected = [slowly(value, test) for value in COLUMNS[column]]
    assert passing_values(chunked, test, "field").tolist() == expected
    if column == "source":
        assert passing_values(pa.chunked_array([values.dictionary_encode()]), test, "field").tolist() == expected
    assert passing_values(pa.chunked_array([values[:0]]), test, "field").tolist() == []


@pytest.mark.parametrize(
    ("kind", "value", "test", "ids"),
    [(pa.float32(), 0.1, 0.1, [True]), (pa.uint8(), 200, {"max": 300}, [True]), (pa.int8(), 5, {"min": 300}, [False])],
    ids=str,
)
def test_narrow_types_compare_with_any_number(kind, value, test, ids):
    assert passing_values(pa.chunked_array([pa.array([value], kind)]), test, "field").tolist() == ids


def test_a_date_may_be_written_as_text():
    days = pa.chunked_array([pa.array(COLUMNS["day"])])
    assert passing_values(days, {"min": "2024-01-09"}, "field").tolist() == [False] * 8 + [True] * 2


@pytest.fixture(scope="module")
def columned(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    path, count = tmp_path_factory.mktemp("columns") / "pool", 10
    vectors = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)
    items = Items(keys=[f"k{i}" for i in range(count)], vectors=vectors, carry=COLUMNS)
    return raysal.embed(items, out=path, chunk_rows=3)


@pytest.mark.parametrize("partitions", [1, 2, 5])
@pytest.mark.parametrize(("column", "test"), [t for t in TESTS if t[1] != []][::3], ids=str)
def test_predicates_are_read_beside_the_rows(column, test, partitions, columned):
    expected = [i for i in range(10) if slowly(COLUMNS[column][i], test)]
    nobody = LabelledVectors(ids=np.empty(0, np.int64), vectors=np.empty((0, 4), np.float32), classes=[])
    fleet = local(columned, partitions)
    fleet.reset()
    task = task_of(fleet, nobody, available=10, k=len(expected))
    for rule in (built(where={column: {"not": test}}), built(where={column: test})):  # what is held is of one `where`
        fleet.reset()
        try:
            rule.narrow(fleet, task)
        except PoolExhausted:
            assert rule.where[column] == {"not": test}
    assert left_of(fleet) == expected


@pytest.mark.parametrize(
    ("where", "column", "says"),
    [
        ({"colour": "red"}, "colour", "its columns: id, key, uri, owner, year, score"),
        ({"year": "2020"}, "year", "int64, and cannot be compared with '2020'"),
        ({"year": True}, "year", "cannot be compared with True"),
        ({"source": 3}, "source", 'use text, as "3"'),
        ({"source": {"min": 1}}, "source", "string"),
        ({"good": 1}, "good", "bool, and cannot be compared with 1"),
        ({"good": {"min": True}}, "good", "without an order"),
        ({"day": "someday"}, "day", "date32"),
        ({"day": 3}, "day", "a date or a time"),
    ],
)
def test_a_predicate_that_cannot_be_asked_is_named_by_its_column(where, column, says, columned):
    with pytest.raises(ConfigError) as caught:
        raysal.select(columned, k=1, strategy="random", narrow={"name": "filter", "where": where}, partitions=2)
    assert caught.value.where == f"narrow.where.{column}"
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "where", "says"),
    [
        ({"where": {"a": None}}, "narrow.where.a", "never pass"),
        ({"where": {"a": [1, None]}}, "narrow.where.a", "never pass"),
        ({"where": {"a": math.nan}}, "narrow.where.a", "no value"),
        ({"where": {"a": {}}}, "narrow.where.a", "no test"),
        ({"where": {"a": {"least": 3}}}, "narrow.where.a", "no test"),
        ({"where": {"a": {"not": 3, "min": 2}}}, "narrow.where.a", "no test"),
        ({"where": {"a": {"not": {"max": [1]}}}}, "narrow.where.a", "no value"),
        ({"where": {"a": {"min": 3, "max": 2}}}, "narrow.where.a", "above"),
        ({"where": {"a": {"min": "a", "max": 2}}}, "narrow.where.a", "two kinds"),
        ({"where": "a"}, "narrow.where", "is no table"),
        ({"outliers": "far"}, "narrow.outliers", "knn"),
        ({"outlier_share": 1}, "narrow.outlier_share", "less than 1"),
        ({"outlier_k": 0}, "narrow.outlier_k", "use 1 or more"),
        ({"duplicates": -1}, "narrow.duplicates", "use 0 or more"),
        ({"inner": {"name": "uniform", "sizes": 3}}, "narrow.inner.sizes", "no such field"),
        ({"inner": 3}, "narrow.inner", "3"),
    ],
)
def test_a_mistake_is_named_by_its_field(fields, where, says):
    with pytest.raises(ConfigError) as caught:
        built(**fields)
    assert caught.value.where.startswith(where)
    assert says in str(caught.value)


def test_an_unknown_inner_rule_is_named():
    with pytest.raises(UnknownName) as caught:
        built(inner="anchors")
    assert caught.value.where == "narrow.inner"


# -- outliers ------------------------------------------------------------------------------------------------


def unit(x: np.ndarray) -> np.ndarray:
    norms = np.sqrt((x.astype(np.float64) ** 2).sum(1, keepdims=True))
    return np.divide(x, norms, out=np.zeros(x.shape), where=norms > 0)


def far_by_neighbours(x: np.ndarray, known: LabelledVectors, k: int, metric: str) -> np.ndarray:
    """Minus the k-th largest similarity of each row."""
    out = []
    for row in x:
        if metric == "cosine":
            gaps = -reference.cosine(known.vectors, row)
        else:
            gaps = reference.sq_distance(known.vectors, row)
        out.append(sorted(gaps)[min(k, len(gaps)) - 1])
    return np.array(out)


def far_by_gaussians(x: np.ndarray, known: LabelledVectors, metric: str) -> np.ndarray:
    """By the inverse of the covariance, a class at a time."""
    y, known_y = (unit(x), unit(known.vectors)) if metric == "cosine" else (x, known.vectors.astype(np.float64))
    names = np.array(known.classes)
    means = {name: known_y[names == name].mean(0) for name in sorted(set(names))}
    rest = np.array([row - means[name] for row, name in zip(known_y, names, strict=True)])
    inverse = np.linalg.inv(shrunk_covariance(rest.T @ rest, len(names) - len(means)))
    return np.array([min((row - m) @ inverse @ (row - m) for m in means.values()) for row in y.astype(np.float64)])


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize(("outliers", "k"), [("knn", 1), ("knn", 5), ("knn", 100), ("mahalanobis", 5)])
@pytest.mark.parametrize("share", [0.003, 0.07, 0.5])
def test_the_farthest_from_what_is_labelled_go(metric, outliers, k, share, pools, data):
    x, _, known = data
    rule = built(outliers=outliers, outlier_k=k, outlier_share=share)
    left = left_after(local(pools[150, metric], 3), rule, known)
    ids = offered(known)
    far = far_by_neighbours(x[ids], known, k, metric) if outliers == "knn" else far_by_gaussians(x[ids], known, metric)
    threshold = sorted(far, reverse=True)[math.floor(Fraction(str(share)) * len(ids))]
    slack = 1e-5 * max(np.abs(far).max(), 1)
    assert set(ids[far <= threshold - slack].tolist()) <= set(left)
    assert not set(ids[far > threshold + slack].tolist()) & set(left)
    assert N - len(known) - len(left) <= math.floor(Fraction(str(share)) * len(ids))


def test_rows_that_tie_with_the_last_to_stay_stay(tmp_path):
    x = np.ones((20, 4), np.float32)
    x[12:] = [3, 1, 0, 2]  # eight rows equally far
    known = labelled_of(x, ["a"] * 20, [0, 1])
    pool = make_pool(tmp_path / "pool", x, chunk_rows=7)
    assert left_after(local(pool, 3), built(outliers="knn", outlier_share=0.3), known) == list(range(2, 20))
    assert left_after(local(pool, 3), built(outliers="knn", outlier_share=0.5), known) == list(range(2, 12))


@pytest.mark.parametrize("outliers", ["knn", "mahalanobis"])
def test_without_labels_nothing_is_an_outlier(outliers, pools):
    outcome = outcome_of(local(pools[64, "cosine"], 2), built(outliers=outliers, duplicates=0.999999), NO_LABELS)
    assert "dropped 0 outliers (no labels yet), 0 near-duplicates of labelled" in outcome.candidates.rule


def test_one_label_a_class_is_the_distance_to_the_nearest(pools, data):
    """No spread within classes is known then, in no direction."""
    known = data[2]
    one = LabelledVectors(ids=known.ids[:3], vectors=known.vectors[:3], classes=["a", "b", "c"])
    fleet = local(pools[64, "l2"], 2)
    by_mean = left_after(fleet, built(outliers="mahalanobis", outlier_share=0.1), one)
    assert by_mean == left_after(fleet, built(outliers="knn", outlier_k=1, outlier_share=0.1), one)


def test_there_is_a_distance_with_fewer_labels_than_dimensions(tmp_path):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 40)).astype(np.float16).astype(np.float32)
    x[:10, 20:] = 0  # the labels know nothing of half the dimensions
    x[50] *= 30
    known = labelled_of(x, ["a", "b"] * 30, range(10))
    for metric in ("cosine", "l2"):
        pool = make_pool(tmp_path / metric, x, metric=metric)  # type: ignore[arg-type]
        left = left_after(local(pool, 2), built(outliers="mahalanobis", outlier_share=0.02), known)
        assert len(left) == 49
        assert metric == "cosine" or 50 not in left


def test_the_covariance_is_shrunk_less_the_more_is_known():
    """And is one that a wide enough sample has: diag(1, 4, 9)."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20_000, 3)) * [1, 2, 3]
    few, many = shrunk_covariance(rows[:6].T @ rows[:6], 6), shrunk_covariance(rows.T @ rows, len(rows))
    np.testing.assert_allclose(many, np.diag([1.0, 4.0, 9.0]), atol=0.3)
    assert np.ptp(np.diag(few)) < np.ptp(np.diag(rows[:6].T @ rows[:6] / 6))
    for rank in (1, 2):  # always with an inverse
        assert np.linalg.eigvalsh(shrunk_covariance(rows[:rank].T @ rows[:rank], rank)).min() > 0
    for freedom in (0, 4):
        np.testing.assert_array_equal(shrunk_covariance(np.zeros((3, 3)), freedom), np.eye(3))
    np.testing.assert_array_equal(shrunk_covariance(rows[:3].T @ rows[:3], 0), np.eye(3))
    np.testing.assert_allclose(shrunk_covariance(np.array([[8.0]]), 1), [[8.0]])


def test_classes_share_one_covariance(data):
    known = data[2]
    gaussians = fit_gaussians(known, "l2")
    names = np.array(known.classes)
    white = (known.vectors - gaussians.centre) @ gaussians.whitener
    for row, name in enumerate(sorted(set(names))):
        np.testing.assert_allclose(white[names == name].mean(0), gaussians.means[row], atol=1e-4)


# -- near-duplicates -----------------------------------------------------------------------------------------


def alike(x: np.ndarray, y: np.ndarray, duplicates: float, metric: str) -> np.ndarray:
    """bool [n, m], by direct differences."""
    if metric == "l2":
        return np.array([reference.sq_distance(y, row) <= duplicates**2 for row in x]).reshape(len(x), len(y))
    return np.array([reference.cosine(y, row) >= duplicates - 1e-12 for row in x]).reshape(len(x), len(y))


def kept_one_by_one(x: np.ndarray, duplicates: float, metric: str) -> list[int]:
    near, kept = alike(x, x, duplicates, metric), list[int]()
    for i in range(len(x)):
        if not near[i, kept].any():
            kept.append(i)
    return kept


SETTINGS: list[tuple[Metric, float]] = [("cosine", 1.0), ("cosine", 0.97), ("cosine", 0.5), ("l2", 0), ("l2", 1.1)]


@pytest.mark.parametrize(("metric", "duplicates"), SETTINGS)
@pytest.mark.parametrize("inner", ["none", "top_score"])
def test_near_duplicates_go(metric, duplicates, inner, pools, data):
    """Of labelled items in the whole pool; of one another among candidates, the better staying."""
    x, _, known = data
    fleet = local(pools[64, metric], 3)
    ids = offered(known)
    apart = ids[~alike(x[ids], known.vectors, duplicates, metric).any(1)]
    assert len(apart) < N - len(known)
    fields = {"name": inner, **({"size": 60} if inner == "top_score" else {})}
    rule = built(inner=fields, duplicates=duplicates)
    fleet.reset()
    left = sum(fleet.each(exclude, known.ids))
    narrowed = rule.narrow(fleet, task_of(fleet, known, head=HEAD, available=left))[1]
    if inner == "none":
        order = apart
        mine = left_of(fleet)
        assert narrowed.ids is None
    else:
        gone = np.setdiff1d(ids, apart)
        order = outcome_of(local(pools[64, metric]), rule.inner.part, known, k=1, excluded=gone.tolist()).candidates.ids
        assert narrowed.ids is not None
        mine = narrowed.ids.tolist()
    rows = np.array(order, np.int64)
    assert mine == rows[kept_one_by_one(x[rows], duplicates, metric)].tolist()
    assert len(mine) < len(rows)


@pytest.mark.parametrize(("metric", "duplicates"), SETTINGS)
def test_many_are_compared_block_by_block(metric, duplicates):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1200, 2 if metric == "cosine" else 3)).astype(np.float16).astype(np.float32)
    x[rng.choice(1200, 300, replace=False)] = x[rng.integers(1200, size=300)]
    least = duplicates if metric == "cosine" else -(duplicates**2)
    assert np.flatnonzero(first_of_duplicates(x, least, metric)).tolist() == kept_one_by_one(x, duplicates, metric)


def test_a_batch_is_filled_with_what_repeats_nothing(tmp_path, data):
    """Nine distinct vectors, each many times: no more than nine can be picked, and all nine are."""
    rng = np.random.default_rng(0)
    distinct = rng.normal(size=(9, DIM)).astype(np.float16).astype(np.float32)
    x = distinct[rng.integers(9, size=300)]
    pool = make_pool(tmp_path / "pool", x, chunk_rows=64)
    rule = built(inner={"name": "uniform", "size": 5}, duplicates=1)
    picks = outcome_of(local(pool, 3), rule, NO_LABELS, k=9).picks.ids
    assert len(np.unique(x[picks], axis=0)) == 9
    assert np.array_equal(picks, outcome_of(local(pool), rule, NO_LABELS, k=9).picks.ids)
    for inner in ("uniform", "none"):
        with pytest.raises(PoolExhausted) as caught:
            outcome_of(local(pool, 3), built(inner=inner, duplicates=1), NO_LABELS, k=10)
        assert caught.value.available == 9


def test_a_zero_vector_is_like_nothing_under_the_cosine(tmp_path):
    x = np.zeros((6, 4), np.float32)
    x[:2] = 1
    known = labelled_of(x, ["a"] * 6, [0])
    for metric, left in (("cosine", [2, 3, 4, 5]), ("l2", [2])):
        pool = make_pool(tmp_path / metric, x, metric=metric)  # type: ignore[arg-type]
        assert left_after(local(pool, 2), built(duplicates=0.5 if metric == "cosine" else 0), known) == left


@pytest.mark.parametrize("duplicates", [0, 1.5])
def test_a_threshold_that_is_no_cosine_is_refused(duplicates, pools, data):
    with pytest.raises(ConfigError) as caught:
        outcome_of(local(pools[64, "cosine"]), built(duplicates=duplicates), data[2])
    assert caught.value.where == "narrow.duplicates"


def test_more_candidates_than_can_be_compared_are_left_and_the_rule_says_so(pools, data, monkeypatch):
    monkeypatch.setattr("raysal.narrowing.filter.MOST_COMPARED", 100)
    outcome = outcome_of(local(pools[64, "cosine"], 2), built(duplicates=1), NO_LABELS)
    assert f"none among {N} candidates (more than 100 are not compared)" in outcome.candidates.rule


# -- where people name it ------------------------------------------------------------------------------------


def test_from_python_and_over_rounds(pools, data, tmp_path: Path):
    _, names, known = data
    labels = {f"item-{id:06d}": name for id, name in zip(known.ids, known.classes, strict=True)}
    fields: dict[str, Any] = {
        "name": "filter",
        "inner": {"name": "anchoral", "anchors": 3, "subpool": 60},
        "where": {"label": {"not": "class-1"}},
        "outliers": "mahalanobis",
        "outlier_share": 0.05,
        "duplicates": 0.999,
    }
    table = raysal.select(pools[64, "cosine"], k=7, labels=labels, narrow=fields)
    assert table.equals(raysal.select(pools[150, "cosine"], k=7, labels=labels, narrow=fields, partitions=3))
    assert "class-1" not in {names[id] for id in table["id"].to_pylist()}
    with Session(tmp_path / "run", pools[64, "cosine"], narrow=fields) as session:
        session.tell(labels)
        first = session.query(5)
        session.tell(dict.fromkeys(first.keys, "class-0"))
    with Session(tmp_path / "run") as session:
        second = session.query(5)
        assert "by where" in session.record(1)["narrow"]
        assert "near-duplicates of labelled" in session.record(1)["narrow"]
    ids = [*first.ids, *second.ids]
    assert len(set(ids)) == 10
    assert "class-1" not in {names[id] for id in ids}


def test_from_the_command_line(pools, data, capsys):
    words = ["select", pools[64, "cosine"].path, "-k", 5, "--json", "--narrow", "filter:anchoral", "--narrow-option"]
    assert main([*map(str, words), 'where={"label":"class-2"}']) == 0
    assert {data[1][row["id"]] for row in raysal_json(capsys.readouterr().out)["rows"]} == {"class-2"}
    assert main([*map(str, words), 'where={"colour":"red"}']) == 2
    assert "narrow.where.colour" in capsys.readouterr().err


def raysal_json(text: str) -> dict[str, Any]:
    import json

    found = json.loads(text)
    assert isinstance(found, dict)
    return found
