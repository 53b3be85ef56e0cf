"""Who is kept without a list of near pairs: the same as from the pairs, to the bit, however it is cut and stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from near_rows import DIM, N, Stop, vectors_with_copies
from pools import make_pool
from tiers import deep_unless

from raysal.config import FleetConfig
from raysal.curation.near import settling, sieve
from raysal.curation.near.folder import read_pairs
from raysal.curation.near.job import find_near_pairs
from raysal.curation.near.keeping import Kept, kept_of
from raysal.fleet import open_fleet
from raysal.pool import Pool
from raysal.types import Metric


def from_pairs(pool: Pool, folder: Path, threshold: float, items: np.ndarray[Any, Any]) -> Kept:
    with open_fleet(pool, FleetConfig(backend="local")) as fleet:
        done = find_near_pairs(pool, fleet, folder, threshold, unit_rows=90)
    order = np.argsort(items)
    rank = np.empty(len(items), np.int64)
    rank[:] = np.argsort(order)
    same = 1.0 if pool.metric == "cosine" else 0.0
    return kept_of(
        np.sort(items), np.searchsorted(np.sort(items), items), read_pairs(folder, done.plan, threshold), same
    )


def by_sieve(pool: Pool, folder: Path, threshold: float, items: Any, partitions: int = 1, **options: Any) -> Kept:
    with open_fleet(pool, FleetConfig(backend="local", partitions=partitions)) as fleet:
        return sieve.kept_without_pairs(pool, fleet, folder, threshold, items, **{"unit_rows": 70, **options})


def equal(one: Kept, other: Kept) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in ("ids", "kept", "nearest", "similarity")
    )


@pytest.fixture(autouse=True)
def few_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "FEWEST_TOGETHER", 4)
    monkeypatch.setattr(settling, "MOST_TOGETHER", 16)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("threshold", [0.6, 0.9])
@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_what_the_pairs_say(tmp_path: Path, metric: Metric, threshold: float, seed: int) -> None:
    """In another order than that of the pool, and where some items were dropped before."""
    rows = vectors_with_copies(seed)
    rows[[5, 90, 200]] = 0
    pool = make_pool(tmp_path / "pool", rows, chunk_rows=33, missing=[3, 80], metric=metric)
    similarity = threshold if metric == "cosine" else -((8 * (1 - threshold)) ** 2)
    ids = np.setdiff1d(np.arange(N), [3, 80])
    for items in (ids, np.random.default_rng(seed).permutation(ids), np.random.default_rng(9).permutation(ids)[:150]):
        wanted = from_pairs(pool, tmp_path / "pairs", similarity, items)
        found = by_sieve(pool, tmp_path / "sieve", similarity, items)
        assert equal(found, wanted)
        assert 5 < wanted.kept.sum() < len(items) - 5


@pytest.mark.parametrize("partitions", [2, 5])
def test_nothing_depends_on_partitions_and_chunks(tmp_path: Path, partitions: int) -> None:
    rows, items = vectors_with_copies(2), np.random.default_rng(0).permutation(N)
    pool = make_pool(tmp_path / "pool", rows)
    one = by_sieve(pool, tmp_path / "one", 0.8, items)
    other = make_pool(tmp_path / "other", rows, chunk_rows=64)
    assert equal(by_sieve(other, tmp_path / "two", 0.8, items, partitions), one)
    assert equal(by_sieve(other, tmp_path / "two", 0.8, items, partitions, unit_rows=33), one)


@pytest.mark.parametrize("at", deep_unless([1], [0, 1, 2]))
def test_an_interrupted_one_goes_on_with_the_next_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    pool, items = make_pool(tmp_path / "pool", vectors_with_copies(3)), np.arange(N)[::-1].copy()
    whole = by_sieve(pool, tmp_path / "whole", 0.9, items)
    real, calls = sieve._one_batch, [0]

    def stopping(*args: Any) -> Any:
        calls[0] += 1
        if calls[0] == at + 1:
            raise Stop
        return real(*args)

    monkeypatch.setattr(sieve, "_one_batch", stopping)
    with pytest.raises(Stop):
        by_sieve(pool, tmp_path / "part", 0.9, items)
    calls[0] = 100
    assert equal(by_sieve(pool, tmp_path / "part", 0.9, items), whole)
    names = [path.relative_to(tmp_path / "whole") for path in sorted((tmp_path / "whole" / "found").iterdir())]
    assert calls[0] == 100 + len(names) - at
    for name in names:
        assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    again = by_sieve(pool, tmp_path / "part", 0.9, items)
    assert (calls[0], equal(again, whole)) == (100 + len(names) - at, True)
    assert not equal(by_sieve(pool, tmp_path / "part", 0.9, np.arange(N)), whole)  # another order, computed again


def test_a_group_of_jittered_copies_leaves_what_the_order_says(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = np.ones((3000, DIM)) + 0.01 * rng.standard_normal((3000, DIM))
    pool = make_pool(tmp_path / "pool", rows.astype(np.float16).astype(np.float32))
    found = by_sieve(pool, tmp_path / "sieve", 0.99, np.arange(3000)[::-1].copy(), unit_rows=1000)
    assert found.kept.nonzero()[0].tolist() == [2999]
    assert (found.nearest == 2999).all()


def test_nothing_and_one_item(tmp_path: Path) -> None:
    pool = make_pool(tmp_path / "pool", vectors_with_copies(4, 20))
    assert len(by_sieve(pool, tmp_path / "sieve", 0.9, np.empty(0, np.int64)).ids) == 0
    assert by_sieve(pool, tmp_path / "sieve", 0.9, np.array([7])).nearest.tolist() == [7]


@pytest.mark.parametrize("later", [0, 1])
def test_of_two_kept_ones_that_are_as_near_the_lowest_id_is_named_whichever_batch_has_it(
    tmp_path: Path, later: int
) -> None:
    rows = np.zeros((40, 40), np.float32)
    rows[3:, 3:] = np.eye(37)  # far from all
    rows[0, :2], rows[1, :2], rows[2, :2] = (1, 0.5), (1, -0.5), (1, 0)
    pool = make_pool(tmp_path / "pool", rows)
    items = np.array([1 - later, *range(3, 40), later, 2])
    found = by_sieve(pool, tmp_path / "sieve", 0.85, items, unit_rows=8)
    assert (found.kept[:3].tolist(), found.nearest[2]) == ([True, True, False], 0)
    assert equal(found, from_pairs(pool, tmp_path / "pairs", 0.85, items))
