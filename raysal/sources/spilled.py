"""A stream of items, written down in the folder of its pool, so that it can be read again by position and by key.

    source/00000.parquet      items of the stream: its columns, the key as text, and a digest of each row

A later stream is compared with what is there by key: what is the same is passed over, what is new or other goes into
files behind the others, and then is taken out of those that had it. Items that a later stream does not have stay. A
job that is stopped on the way finds what is there, and goes on; of one key the last file counts. Memory: 46 bytes an
item, and one file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raysal.arrow import ColumnKind
from raysal.arrow_values import array_of, is_present, numbers_of
from raysal.errors import BadItem, ConfigError, DuplicateKeys, SourceError, UserError
from raysal.pool.lanes import absorb, absorb_texts, begin, number_of
from raysal.sources.batches import PROBLEM, WHERE, Batches
from raysal.sources.listing import bad_item
from raysal.sources.row_file import BATCH_ROWS
from raysal.sources.stream_columns import fitted
from raysal.sources.table import Table
from raysal.sources.vectors import keys_in
from raysal.store import remove_temporaries, write_file
from raysal.types import Columns, Item, Unit

FOLDER = "source"
"""In the directory of a pool."""
DIGEST = "raysal.digest"
"""The column that says whether a row is the same: two numbers of 64 bits, as text."""
FILE_ROWS, FILE_BYTES = 1 << 16, 128 << 20
"""Of one file: the most rows, and about the most bytes."""
_LETTERS = 32
_GROUP_BYTES = 16 << 20
"""Of a row group: what is read for one item."""


@dataclass(frozen=True, kw_only=True)
class Spilled(Table):
    """The items of a stream, in the folder of their pool. The pool knows where that is, also where it was moved."""

    path: Path = field(metadata={"record": False})

    @classmethod
    def of(cls, pool: Path, batches: Batches) -> Spilled:
        """The items of a pool, with the columns that the caller names."""
        return cls(path=pool / FOLDER, **batches.columns)

    def read(self, unit: Unit, only: Collection[int] | None = None) -> Iterator[Item]:
        """As a table; an item that came as a bad one is that, with its reason."""
        problems = self._problems(unit)
        for item in super().read(unit, only):
            problem = problems.get(item.key)
            yield item if problem is None else bad_item(item.key, problem, carried=item.carried)

    def columns(self, unit: Unit, dim: int) -> Iterator[Columns]:
        """As a table; an item that came as a bad one is that, with its reason."""
        problems = self._problems(unit)
        for some in super().columns(unit, dim):
            bad = {row: problems[some.keys[row]] for row in some.odd if some.keys[row] in problems}
            yield replace(some, odd={**some.odd, **{row: BadItem(some.keys[row], why) for row, why in bad.items()}})

    def _problems(self, unit: Unit) -> dict[str, str]:
        """{key: reason} of the items of a chunk that came as bad ones. They have no payload."""
        found: dict[str, str] = {}
        position = 0
        for name, part, start, count in unit.locator:
            file = self._reader(name)
            if PROBLEM in file.schema.names:
                row = position
                for batch in file.rows(part, start, count, [PROBLEM], BATCH_ROWS):
                    for at, problem in enumerate(batch.column(PROBLEM).to_pylist(), start=row):
                        if problem is not None:
                            found[unit.keys[at]] = problem
                    row += batch.num_rows
            position += count
        return found


def spill(pool: Path, batches: Batches) -> int:
    """Write down what of a stream is not there yet, or is other there; nothing of one that is refused. It is locked.

    Args:
        pool: the directory.
        batches: the stream, which is run through once.

    Returns:
        How many items were written.

    Raises:
        SourceError: the stream gives no items, or a batch that cannot be written.
        DuplicateKeys: it gives a key twice.
        ConfigError: a column has the name of the digests.
        UserError: as its other kinds say.
    """
    folder = pool / FOLDER
    folder.mkdir(exist_ok=True)
    remove_temporaries(folder)
    there = _There.read(folder, batches.key_column)
    writer = _Writer(folder, there.next_number, batches)
    try:
        _write_news(folder, batches, there, writer)
    except UserError:
        for number in _numbers(folder):
            if number >= there.next_number:
                (folder / _name(number)).unlink()
        raise
    there.drop_replaced(folder)
    return writer.written


def _write_news(folder: Path, batches: Batches, there: _There, writer: _Writer) -> None:
    """Run through a stream, and write what is new or other behind what is there."""
    place = 0
    for table in batches.tables():
        keyed = _keyed(table, batches.key_column, place)
        place += len(keyed)
        news = there.look(keyed, batches.key_column)
        if len(news):
            writer.add(keyed if len(news) == len(keyed) else keyed.take(array_of(news, pa.int64())))
    writer.flush()
    there.check_distinct(folder, batches.key_column)
    if not place and not there.files:
        raise SourceError(WHERE, "the stream gives no item", "give at least one")


def _keyed(table: pa.Table, key_column: str, place: int) -> pa.Table:
    """A batch with its keys as text, and a digest of each row."""
    if DIGEST in table.column_names:
        raise ConfigError(DIGEST, "a column has the name that raysal uses itself", "rename the column")
    at = table.column_names.index(key_column)
    column = table.column(at).combine_chunks()
    keys = keys_in(ColumnKind.of(table.schema.field(at)), column, WHERE, place, "item")
    table = table.set_column(at, key_column, keys)
    text = _digests(table).astype(">u8").tobytes().hex().encode()
    offsets = array_of(np.arange(table.num_rows + 1, dtype=np.int32) * _LETTERS, pa.int32())
    digests = pa.StringArray.from_buffers(table.num_rows, offsets.buffers()[1], pa.py_buffer(text))
    return table.append_column(DIGEST, digests)


def _digests(table: pa.Table) -> NDArray[np.uint64]:
    """A digest of each row, uint64 [n, 2], of what its columns hold and are named."""
    states = begin(table.num_rows)
    for name in sorted({*table.column_names} - {PROBLEM}):
        column = table.column(name).combine_chunks()
        number = number_of(f"{name}\0{column.type}")
        if isinstance(column.type, pa.BaseExtensionType):
            column = column.storage
        absorb(states, is_present(column).astype(np.uint8)[:, None], number)
        content = _bytes_of(column)
        if content is None:
            if not (pa.types.is_string(column.type) or pa.types.is_binary(column.type)):
                column = _as_texts(column)
            absorb_texts(states, column, number)
        else:
            absorb(states, content, number)
    if PROBLEM in table.column_names:  # of the bad rows alone, so that those beside them are what they are without them
        column = table.column(PROBLEM).combine_chunks()
        bad = is_present(column)
        some = states[bad].copy()
        absorb_texts(some, column.drop_null(), number_of(PROBLEM))
        states[bad] = some
    return states[:, :2]


def _bytes_of(column: pa.Array) -> NDArray[np.uint8] | None:
    """The bytes of rows of numbers, all of one length [n, b]; None for others."""
    if column.null_count or not len(column):
        return None
    kind, width = column.type, 1
    if pa.types.is_fixed_size_list(kind):
        width, column = kind.list_size, column.flatten()
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = pc.min_max(pc.list_value_length(column)).as_py()
        if lengths["min"] != lengths["max"]:
            return None
        width, column = lengths["min"], column.flatten()
    plain = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    if column.null_count or not plain or not width:
        return None
    values = np.ascontiguousarray(numbers_of(column)).reshape(-1, width)
    return values.view(np.uint8).reshape(len(values), -1)


def _as_texts(column: pa.Array) -> pa.Array:
    """What rows hold, as texts: of large strings and binaries themselves, of others how they are written."""
    for whole, plain in ((pa.types.is_large_string, pa.string()), (pa.types.is_large_binary, pa.binary())):
        if whole(column.type):
            return column.cast(plain)
    return pa.array([repr(value) for value in column.to_pylist()], pa.string())


def _hashes(keys: pa.Array) -> NDArray[np.uint64]:
    """A hash of 128 bits of each key, uint64 [n, 2]: with 10^9 keys two are alike with a chance of 10^-21."""
    states = begin(len(keys))[:, :2].copy()
    absorb_texts(states, keys, 0)
    return states


class _There:
    """The keys and digests of what is written down, and which of them the stream met."""

    def __init__(self, hashes: NDArray[np.uint64], digests: NDArray[np.uint64], files: NDArray[np.int32]) -> None:
        """Of the rows of all files [n, 2], [n, 2] and [n], one file after the other."""
        order = np.lexsort((np.arange(len(hashes)), hashes[:, 1], hashes[:, 0]))
        self._hashes, self._digests, self._files = hashes[order], digests[order], files[order]
        following = (self._hashes[1:] == self._hashes[:-1]).all(1)
        self._replaced = np.append(following, np.zeros(min(len(order), 1), bool))  # of one key the last file counts
        self._met = np.zeros(len(order), bool)
        self._row = order
        self._news: list[NDArray[np.uint64]] = []
        self.files = sorted({*files.tolist()})

    @classmethod
    def read(cls, folder: Path, key_column: str) -> _There:
        """What lies in a folder."""
        parts = [(np.empty((0, 2), np.uint64), np.empty((0, 2), np.uint64), np.empty(0, np.int32))]
        for number in _numbers(folder):
            names = pq.read_schema(folder / _name(number)).names
            if key_column not in names:
                raise ConfigError("key_column", f"{key_column!r} is no column of what {folder} holds", "name that one")
            table = pq.read_table(folder / _name(number), columns=[key_column, DIGEST], partitioning=None)
            texts = "".join(table[DIGEST].to_pylist())
            digests = np.frombuffer(bytes.fromhex(texts), ">u8").astype(np.uint64).reshape(-1, 2)
            keys = table[key_column].combine_chunks()
            parts.append((_hashes(keys), digests, np.full(len(digests), number, np.int32)))
        return cls(*(np.concatenate([part[at] for part in parts]) for at in range(3)))

    @property
    def next_number(self) -> int:
        """The number of the next file."""
        return self.files[-1] + 1 if self.files else 0

    def look(self, table: pa.Table, key_column: str) -> NDArray[np.int64]:
        """Compare rows of the stream with what is there.

        Args:
            table: the rows, with their digests.
            key_column: the column of their keys.

        Returns:
            The positions of those that are new or other, int64.

        Raises:
            DuplicateKeys: a key that is there came before.
        """
        keys = table[key_column].combine_chunks()
        hashes, texts = _hashes(keys), "".join(table[DIGEST].to_pylist())
        digests = np.frombuffer(bytes.fromhex(texts), ">u8").astype(np.uint64).reshape(-1, 2)
        places = np.searchsorted(self._hashes[:, 0], hashes[:, 0], "right") - 1  # the last of its key
        found = places >= 0
        if len(self._hashes):
            found &= (self._hashes[places] == hashes).all(1)
        else:
            found[:] = False
        at = places[found]
        twice = self._met[at]
        twice[np.setdiff1d(np.arange(len(at)), np.unique(at, return_index=True)[1])] = True
        if twice.any():
            raise DuplicateKeys(WHERE, [keys[int(row)].as_py() for row in np.flatnonzero(found)[twice]])
        self._met[at] = True
        same = np.zeros(len(hashes), bool)
        same[found] = (self._digests[at] == digests[found]).all(1)
        self._replaced[at] |= ~same[found]
        self._news.append(hashes[~found])
        return np.flatnonzero(~same)

    def check_distinct(self, folder: Path, key_column: str) -> None:
        """Refuse a stream that gave a new key twice."""
        news = np.concatenate([np.empty((0, 2), np.uint64), *self._news])
        values, counts = np.unique(news, axis=0, return_counts=True)
        twice = values[counts > 1]
        if not len(twice):
            return
        named: dict[str, None] = {}
        for number in _numbers(folder):
            if number >= self.next_number:
                keys = pq.read_table(folder / _name(number), columns=[key_column], partitioning=None)[key_column]
                here = _hashes(keys.combine_chunks())
                rows = np.flatnonzero((here[:, None, :] == twice[None, :16, :]).all(2).any(1))
                named |= dict.fromkeys(keys[int(row)].as_py() for row in rows)
        raise DuplicateKeys(WHERE, list(named))

    def drop_replaced(self, folder: Path) -> None:
        """Take out of the files what later ones have."""
        files, begins = np.unique(self._files_in_order(), return_index=True)
        first = dict(zip(files.tolist(), begins.tolist(), strict=True))
        rows = self._row[self._replaced]
        of = self._files[self._replaced]
        for number in np.unique(of).tolist():
            gone = np.sort(rows[of == number]) - first[number]
            table = pq.read_table(folder / _name(number), partitioning=None)
            kept = np.ones(table.num_rows, bool)
            kept[gone] = False
            if kept.any():
                table = table.filter(pa.array(kept))
                _write(folder / _name(number), table, int(_sizes(table).sum()))
            else:
                (folder / _name(number)).unlink()

    def _files_in_order(self) -> NDArray[np.int32]:
        """The files of the rows, one file after the other."""
        files = np.empty_like(self._files)
        files[self._row] = self._files
        return files


class _Writer:
    """Writes rows into files, whose ends depend on the rows alone, and not on how they were batched."""

    def __init__(self, folder: Path, number: int, batches: Batches) -> None:
        self._folder, self._number, self._batches = folder, number, batches
        self._held: list[pa.Table] = []
        self._rows = self._bytes = self.written = 0

    def add(self, table: pa.Table) -> None:
        """Take some rows more."""
        sizes = _sizes(table)
        start = 0
        while start < table.num_rows:
            room = np.searchsorted(np.cumsum(sizes[start:]), FILE_BYTES - self._bytes, "right")
            count = min(int(room), FILE_ROWS - self._rows)
            if count == 0 and self._rows:
                self.flush()
                continue
            count = max(count, 1)
            self._held.append(table.slice(start, count))
            self._rows, self._bytes = self._rows + count, self._bytes + int(sizes[start : start + count].sum())
            start += count

    def flush(self) -> None:
        """Write what is held."""
        if not self._held:
            return
        try:
            table = pa.concat_tables(self._held, promote_options="default")
        except pa.ArrowException as error:
            problem = f"batches have columns of several types ({error})"
            raise SourceError(WHERE, problem, "give each column one type") from None
        before = [self._folder / _name(number) for number in _numbers(self._folder)]
        payload = Spilled.of(self._folder.parent, self._batches)._payload if before else None
        table = fitted(table, self._batches, DIGEST, before[-1] if before else None, payload)
        _write(self._folder / _name(self._number), table, self._bytes)
        self.written += self._rows
        self._held, self._rows, self._bytes, self._number = [], 0, 0, self._number + 1


def _write(path: Path, table: pa.Table, size: int) -> None:
    """Write a file of about `size` bytes, whose groups are small enough to be read for one item.

    Nothing is compressed: pictures and vectors get no smaller, and the disk sets the pace.
    """
    rows = max(1, table.num_rows * _GROUP_BYTES // max(size, 1))
    how: dict[str, Any] = {"row_group_size": rows, "compression": "none", "use_dictionary": False}
    write_file(path, lambda temporary: pq.write_table(table, temporary, **how))


def _sizes(table: pa.Table) -> NDArray[np.int64]:
    """About how many bytes each row takes, int64 [n]."""
    sizes = np.zeros(table.num_rows, np.int64)
    for column in table.itercolumns():
        whole = column.combine_chunks()
        sizes += _lengths(whole if isinstance(whole, pa.Array) else pa.concat_arrays(whole.chunks))
    return sizes


def _lengths(column: pa.Array) -> NDArray[np.int64]:
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    kind = column.type
    try:
        if pa.types.is_fixed_size_list(kind):
            return np.full(len(column), 8 * kind.list_size, np.int64)
        counts = pc.list_value_length(column) if pa.types.is_nested(kind) else pc.binary_length(column)
    except pa.ArrowException:
        return np.full(len(column), 8, np.int64)
    width = 8 if pa.types.is_nested(kind) else 1
    return width * np.asarray(numbers_of(pc.fill_null(counts, 0).cast(pa.int64())))


def _name(number: int) -> str:
    return f"{number:05d}.parquet"


def _numbers(folder: Path) -> Iterator[int]:
    """The numbers of the files in a folder, ascending."""
    return iter(sorted(int(path.stem) for path in folder.glob("*.parquet") if path.stem.isdecimal()))
