"""Cells around centroids: by proven bounds, most pairs of rows need not be compared, and none that is near is missed.

A row lies in the cell of its nearest centroid. Between the cells i and j there is the plane of points that are as far
from one centroid as from the other. A point x of cell i is (|x - c_j|^2 - |x - c_i|^2) / (2 |c_i - c_j|) away from it,
and every point of cell j lies beyond it. So if x is within r of a point of cell j, it is at most r away from the plane:
otherwise x need not be compared with any row of j. By the same rule from the other side, where it must be compared with
some, it need not be with most of them (generalised hyperplanes: Uhlmann 1991; joins by them: Jacox & Samet 2008).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.numerics import DRIVER_ROWS, slices
from raysal.strategies.engine.distances import slack
from raysal.strategies.engine.kmeans import k_means

ITERATIONS = 8
"""Of the clustering. Bounds hold for any centroids; more iterations save a few percent of the comparisons."""


@dataclass(frozen=True)
class Cells:
    """Centroids, and how far they are from one another."""

    centroids: NDArray[np.float32]
    """[c, d], about `origin`"""
    origin: NDArray[np.float32]
    """[d], which is taken off every row: far from zero, products in single precision would say little"""
    between: NDArray[np.float32]
    """distances [c, c]"""

    @classmethod
    def of(cls, sample: NDArray[np.float32], count: int, key: int) -> Self:
        """Cluster a sample of the rows that are to be compared.

        Args:
            sample: [n, d], n >= 1, as rows are compared: of unit length where the metric is the cosine.
            count: of cells, at most.
            key: of the randomness.

        Returns:
            The cells, the same for the same arguments.
        """
        clusters = k_means(sample, count, key, iterations=ITERATIONS)
        return cls.around(clusters.centroids)

    @classmethod
    def around(cls, centroids: NDArray[np.floating]) -> Self:
        """Make the cells of centroids.

        Args:
            centroids: [c, d], c >= 1.

        Returns:
            The cells.
        """
        origin = centroids.astype(np.float64).mean(0).astype(np.float32)
        about = (centroids - origin).astype(np.float32)
        wide = torch.from_numpy(about.astype(np.float64))
        between = torch.cdist(wide, wide, compute_mode="donot_use_mm_for_euclid_dist")
        return cls(about, origin, between.float().numpy())

    def __len__(self) -> int:
        return len(self.centroids)

    def within_reach(self, rows: NDArray[np.float32], radius: float) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Assign rows to cells, and find the cells that may hold a row within a radius of them. O(n c d).

        Args:
            rows: [n, d], about the origin.
            radius: a distance, at least 0.

        Returns:
            The cell of each row [n]; and bool [n, c], true for its own cell.
        """
        own, reach = np.empty(len(rows), np.int64), np.empty((len(rows), len(self)), bool)
        centroids, between = torch.from_numpy(self.centroids), torch.from_numpy(self.between)
        sq_centroids = (centroids.double() ** 2).sum(1)
        share = slack((centroids,))
        for piece in slices(len(rows), DRIVER_ROWS):
            some = torch.from_numpy(rows[piece])
            sq_rows = (some.double() ** 2).sum(1, keepdim=True)
            # |x - c|^2 - |x|^2: only differences of them are used. The error of each is a share of the two norms.
            values = sq_centroids.float() - (some @ centroids.T) * 2
            least, cell = values.min(1, keepdim=True)
            # Four errors: two values here, and the two by which a row of the other cell was assigned to it.
            error = 4 * share * (sq_rows + sq_centroids.max()).float()
            own[piece] = cell[:, 0].numpy()
            limit = between[cell[:, 0]] * (2 * radius * (1 + share)) + error
            reach[piece] = (values - least <= limit).numpy()
        return own, reach
