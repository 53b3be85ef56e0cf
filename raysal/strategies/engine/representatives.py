"""Rows that stand for clusters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raysal.numerics import DRIVER_ROWS, slices
from raysal.strategies.engine.kmeans import Clusters


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
