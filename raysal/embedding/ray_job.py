"""The embed job's workers as Ray actors. What a worker does is in `unit`, what the driver does in `job`."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from raysal.embedding.base import Encoder
from raysal.embedding.torch_model import keep_memory
from raysal.embedding.unit import embed_unit, lose_unit
from raysal.errors import ConfigError, EncoderError, FingerprintMismatch
from raysal.pool import ChunkStage, StagedChunk
from raysal.sources.base import Source
from raysal.types import Unit

WINDOW = 2
"""Units a worker has at once: one it works on, and one waiting while the driver commits."""

MOST_DEATHS = 3
START_SECONDS = 180.0
"""How long the job waits without any worker that is ready."""


class Embedder:
    """Hosts `embed_unit` in an actor process."""

    def __init__(self, search: list[str]) -> None:
        """`search` is the driver's module path: an encoder of the user's own may come from its directory."""
        sys.path += [place for place in search if place not in sys.path]

    def prepare(self, source: Source, encoder: Encoder, stage: ChunkStage, threads: int) -> str:
        """Load the model; its fingerprint as this process sees it."""
        self._source, self._encoder, self._stage = source, encoder, stage
        if encoder.modality != "vector":
            import torch

            keep_memory()
            torch.set_num_threads(threads)  # Ray sets OMP_NUM_THREADS to 1
        return encoder.fingerprint()

    def embed(self, unit: Unit, batch_size: int, decode_threads: int, attempt: int) -> StagedChunk:
        return embed_unit(
            self._source,
            self._encoder,
            unit,
            self._stage,
            batch_size=batch_size,
            decode_threads=decode_threads,
            attempt=attempt,
        )


@dataclass
class _Task:
    """A unit, and how often it was issued and was what a worker died of."""

    unit: Unit
    attempt: int = 0
    deaths: int = 0


@dataclass(eq=False)
class _Worker:
    """An actor, the call that makes it ready (None once it is), and its calls in the order it runs them."""

    actor: Any
    starting: Any
    calls: deque[tuple[Any, _Task]] = field(default_factory=deque)

    def takes_more(self, suspects: bool) -> bool:
        """Whether to give it another unit. One that was with a worker when that died is a suspect, and runs
        alone: a worker killed right after it finished a unit may take that answer with it, so of two units
        the wrong one can be blamed."""
        alone = suspects or any(task.attempt for _, task in self.calls)
        return self.starting is None and len(self.calls) < (1 if alone else WINDOW)


def embed_on_ray(
    units: Iterator[Unit],
    source: Source,
    encoder: Encoder,
    stage: ChunkStage,
    *,
    batch_size: int,
    decode_threads: int,
    workers: int = 0,
    most: int,
    threads: int = 0,
    address: str | None = None,
    device: str = "cpu",
) -> Generator[StagedChunk]:
    """Staged chunks in the order they finish. `workers` 0 is what the cluster has room for, up to `most`.

    A worker that dies is replaced and its units are issued again, each to a worker that has nothing else. A unit that
    three workers died of is staged with all its items quarantined.

    Raises:
        ConfigError: no worker could start in time; names what was asked for and what there is.
        EncoderError: workers die while they load the model.
        FingerprintMismatch: a worker loaded other weights than this process.
        RaysalError: as raised in a worker.
    """
    from raysal.fleet.ray_fleet import connect

    connect(address, workers * threads)
    gpus = 0 if device == "cpu" else 1
    count, threads = _share(workers, threads, gpus, most)
    host = ray.remote(Embedder).options(num_cpus=threads, num_gpus=gpus, max_restarts=0, max_task_retries=0)

    def start() -> _Worker:
        actor = host.remote([place or os.getcwd() for place in sys.path])
        return _Worker(actor=actor, starting=actor.prepare.remote(source, encoder, stage, threads))

    crew = [start() for _ in range(count)]
    again: deque[_Task] = deque()
    expected = encoder.fingerprint()
    stillborn = 0
    last_ready = time.monotonic()
    try:
        while True:
            for worker in crew:
                while worker.takes_more(suspects=bool(again)):
                    task = again.popleft() if again else next(map(_new_task, units), None)
                    if task is None:
                        break
                    call = worker.actor.embed.remote(task.unit, batch_size, decode_threads, task.attempt)
                    worker.calls.append((call, task))
            if any(worker.starting is None for worker in crew):
                last_ready = time.monotonic()
                if not any(worker.calls for worker in crew):
                    return
            elif time.monotonic() - last_ready > START_SECONDS:
                raise _no_room(count, threads, gpus)
            waiting = {
                worker.starting or worker.calls[0][0]: worker for worker in crew if worker.starting or worker.calls
            }
            done, _ = ray.wait(list(waiting), num_returns=1, timeout=1.0)
            for call in done:
                worker = waiting[call]
                try:
                    result = ray.get(call)
                except RayTaskError as error:
                    raise error.cause from None
                except RayActorError as error:
                    stillborn = stillborn + 1 if worker.starting is not None else 0
                    if stillborn >= MOST_DEATHS:
                        raise EncoderError(
                            "embed worker",
                            f"died {stillborn} times while loading the model ({error})",
                            "use fewer --workers if memory ran out",
                        ) from None
                    crew[crew.index(worker)] = start()
                    for task in _bury(worker):
                        if task.deaths < MOST_DEATHS:
                            again.append(task)
                        else:
                            reason = f"worker died {task.deaths} times"
                            yield lose_unit(task.unit, stage, reason, task.attempt)
                    continue
                if worker.starting is not None:
                    worker.starting = None
                    if result != expected:
                        raise FingerprintMismatch(
                            "embed worker",
                            "the encoder's fingerprint",
                            expected,
                            result,
                            "install the same packages on every node",
                        )
                else:
                    worker.calls.popleft()
                    yield result
    finally:
        for worker in crew:
            ray.kill(worker.actor)


def _new_task(unit: Unit) -> _Task:
    return _Task(unit=unit)


def _bury(worker: _Worker) -> list[_Task]:
    """The tasks of a dead worker, marked for another try. They run in order: the first is held to blame."""
    ray.kill(worker.actor)  # a worker that is merely out of reach must not go on
    for place, (_, task) in enumerate(worker.calls):
        task.attempt += 1
        task.deaths += place == 0
    return [task for _, task in worker.calls]


def _share(workers: int, threads: int, gpus: int, most: int) -> tuple[int, int]:
    """Workers, and CPU threads for each."""
    have = ray.cluster_resources()
    cpus = max(1, int(have.get("CPU", 1)))
    room = int(have.get("GPU", 0)) if gpus else cpus // (threads or 1)
    count = min(workers or max(1, room), most)
    return count, threads or max(1, cpus // count)


def _no_room(count: int, threads: int, gpus: int) -> ConfigError:
    need = {"CPU": threads, **({"GPU": gpus} if gpus else {})}
    free = ray.available_resources()  # without what is used up
    have = {name: free.get(name, 0.0) for name in (*need, "memory")}
    return ConfigError(
        "embed.workers",
        f"none of {count} workers could start in {START_SECONDS:.0f} s; each asks for {need}, available are {have}",
        "ask for fewer threads, or wait until the cluster has room",
    )
