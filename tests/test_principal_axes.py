"""The axes of a map are those of a singular value decomposition, whichever of n and d is larger."""

from __future__ import annotations

import numpy as np
import pytest

from raysal.principal_axes import principal_axes


@pytest.mark.parametrize("shape", [(200, 7), (9, 40), (5, 2)])
def test_they_are_the_first_two_right_singular_vectors(shape: tuple[int, int]) -> None:
    x = np.random.default_rng(1).normal(size=shape) * np.linspace(3, 1, shape[1]) + 5
    centre, axes = principal_axes(x)
    wanted = np.linalg.svd(x - x.mean(0))[2][:2].T
    np.testing.assert_allclose(centre, x.mean(0))
    np.testing.assert_allclose(np.abs((axes * wanted).sum(0)), 1, rtol=1e-9)
    assert (axes[np.abs(axes).argmax(0), [0, 1]] > 0).all()


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (4, 1)])
def test_where_there_are_fewer_the_rest_are_zeros(shape: tuple[int, int]) -> None:
    centre, axes = principal_axes(np.ones(shape))
    assert (centre.shape, axes.shape) == ((shape[1],), (shape[1], 2))
    assert np.isfinite(axes).all()
