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
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Self

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
MOST_REACHED = 0.5
"""Share of the cells that rows reach, above which it saves nothing to list them: of 300,000 jittered copies of one row,
each of which reaches all cells, the lists took most of the time."""
SEEN = 2**13
"""Rows after which that is told."""


@dataclass(frozen=True)
class Cells:
    """Centroids, and the axes that rows are turned to."""

    centroids: NDArray[np.float32]
    """[c, d], turned"""
    origin: NDArray[np.float32]
    """[d], which is taken off every row: far from zero, products in single precision would say little"""
    axes: NDArray[np.float32]
    """[d, d], orthogonal up to rounding; columns by falling variance"""
    leading: int
    """how many axes hold `LEADING_SHARE` of the variance, rounded up"""

    @classmethod
    def of(cls, sample: NDArray[np.float32], count: int, key: int, *, iterations: int = ITERATIONS) -> Self:
        """Cluster a sample of the rows that are to be compared.

        Args:
            sample: [n, d], n >= 1, as rows are compared: of unit length where the metric is the cosine.
            count: of cells, at most.
            key: of the randomness.
            iterations: of the clustering.

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
        centroids = k_means(turned, count, key, iterations=iterations).centroids
        leading = min(round_up(enough), sample.shape[1])
        return cls(centroids.astype(np.float32), origin, axes[:, ::-1].astype(np.float32, order="C"), leading)

    def __len__(self) -> int:
        return len(self.centroids)

    @cached_property
    def between(self) -> NDArray[np.float32]:
        """Distances of centroids [c, c]."""
        wide = torch.from_numpy(self.centroids.astype(np.float64))
        distances: NDArray[np.float32] = (
            torch.cdist(wide, wide, compute_mode="donot_use_mm_for_euclid_dist").float().numpy()
        )
        return distances

    def only(self, cells: NDArray[np.bool_]) -> Cells:
        """Some of them [c], with the same axes."""
        return replace(self, centroids=self.centroids[cells])

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

    def placed(self, rows: torch.Tensor, radius: float) -> tuple[NDArray[np.int64], Reached | None]:
        """The cell of each row, and the cells that may hold a row within a radius of it. O(n c d).

        Args:
            rows: [n, d], turned.
            radius: a distance, at least 0.

        Returns:
            The cells [n], and those that are reached, their own among them; None where most are. A row may be in a cell
            whose centroid is not nearer than another one, up to rounding.
        """
        cells, found, share = [np.empty(0, np.int64)], [Reached.nothing()], slack((rows,))
        sq_centroids = float((self.centroids.astype(np.float64) ** 2).sum(1).max())
        limits = torch.from_numpy(self.between) * (2 * radius * (1 + share))
        columns = torch.from_numpy(self.centroids).T
        offsets = (torch.from_numpy(self.centroids).double() ** 2).sum(1).float()
        reached_in_all, listed = 0, True
        for piece in slices(len(rows), DRIVER_ROWS):
            # |x - c|^2 - |x|^2: only differences of them are used. Errors are a share of the two norms.
            values = torch.addmm(offsets, rows[piece], columns, alpha=-2)
            least, own = values.min(1)
            cells.append(own.numpy())
            if not listed:
                continue
            # Four errors: two values here, and the two by which a row of the other cell was assigned to it.
            error = 8 * share * (rows[piece].square().sum(1) * (1 + share) + sq_centroids)
            least += error
            values -= least[:, None]
            reached = values <= limits.index_select(0, own)
            row, column = np.divmod(np.flatnonzero(reached.numpy()), len(self))
            found.append(Reached((row + piece.start).astype(np.int32), column.astype(np.int16)))
            reached_in_all += len(row)
            told = piece.stop == len(rows) or piece.stop >= SEEN
            listed = not told or reached_in_all <= MOST_REACHED * piece.stop * len(self)
        joined = Reached(*(np.concatenate(side) for side in zip(*found, strict=True))) if listed else None
        return np.concatenate(cells), joined


class Reached(NamedTuple):
    """Pairs of a row, and of a cell that may hold a row within some radius of it."""

    row: NDArray[np.int32]
    """[r], ascending"""
    cell: NDArray[np.int16]
    """[r]"""

    @classmethod
    def nothing(cls) -> Self:
        """No pair."""
        return cls(np.empty(0, np.int32), np.empty(0, np.int16))

    def cells_of(self, cell: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
        """The cells that some row of a cell reaches, [c, c].

        Args:
            cell: of each row, [n].
            count: c.

        Returns:
            bool.
        """
        reaches = np.zeros((count, count), bool)
        reaches[cell[self.row], self.cell] = True
        return reaches
