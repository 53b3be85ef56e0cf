"""How a pool is cut into partitions: what a process must be told to build its own, and which chunks that names."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.pool import Pool
from raysal.pool.ahead import fetched_ahead
from raysal.pool.owner_chunk import begins_of_owners, owner_ids
from raysal.pool.owners import has_parts


@dataclass(frozen=True, kw_only=True)
class PartitionSpec:
    """What a process needs to build a partition: the same after every restart, and as small for any number of chunks.

    Ray does not restart an actor whose constructor took more than 100 KiB (findings/ray_actor_large_argument.sh). So no
    field may grow with the pool.
    """

    index: int
    """The partition's number, from 0."""
    pool: str
    """The pool's absolute path, or its URL."""
    start: int
    """The first row, counted over all chunks of the pool."""
    stop: int
    """One past the last row."""
    device: str = "cpu"
    threads: int = 0
    """CPU threads for the products; 0 leaves the process as it is."""
    fingerprint: str = ""
    """Fingerprint that the pool at the path must have, also after a restart; empty for any."""
    generation: int | None = None
    """Of the pool; None for its newest."""

    def open_pool(self) -> Pool:
        """Open the pool as it was when it was cut, also if it changed since."""
        return Pool(self.pool, self.generation)


def plan_partitions(pool: Pool, count: int, *, device: str = "cpu", threads: int = 0) -> list[PartitionSpec]:
    """Cut a pool into runs of consecutive rows, equal to within one row. Pure.

    A cut inside an owner moves to its end, so that all parts of an owner are in one partition. For that, the owners of
    the chunks where cuts lie are read.

    Args:
        pool: The pool.
        count: Number of partitions; of more than the pool has rows, some are empty.
        device: The torch device of each partition.
        threads: CPU threads of each partition's process; 0 leaves it as it is.

    Returns:
        One spec for each partition, in order.
    """
    cuts = _beside_owners(pool, [len(pool) * i // count for i in range(count + 1)])
    return [
        PartitionSpec(
            index=index,
            pool=pool.place,  # the processes of a service have another working directory
            start=start,
            stop=stop,
            device=device,
            threads=threads,
            fingerprint=pool.fingerprint,
            generation=pool.generation,
        )
        for index, (start, stop) in enumerate(itertools.pairwise(cuts))
    ]


def _beside_owners(pool: Pool, rows: list[int]) -> list[int]:
    """From each of some rows on the first one that begins an owner, or the number of rows."""
    if not has_parts(pool):
        return rows
    ends = np.cumsum([chunk.rows for chunk in pool.chunks])
    found = []
    for row in rows:
        place = int(np.searchsorted(ends, row, "right"))
        first = 0 if place == 0 else int(ends[place - 1])
        if place < len(ends) and row > first and "parts" in pool.records[place]:  # no chunk cuts an owner
            begins = first + begins_of_owners(owner_ids(pool.chunks[place]))
            row = int(begins[np.searchsorted(begins, row)])
        found.append(row)
    return found


class Slice(NamedTuple):
    """The rows of one chunk that are in a partition."""

    chunk: int
    """Position of the chunk in the pool."""
    low: int
    """First row in the chunk."""
    high: int
    """One past the last row in the chunk."""


def slices_of(pool: Pool, start: int, stop: int) -> list[Slice]:
    """Find the chunks that hold some consecutive rows of a pool.

    Args:
        pool: The pool.
        start: The first row, counted over all chunks.
        stop: One past the last row.

    Returns:
        The rows of each of these chunks, in order.
    """
    found, first = [], 0
    for position, chunk in enumerate(pool.chunks):
        last = first + chunk.rows
        if first < stop and last > start:
            found.append(Slice(position, max(start - first, 0), min(stop, last) - first))
        first = last
    return found


def owners_of_slices(pool: Pool, slices: list[Slice]) -> NDArray[np.int64]:
    """Read the ids of the owners of some rows of chunks: int64, in order, as `ids_of_slices` reads their own."""
    parts = [owner_ids(pool.chunks[chunk])[low:high] for chunk, low, high in slices]
    return np.concatenate([np.empty(0, np.int64), *parts])


def ids_of_slices(pool: Pool, slices: list[Slice]) -> NDArray[np.int64]:
    """Read the ids of some rows of chunks.

    Args:
        pool: The pool.
        slices: The rows.

    Returns:
        int64, in order.

    Raises:
        Damaged: A file is missing or differs from its record.
    """
    ids, start = np.empty(sum(high - low for _, low, high in slices), np.int64), 0
    chunks = fetched_ahead([pool.chunks[chunk] for chunk, _, _ in slices], "items")
    for chunk, (_, low, high) in zip(chunks, slices, strict=True):
        ids[start : (start := start + high - low)] = chunk.ids()[low:high]
    pa.default_memory_pool().release_unused()  # 10 MB of what the tables took
    return ids
