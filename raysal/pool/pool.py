"""Reading a pool: open, describe, verify, export, and find items. Vectors are memory-mapped, never loaded whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raysal.errors import Damaged, LabelError, PoolError, PoolIncomplete
from raysal.pool.layout import MANIFEST, Manifest, chunk_file, damaged, read_records, to_mend
from raysal.store import check_bytes, check_size, read_sealed, write_file
from raysal.types import Metric


@dataclass(frozen=True, kw_only=True)
class PoolInfo:
    """A pool in one line each: `items` can be picked, `quarantined` could not be embedded."""

    items: int
    dim: int
    dtype: str
    metric: Metric
    chunks: int
    encoder: str
    quarantined: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """One committed chunk of a pool; its files are read when asked for.

    Every read first compares the file with the sha256 in its record (about 2 GB/s a core), so what comes back is
    what was committed. It is also what makes the read safe: Arrow may crash the process on altered metadata.
    """

    pool: Path
    index: int
    rows: int
    dim: int
    files: dict[str, dict[str, Any]]

    def vectors(self) -> NDArray[np.float16]:
        """Read-only float16 [rows, dim], memory-mapped.

        Raises:
            Damaged: the file is missing or differs from its record.
        """
        path = self._intact("vectors")
        try:
            with pa.memory_map(str(path)) as source:
                column = pa.ipc.open_file(source).get_batch(0).column(0)
            values: NDArray[np.float16] = column.flatten().to_numpy(zero_copy_only=True)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise damaged(path, f"cannot be read ({error})", self.index) from None
        if values.shape != (self.rows * self.dim,):
            raise damaged(path, f"holds {values.size} numbers, not {self.rows} x {self.dim}", self.index)
        return values.reshape(self.rows, self.dim)

    def items(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The chunk's items, row for row beside its vectors. A column that this chunk lacks is all null.

        Raises:
            Damaged: the file is missing or differs from its record.
        """
        table = self._table("items", columns)
        for name in dict.fromkeys(columns or ()):
            if name not in table.column_names:  # the chunk was lost as a whole, and nothing is known of its columns
                table = table.append_column(name, pa.nulls(self.rows))
        return table if columns is None else table.select(list(dict.fromkeys(columns)))

    def ids(self) -> NDArray[np.int64]:
        """int64 [rows], strictly increasing."""
        ids: NDArray[np.int64] = self.items(["id"])["id"].to_numpy()
        return ids

    def quarantine(self) -> pa.Table:
        """id, key, stage, error of the chunk's items that could not be embedded. Raises: Damaged, as `items`."""
        return self._table("quarantine")

    def _table(self, kind: str, columns: Sequence[str] | None = None) -> pa.Table:
        path = self._intact(kind)
        try:
            # Not `read_table`: that would take a folder called "a=b" on the way for a column.
            with pq.ParquetFile(path) as file:
                return file.read(columns=None if columns is None else list(columns))
        except (pa.ArrowException, OSError) as error:
            raise damaged(path, f"cannot be read ({error})", self.index) from None

    def _intact(self, kind: str) -> Path:
        """The path of one of the chunk's files, whose bytes were compared with the record."""
        relative = chunk_file(kind, self.index)
        path, entry = self.pool / relative, self.files[relative]
        check_size(path, entry["bytes"], to_mend(self.index))
        check_bytes(path, entry["sha256"], to_mend(self.index))
        return path


