"""The chunks of a pool that can be read now, of its newest generation; also while its first one is being embedded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from raysal.errors import PoolError, PoolIncomplete
from raysal.pool.chunk import Chunk
from raysal.pool.generations import Generation, Removed, check_complete, newest_generation
from raysal.pool.layout import Manifest, read_records
from raysal.pool.place import files_of

NO_END = 2**63 - 1
"""Behind the last id."""


class Committed(NamedTuple):
    """What is committed of one generation."""

    manifest: Manifest
    changed: Generation | None
    """None for generation 0."""
    records: Mapping[int, Mapping[str, Any]]
    """{number of the chunk: its commit record}, in order of ids; fewer than `wanted` while the pool is being made."""
    wanted: Sequence[range]
    """The chunks that the generation consists of."""
    chunks: list[Chunk]
    removed: Removed


def committed_chunks(pool: Path, generation: int | None = None) -> Committed:
    """Read the records of a generation.

    Args:
        pool: the directory.
        generation: its number; None for the newest.

    Returns:
        What is committed of it. The manifest is that of the pool as it was made.

    Raises:
        PoolError: the directory is no pool, or has no such generation.
        Damaged: a record was altered, or a file is missing or has another size.
    """
    number = newest_generation(pool) if generation is None else generation
    manifest = Manifest.read(pool)
    changed = Generation.read(pool, number) if number else None
    wanted = [range(manifest.chunks)] if changed is None else changed.chunks
    records = read_records(pool, manifest, wanted)
    removed = Removed.none() if changed is None else Removed.read(pool, changed)
    firsts = [record["first_id"] for record in records.values()]
    chunks = [
        Chunk.of(pool, record, manifest.dim, removed.among(record["first_id"], end))
        for record, end in zip(records.values(), [*firsts[1:], NO_END][: len(firsts)], strict=True)
    ]
    return Committed(manifest, changed, records, wanted, chunks, removed)


def finished_chunks(pool: Path, generation: int | None = None) -> tuple[int, Committed]:
    """Read the records of a generation that is whole.

    Args:
        pool: the directory.
        generation: its number; None for the newest, which is looked for again if another one ends it meanwhile.

    Returns:
        Its number, and what is committed of it: all.

    Raises:
        PoolError: the directory is no pool, or has no such generation any more.
        PoolIncomplete: the pool's embed job has not finished.
        Damaged: a record was altered, or a file is missing or has another size.
    """
    while True:
        number = newest_generation(pool) if generation is None else generation
        try:
            found = committed_chunks(pool, number)
            count = sum(map(len, found.wanted))
            if len(found.records) < count and not newest_generation(pool):
                raise PoolIncomplete(files_of(pool).where(""), len(found.records), count)
            check_complete(pool, number, found.wanted, found.records)
            return number, found
        except PoolError:
            if generation is not None or newest_generation(pool) == number:
                raise


def quarantined_in(committed: Committed) -> int:
    """Items of these chunks that could not be embedded."""
    return sum(int(record["quarantined"]) for record in committed.records.values()) - len(committed.removed.lost_ids)
