"""Work that is cut as the pool is: a run of chunks per partition and round trip, beside their rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.errors import FingerprintMismatch
from raysal.fleet.base import Fleet
from raysal.fleet.partition import Partition

T = TypeVar("T")


def waves_of_chunks(fleet: Fleet, units: Sequence[range]) -> Iterator[tuple[range | None, ...]]:
    """Cut work into round trips. Each unit goes to the partition that holds its first row.

    Args:
        fleet: its partitions are asked where chunks begin.
        units: the work that is left: each is some consecutive chunks.

    Returns:
        For each partition its unit of a round trip, or None: one round trip after the other.
    """
    fleet.reset()
    begin = {chunk: place for place, found in enumerate(fleet.each(chunks_begun)) for chunk in found}
    queues: list[list[range]] = [[] for _ in range(fleet.size)]
    for unit in units:  # a chunk without rows begins nowhere
        queues[next((begin[chunk] for chunk in unit if chunk in begin), 0)].append(unit)
    return in_turns(queues)


def in_turns(queues: Sequence[Sequence[T]]) -> Iterator[tuple[T | None, ...]]:
    """The nth of every queue, or None where it has no nth, until none has one."""
    for turn in range(max(map(len, queues), default=0)):
        yield tuple(queue[turn] if turn < len(queue) else None for queue in queues)


def chunks_begun(partition: Partition) -> list[int]:
    """The chunks whose first row is in this partition."""
    return [chunk for chunk, low, high in partition.slices if low == 0 and high > 0]


def items_and_rows(
    partition: Partition, fingerprint: str, chunks: range
) -> tuple[pa.Table, Partition, NDArray[np.int64]]:
    """The items of consecutive chunks, and where their vectors are.

    Args:
        partition: holds their first row.
        fingerprint: of the pool that the work is over.
        chunks: their numbers in the pool.

    Returns:
        The ids and keys; the partition with their vectors, which is another one where they end in the next; and their
        rows int64 [n] in it.

    Raises:
        FingerprintMismatch: the pool is not the one that the work was begun for.
    """
    pool = partition.spec.open_pool() if "pool" not in partition.held else partition.held["pool"]
    if pool.fingerprint != fingerprint:
        fix = "open the pool anew"
        raise FingerprintMismatch(pool.path, "the pool's fingerprint", fingerprint, pool.fingerprint, fix)
    partition.held["pool"] = pool
    items = pa.concat_tables([pool.chunks[chunk].items(["id", "key"]) for chunk in chunks])
    start = sum(chunk.rows for chunk in pool.chunks[: chunks.start])
    stop, spec = start + items.num_rows, partition.spec
    if start < stop and not spec.start <= start < stop <= spec.stop:
        partition, spec = Partition(replace(spec, start=start, stop=stop)), replace(spec, start=start, stop=stop)
    return items, partition, np.arange(start, stop) - spec.start
