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

from raysal.errors import Damaged, LabelError, PoolIncomplete
from raysal.pool.layout import Manifest, chunk_file
from raysal.store import read_sealed, sha256_of, write_file


@dataclass(frozen=True, kw_only=True)
class PoolInfo:
    """A pool in one line each: `items` can be picked, `quarantined` could not be embedded."""

    items: int
    dim: int
    dtype: str
    chunks: int
    encoder: str
    quarantined: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """One committed chunk of a pool; its arrays are read when asked for."""

    pool: Path
    index: int
    rows: int
    dim: int
    files: dict[str, dict[str, Any]]

    def vectors(self) -> NDArray[np.float16]:
        """Read-only float16 [rows, dim], memory-mapped.

        Raises:
            Damaged: the file is missing, truncated, or not of the shape its record states.
        """
        path = self.pool / chunk_file("vectors", self.index)
        if self.rows == 0:
            return np.empty((0, self.dim), np.float16)
        try:
            with pa.memory_map(str(path)) as source:
                batch = pa.ipc.open_file(source).get_batch(0)
            column = batch.column(0)
            values: NDArray[np.float16] = column.flatten().to_numpy(zero_copy_only=True).reshape(len(column), -1)
        except FileNotFoundError:
            raise Damaged(path, "the file is missing", "see `raysal pool verify`") from None
        except (pa.ArrowException, OSError, ValueError) as error:
            raise Damaged(path, f"cannot be read ({error})", "see `raysal pool verify`") from None
        if values.shape != (self.rows, self.dim):
            raise Damaged(path, f"holds {values.shape}, expected ({self.rows}, {self.dim})", "see `raysal pool verify`")
        return values

    def items(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The chunk's items, row for row beside its vectors.

        Raises:
            Damaged: the file is missing or unreadable.
        """
        path = self.pool / chunk_file("items", self.index)
        try:
            return pq.read_table(path, columns=None if columns is None else list(columns))
        except (pa.ArrowException, OSError) as error:
            raise Damaged(path, f"cannot be read ({error})", "see `raysal pool verify`") from None

    def ids(self) -> NDArray[np.int64]:
        """int64 [rows], strictly increasing."""
        ids: NDArray[np.int64] = self.items(["id"])["id"].to_numpy()
        return ids

    def quarantine(self) -> pa.Table:
        """id, key, stage, error of the chunk's items that could not be embedded."""
        return pq.read_table(self.pool / chunk_file("quarantine", self.index))


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
        records = [read_sealed(record) for record in sorted((self.path / "commits").glob("*.json"))]
        if len(records) != self.manifest.chunks:
            raise PoolIncomplete(self.path, len(records), self.manifest.chunks)
        self._records = records
        self.chunks = [
            Chunk(pool=self.path, index=r["index"], rows=r["rows"], dim=self.manifest.dim, files=r["files"])
            for r in records
        ]
        for relative, entry in self._files():
            file = self.path / relative
            if not file.exists():
                raise Damaged(file, "the file is missing", "restore it, or delete its commit record and embed again")
            if file.stat().st_size != entry["bytes"]:
                raise Damaged(
                    file,
                    f"{file.stat().st_size} bytes, its record says {entry['bytes']}",
                    "restore it, or delete its commit record and embed again",
                )

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
    def fingerprint(self) -> str:
        return self.manifest.fingerprint

    def info(self) -> PoolInfo:
        return PoolInfo(
            items=len(self),
            dim=self.dim,
            dtype="float16",
            chunks=len(self.chunks),
            encoder=str(self.manifest.encoder["name"]),
            quarantined=sum(record["quarantined"] for record in self._records),
            bytes=sum(entry["bytes"] for _, entry in self._files()),
        )

    def verify(self) -> int:
        """Read every file of the pool and compare it with its record; returns how many were read.

        Raises:
            Damaged: the first file that differs. (The manifest and the records were checked on opening.)
        """
        count = 1 + len(self._records)
        for relative, entry in self._files():
            if sha256_of(self.path / relative) != entry["sha256"]:
                raise Damaged(
                    self.path / relative,
                    "its bytes do not match the sha256 in its record",
                    "restore it, or delete its commit record and embed again",
                )
            count += 1
        for chunk, record in zip(self.chunks, self._records, strict=True):
            rows = chunk.items(["id"]).num_rows
            if rows != record["rows"]:
                raise Damaged(self.path / chunk_file("items", chunk.index), f"{rows} rows, expected {record['rows']}")
        return count

    def export(self, out: str | Path) -> int:
        """Write keys, ids, carried columns and vectors as one Parquet file, a row group per chunk; returns the rows."""
        # A carried column that is all null in one chunk has no type there.
        schemas = [pq.read_schema(self.path / chunk_file("items", chunk.index)) for chunk in self.chunks]
        schema = pa.unify_schemas(schemas, promote_options="permissive")
        writer: pq.ParquetWriter | None = None

        def write(temporary: Path) -> None:
            nonlocal writer
            for chunk in self.chunks:
                values = pa.FixedSizeListArray.from_arrays(pa.array(chunk.vectors().reshape(-1)), self.dim)
                table = chunk.items().cast(schema).append_column("vector", values)
                writer = writer or pq.ParquetWriter(temporary, table.schema)
                writer.write_table(table)
            if writer is not None:
                writer.close()

        write_file(Path(out), write)
        return len(self)

    def items(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The items, chunk by chunk."""
        return (chunk.items(columns) for chunk in self.chunks)

    def rows_where(self, column: str, values: Sequence[Any], columns: Sequence[str] | None = None) -> pa.Table:
        """The items whose `column` is among `values`, in id order. One streaming pass; memory for what is found."""
        wanted = pa.array(values)
        found = [table.filter(pc.is_in(table[column], value_set=wanted)) for table in self.items(columns)]
        return pa.concat_tables(found, promote_options="permissive")  # a column may be all null in one chunk

    def ids_of(self, keys: Sequence[str]) -> dict[str, int]:
        """Ids of items by key.

        Raises:
            LabelError: a key is not in the pool.
        """
        if not keys:
            return {}
        table = self.rows_where("key", list(dict.fromkeys(keys)), ["id", "key"])
        found = dict(zip(table["key"].to_pylist(), table["id"].to_pylist(), strict=True))
        missing = [key for key in dict.fromkeys(keys) if key not in found]
        if missing:
            some = ", ".join(repr(key) for key in missing[:5])
            raise LabelError(
                self.path, f"{len(missing)} keys are not in the pool: {some}", "keys are listed by `raysal pool export`"
            )
        return found

    def manifest_record(self) -> dict[str, Any]:
        return asdict(self.manifest)


def open_pool(path: str | Path) -> Pool:
    """Open a finished pool; see `Pool`."""
    return Pool(path)
