"""The partitions of a pool in Ray actors. Only transport lives here; what is computed, and how a lost
partition is rebuilt, is in `partition` and `replay`.

Ray restarts a dead actor's process but never repeats a call by itself: a repeat would run on a fresh, empty
partition and return a wrong result without an error. The driver repeats, with the calls that are missing.

A service is the same actors with names, which outlive the process that started them (`raysal.fleet.service`).
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import ray
import ray.exceptions
import torch

from raysal.config import FleetConfig
from raysal.errors import ConfigError, FleetError, RaysalError
from raysal.fleet.partition import Partition, PartitionSpec, plan_partitions
from raysal.fleet.replay import Behind, Call, Done, Host, Stale
from raysal.pool import Pool

R = TypeVar("R")

ATTEMPTS = 5
"""Deaths one call may cost a partition before the job gives up: a call that kills its host each time is a bug
or too large for the machine, and Ray's own memory-pressure retries would go on for ever."""
CREATION_TIMEOUT = 300.0
"""Seconds to wait for an actor to be placed, at first or again. Ray itself waits without end and without a word."""
REACH_TIMEOUT = 5.0
"""Seconds a cluster may take to accept a connection. Ray itself tries for a minute, and writes to the log."""
REFUSED = re.compile("is restarting|failed to connect")
"""What Ray says then. Until word of a death is round, which takes seconds where all are busy, it calls the dead."""
NAMESPACE = "raysal"
"""Where Ray keeps the names of services."""
WATCH = "watch"
"""The concurrency group of what a service's actor answers while it computes."""
OBJECT_STORE_BYTES = 256 * 2**20
"""Size of the object store when Ray is started here. Pools are mapped from files and never pass through it."""


def connect(address: str | None = None, threads: int = 0) -> None:
    """Join the Ray cluster at `address` or else RAY_ADDRESS, or start Ray here with one CPU per thread; only
    once.

    A cluster that `ray start` left on this machine is joined when asked for (`auto`), never by accident.

    Raises:
        ConfigError: there is no cluster at the address.
    """
    if ray.is_initialized():
        return
    if address in (None, "", "auto"):
        address = os.environ.get("RAY_ADDRESS") or address
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": True, "logging_level": "ERROR"}
    if address:
        if address not in ("auto", "local"):
            _reach(address)
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise _no_cluster(address, _brief(error)) from None
        return
    ray.init(
        address="local",
        num_cpus=threads or os.cpu_count(),
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        **quiet,
    )


