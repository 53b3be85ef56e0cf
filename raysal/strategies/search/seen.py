"""What is known or picked already, to tell its duplicates; and a diverse order of few items."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.narrowing.duplicates import near_pairs, rounding_error
from raysal.scoring.similarity import unit_rows
from raysal.types import Metric

Vectors = NDArray[np.float32]


class Seen:
    """Vectors that grow by one at a time, and which others are near-duplicates of one of them. In the driver."""

    def __init__(self, vectors: Vectors, threshold: float, metric: Metric) -> None:
        """Begin with vectors [n, d]; the threshold is a similarity (`raysal.narrowing.duplicates`)."""
        self._threshold, self.metric = threshold, metric
        self._vectors = vectors
        self._compared = self._units(vectors)
        self._count = len(vectors)

    def add(self, vector: Vectors) -> None:
        """Take one more, [d]."""
        if self._count == len(self._vectors):
            more = np.zeros((max(64, self._count), len(vector)), np.float32)
            self._vectors = np.concatenate([self._vectors, more])
            self._compared = torch.cat([self._compared, torch.from_numpy(more)])
        self._vectors[self._count] = vector
        self._compared[self._count] = self._units(vector[None])[0]
        self._count += 1

    def has_near(self, vectors: Vectors) -> NDArray[np.bool_]:
        """Which of some vectors [m, d] are near-duplicates of one here, [m]; exact. O(m n d)."""
        if not self._count or not len(vectors):
            return np.zeros(len(vectors), bool)
        own, known = self._units(vectors), self._compared[: self._count]
        sq_own, sq_known = ((each.double() ** 2).sum(1).float() for each in (own, known))
        values = own @ known.T
        if self.metric == "l2":
            values.mul_(2).sub_(sq_own[:, None]).sub_(sq_known)
        error = rounding_error(own, sq_own, sq_known, self.metric)
        near = near_pairs(values, error, self._threshold, vectors, self._vectors[: self._count], self.metric)
        return np.asarray(near.any(1))

    def _units(self, vectors: Vectors) -> torch.Tensor:
        return torch.from_numpy(unit_rows(vectors) if self.metric == "cosine" else vectors.copy())


def diverse_order(vectors: Vectors, known: Vectors, metric: Metric) -> list[int]:
    """Rows, each the farthest from those before it and from what is known; the first row comes first.

    Farthest-point order (Gonzalez, 1985). Distances are sums of squared differences in float64, row by row, so that no
    thread and no block changes a bit.

    Args:
        vectors: [m, d], at least one.
        known: [n, d].
        metric: of the pool.

    Returns:
        All m rows. O(m (m + n) d).
    """
    x, y = ((unit_rows(each) if metric == "cosine" else each).astype(np.float64) for each in (vectors, known))
    nearest = np.full(len(x), np.inf)
    for centre in y:
        nearest = np.minimum(nearest, ((x - centre) ** 2).sum(1))
    order, left = [0], np.ones(len(x), bool)
    while len(order) < len(x):
        left[order[-1]] = False
        nearest = np.minimum(nearest, ((x - x[order[-1]]) ** 2).sum(1))
        order.append(int(np.where(left, nearest, -1.0).argmax()))
    return order
