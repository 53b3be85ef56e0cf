"""Where the partitions of a pool live, and how functions are run beside them."""

from __future__ import annotations

import torch

from raysal.config import FleetConfig
from raysal.errors import ConfigError
from raysal.fleet.base import Fleet
from raysal.fleet.local_fleet import LocalFleet
from raysal.fleet.partition import (
    Block,
    Partition,
    PartitionSpec,
    exclude,
    features_of,
    keep,
    plan_partitions,
    use_features,
    vectors_of,
)
from raysal.pool import Pool

__all__ = [
    "Block",
    "Fleet",
    "LocalFleet",
    "Partition",
    "PartitionSpec",
    "exclude",
    "features_of",
    "keep",
    "open_fleet",
    "plan_partitions",
    "use_features",
    "vectors_of",
]


def open_fleet(pool: Pool, config: FleetConfig) -> Fleet:
    """A fleet over `pool` as the config asks: in this process, or in Ray actors (ray is imported only then).

    Partitions default to one locally, and to one per CPU of the cluster with Ray. With a `service` the fleet is a
    session of it.

    Raises:
        ConfigError: there is no such device, no cluster at the address, or no such service.
        FingerprintMismatch: the service is over another pool.
    """
    if config.service is not None:
        if config.backend != "ray":
            problem = f"a service is on Ray, the backend is {config.backend}"
            raise ConfigError("fleet.service", problem, 'backend = "ray"')
        from raysal.fleet.service import attach, join

        join(config.address)
        return attach(config.service, pool, call_timeout=config.call_timeout)
    if config.backend == "local":
        _check_device(config.device)
        specs = plan_partitions(pool, config.partitions or 1, device=config.device, threads=config.threads)
        return LocalFleet(specs)
    from raysal.fleet.ray_fleet import RayFleet, connect, plan_for_cluster

    connect(config.address)
    return RayFleet(plan_for_cluster(pool, config), call_timeout=config.call_timeout)


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch built without CUDA asserts
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError("fleet.device", f"{device!r} cannot be used here ({problem})", 'device = "cpu"') from None