class Pool:
    """A committed pool. Cheap to hold: the manifest and one record per chunk."""

    def __init__(self, path: str | Path) -> None:
        """Open a finished pool; only sizes are checked here (`verify` reads every byte).

        Raises:
            PoolError: there is none, or it is of a newer version.
            PoolIncomplete: its embed job has not finished.
            Damaged: the manifest or a record was altered, or a file is missing or has another size.
        """
        self.path = Path(path)
        self.manifest = Manifest.read(self.path)
        records = read_records(self.path, self.manifest)
        if len(records) != self.manifest.chunks:
            raise PoolIncomplete(self.path, len(records), self.manifest.chunks)
        self._records = list(records.values())
        self.chunks = [
            Chunk(pool=self.path, index=r["index"], rows=r["rows"], dim=self.manifest.dim, files=r["files"])
            for r in self._records
        ]

    def _files(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for record in self._records:
            yield from record["files"].items()

    def __len__(self) -> int:
        """Items with a vector."""
        return sum(chunk.rows for chunk in self.chunks)

    @property
    def dim(self) -> int:
        return self.manifest.dim

    @property
    def metric(self) -> Metric:
        return self.manifest.metric

    @property
    def fingerprint(self) -> str:
        return self.manifest.fingerprint

    def info(self) -> PoolInfo:
        return PoolInfo(
            items=len(self),
            dim=self.dim,
            dtype="float16",
            metric=self.metric,
            chunks=len(self.chunks),
            encoder=str(self.manifest.encoder["name"]),
            quarantined=sum(record["quarantined"] for record in self._records),
            bytes=sum(entry["bytes"] for _, entry in self._files()),
        )

    @property
    def columns(self) -> list[str]:
        """Names of the items' columns, the carried ones after the pool's own."""
        # A chunk without rows may have lost its carried columns with them.
        telling = next((chunk for chunk in self.chunks if chunk.rows), None) or next(iter(self.chunks), None)
        return list(telling.items().column_names) if telling else []

    def verify(self) -> int:
        """Read every file of the pool and compare it with its record; returns how many were read.

        Raises:
            Damaged: the first file that differs, the manifest and the records included.
        """
        if Pool(self.path).manifest_record() != self.manifest_record():
            raise Damaged(self.path / MANIFEST, "is of another pool than when it was opened", "open the pool again")
        last = -1
        for chunk, record in zip(self.chunks, self._records, strict=True):
            read_sealed(self.path / chunk_file("commits", chunk.index))
            chunk.vectors()
            ids, lost = chunk.ids(), chunk.quarantine().num_rows
            if len(ids) != chunk.rows or (np.diff(ids, prepend=last) <= 0).any():
                problem = f"{len(ids)} ids, not {chunk.rows} that increase from {last + 1}"
                raise damaged(self.path / chunk_file("items", chunk.index), problem, chunk.index)
            if lost != record["quarantined"]:
                problem = f"{lost} rows, expected {record['quarantined']}"
                raise damaged(self.path / chunk_file("quarantine", chunk.index), problem, chunk.index)
            last = int(ids[-1]) if len(ids) else last
        return 1 + len(self._records) + sum(1 for _ in self._files())

    def export(self, out: str | Path) -> int:
        """Write keys, ids, carried columns and vectors as one Parquet file, a row group per chunk; returns the rows.

        Raises:
            PoolError: a carried column has types in different chunks that no one type holds.
            OSError: `out` cannot be written; nothing is left there.
        """
        schema = self._united([chunk.items().schema for chunk in self.chunks])
        vector = pa.field("vector", pa.list_(pa.float16(), self.dim))

        def write(temporary: Path) -> None:
            with pq.ParquetWriter(temporary, schema.append(vector)) as writer:
                for chunk in self.chunks:
                    values = pa.FixedSizeListArray.from_arrays(pa.array(chunk.vectors().reshape(-1)), self.dim)
                    items = self._as(schema, chunk.items(schema.names))
                    writer.write_table(items.append_column(vector, values))

        write_file(Path(out), write)
        return len(self)

    def items(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The items, chunk by chunk.

        Raises:
            PoolError: the pool has no such column.
        """
        if columns is not None:
            self._need(columns)
        return (chunk.items(columns) for chunk in self.chunks)

    def rows_where(self, column: str, values: Sequence[Any], columns: Sequence[str] | None = None) -> pa.Table:
        """The items whose `column` is among `values`, in id order. One streaming pass; memory for what is found.

        Raises:
            PoolError: the pool has no such column, or it holds no such values.
        """
        names = self.columns if columns is None else list(dict.fromkeys(columns))
        found = []
        for table in self.items([column, *names]):
            try:
                kind = table[column].type  # a column that is all null in a chunk has no type there
                wanted = pa.array([v for v in values if v is None] if pa.types.is_null(kind) else values, kind)
                found.append(table.filter(pc.is_in(table[column], value_set=wanted)).select(names))
            except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
                raise PoolError(
                    self.path, f"column {column!r} is {kind}: {error}", "ask for values of that type"
                ) from None
        schema = self._united([table.schema for table in found])  # a column may be all null in one chunk
        return pa.concat_tables([self._as(schema, table) for table in found])

    def ids_of(self, keys: Sequence[str]) -> dict[str, int]:
        """Ids of items by key.

        Raises:
            LabelError: a key is not in the pool.
        """
        if not keys:
            return {}
        asked = list(dict.fromkeys(keys))
        table = self.rows_where("key", [key for key in asked if _is_text(key)], ["id", "key"])
        found = dict(zip(table["key"].to_pylist(), table["id"].to_pylist(), strict=True))
        missing = [key for key in asked if key not in found]
        if missing:
            some = ", ".join(repr(key) for key in missing[:5]) + (", ..." if len(missing) > 5 else "")
            are = "key is" if len(missing) == 1 else "keys are"
            raise LabelError(
                self.path, f"{len(missing)} {are} not in the pool: {some}", "keys are listed by `raysal pool export`"
            )
        return found

    def manifest_record(self) -> dict[str, Any]:
        return asdict(self.manifest)

    def _need(self, columns: Sequence[str]) -> None:
        own, known = ("id", "key", "uri", "owner"), None
        for name in columns:
            if name not in own and name not in (known := known or self.columns):
                raise PoolError(self.path, f"has no column {name!r}", f"its columns: {', '.join(known)}")

    def _united(self, schemas: Sequence[pa.Schema]) -> pa.Schema:
        """The columns of all chunks. One that is all null in a chunk has no type there."""
        try:
            return pa.unify_schemas(schemas, promote_options="permissive").remove_metadata()
        except pa.ArrowException as error:
            raise PoolError(self.path, f"a carried column changes its type ({error})", _ONE_TYPE) from None

    def _as(self, schema: pa.Schema, table: pa.Table) -> pa.Table:
        try:
            return table.cast(schema)
        except pa.ArrowException as error:
            raise PoolError(self.path, f"a carried column changes its type ({error})", _ONE_TYPE) from None


_ONE_TYPE = "embed again with values of one type"


def _is_text(key: object) -> bool:
    """Whether a pool could hold this key at all."""
    return isinstance(key, str) and not any("\ud800" <= letter <= "\udfff" for letter in key)


def open_pool(path: str | Path) -> Pool:
    """Open a finished pool; see `Pool`."""
    return Pool(path)
