"""What is planned: the kind and why, shards that later chunks leave alone, and bytes stated before a build."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from indexes import built, planned
from pools import make_pool, mixture

from raysal.errors import ConfigError, PoolError
from raysal.index import KINDS, plan_index
from raysal.index.plan import BUFFER_BYTES, cut_shards, human_bytes

CHUNK = 65_536


def million(count: float) -> list[int]:
    return [CHUNK] * int(count * 1e6 / CHUNK)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.integers(1, 120))
def test_shards_are_runs_of_whole_chunks(rows, most):
    runs = cut_shards(rows, most)
    assert [chunk for first, last, _ in runs for chunk in range(first, last + 1)] == list(range(len(rows)))
    for first, last, count in runs:
        assert count == sum(rows[first : last + 1])
        assert count <= most or sum(1 for chunk in rows[first : last + 1] if chunk) == 1


@given(st.lists(st.integers(0, 50), min_size=1), st.lists(st.integers(0, 50)), st.integers(1, 120))
def test_chunks_that_are_added_leave_all_shards_but_the_last(rows, more, most):
    before = cut_shards(rows, most)
    assert cut_shards([*rows, *more], most)[: len(before) - 1] == before[:-1]


@pytest.mark.parametrize(
    ("rows", "settings", "kind", "said"),
    [
        (0.2, {}, "flat", "exact search is as quick"),
        (5, {}, "ivf_sq8", "one byte a dimension"),
        (5, {"queries": 100}, "ivf_sq8", "exact search costs less than this build"),
        (5, {"queries": 5_000_000}, "hnsw", "pay for a graph"),
        (5, {"memory": 2 * 10**9}, "ivf_sq8", "one byte"),
        (5, {"memory": 10**9}, "ivf_pq", "ivf_sq8 would not fit 1 GB"),
        (300, {}, "ivf_pq", "two bits"),
        (300, {"processes": 300}, "ivf_pq", "two bits"),
        (300, {"memory": 20 * 10**9}, "ivf_rabitq", "ivf_pq would not fit 20 GB"),
    ],
)
def test_auto_goes_by_rows_memory_and_queries_and_says_why(rows, settings, kind, said):
    plan = plan_index(million(rows), 256, **settings)
    assert plan.kind == kind
    assert said in plan.why


def test_what_does_not_fit_is_refused_with_the_numbers():
    plan = plan_index(million(5), 256, kind="hnsw")
    with pytest.raises(ConfigError) as caught:
        plan_index(million(5), 256, kind="hnsw", memory=10**9)
    for number in (10**9, plan.build_bytes, plan.search_bytes):
        assert human_bytes(number) in str(caught.value)
    with pytest.raises(ConfigError, match=r"ivf_sq8 needs.*ivf_pq needs.*ivf_rabitq needs"):
        plan_index(million(5), 256, memory=10**6)


def test_more_processes_hold_less_each():
    one, four = (plan_index(million(8), 64, kind="ivf_sq8", processes=p) for p in (1, 4))
    assert four.search_bytes - BUFFER_BYTES == pytest.approx((one.search_bytes - BUFFER_BYTES) / 4, rel=0.2)
    assert four.disk_bytes == one.disk_bytes


@pytest.mark.parametrize("rows", [[], [0, 0], [1]])
def test_fewer_than_two_rows_are_refused(rows):
    with pytest.raises(PoolError, match=f"{sum(rows)} rows"):
        plan_index(rows, 8)


def test_an_unknown_kind_is_named():
    with pytest.raises(ConfigError, match=r"'ivf'.*auto, flat"):
        plan_index([10], 8, kind="ivf")


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_on_disk_are_as_stated(kind, tmp_path):
    pool = make_pool(tmp_path / "pool", mixture(3000, 40)[0])
    index = built(pool, kind)
    written = sum(path.stat().st_size for path in index.path.glob("*.faiss"))
    fixed = 15_000  # headers and tables of lists, small beside the shards of a million rows that are planned for
    stated = planned(pool, kind).disk_bytes
    assert stated * 0.98 <= written <= stated * 1.02 + fixed * len(index.shards)
