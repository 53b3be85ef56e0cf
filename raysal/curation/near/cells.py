"""Cells around centroids: by proven bounds, most pairs of rows need not be compared, and none that is near is missed.

A row lies in the cell of its nearest centroid. Between the cells i and j there is the plane of points that are as far
from one centroid as from the other. A point x of cell i is (|x - c_j|^2 - |x - c_i|^2) / (2 |c_i - c_j|) away from it,
and every point of cell j lies beyond it. So if x is within r of a point of cell j, it is at most r away from the plane:
otherwise x need not be compared with any row of j. By the same rule from the other side, where it must be compared with
some, it need not be with most of them (generalised hyperplanes: Uhlmann 1991; joins by them: Jacox & Samet 2008).

Rows are turned to their main axes first: then some leading numbers hold most of a distance, and a product of these
alone bounds it from below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.numerics import DRIVER_ROWS, one_thread, round_up, slices
from raysal.strategies.engine.distances import slack
from raysal.strategies.engine.kmeans import k_means

ITERATIONS = 8
"""Of the clustering. Bounds hold for any centroids; more iterations save a few percent of the comparisons."""
LEADING_SHARE = 0.95
"""Share of the variance that the leading numbers of a row hold. With 0.9 four times as many pairs are left to look at
again, with 0.98 the products take twice the time (256 numbers of images)."""


@dataclass(frozen=True)
class Cells:
    """Centroids, how far they are from one another, and the axes that rows are turned to."""

    centroids: NDArray[np.float32]
    """[c, d], turned"""
    origin: NDArray[np.float32]
    """[d], which is taken off every row: far from zero, products in single precision would say little"""
    axes: NDArray[np.float32]
    """[d, d], orthogonal up to rounding; columns by falling variance"""
    leading: int
    """how many axes hold `LEADING_SHARE` of the variance, rounded up"""
    between: NDArray[np.float32]
    """distances of centroids [c, c]"""

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
        origin = sample.astype(np.float64).mean(0).astype(np.float32)
        about = (sample - origin).astype(np.float64)
        with one_thread(numpy=True):
            variance, axes = np.linalg.eigh(about.T @ about)
        turned = (sample - origin) @ axes[:, ::-1].astype(np.float32)
        share = np.cumsum(np.maximum(variance[::-1], 0))
        enough = int(np.searchsorted(share, LEADING_SHARE * share[-1])) + 1
        centroids = k_means(turned, count, key, iterations=ITERATIONS).centroids
        leading = min(round_up(enough), sample.shape[1])
        return cls.around(centroids.astype(np.float32), origin, axes[:, ::-1].astype(np.float32), leading)

    @classmethod
    def around(
        cls,
        centroids: NDArray[np.float32],
        origin: NDArray[np.float32],
        axes: NDArray[np.float32],
        leading: int,
    ) -> Self:
        """Make the cells of centroids.

        Args:
            centroids: [c, d], c >= 1, turned.
            origin: [d].
            axes: [d, d].
            leading: how many of them.

        Returns:
            The cells.
        """
        wide = torch.from_numpy(centroids.astype(np.float64))
        between = torch.cdist(wide, wide, compute_mode="donot_use_mm_for_euclid_dist")
        return cls(centroids, origin, np.ascontiguousarray(axes), leading, between.float().numpy())

    def __len__(self) -> int:
        return len(self.centroids)

    def turned(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rows about the origin, turned to the axes. O(n d^2).

        Args:
            rows: [n, d].

        Returns:
            [n, d]. Distances are off by `rounding` at most.
        """
        out = np.empty_like(rows)
        axes = torch.from_numpy(self.axes)
        for piece in slices(len(rows), DRIVER_ROWS):
            out[piece] = (torch.from_numpy(rows[piece] - self.origin) @ axes).numpy()
        return out

    def rounding(self, largest: float) -> float:
        """By how much the distance of two turned rows is off, at most.

        A product of a row with d axes errs in each number by d u |x| (Higham 2002, section 3.1), so by d^1.5 u |x| in
        length; the axes themselves are rounded, and orthogonal, up to a few u d.

        Args:
            largest: length of a row about the origin, at most.

        Returns:
            A bound on the error.
        """
        d = len(self.origin)
        return 2 * largest * (d * math.sqrt(d) + 16 * d) * math.ldexp(1.0, -24)

    def assigned(self, rows: NDArray[np.float32]) -> NDArray[np.int64]:
        """The cell of each row. O(n c d).

        Args:
            rows: [n, d], turned.

        Returns:
            [n]. A row may be in a cell whose centroid is not nearer than another one, up to rounding.
        """
        cell = np.empty(len(rows), np.int64)
        for piece in slices(len(rows), DRIVER_ROWS):
            cell[piece] = self._values(torch.from_numpy(rows[piece])).argmin(1).numpy()
        return cell

    def within_reach(self, rows: torch.Tensor, cell: int, radius: float) -> NDArray[np.bool_]:
        """The cells that may hold a row within a radius of rows of one cell. O(n c d).

        Args:
            rows: [n, d], turned, all of them in the cell.
            cell: which one.
            radius: a distance, at least 0.

        Returns:
            bool [c, n], true for their own cell.
        """
        values, share = self._values(rows), slack((rows,))
        sq_rows, sq_centroids = (rows * rows).sum(1), float((self.centroids.astype(np.float64) ** 2).sum(1).max())
        # Four errors: two values here, and the two by which a row of the other cell was assigned to it.
        error = 8 * share * (sq_rows * (1 + share) + sq_centroids)
        limit = torch.from_numpy(self.between[cell]) * (2 * radius * (1 + share))
        reached = values - (values[:, cell] + error)[:, None] <= limit
        return reached.T.contiguous().numpy()

    def few_within_reach(
        self, rows: torch.Tensor, cell: NDArray[np.int64], few: int, radius: float
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of the nearest cells of each row those that may hold a row within a radius. O(n c d).

        Args:
            rows: [n, d], turned.
            cell: of each row, [n].
            few: how many cells are looked at for a row, its own included.
            radius: a distance, at least 0.

        Returns:
            Cells and positions of rows of all pairs [p], by row.
        """
        few = min(few, len(self))
        found, share = [], slack((rows,))
        sq_centroids = float((self.centroids.astype(np.float64) ** 2).sum(1).max())
        for piece in slices(len(rows), DRIVER_ROWS):
            values, own = self._values(rows[piece]), torch.from_numpy(cell[piece])
            least, nearest = values.topk(few, dim=1, largest=False)
            error = 8 * share * (rows[piece].square().sum(1) * (1 + share) + sq_centroids)
            limit = torch.from_numpy(self.between)[own[:, None], nearest] * (2 * radius * (1 + share))
            reached = least - (values.gather(1, own[:, None]) + error[:, None]) <= limit
            reached |= nearest == own[:, None]
            row, column = reached.nonzero(as_tuple=True)
            found.append((nearest[row, column].numpy(), row.numpy() + piece.start))
        empty = np.empty(0, np.int64)
        return tuple(np.concatenate([empty, *(pair[side] for pair in found)]) for side in (0, 1))  # type: ignore[return-value]

    def _values(self, rows: torch.Tensor) -> torch.Tensor:
        """|x - c|^2 - |x|^2 of turned rows: only differences of them are used. Errors are a share of the two norms."""
        centroids = torch.from_numpy(self.centroids)
        return (centroids.double() ** 2).sum(1).float() - (rows @ centroids.T) * 2
