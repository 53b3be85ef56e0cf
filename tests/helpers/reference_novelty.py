"""Slow, obvious versions of novelty: one row at a time, float64, by direct differences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from reference import uniform_sample

from raysal.rng import derive

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]


def seen(x: NDArray[np.floating], metric: str) -> Floats:
    """Vectors [n, d] as distances see them."""
    y = x.astype(np.float64)
    if metric == "cosine":
        lengths = np.linalg.norm(y, axis=1, keepdims=True)
        y = y / np.where(lengths > 0, lengths, 1)
    return y


def neighbours(row: int, y: Floats, sample: list[int], k: int) -> list[tuple[float, int]]:
    """(distance, row) of the k of a sample nearest to a row, which is none of them itself."""
    return sorted((math.dist(y[row], y[other]), other) for other in sample if other != row)[:k]


def nearest_distance(y: Floats, sample: list[int], k: int) -> Floats:
    """d / (d + mean d over the sample), d the distance to the k-th nearest."""
    last = [neighbours(row, y, sample, k)[-1][0] for row in range(len(y))]
    usual = float(np.mean([last[row] for row in sample])) or 1.0
    return np.array([d / (d + usual) for d in last])


def local_outlier_factor(y: Floats, sample: list[int], k: int) -> Floats:
    """F / (F + 1), with F by the formula of the paper."""
    near = [neighbours(row, y, sample, k) for row in range(len(y))]
    reach = [float(np.mean([max(near[o][-1][0], d) for d, o in near[row]])) for row in range(len(y))]
    least = 1e-4 * float(np.mean([reach[row] for row in sample]))
    factor = [np.mean([max(reach[r], least) / max(reach[o], least) for _, o in near[r]]) for r in range(len(y))]
    return np.array([f / (f + 1) for f in factor])


def mahalanobis(y: Floats) -> Floats:
    """d / (d + root mean square d) to the mean of all, by the shrunk correlations."""
    n, dim = y.shape
    z = (y - y.mean(0)) / y.std(0, ddof=1)
    sample = z.T @ z / (n - 1)
    trace, squares = np.trace(sample), (sample**2).sum()
    numerator = (1 - 2 / dim) * squares + trace**2
    share = min(1.0, numerator / ((n - 1 + 1 - 2 / dim) * (squares - trace**2 / dim)))
    inverse = np.linalg.inv((1 - share) * sample + share * trace / dim * np.eye(dim))
    d = np.array([math.sqrt(row @ inverse @ row) for row in z])
    return d / (d + math.sqrt(np.mean(d**2)))


def isolation(y: Floats, forest: Any) -> Floats:
    """2^(-h / c) by a walk of every row down every tree."""
    found = []
    for row in y.astype(np.float32):
        depths = []
        for features, thresholds, lengths in zip(forest.features, forest.thresholds, forest.lengths, strict=True):
            node = 0
            while node < len(features):
                node = 2 * node + (2 if row[features[node]] > thresholds[node] else 1)
            depths.append(float(lengths[node - len(features)]))
        found.append(2 ** (-np.mean(depths) / forest.usual))
    return np.array(found)


def novelty(name: str, x: NDArray[np.floating], ids: Ids, key: int, metric: str, novelty: Any, fitted: Any) -> Floats:
    """The novelty of each row of x [n, d], all of them available, by a `Novelty` and, for its trees, what it fitted."""
    y = seen(x, metric)
    if name == "mahalanobis":
        return mahalanobis(y)
    if name == "isolation_forest":
        return isolation(y, fitted.forest)
    place = {id: row for row, id in enumerate(ids.tolist())}
    sample = [place[id] for id in uniform_sample(derive(key, "sample"), ids, novelty.sample).tolist()]
    if name == "knn":
        return nearest_distance(y, sample, novelty.k)
    if name == "local_density":
        return local_outlier_factor(y, sample, novelty.k)
    raise LookupError(f"{name!r} has no slow version yet; write it here")
