"""What a pool knows of its source's files, and a growth that was begun: which items are to come, under which ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
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
from raysal.pool.layout import KINDS, chunk_file, number_in
from raysal.pool.place import files_of
from raysal.store import read_sealed, sha256_of
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
ETAG = pa.field("etag", pa.string())
"""A column more, if the source lies in a bucket."""
GONE = -2
"""In place of the size: the file was not in the source when its items were removed. It is new when it comes back."""
NO_ETAG = 0
"""In place of the hash of an etag."""
KNOWN_BEFORE = -1
"""In place of the first id: the items of the file were in the pool before."""
_ROWS = 1 << 16
"""Files of a row group."""


@dataclass(frozen=True, kw_only=True)
class TakenFile:
    """A file of the source that a pool takes in."""

    file: SourceFile
    first_id: int
    """Of its first item that comes; the ids of those that come follow each other."""
    items: int
    """How many come."""


def files_name(number: int) -> str:
    """The table of the files that a generation took in, relative to the pool."""
    return f"{FILES}/{number:05d}.parquet"


def write_files(pool: Path, number: int, taken: Iterable[TakenFile]) -> str:
    """Write the table of the files that a generation takes in.

    Args:
        pool: the directory.
        number: of the generation.
        taken: the files, in order of their ids.

    Returns:
        Hex sha256 of the table.
    """
    rows = iter(taken)
    some = list(islice(rows, _ROWS))
    schema = FILES_SCHEMA.append(ETAG) if any(one.file.etag is not None for one in some) else FILES_SCHEMA

    def write(temporary: Path) -> None:
        nonlocal some
        with pq.ParquetWriter(temporary, schema) as writer:
            while some:
                writer.write_table(_table(some, schema))
                some = list(islice(rows, _ROWS))

    return str(files_of(pool).write(files_name(number), write)["sha256"])


def _table(some: Sequence[TakenFile], schema: pa.Schema) -> pa.Table:
    columns = (
        [one.file.name for one in some],
        [one.file.bytes for one in some],
        [one.file.changed_ns for one in some],
        [one.first_id for one in some],
        [one.items for one in some],
        [one.file.etag for one in some],
    )
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=False)]
    return pa.table(arrays, schema=schema)


def read_files(pool: Path, number: int, sha256: str | None = None) -> Iterator[pa.Table]:
    """The files that a generation took in, some thousand at a time.

    Args:
        pool: the directory.
        number: of the generation.
        sha256: of the table; None if nobody recorded it.

    Yields:
        Tables of `FILES_SCHEMA`, in order of the ids; none if the generation has no such table.

    Raises:
        Damaged: the table was altered.
    """
    where, path = files_of(pool).where(files_name(number)), files_of(pool).find(files_name(number))
    if not path.exists():
        return
    fix = f"delete {files_name(number)}: its files then count as new, and items that stay the same keep their ids"
    if sha256 is not None and sha256_of(path) != sha256:
        raise Damaged(where, "its bytes do not match its sha256", fix)
    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group)
    except (pa.ArrowException, OSError) as error:
        raise Damaged(where, f"cannot be read ({error})", fix) from None


def taken_files(pool: Path, newest: int, *, checked: bool = False) -> Iterator[pa.Table]:
    """The files that generations 0 to `newest` took in, in order; tables as of `read_files`.

    A table that no generation names is passed over: a growth that was stopped before it was begun may leave one.

    Args:
        pool: the directory.
        newest: number of a generation.
        checked: whether to compare the tables with their digests.

    Yields:
        Tables of `FILES_SCHEMA`.
    """
    for number in range(newest + 1):
        sha256 = Generation.read(pool, number).files if number else None
        if number == 0 or sha256 is not None:
            yield from read_files(pool, number, sha256 if checked else None)


class KnownFiles:
    """The files that a pool took in, as they were then. Memory: 48 bytes a file.

    Names are known by their hashes of 64 bits: two files are taken for one if hash, size and time are the same. Where
    the etags of a file are known, they decide, and not its times.
    """

    def __init__(self, pool: Path, newest: int) -> None:
        """Read what generations 0 to `newest` took in. Of a file that came twice, the last one counts."""
        hashes, facts = [np.empty(0, np.int64)], [np.empty((0, 5), np.int64)]
        self.complete = files_of(pool).has(files_name(0))
        """Whether the files of the pool as it was made are known: pools of an older raysal did not keep them."""
        for table in taken_files(pool, newest, checked=True):
            hashes.append(text_hashes(table["name"].combine_chunks()))
            etags = table["etag"].to_pylist() if ETAG.name in table.schema.names else [None] * table.num_rows
            columns = [numbers_of(table[name]) for name in FILES_SCHEMA.names[1:]]
            facts.append(np.stack([*columns, _etag_hashes(etags)], 1))
        found, rows = np.concatenate(hashes), np.concatenate(facts)
        self._hashes, backwards = np.unique(found[::-1], return_index=True)
        self._facts = rows[len(found) - 1 - backwards][:, [0, 1, 4]]
        came = np.flatnonzero(rows[:, 3] > 0)
        order = came[np.argsort(rows[came, 2], kind="stable")]
        self._first_ids, self._stop_ids = rows[order, 2], rows[order, 2] + rows[order, 3]
        self._places = np.searchsorted(self._hashes, found[order])
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
        hashes = text_hashes(text_array(names))
        if not len(self._hashes):
            return np.full(len(hashes), -1, np.int64)
        places = np.searchsorted(self._hashes, hashes).clip(max=len(self._hashes) - 1)
        return np.where(self._hashes[places] == hashes, places, -1)

    def file_of(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The places of the files that items came from, int64 [n]; -1 where that is not known."""
        if not len(self._first_ids):
            return np.full(len(ids), -1, np.int64)
        spans = np.searchsorted(self._first_ids, ids, "right").clip(min=1) - 1
        inside = (ids >= self._first_ids[spans]) & (ids < self._stop_ids[spans])
        return np.where(inside, self._places[spans], -1)


