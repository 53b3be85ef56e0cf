"""How far items lie from everything labelled: by the k-th nearest labelled item, or by a Gaussian for every class.

Larger is farther. Distances are computed beside the data by what `raysal.scoring.novelty` goes by, in blocks, so that
that of a row has the same bits wherever it lies.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raysal.context import LabelledVectors
from raysal.fleet import Partition
from raysal.scoring.novelty.gaussian import Gaussians, shrunk_covariance, sq_mahalanobis_distances, whitener_of
from raysal.scoring.novelty.neighbours import Reference, nearest_in
from raysal.scoring.similarity import unit_rows
from raysal.types import Metric


def fit_gaussians(labelled: LabelledVectors, metric: Metric) -> Gaussians:
    """The Gaussians of labelled vectors, which have unit length for the cosine. O(n d^2 + d^3) in double precision.

    The covariance is that within classes. It is shrunk towards a multiple of the identity, so that it has an inverse
    however few labels there are. With one label a class, or with copies alone, it is the identity. An item of several
    labels counts with each of them. Items without any label are a class, and so are all items where labels are numbers.

    Args:
        labelled: one item or more.
        metric: of the pool.

    Returns:
        The means and the covariance.
    """
    x = (unit_rows(labelled.vectors) if metric == "cosine" else labelled.vectors).astype(np.float64)
    groups = list(labelled.by_class().values())
    unnamed = np.setdiff1d(np.arange(len(x)), np.concatenate([np.empty(0, np.int64), *groups]))
    groups += [unnamed] if len(unnamed) else []
    members = np.repeat(np.arange(len(groups)), [len(rows) for rows in groups])
    x = x[np.concatenate(groups)]
    counts = np.bincount(members)
    means = np.array([x[members == c].mean(0) for c in range(len(groups))])
    residuals = x - means[members]
    residuals[counts[members] == 1] = 0.0  # exactly: a mean of one may be off by rounding
    centre = x.mean(0)
    whitener = whitener_of(shrunk_covariance(residuals.T @ residuals, len(x) - len(groups)))
    return Gaussians(
        centre=centre.astype(np.float32),
        whitener=whitener.astype(np.float32),
        means=((means - centre) @ whitener).astype(np.float32),
    )


# Functions of a partition.


def store_knn_distances(partition: Partition, name: str, vectors: NDArray[np.float32], k: int) -> int:
    """Put the ids of the available rows, and their distances to the k-th nearest of some vectors, into `state[name]`.

    Sun, Ming, Zhu & Li, "Out-of-Distribution Detection with Deep Nearest Neighbors", ICML 2022. O(n a d).

    Args:
        partition: whose rows.
        name: as above.
        vectors: [a, d].
        k: which of them; of fewer than k the farthest.

    Returns:
        How many there are. The distances are squared.
    """
    sq_distances, _ = nearest_in(partition, np.flatnonzero(partition.available), Reference(vectors), k)
    return _store_distances(partition, name, sq_distances[:, -1])


def store_mahalanobis_distances(partition: Partition, name: str, gaussians: Gaussians) -> int:
    """Put the ids of the available rows, and their distances to the nearest class mean, into `state[name]`.

    Lee, Lee, Lee & Shin, "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial
    Attacks", NeurIPS 2018. O(n d (d + C)).

    Args:
        partition: whose rows.
        name: as above.
        gaussians: of the labelled items.

    Returns:
        How many there are. The distances are squared.
    """
    distances, found = sq_mahalanobis_distances(partition, gaussians), [np.empty(0, np.float32)]
    for block in partition.blocks(np.flatnonzero(partition.available)):
        found.append(distances(block.features)[: block.n].cpu().numpy())
    return _store_distances(partition, name, np.concatenate(found))


def _store_distances(partition: Partition, name: str, distances: NDArray[np.float32]) -> int:
    partition.state[name] = partition.ids[partition.available], distances
    return len(distances)


def drop_above(partition: Partition, name: str, threshold: float) -> int:
    """Drop the rows whose distance in `state[name]` is above the threshold, and the distances; returns how many."""
    ids, values = partition.state.pop(name)
    far = partition.rows_of(ids[values > threshold])
    partition.available[far] = False
    return len(far)
