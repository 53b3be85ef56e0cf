"""Which labelled items are anchors, by every strategy, and what AnchorAL makes of them by either metric."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import reference
from pools import make_pool, mixture
from programs import labelled_of, local, make_head, random_head, run_program, task_of
from tiers import deep

from raysal.config import choice
from raysal.context import LabelledVectors
from raysal.errors import ConfigError, PoolExhausted
from raysal.fleet import exclude
from raysal.models.likelihood import SOFTMAX
from raysal.narrowing import NARROWERS
from raysal.narrowing.anchoral import AnchorAL, ScoredBy
from raysal.narrowing.anchors import ANCHOR_RULES, AnchorRule, ClassAnchors, anchor_rows
from raysal.narrowing.base import narrow
from raysal.rng import derive
from raysal.strategies import SELECTORS
from raysal.types import Metric

N, DIM, KEY = 460, 9, 7
METRICS: tuple[Metric, ...] = get_args(Metric)
LAYOUTS = ((64, 1), (64, 2), (N, 5))
"""(rows of a chunk, partitions)"""

every_strategy = pytest.mark.parametrize("strategy", sorted(ANCHOR_RULES))
every_metric = pytest.mark.parametrize("metric", METRICS)
every_by = pytest.mark.parametrize("by", get_args(ScoredBy))


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return mixture(N, DIM, classes=3, seed=2)[0]


@pytest.fixture(scope="module")
def known(x) -> LabelledVectors:
    """Twenty common items, fourteen of a minority, two of a class that the head has never seen."""
    names = mixture(N, DIM, classes=3, seed=2)[1]
    common, minority, new = ([i for i, name in enumerate(names) if name == f"class-{c}"] for c in range(3))
    found = labelled_of(x, names, common[:20] + minority[:14] + new[:2])
    return replace(found, classes=["new" if name == "class-2" else name for name in found.classes])


@pytest.fixture(scope="module")
def pools(x, tmp_path_factory):
    root = tmp_path_factory.mktemp("anchors")
    return {
        (metric, rows): make_pool(root / f"{metric}-{rows}", x, chunk_rows=rows, metric=metric)
        for metric in METRICS
        for rows in (64, N)
    }


@pytest.fixture(scope="module")
def head():
    return random_head(DIM, classes=2)


def rows_of(
    known: LabelledVectors,
    strategy: AnchorRule,
    *,
    anchors: int = 5,
    head: Any = None,
    metric: Metric = "cosine",
    key: int = KEY,
    classes: Mapping[str, ClassAnchors] | None = None,
) -> np.ndarray:
    return anchor_rows(known, head, metric, key, anchors=anchors, strategy=strategy, classes=classes or {})


def of_class(known: LabelledVectors, rows: np.ndarray, name: str) -> np.ndarray:
    return rows[np.array(known.classes, dtype=object)[rows] == name]


def one_class(vectors: np.ndarray) -> LabelledVectors:
    return LabelledVectors(
        ids=np.arange(len(vectors)), vectors=vectors.astype(np.float32), classes=["only"] * len(vectors)
    )


def built(**fields: Any) -> AnchorAL:
    """As a config builds it."""
    narrower = choice({"name": "anchoral", **fields}).build("narrow", NARROWERS)
    assert isinstance(narrower, AnchorAL)
    return narrower


def candidates(fleet, narrower: AnchorAL, known: LabelledVectors, head=None, k: int = 1, key: int = KEY):
    """(ids in the rule's order, the rule)"""
    fleet.reset()
    available = sum(fleet.each(exclude, known.ids))
    task = task_of(fleet, known, head=head, k=k, available=available, key=key)
    narrowed = narrow(fleet, narrower, task)[1]
    assert narrowed.ids is not None
    return narrowed.ids, narrowed.rule


# -- which items --------------------------------------------------------------------------------------------


@every_strategy
@pytest.mark.parametrize("with_head", [False, True])
def test_every_class_gives_its_number_and_a_small_one_all(strategy, with_head, known, head):
    """The majority as well, and a class that the head has never seen."""
    rows = rows_of(known, strategy, anchors=5, head=head if with_head else None)
    assert np.array_equal(rows, np.unique(rows))
    counts = {name: len(of_class(known, rows, name)) for name in sorted(set(known.classes))}
    assert counts == {"class-0": 5, "class-1": 5, "new": 2}
    everything = rows_of(known, strategy, anchors=50, head=head)
    assert everything.tolist() == list(range(len(known)))


@every_strategy
def test_what_one_class_is_asked_changes_no_other(strategy, known, head):
    plain = rows_of(known, strategy, head=head)
    own = rows_of(known, strategy, head=head, classes={"class-1": ClassAnchors(anchors=2)})
    assert len(of_class(known, own, "class-1")) == 2
    for name in ("class-0", "new"):
        assert np.array_equal(of_class(known, plain, name), of_class(known, own, name))


@pytest.mark.parametrize("strategy", ["kmeans", "kmeans++", "random"])
def test_anchors_are_drawn_anew_by_the_key(strategy, known):
    assert np.array_equal(rows_of(known, strategy, key=1), rows_of(known, strategy, key=1))
    drawn = {tuple(rows_of(known, strategy, key=key)) for key in range(8)}
    assert len(drawn) > 1


def test_random_anchors_are_the_lowest_hashes(known):
    for name in ("class-0", "class-1"):
        ids = known.ids[np.array(known.classes, dtype=object) == name]
        wanted = reference.uniform_sample(derive(KEY, "anchors", name), ids, 5)
        assert known.ids[of_class(known, rows_of(known, "random"), name)].tolist() == sorted(wanted.tolist())


def test_entropy_takes_those_the_head_is_least_sure_of(known, head):
    p = reference.probabilities(known.vectors, head.weight, head.bias)
    values = reference.score("entropy", p)
    for name in ("class-0", "class-1"):
        ids = known.ids[np.array(known.classes, dtype=object) == name]
        wanted = reference.ranked(values[np.searchsorted(known.ids, ids)], ids, 5, None)
        assert known.ids[of_class(known, rows_of(known, "entropy", head=head), name)].tolist() == sorted(wanted)
    assert not np.array_equal(rows_of(known, "entropy", head=head), rows_of(known, "entropy")), "the head counts"
    flat = make_head(np.zeros((2, DIM)), np.zeros(2))
    mine = known.ids[np.array(known.classes, dtype=object) == "class-0"]
    wanted = reference.ranked(np.zeros(len(mine)), mine, 5, derive(derive(KEY, "anchors", "class-0"), "ties"))
    assert known.ids[of_class(known, rows_of(known, "entropy", head=flat), "class-0")].tolist() == sorted(wanted)


def test_entropy_without_a_head_spreads_over_the_class(known):
    assert np.array_equal(rows_of(known, "entropy"), rows_of(known, "kmeans++"))


def test_entropies_are_in_nats_and_certainty_has_none():
    p = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    np.testing.assert_allclose(SOFTMAX.entropy(p), [0, np.log(2), np.log(3)], atol=1e-12)


@every_metric
def test_kmeans_takes_the_item_nearest_to_each_centroid(metric):
    """Four far clumps in the directions of the axes, each with a middle and a ring about it."""
    ring = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]]) * 0.5
    clumps = []
    for axis in range(4):
        clump = np.zeros((5, 6))
        clump[:, axis] = 10
        clump[:, 4:] = ring
        clumps.append(clump)
    labelled = one_class(np.concatenate(clumps))
    for key in range(5):
        assert rows_of(labelled, "kmeans", anchors=4, metric=metric, key=key).tolist() == [0, 5, 10, 15]


