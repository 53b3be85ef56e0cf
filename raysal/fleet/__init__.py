"""Where the partitions of a pool live, and how functions are run beside them."""

from __future__ import annotations

from raysal.config import FleetConfig
from raysal.fleet.base import Fleet
from raysal.fleet.local_fleet import LocalFleet
from raysal.fleet.partition import (
    BLOCK,
    Block,
    Partition,
    PartitionSpec,
    exclude,
    keep,
    plan_partitions,
    vectors_of,
)
from raysal.pool import Pool

__all__ = [
    "BLOCK",
    "Block",
    "Fleet",
    "LocalFleet",
    "Partition",
    "PartitionSpec",
    "exclude",
    "keep",
    "open_fleet",
    "plan_partitions",
    "vectors_of",
]


def open_fleet(pool: Pool, config: FleetConfig) -> Fleet:
    """A fleet over `pool` as the config asks: in this process, or in Ray actors (ray is imported only then).

    Partitions default to one locally, and to one per CPU of the cluster with Ray.
    """
    if config.backend == "local":
        specs = plan_partitions(pool, config.partitions or 1, device=config.device, threads=config.threads)
        return LocalFleet(specs)
    from raysal.fleet.ray_fleet import RayFleet, cluster_cpus, connect

    connect(config.address)
    cpus = cluster_cpus()
    count = config.partitions or cpus
    threads = config.threads or max(cpus // count, 1)
    specs = plan_partitions(pool, count, device=config.device, threads=threads)
    return RayFleet(specs, call_timeout=config.call_timeout)
