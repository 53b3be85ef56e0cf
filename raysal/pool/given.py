"""From what a pool holds to the magnitude that its vectors were given with: vectors and distances, for people.

What raysal computes, it computes with the numbers that a pool holds. A power of two is taken out without rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def export_type(scale: float) -> np.dtype[Any]:
    """The smallest type that holds the vectors of a pool of that scale in the magnitude they were given with."""
    if scale == 1:
        return np.dtype(np.float16)
    numbers, halves = np.finfo(np.float32), np.finfo(np.float16)
    least, most = float(halves.smallest_subnormal) / scale, float(halves.max) / scale
    fits = least >= float(numbers.tiny) and most <= float(numbers.max)
    return np.dtype(np.float32 if fits else np.float64)


def in_given_units(vectors: NDArray[np.float16], scale: float, numbers: np.dtype[Any]) -> NDArray[np.floating[Any]]:
    """A pool's vectors in the magnitude they were given with.

    Args:
        vectors: as the pool holds them.
        scale: of the pool.
        numbers: the type of the result, as `export_type` says.

    Returns:
        The vectors divided by the scale.
    """
    if scale == 1:
        return vectors.astype(numbers, copy=False)
    return (vectors.astype(np.float64) / scale).astype(numbers)
