"""Which rows of a matrix are equal, by hashes of their bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raysal.numerics import DRIVER_ROWS, shared_out, slices


def hashes_of(words: NDArray[np.uint64], odd: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A hash of each row of words [n, d], with d odd numbers: unlike rows may share one, equal ones do."""
    return words @ odd


def distinct_rows(x: NDArray[np.float32], threads: int = 1) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct rows of x [n, d], in the order they came in. O(n d).

    Args:
        x: The rows.
        threads: How many threads look at them.

    Returns:
        (the first of each [m], which of them each row is [n]).
    """
    odd = np.asarray(np.random.default_rng(0).integers(2**63, size=x.shape[1], dtype=np.uint64)) | np.uint64(1)

    def hashes_in(own: slice) -> NDArray[np.uint64]:
        some = x[own] + np.float32(0)  # no negative zeros: equal rows have equal bytes
        return hashes_of(some.view(np.uint32).astype(np.uint64), odd)

    found = shared_out(hashes_in, [*slices(len(x), DRIVER_ROWS)], threads)
    hashes = np.concatenate([np.empty(0, np.uint64), *found])
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    if len(first) < len(x) and not np.array_equal(x[first[inverse]], x):  # two rows of one hash
        whole = (x + np.float32(0)).view(np.dtype((np.void, x.itemsize * x.shape[1])))[:, 0]
        _, first, inverse = np.unique(whole, return_index=True, return_inverse=True)
    # As they came, and not by their bytes: then neither the unit nor the origin of the vectors changes a seed.
    order = np.argsort(first)
    return first[order], np.argsort(order)[inverse]
