"""Where the partitions of a pool live, and how functions are run beside them."""

from __future__ import annotations

import torch

from raysal.config import FleetConfig
from raysal.errors import ConfigError
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

    Raises:
        ConfigError: there is no such device, or no cluster at the address.
    """
    if config.backend == "local":
        _check_device(config.device)
        specs = plan_partitions(pool, config.partitions or 1, device=config.device, threads=config.threads)
        return LocalFleet(specs)
    from raysal.fleet.ray_fleet import RayFleet, check_device, cluster_cpus, connect

    connect(config.address)
    check_device(config.device)
    cpus = cluster_cpus()
    count = config.partitions or cpus
    threads = config.threads or max(cpus // count, 1)
    specs = plan_partitions(pool, count, device=config.device, threads=threads)
    return RayFleet(specs, call_timeout=config.call_timeout)


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch built without CUDA asserts
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError("fleet.device", f"{device!r} cannot be used here ({problem})", 'device = "cpu"') from None
