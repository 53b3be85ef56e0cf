"""Neighbours by the cosine and by the distance: equal to slow versions, to the last bit whatever the layout."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import reference
from pools import make_pool, mixture
from programs import local, random_head, same

from raysal.fleet import exclude
from raysal.scoring.similarity import mean_similarities, unit_rows
from raysal.scoring.sweep import Neighbours, Search, SweepRequest, sweep
from raysal.types import Metric

N, DIM = 430, 19
OUT = np.arange(3, N, 7)
OPEN = np.setdiff1d(np.arange(N), OUT)
METRICS: tuple[Metric, ...] = get_args(Metric)
LAYOUTS = ((N, 1), (64, 1), (64, 2), (N, 5), (29, 3))
"""(rows of a chunk, partitions)"""

every_metric = pytest.mark.parametrize("metric", METRICS)


def searched(fleet, *searches: Search, head=None) -> tuple[Neighbours, ...]:
    return sweep(fleet, head, SweepRequest(searches=searches)).searches


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    x = mixture(N, DIM, seed=1)[0]
    x[40:60] = x[0]  # ties
    x[70:72] = 0
    return x


@pytest.fixture(scope="module")
def pools(x, tmp_path_factory):
    root = tmp_path_factory.mktemp("similarity")
    return {
        (metric, rows): make_pool(root / f"{metric}-{rows}", x, chunk_rows=rows, metric=metric)
        for metric in METRICS
        for rows in {rows for rows, _ in LAYOUTS}
    }


def open_fleet(pools, metric: Metric, rows: int, partitions: int):
    fleet = local(pools[metric, rows], partitions)
    fleet.each(exclude, OUT)
    return fleet


@every_metric
def test_neighbours_are_those_of_a_full_sort(metric, pools, x):
    anchors = x[[0, 5, 9, 70]] + np.float32([[0], [0], [0.5], [0]])
    found = searched(open_fleet(pools, metric, 64, 3), Search(anchors=anchors, each=25, nearest=60))[0]
    values = np.stack([reference.similarity(x[OPEN], anchor, metric) for anchor in anchors])
    scale = 1e-6 * max(1, np.abs(values).max())
    lists = [*zip(values, found.of_each, [25] * 4, strict=True), (values.max(0), found.nearest, 60)]
    for expected, (ids, kept), count in lists:
        assert len(np.unique(ids)) == len(ids) == count
        np.testing.assert_allclose(kept, np.sort(expected)[::-1][:count], atol=scale)
        np.testing.assert_allclose(kept, expected[np.searchsorted(OPEN, ids)], atol=scale)
        assert np.array_equal(np.lexsort((ids, -kept)), np.arange(count)), "best first, ties to the lower id"


def test_the_two_metrics_find_different_items(pools, x):
    """By the angle a long vector in the same direction is nearest; by the distance it is far."""
    found = {
        metric: searched(open_fleet(pools, metric, 64, 2), Search(anchors=x[:1] / 2, each=30))[0].of_each[0][0]
        for metric in METRICS
    }
    assert set(found["cosine"].tolist()) != set(found["l2"].tolist())


@every_metric
def test_no_layout_changes_a_bit(metric, pools, x):
    head = random_head(DIM)
    searches = (
        Search(anchors=x[:7], each=30),
        Search(anchors=x[7:9], nearest=80),
        Search(anchors=x[9:14], each=3, nearest=9),
    )
    expected = searched(open_fleet(pools, metric, *LAYOUTS[0]), *searches, head=head)
    assert [len(found.nearest[0]) for found in expected] == [0, 80, 9]
    for rows, partitions in LAYOUTS[1:]:
        found = searched(open_fleet(pools, metric, rows, partitions), *searches, head=head)
        for mine, theirs in zip(found, expected, strict=True):
            assert same(mine.nearest, theirs.nearest)
            assert all(map(same, mine.of_each, theirs.of_each))


@every_metric
def test_searches_that_share_a_sweep_find_what_each_finds_alone(metric, pools, x):
    fleet = open_fleet(pools, metric, 64, 2)
    nothing = Search(anchors=x[:0], each=4, nearest=4)
    searches = (Search(anchors=x[:3], each=10), nothing, Search(anchors=x[3:8], each=6, nearest=20))
    together = searched(fleet, *searches, head=random_head(DIM))
    for search, found in zip(searches, together, strict=True):
        alone = searched(fleet, search)[0]
        assert [ids.tolist() for ids, _ in alone.of_each] == [ids.tolist() for ids, _ in found.of_each]
        assert alone.nearest[0].tolist() == found.nearest[0].tolist()
    assert together[1].of_each == []
    assert len(together[1].nearest[0]) == 0


@every_metric
def test_nearest_to_any_is_the_best_of_the_whole_pool_not_of_the_lists(metric, pools, x):
    """One anchor amid a crowd: its neighbours fill the places that lists of equal length would give to others."""
    fleet = open_fleet(pools, metric, 64, 3)
    crowd = x[0]
    lonely = x[OPEN][np.argmin(reference.similarity(x[OPEN], crowd, metric))] + np.float32(2)
    anchors = np.stack([crowd, lonely])
    found = searched(fleet, Search(anchors=anchors, each=9, nearest=18))[0]
    lists = {int(id) for ids, _ in found.of_each for id in ids}
    assert set(found.nearest[0].tolist()) != lists
    best = np.maximum(reference.similarity(x[OPEN], crowd, metric), reference.similarity(x[OPEN], lonely, metric))
    assert set(found.nearest[0].tolist()) == set(reference.ranked(best, OPEN, 18, None).tolist())


@every_metric
def test_more_neighbours_than_items(metric, pools, x):
    found = searched(open_fleet(pools, metric, 64, 5), Search(anchors=x[:2], each=2 * N, nearest=2 * N))[0]
    for ids, values in (*found.of_each, found.nearest):
        assert np.array_equal(np.sort(ids), OPEN)
        assert np.isfinite(values).all()


@every_metric
def test_nothing_is_found_where_everything_is_taken(metric, pools, x):
    fleet = open_fleet(pools, metric, 64, 2)
    fleet.each(exclude, np.arange(N))
    found = searched(fleet, Search(anchors=x[:2], each=5, nearest=5))[0]
    assert [len(ids) for ids, _ in (*found.of_each, found.nearest)] == [0, 0, 0]


@every_metric
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("partitions", [1, 3])
def test_pools_of_one_and_two_rows(metric, n, partitions, tmp_path):
    x = mixture(n, 3)[0]
    fleet = local(make_pool(tmp_path / "pool", x, metric=metric), partitions)
    found = searched(fleet, Search(anchors=x[:1], each=5, nearest=5))[0]
    expected = reference.similarity(x, x[0], metric)
    for ids, values in (*found.of_each, found.nearest):
        assert ids.tolist() == list(range(n))
        np.testing.assert_allclose(values, expected, atol=1e-5)


def test_a_zero_vector_has_cosine_zero_with_everything_and_a_distance_like_any_other(pools, x):
    zero = np.zeros((1, DIM), np.float32)
    cosine, l2 = (searched(open_fleet(pools, m, 64, 2), Search(anchors=zero, each=N))[0] for m in METRICS)
    assert not cosine.of_each[0][1].any()
    assert cosine.of_each[0][0].tolist() == OPEN.tolist(), "all tie, so by id"
    ids, values = l2.of_each[0]
    assert ids[:2].tolist() == [70, 71]
    np.testing.assert_allclose(-values, (x[ids].astype(np.float64) ** 2).sum(1), rtol=1e-6)


@every_metric
def test_no_similarity_is_beyond_what_equal_vectors_have(metric, tmp_path):
    """Far from the origin a distance is the small difference of large numbers; it is never below zero."""
    x = (mixture(60, 64)[0] + np.float32(30)).astype(np.float16).astype(np.float32)
    x[1::2] = x[::2]
    fleet = local(make_pool(tmp_path / "pool", x, metric=metric), 2)
    for ids, values in searched(fleet, Search(anchors=x, each=60))[0].of_each:
        assert len(ids) == 60
        assert values.max() <= (1 + 1e-6 if metric == "cosine" else 0)


@every_metric
@pytest.mark.parametrize("partitions", [1, 2, 5])
def test_means_over_all_anchors(metric, partitions, pools, x):
    fleet = open_fleet(pools, metric, 64, partitions)
    wanted = np.array([2, 70, 9, 401, 4, 9999], np.int64)  # in any order, taken out or not, there or not
    parts = fleet.each(mean_similarities, wanted, x[:11])
    ids, means = (np.concatenate(column) for column in zip(*parts, strict=True))
    assert ids.tolist() == [2, 4, 9, 70, 401]
    expected = np.mean([reference.similarity(x[ids], anchor, metric) for anchor in x[:11]], axis=0)
    np.testing.assert_allclose(means, expected, rtol=1e-5, atol=1e-6)
    whole = open_fleet(pools, metric, N, 1).each(mean_similarities, ids, x[:11])
    assert np.array_equal(means, whole[0][1]), "not a bit depends on the layout"


def test_unit_rows_have_length_one_and_zero_stays_zero(x):
    lengths = np.sqrt((unit_rows(x).astype(np.float64) ** 2).sum(1))
    np.testing.assert_allclose(np.delete(lengths, [70, 71]), 1, rtol=1e-6)
    assert not lengths[70:72].any()
    tiny = np.full((1, 4), 1e-30, np.float32)
    np.testing.assert_allclose(unit_rows(tiny), 0.5, rtol=1e-6)
