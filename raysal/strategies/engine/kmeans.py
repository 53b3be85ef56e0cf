"""k-means in the driver, for strategies that pick one item per cluster: the same bits for any number of threads."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.numerics import ALIGN, DRIVER_ROWS, AlignedMatrix, one_thread, round_up, slices
from raysal.rng import generator

CENTRES_PER_PRODUCT = 256
"""Centres of one product, at most."""
ONE_THREAD_MULTIPLICATIONS = 2**30
"""Multiplications of one pass over all pairs of rows and centres. Below it one thread computes, because several would
spend longer waiting for one another."""
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
    x = np.ascontiguousarray(x, np.float32) + np.float32(0)  # no negative zeros: equal rows have equal bytes
    with one_thread() if x.size * k < ONE_THREAD_MULTIPLICATIONS else nullcontext():
        return _k_means(x, k, key, weights, iterations)


def _k_means(
    x: NDArray[np.float32], k: int, key: int, weights: NDArray[np.float64] | None, iterations: int
) -> Clusters:
    first, inverse = distinct_rows(x)
    mass = np.bincount(inverse, weights=np.ones(len(x)) if weights is None else _positive(weights)).astype(float)
    problem = _Problem(x[first], mass)
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


def hashes_of(words: NDArray[np.uint64], odd: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A hash of each row of words [n, d], with d odd numbers: unlike rows may share one, equal ones do."""
    return words @ odd


def distinct_rows(x: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct rows of x [n, d], in the order they came in. O(n d).

    Args:
        x: no negative zeros, so that equal rows have equal bytes.

    Returns:
        (the first of each [m], which of them each row is [n]).
    """
    odd = np.asarray(np.random.default_rng(0).integers(2**63, size=x.shape[1], dtype=np.uint64)) | np.uint64(1)
    hashes = np.empty(len(x), np.uint64)
    for own in slices(len(x), DRIVER_ROWS):
        hashes[own] = hashes_of(x[own].view(np.uint32).astype(np.uint64), odd)
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    if not np.array_equal(x[first[inverse]], x):  # two rows of one hash
        whole = x.view(np.dtype((np.void, x.itemsize * x.shape[1])))[:, 0]
        _, first, inverse = np.unique(whole, return_index=True, return_inverse=True)
    # As they came, and not by their bytes: then neither the unit nor the origin of the vectors changes a seed.
    order = np.argsort(first)
    return first[order], np.argsort(order)[inverse]


def nearest_to_centroids(x: NDArray[np.floating], clusters: Clusters, k: int) -> NDArray[np.int64]:
    """Take from each cluster its row nearest to the centroid, heaviest cluster first.

    With fewer clusters than k they are visited again, each for its next nearest row; with more, only the heaviest give
    one. Ties go to the lower row.

    Args:
        x: The rows that were clustered, [n, d], n >= k.
        clusters: Their clusters.
        k: How many rows to take.

    Returns:
        k distinct rows.
    """
    gaps = np.empty(len(x))
    for own in slices(len(x), DRIVER_ROWS):
        gaps[own] = ((x[own] - clusters.centroids[clusters.assignment[own]]) ** 2).sum(1)
    members = clusters.members()
    by_mass = sorted(range(len(clusters)), key=lambda c: (-clusters.mass[c], members[c][0]))
    return round_robin([members[c][np.argsort(gaps[members[c]], kind="stable")] for c in by_mass], k)


def round_robin(queues: list[NDArray[np.int64]], k: int) -> NDArray[np.int64]:
    """The first of each queue, then the second of each, and so on, until there are k."""
    depth = np.concatenate([np.arange(len(queue)) for queue in queues])
    return np.concatenate(queues)[np.argsort(depth, kind="stable")[:k]]


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
    tiles.
    """

    def __init__(self, x: NDArray[np.float32], mass: NDArray[np.float64]) -> None:
        self.n, d = x.shape
        self.mass = mass
        self.mean = np.zeros(d)
        for own in slices(self.n, DRIVER_ROWS):
            self.mean += (x[own] * mass[own, None]).sum(0)
        self.mean /= mass.sum()
        self.points = torch.zeros(round_up(self.n, DRIVER_ROWS), round_up(d))
        self.sq_norms = np.empty(self.n)
        self._some = torch.zeros(DRIVER_ROWS, round_up(d))
        for own in slices(self.n, DRIVER_ROWS):
            centred = (x[own] - self.mean).astype(np.float32)
            self.points[own, :d] = torch.from_numpy(centred)
            self.sq_norms[own] = (centred.astype(np.float64) ** 2).sum(1)

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
            room = torch.empty(DRIVER_ROWS, columns)
            tiles.append((some, AlignedMatrix(-2 * centres[some], torch.float32), offsets, room))
        count = self.n if rows is None else len(rows)
        where = torch.empty(count, dtype=torch.int64)
        least = torch.empty(count)
        for own in slices(count, DRIVER_ROWS):
            size = own.stop - own.start
            if rows is None:
                block = self.points[own.start : own.start + DRIVER_ROWS]
            else:
                block = self._some
                torch.index_select(self.points, 0, rows[own], out=block[:size])
            for some, matrix, offsets, room in tiles:
                values = matrix.padded_products(block, out=room)[:size].add_(offsets)
                if every is not None:
                    every[own, some] = values[:, : some.stop - some.start]
                value, column = values.min(1)
                if some.start == 0:
                    where[own], least[own] = column, value
                else:
                    better = value < least[own]
                    where[own] = torch.where(better, column + some.start, where[own])
                    least[own] = torch.where(better, value, least[own])
        norms = self.sq_norms if rows is None else self.sq_norms[rows.numpy()]
        return where.numpy(), np.maximum(norms + least.double().numpy(), 0)

    def sums(self, rows: NDArray[np.int64], clusters: NDArray[np.int64], k: int) -> torch.Tensor:
        """Weighted sums float64 [k, width] of some rows [r] by their clusters [r]."""
        sums = torch.zeros(k, self.points.shape[1], dtype=torch.float64)
        with one_thread():
            for own in slices(len(rows), DRIVER_ROWS):
                weighted = self.points[torch.from_numpy(rows[own])].double()
                weighted *= torch.from_numpy(self.mass[rows[own], None])
                sums.index_add_(0, torch.from_numpy(clusters[own]), weighted)
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
            self.below -= moved
            self.above += moved[self.where]
            least = (self.above.square() + 2 * self.error).sqrt_()
            self._look(centres, (self.below.amin(1) <= least).nonzero()[:, 0])
        self.centres = centres
        return self.where.numpy().copy()

    def _look(self, centres: torch.Tensor, rows: torch.Tensor | None) -> None:
        """Measure some rows, or all, against every centre."""
        some = slice(None) if rows is None else rows
        every = self.below if rows is None else self._room[: len(rows)]
        where = torch.from_numpy(self.problem.nearest(centres, rows, every)[0])
        error, places = self.error[some], torch.arange(len(where))
        every += self.sq_norms[some, None]
        self.above[some] = (every[places, where] + error).clamp_min_(0).sqrt_()
        every.sub_(error[:, None]).clamp_min_(0).sqrt_()
        every[places, where] = torch.inf
        self.where[some] = where
        if rows is not None:
            self.below[rows] = every


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