def _etag_hashes(etags: Sequence[str | None]) -> NDArray[np.int64]:
    """Hashes of etags, int64 [n]; `NO_ETAG` where there is none."""
    if not any(etags):
        return np.full(len(etags), NO_ETAG, np.int64)
    hashes = text_hashes(text_array([etag or "" for etag in etags]))
    return np.where([etag is None for etag in etags], NO_ETAG, hashes)


def look_again(pool: Path, files: Iterable[SourceFile]) -> None:
    """Keep what the files are now of a pool that never changed, and whose contents are known to be theirs.

    Args:
        pool: the directory.
        files: of its source, in the order in which it took them in.
    """
    now = iter(files)

    def taken() -> Iterator[TakenFile]:
        for table in read_files(pool, 0):
            for row in table.to_pylist():
                file = next((file for file in now if file.name == row["name"]), None)
                if file is not None:
                    yield TakenFile(file=file, first_id=row["first_id"], items=row["items"])

    write_files(pool, 0, list(taken()))


def file_names_of(pool: Path, newest: int, ids: Sequence[int]) -> dict[int, str]:
    """The names of the files that items came from. It reads the tables of files once.

    Args:
        pool: the directory.
        newest: number of the generation that has the items.
        ids: of items.

    Returns:
        {id: name}, without the items of which that is not known.
    """
    wanted = np.sort(np.array(ids, np.int64))
    found: dict[int, str] = {}
    for table in taken_files(pool, newest):
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
    its first one that comes; then those of which only size and time are to be known, with the id `KNOWN_BEFORE`."""
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
    names, files = [], []
    for table in read_files(pool, begun.number, begun.files):
        for row in table.to_pylist():
            facts = {name: row.get(name) for name in ("name", "bytes", "changed_ns", "etag")}
            files.append(SourceFile(**facts))
            if row["first_id"] != KNOWN_BEFORE:
                names.append(row["name"])
    return names, files


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
