"""What a pool knows of its source's files, and a growth that was begun: which items are to come, under which ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raysal.arrow_values import numbers_of, text_array
from raysal.errors import Damaged, PoolError
from raysal.pool.generations import FILES, GENERATIONS, Generation, newest_generation
from raysal.pool.lanes import text_hashes
from raysal.pool.layout import KINDS, chunk_file
from raysal.store import read_sealed, sha256_of, write_file, write_sealed
from raysal.types import SourceFile

BEGUN = f"{GENERATIONS}/begun.json"
FILES_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("bytes", pa.int64()),
        ("changed_ns", pa.int64()),
        ("first_id", pa.int64()),
        ("items", pa.int64()),
    ]
)
GONE = -2
"""In place of the size: the file was not in the source when its items were removed. It is new when it comes back."""
KNOWN_BEFORE = -1
"""In place of the first id: the items of the file were in the pool before."""
_ROWS = 1 << 16
"""Files of a row group."""


@dataclass(frozen=True, kw_only=True)
class TakenFile:
    """A file of the source that a pool takes in, with some of its items, whose ids follow each other.

    The first of a file has the items that come, if any do. Those that the pool had before, and that lie in the file,
    have further ones. So the last generation that took in a file says of all its items which they are.
    """

    file: SourceFile
    first_id: int
    """Of the first of these items."""
    items: int
    """How many they are."""


def files_name(number: int) -> str:
    """The table of the files that a generation took in, relative to the pool."""
    return f"{FILES}/{number:05d}.parquet"


def write_files(pool: Path, number: int, taken: Iterable[TakenFile]) -> str:
    """Write the table of the files that a generation takes in.

    Args:
        pool: the directory.
        number: of the generation.
        taken: the files, in order of the ids that come; then those with items that were there before.

    Returns:
        Hex sha256 of the table.
    """
    path = pool / files_name(number)
    path.parent.mkdir(exist_ok=True)
    some: list[TakenFile] = []

    def write(temporary: Path) -> None:
        with pq.ParquetWriter(temporary, FILES_SCHEMA) as writer:
            for one in taken:
                some.append(one)
                if len(some) == _ROWS:
                    writer.write_table(_table(some))
                    some.clear()
            if some:
                writer.write_table(_table(some))

    write_file(path, write)
    return sha256_of(path)


def _table(some: Sequence[TakenFile]) -> pa.Table:
    columns = (
        [one.file.name for one in some],
        [one.file.bytes for one in some],
        [one.file.changed_ns for one in some],
        [one.first_id for one in some],
        [one.items for one in some],
    )
    return pa.table([pa.array(values, field.type) for values, field in zip(columns, FILES_SCHEMA, strict=True)],
                    schema=FILES_SCHEMA)  # fmt: skip


def read_files(pool: Path, number: int, sha256: str | None = None) -> Iterator[pa.Table]:
    """The files that a generation took in, some thousand at a time.

    Args:
        pool: the directory.
        number: of the generation.
        sha256: of the table; None if nobody recorded it.

    Yields:
        Tables of `FILES_SCHEMA`, in the order of `write_files`; none if the generation has no such table.

    Raises:
        Damaged: the table was altered.
    """
    path = pool / files_name(number)
    if not path.exists():
        return
    fix = f"delete {files_name(number)}: its files then count as new, and items that stay the same keep their ids"
    if sha256 is not None and sha256_of(path) != sha256:
        raise Damaged(path, "its bytes do not match its sha256", fix)
    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group)
    except (pa.ArrowException, OSError) as error:
        raise Damaged(path, f"cannot be read ({error})", fix) from None


def files_in(table: pa.Table) -> Iterator[SourceFile]:
    """The files of a table of `FILES_SCHEMA`, as they were when they were taken in."""
    for row in table.select(["name", "bytes", "changed_ns"]).to_pylist():
        yield SourceFile(**row)


def taken_files(pool: Path, newest: int, *, checked: bool = False) -> Iterator[tuple[int, pa.Table]]:
    """The files that generations 0 to `newest` took in, in order; tables as of `read_files`.

    A table that no generation names is passed over: a growth that was stopped before it was begun may leave one.

    Args:
        pool: the directory.
        newest: number of a generation.
        checked: whether to compare the tables with their digests.

    Yields:
        The number of a generation, and a table of `FILES_SCHEMA`.
    """
    for number in range(newest + 1):
        sha256 = Generation.read(pool, number).files if number else None
        if number == 0 or sha256 is not None:
            yield from ((number, table) for table in read_files(pool, number, sha256 if checked else None))


class KnownFiles:
    """The files that a pool took in, as they were then. Memory: 40 bytes a file, and 16 for each run of ids in one.

    Names are known by their hashes of 64 bits: two files are taken for one if hash, size and time are the same.
    """

    def __init__(self, pool: Path, newest: int) -> None:
        """Read what generations 0 to `newest` took in. Of a file that came twice, the last one counts."""
        hashes, facts, numbers = [np.empty(0, np.int64)], [np.empty((0, 4), np.int64)], [np.empty(0, np.int64)]
        self.complete = (pool / files_name(0)).exists()
        """Whether the files of the pool as it was made are known: pools of an older raysal did not keep them."""
        for number, table in taken_files(pool, newest, checked=True):
            hashes.append(text_hashes(table["name"].combine_chunks()))
            facts.append(np.stack([numbers_of(table[name]) for name in FILES_SCHEMA.names[1:]], 1))
            numbers.append(np.full(table.num_rows, number, np.int64))
        found, rows = np.concatenate(hashes), np.concatenate(facts)
        self._hashes, backwards = np.unique(found[::-1], return_index=True)
        self._facts = rows[len(found) - 1 - backwards, :2]
        places = np.searchsorted(self._hashes, found)
        self._bounds, self._owners = _runs(places, rows[:, 2], rows[:, 3], np.concatenate(numbers))
        self.there = np.zeros(len(self._hashes), bool)
        """Which of them `look` met."""

    def __len__(self) -> int:
        return len(self._hashes)

    @property
    def gone(self) -> NDArray[np.bool_]:
        """Which of them `look` did not meet, and nobody knew to be gone."""
        return np.asarray(~self.there & (self._facts[:, 0] != GONE))

    def look(self, files: Sequence[SourceFile]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Compare files with what is known of them.

        Args:
            files: of the source, n of them, as they are now.

        Returns:
            Their places here int64 [n], -1 for those that are new; and whether they are as they were, bool [n].
        """
        places = self.places_of([file.name for file in files])
        known = places >= 0
        self.there[places[known]] = True
        now = np.array([(file.bytes, file.changed_ns) for file in files], np.int64).reshape(-1, 2)
        same = known.copy()
        same[known] = (self._facts[places[known], :2] == now[known]).all(1)
        gone = known & ~same
        gone[gone] = self._facts[places[gone], 0] == GONE
        places[gone] = -1
        return places, same

    def places_of(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Where files are here, int64 [n]; -1 for those that are not."""
        hashes = text_hashes(text_array(names))
        if not len(self._hashes):
            return np.full(len(hashes), -1, np.int64)
        places = np.searchsorted(self._hashes, hashes).clip(max=len(self._hashes) - 1)
        return np.where(self._hashes[places] == hashes, places, -1)

    def file_of(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The places of the files that items lay in when these were taken in last, int64 [n]; -1 if not known."""
        runs = np.searchsorted(self._bounds, ids, "right") - 1
        return np.asarray(self._owners[runs])


def _runs(
    places: NDArray[np.int64], first_ids: NDArray[np.int64], counts: NDArray[np.int64], numbers: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which items lie in which files, of rows [n] of the tables, one after the other.

    A table that takes in a file again says all that is in it: what earlier ones said of it does not count. Of an item
    that several files have, all but the last are gone: another one that had it was taken in again.

    Args:
        places: of the files.
        first_ids: of their items; `KNOWN_BEFORE` where the row says nothing of these.
        counts: of their items.
        numbers: of the generations, ascending.

    Returns:
        Where runs of ids begin int64 [m], ascending; and the place of the file of each int64 [m + 1], -1 where there is
        none, with one more for what is before all.
    """
    last = np.full(places.max(initial=-1) + 1, -1, np.int64)
    says = first_ids != KNOWN_BEFORE
    np.maximum.at(last, places[says], numbers[says])
    valid = (counts > 0) & (numbers == last[places])
    firsts, stops, owners = first_ids[valid], (first_ids + counts)[valid], places[valid]
    bounds = np.unique(np.concatenate([firsts, stops]))
    begins, ends = np.searchsorted(bounds, firsts), np.searchsorted(bounds, stops)
    lengths = ends - begins
    covered = np.repeat(begins - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
    found = np.full(len(bounds) + 1, -1, np.int64)
    found[covered] = np.repeat(owners, lengths)  # of what comes twice, the last one stays
    return bounds, found


def file_names_of(pool: Path, newest: int, ids: Sequence[int]) -> dict[int, str]:
    """The names of the files that items lie in. It reads the tables of files once.

    Args:
        pool: the directory.
        newest: number of the generation that has the items.
        ids: of items.

    Returns:
        {id: name}, without the items of which that is not known.
    """
    wanted = np.sort(np.array(ids, np.int64))
    found: dict[int, str] = {}
    for _, table in taken_files(pool, newest):
        first, count = numbers_of(table["first_id"]), numbers_of(table["items"])
        low, high = np.searchsorted(wanted, first), np.searchsorted(wanted, first + count)
        for row in np.flatnonzero((high > low) & (count > 0)).tolist():
            found |= dict.fromkeys(wanted[low[row] : high[row]].tolist(), table["name"][row].as_py())
    return found


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
        (pool / GENERATIONS).mkdir(exist_ok=True)
        write_sealed(pool / BEGUN, asdict(self))


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


def planned_files(pool: Path, begun: Begun) -> tuple[list[str], list[SourceFile]]:
    """The files of a growth.

    Args:
        pool: the directory.
        begun: the growth.

    Returns:
        The names of those to list, in order; and all of them, as they were.

    Raises:
        Damaged: the table was altered, or is gone.
    """
    listed: dict[str, None] = {}
    files: dict[str, SourceFile] = {}
    for table in read_files(pool, begun.number, begun.files):
        for file, first_id in zip(files_in(table), table["first_id"].to_pylist(), strict=True):
            files[file.name] = file
            if first_id != KNOWN_BEFORE:
                listed[file.name] = None
    return list(listed), list(files.values())


def discard(pool: Path, begun: Begun) -> None:
    """Delete what was begun, so that another growth may begin. No reader has seen it."""
    clear_chunks(pool, begun.range)
    (pool / files_name(begun.number)).unlink(missing_ok=True)
    (pool / BEGUN).unlink(missing_ok=True)


def clear_chunks(pool: Path, chunks: Iterable[int]) -> None:
    """Delete chunks that no generation names."""
    numbers = list(chunks)
    for index in numbers:  # the records first: files without one are no chunk
        (pool / chunk_file("commits", index)).unlink(missing_ok=True)
    for index in numbers:
        for kind in KINDS:
            (pool / chunk_file(kind, index)).unlink(missing_ok=True)
