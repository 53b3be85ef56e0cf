"""Hierarchical k-means: clusters of the items of a pool, clusters of their centroids, and so on.

    items ──k-means beside the data──▶ level 1 ──k-means of centroids, resampled──▶ level 2 ──▶ ...

Vo et al., "Automatic Data Curation for Self-Supervised Learning: A Clustering-Based Approach", TMLR 2024. Centroids of
k-means crowd where items are dense. Clusters of centroids crowd there less, and those of their centroids less again: so
clusters of the upper levels spread over what there is rather than over what there is much of. Resampling goes further:
of each cluster only the centroids nearest to its own count, half as many as a cluster has on average, and these are
clustered anew. As in the paper's own runs on images of the web, the first level is not resampled: it is most of the
work.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.curation.base import Work
from raysal.curation.tree.files import Tree, TreeFiles
from raysal.curation.tree.kmeans import SHARES, assigned, first_centroids, iterations
from raysal.curation.tree.nearest import NearestCentroid
from raysal.numerics import one_thread, round_up
from raysal.rng import derive
from raysal.strategies.engine.kmeans import k_means

LARGEST = 10_000
"""Clusters of the first level, unless given, at most: what a processor assigns a million rows to in seconds."""
ITEMS_A_CLUSTER = 10
"""Items in a cluster of the first level on average, at least, unless the number of clusters is given."""
FAN = 10
"""Clusters in one of the next level on average, unless given."""


@dataclass(frozen=True, kw_only=True)
class Levels:
    """What tree is to be made."""

    clusters: tuple[int, ...]
    """of each level, the first level first"""
    rounds: int
    """of resampling, of all levels but the first"""

    @classmethod
    def of(cls, n: int, clusters: Sequence[int] | None, rounds: int) -> Levels:
        """Choose the levels for some items.

        Args:
            n: how many items.
            clusters: of each level, at most; None for the default.
            rounds: of resampling.

        Returns:
            Levels of which none has more clusters than there are items.
        """
        if clusters is not None:
            return cls(clusters=tuple(min(k, n) for k in clusters), rounds=rounds)
        found = [max(1, min(LARGEST, n // ITEMS_A_CLUSTER))]
        while found[-1] >= FAN * FAN:
            found.append(found[-1] // FAN)
        return cls(clusters=tuple(found), rounds=rounds)


def tree_of(work: Work, levels: Levels) -> Tree:
    """Make the tree of the items that are left, or read it.

    Time O(n k d) for each of 5.5 passes over the training rows and one over all, with k clusters in the first level.
    Memory of the driver: 30 bytes an item, and 12 k d for each partition.

    Args:
        work: the items, at least one of them left; centroids are kept in its folder after each pass.
        levels: of the tree.

    Returns:
        The tree. No cluster is empty; there are fewer than asked for where there are fewer distinct rows.

    Raises:
        PoolError: a vector is not finite.
        Damaged: a file is not as it was written.
    """
    ids = work.ids_left
    of = {
        "pool": work.pool.fingerprint,
        "vector_space": work.pool.vector_space,
        "left": hashlib.sha256(ids.tobytes()).hexdigest(),
        "clusters": levels.clusters,
        "rounds": levels.rounds,
        "key": work.key,
    }
    files = TreeFiles.open(work.folder, of)
    found = files.tree()
    if found is None:
        found = _made(work, levels, files)
        files.write_tree(found)
    return found


def _made(work: Work, levels: Levels, files: TreeFiles) -> Tree:
    key, ids, metric = derive(work.key, "tree"), work.ids_left, work.pool.metric
    total = len(SHARES) + len(levels.clusters)
    going = files.centroids()
    if going is None:
        work.begin()
        going = 0, first_centroids(work.fleet, metric, ids, levels.clusters[0], derive(key, "first"))
    done, centroids = going
    work.report("cluster", done, total)
    for moved in iterations(work.fleet, metric, ids, centroids, key, begin=work.begin, done=done):
        centroids, done = moved, done + 1
        files.write_centroids(done, centroids)
        work.report("cluster", done, total)
    assignment, sq_distance = assigned(work.fleet, centroids, work.begin)
    filled, cluster = np.unique(assignment, return_inverse=True)
    centroids, parents = centroids[filled], []
    work.report("cluster", len(SHARES) + 1, total)
    for level, k in enumerate(levels.clusters[1:], 2):
        parent, centroids = cluster_centroids(centroids, k, levels.rounds, derive(key, level))
        parents.append(parent)
        work.report("cluster", len(SHARES) + level, total)
    return Tree(cluster=cluster.astype(np.int64), sq_distance=sq_distance, parents=tuple(parents))


def cluster_centroids(
    x: NDArray[np.float32], k: int, rounds: int, key: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Cluster centroids, and resample them.

    Args:
        x: [m, d], m >= 1.
        k: clusters, at most.
        rounds: of resampling: in each, those nearest to each centroid of the last one are clustered, and then all are
            assigned anew. None where a cluster has fewer than four on average.
        key: of the randomness.

    Returns:
        The cluster of each [m], of which none is empty, and the centroids [at most k, d].
    """
    found = k_means(x, k, derive(key, "all"))
    centroids = found.centroids.astype(np.float32)
    which, distance = nearest_of(x, centroids)
    nearest = len(x) // (2 * len(centroids))
    for number in range(rounds if nearest > 1 else 0):
        ordered = np.lexsort((np.arange(len(x)), distance, which))
        starts = np.searchsorted(which[ordered], which[ordered])
        chosen = np.sort(ordered[np.arange(len(x)) - starts < nearest])
        centroids = k_means(x[chosen], k, derive(key, number)).centroids.astype(np.float32)
        which, distance = nearest_of(x, centroids)
    filled, which = np.unique(which, return_inverse=True)
    return which.astype(np.int64), centroids[filled]


def nearest_of(x: NDArray[np.float32], centroids: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The nearest centroid [m] of each row of a matrix [m, d] in the driver, and the squared distances [m]."""
    wide = torch.zeros(len(x), round_up(x.shape[1]))
    wide[:, : x.shape[1]] = torch.from_numpy(x)
    with one_thread():
        which, distance = NearestCentroid(centroids, wide.shape[1]).of(wide)
    return which.numpy(), distance.numpy()
