"""The layout is the same twice."""

from __future__ import annotations

import numpy as np
import pytest
from pools import mixture

from raysal.report.map_layout import MIN_TSNE_POINTS, lay_out


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
