"""The partitions of a pool in Ray actors: transport only.

What is computed is in `raysal.fleet.partition`, how a lost partition is rebuilt in `raysal.fleet.replay`, and what to
send after a death, a refusal or a silence in `raysal.fleet.recovery`.

Ray restarts the process of an actor that died, but never repeats a call by itself: a repeat would run on a fresh, empty
partition and return a wrong result without an error. The driver repeats it, after the calls that are missing.

A service is the same actors with names, which outlive the process that started them (`raysal.fleet.service`).
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import ray
import ray.exceptions
import torch

from raysal.config import FleetConfig
from raysal.errors import ConfigError, FleetError, RaysalError
from raysal.fleet import recovery
from raysal.fleet.actors import PartitionActor, ServiceActor, actor_options
from raysal.fleet.address import REACH_TIMEOUT, check_address, keeping_sigterm, no_cluster
from raysal.fleet.recovery import CREATION_TIMEOUT, RETRY_PAUSE, Recovery
from raysal.fleet.replay import Behind, Call, Stale
from raysal.fleet.specs import PartitionSpec, plan_partitions
from raysal.messages import brief, without_codes
from raysal.pool import Pool

R = TypeVar("R")

NO_PROCESS = re.compile("is restarting|failed to connect")
"""What Ray says of a message that no process received: Ray sends to a dead process until it notices the death, which
takes seconds on a busy machine, and then waits for the next process to start."""
NAMESPACE = "raysal"
"""Where Ray keeps the names of services."""
WATCH = "watch"
"""The concurrency group of the methods that a service's actor answers while it computes."""
OBJECT_STORE_BYTES = 256 * 2**20
"""Size of the object store when Ray is started here. Pools are mapped from files and never pass through it."""


