"""Units to committed chunks, in this process or on Ray."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from raysal.embedding.base import Encoder
from raysal.embedding.batches import method_for
from raysal.embedding.devices import Replicas, on_device
from raysal.embedding.rounding import Rounding
from raysal.embedding.torch_model import freed_memory_kept
from raysal.embedding.unit import unit_writer
from raysal.pool import ChunkStage, PoolWriter, StagedChunk
from raysal.pool.contents import algorithm_of
from raysal.pool.layout import KINDS
from raysal.sources.base import Source
from raysal.store import remove_temporaries
from raysal.threads import give_way
from raysal.types import Unit


@dataclass(frozen=True, kw_only=True)
class Work:
    """How units are embedded; see `raysal.embedding.job.embed`."""

    batch_size: int
    decode_threads: int
    workers: int
    backend: Literal["local", "ray"]
    threads: int
    address: str | None
    devices: tuple[str, ...] = ("cpu",)
    """where the model runs: all of these in this process, or with Ray the one of each worker"""


def commit_units(
    units: Iterator[Unit],
    source: Source,
    encoder: Encoder,
    writer: PoolWriter,
    rounding: Rounding,
    work: Work,
    committed: Callable[[], None],
) -> bool:
    """Embed units, and commit each as a chunk.

    Args:
        units: what is left to do.
        source: gives their items.
        encoder: makes their vectors.
        writer: of the pool.
        rounding: how vectors become float16.
        work: how it is done.
        committed: called after each commit.

    Returns:
        Whether there was any.
    """
    if (first := next(units, None)) is None:
        return False
    left = len(writer.chunks) - len(writer.committed)
    stage = ChunkStage(writer.path, writer.manifest.dim)
    method = algorithm_of(writer.committed.values(), method_for(encoder))
    units = chain([first], units)
    if work.backend == "local":
        results = _embed_here(units, source, encoder, stage, rounding, method, work, writer.manifest.measures)
    else:
        from raysal.embedding.ray_job import embed_on_ray

        results = embed_on_ray(
            units,
            source,
            on_device(encoder, work.devices[0]),
            stage,
            rounding,
            method,
            batch_size=work.batch_size,
            decode_threads=work.decode_threads,
            workers=work.workers,
            max_workers=left,
            threads=work.threads,
            address=work.address,
            device=work.devices[0],
            fingerprint=encoder.fingerprint(),
            measures=writer.manifest.measures,
        )
    try:
        with closing(results):
            for staged in results:
                writer.commit(staged)
                committed()
    finally:
        # Files that a killed worker had begun. A worker that still runs loses files that nobody waits for.
        for kind in KINDS:
            remove_temporaries(writer.path / kind)
    return True


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads in this process inside the block; 0 changes nothing."""
    if count == 0:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _embed_here(
    units: Iterator[Unit],
    source: Source,
    encoder: Encoder,
    stage: ChunkStage,
    rounding: Rounding,
    method: str,
    work: Work,
    measures: Sequence[str],
) -> Generator[StagedChunk]:
    """Embed units in this process. A second thread writes a chunk while the next one is embedded.

    The two chunks lie in the same memory from the first unit to the last: new pages for each would cost a tenth of the
    time of ready vectors.

    Yields:
        Staged chunks, in order.
    """
    memories: list[NDArray[np.float16]] = []
    staged: Future[StagedChunk] | None = None
    replicas = Replicas(encoder, work.devices)
    runs_model = source.modality != "vector"
    with (
        freed_memory_kept() if runs_model else nullcontext(),
        torch_threads(work.threads if runs_model else 0),
        ThreadPoolExecutor(1, initializer=give_way if runs_model else None) as pen,
    ):
        while True:
            try:
                if (unit := next(units, None)) is None:
                    break
                if not memories or len(memories[0]) < len(unit.keys):
                    memories = [np.empty((len(unit.keys), encoder.dim), np.float16) for _ in range(2)]
                write = unit_writer(
                    source,
                    encoder,
                    unit,
                    stage,
                    batch_size=work.batch_size,
                    decode_threads=work.decode_threads,
                    replicas=replicas,
                    rounding=rounding,
                    method=method,
                    memory=memories[0],
                    measures=measures,
                )
            except BaseException:
                if staged is not None:
                    yield staged.result()
                raise
            memories.reverse()
            before, staged = staged, pen.submit(write)
            if before is not None:
                yield before.result()
        if staged is not None:
            yield staged.result()
