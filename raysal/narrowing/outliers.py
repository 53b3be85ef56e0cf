"""How far items lie from everything labelled: by the k-th nearest labelled item, or by a Gaussian for every class.

Larger is farther. Distances are computed beside the data, in blocks, so that that of a row has the same bits wherever
it lies.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.context import LabelledVectors
from raysal.fleet import Partition
from raysal.numerics import PRODUCT_COLUMNS, padded
from raysal.scoring.similarity import Similarity, unit_rows
from raysal.types import Metric


def knn_distances(partition: Partition, vectors: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """The distance of every available row to the k-th nearest of some vectors. O(n a d).

    Sun, Ming, Zhu & Li, "Out-of-Distribution Detection with Deep Nearest Neighbors", ICML 2022.

    Args:
        partition: whose rows.
        vectors: [a, d].
        k: which of them; of fewer than k the farthest.

    Returns:
        float32 [n], minus the similarity, so the distance is squared for L2.
    """
    similarity, found = Similarity(partition, vectors), [np.empty(0, np.float32)]
    tiles = [
        (slice(low, low + PRODUCT_COLUMNS), partition.aligned(similarity.anchors[low : low + PRODUCT_COLUMNS]))
        for low in range(0, len(vectors), PRODUCT_COLUMNS)
    ]
    for block in partition.blocks(np.flatnonzero(partition.available)):
        place = torch.from_numpy(block.rows).to(partition.device)
        nearest = torch.empty(block.n, 0, device=partition.device)
        for columns, tile in tiles:
            values = tile.products(block.features)[: block.n]
            both = torch.cat([nearest, similarity(values, place, columns)], 1)
            nearest = both.topk(min(k, both.shape[1]), 1).values
        found.append(-nearest[:, -1].cpu().numpy())
    return np.concatenate(found)


class Gaussians(NamedTuple):
    """A mean for every class and one covariance for all, as they travel to partitions."""

    centre: NDArray[np.float32]
    """[d], which is subtracted from a row first"""
    whitener: NDArray[np.float32]
    """[d, d], by which a centred row is multiplied to have unit covariance"""
    means: NDArray[np.float32]
    """[C, d] of the classes, centred and whitened"""


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
    factor = np.linalg.cholesky(shrunk_covariance(residuals, len(x) - len(groups)))
    whitener = np.linalg.inv(factor).T
    return Gaussians(
        centre=centre.astype(np.float32),
        whitener=whitener.astype(np.float32),
        means=((means - centre) @ whitener).astype(np.float32),
    )


def shrunk_covariance(residuals: NDArray[np.float64], freedom: int) -> NDArray[np.float64]:
    """(1 - r) S + r m I: S is the sample covariance, m its mean variance, r by the oracle approximating shrinkage.

    Chen, Wiesel, Eldar & Hero, "Shrinkage Algorithms for MMSE Covariance Estimation", IEEE TSP 2010, equation 23.

    Args:
        residuals: rows less the mean of their class, [n, d].
        freedom: degrees of freedom; with less than 1 nothing is known.

    Returns:
        [d, d], positive definite; the identity where nothing is known.
    """
    dim = residuals.shape[1]
    identity: NDArray[np.float64] = np.eye(dim)
    total = float((residuals * residuals).sum())
    if freedom < 1 or total == 0:
        return identity
    sample = residuals.T @ residuals / freedom
    trace, squares = float(np.trace(sample)), float((sample * sample).sum())
    numerator = (1 - 2 / dim) * squares + trace**2
    denominator = (freedom + 1 - 2 / dim) * (squares - trace**2 / dim)
    share = 1.0 if numerator >= denominator else numerator / denominator
    return np.asarray((1 - share) * sample + share * trace / dim * identity)


def mahalanobis_distances(partition: Partition, gaussians: Gaussians) -> NDArray[np.float32]:
    """The squared Mahalanobis distance of every available row to the nearest class mean. O(n d (d + C)).

    Lee, Lee, Lee & Shin, "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial
    Attacks", NeurIPS 2018.

    Args:
        partition: whose rows.
        gaussians: of the labelled items.

    Returns:
        float32 [n].
    """
    device, width = partition.device, partition.width
    centre = padded(gaussians.centre[None], width, torch.float32, device)
    whitener = padded(gaussians.whitener, width, torch.float32, device, rows=width)
    means = partition.aligned(gaussians.means)
    sq_means = torch.from_numpy((gaussians.means.astype(np.float64) ** 2).sum(1).astype(np.float32)).to(device)
    found: list[NDArray[np.float32]] = [np.empty(0, np.float32)]
    for block in partition.blocks(np.flatnonzero(partition.available)):
        features = block.features
        if partition.metric == "cosine":
            norms = torch.ones(len(features), device=device)
            norms[: block.n] = partition.sq_norms()[torch.from_numpy(block.rows).to(device)]
            features = features * norms.clamp_min(torch.finfo(torch.float32).tiny).rsqrt()[:, None]
        white = (features - centre) @ whitener
        distances = (white * white).sum(1)[:, None] - 2 * means.products(white) + sq_means
        found.append(distances.amin(1).clamp_min(0)[: block.n].cpu().numpy())
    return np.concatenate(found)


# Functions of a partition.


def store_knn_distances(partition: Partition, name: str, vectors: NDArray[np.float32], k: int) -> int:
    """Put the ids and distances of the available rows into `state[name]`; returns how many there are."""
    return _store_distances(partition, name, knn_distances(partition, vectors, k))


def store_mahalanobis_distances(partition: Partition, name: str, gaussians: Gaussians) -> int:
    """Put the ids and distances of the available rows into `state[name]`; returns how many there are."""
    return _store_distances(partition, name, mahalanobis_distances(partition, gaussians))


def _store_distances(partition: Partition, name: str, distances: NDArray[np.float32]) -> int:
    partition.state[name] = partition.ids[partition.available], distances
    return len(distances)


def drop_above(partition: Partition, name: str, threshold: float) -> int:
    """Drop the rows whose distance in `state[name]` is above the threshold, and the distances; returns how many."""
    ids, values = partition.state.pop(name)
    far = partition.rows_of(ids[values > threshold])
    partition.available[far] = False
    return len(far)
