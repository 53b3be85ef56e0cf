"""Which items are farthest from a reference, or most novel: beside the data, by numbers of `raysal.scoring.novelty`."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raysal.context import LabelledVectors
from raysal.curation.sizes import whole_share
from raysal.fleet import Fleet, Partition, vectors_below
from raysal.narrowing.outliers import fit_gaussians, store_knn_distances, store_mahalanobis_distances
from raysal.scoring.novelty.base import FittedNovelty, Novelty
from raysal.scoring.quantile import order_statistics
from raysal.types import Metric

OutlierRule = Literal["knn", "mahalanobis"]
DISTANCE, NOVELTY = "distance to the reference", "novelty"
"""In a partition's state: ids [n] of the available rows, and a number of each, float32 [n]."""


class Far(NamedTuple):
    """Items that are dropped."""

    ids: NDArray[np.int64]
    """[m]"""
    values: NDArray[np.float64]
    """[m] what they are dropped for"""


def farthest(fleet: Fleet, metric: Metric, reference: NDArray[np.int64], by: OutlierRule, k: int, share: float) -> Far:
    """The floor(share * n) of the n available items that are farthest from a reference; ties with the next stay.

    Args:
        fleet: the pool's partitions, in a program in which the items of the reference are excluded.
        metric: of the pool.
        reference: ids of the items that distances are taken to, at least one.
        by: `knn`, the distance to the `k`-th nearest, or `mahalanobis`.
        k: as said.
        share: in (0, 1).

    Returns:
        The items, and their distances: of vectors of length 1 by the metric `cosine`, of stored ones by `l2`, and in
        standard deviations by `mahalanobis`.

    Raises:
        UserError: a vector is not finite.
    """
    parts = fleet.each(vectors_below, reference)
    ids, vectors = (np.concatenate(column) for column in zip(*parts, strict=True))
    vectors = vectors.astype(np.float32)
    if by == "knn":
        n = sum(fleet.each(store_knn_distances, DISTANCE, vectors, k))
    else:
        gaussians = fit_gaussians(LabelledVectors(ids=ids, vectors=vectors, classes=["reference"] * len(ids)), metric)
        n = sum(fleet.each(store_mahalanobis_distances, DISTANCE, gaussians))
    far = _highest(fleet, DISTANCE, n, share)
    return Far(far.ids, np.sqrt(far.values))


def most_novel(fleet: Fleet, novelty: Novelty, key: int, share: float) -> tuple[Far, str]:
    """The floor(share * n) of the n available items that are most novel among them; ties with the next stay.

    Args:
        fleet: the pool's partitions.
        novelty: learns what is usual from the available items.
        key: randomness, for its sample.
        share: in (0, 1).

    Returns:
        The items with their novelties, and what these go by.

    Raises:
        PoolError: a vector is not finite.
    """
    fitted = novelty.fit(fleet, key)
    n = sum(fleet.each(store_novelty, NOVELTY, fitted))
    return _highest(fleet, NOVELTY, n, share), fitted.words


def _highest(fleet: Fleet, name: str, n: int, share: float) -> Far:
    if n == 0:
        return Far(np.empty(0, np.int64), np.empty(0))
    last = float(order_statistics(fleet, name, [n - 1 - whole_share(share, n)])[0])
    ids, values = (np.concatenate(column) for column in zip(*fleet.each(take_above, name, last), strict=True))
    return Far(ids, values.astype(np.float64))


# Functions of a partition.


def store_novelty(partition: Partition, name: str, fitted: FittedNovelty) -> int:
    """Put the ids of the available rows, and how novel they are, into `state[name]`; how many there are."""
    rows = np.flatnonzero(partition.available)
    partition.state[name] = partition.ids[rows], fitted.scores(partition, rows)
    return len(rows)


def take_above(partition: Partition, name: str, last: float) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The ids and values of the rows whose value in `state[name]` is above one; the state lets go of all."""
    ids, values = partition.state.pop(name)
    return ids[values > last], values[values > last]
