"""The embed job's workers as Ray actors. `unit` says what a worker does, `job` what the driver does."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from raysal.embedding.base import Encoder
from raysal.embedding.devices import Replicas
from raysal.embedding.encoding import halving_warner
from raysal.embedding.rounding import Rounding
from raysal.embedding.torch_model import keep_freed_memory
from raysal.embedding.unit import quarantine_unit, unit_writer
from raysal.errors import ConfigError, EncoderError, FingerprintMismatch
from raysal.messages import brief
from raysal.pool import ChunkStage, StagedChunk
from raysal.sources.base import Source
from raysal.types import Unit

UNITS_PER_WORKER = 2
"""Units a worker has at once: it works on one, the other waits while the driver commits."""
MAX_DEATHS = 3
"""Workers that may die of one unit before the unit is quarantined, or while they load the model before the job ends."""
START_SECONDS = 180.0
"""Seconds the job waits while no worker is ready."""
POLL_SECONDS = 1.0
"""Seconds the driver waits for an answer before it looks at its workers again."""


class Embedder:
    """The actor: it runs `unit_writer` in a process of its own."""

    def __init__(self, module_path: list[str]) -> None:
        """Take over the driver's `sys.path`: an encoder of the user's may come from the driver's directory."""
        sys.path += [place for place in module_path if place not in sys.path]

    def prepare(
        self,
        source: Source,
        encoder: Encoder,
        stage: ChunkStage,
        rounding: Rounding,
        method: str,
        threads: int,
        measures: Sequence[str] = (),
    ) -> str:
        """Load the model.

        Args:
            source: gives the items of later units.
            encoder: the model.
            stage: writes the files of later units.
            rounding: how their vectors become float16.
            method: by which the contents of the pool are known.
            threads: CPU threads for torch.
            measures: names of what is measured of each item.

        Returns:
            The encoder's fingerprint as this process computes it.
        """
        self._source, self._encoder, self._stage = source, encoder, stage
        self._halved: list[int] = []
        self._replicas = Replicas(encoder, [getattr(encoder, "device", "cpu")], self._halved.append)
        self._rounding, self._method, self._measures = rounding, method, measures
        if encoder.modality != "vector":
            import torch

            keep_freed_memory()
            torch.set_num_threads(threads)  # Ray sets OMP_NUM_THREADS to 1
        return encoder.fingerprint()

    def embed(self, unit: Unit, batch_size: int, decode_threads: int, attempt: int) -> tuple[StagedChunk, list[int]]:
        """Embed one unit and stage its files; see `unit_writer`.

        Args:
            unit: the chunk.
            batch_size: items in one call of the model.
            decode_threads: threads that prepare items ahead of it.
            attempt: how often the unit was tried before.

        Returns:
            The staged chunk, and the sizes of batches that did not fit into memory.
        """
        self._halved.clear()
        write = unit_writer(
            self._source,
            self._encoder,
            unit,
            self._stage,
            batch_size=batch_size,
            decode_threads=decode_threads,
            replicas=self._replicas,
            rounding=self._rounding,
            attempt=attempt,
            method=self._method,
            measures=self._measures,
        )
        return write(), list(self._halved)


@dataclass
class _Task:
    """A unit and its history."""

    unit: Unit
    attempt: int = 0
    """how often it was with a worker that died"""
    deaths: int = 0
    """how often it is held to be the cause of that"""


@dataclass(eq=False)
class _Worker:
    """An actor and what it was asked to do."""

    actor: Any
    starting: Any
    """the call that loads the model; None once it has answered"""
    calls: deque[tuple[Any, _Task]] = field(default_factory=deque)
    """its units in the order it runs them"""

    def takes_more(self, suspects: bool) -> bool:
        """Whether to give the worker another unit.

        A unit that was with a worker when the worker died is a suspect, and runs alone. A worker that is killed right
        after it finished a unit may lose that answer, so that of two units the wrong one would be blamed.

        Args:
            suspects: whether units wait that were with a dead worker.

        Returns:
            Whether the worker is ready and has room.
        """
        alone = suspects or any(task.attempt for _, task in self.calls)
        return self.starting is None and len(self.calls) < (1 if alone else UNITS_PER_WORKER)


