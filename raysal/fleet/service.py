"""A service: the partitions of one pool in named actors, which several sessions share and which outlive them all.

The data are in memory once. Each session has masks and state of its own in every partition (`Partition.view`). The
number of the session's program is their version. So no session sees what another one excludes, and no late message runs
on newer masks than it was made for (`raysal.fleet.replay`). Sessions take turns: the calls of others change when a
session's call is computed, never what it computes.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence

from raysal.config import FleetConfig
from raysal.errors import ConfigError, FingerprintMismatch, FleetError
from raysal.fleet import ray_fleet
from raysal.fleet.ray_fleet import RayFleet
from raysal.fleet.replay import SESSIONS
from raysal.fleet.specs import PartitionSpec
from raysal.pool import Pool

ENDING_TIMEOUT = 60.0
"""Seconds to wait until the names of an ended service are free."""


def join(address: str | None = None) -> None:
    """Join a cluster that goes on when this process ends.

    Args:
        address: host:port or `auto`; by default the variable RAY_ADDRESS, else the cluster on this machine.

    Raises:
        ConfigError: There is no such cluster.
    """
    wanted = address or os.environ.get("RAY_ADDRESS") or "auto"
    problem = "and a Ray started in this process would end with it"
    if wanted != "local":
        try:
            ray_fleet.connect(wanted)
            return
        except ConfigError as error:
            problem = f"{problem}: {error.problem}"
    fix = "start one with `ray start --head`, or give the address of one that runs as host:port"
    raise ConfigError("service", f"needs a running Ray cluster, {problem}", fix)


def start_service(pool: Pool, config: FleetConfig) -> tuple[bool, list[PartitionSpec]]:
    """Start a service over a pool on a running cluster.

    Args:
        pool: The pool.
        config: `service` is the name; `address`, `partitions`, `threads` and `device` say where and how.

    Returns:
        (False if it runs already, its partitions).

    Raises:
        ConfigError: There is no such cluster or device, or a service of that name has other partitions.
        FleetError: The cluster has no room for it, or an actor died while it started.
        RaysalError: An actor cannot open its files.
    """
    join(config.address)
    specs = ray_fleet.plan_for_cluster(pool, config)
    return serve(specs, config.service or ""), specs


def stop_service(name: str, address: str | None = None) -> int:
    """End a service on a running cluster.

    Args:
        name: The name of the service.
        address: The cluster, as for `join`.

    Returns:
        The number of partitions that it had.

    Raises:
        ConfigError: There is no such cluster, or no such service on it.
    """
    join(address)
    return stop(name)


def serve(specs: Sequence[PartitionSpec], name: str, *, most: int = SESSIONS) -> bool:
    """Start a service on the cluster this process is connected to. Actors that are missing are started again.

    Args:
        specs: The partitions.
        name: The name of the service: letters, digits, `_`, `.` and `-`.
        most: Number of sessions that each partition keeps.

    Returns:
        False if all of it runs already.

    Raises:
        ConfigError: `name` is not a name, or a service of that name has other partitions.
        FleetError: The cluster has no room for the actors, or an actor died while it started.
        RaysalError: An actor cannot open its files.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise ConfigError("service.name", f"{name!r} is not a name", "use letters, digits, '_', '.' and '-'")
    running = partitions_of(name)
    if running:
        first = min(running)
        theirs, count = ray_fleet.about(running[first], first)
        if count != len(specs) or theirs != specs[theirs.index]:
            what = f"{theirs.pool} in {count} partitions of {theirs.threads or 1} threads on {theirs.device}"
            fix = f"choose another name, or end it with `raysal index stop --name {name}`"
            raise ConfigError("service.name", f"{name!r} runs already, over {what}", fix)
        if len(running) == count:
            return False
    actors = [ray_fleet.start_named(spec, f"{name}-{spec.index}", most, len(specs)) for spec in specs]
    try:
        ray_fleet.await_ready(actors, specs)
    except BaseException:
        started = {spec.index: actor for spec, actor in zip(specs, actors, strict=True) if spec.index not in running}
        _end(name, started)
        raise
    return True


def attach(name: str, pool: Pool, *, call_timeout: float = 1800.0) -> RayFleet:
    """Begin a new session of a service. To close it ends the session, and nothing else.

    Args:
        name: The name of the service.
        pool: The pool that the service must be over.
        call_timeout: Seconds that one call may take on a partition (see `RayFleet`).

    Returns:
        The session, as a fleet.

    Raises:
        ConfigError: No such service runs.
        FingerprintMismatch: It is over another pool.
        FleetError: Part of it is gone, or does not answer.
    """
    running = partitions_of(name)
    if not running:
        raise ConfigError(*_no_service(name))
    first = min(running)
    theirs, count = ray_fleet.about(running[first], first)
    if theirs.fingerprint != pool.fingerprint:
        fix = "name the service that is over this pool"
        raise FingerprintMismatch(
            f"service {name!r}", "its pool's fingerprint", pool.fingerprint, theirs.fingerprint, fix
        )
    for index in range(count):
        if index not in running:
            raise FleetError(index, f"is missing from the service {name!r}; run its `raysal index serve` again")
    return RayFleet([], call_timeout=call_timeout, actors=[running[index] for index in range(count)])


def stop(name: str) -> int:
    """End a service. The next call of each of its sessions fails.

    Args:
        name: The name of the service.

    Returns:
        The number of partitions that it had.

    Raises:
        ConfigError: No such service runs.
    """
    running = partitions_of(name)
    if not running:
        raise ConfigError(*_no_service(name))
    _end(name, running)
    return len(running)


def _end(name: str, actors: Mapping[int, object]) -> None:
    """End partitions of a service, and wait until their names are free, a moment after the actors have ended."""
    ray_fleet.end(actors.values())
    deadline = time.monotonic() + ENDING_TIMEOUT
    while actors.keys() & partitions_of(name).keys() and time.monotonic() < deadline:
        time.sleep(0.02)


def partitions_of(name: str) -> dict[int, object]:
    """Return the actors of a service, by partition; none if it does not run."""
    found = {}
    for actor_name, actor in ray_fleet.named_actors().items():
        service, _, index = actor_name.rpartition("-")
        if service == name:
            found[int(index)] = actor
    return found


def _no_service(name: str) -> tuple[str, str, str]:
    """The three parts of the ConfigError for a service that does not run."""
    names = sorted({actor_name.rpartition("-")[0] for actor_name in ray_fleet.named_actors()})
    running = f"running: {', '.join(names)}" if names else "none runs"
    fix = f"start it with `raysal index serve POOL --name {name}`"
    return "service.name", f"no service {name!r} on this cluster ({running})", fix
