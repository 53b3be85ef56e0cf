"""k-means in the driver, for rules that pick one item per cluster: the same bits for any number of threads."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.numerics import ALIGN, DRIVER_ROWS, AlignedMatrix, one_thread, round_up
from raysal.rng import generator

CENTRES = 256
"""Centres of a product, at most."""
THREADS_PAY = 2**30
"""Multiplications of a pass over all pairs below which threads spend longer waiting for one another."""
ENOUGH = 1e-4
"""Iterations stop when the objective falls by less than this share."""


@dataclass(frozen=True, kw_only=True)
class Clusters:
    """assignment int64 [n] of rows to clusters, centroids float64 [k', d], total weight of each cluster [k'].

    No cluster is empty; centroids are the weighted means of their rows.
    """

    assignment: NDArray[np.int64]
    centroids: NDArray[np.float64]
    mass: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.centroids)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Rows of each cluster [k']."""
        return np.bincount(self.assignment, minlength=len(self.centroids))

    def members(self) -> list[NDArray[np.int64]]:
        """The rows of each cluster, ascending."""
        order = np.argsort(self.assignment, kind="stable")
        return np.split(order, np.cumsum(self.sizes)[:-1])


def k_means(
    x: NDArray[np.floating], k: int, key: int, *, weights: NDArray[np.float64] | None = None, iterations: int = 30
) -> Clusters:
    """min(k, distinct rows) clusters of the rows of x [n, d], n >= 1, by Lloyd's iterations from a k-means++ start.

    Minimizes sum of weights * squared distance to the own centroid. Seeds are drawn by D^2 sampling (Arthur &
    Vassilvitskii, SODA 2007). Stops when no row moves, when the objective falls by less than `ENOUGH`, or after
    `iterations`. A cluster left empty takes the farthest row. Rows of weight 0 count next to nothing; if all are 0,
    all count alike. Equal rows share a cluster.

    Deterministic in its arguments, whatever the threads. Time O(n k d) an iteration, products in float32 about the
    mean, sums in float64; memory O(n d).
    """
    x = np.ascontiguousarray(x, np.float32) + np.float32(0)  # no negative zeros: equal rows have equal bytes
    with one_thread() if x.size * k < THREADS_PAY else nullcontext():
        return _k_means(x, k, key, weights, iterations)


def _k_means(
    x: NDArray[np.float32], k: int, key: int, weights: NDArray[np.float64] | None, iterations: int
) -> Clusters:
    whole = x.view(np.dtype((np.void, x.itemsize * x.shape[1])))[:, 0]
    _, first, inverse = np.unique(whole, return_index=True, return_inverse=True)
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
        if before - objective < ENOUGH * before < np.inf:
            break
        before = objective
    return Clusters(
        assignment=assignment[inverse],
        centroids=centres[:, : x.shape[1]].numpy() + problem.mean,
        mass=np.bincount(assignment, weights=mass, minlength=k).astype(float),
    )


def nearest_to_centroids(x: NDArray[np.floating], clusters: Clusters, k: int) -> NDArray[np.int64]:
    """k distinct rows of x [n, d], n >= k: of each cluster its row nearest to the centroid, heaviest cluster first.

    With fewer clusters than k they are visited again, each for its next nearest row; with more, the heaviest give
    one. Ties go to the lower row.
    """
    gaps = np.empty(len(x))
    for start in range(0, len(x), DRIVER_ROWS):
        own = slice(start, start + DRIVER_ROWS)
        gaps[own] = ((x[own] - clusters.centroids[clusters.assignment[own]]) ** 2).sum(1)
    members = clusters.members()
    by_mass = sorted(range(len(clusters)), key=lambda c: (-clusters.mass[c], members[c][0]))
    return in_turn([members[c][np.argsort(gaps[members[c]], kind="stable")] for c in by_mass], k)


def in_turn(queues: list[NDArray[np.int64]], k: int) -> NDArray[np.int64]:
    """The first of each queue, then the second of each, and so on, until there are k."""
    depth = np.concatenate([np.arange(len(queue)) for queue in queues])
    return np.concatenate(queues)[np.argsort(depth, kind="stable")[:k]]


