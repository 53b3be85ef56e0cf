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

    Deterministic in its arguments, whatever the threads. Time O(n k d) an iteration, products in float32 about the
    mean, sums in float64; memory O(n d).

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
    whole = x.view(np.dtype((np.void, x.itemsize * x.shape[1])))[:, 0]
    _, first, inverse = np.unique(whole, return_index=True, return_inverse=True)
    # As they came, and not by their bytes: then neither the unit nor the origin of the vectors changes a seed.
    order = np.argsort(first)
    first, inverse = first[order], np.argsort(order)[inverse]
    mass = np.bincount(inverse, weights=np.ones(len(x)) if weights is None else _positive(weights)).astype(float)
    problem = _Problem(x[first], mass)
    k = min(k, len(first))
    centres = problem.points[problem.seeds(k, generator(key))].double()
    assignment, before = np.full(len(first), -1), np.inf
    for _ in range(iterations):
        previous = assignment
        assignment, gaps = problem.nearest(centres)
        objective = float((mass * gaps).sum())
        assignment = _without_empty(assignment, gaps, k)
        if np.array_equal(assignment, previous):
            break
        centres = problem.means(assignment, k)
        if before - objective < LEAST_IMPROVEMENT * before < np.inf:
            break
        before = objective
    return Clusters(
        assignment=assignment[inverse],
        centroids=centres[:, : x.shape[1]].numpy() + problem.mean,
        mass=np.bincount(assignment, weights=mass, minlength=k).astype(float),
    )


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
    sizes = np.bincount(assignment, minlength=k)
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
        for own in slices(self.n, DRIVER_ROWS):
            centred = (x[own] - self.mean).astype(np.float32)
            self.points[own, :d] = torch.from_numpy(centred)
            self.sq_norms[own] = (centred.astype(np.float64) ** 2).sum(1)

    def nearest(self, centres: torch.Tensor) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """(nearest centre, squared distance) of each row [n]; centres float64 [m, width]; ties to the first."""
        tiles = []
        for some in slices(len(centres), CENTRES_PER_PRODUCT):
            offsets = torch.full((round_up(some.stop - some.start),), torch.inf)
            offsets[: some.stop - some.start] = torch.from_numpy((centres[some].numpy() ** 2).sum(1))
            tiles.append((some.start, AlignedMatrix(centres[some], torch.float32), offsets))
        where = torch.empty(len(self.points), dtype=torch.int64)
        least = torch.full((len(self.points),), torch.inf)
        for own in slices(len(self.points), DRIVER_ROWS):
            for low, matrix, offsets in tiles:
                value, column = (offsets - 2 * matrix.padded_products(self.points[own])).min(1)
                better = value < least[own]
                where[own] = torch.where(better, column + low, where[own])
                least[own] = torch.where(better, value, least[own])
        return where[: self.n].numpy(), np.maximum(self.sq_norms + least[: self.n].double().numpy(), 0)

    def means(self, assignment: NDArray[np.int64], k: int) -> torch.Tensor:
        """Weighted means float64 [k, width] of the clusters."""
        sums = torch.zeros(k, self.points.shape[1], dtype=torch.float64)
        with one_thread():
            for own in slices(self.n, DRIVER_ROWS):
                weighted = self.points[own].double() * torch.from_numpy(self.mass[own, None])
                sums.index_add_(0, torch.from_numpy(assignment[own]), weighted)
        return sums / torch.from_numpy(np.bincount(assignment, weights=self.mass, minlength=k)[:, None])

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
        while True:
            gaps = np.minimum(gaps, self.nearest(self.points[fresh].double())[1])
            gaps[fresh] = 0
            if len(seeds) >= k:
                return np.array(seeds[:k], np.int64)
            weight = self.mass * gaps
            if weight.sum() == 0:  # too near one another for float32: any will do
                return np.concatenate([seeds, np.setdiff1d(np.arange(self.n), seeds)])[:k].astype(np.int64)
            sampled = self._sample(weight, rng.random(min(max(len(seeds), ALIGN), CENTRES_PER_PRODUCT)))
            fresh = self._kept(sampled, gaps[sampled], rng.random(len(sampled)))
            seeds = [*seeds, *fresh]

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
