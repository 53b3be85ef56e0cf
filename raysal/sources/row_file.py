"""What a table reads: a file of rows, in parts, with columns of Arrow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from raysal.arrow import ColumnKind
from raysal.sources.named_images import are_named, paths_in

BATCH_ROWS = 8192
"""Rows that are decoded at a time."""


class RowFile(ABC):
    """An open file: its schema, its parts, and the rows of one part."""

    path: Path
    """Where it is, for errors and for what it names by relative paths."""
    schema: pa.Schema

    def kind(self, column: str) -> ColumnKind:
        """How the values of a column are read.

        Args:
            column: the name of a column that the file has.

        Returns:
            What its type and the metadata of the schema say.
        """
        return ColumnKind.of(self.schema.field(column), self.schema.metadata)

    @abstractmethod
    def is_as_opened(self) -> bool:
        """Whether nobody replaced the file or wrote it since it was opened."""

    @abstractmethod
    def parts(self, columns: Sequence[str]) -> Iterator[tuple[int, Iterator[pa.RecordBatch]]]:
        """Go through the parts of the file.

        Args:
            columns: names of the columns to read.

        Yields:
            The number of each part, from 0, and its rows in batches.
        """

    @abstractmethod
    def part_rows(self) -> Iterator[tuple[int, int]]:
        """Go through the parts of the file, without their values.

        Yields:
            The number of each part, from 0, and how many rows it has.

        Raises:
            SourceError: the file cannot be read.
        """

    @abstractmethod
    def rows(
        self, part: int, start: int, count: int, columns: Sequence[str], batch_rows: int = BATCH_ROWS
    ) -> Iterator[pa.RecordBatch]:
        """Read some rows of one part. To read a file in order costs one decoding.

        Args:
            part: number of the part, from 0.
            start: first row within the part.
            count: how many rows.
            columns: names of the columns to read.
            batch_rows: how many rows a batch has at most.

        Yields:
            The rows in batches; fewer than `count` only if the part ends before.

        Raises:
            SourceError: the file cannot be read.
        """

    def files_named(self, column: str) -> Iterator[str]:
        """The paths and URLs in a column of images; see `raysal.sources.named_images`.

        Args:
            column: the name of a column that the file has.

        Yields:
            The paths as they are written; maybe also some of images that have bytes.
        """
        if are_named(self.kind(column)):
            for _, batches in self.parts([column]):
                for batch in batches:
                    yield from (path for _, path in paths_in(batch.column(column)) if path)

    def numbers(self, begin: str, first: int) -> Iterator[tuple[int, int, pa.Array]]:
        """Number the rows of the file, as keys.

        Args:
            begin: what each key begins with.
            first: the number of the first row.

        Yields:
            The part, the first row within it, and `string` keys of some rows.
        """
        for part, rows in self.part_rows():
            for row in range(0, rows, BATCH_ROWS):
                some = range(first + row, first + min(row + BATCH_ROWS, rows))
                yield part, row, pa.array([f"{begin}{number}" for number in some], pa.string())
            first += rows
