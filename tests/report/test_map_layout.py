"""The sample does not depend on chunks, and the layout is the same twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pools import make_pool, mixture

from raysal.report.map_layout import MIN_TSNE_POINTS, lay_out, sample_vectors, thin_picks, vectors_by_id
from raysal.rng import derive, item_uniform


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


@pytest.mark.parametrize("n", [120, MIN_TSNE_POINTS - 1])
def test_a_layout_fills_the_unit_square_and_repeats_itself(n):
    vectors, _ = mixture(n, 10)
    points = lay_out(vectors)
    assert points.shape == (n, 2)
    assert points.min(axis=0).tolist() == [0, 0]
    assert points.max(axis=0).tolist() == [1, 1]
    np.testing.assert_array_equal(points, lay_out(vectors))


def test_near_vectors_lie_near_each_other():
    rng = np.random.default_rng(0)
    centres = np.eye(3, 16, dtype=np.float32) * 20
    which = np.repeat(np.arange(3), 40)
    points = lay_out((centres[which] + rng.normal(size=(120, 16))).astype(np.float32))
    gaps = np.linalg.norm(points[:, None] - points[None], axis=2) + 9.0 * np.eye(120)
    assert (which[gaps.argmin(axis=1)] == which).mean() > 0.95


@pytest.mark.parametrize(("n", "dim"), [(0, 4), (1, 4), (2, 4), (5, 1), (30, 1), (30, 4)])
def test_degenerate_vectors_have_a_place_too(n: int, dim: int):
    points = lay_out(np.ones((n, dim), np.float32))
    assert points.shape == (n, 2)
    assert np.isfinite(points).all()