def _reach(address: str) -> None:
    """Raises: ConfigError: not host:port, or nothing listens there."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not host or not colon or not port.isdecimal() or int(port) > 65535:
        raise _no_cluster(address, "not host:port")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_TIMEOUT).close()
    except OSError as error:
        raise _no_cluster(address, error.strerror or str(error)) from None


def _no_cluster(address: str, problem: str) -> ConfigError:
    given = " (from RAY_ADDRESS)" if address == os.environ.get("RAY_ADDRESS") else ""
    return ConfigError(
        "fleet.address",
        f"no Ray cluster can be joined at {address!r}{given}: {problem}",
        "start one there with `ray start --head`, or give no address to start Ray here",
    )


def check_device(device: str) -> None:
    """Raises: ConfigError: no node of the cluster has such a device. An actor sees its own GPU only, as number 0."""
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise ConfigError("fleet.device", _brief(error), 'use "cpu" or "cuda"') from None
    if wanted.type == "cuda" and wanted.index not in (None, 0):
        raise ConfigError("fleet.device", f"{device!r}: with Ray each partition has a GPU of its own", 'use "cuda"')
    if wanted.type == "cuda" and not ray.cluster_resources().get("GPU"):
        raise ConfigError("fleet.device", f"{device!r}, and no node of the Ray cluster has a GPU", 'device = "cpu"')


def cluster_cpus() -> int:
    """CPUs of the cluster this process is connected to."""
    return max(int(ray.cluster_resources().get("CPU", 1)), 1)


def plan_for_cluster(pool: Pool, config: FleetConfig) -> list[PartitionSpec]:
    """The partitions of a pool: as many as there are CPUs, and threads that share them, unless the config says.

    Raises:
        ConfigError: no node of the cluster has the device.
    """
    check_device(config.device)
    cpus = cluster_cpus()
    count = config.partitions or cpus
    threads = config.threads or max(cpus // count, 1)
    return plan_partitions(pool, count, device=config.device, threads=threads)


class PartitionActor:
    """Hosts one partition in a process of its own."""

    def __init__(self, spec: PartitionSpec, most: int = 1) -> None:
        if spec.threads:
            torch.set_num_threads(spec.threads)  # Ray exports OMP_NUM_THREADS=1
        self._spec = spec
        self._data: Partition | None = None
        self._host = Host(self._view, most)

    def _view(self) -> Partition:
        if self._data is None:
            self._data = Partition(self._spec)
        return self._data.view()

    def ready(self) -> None:
        """Open the files, so that what is wrong with them shows now."""
        self._view()

    def apply(self, program: int, first: int, calls: Sequence[Call], session: str = "") -> Done | Behind | Stale:
        return self._host.run(program, first, calls, session)


class ServiceActor(PartitionActor):
    """Hosts one partition of a service, for several sessions."""

    def __init__(self, spec: PartitionSpec, most: int, count: int) -> None:
        super().__init__(spec, most)
        self._count = count

    def forget(self, session: str) -> None:
        self._host.forget(session)

    def about(self) -> tuple[PartitionSpec, int]:
        """The partition, and how many the service has."""
        return self._spec, self._count

    def quiet(self) -> float:
        """Seconds since a call was last begun or ended."""
        return time.monotonic() - self._host.since


def start_named(spec: PartitionSpec, name: str, most: int, count: int) -> Any:
    """An actor that outlives this process, or the one that has its name already."""
    remote: Any = ray.remote(concurrency_groups={WATCH: 1})(ServiceActor)
    named = {"name": name, "namespace": NAMESPACE, "lifetime": "detached", "get_if_exists": True}
    return remote.options(**named, **_options(spec)).remote(spec, most, count)


def _options(spec: PartitionSpec) -> dict[str, Any]:
    return {
        "num_cpus": max(spec.threads, 1),
        "num_gpus": 1 if spec.device.startswith("cuda") else 0,
        "max_restarts": -1,
        "max_task_retries": 0,
    }


def named_actors() -> dict[str, Any]:
    """The actors of all services on the cluster, by name."""
    found = {}
    for actor in ray.util.list_named_actors(all_namespaces=True):
        if actor["namespace"] == NAMESPACE:
            with contextlib.suppress(ValueError):  # it went in between
                found[actor["name"]] = ray.get_actor(actor["name"], namespace=NAMESPACE)
    return found


def about(actor: Any, partition: int) -> tuple[PartitionSpec, int]:
    """What an actor of a service says of itself, also while it computes.

    Raises:
        FleetError: it does not answer.
    """
    deaths, deadline = 0, time.monotonic() + CREATION_TIMEOUT
    while True:
        try:
            found: tuple[PartitionSpec, int] = ray.get(_watch(actor.about), timeout=CREATION_TIMEOUT)
            return found
        except ray.exceptions.RayError as error:
            deaths += not _coming_back(error)
            if deaths >= ATTEMPTS or time.monotonic() > deadline:
                raise FleetError(partition, f"its process does not answer ({_brief(error)})") from None


def _coming_back(error: BaseException) -> bool:
    """Whether a call reached no process, for the while that a new one takes to start: that is no further death."""
    refused = isinstance(error, ray.exceptions.ActorUnavailableError) and bool(REFUSED.search(str(error)))
    time.sleep(0.1 if refused else 0.0)
    return refused


def _watch(method: Any) -> Any:
    """Call a method of a service's actor that need not wait for the calls of its sessions."""
    return method.options(concurrency_group=WATCH).remote()


def end(actors: Iterable[Any]) -> None:
    for actor in actors:
        ray.kill(actor)


