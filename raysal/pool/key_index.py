"""The key index of a pool: ids by key and keys by id, without a reading of all items.

It lies in `keys/` of the pool, in files for some chunks each (`raysal.pool.key_shard`), and is derived: what is lost,
damaged or of other chunks is passed over, and the items are read instead. A pool that grows gets files for what is new;
small files are taken into larger ones, so that a pool of n items has about log n, and one for each 16 million.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.arrow_values import array_of, numbers_of
from raysal.errors import Damaged
from raysal.pool.ahead import fetched_ahead
from raysal.pool.chunk import Chunk
from raysal.pool.key_shard import MAX_ROWS, Found, KeyShard, Rows, mark_of, write_shard
from raysal.pool.owner_chunk import OwnersChunk
from raysal.store import locked_if_free, remove_temporaries

FOLDER = "keys"
OWNERS_FOLDER = "keys/owners"
"""Where the index of the keys of owners lies, in a pool of parts."""
LEAST = 20_000
"""Items outside the index from which it is worth a file: fewer are read in the time that a command takes to start."""
LARGE = 100_000
"""Items outside the index from which a reader makes it."""
_NAME = re.compile(r"[0-9]{5,}-[0-9]{5,}\.idx")


class Held(NamedTuple):
    """What planning knows of a chunk."""

    number: int
    rows: int
    mark: int


class KeyIndex:
    """The index of a pool, as a reader sees it who knows these chunks. Any number of threads may ask it."""

    def __init__(self, pool: Path, chunks: Iterable[Chunk], folder: str = FOLDER) -> None:
        """Open the files that are there. It reads a page of each.

        Args:
            pool: the directory.
            chunks: the committed chunks that the reader sees.
            folder: where the files are, in the pool.
        """
        self.shards = _shards_in(pool / folder)
        self._marks = {chunk.index: mark_of_chunk(chunk) for chunk in chunks} if self.shards else {}

    @property
    def covered(self) -> set[int]:
        """The numbers of the chunks that the files are of, as far as these are as they were."""
        return {number for shard in self.shards for number in _current(shard, self._marks)}

    def trusted(self, doubted: Collection[Path] = ()) -> set[int]:
        """The numbers of the chunks of which `find` found every key that is there.

        What tells that no key has a hash is compared with its digest, once in a process and file: about a second for
        100 million keys. A doubted file is compared as a whole.

        Args:
            doubted: as `find` said of these keys.

        Returns:
            Those that are as they were when an intact file was made.
        """
        intact = (shard for shard in self.shards if shard.is_intact(shard.path in doubted))
        return {number for shard in intact for number in _current(shard, self._marks)}

    def find(self, keys: Sequence[str]) -> tuple[list[Found], frozenset[Path]]:
        """The items of some keys. A key that is not found may be in the pool all the same.

        It touches about two pages of each file for a key, and five more for one that is found.

        Args:
            keys: texts.

        Returns:
            What is found, in order of id, where a key may be that of several items, of which some were removed; and
            the files that may hide one of these keys, for `trusted`.
        """
        column = array_of(keys, pa.string())
        answers = {shard.path: shard.find(column, self._marks) for shard in self.shards}
        doubted = frozenset(path for path, answer in answers.items() if answer.doubted)
        return _each_once(answer.found for answer in answers.values()), doubted

    def keys_of(self, ids: NDArray[np.int64]) -> list[Found]:
        """The items of some ids int64 [m]; likewise."""
        return _each_once(shard.keys_of(ids, self._marks) for shard in self.shards)


def extend(
    pool: Path, chunks: Iterable[Chunk], *, least: int = LEAST, most: int = MAX_ROWS, folder: str = FOLDER
) -> int:
    """Make the files that the index of a pool lacks. Who calls it has locked the pool.

    It takes about 0.4 s for a million items, and 8 bytes of memory for each item of a file.

    Args:
        pool: the directory.
        chunks: all committed chunks, in order of their ids. Items that were removed from them are in the index, too.
        least: items outside the index from which a file is made.
        most: items of a file, at most `MAX_ROWS`.
        folder: where the files are, in the pool. With `OWNERS_FOLDER` the chunks are those of owners.

    Returns:
        How many files were made. None are where the disk is full or cannot be written, or where a file of items is
        damaged: the index is not needed.
    """
    by_number = {chunk.index: replace(chunk, removed=None) for chunk in chunks}
    marks = {number: mark_of_chunk(chunk) for number, chunk in by_number.items()}
    shards = _shards_in(place := pool / folder)
    # To count the owners of a chunk takes a reading.
    known = {number: rows for shard in shards for number, rows in shard.counts() if number in _current(shard, marks)}
    counts = {number: chunk.rows for number, chunk in by_number.items() if number not in known} | known
    held = [Held(number, counts[number], marks[number]) for number in by_number]
    runs, kept = plan(held, shards, least, most)
    if not runs:
        return 0

    ahead = fetched_ahead([by_number[chunk.number] for run in runs for chunk in run], "items")

    def read(number: int) -> Rows:
        chunk = next(ahead)  # of that number: they are asked for in this order
        table = chunk.items(["id", "key"])
        return Rows(number, mark_of_chunk(chunk), numbers_of(table["id"]), _whole(table["key"]))

    try:
        place.mkdir(exist_ok=True, parents=True)
        remove_temporaries(place)
        for run in runs:
            path = place / f"{run[0].number:05d}-{run[-1].number:05d}.idx"
            write_shard(path, [(chunk.number, chunk.rows) for chunk in run], read)
            kept.add(path)
        for path in set(_files_in(place)) - kept:
            path.unlink(missing_ok=True)
    except (OSError, Damaged, ValueError):
        return 0
    return len(runs)


def extend_all(pool: Path, chunks: Sequence[Chunk], records: Iterable[Mapping[str, Any]]) -> int:
    """As `extend`, both for items and, where some are parts, for their owners.

    Args:
        pool: the directory.
        chunks: all committed chunks, in order of their ids.
        records: their commit records, or some of them.

    Returns:
        How many files were made.
    """
    made = extend(pool, chunks)
    if any("parts" in record for record in records):
        made += extend(pool, list(map(OwnersChunk.of_parts, chunks)), folder=OWNERS_FOLDER)
    return made


def extend_by_records(pool: Path, records: Sequence[Mapping[str, Any]], dim: int) -> int:
    """As `extend_all`, for the writer of a pool, which knows the commit records, in order of ids."""
    return extend_all(pool, [Chunk.of(pool, record, dim) for record in records], records)


def extend_if_free(pool: Path, chunks: Sequence[Chunk], folder: str = FOLDER) -> int:
    """As `extend`, for a reader: it does nothing while another process writes the pool."""
    with contextlib.suppress(OSError), locked_if_free(pool) as free:
        return extend(pool, chunks, folder=folder) if free else 0
    return 0


def plan(
    chunks: Sequence[Held], shards: Sequence[KeyShard], least: int, most: int
) -> tuple[list[list[Held]], set[Path]]:
    """Which files are to be made of which chunks.

    Chunks that no file is of are to be in new ones. A file that is smaller than these together is taken in.

    Args:
        chunks: of the pool, in order of their ids.
        shards: the files that are there.
        least: rows outside the files from which a file is made.
        most: rows of a file.

    Returns:
        For each file its chunks, in that order; and the files that stay.
    """
    marks = {chunk.number: chunk.mark for chunk in chunks}
    # A file of which a chunk was embedded anew is made anew. One may hold chunks that this reader does not know.
    whole = {shard.path: shard for shard in shards if _is_whole(shard, marks)}
    covered = {number for shard in whole.values() for number in shard.numbers.tolist()}
    left = {chunk.number for chunk in chunks if chunk.number not in covered}
    rows = sum(chunk.rows for chunk in chunks if chunk.number in left)
    if rows < least:
        return [], set(whole)
    for shard in sorted(whole.values(), key=lambda shard: shard.rows):
        if shard.rows > min(rows, most // 2):
            break
        del whole[shard.path]
        left.update(shard.numbers.tolist())
        rows += shard.rows
    runs: list[list[Held]] = []
    size = 0
    for chunk in chunks:
        if chunk.number not in left:
            continue
        if not runs or size + chunk.rows > most:
            runs.append([])
            size = 0
        runs[-1].append(chunk)
        size += chunk.rows
    return runs, set(whole)


def mark_of_chunk(chunk: Chunk) -> int:
    """The mark of a chunk's items file."""
    return mark_of(chunk.files[chunk.name_of("items")]["sha256"])


def _current(shard: KeyShard, marks: Mapping[int, int]) -> list[int]:
    """The chunks of a file that are as they were when it was made."""
    pairs = zip(shard.numbers.tolist(), shard.marks.tolist(), strict=True)
    return [number for number, mark in pairs if marks.get(number) == mark]


def _is_whole(shard: KeyShard, marks: Mapping[int, int]) -> bool:
    """Whether the chunks of a file that a pool has are as they were when it was made, at least one."""
    known = [number for number in shard.numbers.tolist() if number in marks]
    return bool(known) and len(_current(shard, marks)) == len(known)


def _files_in(folder: Path) -> list[Path]:
    """The files of an index, in order of their names."""
    try:
        return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))
    except OSError:
        return []


def _shards_in(folder: Path) -> list[KeyShard]:
    """The files of an index that can be opened."""
    return [shard for path in _files_in(folder) if (shard := KeyShard.open(path)) is not None]


def _each_once(found: Iterable[Iterable[Found]]) -> list[Found]:
    """What several files found, in order of id: a chunk may be in two of them."""
    return sorted({item for some in found for item in some}, key=lambda item: item.id)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """A column of texts as one array."""
    whole = column.combine_chunks()
    return pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) and whole.num_chunks else whole
