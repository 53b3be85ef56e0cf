"""Functions of a partition that say what may be swept, sampled and picked, for the rest of a program."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raysal.fleet.partition import Partition


def exclude(partition: Partition, ids: NDArray[np.int64]) -> int:
    """Exclude items from what may be swept or picked.

    Args:
        partition: Where.
        ids: int64 [m]; those that do not live here are passed over.

    Returns:
        The number of rows here that are not excluded.
    """
    partition.available[partition.rows_of(ids)] = False
    return int(partition.available.sum())


def exclude_before(partition: Partition, first: int) -> int:
    """Exclude the items whose ids are below one; returns as `exclude` does."""
    partition.available[: np.searchsorted(partition.ids, first)] = False
    return int(partition.available.sum())


def keep(partition: Partition, ids: NDArray[np.int64]) -> int:
    """Narrow the candidates to some items.

    Args:
        partition: Where.
        ids: int64 [m]; those that do not live here are passed over.

    Returns:
        The number of rows here that may be picked: candidates that are not excluded.
    """
    partition.candidate[:] = False
    partition.candidate[partition.rows_of(ids)] = True
    return len(partition.candidates())


def confine(partition: Partition, ids: NDArray[np.int64]) -> int:
    """Let some items be the pool: everything else is excluded from what may be swept, sampled or picked.

    Args:
        partition: Where.
        ids: int64 [m]; those that do not live here are passed over.

    Returns:
        The number of rows here that are not excluded, all of which may be picked.
    """
    keep(partition, ids)
    partition.available &= partition.candidate
    return int(partition.available.sum())
