"""k-means in the driver, for strategies that pick one item per cluster: the same bits for any number of threads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.numerics import (
    ALIGN,
    DRIVER_ROWS,
    AlignedMatrix,
    ceil_div,
    in_threads,
    one_thread,
    round_up,
    shared_out,
    slices,
)
from raysal.rng import generator
from raysal.strategies.engine.distinct import distinct_rows

R = TypeVar("R")

CENTRES_PER_PRODUCT = 256
"""Centres of one product, at most."""
LEAST_SHARE = 2**20
"""Numbers that a thread is given, at least. To hand work over takes 0.1 ms, as one pass over this many does."""
LEAST_IMPROVEMENT = 1e-4
"""Iterations stop when the objective falls by less than this share of it."""
BOUND_NUMBERS = 2**26
"""Rows times clusters up to which bounds on their distances are kept: 512 MB, half of them to measure in."""
LEAST_WEIGHT = 1e-9
"""Rows of smaller weight count as this share of the largest weight, so that every cluster has a mean."""


@dataclass(frozen=True, kw_only=True)
class Clusters:
    """Clusters of rows. None is empty, and each centroid is the weighted mean of its rows."""

    assignment: NDArray[np.int64]
    """Cluster of each row, [n]."""
    centroids: NDArray[np.float64]
    """[k', d]"""
    mass: NDArray[np.float64]
    """Total weight of each cluster, [k']."""

    def __len__(self) -> int:
        return len(self.centroids)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of rows of each cluster, [k']."""
        return np.bincount(self.assignment, minlength=len(self.centroids))

    def members(self) -> list[NDArray[np.int64]]:
        """The rows of each cluster, ascending."""
        order = np.argsort(self.assignment, kind="stable")
        return np.split(order, np.cumsum(self.sizes)[:-1])


def k_means(
    x: NDArray[np.floating], k: int, key: int, *, weights: NDArray[np.float64] | None = None, iterations: int = 30
) -> Clusters:
    """Cluster rows by Lloyd's iterations from a k-means++ start (Arthur & Vassilvitskii, SODA 2007).

    Minimizes the sum of weights * squared distance to the own centroid. Stops when no row moves, when the objective
    falls by less than `LEAST_IMPROVEMENT`, or after `iterations`. A cluster left empty takes the farthest row.

    Deterministic in its arguments, whatever the threads. Time O(n k d) an iteration at most: rows whose cluster cannot
    have changed are left out. Products in float32 about the mean, sums in float64; memory O(n d), and 8 n k bytes for
    bounds.

    Args:
        x: Rows [n, d], n >= 1. Equal rows share a cluster.
        k: Number of clusters, at most.
        key: Key of the start.
        weights: [n], >= 0; all 1 without them. Rows of weight 0 count next to nothing; if all are 0, all count alike.
        iterations: The most iterations.

    Returns:
        min(k, distinct rows) clusters.
    """
    threads = torch.get_num_threads()
    with one_thread():  # tiles of rows are shared out: threads that share each short call wait for one another
        return _k_means(np.ascontiguousarray(x, np.float32), k, key, weights, iterations, threads)


def _k_means(
    x: NDArray[np.float32], k: int, key: int, weights: NDArray[np.float64] | None, iterations: int, threads: int
) -> Clusters:
    first, inverse = distinct_rows(x, threads)
    mass = np.bincount(inverse, weights=np.ones(len(x)) if weights is None else _positive(weights)).astype(float)
    problem = _Problem(x if len(first) == len(x) else x[first], mass, threads)
    k = min(k, len(first))
    centres = problem.points[problem.seeds(k, generator(key))].double()
    nearest, sums = _Nearest(problem, k), _Sums(problem, k)
    assignment, before = np.full(len(first), -1), np.inf
    for _ in range(iterations):
        previous, assignment = assignment, nearest.to(centres)
        sums.update(assignment)
        objective = sums.objective(centres)
        if not np.bincount(assignment, minlength=k).all():
            assignment = _without_empty(assignment, problem.nearest(centres)[1], k)
            sums.update(assignment)
        if np.array_equal(assignment, previous):
            break
        centres = sums.means()
        if before - objective < LEAST_IMPROVEMENT * before < np.inf:
            break
        before = objective
    sums = _Sums(problem, k)  # added up anew: each row once
    sums.update(assignment)
    return Clusters(
        assignment=assignment[inverse],
        centroids=sums.means()[:, : x.shape[1]].numpy() + problem.mean,
        mass=sums.mass.numpy(),
    )


def _positive(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights above zero, so that every cluster has a mean."""
    most = weights.max()
    return np.maximum(weights, most * LEAST_WEIGHT) if most > 0 else np.ones_like(weights)


def _without_empty(assignment: NDArray[np.int64], gaps: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """Every cluster of k left empty takes the farthest row that is not alone. There are at least k rows."""
    assignment, sizes = assignment.copy(), np.bincount(assignment, minlength=k)
    empty = np.flatnonzero(sizes == 0).tolist()
    for row in np.argsort(-gaps, kind="stable") if empty else ():
        if sizes[assignment[row]] > 1:
            sizes[assignment[row]] -= 1
            assignment[row] = empty.pop(0)
            if not empty:
                break
    return assignment


class _Problem:
    """Distinct rows and their weights.

    The rows are taken about their weighted mean, where distances from products lose fewer digits, and padded to whole
    tiles. Threads share the tiles out.
    """

    def __init__(self, x: NDArray[np.float32], mass: NDArray[np.float64], threads: int) -> None:
        self.n, d = x.shape
        self.mass, self.threads = mass, threads
        tiles = [*slices(self.n, DRIVER_ROWS)]
        self.mean = np.zeros(d)
        for part in shared_out(lambda own: (x[own] * mass[own, None]).sum(0), tiles, threads):
            self.mean += part
        self.mean /= mass.sum()
        # NumPy's memory has large pages: the first touch of as much of torch's takes twice as long.
        self.points = torch.from_numpy(np.zeros((round_up(self.n, DRIVER_ROWS), round_up(d)), np.float32))
        self.sq_norms = np.empty(self.n)

        def centre(own: slice) -> None:
            centred = (x[own] - self.mean).astype(np.float32)
            self.points[own, :d] = torch.from_numpy(centred)
            self.sq_norms[own] = (centred.astype(np.float64) ** 2).sum(1)

        shared_out(centre, tiles, threads)

    def nearest(
        self, centres: torch.Tensor, rows: torch.Tensor | None = None, every: torch.Tensor | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Find the nearest centre of rows; ties go to the first.

        Args:
            centres: float64 [m, width].
            rows: which rows, int64 [r], instead of all.
            every: float32 [r, m], for the squared distances to all centres, less the squared norm of the row.

        Returns:
            (nearest centre, squared distance) of each row [r].
        """
        tiles = []
        for some in slices(len(centres), CENTRES_PER_PRODUCT):
            columns = round_up(some.stop - some.start)
            offsets = torch.full((columns,), torch.inf)
            offsets[: some.stop - some.start] = torch.from_numpy((centres[some].numpy() ** 2).sum(1))
            tiles.append((some, AlignedMatrix(-2 * centres[some], torch.float32), offsets))
        count = self.n if rows is None else len(rows)
        where = torch.empty(count, dtype=torch.int64)
        least = torch.empty(count)
        blocks = [*slices(count, DRIVER_ROWS)]
        left = iter(blocks)  # of a list: each goes to one thread

        def look() -> None:
            room = [torch.empty(DRIVER_ROWS, len(offsets)) for _, _, offsets in tiles]
            gathered = torch.zeros(0 if rows is None else DRIVER_ROWS, self.points.shape[1])
            for own in left:
                size = own.stop - own.start
                block = self.points[own.start : own.start + DRIVER_ROWS]
                if rows is not None:
                    block = gathered
                    torch.index_select(self.points, 0, rows[own], out=block[:size])
                for (some, matrix, offsets), products in zip(tiles, room, strict=True):
                    values = matrix.padded_products(block, out=products)[:size].add_(offsets)
                    if every is not None:
                        every[own, some] = values[:, : some.stop - some.start]
                    value, column = values.min(1)
                    if some.start == 0:
                        where[own], least[own] = column, value
                    else:
                        better = value < least[own]
                        where[own] = torch.where(better, column + some.start, where[own])
                        least[own] = torch.where(better, value, least[own])

        in_threads(look, min(self.threads, len(blocks)))
        norms = self.sq_norms if rows is None else self.sq_norms[rows.numpy()]
        return where.numpy(), np.maximum(norms + least.double().numpy(), 0)

    def sums(self, rows: NDArray[np.int64], clusters: NDArray[np.int64], k: int) -> torch.Tensor:
        """Weighted sums float64 [k, width] of some rows [r] by their clusters [r]."""
        width = self.points.shape[1]
        sums = torch.zeros(k, width, dtype=torch.float64)
        places, weights, own = (
            torch.from_numpy(rows),
            torch.from_numpy(self.mass[rows, None]),
            torch.from_numpy(clusters),
        )

        def add(columns: slice) -> None:  # threads share columns out, so that rows are added in their order
            for some in slices(len(rows), DRIVER_ROWS):
                weighted = self.points[places[some], columns].double().mul_(weights[some])
                sums[:, columns].index_add_(0, own[some], weighted)

        threads = self.threads if len(rows) * width > LEAST_SHARE else 1
        shared_out(add, [*slices(width, round_up(ceil_div(width, threads)))], threads)
        return sums

    def seeds(self, k: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Choose k distinct rows by D^2 sampling, many with one product.

        Rows are sampled by their distance to the seeds before the batch, and kept with the probability by which the
        seeds of the batch have shortened it since. That is rejection sampling, so each is sampled by its distance then.

        Args:
            k: Number of rows, at most n.
            rng: Where random numbers come from.

        Returns:
            The rows, int64 [k].
        """
        seeds = [self._sample(self.mass, rng.random(1))[0]]
        gaps = np.full(self.n, np.inf)
        fresh = seeds
        while len(seeds) < k:
            gaps = np.minimum(gaps, self.nearest(self.points[fresh].double())[1])
            gaps[fresh] = 0
            weight = self.mass * gaps
            if weight.sum() == 0:  # too near one another for float32: any will do
                return np.concatenate([seeds, np.setdiff1d(np.arange(self.n), seeds)])[:k].astype(np.int64)
            sampled = self._sample(weight, rng.random(min(max(len(seeds), ALIGN), CENTRES_PER_PRODUCT)))
            fresh = self._kept(sampled, gaps[sampled], rng.random(len(sampled)))
            seeds = [*seeds, *fresh]
        return np.array(seeds[:k], np.int64)

    def _sample(self, weight: NDArray[np.float64], uniform: NDArray[np.float64]) -> NDArray[np.int64]:
        """Rows in proportion to `weight`, one for each uniform number, repeats possible."""
        mass = np.cumsum(weight)
        last = int(np.flatnonzero(weight)[-1])
        rows: NDArray[np.int64] = np.searchsorted(mass, uniform * mass[-1], side="right").clip(max=last)
        return rows

    def _kept(self, sampled: NDArray[np.int64], before: NDArray[np.float64], uniform: NDArray[np.float64]) -> list[int]:
        """Those of the sampled rows that become seeds, in order; the first always does."""
        points = self.points[sampled].double()
        now, kept = before.copy(), []
        for i, row in enumerate(sampled.tolist()):
            if uniform[i] * before[i] < now[i]:
                kept.append(row)
                now = np.minimum(now, ((points - points[i]).numpy() ** 2).sum(1))
        return kept


class _Nearest:
    """Nearest centres of all rows, for centres that move little: rows whose nearest cannot have changed are left out.

    A centre that moved by m is at most m nearer (Elkan, ICML 2003). The bounds allow for the rounding of products in
    float32, so the centres are those of a look at every row.

    Args:
        problem: the rows.
        k: number of centres.
    """

    def __init__(self, problem: _Problem, k: int) -> None:
        self.problem = problem
        self.keeps = problem.n * k <= BOUND_NUMBERS
        norms = torch.from_numpy(problem.sq_norms).sqrt()
        self.radius = float(norms.max())
        share = 2 * (problem.points.shape[1] + ALIGN) * 2.0**-24
        self.error = (share * (norms + self.radius) ** 2).float()
        """How far the squared distances of a row may be off, float32 [n]; twice what they can be."""
        self.below = torch.empty(problem.n, k) if self.keeps else torch.empty(0)
        """At most the distance of each row to each centre but its own, where it is infinite, float32 [n, k]."""
        self.above = torch.empty(problem.n)
        """At least the distance of each row to its own centre, float32 [n]."""
        self.where = torch.empty(problem.n, dtype=torch.int64)
        self.sq_norms = torch.from_numpy(problem.sq_norms).float()
        self.centres: torch.Tensor | None = None
        self._room = torch.empty_like(self.below)

    def to(self, centres: torch.Tensor) -> NDArray[np.int64]:
        """The nearest of the centres, float64 [k, width], to each row, [n]."""
        if not self.keeps:
            return self.problem.nearest(centres)[0]
        if self.centres is None:
            self._look(centres, None)
        else:
            # More than it is, by what a float32 loses each time.
            moved = ((centres - self.centres).square().sum(1).sqrt() * (1 + 1e-6) + 1e-6 * self.radius).float()

            def doubtful(own: slice) -> torch.Tensor:
                below, above = self.below[own].sub_(moved), self.above[own].add_(moved[self.where[own]])
                least = (above.square() + 2 * self.error[own]).sqrt_()
                rows: torch.Tensor = (below.amin(1) <= least).nonzero()[:, 0] + own.start
                return rows

            self._look(centres, torch.cat(self._shared_out(doubtful, len(self.where))))
        self.centres = centres
        return self.where.numpy().copy()

    def _look(self, centres: torch.Tensor, rows: torch.Tensor | None) -> None:
        """Measure some rows, or all, against every centre."""
        every = self.below if rows is None else self._room[: len(rows)]
        where = torch.from_numpy(self.problem.nearest(centres, rows, every)[0])

        def bound(own: slice) -> None:
            some = own if rows is None else rows[own]
            gaps, error, places = every[own], self.error[some], torch.arange(own.stop - own.start)
            gaps += self.sq_norms[some, None]
            self.above[some] = (gaps[places, where[own]] + error).clamp_min_(0).sqrt_()
            gaps.sub_(error[:, None]).clamp_min_(0).sqrt_()
            gaps[places, where[own]] = torch.inf
            self.where[some] = where[own]
            if rows is not None:
                self.below[some] = gaps

        self._shared_out(bound, len(where))

    def _shared_out(self, work: Callable[[slice], R], rows: int) -> list[R]:
        """Do elementwise work for runs of rows, in several threads where there is enough for each."""
        least = ceil_div(LEAST_SHARE, self.below.shape[1])
        return shared_out(work, [*slices(rows, max(ceil_div(rows, self.problem.threads), least))], self.problem.threads)


class _Sums:
    """Weighted sums of the rows of each cluster, brought up to date by the rows that moved.

    Args:
        problem: the rows.
        k: number of clusters.
    """

    def __init__(self, problem: _Problem, k: int) -> None:
        self.problem, self.k, self.assignment = problem, k, np.empty(0, np.int64)
        self.total = float((problem.mass * problem.sq_norms).sum())
        self.sums = self.mass = torch.empty(0)

    def update(self, assignment: NDArray[np.int64]) -> None:
        """Take the rows' clusters [n] as they are now."""
        if not len(self.assignment):
            self.sums = self.problem.sums(np.arange(len(assignment)), assignment, self.k)
        else:
            moved = np.flatnonzero(assignment != self.assignment)
            for clusters, sign in ((self.assignment[moved], -1), (assignment[moved], 1)):
                self.sums += sign * self.problem.sums(moved, clusters, self.k)
        self.mass = torch.from_numpy(np.bincount(assignment, weights=self.problem.mass, minlength=self.k))
        self.assignment = assignment

    def means(self) -> torch.Tensor:
        """Weighted means of the clusters, float64 [k, width]."""
        return self.sums / self.mass[:, None]

    def objective(self, centres: torch.Tensor) -> float:
        """Weighted sum of the squared distances of all rows to the centres [k, width] of their clusters."""
        return max(self.total + float((centres * (self.mass[:, None] * centres - 2 * self.sums)).sum()), 0.0)
