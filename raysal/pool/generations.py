"""The generations of a pool: it grows, items are taken out of it, and what was is still there to read.

    generations/00001.json        which chunks a generation has, which of their items it lacks, and from which source
                                  it came (sealed). A generation exists if and only if this record does
    generations/begun.json        what an embed job that is not finished yet adds (sealed)
    removed/00001.arrow           ids and rows of all items of these chunks that the generation lacks
    removed/00001.parquet         keys of the items that it took out by name
    replaced/00001.parquet        ids of items that this generation took in, and of those in whose place they are
    files/00001.parquet           the files of the source that this generation took in, as they were then, and which of
                                  the pool's items each of them had

Generation 0 is `pool.json` and the chunks that it counts. Each later one adds chunks behind those of the one before,
or lacks more items. Chunks and ids are never given twice. A reader sees one generation: the newest, or the one that it
names. To compact a pool makes a generation of fewer files with the same items, and ends the ones before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.arrow_values import array_of, numbers_of
from raysal.errors import Damaged, PoolError
from raysal.pool.layout import Manifest
from raysal.pool.place import files_of
from raysal.store import check_bytes, check_size, digest_of, read_sealed

GENERATIONS, REMOVED, REPLACED, FILES = "generations", "removed", "replaced", "files"
"""The folders of what later generations change."""
RESTORE = "restore it from a copy"
NO_ROW = -1
"""In place of a row: the item was quarantined, and has no vector."""
REMOVED_SCHEMA = pa.schema([("id", pa.int64()), ("row", pa.int32())])


def generation_file(number: int) -> str:
    """The record of a generation, relative to the pool."""
    return f"{GENERATIONS}/{number:05d}.json"


@dataclass(frozen=True, kw_only=True)
class Generation:
    """One generation after the first."""

    number: int
    """From 1."""
    what: Literal["grown", "removed", "missing", "compacted"]
    """What made it of the one before: items came, were taken out by name, were gone from the source; or files were
    rewritten."""
    parent: str
    """Fingerprint of the one before."""
    fingerprint: str
    """Identifies its items. To compact changes no item, and no fingerprint."""
    chunks: tuple[range, ...]
    """The numbers of its chunks, in order of their ids."""
    items: int
    """Items in their listings, quarantined ones included, less those that were removed."""
    next_chunk: int
    """The first number that no chunk has had."""
    next_id: int
    """The first id that no item has had."""
    vector_space: str
    """That of the pool; see `Pool.vector_space`."""
    source: Mapping[str, Any]
    """Name, config and fingerprint of the source, as it was last seen."""
    removed: Mapping[str, Any] | None = None
    """{ids, lost, bytes, sha256} of the file of removed items; None if there are none. `ids` counts all of them, `lost`
    those without a vector. `keys` is the sha256 of the file of keys, if there is one."""
    replaced: Mapping[str, Any] | None = None
    """{ids, bytes, sha256} of the file of replaced items; None if it replaced none."""
    files: str | None = None
    """Hex sha256 of the table of the source's files that it took in, or that were gone; None if there is none."""

    def write(self, pool: Path) -> None:
        """Let the generation exist."""
        record = {**asdict(self), "chunks": [[some.start, some.stop] for some in self.chunks]}
        files_of(pool).write_record(generation_file(self.number), record)

    @classmethod
    def read(cls, pool: Path, number: int) -> Generation:
        """Read the record of a generation.

        Args:
            pool: the directory.
            number: from 1.

        Returns:
            The generation.

        Raises:
            PoolError: there is none of that number.
            Damaged: its record was altered.
        """
        path = pool / generation_file(number)
        if not path.exists():
            raise PoolError(pool, f"has no generation {number}", f"the newest is {newest_generation(pool)}")
        record = read_sealed(path)
        try:
            chunks = tuple(range(start, stop) for start, stop in record.pop("chunks"))
            found = cls(**record, chunks=chunks)
        except (KeyError, TypeError, ValueError) as error:
            raise Damaged(path, f"not the record of a generation ({error})", RESTORE) from None
        if found.number != number:
            raise Damaged(path, f"is the record of generation {found.number}", RESTORE)
        return found


def newest_generation(pool: Path) -> int:
    """The number of a pool's newest generation; 0 for one that never changed."""
    try:
        names = [path.stem for path in (pool / GENERATIONS).iterdir() if path.suffix == ".json"]
    except (FileNotFoundError, NotADirectoryError):  # what the path is, others say
        return 0
    return max((int(name) for name in names if name.isdecimal()), default=0)


def newest_source(pool: Path) -> Mapping[str, Any]:
    """Name, config and fingerprint of a pool's source, as an embed job saw it last.

    Args:
        pool: the directory of a pool that was begun.

    Returns:
        The record.

    Raises:
        PoolError: the pool is of another version.
        Damaged: its manifest, or the record of the generation, was altered.
    """
    number = newest_generation(pool)
    return Generation.read(pool, number).source if number else Manifest.read(pool).source


def ancestors_of(pool: Path, generation: Generation) -> Iterator[str]:
    """The fingerprints of the generations before one, the newest first."""
    yield generation.parent
    for number in range(generation.number - 1, 0, -1):
        yield Generation.read(pool, number).parent


