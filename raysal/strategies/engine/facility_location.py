"""Lazy greedy facility location: pick what raises the coverage of some rows most, without an n x n kernel.

A pick s covers a represented row n to the degree k(n, s), and a set of picks covers it as well as its best member does.
As picks are made, the gains of the other candidates only fall, because the coverage is submodular. So an old gain is an
upper bound, and a candidate whose bound cannot win need not be looked at (Minoux 1978). The picks are those of the
eager loop.

Kernels are computed in float64, in tiles of one shape: products in float32 take half the time, but their error of
1e-7 in a squared distance drowns a kernel narrower than 1e-3. Kernel values, and terms of a gain, are rounded to
multiples of a power of two, coarse enough that their sum is exact. So a gain does not depend on the order of rows,
threads or tiles, ties are ties (two rows that nothing else covers gain the same by one another), and what rounding
leaves between equal rows is zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.numerics import one_thread, padded, round_up, slices

ROWS_PER_TILE = 2048
"""Represented rows of a tile."""
CANDIDATES_PER_TILE = 64
"""Candidates, or centres, of a tile. The gains of that many are computed together; in tiles of 32 each takes a quarter
longer."""
CENTRES_PER_SMALL_TILE = 16
"""Centres of a tile where there are no more, as after a pick: it takes a quarter of the time of a whole tile."""
SUM_BITS = 51
"""Sums of terms stay below 2^51 times the number that the terms are multiples of. Whole numbers up to there are added
exactly in float64."""

COINCIDENT_UNITS = 1e-12
"""Squared distances between unit rows up to this are of equal rows, and rounding."""


class Kernel(Protocol):
    """How well a candidate covers a row."""

    def __call__(self, sq_distances: torch.Tensor) -> torch.Tensor:
        """Turn squared distances into similarities.

        Args:
            sq_distances: Float64 [candidates, rows]; may be overwritten.

        Returns:
            Float64 [candidates, rows], in [0, 1]; a similarity never rises with the distance.
        """
        ...


@dataclass(frozen=True)
class Gaussian:
    """exp(-(distance / sigma)^2), without the factor 1/2."""

    sigma: float

    def __call__(self, sq_distances: torch.Tensor) -> torch.Tensor:
        """As `Kernel`."""
        with one_thread():
            return sq_distances.div_(-(self.sigma**2)).exp_()


@dataclass(frozen=True)
class Ball:
    """1 where the distance is below `radius`, else 0."""

    radius: float

    def __call__(self, sq_distances: torch.Tensor) -> torch.Tensor:
        """As `Kernel`."""
        return (sq_distances < self.radius**2).double()


@dataclass(frozen=True, kw_only=True)
class Cover:
    """The picks of `facility_location`."""

    picks: NDArray[np.int64]
    """Rows of the candidates in pick order, at most k."""
    gains: NDArray[np.float64]
    """What each pick added to the coverage."""
    evaluations: int
    """How many gains were computed. The eager loop computes n for the first pick, n - 1 for the second, and so on."""
    covered: NDArray[np.float64]
    """How well each represented row is covered in the end, [g]."""


def facility_location(
    candidates: NDArray[np.float32],
    represented: NDArray[np.float32],
    weights: NDArray[np.float64],
    covered: NDArray[np.float64],
    kernel: Kernel,
    k: int,
) -> Cover:
    """Pick candidates one by one, each of the largest gain sum_n weights_n * max(kernel(n, s) - covered_n, 0).

    After each pick s, covered_n rises to kernel(n, s) where that is more. Ties go to the lower row. Time O(n g d) for
    the first gains, then O(g d) for each gain computed again; memory 8 g d + 4 n d bytes and a tile.

    Args:
        candidates: What may be picked, [n, d].
        represented: What is to be covered, [g, d].
        weights: Weights of the represented rows [g], >= 0 and finite.
        covered: How well each represented row is covered already [g], in [0, 1].
        kernel: How well a candidate covers a row.
        k: The most picks.

    Returns:
        The picks: fewer than k if no candidate gains anything any more. A term below g * max(weights) * 2^-52 counts as
        nothing.
    """
    rows = RepresentedRows(represented, weights, covered, kernel)
    bounds = np.empty(len(candidates))
    for own in slices(len(candidates), CANDIDATES_PER_TILE):
        bounds[own] = rows.gains(candidates[own])
    fresh = np.ones(len(candidates), bool)
    evaluations = len(candidates)
    picks: list[int] = []
    gains: list[float] = []
    while len(picks) < k:
        top = int(bounds.argmax())  # the first of equals
        if bounds[top] <= 0:
            break
        if fresh[top]:
            picks.append(top)
            gains.append(float(bounds[top]))
            bounds[top] = -1.0
            fresh[:] = False
            rows.cover(candidates[top : top + 1])
            continue
        waiting = np.where(fresh, -1.0, bounds)
        waiting[top] = np.inf
        some = np.sort(_largest(waiting, CANDIDATES_PER_TILE))
        some = some[waiting[some] > 0]
        bounds[some] = rows.gains(candidates[some])
        fresh[some] = True
        evaluations += len(some)
    return Cover(
        picks=np.array(picks, np.int64), gains=np.array(gains), evaluations=evaluations, covered=rows.covered.copy()
    )


def coverage(rows: NDArray[np.float32], centres: NDArray[np.float32], kernel: Kernel) -> NDArray[np.float64]:
    """Compute how well centres cover rows. O(g m d).

    Args:
        rows: [g, d].
        centres: [m, d].
        kernel: How well a centre covers a row.

    Returns:
        The largest kernel value of each row [g]; 0 without centres.
    """
    represented = RepresentedRows(rows, np.ones(len(rows)), np.zeros(len(rows)), kernel)
    for own in slices(len(centres), CANDIDATES_PER_TILE):
        represented.cover(centres[own])
    return represented.covered


def sq_distances(
    rows: NDArray[np.float32], centres: NDArray[np.float32]
) -> Iterator[tuple[slice, slice, NDArray[np.float64]]]:
    """Compute the squared distances between all centres and all rows, tile by tile.

    Args:
        rows: [g, d].
        centres: [m, d].

    Yields:
        (which centres, which rows, squared distances [centres, rows] between them).
    """
    tiles = TiledRows(rows)
    for own in slices(len(centres), CANDIDATES_PER_TILE):
        for first, tile in tiles.sq_distances(centres[own]):
            some = slice(first, min(first + ROWS_PER_TILE, len(rows)))
            yield own, some, tile[: own.stop - own.start, : some.stop - first].numpy()


class TiledRows:
    """Rows in float64, padded to whole tiles of one shape.

    Args:
        rows: [g, d], float32, or rows that were padded before.

    Attributes:
        features: Float64 [g rounded up to whole tiles and at least one, d rounded up], zero beyond the rows.
        sq_norms: Squared norms float64 of the features.
    """

    def __init__(self, rows: NDArray[np.float32] | torch.Tensor) -> None:
        self.width = round_up(rows.shape[1])
        self.features = padded(rows, self.width, torch.float64, rows=round_up(max(len(rows), 1), ROWS_PER_TILE))
        self.sq_norms = (self.features * self.features).sum(1)

    def sq_distances(
        self, some: NDArray[np.float32], columns: int = CANDIDATES_PER_TILE
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Compute squared distances of a few candidates or centres to the rows, tile by tile.

        Args:
            some: [at most `columns`, d].
            columns: First dimension of a tile.

        Yields:
            (first row of the tile, squared distances float64 [columns, ROWS_PER_TILE]). Values beyond `some`, and
            beyond the rows, have no meaning.
        """
        wide = padded(some, self.width, torch.float64, rows=columns)
        norms = (wide * wide).sum(1)[:, None]
        for own in slices(len(self.features), ROWS_PER_TILE):
            tile = torch.addmm(self.sq_norms[own], wide, self.features[own].T, alpha=-2)
            yield own.start, tile.add_(norms).clamp_min_(0)


