"""Read files of Arrow columns part by part: Parquet by row group, Arrow IPC by record batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raysal.arrow import ColumnKind
from raysal.errors import SourceError
from raysal.sources.kinds import PARQUET

_BATCH_ROWS = 8192
"""Rows of a Parquet row group that are decoded at a time."""


class ArrowFile:
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
        try:
            if self._parquet:
                self._file = pq.ParquetFile(path)
                self.schema = self._file.schema_arrow
            else:
                with pa.memory_map(str(path)) as source:
                    self.schema = pa.ipc.open_file(source).schema
        except (pa.ArrowException, OSError) as error:
            hint = "write it again" if self._parquet else "write it as an Arrow IPC file (not a stream) or as Parquet"
            raise SourceError(path, f"cannot be read ({error})", hint) from None

    def kind(self, column: str) -> ColumnKind:
        """How the values of a column are read.

        Args:
            column: the name of a column that the file has.

        Returns:
            What its type and the metadata of the schema say.
        """
        return ColumnKind.of(self.schema.field(column), self.schema.metadata)

    def parts(self, columns: Sequence[str]) -> Iterator[tuple[int, Iterator[pa.RecordBatch]]]:
        """Go through the parts of the file.

        Args:
            columns: names of the columns to read.

        Yields:
            The number of each part, from 0, and its rows in batches.
        """
        if self._parquet:
            for part in range(self._file.num_row_groups):
                yield part, self._file.iter_batches(_BATCH_ROWS, row_groups=[part], columns=list(columns))
        else:
            with pa.memory_map(str(self.path)) as source:
                reader = self._reader(source, columns)
                for part in range(reader.num_record_batches):
                    yield part, iter([reader.get_batch(part)])

    def rows(self, part: int, start: int, count: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Read some rows of one part.

        A Parquet row group is decoded from its beginning. So rows from the end of a large group cost the decoding of
        all rows before them. Memory stays at a few thousand rows.

        Args:
            part: number of the part, from 0.
            start: first row within the part.
            count: how many rows.
            columns: names of the columns to read.

        Yields:
            The rows in batches.
        """
        if self._parquet:
            batches = self._file.iter_batches(_BATCH_ROWS, row_groups=[part], columns=list(columns))
            yield from _window(batches, start, count)
        else:
            with pa.memory_map(str(self.path)) as source:
                yield from _window(iter([self._reader(source, columns).get_batch(part)]), start, count)

    def files_named(self, column: str) -> Iterator[str]:
        """The paths in a column of images that are structs of bytes and a path, where bytes are missing.

        Of Parquet it reads the paths alone, and only of row groups in which bytes may be missing; of these all paths.

        Args:
            column: the name of a column that the file has.

        Yields:
            The paths as they are written.
        """
        kind = self.schema.field(column).type
        if not pa.types.is_struct(kind) or kind.get_field_index("path") < 0 or kind.get_field_index("bytes") < 0:
            return
        if not self._parquet:
            for _, batches in self.parts([column]):
                for batch in batches:
                    images = batch.column(column)
                    rows = zip(images.field("path").to_pylist(), images.field("bytes").is_null(), strict=True)
                    yield from (path for path, missing in rows if path and missing.as_py())
            return
        for part in range(self._file.num_row_groups):
            if not _is_full(self._file.metadata.row_group(part), f"{column}.bytes"):
                for batch in self._file.iter_batches(_BATCH_ROWS, row_groups=[part], columns=[f"{column}.path"]):
                    yield from (path for path in batch.column(0).field("path").to_pylist() if path)

    def _reader(self, source: Any, columns: Sequence[str]) -> Any:
        """A reader of these columns of an Arrow IPC file."""
        fields = sorted({self.schema.get_field_index(name) for name in columns})
        return pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=fields))


def _is_full(group: pq.RowGroupMetaData, leaf: str) -> bool:
    """Whether the statistics of a row group say that a leaf has no null."""
    for place in range(group.num_columns):
        chunk = group.column(place)
        if chunk.path_in_schema == leaf:
            found = chunk.statistics
            return found is not None and found.has_null_count and found.null_count == 0
    return False


def _window(batches: Iterator[pa.RecordBatch], start: int, count: int) -> Iterator[pa.RecordBatch]:
    """The rows `start` to `start + count` of a sequence of batches."""
    end = start + count
    place = 0
    for batch in batches:
        low, high = max(start - place, 0), min(end - place, batch.num_rows)
        if low < high:
            yield batch.slice(low, high - low)
        place += batch.num_rows
        if place >= end:
            return
