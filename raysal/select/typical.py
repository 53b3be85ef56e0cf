"""The cold start: before the first label, the most typical item of each of k clusters."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysal.fleet import Fleet, vectors_of
from raysal.rng import derive
from raysal.select.base import Picks, Task
from raysal.select.ranked import lowest_hash, merged
from raysal.sweep import unit_rows

NEIGHBOURS = 20
"""Typicality is judged by this many nearest neighbours within the cluster, as published."""


@dataclass(frozen=True, kw_only=True)
class Typical:
    """k-means, and the item of highest typicality in each cluster (Hacohen, Dekel & Weinshall, ICML 2022).

    Works on unit vectors of a uniform sample of `sample` candidates (at least 5 k), so that neither memory
    nor time grows with the pool: O(sample k d) time and O(sample d) memory in the driver. Typicality is one
    over the mean distance to the nearest neighbours in the cluster. Clusters give one item each, largest
    first. Needs no head and no labels; meant for the first batch, where uncertainty knows nothing and CoreSet
    would label outliers.
    """

    sample: Annotated[int, Field(ge=1)] = 10_000

    @property
    def needs_head(self) -> bool:
        return False

    def select(self, fleet: Fleet, task: Task, k: int) -> Picks:
        size = max(self.sample, 5 * k)
        sample, _ = merged(fleet.each(lowest_hash, derive(task.key, "sample"), size), size)
        parts = fleet.each(vectors_of, sample)
        ids, vectors = (np.concatenate(column) for column in zip(*parts, strict=True))
        rows, sizes, typicality = typical_rows(unit_rows(vectors), k, task.key % 2**32)
        reasons = tuple(f"most typical of a cluster of {n}" for n in sizes)
        return Picks(ids=ids[rows], scores=typicality, reasons=reasons)


def typical_rows(
    x: NDArray[np.float32], k: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """k distinct rows of x [n, d] with their cluster's size and their typicality, largest clusters first.

    Equal rows may leave fewer than k clusters; then clusters are visited again, for their next most typical
    item.
    """
    assignment, clusters = k_means(x.astype(np.float64), k, seed)
    members = [np.flatnonzero(assignment == c) for c in range(clusters)]
    members = sorted((m for m in members if len(m)), key=lambda m: (-len(m), m[0]))
    queues = []
    for rows in members:
        score = typicality_of(x[rows])
        order = np.lexsort((rows, -score))
        queues.append([(int(rows[i]), len(rows), float(score[i])) for i in order])
    picks: list[tuple[int, int, float]] = []
    depth = 0
    while len(picks) < k:
        picks.extend(queue[depth] for queue in queues if depth < len(queue))
        depth += 1
    del picks[k:]
    return (
        np.array([row for row, _, _ in picks], np.int64),
        np.array([size for _, size, _ in picks], np.int64),
        np.array([score for _, _, score in picks], np.float64),
    )


def k_means(x: NDArray[np.float64], k: int, seed: int) -> tuple[NDArray[np.int64], int]:
    """(cluster [n] of each row of x [n, d], number of clusters): k, or fewer where there are fewer distinct
    rows.

    On one thread: threads add up the means in the order in which they finish, and a last bit can move a row.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    clusters = min(k, len(np.unique(x, axis=0)))
    with warnings.catch_warnings(), threadpool_limits(limits=1, user_api="openmp"):
        # Nearly equal rows may leave clusters empty; these give no pick.
        warnings.simplefilter("ignore", ConvergenceWarning)
        assignment = KMeans(clusters, n_init=1, random_state=seed).fit_predict(x)
    return assignment.astype(np.int64), clusters


def typicality_of(x: NDArray[np.float32]) -> NDArray[np.float64]:
    """One over the mean Euclidean distance of each row of x [m, d] to its nearest others. O(m^2 d), in
    tiles."""
    from sklearn.neighbors import NearestNeighbors

    near = min(NEIGHBOURS, len(x) - 1)
    if near == 0:
        return np.zeros(len(x))
    distances, _ = NearestNeighbors(n_neighbors=near).fit(x.astype(np.float64)).kneighbors()
    typicality: NDArray[np.float64] = 1 / (distances.mean(1) + 1e-5)
    return typicality
