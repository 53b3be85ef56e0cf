"""Where the partitions of a pool live, and how functions are run beside them.

A name is imported when it is first used: what only names a fleet in a type does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raysal.registry import names_on_use

if TYPE_CHECKING:
    from raysal.fleet.base import Fleet
    from raysal.fleet.local_fleet import LocalFleet
    from raysal.fleet.masks import confine, exclude, keep
    from raysal.fleet.opening import open_fleet
    from raysal.fleet.partition import Block, Partition, features_of, use_features, vectors_below, vectors_of
    from raysal.fleet.specs import PartitionSpec, plan_partitions

__all__ = [
    "Block",
    "Fleet",
    "LocalFleet",
    "Partition",
    "PartitionSpec",
    "confine",
    "exclude",
    "features_of",
    "keep",
    "open_fleet",
    "plan_partitions",
    "use_features",
    "vectors_below",
    "vectors_of",
]

_PARTITION = "raysal.fleet.partition"
__getattr__ = names_on_use(
    __name__,
    {
        "Block": _PARTITION,
        "Fleet": "raysal.fleet.base",
        "LocalFleet": "raysal.fleet.local_fleet",
        "Partition": _PARTITION,
        "PartitionSpec": "raysal.fleet.specs",
        "confine": "raysal.fleet.masks",
        "exclude": "raysal.fleet.masks",
        "features_of": _PARTITION,
        "keep": "raysal.fleet.masks",
        "open_fleet": "raysal.fleet.opening",
        "plan_partitions": "raysal.fleet.specs",
        "use_features": _PARTITION,
        "vectors_below": _PARTITION,
        "vectors_of": _PARTITION,
    },
)