class RayFleet:
    """One actor per partition, `threads` CPUs each. Needs `connect` first.

    With `actors` of a service it is one session of them: closing it forgets the session, and leaves them alive.
    """

    def __init__(
        self, specs: Sequence[PartitionSpec], *, call_timeout: float = 1800.0, actors: Sequence[Any] = ()
    ) -> None:
        """Raises: FleetError: the cluster has no room for the actors, or an actor cannot open its files."""
        self._timeout = call_timeout
        self._program = 0
        self._log: list[Call] = []
        self._session = uuid.uuid4().hex if actors else ""
        remote = ray.remote(PartitionActor)
        self._actors = list(actors) or [remote.options(**_options(spec)).remote(spec) for spec in specs]
        if actors:
            return
        try:
            await_ready(self._actors, specs)
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        return len(self._actors)

    def reset(self) -> None:
        self._program += 1
        self._log = []

    def each(self, fn: Callable[..., R], *args: Any) -> list[R]:
        call: Call = (fn, args)
        first = len(self._log)
        self._log.append(call)
        shared = ray.put([call])  # serialised once, however many partitions
        pending = {
            actor.apply.remote(self._program, first, shared, self._session): i for i, actor in enumerate(self._actors)
        }
        deadlines = [time.monotonic() + self._timeout] * len(self._actors)
        deaths = [0] * len(self._actors)
        results: dict[int, Any] = {}
        failed: dict[int, BaseException] = {}

        def send(i: int, made: int) -> None:
            """Send all calls after the first `made`, with time for each of them."""
            deadlines[i] = time.monotonic() + self._timeout * (len(self._log) - made)
            missing = self._program, made, self._log[made:], self._session
            pending[self._actors[i].apply.remote(*missing)] = i

        def replay(i: int, problem: str) -> None:
            """Send everything to the process that replaces the one that died, with time to be placed again."""
            self._count_death(deaths, i, problem)
            send(i, 0)
            deadlines[i] += CREATION_TIMEOUT

        while pending:
            patience = min(deadlines[i] for i in pending.values()) - time.monotonic()
            ready, silent = ray.wait(list(pending), timeout=max(patience, 0.0))
            for reference in ready:
                i = pending.pop(reference)
                try:
                    answer = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    failed[i] = _cause(error, i)
                except ray.exceptions.RayError as error:  # a death, of the process or of the node that kept its answer
                    if _coming_back(error) and time.monotonic() < deadlines[i]:
                        limit = deadlines[i]
                        send(i, 0)
                        deadlines[i] = limit
                        continue
                    replay(i, f"its process keeps dying ({_brief(error)})")
                else:
                    if isinstance(answer, Behind):
                        send(i, answer.made)
                    elif isinstance(answer, Stale):
                        failed[i] = FleetError(i, answer.problem(self._program))
                    else:
                        results[i] = answer.result
            now = time.monotonic()
            for reference in silent:  # hung processes are invisible to Ray
                i = pending[reference]
                if deadlines[i] < now and (waiting := self._timeout - self._quiet(i)) > 0:
                    deadlines[i] = now + waiting
                elif deadlines[i] < now:
                    del pending[reference]
                    ray.kill(self._actors[i], no_restart=False)
                    replay(i, f"no answer within {self._timeout:g} s a call")
        if failed:
            raise failed[min(failed)]
        return [results[i] for i in range(len(self._actors))]

    @staticmethod
    def _count_death(deaths: list[int], i: int, problem: str) -> None:
        deaths[i] += 1
        if deaths[i] >= ATTEMPTS:
            raise FleetError(i, f"{problem}; given up after {ATTEMPTS} attempts")

    def _quiet(self, i: int) -> float:
        """Seconds since an actor last began or ended a call, of this session or of another that is first in the queue.

        Endless for an actor of our own, or one that says nothing. 0 for one that died: its calls end by themselves.
        """
        if not self._session:
            return float("inf")
        try:
            return float(ray.get(_watch(self._actors[i].quiet), timeout=REACH_TIMEOUT))
        except ray.exceptions.RayActorError:
            return 0.0
        except ray.exceptions.RayError:
            return float("inf")

    def close(self) -> None:
        if self._session:
            ray.wait([actor.forget.remote(self._session) for actor in self._actors], timeout=REACH_TIMEOUT)
        else:
            end(self._actors)
        self._actors = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def await_ready(actors: Sequence[Any], specs: Sequence[PartitionSpec]) -> None:
    ready = [actor.ready.remote() for actor in actors]
    _, late = ray.wait(ready, num_returns=len(ready), timeout=CREATION_TIMEOUT)
    if late:
        free = ray.available_resources()
        needs = {
            "CPU": sum(max(spec.threads, 1) for spec in specs),
            "GPU": sum(spec.device.startswith("cuda") for spec in specs),
        }
        demand = ", ".join(f"{count} {name}s" for name, count in needs.items() if count)
        supply = ", ".join(f"{free.get(name, 0):g} {name}s" for name, count in needs.items() if count)
        raise FleetError(
            ready.index(late[0]),
            f"not placed within {CREATION_TIMEOUT:g} s: {len(ready)} partitions need {demand} in all, "
            f"free now: {supply}; use fewer partitions or threads, or a larger cluster",
        )
    for index, reference in enumerate(ready):
        _result(reference, index)


def _brief(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


def _cause(error: ray.exceptions.RayTaskError, partition: int) -> BaseException:
    """What the function itself raised: ours as it is, anything else as a failure of the partition."""
    cause = error.cause
    return cause if isinstance(cause, RaysalError) else FleetError(partition, str(error))


def _result(reference: Any, partition: int) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise _cause(error, partition) from None
    except ray.exceptions.RayError as error:
        raise FleetError(partition, str(error)) from None
