"""Functions of a partition that look at owners in place of their parts."""

from __future__ import annotations

from raysal.fleet.owners import Aggregator, Owners
from raysal.fleet.partition import Partition
from raysal.fleet.specs import owners_of_slices
from raysal.pool.owners import begins_of_owners


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