def embed_on_ray(
    units: Iterator[Unit],
    source: Source,
    encoder: Encoder,
    stage: ChunkStage,
    rounding: Rounding,
    method: str,
    *,
    batch_size: int,
    decode_threads: int,
    workers: int = 0,
    max_workers: int,
    threads: int = 0,
    address: str | None = None,
    device: str = "cpu",
    fingerprint: str,
    measures: Sequence[str] = (),
) -> Generator[StagedChunk]:
    """Embed units on Ray workers.

    A worker that dies is replaced, and its units are issued again, each to a worker that has no other unit. A unit
    that `MAX_DEATHS` workers died of is staged with all its items quarantined.

    Args:
        units: the chunks still to be embedded.
        source: gives their items; pickled to the workers.
        encoder: gives their vectors; pickled to the workers.
        stage: writes their files; every worker must see its directory under the same path.
        rounding: how their vectors become float16.
        method: by which the contents of the pool are known.
        batch_size: items in one call of the model.
        decode_threads: threads in each worker that prepare items ahead of the model.
        workers: worker processes; 0 is what the cluster has room for.
        max_workers: at most so many, whatever `workers` says.
        threads: CPU threads of each worker; 0 is an even share.
        address: the Ray cluster to join; None as `raysal.fleet.ray_fleet.connect`.
        device: `cpu`, or `cuda`: one GPU for each worker.
        fingerprint: of the encoder, as the driver knows it.
        measures: names of what is measured of each item.

    Yields:
        Staged chunks in the order they finish.

    Raises:
        ConfigError: no worker could start in time; the error names what was asked for and what there is. Or a worker
            cannot have the device.
        EncoderError: workers die while they load the model.
        FingerprintMismatch: a worker loaded other weights than this process.
        RaysalError: as raised in a worker.
    """
    from raysal.fleet.ray_fleet import check_device, connect

    connect(address, workers * threads)
    check_device(device, "device", "each worker")
    gpus = 0 if device == "cpu" else 1
    count, threads = _workers_and_threads(workers, threads, gpus, max_workers)
    host = ray.remote(Embedder).options(num_cpus=threads, num_gpus=gpus, max_restarts=0, max_task_retries=0)

    def start() -> _Worker:
        actor = host.remote([place or os.getcwd() for place in sys.path])
        asked = (source, encoder, stage, rounding, method, threads, measures)
        return _Worker(actor=actor, starting=actor.prepare.remote(*asked))

    crew = [start() for _ in range(count)]
    reissued: deque[_Task] = deque()
    warn_of_halved = halving_warner()
    start_deaths = 0
    last_ready = time.monotonic()
    try:
        while True:
            for worker in crew:
                while worker.takes_more(suspects=bool(reissued)):
                    task = reissued.popleft() if reissued else next(map(_new_task, units), None)
                    if task is None:
                        break
                    call = worker.actor.embed.remote(task.unit, batch_size, decode_threads, task.attempt)
                    worker.calls.append((call, task))
            if any(worker.starting is None for worker in crew):
                last_ready = time.monotonic()
                if not any(worker.calls for worker in crew):
                    return
            elif time.monotonic() - last_ready > START_SECONDS:
                fix = "ask for fewer threads, or wait until the cluster has room"
                raise ConfigError("embed.workers", _no_room(count, threads, gpus), fix)
            waiting = {
                worker.starting or worker.calls[0][0]: worker for worker in crew if worker.starting or worker.calls
            }
            done, _ = ray.wait(list(waiting), num_returns=1, timeout=POLL_SECONDS)
            for call in done:
                worker = waiting[call]
                try:
                    result = ray.get(call)
                except RayTaskError as error:
                    raise error.cause from None
                except RayActorError as error:
                    start_deaths = start_deaths + 1 if worker.starting is not None else 0
                    if start_deaths >= MAX_DEATHS:
                        raise EncoderError(
                            "embed worker",
                            f"died {start_deaths} times while loading the model ({brief(error)})",
                            "use fewer --workers if memory ran out",
                        ) from None
                    crew[crew.index(worker)] = start()
                    for task in _take_back_tasks(worker):
                        if task.deaths < MAX_DEATHS:
                            reissued.append(task)
                        else:
                            reason = f"worker died {task.deaths} times"
                            yield quarantine_unit(task.unit, stage, reason, task.attempt, method)
                    continue
                if worker.starting is not None:
                    worker.starting = None
                    if result != fingerprint:
                        raise FingerprintMismatch(
                            "embed worker",
                            "the encoder's fingerprint",
                            fingerprint,
                            result,
                            "install the same packages on every node",
                        )
                else:
                    worker.calls.popleft()
                    staged, halved = result
                    for size in halved:
                        warn_of_halved(size)
                    yield staged
    finally:
        for worker in crew:
            ray.kill(worker.actor)


def _new_task(unit: Unit) -> _Task:
    return _Task(unit=unit)


def _take_back_tasks(worker: _Worker) -> list[_Task]:
    """The tasks of a dead worker, marked for another try. A worker runs them in order, so the first is blamed."""
    ray.kill(worker.actor)  # the worker may be alive and out of reach: it must not go on
    for place, (_, task) in enumerate(worker.calls):
        task.attempt += 1
        task.deaths += place == 0
    return [task for _, task in worker.calls]


def _workers_and_threads(workers: int, threads: int, gpus: int, max_workers: int) -> tuple[int, int]:
    """(how many workers, CPU threads of each) for what the cluster has."""
    have = ray.cluster_resources()
    cpus = max(1, int(have.get("CPU", 1)))
    room = int(have.get("GPU", 0)) if gpus else cpus // (threads or 1)
    count = min(workers or max(1, room), max_workers)
    return count, threads or max(1, cpus // count)


def _no_room(count: int, threads: int, gpus: int) -> str:
    """What a worker asks for and what the cluster has left, in words."""
    need = {"CPU": threads, **({"GPU": gpus} if gpus else {})}
    free = ray.available_resources()  # it leaves out a resource of which nothing is left
    have = {name: free.get(name, 0.0) for name in (*need, "memory")}
    return f"none of {count} workers could start in {START_SECONDS:.0f} s; each asks for {need}, available are {have}"