def number_of(pool: Path, generation: Generation | None, fingerprint: str) -> int:
    """The number of the last generation that has a fingerprint, of one and those before it; 0 if no later one has."""
    while generation is not None and generation.fingerprint != fingerprint:
        generation = Generation.read(pool, generation.number - 1) if generation.number > 1 else None
    return 0 if generation is None else generation.number


def check_complete(pool: Path, number: int, wanted: Sequence[range], there: Collection[int]) -> None:
    """Raise an error that says why a generation lacks chunks, if it does.

    Args:
        pool: the directory.
        number: of the generation.
        wanted: the chunks that its record names.
        there: those that are committed.

    Raises:
        PoolError: the pool was compacted since.
        Damaged: a chunk is lost.
    """
    absent = next((index for some in wanted for index in some if index not in there), None)
    if absent is None:
        return
    newest = newest_generation(pool)
    if any(Generation.read(pool, later).what == "compacted" for later in range(number + 1, newest + 1)):
        raise PoolError(pool, f"generation {number} ended when the pool was compacted", f"open the newest, {newest}")
    raise Damaged(pool / f"commits/{absent:05d}.json", "the file is missing", RESTORE)


def next_fingerprint(parent: str, added: str | None, removed: NDArray[np.int64]) -> str:
    """The fingerprint of a generation. It does not depend on the chunk size.

    Args:
        parent: of the one before.
        added: digest of the items that came; None if none did.
        removed: int64 ids of the items that it lacks and the one before has, ascending.

    Returns:
        Hex sha256.
    """
    gone = removed.astype("<i8").tobytes().hex() if len(removed) else None
    return digest_of({"parent": parent, "added": added, "removed": gone})


@dataclass(frozen=True, eq=False)
class Removed:
    """Items that a generation lacks: ids int64 [n], ascending, and their rows in their chunks int32 [n].

    A row is `NO_ROW` for an item that was quarantined.
    """

    ids: NDArray[np.int64]
    rows: NDArray[np.int32]

    @classmethod
    def none(cls) -> Removed:
        """No item."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int32))

    def among(self, first_id: int, stop: int) -> Removed | None:
        """Those whose ids are in [first_id, stop); None if there are none."""
        low, high = np.searchsorted(self.ids, [first_id, stop])
        return Removed(self.ids[low:high], self.rows[low:high]) if low < high else None

    def and_also(self, other: Removed) -> Removed:
        """Those of both, each once."""
        ids = np.concatenate([self.ids, other.ids])
        _, first = np.unique(ids, return_index=True)
        return Removed(ids[first], np.concatenate([self.rows, other.rows])[first])

    @cached_property
    def dead_rows(self) -> NDArray[np.int64]:
        """Rows of the vectors that are not to be read, ascending where all are of one chunk."""
        return np.sort(self.rows[self.rows >= 0].astype(np.int64))

    @cached_property
    def lost_ids(self) -> NDArray[np.int64]:
        """Ids of those that were quarantined."""
        return self.ids[self.rows < 0]

    def write(self, pool: Path, number: int) -> dict[str, Any] | None:
        """Write the file of a generation.

        Args:
            pool: the directory.
            number: of the generation.

        Returns:
            What the generation's record says of it; None if there are none.
        """
        if not len(self.ids):
            return None
        batch = pa.record_batch(
            [array_of(self.ids, pa.int64()), array_of(self.rows, pa.int32())], schema=REMOVED_SCHEMA
        )

        def write(path: Path) -> None:
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, REMOVED_SCHEMA) as writer:
                writer.write_batch(batch)

        facts = files_of(pool).write(removed_file(number), write)
        return {"ids": len(self.ids), "lost": len(self.lost_ids), **facts}

    @classmethod
    def read(cls, pool: Path, generation: Generation) -> Removed:
        """Those of a generation, mapped into memory.

        Args:
            pool: the directory.
            generation: of the pool.

        Returns:
            The items.

        Raises:
            Damaged: the file is missing, or differs from the generation's record.
        """
        facts = generation.removed
        if facts is None:
            return cls.none()
        files, name = files_of(pool), removed_file(generation.number)
        path = files.find(name)
        try:
            check_size(path, facts["bytes"], RESTORE)
            check_bytes(path, facts["sha256"], RESTORE)
        except Damaged as error:
            raise Damaged(files.where(name), error.problem, RESTORE) from None
        with pa.memory_map(str(path)) as source:
            batch = pa.ipc.open_file(source).get_batch(0)
        return cls(numbers_of(batch.column(0)), numbers_of(batch.column(1)))


def removed_file(number: int) -> str:
    """The file of the items that a generation lacks, relative to the pool."""
    return f"{REMOVED}/{number:05d}.arrow"


def keys_file(number: int) -> str:
    """The keys of the items that a generation took out by name, likewise."""
    return f"{REMOVED}/{number:05d}.parquet"


def links_file(number: int) -> str:
    """Which items of a generation are in the place of which, likewise."""
    return f"{REPLACED}/{number:05d}.parquet"


def with_range(chunks: Sequence[range], more: range) -> tuple[range, ...]:
    """Chunks, and some behind them."""
    if chunks and chunks[-1].stop == more.start:
        return (*chunks[:-1], range(chunks[-1].start, more.stop))
    return (*chunks, more)