def _positive(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights above zero, so that every cluster has a mean."""
    most = weights.max()
    return np.maximum(weights, most * 1e-9) if most > 0 else np.ones_like(weights)


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
    """Distinct rows about their weighted mean (distances from products lose fewer digits there), padded to whole
    tiles, and their weights."""

    def __init__(self, x: NDArray[np.float32], mass: NDArray[np.float64]) -> None:
        self.n, d = x.shape
        self.mass = mass
        self.mean = np.zeros(d)
        for start in range(0, self.n, DRIVER_ROWS):
            own = slice(start, start + DRIVER_ROWS)
            self.mean += (x[own] * mass[own, None]).sum(0)
        self.mean /= mass.sum()
        self.points = torch.zeros(round_up(self.n, DRIVER_ROWS), round_up(d))
        self.sq_norms = np.empty(self.n)
        for start in range(0, self.n, DRIVER_ROWS):
            own = slice(start, min(start + DRIVER_ROWS, self.n))
            centred = (x[own] - self.mean).astype(np.float32)
            self.points[own, :d] = torch.from_numpy(centred)
            self.sq_norms[own] = (centred.astype(np.float64) ** 2).sum(1)

    def nearest(self, centres: torch.Tensor) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """(nearest centre, squared distance) of each row [n]; centres float64 [m, width]; ties to the first."""
        tiles = []
        for low in range(0, len(centres), CENTRES):
            some = centres[low : low + CENTRES]
            offsets = torch.full((round_up(len(some)),), torch.inf)
            offsets[: len(some)] = torch.from_numpy((some.numpy() ** 2).sum(1))
            tiles.append((low, AlignedMatrix(some, torch.float32), offsets))
        where = torch.empty(len(self.points), dtype=torch.int64)
        least = torch.full((len(self.points),), torch.inf)
        for start in range(0, len(self.points), DRIVER_ROWS):
            own = slice(start, start + DRIVER_ROWS)
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
            for start in range(0, self.n, DRIVER_ROWS):
                own = slice(start, min(start + DRIVER_ROWS, self.n))
                weighted = self.points[own].double() * torch.from_numpy(self.mass[own, None])
                sums.index_add_(0, torch.from_numpy(assignment[own]), weighted)
        return sums / torch.from_numpy(np.bincount(assignment, weights=self.mass, minlength=k)[:, None])

    def seeds(self, k: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """k distinct rows by D^2 sampling, many to a product.

        Rows are drawn by their distance to the seeds before the batch, and kept with the probability by which the
        seeds of the batch have shortened it since: rejection sampling, so each is drawn by its distance then.
        """
        seeds = [self._draw(self.mass, rng.random(1))[0]]
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
            drawn = self._draw(weight, rng.random(min(max(len(seeds), ALIGN), CENTRES)))
            fresh = self._kept(drawn, gaps[drawn], rng.random(len(drawn)))
            seeds = [*seeds, *fresh]

    def _draw(self, weight: NDArray[np.float64], uniform: NDArray[np.float64]) -> NDArray[np.int64]:
        """Rows in proportion to `weight`, one for each uniform number, repeats possible."""
        mass = np.cumsum(weight)
        last = int(np.flatnonzero(weight)[-1])
        rows: NDArray[np.int64] = np.searchsorted(mass, uniform * mass[-1], side="right").clip(max=last)
        return rows

    def _kept(self, drawn: NDArray[np.int64], before: NDArray[np.float64], uniform: NDArray[np.float64]) -> list[int]:
        """Those of the drawn rows that become seeds, in order; the first always does."""
        points = self.points[drawn].double()
        now, kept = before.copy(), []
        for i, row in enumerate(drawn.tolist()):
            if uniform[i] * before[i] < now[i]:
                kept.append(row)
                now = np.minimum(now, ((points - points[i]).numpy() ** 2).sum(1))
        return kept
