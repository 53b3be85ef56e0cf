"""Rewrite the chunks of a pool that hold removed items, or few items, so that it takes less room and fewer files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.arrow_values import numbers_of
from raysal.pool.chunk import Chunk
from raysal.pool.generations import with_range
from raysal.pool.growth import check_nothing_begun, clear_chunks
from raysal.pool.key_index import extend_all
from raysal.pool.layout import Manifest, StagedChunk, mark_changed
from raysal.pool.place import directory_of, files_of
from raysal.pool.pool import Pool
from raysal.pool.removing import first_generation
from raysal.pool.writer import ChunkStage, PoolWriter
from raysal.types import POOL_COLUMNS

SMALL = 0.5
"""A chunk with fewer rows than this share of a whole one is joined with its neighbours."""


@dataclass(frozen=True, kw_only=True)
class Compaction:
    """What became of the files of a pool."""

    chunks_before: int
    chunks: int
    bytes_before: int
    bytes: int
    generation: int


def compact(path: str | Path) -> Compaction:
    """Write the items of a pool into as few chunks as they need. Generations before end; no item, id or key changes.

    A chunk that holds no removed item and is not small stays as it is. Memory for one chunk.

    Args:
        path: the pool directory, or its URL.

    Returns:
        What was done. To repeat it does nothing.

    Raises:
        PoolError: the directory is no pool, or an embed job over it was begun and not finished.
        RunError: another process is writing the pool.
        Damaged: a file of the pool was altered.
        OSError: the pool cannot be written; it stays as it was.
    """
    path = directory_of(path)
    Manifest.read(path)  # to lock a directory writes into it
    with files_of(path).writing():
        check_nothing_begun(path)
        pool = Pool(path)
        before = pool.info()
        parent = pool.changed or first_generation(pool)
        runs = list(_runs(pool))
        if not any(rewritten for rewritten, _ in runs):
            _clear_others(pool)
            return Compaction(
                chunks_before=before.chunks,
                chunks=before.chunks,
                bytes_before=before.bytes,
                bytes=before.bytes,
                generation=pool.generation,
            )
        mark_changed(path)
        next_chunk = parent.next_chunk
        ranges: tuple[range, ...] = ()
        clear_chunks(path, range(next_chunk, next_chunk + len(pool.chunks)))
        for rewritten, places in runs:
            if not rewritten:
                for place in places:
                    number = pool.chunks[place].index
                    ranges = with_range(ranges, range(number, number + 1))
                continue
            count = _rewrite(pool, places, next_chunk)
            ranges = with_range(ranges, range(next_chunk, next_chunk + count)) if count else ranges
            next_chunk += count
        number = pool.generation + 1
        replace(
            parent,
            number=number,
            what="compacted",
            parent=pool.fingerprint,
            chunks=ranges,
            next_chunk=next_chunk,
            removed=None,
            replaced=None,
            files=None,
        ).write(path)
        now = Pool(path)
        _clear_others(now)
        extend_all(path, now.chunks, now.records)
        info = now.info()
        return Compaction(
            chunks_before=before.chunks,
            chunks=info.chunks,
            bytes_before=before.bytes,
            bytes=info.bytes,
            generation=number,
        )


def _runs(pool: Pool) -> Iterator[tuple[bool, list[int]]]:
    """Places of consecutive chunks that are rewritten together, or that stay: the longest such runs, in order."""
    least = SMALL * pool.manifest.chunk_rows
    odd = [chunk.removed is not None or chunk.rows < least for chunk in pool.chunks]
    run: list[int] = []
    for place in range(len(odd)):
        if run and odd[place] != odd[run[0]]:
            yield _is_worth(pool, odd[run[0]], run), run
            run = []
        run.append(place)
    if run:
        yield _is_worth(pool, odd[run[0]], run), run


def _is_worth(pool: Pool, odd: bool, places: Sequence[int]) -> bool:
    """Whether to rewrite chunks makes them fewer, or smaller."""
    if not odd:
        return False
    return any(pool.chunks[place].removed is not None for place in places) or len(_joined(pool, places)) < len(places)


def _joined(pool: Pool, places: Sequence[int]) -> list[list[int]]:
    """Which consecutive chunks become one: those that fit, and whose columns have the same types, or none."""
    groups: list[list[int]] = []
    rows, schema = 0, pa.schema([])
    for place in places:
        chunk = pool.chunks[place]
        own = chunk.items().schema
        both = _both(schema, own)
        if not groups or both is None or rows + chunk.rows > pool.manifest.chunk_rows:
            groups.append([])
            rows, both = 0, own
        groups[-1].append(place)
        rows, schema = rows + chunk.rows, both
    return groups


def _both(one: pa.Schema, other: pa.Schema) -> pa.Schema | None:
    """The columns of both; None if the types of one differ. Columns of nulls alone have no type."""
    try:
        return pa.unify_schemas([one, other])
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return None


class _Gathered:
    """Items that are written into one chunk."""

    def __init__(self) -> None:
        self.vectors: list[NDArray[np.float16]] = []
        self.items: list[pa.Table] = []
        self.lost: list[tuple[int, str, str, str]] = []
        self.blurred = 0

    @property
    def rows(self) -> int:
        return sum(map(len, self.vectors))

    def add(self, chunk: Chunk, record: Mapping[str, Any]) -> None:
        """Take the living items of a chunk."""
        self.vectors.append(chunk.vectors())
        self.items.append(chunk.items())
        self.lost += [(row["id"], row["key"], row["stage"], row["error"]) for row in chunk.quarantine().to_pylist()]
        self.blurred += record.get("blurred", 0)

    def stage(self, stage: ChunkStage, index: int) -> StagedChunk:
        """Write the chunk."""
        table = pa.concat_tables(self.items, promote_options="default")
        ids = numbers_of(table["id"])
        carried = {name: table[name].combine_chunks() for name in table.column_names if name not in POOL_COLUMNS}
        return stage.write(
            index=index,
            first_id=min([*ids[:1].tolist(), *(row[0] for row in self.lost[:1])]),
            vectors=np.concatenate(self.vectors),
            ids=ids,
            keys=table["key"].combine_chunks(),
            uris=table["uri"].to_pylist(),
            carried=carried,
            quarantined=self.lost,
            blurred=min(self.blurred, len(ids)),
            owners=table["owner"].combine_chunks() if table["owner"].null_count < len(ids) else None,
        )


def _rewrite(pool: Pool, places: Sequence[int], first: int) -> int:
    """Write the living items of some chunks into new ones; how many those are."""
    stage = ChunkStage(pool.path, pool.dim)
    writer = PoolWriter(pool.path, Manifest.read(pool.path), range(first, first + len(places)))
    count = 0
    for group in _joined(pool, places):
        some = _Gathered()
        for place in group:
            some.add(pool.chunks[place], pool.records[place])
        if some.rows or some.lost:
            writer.commit(some.stage(stage, first + count))
            count += 1
    return count


def _clear_others(pool: Pool) -> None:
    """Delete the chunks that the newest generation does not name, where an earlier one ended."""
    if pool.changed is None:
        return
    own = {chunk.index for chunk in pool.chunks}
    clear_chunks(pool.path, (index for index in range(pool.changed.next_chunk) if index not in own))
