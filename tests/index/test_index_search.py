"""The laws of a search by index: exact similarities, no excluded rows, independence of partitions, honest recall."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from indexes import FAITHFUL, built, exact, same_lists
from pools import make_pool, mixture
from programs import local
from tiers import deep_unless

from raysal.fleet import LocalFleet, exclude, plan_partitions
from raysal.index import KINDS, index_neighbours, open_index, search
from raysal.index.files import Index
from raysal.index.shards import fetch_nearest
from raysal.pool import Pool
from raysal.scoring.sweep import sweep

N, DIM = 700, 11
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def data():
    x = mixture(N, DIM, classes=6, seed=4)[0]
    anchors = x[::50] + np.random.default_rng(1).normal(size=(len(x[::50]), DIM)).astype(np.float32) * 0.3
    return x, anchors


@pytest.fixture(scope="module")
def pools(data, tmp_path_factory):
    """(pool, index) by kind and metric, made when first asked for."""
    made: dict[tuple[str, str], tuple[Pool, Index]] = {}

    def get(kind: str, metric: str = "cosine") -> tuple[Pool, Index]:
        if (kind, metric) not in made:
            path = tmp_path_factory.mktemp("index") / "pool"
            pool = make_pool(path, data[0], chunk_rows=64, metric=metric, missing=[3, 77])
            built(pool, kind)
            made[kind, metric] = pool, open_index(pool)
        return made[kind, metric]

    return get


@every_kind
@pytest.mark.parametrize("metric", deep_unless(["cosine"], ["cosine", "l2"]))
def test_the_same_for_any_partitions_and_threads(kind, metric, pools, data):
    pool, index = pools(kind, metric)
    out = np.arange(0, N, 3)
    found = []
    for partitions, threads in ((1, 1), (2, 2), (5, 1), (9, 3)):
        with LocalFleet(plan_partitions(pool, partitions, threads=threads)) as fleet:
            fleet.each(exclude, out)
            found.append(index_neighbours(fleet, index, data[1], 12))
    assert all(same_lists(found[0], other) for other in found[1:])


@every_kind
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_similarities_are_exact_and_in_order(kind, metric, pools, data):
    pool, index = pools(kind, metric)
    with local(pool, 3) as fleet:
        found = index_neighbours(fleet, index, data[1], 20)
    for anchor, (ids, values) in zip(data[1].astype(np.float64), found, strict=True):
        rows = data[0][ids].astype(np.float64)
        slow = (
            [reference.cosine(anchor[None], row)[0] for row in rows]
            if metric == "cosine"
            else -((rows - anchor) ** 2).sum(1)
        )
        assert values == pytest.approx(np.array(slow), abs=2e-4)
        assert np.array_equal(np.lexsort((ids, -values)), np.arange(20))


@every_kind
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_no_less_is_found_than_the_index_says(kind, metric, pools, data):
    """Measured on other items than those that tuned it. Exact kinds that look at every row find everything."""
    pool, index = pools(kind, metric)
    assert index.recall["50"] >= index.target_recall
    with local(pool, 2) as fleet:
        truth = exact(fleet, data[1], 50)
        shares = [
            np.isin(mine[0], true[0]).mean()
            for mine, true in zip(index_neighbours(fleet, index, data[1], 50), truth, strict=True)
        ]
        assert np.mean(shares) >= index.recall["50"] - 0.05
        if kind in FAITHFUL:
            wide = replace(index, probes=max(index.lists, N))
            found = index_neighbours(fleet, wide, data[1], 50)
            assert all(np.array_equal(a[0], b[0]) for a, b in zip(found, truth, strict=True))


@every_kind
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    keep=st.integers(0, 40),
    around=st.booleans(),
    each=st.integers(1, 30),
    partitions=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
def test_nothing_excluded_is_ever_found_and_no_place_is_lost(kind, keep, around, each, partitions, seed, pools, data):
    """All items but a few random ones are excluded, or those nearest to the anchors, which is all an index finds."""
    pool, index = pools(kind)
    anchors = data[1][:4]
    with local(pool, partitions) as fleet:
        if around:
            out = np.unique(np.concatenate([ids for ids, _ in exact(fleet, anchors, 4 * keep + 1)]))
        else:
            out = np.random.default_rng(seed).permutation(N)[keep:]
        available = sum(fleet.each(exclude, out))
        found = index_neighbours(fleet, index, anchors, each)
    for ids, values in found:
        assert not np.isin(ids, [*out, 3, 77]).any()
        assert len(ids) == len(np.unique(ids)) == len(values) == min(each, available)


@every_kind
def test_no_less_is_found_among_what_is_left_where_what_is_nearest_is_excluded(kind, pools, data):
    """A search may happen to be left with enough rows that are not the nearest ones."""
    pool, index = pools(kind)
    shares = []
    with local(pool, 2) as fleet:
        for anchor in data[1][:, None]:
            fleet.reset()
            fleet.each(exclude, exact(fleet, anchor, 150)[0][0])
            truth = exact(fleet, anchor, 12)[0][0]
            shares.append(np.isin(index_neighbours(fleet, index, anchor, 12)[0][0], truth).mean())
    assert np.mean(shares) >= index.recall["50"] - 0.05


@pytest.mark.parametrize("group", [1, 4, 7, 1024])
def test_anchors_are_searched_for_in_groups_and_found_as_if_together(group, pools, data, monkeypatch):
    pool, index = pools("ivf_pq")
    with local(pool, 2) as fleet:
        fleet.each(exclude, np.arange(0, N, 3))
        together = index_neighbours(fleet, index, data[1], 9)
        sizes = []
        monkeypatch.setattr(search, "ANCHORS_PER_SEARCH", group)
        monkeypatch.setattr(search, "fetch_nearest", lambda *args: sizes.append(len(args[2])) or fetch_nearest(*args))
        monkeypatch.setattr(
            search, "sweep", lambda *args: sizes.append(len(args[2].searches[0].anchors)) or sweep(*args)
        )
        assert same_lists(index_neighbours(fleet, index, data[1], 9), together)
    assert max(sizes) == min(group, len(data[1]))


@every_kind
def test_more_neighbours_than_rows_and_none_at_all(kind, pools, data):
    pool, index = pools(kind)
    with local(pool, 2) as fleet:
        found = index_neighbours(fleet, index, data[1][:2], 5 * N)
        assert [len(ids) for ids, _ in found] == [N - 2, N - 2]
        assert same_lists(found, exact(fleet, data[1][:2], 5 * N))
        assert [len(ids) for ids, _ in index_neighbours(fleet, index, data[1][:2], 0)] == [0, 0]
        assert index_neighbours(fleet, index, data[1][:0], 5) == []
        fleet.each(exclude, np.arange(N))
        assert [len(ids) for ids, _ in index_neighbours(fleet, index, data[1][:2], 5)] == [0, 0]


def test_an_anchor_beside_excluded_rows_alone_gets_the_exact_neighbours(pools, data):
    """All rows of the lists it probes are excluded: only exact search finds the others."""
    pool, index = pools("ivf_flat")
    narrow_one = replace(index, probes=1)
    with local(pool, 3) as fleet:
        near = np.concatenate([ids for ids, _ in exact(fleet, data[1][:1], 400)])
        fleet.each(exclude, near)
        truth = exact(fleet, data[1][:1], 9)
        assert same_lists(index_neighbours(fleet, narrow_one, data[1][:1], 9), truth)


@every_kind
def test_zero_vectors_are_as_similar_as_nothing(kind, tmp_path):
    """Under the cosine, a zero vector has similarity 0 to all; to an anchor of zeros all items are equally near."""
    x = np.concatenate([mixture(300, 8, seed=1)[0], np.zeros((40, 8), np.float32)])
    x = x[np.random.default_rng(0).permutation(len(x))]
    pool = make_pool(tmp_path / "pool", x, chunk_rows=50)
    built(pool, kind)
    zero = np.flatnonzero(~x.any(1))
    with local(pool, 3) as fleet:
        found = index_neighbours(fleet, open_index(pool), np.concatenate([x[zero[:1]], x[:3]]), len(x))
    assert not found[0][1].any()
    for ids, values in found[1:]:
        assert not values[np.isin(ids, zero)].any()
        assert len(ids) == len(x)


@every_kind
def test_copies_of_one_row_are_all_there(kind, tmp_path):
    """Equal shards have equal bytes, and still hold different items."""
    x = np.tile(mixture(50, 8, seed=2)[0], (12, 1))
    pool = make_pool(tmp_path / "pool", x, chunk_rows=100)
    index = built(pool, kind)
    assert len({shard.sha256 for shard in index.shards}) == 1
    some = []
    for partitions in (1, 2, 3):
        with local(pool, partitions) as fleet:
            for row, (ids, _) in enumerate(index_neighbours(fleet, index, x[:5], 12)):
                assert ids.tolist() == list(range(row, 600, 50))
            some.append(index_neighbours(fleet, index, x[:5], 6))
    assert all(same_lists(some[0], other) for other in some)  # ties are cut at the same place, too


def test_settings_are_those_of_the_index_at_every_search(pools, data):
    """Files do not keep the settings, and an earlier search of the same index may have used others."""
    pool, index = pools("ivf_flat")
    narrow_one, wide = replace(index, probes=1), replace(index, probes=index.lists)
    with local(pool, 1) as fleet:
        first = index_neighbours(fleet, narrow_one, data[1], 30)
        everything = index_neighbours(fleet, wide, data[1], 30)
        again = index_neighbours(fleet, narrow_one, data[1], 30)
    assert same_lists(first, again)
    assert not same_lists(first, everything)
