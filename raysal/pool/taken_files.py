"""What a pool knows of its source's files: those that each generation took in, and which items lie in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raysal.arrow_values import array_of, numbers_of, text_array
from raysal.errors import Damaged
from raysal.pool.generations import FILES, Generation
from raysal.pool.lanes import text_hashes
from raysal.pool.place import files_of
from raysal.pool.sealed_table import check_seal, write_sealed_table
from raysal.store import sha256_of
from raysal.types import SourceFile

FILES_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("bytes", pa.int64()),
        ("changed_ns", pa.int64()),
        ("first_id", pa.int64()),
        ("items", pa.int64()),
    ]
)
ETAG = pa.field("etag", pa.string())
"""A column of such a table, beside those of `FILES_SCHEMA`, if the source lies in a bucket."""
SHA256 = pa.field("sha256", pa.binary(32))
"""Likewise, if the files were hashed."""
SHA256_TABLE = f"{FILES}/sha256.parquet"
"""What jobs learned of bytes of files that they did not take in again; see `raysal.embedding.file_hashes`."""
NO_ETAG = 0
"""In place of the hash of an etag."""
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
    sha256: bytes | None = None
    """Of its bytes, if they were hashed."""


def files_name(number: int) -> str:
    """The table of the files that a generation took in, relative to the pool."""
    return f"{FILES}/{number:05d}.parquet"


def write_files(pool: Path, number: int, taken: Iterable[TakenFile], *, hashed: bool = False) -> str:
    """Write the table of the files that a generation takes in.

    Args:
        pool: the directory.
        number: of the generation.
        taken: the files, in order of the ids that come; then those with items that were there before.
        hashed: whether their digests are kept.

    Returns:
        Hex sha256 of the table.
    """
    rows = iter(taken)
    first = list(islice(rows, _ROWS))
    schema = FILES_SCHEMA.append(SHA256) if hashed else FILES_SCHEMA
    if any(one.file.etag is not None for one in first):
        schema = schema.append(ETAG)

    def tables() -> Iterator[pa.Table]:
        some = first
        while some:
            yield _table(some, schema)
            some = list(islice(rows, _ROWS))

    def write(temporary: Path) -> None:
        if number == 0:  # no record names it
            write_sealed_table(temporary, schema, tables())
            return
        with pq.ParquetWriter(temporary, schema) as writer:
            for table in tables():
                writer.write_table(table)

    return str(files_of(pool).write(files_name(number), write)["sha256"])


def _table(some: Sequence[TakenFile], schema: pa.Schema) -> pa.Table:
    numbers = {
        "bytes": [one.file.bytes for one in some],
        "changed_ns": [one.file.changed_ns for one in some],
        "first_id": [one.first_id for one in some],
        "items": [one.items for one in some],
    }
    columns: dict[str, pa.Array] = {"name": text_array([one.file.name for one in some])}
    # `pa.array` of a list would import pandas, a third of the time in which a command starts.
    columns |= {name: array_of(np.array(values, np.int64), pa.int64()) for name, values in numbers.items()}
    if SHA256 in schema:
        columns[SHA256.name] = pa.array([one.sha256 for one in some], SHA256.type)
    if ETAG in schema:
        columns[ETAG.name] = pa.array([one.file.etag for one in some], ETAG.type)
    return pa.table([columns[name] for name in schema.names], schema=schema)


def read_files(pool: Path, number: int, sha256: str | None = None) -> Iterator[pa.Table]:
    """The files that a generation took in, some thousand at a time.

    Args:
        pool: the directory.
        number: of the generation.
        sha256: of the table; None if it is not to be compared. That of generation 0 says itself what it had.

    Yields:
        Tables of `FILES_SCHEMA`, in the order of `write_files`; none if the generation has no such table.

    Raises:
        Damaged: the table was altered.
    """
    where, path = files_of(pool).where(files_name(number)), files_of(pool).find(files_name(number))
    if not path.exists():
        return
    fix = f"delete {files_name(number)}: its files then count as new, and items that stay the same keep their ids"
    if sha256 is not None and sha256_of(path) != sha256:
        raise Damaged(where, "its bytes do not match its sha256", fix)
    if number == 0:
        check_seal(path, where, fix)
    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group)
    except (pa.ArrowException, OSError) as error:
        raise Damaged(where, f"cannot be read ({error})", fix) from None


def files_in(table: pa.Table) -> Iterator[tuple[SourceFile, bytes | None]]:
    """The files of a table of `FILES_SCHEMA`, as they were when they were taken in, and their digests, if there are."""
    digests, etags = (_or_none(table, field) for field in (SHA256, ETAG))
    for row, digest, etag in zip(table.select(FILES_SCHEMA.names[:3]).to_pylist(), digests, etags, strict=True):
        yield SourceFile(**row, etag=etag), digest


def _or_none(table: pa.Table, field: pa.Field) -> list[Any]:
    """The values of a column that a table may lack."""
    return table[field.name].to_pylist() if field.name in table.column_names else [None] * table.num_rows


def digests_in(table: pa.Table) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The digests of a table that has them uint8 [n, 32], and of which files they are known, bool [n]."""
    values = table[SHA256.name].to_pylist()
    joined = b"".join(value or bytes(32) for value in values)
    return np.frombuffer(joined, np.uint8).reshape(-1, 32), np.array([value is not None for value in values], bool)


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
    """The files that a pool took in, as they were then. Memory: 89 bytes a file, and 16 for each run of ids in one.

    Names are known by their hashes of 64 bits: two files are taken for one if hash, size and time are the same. Where
    the etags of a file are known, they decide, and not its times.
    """

    def __init__(self, pool: Path, newest: int) -> None:
        """Read what generations 0 to `newest` took in. Of a file that came twice, the last one counts."""
        hashes, facts, numbers = [np.empty(0, np.int64)], [np.empty((0, 5), np.int64)], [np.empty(0, np.int64)]
        self.complete = files_of(pool).has(files_name(0))
        """Whether the files of the pool as it was made are known: pools of an older raysal did not keep them."""
        digests: list[tuple[int, NDArray[np.uint8], NDArray[np.bool_]]] = []
        start = 0
        for number, table in taken_files(pool, newest, checked=True):
            if SHA256.name in table.column_names:
                digests.append((start, *digests_in(table)))
            start += table.num_rows
            hashes.append(text_hashes(table["name"].combine_chunks()))
            columns = [numbers_of(table[name]) for name in FILES_SCHEMA.names[1:]]
            etags = table[ETAG.name].to_pylist() if ETAG.name in table.column_names else None
            hashes_of_etags = np.full(table.num_rows, NO_ETAG, np.int64) if etags is None else _etag_hashes(etags)
            facts.append(np.stack([*columns, hashes_of_etags], 1))
            numbers.append(np.full(table.num_rows, number, np.int64))
        found, rows = np.concatenate(hashes), np.concatenate(facts)
        self._hashes, backwards = np.unique(found[::-1], return_index=True)
        self._facts = rows[len(found) - 1 - backwards][:, [0, 1, 4]]
        places = np.searchsorted(self._hashes, found)
        self.generations = np.full(len(self._hashes), -1, np.int64)
        """Which one took each of them in last; -1 where none did, as the items were there before."""
        says, numbers_of_rows = rows[:, 2] != KNOWN_BEFORE, np.concatenate(numbers)
        np.maximum.at(self.generations, places[says], numbers_of_rows[says])
        valid = (rows[:, 3] > 0) & (numbers_of_rows == self.generations[places])
        self._bounds, self._owners = _runs(places[valid], rows[valid, 2], rows[valid, 3])
        self.sha256 = np.zeros((len(self._hashes), 32), np.uint8)
        """What their bytes had when they were taken in last, or seen to have the same items since; [n, 32]."""
        self.has_sha256 = np.zeros(len(self._hashes), bool)
        """Of which of them that is known, [n]."""
        for start, sha256, has in digests:
            at, taken_in = places[start : start + len(has)], numbers_of_rows[start : start + len(has)]
            kept = has & (taken_in >= self.generations[at])
            self.sha256[at[kept]], self.has_sha256[at[kept]] = sha256[kept], True
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
        now = np.array([(file.bytes, file.changed_ns) for file in files], np.int64).reshape(-1, 2)[known]
        etags, then = _etag_hashes([file.etag for file in files])[known], self._facts[places[known]]
        by_etag = (etags != NO_ETAG) & (then[:, 2] != NO_ETAG)
        same = known.copy()
        same[known] = (then[:, 0] == now[:, 0]) & np.where(by_etag, then[:, 2] == etags, then[:, 1] == now[:, 1])
        gone = known & ~same
        gone[gone] = self._facts[places[gone], 0] == GONE
        places[gone] = -1
        return places, same

    def places_of(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Where files are here, int64 [n]; -1 for those that are not."""
        return self.places_of_hashes(text_hashes(text_array(names)))

    def places_of_hashes(self, hashes: NDArray[np.int64]) -> NDArray[np.int64]:
        """As `places_of`, by the hashes of the names, as `raysal.pool.lanes.text_hashes` makes them."""
        if not len(self._hashes):
            return np.full(len(hashes), -1, np.int64)
        places = np.searchsorted(self._hashes, hashes).clip(max=len(self._hashes) - 1)
        return np.where(self._hashes[places] == hashes, places, -1)

    def file_of(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The places of the files that items lay in when these were taken in last, int64 [n]; -1 if not known."""
        runs = np.searchsorted(self._bounds, ids, "right") - 1
        return np.asarray(self._owners[runs])

    def runs_of(self, places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The runs of ids of some files.

        Args:
            places: of the files here, ascending.

        Returns:
            Where each run begins, where it ends, and the place of its file; int64 [n] each.
        """
        owners = self._owners[: len(self._bounds)]
        runs = np.flatnonzero(np.isin(owners, places))  # the last one has no file
        return self._bounds[runs], self._bounds[runs + 1], owners[runs]


def _etag_hashes(etags: Sequence[str | None]) -> NDArray[np.int64]:
    """Hashes of etags, int64 [n]; `NO_ETAG` where there is none."""
    if not any(etags):
        return np.full(len(etags), NO_ETAG, np.int64)
    hashes = text_hashes(text_array([etag or "" for etag in etags]))
    return np.where([etag is None for etag in etags], NO_ETAG, hashes)


def _runs(
    places: NDArray[np.int64], first_ids: NDArray[np.int64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which items lie in which files, of rows [n]: the last that each file was taken in with, in order of time.

    Of an item that several files have, all but the last are gone: another one that had it was taken in again.

    Args:
        places: of the files.
        first_ids: of their items.
        counts: of their items.

    Returns:
        Where runs of ids begin int64 [m], ascending; and the place of the file of each int64 [m + 1], -1 where there is
        none, with one more for what is before all.
    """
    stops = first_ids + counts
    bounds = np.sort(np.concatenate([first_ids, stops]), kind="stable")  # `np.unique` takes far longer
    bounds = bounds[np.diff(bounds, prepend=-1) > 0]
    begins, ends = np.searchsorted(bounds, first_ids), np.searchsorted(bounds, stops)
    lengths = ends - begins
    covered = np.repeat(begins - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
    owners = np.full(len(bounds) + 1, -1, np.int64)
    owners[covered] = np.repeat(places, lengths)  # of what comes twice, the last one stays
    return bounds, owners


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