@pytest.mark.parametrize("strategy", ["kmeans", "kmeans++"])
def test_the_metric_of_the_pool_says_what_is_spread(strategy):
    """Three directions at two lengths: by the angle lengths count for nothing, so each direction has its anchor."""
    directions = np.eye(3)
    labelled = one_class(np.concatenate([directions, directions * 2, directions * 200]))
    for key in range(6):
        rows = rows_of(labelled, strategy, anchors=3, metric="cosine", key=key)
        assert sorted((rows % 3).tolist()) == [0, 1, 2]
    lengths = {tuple(rows_of(labelled, strategy, anchors=4, metric="l2", key=key) // 6) for key in range(6)}
    assert lengths == {(0, 1, 1, 1)}, "by the distance the three far ones stand alone"


@every_strategy
@every_metric
def test_copies_and_zero_vectors_give_as_many_anchors_as_were_asked_for(strategy, metric):
    head = random_head(4, classes=2)
    for vectors in (np.zeros((9, 4)), np.ones((9, 4)), np.concatenate([np.zeros((8, 4)), np.eye(4)[:1]])):
        rows = rows_of(one_class(vectors), strategy, anchors=5, metric=metric, head=head)
        assert len(np.unique(rows)) == len(rows) == 5


@every_strategy
def test_without_labels_there_are_no_anchors(strategy):
    assert len(rows_of(one_class(np.empty((0, 3))), strategy)) == 0


# -- settings reach the batch -------------------------------------------------------------------------------


def batch(pools, known, head, **fields: Any) -> list[int]:
    narrower = built(neighbours=12, subpool=100, **fields)
    outcome = run_program(local(pools["cosine", 64], 3), SELECTORS["coreset"](), narrower, head=head, labelled=known)
    return outcome.picks.ids.tolist()


@every_strategy
def test_the_minority_settings_change_the_batch(strategy, pools, known, head):
    """Another number of anchors for the minority, by every strategy; and every strategy in place of another."""
    plain = batch(pools, known, head, anchors=3, strategy=strategy)
    assert batch(pools, known, head, anchors=3, strategy=strategy) == plain
    assert batch(pools, known, head, anchors=3, strategy=strategy, classes={"class-1": {"anchors": 9}}) != plain
    assert batch(pools, known, head, anchors=9, strategy=strategy) != plain


def test_each_strategy_of_the_minority_makes_another_batch(pools, known, head):
    batches = [
        batch(pools, known, head, anchors=3, strategy="random", classes={"class-1": {"strategy": strategy}})
        for strategy in sorted(ANCHOR_RULES)
    ]
    assert all(a != b for a, b in itertools.combinations(batches, 2))


@pytest.mark.parametrize(
    ("field", "value"),
    [("anchors", 0), ("neighbours", 0), ("subpool", 0), ("explore", -1), ("strategy", "farthest"), ("by", "mean")],
)
def test_impossible_settings_are_named(field, value):
    with pytest.raises(ConfigError) as caught:
        built(**{field: value})
    assert caught.value.where == f"narrow.{field}"


# -- what is found ------------------------------------------------------------------------------------------


def slow_subpool(x, ids, anchors, metric: Metric, by: ScoredBy, neighbours: int) -> dict[int, float]:
    """Item -> score, best first: everything formed in full."""
    table = np.stack(
        [reference.cosine(x[ids], a) if metric == "cosine" else -reference.sq_distance(x[ids], a) for a in anchors]
    )
    if by == "nearest":
        scores = dict(zip(ids.tolist(), table.max(0).tolist(), strict=True))
    else:
        lists = [set(reference.ranked(row, ids, neighbours, None).tolist()) for row in table]
        scores = {}
        for place, id in enumerate(ids.tolist()):
            finders = [a for a, found in enumerate(lists) if id in found]
            if finders:
                scores[id] = float(table[:, place].mean() if by == "all" else table[finders, place].mean())
    return dict(sorted(scores.items(), key=lambda entry: (-entry[1], entry[0])))


@every_by
@every_metric
def test_the_subpool_is_that_of_the_slow_rule_wherever_the_rows_lie(by, metric, pools, x, known):
    narrower = built(anchors=3, neighbours=25, subpool=40, by=by)
    anchors = known.vectors[rows_of(known, "kmeans++", anchors=3, metric=metric, key=KEY)]
    ids = np.setdiff1d(np.arange(N), known.ids)
    scores = slow_subpool(x, ids, anchors, metric, by, 25)
    layouts = [candidates(local(pools[metric, rows], parts), narrower, known) for rows, parts in LAYOUTS]
    found, rule = layouts[0]
    assert len(found) == 40 < len(scores)
    mine = [scores[id] for id in found.tolist()]
    np.testing.assert_allclose(mine, list(scores.values())[:40], rtol=1e-5, atol=1e-5)
    for other, other_rule in layouts[1:]:
        assert np.array_equal(other, found)
        assert other_rule == rule


@every_metric
def test_the_three_scores_make_three_subpools(metric, pools, known):
    found = [
        set(candidates(local(pools[metric, 64], 2), built(anchors=3, neighbours=25, subpool=40, by=by), known)[0])
        for by in get_args(ScoredBy)
    ]
    assert all(a != b for a, b in itertools.combinations(found, 2))


def test_nearest_counts_items_that_no_list_holds(pools, x, known):
    """`neighbours` bounds the lists of single anchors, not the items that are near to any."""
    few, many = (
        candidates(local(pools["l2", 64], 2), built(anchors=3, neighbours=n, subpool=90, by="nearest"), known)
        for n in (1, 60)
    )
    assert np.array_equal(few[0], many[0])
    assert len(few[0]) == 90
    assert "90 nearest to any of 8 anchors" in few[1]


@deep
@every_by
def test_the_batch_is_the_same_wherever_the_rows_lie(by, pools, known, head):
    narrower = built(anchors=3, neighbours=25, subpool=40, by=by, strategy="kmeans", explore=6)
    outcomes = [
        run_program(local(pools["l2", rows], parts), SELECTORS["badge"](), narrower, head=head, labelled=known)
        for rows, parts in LAYOUTS
    ]
    assert all(outcome.same_as(outcomes[0]) for outcome in outcomes)


@every_by
@every_metric
def test_zero_vectors_are_items_like_any_other(by, metric, tmp_path):
    x, names = mixture(60, 4, classes=2)
    x[::3] = 0
    known = labelled_of(x, names, [0, 1, 3, 4])
    fleet = local(make_pool(tmp_path / "pool", x, metric=metric), 2)
    ids, _ = candidates(fleet, built(neighbours=50, subpool=45, by=by), known)
    assert len(np.unique(ids)) == 45
    assert not np.isin(ids, known.ids).any()


@every_by
@every_strategy
def test_a_class_that_the_head_has_never_seen_has_its_anchors(by, strategy, pools, x, known, head):
    """It takes part in the search though the head can name only the other two classes."""
    narrower = built(anchors=3, neighbours=10, subpool=80, by=by, strategy=strategy)
    outcome = run_program(local(pools["cosine", 64], 2), SELECTORS["badge"](), narrower, head=head, labelled=known)
    assert outcome.candidates.ids is not None
    rows = rows_of(known, strategy, anchors=3, head=head)
    assert len(of_class(known, rows, "new")) == 2
    ids = np.setdiff1d(np.arange(N), known.ids)
    others = np.setdiff1d(rows, of_class(known, rows, "new"))
    whole, without = (list(slow_subpool(x, ids, known.vectors[some], "cosine", by, 10))[:80] for some in (rows, others))
    assert sorted(outcome.candidates.ids.tolist()) == sorted(whole) != sorted(without)


@every_by
@every_metric
@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_smallest_pools(by, metric, n, tmp_path):
    x, names = mixture(n, 3, classes=2)
    fleet = local(make_pool(tmp_path / "pool", x, metric=metric), 2)
    narrower = built(anchors=2, neighbours=50, subpool=1, by=by)
    for labels in range(n + 1):
        known = labelled_of(x, names, range(labels))
        options: dict[str, Any] = {"head": None, "labelled": known}
        if labels == n:
            with pytest.raises(PoolExhausted):
                run_program(fleet, SELECTORS["random"](), narrower, k=1, **options)
            continue
        picks = run_program(fleet, SELECTORS["random"](), narrower, k=n - labels, **options).picks
        assert sorted(picks.ids.tolist()) == list(range(labels, n))
