"""Vectors of a bounded number of items, gathered from the partitions: labelled items, and samples of the rest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from raysal.context import LabelledVectors
from raysal.features import HiddenLayer
from raysal.fleet import Fleet, features_of
from raysal.labels.records import Labelled
from raysal.scoring.sweep import sample_available


def gather_vectors(
    fleet: Fleet, dim: int, ids: NDArray[np.int64], layer: HiddenLayer | None = None
) -> NDArray[np.float32]:
    """The vectors of some items, or what a hidden layer makes of them. One round trip.

    Args:
        fleet: the pool's partitions. From here on they show features as this layer makes them, or the vectors
            themselves without a layer.
        dim: length of the pool's vectors.
        ids: ascending.
        layer: the hidden layer of a head.

    Returns:
        float32 [n, dim], or [n, layer.dim], in the order of the ids.
    """
    if not len(ids):
        return np.empty((0, dim if layer is None else layer.dim), np.float32)
    parts = fleet.each(features_of, ids, layer)
    found = np.concatenate([part[0] for part in parts])
    return np.asarray(np.concatenate([part[1] for part in parts])[np.argsort(found)])


def gather_labelled(
    fleet: Fleet, dim: int, items: Sequence[Labelled], layer: HiddenLayer | None = None
) -> LabelledVectors:
    """The vectors of labelled items, as `gather_vectors` has them. One round trip; memory for the labelled only.

    Args:
        fleet: the pool's partitions.
        dim: length of the pool's vectors.
        items: in id order.
        layer: the hidden layer of a head.

    Returns:
        The items with their vectors and the texts of their labels.
    """
    ids = np.array([item.id for item in items], np.int64)
    found = gather_vectors(fleet, dim, ids, layer)
    return LabelledVectors(ids=ids, vectors=found, classes=[item.label for item in items])


def sample_vectors(fleet: Fleet, dim: int, key: int, size: int) -> NDArray[np.float32] | None:
    """The vectors of a uniform sample of the available items. Two round trips.

    Args:
        fleet: the pool's partitions.
        dim: length of the pool's vectors.
        key: randomness (`raysal.rng`).
        size: items in the sample, at most.

    Returns:
        float32 [size, dim] in id order; None for a sample of none.
    """
    if size == 0:
        return None
    return gather_vectors(fleet, dim, np.sort(sample_available(fleet, key, size)))
