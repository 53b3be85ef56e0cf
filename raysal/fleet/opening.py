"""Open a fleet over a pool, wherever its config says that the partitions are to live."""

from __future__ import annotations

import torch

from raysal.config import FleetConfig
from raysal.errors import ConfigError
from raysal.fleet.base import Fleet
from raysal.fleet.local_fleet import LocalFleet
from raysal.fleet.specs import plan_partitions
from raysal.pool import Pool


def open_fleet(pool: Pool, config: FleetConfig) -> Fleet:
    """Open a fleet over a pool: in this process, in Ray actors, or as a session of a service. Only Ray imports ray.

    Args:
        pool: The pool; of owners, that of their parts, as a program looks at owners by itself (`raysal.fleet.owners`).
        config: The backend, device, threads and service. By default there is one partition in this process, and with
            Ray one for each CPU of the cluster.

    Returns:
        The fleet, at the beginning of a program.

    Raises:
        ConfigError: There is no such device, no cluster at the address, or no such service.
        FingerprintMismatch: The service is over another pool.
        FleetError: The cluster has no room for the actors, or part of the service is gone.
    """
    pool = pool.stored
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
        return LocalFleet(specs, pool)
    from raysal.fleet.ray_fleet import RayFleet, connect, plan_for_cluster

    connect(config.address)
    return RayFleet(plan_for_cluster(pool, config), call_timeout=config.call_timeout)


def _check_device(device: str) -> None:
    """Raise ConfigError if torch cannot use a device in this process."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch built without CUDA asserts
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError("fleet.device", f"{device!r} cannot be used here ({problem})", 'device = "cpu"') from None