class RepresentedRows:
    """Rows that are to be covered, and how well they are.

    Args:
        represented: [g, d].
        weights: [g], >= 0 and finite.
        covered: [g], in [0, 1].
        kernel: How well a candidate covers a row.

    Attributes:
        covered: How well each row is covered, float64 [g].
        grain: Kernel values are multiples of this power of two.
        quantum: Terms of a gain are multiples of this power of two.
        rows: Rows that may still gain, ascending; only these are kept in tiles.
    """

    def __init__(
        self,
        represented: NDArray[np.float32],
        weights: NDArray[np.float64],
        covered: NDArray[np.float64],
        kernel: Kernel,
    ) -> None:
        self.kernel = kernel
        count = len(represented)
        self.grain = math.ldexp(1.0, math.frexp(count)[1] - SUM_BITS)
        self.quantum = math.ldexp(1.0, math.frexp(float(weights.max(initial=0.0)) * count)[1] - SUM_BITS)
        self.covered: NDArray[np.float64] = rounded(torch.tensor(covered, dtype=torch.float64), self.grain).numpy()
        self._keep(np.arange(count), TiledRows(represented), weights)

    def _keep(self, rows: NDArray[np.int64], tiles: TiledRows, weights: NDArray[np.float64]) -> None:
        """Keep these rows [m] alone; their tiles and their weights [m] are given."""
        self.rows, self.tiles = rows, tiles
        self.weights = torch.zeros(len(tiles.features), dtype=torch.float64)
        self.weights[: len(rows)] = torch.from_numpy(weights)
        self.level = torch.ones(len(tiles.features), dtype=torch.float64)
        self.level[: len(rows)] = torch.from_numpy(self.covered[rows])

    def _similarities(self, some: NDArray[np.float32], columns: int) -> Iterator[tuple[slice, torch.Tensor]]:
        """(rows of a tile, the rounded values of the kernel), as `TiledRows.sq_distances`."""
        for first, tile in self.tiles.sq_distances(some, columns):
            yield slice(first, first + ROWS_PER_TILE), rounded(self.kernel(tile), self.grain)

    def gains(self, some: NDArray[np.float32]) -> NDArray[np.float64]:
        """Gains of at most CANDIDATES_PER_TILE candidates [m, d]: exact sums of the rounded terms, [m]."""
        total = torch.zeros(CANDIDATES_PER_TILE, dtype=torch.float64)
        for own, tile in self._similarities(some, CANDIDATES_PER_TILE):
            terms = tile.sub_(self.level[own]).clamp_min_(0).mul_(self.weights[own])
            total += rounded(terms, self.quantum).sum(1)
        return total[: len(some)].numpy()

    def cover(self, some: NDArray[np.float32]) -> None:
        """Raise the coverage to what at most CANDIDATES_PER_TILE centres give, and drop rows that can gain no more."""
        columns = CANDIDATES_PER_TILE if len(some) > CENTRES_PER_SMALL_TILE else CENTRES_PER_SMALL_TILE
        for own, tile in self._similarities(some, columns):
            level = self.level[own]
            torch.maximum(level, tile[: len(some)].amax(0), out=level)
        n = len(self.rows)
        self.covered[self.rows] = self.level[:n].numpy()
        left = (self.weights[:n] * (1 - self.level[:n]) > self.quantum / 2).numpy()
        if 2 * left.sum() <= n > ROWS_PER_TILE:
            kept = np.flatnonzero(left)
            self._keep(self.rows[kept], TiledRows(self.tiles.features[kept]), self.weights[kept].numpy())


def rounded(x: torch.Tensor, quantum: float) -> torch.Tensor:
    """Round x in place to the nearest multiple of a power of two.

    Args:
        x: Float64, |x| <= 2^51 times the power of two.
        quantum: The power of two.

    Returns:
        The rounded x: the sum with a large number has no digits for less.
    """
    shift = 1.5 * 2.0**52 * quantum
    return x.add_(shift).sub_(shift)


def _largest(values: NDArray[np.float64], m: int) -> NDArray[np.int64]:
    """Places of the m largest, in no order."""
    return np.argpartition(values, len(values) - m)[len(values) - m :] if len(values) > m else np.arange(len(values))
