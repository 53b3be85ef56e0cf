"""Functions of a partition that look at owners in place of their parts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raysal.fleet.owners import Aggregator, Owners
from raysal.fleet.partition import Partition
from raysal.fleet.specs import owners_of_slices
from raysal.pool.owner_chunk import begins_of_owners


def owners_of(partition: Partition) -> Owners:
    """Find the owners of all items of a partition, whatever its rows are now. They are read once."""
    if "owners" not in partition.held:
        ids = owners_of_slices(partition.spec.open_pool(), partition.slices)
        begins = begins_of_owners(ids)
        partition.held["owners"] = Owners(ids[begins[:-1]], begins)
    found: Owners = partition.held["owners"]
    return found


def use_owners(partition: Partition, scores: Aggregator | None = None) -> int:
    """Have the rows of a partition be owners, whose vectors are the means of those of their parts.

    Args:
        partition: Where.
        scores: How scores of parts become that of their owner; None where the mean is scored.

    Returns:
        The number of owners here that are not excluded.
    """
    owners = owners_of(partition)
    partition.use_owners(Owners(owners.ids, owners.begins, scores=scores))
    return int(partition.available.sum())


def use_parts(partition: Partition) -> None:
    """Have the rows of a partition be parts again; what was excluded of owners meanwhile is forgotten."""
    partition.use_owners(None)


def parts_left(partition: Partition, owners: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the parts of some owners that are not excluded.

    Args:
        partition: Where its rows are owners.
        owners: Ids [m], in any order; those that do not live here are passed over.

    Returns:
        The owner of each part, and its id; both [n], ascending by id.
    """
    rows, begins = owners_of(partition).rows_of(partition.rows_of(owners))
    own = np.repeat(partition.ids[partition.rows_of(owners)], np.diff(begins))
    parts = partition.parts()
    left = parts.available[rows]
    return own[left], parts.ids[rows[left]]
