"""The sample of a pool does not depend on chunks, and all maps have the same axes."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pools import make_pool, mixture

from raysal.prediction.sampling import Lowest, axes_sample, map_axes, sample_vectors, thin_picks, vectors_by_id
from raysal.rng import derive, item_uniform
from raysal.rounds.held_out import HeldOut
from raysal.web.views import PoolAxes


@pytest.mark.parametrize("chunk_rows", [7, 64, 1000])
def test_the_sample_is_that_of_lowest_hash_however_the_pool_is_cut(tmp_path: Path, chunk_rows: int):
    vectors, labels = mixture(300, 6)
    missing = [3, 150, 299]
    pool = make_pool(tmp_path / "pool", vectors, chunk_rows=chunk_rows, labels=labels, missing=missing)
    found = sample_vectors(pool, 5, 40, "label")
    ids = np.setdiff1d(np.arange(300), missing)
    lowest = np.sort(ids[np.argsort(item_uniform(derive(5, "map"), ids))[:40]])
    assert found.ids.tolist() == lowest.tolist()
    np.testing.assert_array_equal(found.vectors, vectors[lowest])
    assert list(found.column or ()) == [labels[id] for id in lowest]


def test_a_small_pool_is_sampled_whole(tmp_path: Path):
    vectors, _ = mixture(20, 4)
    found = sample_vectors(make_pool(tmp_path / "pool", vectors, chunk_rows=6), 0, 100)
    assert found.ids.tolist() == list(range(20))
    assert found.column is None


def test_vectors_are_found_by_id_and_unknown_ids_are_left_out(tmp_path: Path):
    vectors, labels = mixture(50, 4)
    pool = make_pool(tmp_path / "pool", vectors, chunk_rows=9, labels=labels, missing=[8])
    found = vectors_by_id(pool, [49, 8, 0, 9, 1000], "label")
    assert found.ids.tolist() == [0, 9, 49]
    np.testing.assert_array_equal(found.vectors, vectors[[0, 9, 49]])
    assert list(found.column or ()) == [labels[0], labels[9], labels[49]]
    assert len(vectors_by_id(pool, [])) == 0


def test_thinned_picks_are_some_of_them_ascending():
    ids = np.arange(0, 1000, 3)
    few = thin_picks(ids, 1, 20)
    assert len(few) == 20
    assert set(few) <= set(ids)
    assert (np.diff(few) > 0).all()
    assert thin_picks(ids, 1, 10_000).tolist() == ids.tolist()


@pytest.mark.parametrize("most", [1, 20, 299, 300, 1000])
def test_the_lowest_are_the_same_however_the_ids_are_cut(most: int):
    ids = np.random.default_rng(0).permutation(300) * 7
    slow = np.sort(ids[np.argsort(item_uniform(derive(2, "map"), ids))[:most]])
    for size in (1, 13, 300):
        lowest = Lowest(2, most)
        for start in range(0, 300, size):
            lowest.add(ids[start : start + size])
        assert lowest.ids.tolist() == slow.tolist()


def test_the_memory_of_a_map_does_not_grow_with_the_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of a pool of 2,000,000 ids, 16 MB, in chunks of 20,000, a map keeps its sample alone."""
    monkeypatch.setattr("raysal.prediction.sampling.MAP_SAMPLE", 60)
    pool = make_pool(tmp_path / "pool", mixture(60, 5)[0])
    tables = (pa.table({"id": np.arange(start, start + 20_000)}) for start in range(0, 2_000_000, 20_000))
    monkeypatch.setattr(type(pool), "items", lambda *_: tables)
    tracemalloc.start()
    try:
        on_map = PoolAxes.of(pool, 3, 100, lambda ids: (ids, np.eye(len(ids), 5, dtype=np.float32)), HeldOut(1, 0.25))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(on_map.ids) == 100
    assert peak < 4_000_000


def test_the_axes_are_the_same_however_many_items_are_on_the_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("raysal.prediction.sampling.MAP_SAMPLE", 60)
    pool = make_pool(tmp_path / "pool", mixture(200, 5)[0], chunk_rows=64)
    assert axes_sample(pool) == 60
    centre, axes = map_axes(pool, 3)
    ids = np.arange(200)

    def read(ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        found = vectors_by_id(pool, ids)
        return found.ids, found.vectors

    for most in (7, 60, 150, 1000):
        on_map = PoolAxes.of(pool, 3, most, read, HeldOut(1, 0.25))
        np.testing.assert_array_equal(on_map.centre, centre)
        np.testing.assert_array_equal(on_map.axes, axes)
        assert not HeldOut(1, 0.25).among(on_map.ids).any()
        kept = len(ids) - int(HeldOut(1, 0.25).among(ids).sum())
        assert len(on_map.ids) == min(most, kept)
        assert len(PoolAxes.of(pool, 3, most, read).ids) == min(most, 200)
