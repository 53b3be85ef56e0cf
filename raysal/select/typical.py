"""The cold start: before the first label, the most typical item of each of k clusters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysal.fleet import Fleet, Partition
from raysal.rng import derive, item_uniform
from raysal.select.base import Picks, Task
from raysal.sweep import unit_rows
from raysal.sweep.best import best_of

NEIGHBOURS = 20
"""Typicality is judged by this many nearest neighbours within the cluster, as published."""


@dataclass(frozen=True, kw_only=True)
class Typical:
    """k-means, and the item of highest typicality in each cluster (Hacohen, Dekel & Weinshall, ICML 2022).

    Works on unit vectors of a uniform sample of `sample` candidates (at least 5 k), so that neither memory nor time
    grows with the pool: O(sample k d) time and O(sample d) memory in the driver. Typicality is one over the mean
    distance to the nearest neighbours in the cluster. Clusters give one item each, largest first. Needs no head and
    no labels; meant for the first batch, where uncertainty knows nothing and CoreSet would label outliers.
    """

    sample: Annotated[int, Field(ge=1)] = 10_000

    @property
    def needs_head(self) -> bool:
        return False

    def select(self, fleet: Fleet, task: Task, k: int) -> Picks:
        size = max(self.sample, 5 * k)
        parts = fleet.each(sample_candidates, derive(task.key, "sample"), size)
        draws, ids = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
        vectors = np.concatenate([p[2] for p in parts])
        kept, _ = best_of(ids, draws, size)
        rows = np.flatnonzero(np.isin(ids, kept))
        rows = rows[np.argsort(ids[rows])]
        picked, sizes, typicality = typical_rows(unit_rows(vectors[rows].astype(np.float32)), k, task.key % 2**32)
        reasons = tuple(f"most typical of a cluster of {n}" for n in sizes)
        return Picks(ids=ids[rows][picked], scores=typicality, reasons=reasons)


def sample_candidates(
    partition: Partition, key: int, size: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float16]]:
    """(draws, ids, vectors) of the `size` candidates of lowest hash here."""
    rows = partition.candidates()
    ids, draws = best_of(partition.ids[rows], 1 - item_uniform(key, partition.ids[rows]), size)
    order = np.argsort(ids)
    return draws[order], ids[order], partition.gather(partition.rows_of(ids))


def typical_rows(
    x: NDArray[np.float32], k: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """k distinct rows of x [n, d] with their cluster's size and their typicality, largest clusters first.

    Equal rows may leave fewer than k clusters; then clusters are visited again, for their next most typical item.
    """
    from sklearn.cluster import KMeans

    distinct = len(np.unique(x, axis=0))
    clusters = min(k, distinct)
    assignment = KMeans(clusters, n_init=1, random_state=seed).fit_predict(x.astype(np.float64))
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
    rows, sizes, scores = zip(*picks[:k], strict=True)
    return np.array(rows), np.array(sizes), np.array(scores)


def typicality_of(x: NDArray[np.float32]) -> NDArray[np.float64]:
    """One over the mean Euclidean distance of each row of x [m, d] to its nearest others. O(m^2 d), in tiles."""
    from sklearn.neighbors import NearestNeighbors

    near = min(NEIGHBOURS, len(x) - 1)
    if near == 0:
        return np.zeros(len(x))
    distances, _ = NearestNeighbors(n_neighbors=near).fit(x.astype(np.float64)).kneighbors()
    return 1 / (distances.mean(1) + 1e-5)
