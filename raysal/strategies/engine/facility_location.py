"""Lazy greedy facility location: pick what raises the coverage of a ground set most, without an n x n kernel.

A pick covers ground row n to the degree k(n, pick); a set covers it as well as its best member. Gains then only fall as
picks are made (the coverage is submodular), so a stale gain is an upper bound, and a candidate whose bound cannot win
need not be looked at (Minoux 1978). The picks are those of the eager loop.

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

from raysal.numerics import one_thread, padded, round_up

GROUND_ROWS = 2048
"""Ground rows of a tile."""
CANDIDATES = 64
"""Candidates of a tile: as many as are refreshed at once. Products of 32 take a quarter longer each."""
FEW_CENTRES = 16
"""Centres of a narrower tile, for a pick to cover the ground set by: a quarter of the time."""


class Kernel(Protocol):
    """How well a candidate covers a ground row: from squared distances [CANDIDATES, GROUND_ROWS] to similarities.

    They are in [0, 1] and never rise with distance. May overwrite its argument.
    """

    def __call__(self, sq_distances: torch.Tensor) -> torch.Tensor: ...


@dataclass(frozen=True)
class Gaussian:
    """exp(-(distance / sigma)^2), without the factor 1/2."""

    sigma: float

    def __call__(self, sq_distances: torch.Tensor) -> torch.Tensor:
        with one_thread():
            return sq_distances.div_(-(self.sigma**2)).exp_()


@dataclass(frozen=True)
class Ball:
    """1 where the distance is below `radius`, else 0."""

    radius: float

    def __call__(self, sq_distances: torch.Tensor) -> torch.Tensor:
        return (sq_distances < self.radius**2).double()


@dataclass(frozen=True, kw_only=True)
class Cover:
    """Picked rows [at most k] in pick order, what each added to the coverage, how many gains were computed (the eager
    loop computes n for the first pick, n - 1 for the second ...), and the coverage [g] of the ground rows at the end.
    """

    picks: NDArray[np.int64]
    gains: NDArray[np.float64]
    evaluations: int
    covered: NDArray[np.float64]


def facility_location(
    candidates: NDArray[np.float32],
    ground: NDArray[np.float32],
    weights: NDArray[np.float64],
    covered: NDArray[np.float64],
    kernel: Kernel,
    k: int,
) -> Cover:
    """Up to k rows of candidates [n, d], each of the largest gain sum_n weights_n * max(kernel(n, s) - covered_n, 0),
    after which covered_n rises to kernel(n, s). Ties go to the lower row.

    ground [g, d] is what is to be covered, weights [g] >= 0 and finite, covered [g] in [0, 1] how well each row is
    covered already. Ends early once no candidate gains anything: below g * max(weights) * 2^-52 a term is nothing.

    Time O(n g d) for the first gains, then O(g d) for each gain computed again; memory 8 g d + 4 n d bytes and a tile.
    """
    task = Ground(ground, weights, covered, kernel)
    bounds = np.empty(len(candidates))
    for start in range(0, len(candidates), CANDIDATES):
        bounds[start : start + CANDIDATES] = task.gains(candidates[start : start + CANDIDATES])
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
            task.cover(candidates[top : top + 1])
            continue
        waiting = np.where(fresh, -1.0, bounds)
        waiting[top] = np.inf
        some = np.sort(_largest(waiting, CANDIDATES))
        some = some[waiting[some] > 0]
        bounds[some] = task.gains(candidates[some])
        fresh[some] = True
        evaluations += len(some)
    return Cover(
        picks=np.array(picks, np.int64), gains=np.array(gains), evaluations=evaluations, covered=task.covered.copy()
    )


def coverage(ground: NDArray[np.float32], centres: NDArray[np.float32], kernel: Kernel) -> NDArray[np.float64]:
    """How well the centres [m, d] cover each row of ground [g, d]: the largest kernel value, 0 without centres.
    O(g m d)."""
    task = Ground(ground, np.ones(len(ground)), np.zeros(len(ground)), kernel)
    for start in range(0, len(centres), CANDIDATES):
        task.cover(centres[start : start + CANDIDATES])
    return task.covered


def sq_distances(
    ground: NDArray[np.float32], centres: NDArray[np.float32]
) -> Iterator[tuple[slice, slice, NDArray[np.float64]]]:
    """(rows of centres, rows of ground, squared distances [centres, ground] between them), tile by tile."""
    task = Ground(ground, np.ones(len(ground)), np.zeros(len(ground)), Ball(0.0))
    for start in range(0, len(centres), CANDIDATES):
        some = centres[start : start + CANDIDATES]
        for first, tile in task.gaps(some):
            own = slice(first, min(first + GROUND_ROWS, len(ground)))
            yield slice(start, start + len(some)), own, tile[: len(some), : own.stop - first].numpy()


class Ground:
    """Ground rows in float64, padded to whole tiles with rows of weight 0, and how well they are covered."""

    def __init__(
        self,
        ground: NDArray[np.float32],
        weights: NDArray[np.float64],
        covered: NDArray[np.float64],
        kernel: Kernel,
    ) -> None:
        self.kernel = kernel
        # No sum of terms reaches 2^51 quanta, and whole numbers up to there are added exactly.
        self.grain = math.ldexp(1.0, math.frexp(len(ground))[1] - 51)
        self.quantum = math.ldexp(1.0, math.frexp(float(weights.max(initial=0.0)) * len(ground))[1] - 51)
        self.covered: NDArray[np.float64] = rounded(torch.tensor(covered, dtype=torch.float64), self.grain).numpy()
        self.width = round_up(ground.shape[1])
        self._lay_out(np.arange(len(ground)), self._whole_tiles(ground), weights)

    def _whole_tiles(self, x: NDArray[np.float32] | torch.Tensor) -> torch.Tensor:
        """x [n, d] as float64, n rounded up to whole tiles, at least one."""
        return padded(x, self.width, torch.float64, rows=round_up(max(len(x), 1), GROUND_ROWS))

    def _lay_out(self, rows: NDArray[np.int64], features: torch.Tensor, weights: NDArray[np.float64]) -> None:
        """Hold `rows` of the ground set, whose padded features [.., width] and weights [len(rows)] are given."""
        self.rows, self.features = rows, features
        self.sq_norms = (features * features).sum(1)
        self.weights = torch.zeros(len(features), dtype=torch.float64)
        self.weights[: len(rows)] = torch.from_numpy(weights)
        self.level = torch.ones(len(features), dtype=torch.float64)
        self.level[: len(rows)] = torch.from_numpy(self.covered[rows])

    def gaps(self, some: NDArray[np.float32], columns: int = CANDIDATES) -> Iterator[tuple[int, torch.Tensor]]:
        """(first ground row, squared distances [columns, GROUND_ROWS]) of at most `columns` candidates, run by run.

        What is beyond the candidates and the ground rows is of no meaning.
        """
        wide = padded(some, self.width, torch.float64, rows=columns)
        norms = (wide * wide).sum(1)[:, None]
        for first in range(0, len(self.features), GROUND_ROWS):
            own = slice(first, first + GROUND_ROWS)
            tile = torch.addmm(self.sq_norms[own], wide, self.features[own].T, alpha=-2)
            yield first, tile.add_(norms).clamp_min_(0)

    def tiles(self, some: NDArray[np.float32], columns: int = CANDIDATES) -> Iterator[tuple[int, torch.Tensor]]:
        """As `gaps`, the rounded values of the kernel."""
        for first, tile in self.gaps(some, columns):
            yield first, rounded(self.kernel(tile), self.grain)

    def gains(self, some: NDArray[np.float32]) -> NDArray[np.float64]:
        """Exact sums of the rounded terms, for at most CANDIDATES candidates."""
        total = torch.zeros(CANDIDATES, dtype=torch.float64)
        for first, tile in self.tiles(some):
            own = slice(first, first + GROUND_ROWS)
            terms = tile.sub_(self.level[own]).clamp_min_(0).mul_(self.weights[own])
            total += rounded(terms, self.quantum).sum(1)
        return total[: len(some)].numpy()

    def cover(self, some: NDArray[np.float32]) -> None:
        """Raise the coverage to what at most CANDIDATES centres give, and let go of the rows that can gain no more."""
        for first, tile in self.tiles(some, CANDIDATES if len(some) > FEW_CENTRES else FEW_CENTRES):
            level = self.level[first : first + GROUND_ROWS]
            torch.maximum(level, tile[: len(some)].amax(0), out=level)
        n = len(self.rows)
        self.covered[self.rows] = self.level[:n].numpy()
        left = (self.weights[:n] * (1 - self.level[:n]) > self.quantum / 2).numpy()
        if 2 * left.sum() <= n > GROUND_ROWS:
            kept = np.flatnonzero(left)
            features = self._whole_tiles(self.features[kept])
            self._lay_out(self.rows[kept], features, self.weights[kept].numpy())


def rounded(x: torch.Tensor, quantum: float) -> torch.Tensor:
    """x in place to the nearest multiple of a power of two, |x| <= 2^51 of it: the sum has no digits for less."""
    shift = 1.5 * 2.0**52 * quantum
    return x.add_(shift).sub_(shift)


def _largest(values: NDArray[np.float64], m: int) -> NDArray[np.int64]:
    """Places of the m largest, in no order."""
    return np.argpartition(values, len(values) - m)[len(values) - m :] if len(values) > m else np.arange(len(values))
