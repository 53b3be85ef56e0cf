"""A growth that was begun: which items are to come, under which ids, and from which files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from raysal.errors import Damaged, PoolError
from raysal.pool.generations import GENERATIONS, Generation, newest_generation
from raysal.pool.layout import KINDS, chunk_file, number_in
from raysal.pool.place import files_of
from raysal.pool.taken_files import KNOWN_BEFORE, files_in, files_name, read_files
from raysal.store import read_sealed
from raysal.types import SourceFile

BEGUN = f"{GENERATIONS}/begun.json"


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A growth that was begun: what it adds to the generation that was the newest."""

    number: int
    """Of the generation that it is to be, if none comes before; the table of its files has this number."""
    first_chunk: int
    first_id: int
    chunks: int
    items: int
    chunk_rows: int
    files: str
    """Hex sha256 of the table of its files: in order of the listing those whose items are listed, each with the id of
    its first one that comes; then these again for each run of ids that they have of before; then those of which only
    size and time are to be known, with the id `KNOWN_BEFORE`."""
    kept: Sequence[Sequence[int]]
    """[first, stop) of the units of that listing that come; the items of the others are in the pool as they are."""
    single: bool
    """Whether each file is one item, so that which chunk an item is in depends on the names alone."""
    source: Mapping[str, Any]
    """Name, config and fingerprint of the source, as it was listed."""

    @property
    def range(self) -> range:
        """The numbers of its chunks."""
        return range(self.first_chunk, self.first_chunk + self.chunks)

    def write(self, pool: Path) -> None:
        """Begin. Its table of files lies there already."""
        files_of(pool).write_record(BEGUN, asdict(self))


def read_begun(pool: Path) -> Begun | None:
    """The growth that was begun and is not finished; None if there is none.

    Args:
        pool: the directory.

    Returns:
        What was begun.

    Raises:
        Damaged: its record was altered.
    """
    fix = "delete it, and embed again: what was begun is then begun anew"
    if not (pool / BEGUN).exists():
        return None
    try:
        begun = Begun(**read_sealed(pool / BEGUN, fix))
    except TypeError as error:
        raise Damaged(pool / BEGUN, f"not the record of a growth ({error})", fix) from None
    newest = newest_generation(pool)
    if newest and Generation.read(pool, newest).next_chunk > begun.first_chunk:
        return None  # it was taken in, and a stop came before the record was deleted
    return begun


def check_nothing_begun(pool: Path) -> None:
    """Refuse to change a pool in another way while it grows.

    Args:
        pool: the directory.

    Raises:
        PoolError: an embed job over it was begun and not finished.
    """
    if read_begun(pool) is not None:
        raise PoolError(pool, "an embed job was begun and not finished", "finish it: run the same command again")


def planned_files(pool: Path, begun: Begun) -> tuple[list[str], list[tuple[SourceFile, bytes | None]]]:
    """The files of a growth.

    Args:
        pool: the directory.
        begun: the growth.

    Returns:
        The names of those to list, in order; and all of them, as they were, with their digests if they were hashed.

    Raises:
        Damaged: the table was altered, or is gone.
    """
    listed: dict[str, None] = {}
    files: dict[str, tuple[SourceFile, bytes | None]] = {}
    for table in read_files(pool, begun.number, begun.files):
        for found, first_id in zip(files_in(table), table["first_id"].to_pylist(), strict=True):
            files[found[0].name] = found
            if first_id != KNOWN_BEFORE:
                listed[found[0].name] = None
    return list(listed), list(files.values())


def discard(pool: Path, begun: Begun) -> None:
    """Delete what was begun, so that another growth may begin. No reader has seen it."""
    clear_chunks(pool, begun.range)
    files_of(pool).delete([files_name(begun.number), BEGUN])


def clear_chunks(pool: Path, chunks: Iterable[int]) -> None:
    """Delete chunks that no generation names."""
    files, numbers = files_of(pool), set(chunks)
    files.delete(chunk_file("commits", index) for index in sorted(numbers))  # first: files without one are no chunk
    for kind in KINDS:
        files.delete(f"{kind}/{name}" for name in sorted(files.sizes(kind)) if number_in(name) in numbers)
