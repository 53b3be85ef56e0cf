"""One committed chunk of a pool, and the one way to read its files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raysal.arrow_values import array_of, numbers_of
from raysal.errors import Damaged, PoolError
from raysal.pool.files import IntactFile
from raysal.pool.generations import Removed, newest_generation
from raysal.pool.layout import KINDS, chunk_file, how_to_repair
from raysal.pool.place import files_of, place_of

ROWS_FOR_THREADS = 4096
"""Of a chunk with fewer rows, to hand columns to threads takes longer than to read them."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """One committed chunk of a pool. Its methods read its files.

    The first read of a file in a process, and the first after it changed, compares it with the sha256 in its record, at
    about 2 GB/s per core (`raysal.pool.intact`). So it returns what was committed. This also makes the read safe: Arrow
    may crash the process if the file's metadata was altered.

    Items that the reader's generation lacks are left out of all that is read.
    """

    pool: Path
    index: int
    stored: int
    """Vectors in the file."""
    dim: int
    files: dict[str, dict[str, Any]]
    """{name of a file, as the record has it: its bytes and sha256}."""
    removed: Removed | None = field(default=None, compare=False)
    """Items of the chunk that the generation lacks."""

    @classmethod
    def of(cls, pool: Path, record: Mapping[str, Any], dim: int, removed: Removed | None = None) -> Chunk:
        """The chunk of a commit record."""
        files = dict(record["files"])
        return cls(pool=pool, index=record["index"], stored=record["rows"], dim=dim, files=files, removed=removed)

    @property
    def rows(self) -> int:
        """Vectors that can be read."""
        return self.stored - (0 if self.removed is None else len(self.removed.dead_rows))

    @property
    def is_fetched(self) -> bool:
        """Whether its files come from a bucket when they are first read."""
        return files_of(self.pool).fetched

    def living(self) -> NDArray[np.int64] | None:
        """The rows of the file that can be read: int64 [rows], ascending. None for all."""
        if self.removed is None or not len(self.removed.dead_rows):
            return None
        kept = np.ones(self.stored, bool)
        kept[self.removed.dead_rows] = False
        return np.flatnonzero(kept)

    def vectors(self) -> NDArray[np.float16]:
        """The chunk's vectors. They are what was given, times the pool's scale.

        Returns:
            Read-only float16 [rows, dim]: mapped into memory, or a copy where items were removed.

        Raises:
            Damaged: the file is missing or differs from its record.
        """
        rows = self.living()
        return self.mapped() if rows is None else self.mapped()[rows]

    def mapped(self, checked: IntactFile | None = None) -> NDArray[np.float16]:
        """The vectors in the file, also those of removed items, mapped into memory.

        Args:
            checked: what `check_bytes` returned before. If it still holds, the bytes are not compared again.

        Returns:
            Read-only float16 [stored, dim].

        Raises:
            Damaged: the file is missing or differs from its record.
        """
        path = (checked if checked is not None and checked.is_as_it_was() else self._intact("vectors")).path
        try:
            with pa.memory_map(str(path)) as source:
                column = pa.ipc.open_file(source).get_batch(0).column(0)
            # `column.flatten` would import `pyarrow.compute`, which takes as long as to open the pool.
            values: NDArray[np.float16] = numbers_of(column.values)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise Damaged(self._where("vectors"), f"cannot be read ({error})", how_to_repair(self.index)) from None
        if values.shape != (self.stored * self.dim,):
            problem = f"holds {values.size} numbers, not {self.stored} x {self.dim}"
            raise Damaged(self._where("vectors"), problem, how_to_repair(self.index))
        return values.reshape(self.stored, self.dim)

    def items(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The chunk's items, one row for each vector, in the same order.

        Args:
            columns: names of columns. None for all.

        Returns:
            A table of these columns, each once. A column that this chunk lacks is all null.

        Raises:
            Damaged: the file is missing or differs from its record.
        """
        table = self._table("items", columns)
        if (rows := self.living()) is not None:
            table = taken_rows(table, rows)
        for name in dict.fromkeys(columns or ()):
            if name not in table.column_names:  # the whole chunk was quarantined, so it has no carried columns
                table = table.append_column(name, pa.nulls(self.rows))
        return table if columns is None else table.select(list(dict.fromkeys(columns)))

    def ids(self) -> NDArray[np.int64]:
        """The items' ids: int64 [rows], strictly increasing."""
        ids: NDArray[np.int64] = numbers_of(self.items(["id"])["id"])
        return ids

    def stored_ids(self) -> NDArray[np.int64]:
        """The ids of all vectors in the file, also of removed items: int64 [stored], strictly increasing."""
        ids: NDArray[np.int64] = numbers_of(self._table("items", ["id"])["id"])
        return ids

    def quarantine(self) -> pa.Table:
        """The id, key, stage and error of the chunk's items that could not be embedded; errors as for `items`."""
        table = self._table("quarantine")
        if self.removed is None or not len(self.removed.lost_ids):
            return table
        return taken_rows(table, np.flatnonzero(~np.isin(numbers_of(table["id"]), self.removed.lost_ids)))

    def _table(self, kind: str, columns: Sequence[str] | None = None) -> pa.Table:
        """One of the chunk's Parquet files."""
        path = self._intact(kind).path
        try:
            # `read_table` would take a folder "a=b" in the path for a column.
            with pq.ParquetFile(path) as file:
                threads = self.stored >= ROWS_FOR_THREADS
                return file.read(columns=None if columns is None else list(columns), use_threads=threads)
        except (pa.ArrowException, OSError) as error:
            raise Damaged(self._where(kind), f"cannot be read ({error})", how_to_repair(self.index)) from None

    def check(self) -> None:
        """Read every byte of the chunk's files, also of those that were found intact before.

        Raises:
            Damaged: a file is missing or differs from its record.
        """
        for kind in KINDS:
            self._intact(kind, anew=True)

    def check_size(self, kind: str) -> None:
        """Look at the size of one of the chunk's files, and not at its bytes.

        Args:
            kind: vectors, items or quarantine.

        Raises:
            PoolError: the pool was compacted since it was opened.
            Damaged: the file is missing or has another size.
        """
        name = self.name_of(kind)
        with self._unless_compacted():
            files_of(self.pool).check_size(name, self.files[name]["bytes"], how_to_repair(self.index))

    def check_bytes(self, kind: str) -> IntactFile:
        """Compare one of the chunk's files with its record, unless that was done in this process.

        Args:
            kind: vectors, items or quarantine.

        Returns:
            The file, which of a pool in a bucket is on this machine from here on.

        Raises:
            PoolError: the pool was compacted since it was opened.
            Damaged: the file is missing or differs.
        """
        return self._intact(kind)

    def name_of(self, kind: str) -> str:
        """The name of one of the chunk's files, relative to the pool."""
        return next(name for name in self.files if name.startswith(f"{kind}/"))

    def _where(self, kind: str) -> Path | str:
        """One of the chunk's files, for an error."""
        return files_of(self.pool).where(self.name_of(kind))

    def _intact(self, kind: str, *, anew: bool = False) -> IntactFile:
        """Compare one of the chunk's files with its record, unless that was done."""
        name = self.name_of(kind)
        with self._unless_compacted():
            return files_of(self.pool).intact(name, self.files[name], how_to_repair(self.index), anew=anew)

    @contextmanager
    def _unless_compacted(self) -> Iterator[None]:
        """Say of a file that is missing because the pool was compacted, that it was."""
        try:
            yield
        except Damaged:
            files_of(self.pool).sync()
            if newest_generation(self.pool) and not (self.pool / chunk_file("commits", self.index)).exists():
                raise PoolError(place_of(self.pool), "was compacted since it was opened", "open it again") from None
            raise


def taken_rows(table: pa.Table, rows: NDArray[np.int64]) -> pa.Table:
    """Some rows of a table."""
    return table.take(array_of(rows, pa.int64()))
