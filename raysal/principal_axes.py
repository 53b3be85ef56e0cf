"""Two principal axes of some vectors, for maps of a pool."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raysal.numerics import one_thread


@one_thread(numpy=True)
def principal_axes(vectors: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The centre and the two principal axes of some vectors (Pearson, 1901).

    O(n d min(n, d)), on one thread, so that the bits do not depend on how many there are.

    Args:
        vectors: [n, d].

    Returns:
        float64 [d], and [d, 2]; zeros where there are fewer axes. The largest number of an axis is positive, because an
        axis has no sign of its own.
    """
    count, dim = vectors.shape
    centre = vectors.mean(axis=0) if count else np.zeros(dim)
    spread = vectors - centre
    if count < dim:
        _, found = np.linalg.eigh(spread @ spread.T)
        found = spread.T @ found
        found /= np.maximum(np.linalg.norm(found, axis=0), np.finfo(np.float64).tiny)
    else:
        _, found = np.linalg.eigh(spread.T @ spread)
    axes = found[:, ::-1][:, :2]
    axes = np.pad(axes, ((0, 0), (0, 2 - axes.shape[1])))
    largest = axes[np.argmax(np.abs(axes), axis=0), [0, 1]]
    return centre, axes * np.where(largest < 0, -1.0, 1.0)
