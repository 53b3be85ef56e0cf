"""Read files of Arrow columns part by part: Parquet by row group, Arrow IPC files and streams by record batch.

A Parquet row group can only be decoded from its beginning. So a file that is read run by run remembers where the last
run ended, and the next one goes on there. In a stream, the way to a batch is over those before it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raysal.errors import SourceError
from raysal.sources.kinds import PARQUET
from raysal.sources.named_images import are_named
from raysal.sources.row_file import BATCH_ROWS, RowFile

_READ_BYTES = 1 << 26
"""Record batches of Arrow IPC up to this are read. To map them takes longer, since every page is mapped by itself."""
_BUFFER_BYTES = 1 << 20
"""Bytes of a Parquet column that are read at a time. (By default it would be all of a row group's.)"""
_FILE, _END = b"ARROW1", b"\xff\xff\xff\xff\0\0\0\0"
"""How a file of Arrow IPC begins, and how a stream ends."""


@dataclass
class _Rest:
    """What is still to come of a row group."""

    part: int
    columns: tuple[str, ...]
    batches: Iterator[pa.RecordBatch]
    row: int = 0
    """First row of `batch`, or of the next batch."""
    batch: pa.RecordBatch | None = None


class ArrowFile(RowFile):
    """One file: its schema, its parts, and the rows of one part."""

    def __init__(self, path: Path) -> None:
        """Open the file and read its schema.

        Args:
            path: a file whose suffix is one of `raysal.sources.kinds.TABLES`.

        Raises:
            SourceError: the file does not have the format that its suffix names, or cannot be read.
        """
        self.path = path
        self._parquet = path.suffix.lower() in PARQUET
        self._rest: _Rest | None = None
        self._open: tuple[tuple[str, ...], Any] | None = None
        self._last: tuple[int, pa.RecordBatch] | None = None
        self._large = self._stream = False
        with self._readable():
            self._facts = _facts(path)
            if self._parquet:
                self._file = pq.ParquetFile(path, buffer_size=_BUFFER_BYTES)
                self.schema = self._file.schema_arrow
            else:
                with pa.memory_map(str(path)) as source:
                    self._stream = source.read(len(_FILE)) != _FILE
                    source.seek(0)
                    reader = (pa.ipc.open_stream if self._stream else pa.ipc.open_file)(source)
                    self.schema = reader.schema
                    size = source.size()
                    if self._stream:
                        source.seek(size - len(_END))
                        if source.read() != _END:
                            raise SourceError(
                                path, "is a stream of Arrow without its end mark: it was cut short", _AGAIN
                            )
                    else:
                        self._large = size > _READ_BYTES * max(reader.num_record_batches, 1)

    def is_as_opened(self) -> bool:
        """Whether nobody replaced the file or wrote it since it was opened."""
        with self._readable():
            return _facts(self.path) == self._facts

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Errors of reading the file become ours."""
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            hint = _AGAIN if self._parquet else "write it as an Arrow IPC file or stream, or as Parquet"
            raise SourceError(self.path, f"cannot be read ({error})", hint) from None

    def parts(self, columns: Sequence[str]) -> Iterator[tuple[int, Iterator[pa.RecordBatch]]]:
        """Go through the parts of the file.

        Args:
            columns: names of the columns to read.

        Yields:
            The number of each part, from 0, and its rows in batches.
        """
        if self._parquet:
            for part in range(self._file.num_row_groups):
                yield part, self._file.iter_batches(BATCH_ROWS, row_groups=[part], columns=list(columns))
        else:
            reader = self._reader(columns)
            for part in range(reader.num_record_batches):
                yield part, iter([reader.get_batch(part)])

    def part_rows(self) -> Iterator[tuple[int, int]]:
        """Go through the parts of the file, without their values.

        Yields:
            The number of each part, from 0, and how many rows it has.

        Raises:
            SourceError: the file cannot be read.
        """
        if self._parquet:
            yield from (
                (part, self._file.metadata.row_group(part).num_rows) for part in range(self._file.num_row_groups)
            )
            return
        with self._readable():
            for part, batches in self.parts(self.schema.names[:1]):
                yield part, sum(batch.num_rows for batch in batches)

    def rows(
        self, part: int, start: int, count: int, columns: Sequence[str], batch_rows: int = BATCH_ROWS
    ) -> Iterator[pa.RecordBatch]:
        """Read some rows of one part.

        A Parquet row group is decoded from where the last call for these columns ended, or else from its beginning. So
        to read a file in order costs one decoding. Memory stays at a few thousand rows.

        Args:
            part: number of the part, from 0.
            start: first row within the part.
            count: how many rows.
            columns: names of the columns to read.
            batch_rows: how many rows a batch has at most, if the row group is begun by this call.

        Yields:
            The rows in batches.

        Raises:
            SourceError: the file cannot be read.
        """
        if not self._parquet:
            with self._readable():
                if self._open is None or self._open[0] != tuple(columns):
                    self._open, self._last = (tuple(columns), self._reader(columns)), None
                reader = self._open[1]
                if part < reader.num_record_batches:  # else it has fewer than when it was listed
                    # A batch of many chunks is read, and decompressed, once.
                    if self._last is None or self._last[0] != part:
                        self._last = None
                        self._last = part, reader.get_batch(part)
                    batch = self._last[1].slice(start, count)
                    if batch.num_rows:
                        yield batch
            return
        rest, self._rest = self._rest, None
        if part >= self._file.num_row_groups:
            return
        if rest is None or (rest.part, rest.columns) != (part, tuple(columns)) or rest.row > start:
            batches = self._file.iter_batches(batch_rows, row_groups=[part], columns=list(columns))
            rest = _Rest(part, tuple(columns), batches)
        end = start + count
        while rest.row < end:
            with self._readable():
                batch = rest.batch if rest.batch is not None else next(rest.batches, None)
            if batch is None:
                return
            low, high = max(start - rest.row, 0), min(end - rest.row, batch.num_rows)
            rest.batch = batch.slice(high) if high < batch.num_rows else None
            rest.row += high
            if low < high:
                yield batch.slice(low, high - low)
        self._rest = rest

    def files_named(self, column: str) -> Iterator[str]:
        """The paths in a column of images that are structs of bytes and a path, where bytes are missing.

        Of Parquet it reads the paths alone, and only of row groups in which bytes may be missing; of these all paths.

        Args:
            column: the name of a column that the file has.

        Yields:
            The paths as they are written.
        """
        if not self._parquet or not pa.types.is_struct(self.schema.field(column).type):
            yield from super().files_named(column)
            return
        if not are_named(self.kind(column)):
            return
        for part in range(self._file.num_row_groups):
            if not _is_full(self._file.metadata.row_group(part), f"{column}.bytes"):
                for batch in self._file.iter_batches(BATCH_ROWS, row_groups=[part], columns=[f"{column}.path"]):
                    yield from (path for path in batch.column(0).field("path").to_pylist() if path)

    def _reader(self, columns: Sequence[str]) -> Any:
        """A reader of these columns of an Arrow IPC file. Batches are read, and large ones and streams are mapped."""
        fields = sorted({self.schema.get_field_index(name) for name in columns})
        options = pa.ipc.IpcReadOptions(included_fields=fields)
        if self._stream:
            return _Stream(self.path, options)
        source = (pa.memory_map if self._large else pa.OSFile)(str(self.path))
        return pa.ipc.open_file(source, options=options)


class _Stream:
    """The record batches of a stream, by their numbers. To pass over one costs some microseconds: it is mapped."""

    def __init__(self, path: Path, options: pa.ipc.IpcReadOptions) -> None:
        self._path, self._options = path, options
        with pa.memory_map(str(path)) as source:
            kinds = (message.type for message in pa.ipc.MessageReader.open_stream(source))
            self.num_record_batches = sum(kind == "record batch" for kind in kinds)
        self._reader, self._next = self._opened(), 0

    def _opened(self) -> Any:
        return pa.ipc.open_stream(pa.memory_map(str(self._path)), options=self._options)

    def get_batch(self, part: int) -> pa.RecordBatch:
        """One batch, as `pyarrow.ipc.RecordBatchFileReader.get_batch` gives it."""
        if part < self._next:
            self._reader, self._next = self._opened(), 0
        while True:
            batch = self._reader.read_next_batch()
            self._next += 1
            if self._next > part:
                return batch


_AGAIN = "write it again"


def _facts(path: Path) -> tuple[int, ...]:
    """What changes if a file is replaced or written."""
    found = os.stat(path)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _is_full(group: pq.RowGroupMetaData, leaf: str) -> bool:
    """Whether the statistics of a row group say that a leaf has no null."""
    for place in range(group.num_columns):
        chunk = group.column(place)
        if chunk.path_in_schema == leaf:
            found = chunk.statistics
            return found is not None and found.has_null_count and found.null_count == 0
    return False
