"""Parts of items: a batch of owners, or of parts with a quota, is that of a slow version, however the pool is cut."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from part_pools import make_part_pool, owners_by_size
from pools import make_pool, mixture
from programs import random_head, task_of
from tiers import deep, deep_unless

import raysal
from raysal.config import PartsConfig, choice
from raysal.context import LabelledVectors
from raysal.errors import ConfigError, LabelError, PoolError, PoolExhausted, UnknownName
from raysal.fleet import LocalFleet, plan_partitions
from raysal.pool import Pool
from raysal.pool.owners import OwnersOf
from raysal.rounds.budgets import FAR_ABOVE, SHARES, Budget, cost_of_candidates
from raysal.rounds.gathering import gather_vectors
from raysal.rounds.offered import RowsOffered
from raysal.scoring.aggregators.registry import AGGREGATORS
from raysal.strategies import SELECTORS

SIZES = [1, 4, 2, 7, 1, 3] * 30
OWNERS = owners_by_size(SIZES)
X, NAMES = mixture(len(OWNERS), 17, seed=3)
GONE = (0, 5, 6, 30)
"""Quarantined parts: the first of an owner, all and some of others."""
LABELS = {f"owner-{number:05d}": NAMES[OWNERS.index(f"owner-{number:05d}")] for number in range(6, 26)}
CHEAP = ("badge", "coreset", "kmeans_plus_plus", "margin", "random", "top_score")
EVERY = sorted(set(SELECTORS) - {"reveal"})
"""Every strategy but the one that asks an oracle while it picks."""
AGGREGATES = [None, "max", "mean", "sum", "top_mean:2", "quantile:0.75", "custom:statistics:median"]


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Pool]:
    root = tmp_path_factory.mktemp("parts")
    price = np.random.default_rng(0).uniform(0.5, 3, len(OWNERS)).tolist()
    return {
        rows: make_part_pool(root / str(rows), X, OWNERS, chunk_rows=rows, missing=GONE, carried={"price": price})
        for rows in (7, 100, 1000)
    }


def batch(
    pool: Pool, strategy: Any = "margin", *, labels: Any = LABELS, k: int | None = 8, **options: Any
) -> list[Any]:
    """Keys and scores."""
    table = raysal.select(pool, k=k, strategy=strategy, labels=labels, **options)
    return list(zip(table["key"].to_pylist(), table["score"].to_pylist(), strict=True))


def parts_of(owner: str) -> list[int]:
    return [row for row, name in enumerate(OWNERS) if name == owner and row not in GONE]


def mean_of(owner: str) -> np.ndarray:
    return X[parts_of(owner)].astype(np.float16).astype(np.float64).mean(0).astype(np.float32).astype(np.float16)


def living() -> list[str]:
    return [name for name in dict.fromkeys(OWNERS) if parts_of(name)]


# Law 1.


@pytest.mark.parametrize("features", ["mean", "weighted_mean", "best_part"])
@pytest.mark.parametrize("strategy", deep_unless(["badge", "margin"], sorted({*EVERY, "margin"})))
def test_a_batch_by_owner_depends_neither_on_partitions_nor_on_chunks(strategy, features, pools):
    parts = {"by": "owner", "aggregate_features": features, "aggregate_scores": "max"}
    target = {"target": "class-1"}
    expected = batch(pools[1000], strategy, parts=parts, **target)
    assert len({key for key, _ in expected}) == 8
    assert batch(pools[7], strategy, parts=parts, partitions=5, **target) == expected
    assert batch(pools[100], strategy, parts=parts, partitions=2, **target) == expected


@pytest.mark.parametrize("narrow", ["none", "anchoral", "seals", "uniform", "top_score", "filter"])
def test_every_narrower_works_on_owners(narrow, pools):
    parts = {"by": "owner", "aggregate_scores": "max"}
    expected = batch(pools[1000], parts=parts, narrow=narrow)
    assert batch(pools[7], parts=parts, narrow=narrow, partitions=3) == expected
    assert {key for key, _ in expected} <= set(OWNERS) - set(LABELS)


@deep
def test_on_ray_it_is_the_same(pools, ray_session):
    for parts in ({"by": "owner", "aggregate_features": "best_part", "aggregate_scores": "max"}, {"per_owner": 1}):
        labels = LABELS if "by" in parts else None
        expected = batch(pools[100], "badge", parts=parts, labels=labels)
        assert batch(pools[100], "badge", parts=parts, labels=labels, backend="ray", partitions=2) == expected


# Law 2.


@pytest.mark.parametrize("strategy", deep_unless(CHEAP, sorted({*CHEAP, *EVERY})))
def test_a_pool_whose_owners_have_one_part_each_is_chosen_from_as_one_without(strategy, tmp_path):
    few, names = mixture(150, 9, seed=1)
    single = make_part_pool(tmp_path / "parts", few, [f"item-{i:06d}" for i in range(150)], chunk_rows=64)
    plain = make_pool(tmp_path / "plain", few)
    labels = {f"item-{i:06d}": names[i] for i in range(0, 150, 10)}
    for parts in (
        {"by": "owner"},
        {"by": "owner", "aggregate_features": "best_part", "aggregate_scores": "mean"},
        {"by": "owner", "aggregate_features": "weighted_mean", "aggregate_scores": "quantile"},
    ):
        options = {"labels": labels, "target": "class-1"}
        assert batch(single, strategy, parts=parts, **options) == batch(plain, strategy, **options)


@pytest.mark.parametrize("strategy", deep_unless(CHEAP, sorted({*CHEAP, *EVERY})))
def test_by_means_it_is_the_strategy_on_an_array_of_means(strategy, pools, tmp_path):
    firsts = {owner: OWNERS.index(owner) for owner in living()}
    means = np.zeros_like(X, np.float16)
    for owner, row in firsts.items():
        means[row] = mean_of(owner)
    keys = [owner if firsts.get(owner) == row else f"none-{row}" for row, owner in enumerate(OWNERS)]
    others = sorted(set(range(len(X))) - set(firsts.values()))
    array = make_pool(tmp_path / "means", means, keys=keys, missing=others)
    options = {"target": "class-1"}
    assert batch(pools[100], strategy, parts={"by": "owner"}, **options) == batch(array, strategy, **options)


def test_classes_of_owners_are_not_aggregated(pools):
    """The predicted class is that of the mean vector, whatever becomes of scores."""
    found = [
        batch(pools[100], "class_balanced:random", parts={"by": "owner", "aggregate_scores": aggregate}, k=20)
        for aggregate in (None, "max", "sum")
    ]
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("least", [1.5, 2.9])
def test_a_filter_keeps_an_owner_if_one_of_its_parts_passes(least, pools):
    rows = pools[1000].rows_where("owner_key", living(), ["owner_key", "price"])
    passing = {
        owner
        for owner, price in zip(rows["owner_key"].to_pylist(), rows["price"].to_pylist(), strict=True)
        if price >= least
    } - set(LABELS)
    narrow = {"name": "filter", "where": {"price": {"min": least}}}
    found = batch(pools[100], "random", parts={"by": "owner"}, narrow=narrow, k=len(passing), partitions=2)
    assert {key for key, _ in found} == passing != set(living()) - set(LABELS)


@pytest.mark.parametrize("features", ["weighted_mean", "best_part"])
def test_labelled_owners_are_seen_as_the_others_are(features, pools):
    """A strategy that covers from the labelled items measures distances to what stands for them now."""
    offered = RowsOffered.of(PartsConfig(by="owner", aggregate_features=features))
    ids = np.array(sorted(OwnersOf(pools[100]).ids_of(list(LABELS)).values()))
    head = random_head(17, classes=3)
    with LocalFleet(plan_partitions(pools[100], 3)) as fleet:
        fleet.reset()
        offered.begin(fleet)
        plain = gather_vectors(fleet, 17, ids)
        known = LabelledVectors(ids=ids, vectors=plain, classes=["a"] * len(ids))
        context = task_of(fleet, known, head=head)
        now = offered.look(fleet, context, SELECTORS["coreset"]()).labelled.vectors
        assert np.array_equal(now, gather_vectors(fleet, 17, ids))
        assert not np.array_equal(now, plain)


def slow_aggregate(name: str | None, values: list[float]) -> float:
    ordered = sorted(values)
    if name == "max":
        return max(values)
    if name == "sum":
        return sum(values)
    if name == "top_mean:2":
        return float(np.mean(ordered[-2:]))
    if name == "quantile:0.75":
        return float(np.quantile(values, 0.75))
    if name == "custom:statistics:median":
        return float(np.median(values))
    return float(np.mean(values))


@pytest.mark.parametrize("aggregate", AGGREGATES[1:])
def test_scores_are_aggregated_over_the_parts_of_each_owner(aggregate, pools, tmp_path):
    parts = {"by": "owner", "labels_of": "part", "aggregate_scores": aggregate}
    labels = {f"part-{row:06d}": NAMES[row] for row in range(60, 100)}
    plain = make_pool(tmp_path / "plain", X, keys=[f"part-{row:06d}" for row in range(len(X))], missing=GONE)
    everything = len(OWNERS) - len(GONE) - len(labels)
    scores = dict(batch(plain, "margin", labels=labels, k=everything))
    by_owner = {
        owner: [scores[f"part-{row:06d}"] for row in parts_of(owner)]
        for owner in living()
        if all(f"part-{row:06d}" in scores for row in parts_of(owner))
    }
    found = batch(pools[100], "margin", labels=labels, parts=parts, k=20)
    wanted = {owner: slow_aggregate(aggregate, values) for owner, values in by_owner.items()}
    best = sorted(wanted.values(), reverse=True)
    assert [score for _, score in found] == sorted([score for _, score in found], reverse=True)
    for owner, score in found:
        if owner in wanted:
            assert score == pytest.approx(wanted[owner], rel=1e-5)
    assert found[0][1] >= best[0] - 1e-5


def test_every_aggregator_is_its_slow_version_and_leaves_single_parts_alone():
    rng = np.random.default_rng(1)
    counts = rng.integers(1, 9, 50)
    begins = np.concatenate([[0], np.cumsum(counts)])
    values = rng.integers(0, 5, begins[-1]) / 4  # with ties
    tried = set()
    for name in filter(None, AGGREGATES):
        aggregator = choice(name).build("aggregate_scores", AGGREGATORS)
        slow = [slow_aggregate(name, values[low:high].tolist()) for low, high in pairwise(begins)]
        assert np.allclose(aggregator(values, begins), slow, rtol=1e-12)
        assert np.array_equal(aggregator(values, np.arange(len(values) + 1)), values)
        assert len(aggregator(values[:0], np.zeros(1, np.int64))) == 0
        tried.add(name.partition(":")[0])
    assert tried == set(AGGREGATORS)


# Law 3: quota and budget.


@pytest.mark.parametrize("strategy", CHEAP)
@pytest.mark.parametrize("labelled", [False, True])
def test_no_owner_gives_more_parts_than_its_quota(strategy, labelled, pools):
    labels = {f"part-{row:06d}": NAMES[row] for row in range(60, 100)} if labelled else None
    expected = batch(pools[1000], strategy, labels=labels, k=60, parts={"per_owner": 2})
    counts = Counter(OWNERS[int(key[5:])] for key, _ in expected)
    assert len(expected) == 60
    assert max(counts.values()) == 2
    assert batch(pools[7], strategy, labels=labels, k=60, parts={"per_owner": 2}, partitions=4) == expected


def test_with_a_quota_the_best_parts_of_each_owner_are_picked_in_order(pools, tmp_path):
    labels = {f"part-{row:06d}": NAMES[row] for row in range(60, 100)}
    plain = make_pool(tmp_path / "plain", X, keys=[f"part-{row:06d}" for row in range(len(X))], missing=GONE)
    ranked = [key for key, _ in batch(plain, "entropy", labels=labels, k=len(X) - len(GONE) - len(labels))]
    counts: Counter[str] = Counter()
    wanted = []
    for key in ranked:
        owner = OWNERS[int(key[5:])]
        counts[owner] += 1
        wanted += [key] if counts[owner] <= 2 else []
    found = batch(pools[100], "entropy", labels=labels, k=40, parts={"per_owner": 2})
    assert [key for key, _ in found] == wanted[:40]


def test_a_quota_that_leaves_too_few_is_refused(pools):
    with pytest.raises(PoolExhausted, match=f"{len(living())}"):
        batch(pools[100], "random", labels=None, k=200, parts={"per_owner": 1})


@pytest.mark.parametrize("cost", [None, "price"])
@pytest.mark.parametrize("strategy", ["badge", "margin", "random", "typiclust"])
def test_a_budget_is_never_exceeded_and_a_larger_one_goes_on(strategy, cost, pools):
    parts = {"by": "owner"}
    before: list[str] = []
    for budget in (13, 30, 200):
        tables = [
            raysal.select(
                pools[rows], budget=budget, cost=cost, strategy=strategy, labels=LABELS, parts=parts, partitions=count
            )
            for rows, count in ((1000, 1), (7, 5))
        ]
        assert tables[0].equals(tables[1])
        costs, keys = tables[0]["cost"].to_pylist(), tables[0]["key"].to_pylist()
        assert 0 < sum(costs) <= budget
        if cost is None:
            assert costs == [len(parts_of(key)) for key in keys]
        if strategy != "typiclust":
            assert keys[: len(before)] == before
            following = raysal.select(pools[100], k=len(keys) + 1, strategy=strategy, labels=LABELS, parts=parts)
            last = following["key"].to_pylist()[-1]
            paid = len(parts_of(last)) if cost is None else sum_of_prices(pools[1000], last)
            assert sum(costs) + paid > budget
            before = keys


def sum_of_prices(pool: Pool, owner: str) -> float:
    rows = pool.rows_where("owner_key", [owner], ["price"])
    return float(sum(rows["price"].to_pylist()))


def test_what_candidates_cost_is_one_number_however_the_pool_is_cut(tmp_path):
    """Also where some cost more budgets than whole numbers of 64 bits count."""
    price = np.where(np.arange(40) % 10 == 3, 1e300, 1.0).tolist()
    pool = make_part_pool(tmp_path / "pool", X[:40], OWNERS[:40], chunk_rows=9, carried={"price": price})
    found = set()
    for count in (1, 2, 5):
        with LocalFleet(plan_partitions(pool, count)) as fleet:
            facts = fleet.each(cost_of_candidates, Budget(cost=1.0, column="price"))
        found.add(tuple(sum(column) for column in zip(*facts, strict=True)))
    assert found == {(40, SHARES * (36 + 4 * FAR_ABOVE))}


def test_a_budget_for_nothing_says_what_the_first_pick_costs(pools):
    with pytest.raises(ConfigError, match="cheapest item costs"):
        raysal.select(pools[100], budget=0.5, strategy="random", parts={"by": "owner"})
    for wrong in (0, -1, float("nan"), float("inf"), "five", True):
        with pytest.raises(ConfigError, match="use a number above 0"):
            raysal.select(pools[100], budget=wrong, strategy="random")
    with pytest.raises(ConfigError, match="neither is given"):
        raysal.select(pools[100], strategy="random")
    with pytest.raises(ConfigError, match="string"):
        raysal.select(pools[100], budget=5, cost="owner_key", strategy="random")


# Law 9.


def test_a_label_lands_on_its_owner_and_on_no_part(pools):
    pool = OwnersOf(pools[100])
    ids = pool.ids_of(list(LABELS))
    firsts = {name: OWNERS.index(name) for name in LABELS}
    assert ids == firsts  # also of the owner whose first part is quarantined
    assert pool.keys_of(np.array(sorted(ids.values()))) == {id: key for key, id in ids.items()}
    assert len(pool) == len(living())
    with pytest.raises(LabelError, match="the key of a part, not of an owner"):
        raysal.select(pools[100], k=3, labels={"part-000077": "a"}, parts={"by": "owner"})
    with pytest.raises(LabelError):
        raysal.select(pools[100], k=3, labels={"owner-00007": "a"})
    assert pool.fingerprint != pools[100].fingerprint


def test_what_has_a_label_is_not_offered_again(pools):
    everything = len(living()) - len(LABELS)
    picked = {key for key, _ in batch(pools[100], "margin", k=everything, parts={"by": "owner"})}
    assert picked == set(living()) - set(LABELS)
    with pytest.raises(PoolExhausted):
        batch(pools[100], "margin", k=everything + 1, parts={"by": "owner"})


def test_an_owner_is_offered_until_all_its_parts_have_labels(pools):
    four = parts_of("owner-00003")
    some = {f"part-{row:06d}": NAMES[row] for row in [*four[:-1], *range(60, 80)]}
    rest = {**some, f"part-{four[-1]:06d}": NAMES[four[-1]]}
    parts = {"by": "owner", "labels_of": "part", "aggregate_scores": "sum"}
    for labels, there in ((some, True), (rest, False)):
        gone = {owner for owner in living() if all(f"part-{row:06d}" in labels for row in parts_of(owner))}
        found = {key for key, _ in batch(pools[7], labels=labels, parts=parts, k=len(living()) - len(gone))}
        assert ("owner-00003" in found) == there
        assert found == set(living()) - gone


# Errors.


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ({"by": "owner", "per_owner": 2}, ConfigError),
        ({"aggregate_scores": "max"}, ConfigError),
        ({"by": "owner", "aggregate_scores": "maximum"}, UnknownName),
        ({"by": "owner", "score": "nothing"}, UnknownName),
        ({"by": "page"}, ConfigError),
        ({"of": "owner"}, ConfigError),
    ],
)
def test_fields_that_say_nothing_are_refused(parts, error, pools):
    with pytest.raises(error):
        raysal.select(pools[100], k=3, parts=parts)


def test_a_pool_without_parts_has_no_owners(tmp_path: Path):
    plain = make_pool(tmp_path / "plain", X[:20])
    for parts in ({"by": "owner"}, {"per_owner": 1}):
        with pytest.raises(PoolError, match="part of an owner"):
            raysal.select(plain, k=3, parts=parts)


# Runs.


def test_a_round_of_a_run_keeps_the_quota_and_picks_as_select_does(pools, tmp_path):
    pool = pools[100]
    fields = {"select": {"name": "entropy"}, "start": {"name": "random"}, "parts": {"per_owner": 1}}
    with raysal.Session(tmp_path / "run", pool=pool.path, **fields) as session:
        first = session.query(30)
        assert len({OWNERS[int(key[5:])] for key in first.keys}) == 30
        session.tell({key: NAMES[int(key[5:])] for key in first.keys})
        second = session.query(30)
        assert len({OWNERS[int(key[5:])] for key in second.keys}) == 30
        assert not set(first.keys) & set(second.keys)
        left = len(living())
        with pytest.raises(PoolExhausted):
            session.query(left + 1)
    with raysal.Session(tmp_path / "run") as again:
        assert again.config.parts.per_owner == 1


def test_what_is_known_by_keys_of_parts_is_refused_where_keys_are_of_owners(pools, tmp_path):
    pool = pools[100]
    with raysal.Session(tmp_path / "run", pool=pool.path, start={"name": "random"}) as session:
        session.tell({key: NAMES[int(key[5:])] for key in session.query(30).keys})
    with pytest.raises(ConfigError, match="are of items of its pool, not of owners"):
        batch(pool, labels=tmp_path / "run", parts={"by": "owner"})
    found = batch(pool, labels=tmp_path / "run", parts={"by": "owner", "labels_of": "part"})
    assert {key for key, _ in found} <= set(living())
    assert len(found) == 8
    table = {"key": [f"part-{row:06d}" for row in range(len(X))], "a": [0.5] * len(X), "b": [0.5] * len(X)}
    for labels_of in ("owner", "part"):  # in both cases rows are owners, and the probabilities are of parts
        with pytest.raises(ConfigError, match="are of items"):
            batch(pool, labels=None, probabilities=pa.table(table), parts={"by": "owner", "labels_of": labels_of})


def test_a_run_over_a_pool_without_parts_is_refused_before_anything_is_labelled(tmp_path):
    plain = make_pool(tmp_path / "plain", X[:20])
    for parts in ({"by": "owner"}, {"by": "owner", "labels_of": "part"}, {"per_owner": 1}):
        with pytest.raises(PoolError, match="part of an owner"):
            raysal.Session(tmp_path / "other", pool=plain.path, parts=parts)