def connect(address: str | None = None, threads: int = 0) -> None:
    """Join a Ray cluster, or start Ray in this process; do nothing if either was done before.

    A cluster that `ray start` left on this machine is joined only when asked for (`auto`).

    Args:
        address: host:port, `auto` or `local`; by default the variable RAY_ADDRESS. Without either, Ray is started here.
        threads: CPUs of a Ray that is started here; 0 for all of the machine.

    Raises:
        ConfigError: There is no cluster at the address.
    """
    if ray.is_initialized():
        return
    if address in (None, "", "auto"):
        address = os.environ.get("RAY_ADDRESS") or address
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": True, "logging_level": "ERROR"}
    if address:
        if address not in ("auto", "local"):
            check_address(address)
        try:
            with keeping_sigterm():
                ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise ConfigError(*no_cluster(address, brief(error))) from None
        return
    quiet |= {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    with keeping_sigterm():
        ray.init(address="local", num_cpus=threads or os.cpu_count(), **quiet)


def check_device(device: str, field: str = "fleet.device", owner: str = "each partition") -> None:
    """Check that an actor can have a device. An actor sees one GPU only, its own, as number 0.

    Args:
        device: The name of a torch device.
        field: Where it was named, for the error.
        owner: What an actor stands for, for the error.

    Raises:
        ConfigError: It is no name of a device, or no node of the cluster has such a device.
    """
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(field, brief(error), 'use "cpu" or "cuda"') from None
    if wanted.type == "cuda" and wanted.index not in (None, 0):
        raise ConfigError(field, f"{device!r}: with Ray {owner} has a GPU of its own", 'use "cuda"')
    if wanted.type == "cuda" and not ray.cluster_resources().get("GPU"):
        raise ConfigError(field, f"{device!r}, and no node of the Ray cluster has a GPU", 'use "cpu"')


def cluster_cpus() -> int:
    """Return the number of CPUs of the cluster this process is connected to."""
    return max(int(ray.cluster_resources().get("CPU", 1)), 1)


def plan_for_cluster(pool: Pool, config: FleetConfig) -> list[PartitionSpec]:
    """Plan the partitions of a pool: by default one for each CPU, and threads that share the CPUs.

    Args:
        pool: The pool to cut.
        config: May give the number of partitions, their device and their threads.

    Returns:
        One spec for each partition, in order.

    Raises:
        ConfigError: No node of the cluster has the device.
    """
    check_device(config.device)
    cpus = cluster_cpus()
    count = config.partitions or cpus
    threads = config.threads or max(cpus // count, 1)
    return plan_partitions(pool, count, device=config.device, threads=threads)


def start_named(spec: PartitionSpec, name: str, most: int, count: int) -> Any:
    """Start an actor that outlives this process, or find the one that has its name already.

    Args:
        spec: The partition that the actor hosts.
        name: Its name on the cluster.
        most: Number of sessions that it keeps.
        count: Number of partitions of the service.

    Returns:
        The handle of the actor.
    """
    remote: Any = ray.remote(concurrency_groups={WATCH: 1})(ServiceActor)
    named = {"name": name, "namespace": NAMESPACE, "lifetime": "detached", "get_if_exists": True}
    return remote.options(**named, **actor_options(spec)).remote(spec, most, count)


def named_actors() -> dict[str, Any]:
    """Return the actors of all services on the cluster, by name."""
    found = {}
    for actor in ray.util.list_named_actors(all_namespaces=True):
        if actor["namespace"] == NAMESPACE:
            with contextlib.suppress(ValueError):  # it has ended since it was listed
                found[actor["name"]] = ray.get_actor(actor["name"], namespace=NAMESPACE)
    return found


def about(actor: Any, partition: int) -> tuple[PartitionSpec, int]:
    """Ask an actor of a service about itself; it answers while it computes, too.

    Args:
        actor: The handle of the actor.
        partition: Its number, for the error.

    Returns:
        The partition's spec, and the number of partitions of the service.

    Raises:
        FleetError: It does not answer.
    """
    deaths, deadline = 0, time.monotonic() + CREATION_TIMEOUT
    while True:
        try:
            found: tuple[PartitionSpec, int] = ray.get(_watch(actor.about), timeout=CREATION_TIMEOUT)
            return found
        except ray.exceptions.RayError as error:
            reached = not reached_no_process(error)
            deaths += reached
            if deaths >= recovery.ATTEMPTS or time.monotonic() > deadline:
                raise FleetError(partition, f"its process does not answer ({brief(error)})") from None
            if not reached:
                time.sleep(RETRY_PAUSE)


def reached_no_process(error: BaseException) -> bool:
    """Whether Ray says that no process received a message. That is no further death: the next process is starting."""
    return isinstance(error, ray.exceptions.ActorUnavailableError) and bool(NO_PROCESS.search(str(error)))


def _watch(method: Any) -> Any:
    """Call a method of a service's actor that need not wait for the calls of its sessions."""
    return method.options(concurrency_group=WATCH).remote()


def end(actors: Iterable[Any]) -> None:
    """Kill actors for good: Ray starts no process in their place."""
    for actor in actors:
        ray.kill(actor)


class RayFleet:
    """A fleet of one Ray actor per partition, `threads` CPUs each. `connect` must be called first.

    With the `actors` of a service it is one session of that service: to close it forgets the session, and leaves the
    actors alive. A fleet is used by one thread at a time.
    """

    def __init__(
        self, specs: Sequence[PartitionSpec], *, call_timeout: float = 1800.0, actors: Sequence[Any] = ()
    ) -> None:
        """Start one actor for each partition, and wait until all have opened their files.

        Args:
            specs: The partitions; not read where `actors` are given.
            call_timeout: Seconds that one call may take on a partition before its process counts as hanging.
            actors: The actors of a running service, in partition order.

        Raises:
            FleetError: The cluster has no room for the actors, or an actor cannot open its files.
        """
        self._timeout = call_timeout
        self._program = 0
        self._log: list[Call] = []
        self._session = uuid.uuid4().hex if actors else ""
        remote = ray.remote(PartitionActor)
        self._actors = list(actors) or [remote.options(**actor_options(spec)).remote(spec) for spec in specs]
        if actors:
            return
        try:
            await_ready(self._actors, specs)
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        """Number of partitions."""
        return len(self._actors)

    def reset(self) -> None:
        """Begin a new program; the actors learn of it with its first call."""
        self._program += 1
        self._log = []

    def each(self, fn: Callable[..., R], *args: Any) -> list[R]:
        """Call `fn(partition, *args)` on every partition (see `Fleet.each`), whatever dies or hangs meanwhile.

        Args:
            fn: A function of a module.
            args: Its arguments after the partition.

        Returns:
            The results in partition order.

        Raises:
            RaysalError: The error of raysal that `fn` raised, from the first partition that raised one.
            FleetError: `fn` raised another error, or a partition's process died or hung ATTEMPTS times in this call.
        """
        self._log.append((fn, args))
        newest = ray.put(self._log[-1:])  # serialised once, however many partitions
        state = Recovery(self.size, len(self._log), timeout=self._timeout, shared=bool(self._session))
        sent: dict[int, Any] = {}
        events: deque[recovery.Event] = deque([recovery.Called()])
        while True:
            for step in state.handle(events.popleft(), time.monotonic()):
                match step:
                    case recovery.Send(i):
                        sent[i] = self._send(i, len(self._log) - 1, newest)
                    case recovery.Replay(i, first):
                        sent[i] = self._send(i, first, self._log[first:])
                    case recovery.Kill(i):
                        ray.kill(self._actors[i], no_restart=False)
                    case recovery.Ask(i):
                        events.append(recovery.WasQuiet(i, self._ask_quiet(i)))
                    case recovery.Wait(until):
                        if not events:
                            events.extend(self._await_events(sent, until))
                    case recovery.Return(results):
                        return list(results)
                    case recovery.GiveUp(error=error):
                        raise error

    def _send(self, i: int, first: int, calls: Any) -> Any:
        """Send calls to a partition, the first of which is number `first`; returns the reference of the answer."""
        return self._actors[i].apply.remote(self._program, first, calls, self._session)

    def _await_events(self, sent: dict[int, Any], until: float) -> Iterator[recovery.Event]:
        """Wait for an answer, at most until a time; take what has arrived out of `sent`, and yield it as events."""
        references, patience = list(sent.values()), max(until - time.monotonic(), 0.0)
        if references:
            ready = set(ray.wait(references, timeout=patience)[0])
            ready.update(ray.wait(references, num_returns=len(references), timeout=0)[0])
            for i in [i for i, reference in sent.items() if reference in ready]:
                yield self._event_of(i, sent.pop(i))
        else:
            time.sleep(patience)
        yield recovery.TimePassed()

    def _event_of(self, i: int, reference: Any) -> recovery.Event:
        """What a partition's answer, or Ray's error in its place, means."""
        try:
            answer = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            return recovery.Raised(i, _cause(error, i))
        except ray.exceptions.RayError as error:  # the process died, or the node that kept its answer
            return (recovery.NotReached if reached_no_process(error) else recovery.Died)(i, brief(error))
        if isinstance(answer, Behind):
            return recovery.IsBehind(i, answer.made)
        if isinstance(answer, Stale):
            return recovery.Raised(i, FleetError(i, answer.problem(self._program)))
        return recovery.Answered(i, answer.result)

    def _ask_quiet(self, i: int) -> float:
        """Ask a service's actor how many seconds ago it began or ended a call, of this session or of another.

        Returns:
            The seconds; infinity if it does not answer, 0 if it died: then the calls sent to it end by themselves.
        """
        try:
            return float(ray.get(_watch(self._actors[i].quiet), timeout=REACH_TIMEOUT))
        except ray.exceptions.RayActorError:
            return 0.0
        except ray.exceptions.RayError:
            return float("inf")

    def close(self) -> None:
        """End the actors; for a session of a service, only have them forget the session."""
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
    """Wait until actors are placed and have opened their files.

    Args:
        actors: The actors.
        specs: Their partitions, in the same order.

    Raises:
        FleetError: An actor was not placed within CREATION_TIMEOUT, or it died.
        RaysalError: An actor cannot open its files.
    """
    ready = [actor.ready.remote() for actor in actors]
    _, late = ray.wait(ready, num_returns=len(ready), timeout=CREATION_TIMEOUT)
    if late:
        raise FleetError(ready.index(late[0]), f"not placed within {CREATION_TIMEOUT:g} s: {_shortage(specs)}")
    for index, reference in enumerate(ready):
        try:
            ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            failure = _cause(error, index)
            raise failure from None
        except ray.exceptions.RayError as error:
            raise FleetError(index, without_codes(str(error))) from None


def _shortage(specs: Sequence[PartitionSpec]) -> str:
    """What the partitions need, and what the cluster has left."""
    free = ray.available_resources()
    needs = {
        "CPU": sum(max(spec.threads, 1) for spec in specs),
        "GPU": sum(spec.device.startswith("cuda") for spec in specs),
    }
    demand = ", ".join(f"{count} {name}s" for name, count in needs.items() if count)
    supply = ", ".join(f"{free.get(name, 0):g} {name}s" for name, count in needs.items() if count)
    return (
        f"{len(specs)} partitions need {demand} in all, free now: {supply}; use fewer partitions or threads, or a "
        "larger cluster"
    )


def _cause(error: ray.exceptions.RayTaskError, partition: int) -> BaseException:
    """What the function itself raised: an error of raysal as it is, any other as a failure of the partition."""
    cause = error.cause
    return cause if isinstance(cause, RaysalError) else FleetError(partition, without_codes(str(error)))
