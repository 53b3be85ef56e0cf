"""Work that is cut as the pool is: one chunk per partition and round trip, beside the chunk's rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.errors import FingerprintMismatch
from raysal.fleet.base import Fleet
from raysal.fleet.partition import Partition
from raysal.pool import Pool

Wave = tuple[int | None, ...]
"""For each partition what it works on in a round trip, or None."""


def waves_of_chunks(fleet: Fleet, chunks: Sequence[int]) -> Iterator[Wave]:
    """Cut chunks into round trips. Each chunk goes to the partition that holds its first row.

    Args:
        fleet: its partitions are asked where chunks begin.
        chunks: the chunks still to be worked on.

    Yields:
        For each partition the chunk of this round trip, or None.
    """
    fleet.reset()
    begin = {chunk: place for place, found in enumerate(fleet.each(chunks_begun)) for chunk in found}
    queues: list[list[int]] = [[] for _ in range(fleet.size)]
    for chunk in chunks:
        queues[begin.get(chunk, 0)].append(chunk)  # a chunk without rows begins nowhere
    for turn in range(max(map(len, queues), default=0)):
        yield tuple(queue[turn] if turn < len(queue) else None for queue in queues)


def chunks_begun(partition: Partition) -> list[int]:
    """The chunks whose first row is in this partition."""
    return [chunk for chunk, low, high in partition.slices if low == 0 and high > 0]


def items_and_rows(partition: Partition, fingerprint: str, chunk: int) -> tuple[pa.Table, Partition, NDArray[np.int64]]:
    """The items of a chunk, and where their vectors are.

    Args:
        partition: holds the chunk's first row.
        fingerprint: of the pool that the work is over.
        chunk: its number in the pool.

    Returns:
        The ids and keys; the partition with their vectors, which is another one where the chunk ends in the next; and
        their rows int64 [n] in it.

    Raises:
        FingerprintMismatch: the pool is not the one that the work was begun for.
    """
    pool = Pool(Path(partition.spec.pool)) if "pool" not in partition.held else partition.held["pool"]
    if pool.fingerprint != fingerprint:
        fix = "open the pool anew"
        raise FingerprintMismatch(pool.path, "the pool's fingerprint", fingerprint, pool.fingerprint, fix)
    partition.held["pool"] = pool
    items = pool.chunks[chunk].items(["id", "key"])
    rows = partition.rows_of(items["id"].to_numpy())
    if len(rows) < items.num_rows:  # the chunk ends in the next partition
        first = partition.spec.start + int(rows[0])
        whole = replace(partition.spec, start=first, stop=first + items.num_rows)
        partition, rows = Partition(whole), np.arange(items.num_rows)
    return items, partition, rows
