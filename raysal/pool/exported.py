"""The items of a pool in one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raysal.errors import PoolError
from raysal.pool.chunk import Chunk
from raysal.pool.given import export_type, in_given_units
from raysal.store import Written, write_output
from raysal.tables import kind_of, write_tables

_ONE_TYPE = "embed again with values of one type"


def write_items(pool: Path, chunks: Sequence[Chunk], scale: float, out: Path, overwrite: bool) -> Written:
    """Write the items' columns, and into a Parquet file their vectors; see `Pool.export`.

    Args:
        pool: the pool's directory, for errors.
        chunks: its chunks, at least one.
        scale: what its vectors were multiplied by.
        out: the file.
        overwrite: replace the file that is there; it is kept.

    Returns:
        What became of the file that was there.

    Raises:
        ConfigError: the file has another extension than those of `raysal.tables.KINDS`.
    """
    kind = kind_of(out)
    schema = one_schema(pool, [chunk.items().schema for chunk in chunks])
    if kind != "parquet":
        tables = (as_schema(pool, schema, chunk.items(schema.names)) for chunk in chunks)
        return write_output(out, lambda path: write_tables(path, kind, schema, tables), overwrite=overwrite)
    numbers, dim = export_type(scale), chunks[0].dim
    vector = pa.field("vector", pa.list_(pa.from_numpy_dtype(numbers), dim))

    def write(temporary: Path) -> None:
        with pq.ParquetWriter(temporary, schema.append(vector)) as writer:
            for chunk in chunks:
                flat = in_given_units(chunk.vectors(), scale, numbers).reshape(-1)
                values = pa.FixedSizeListArray.from_arrays(pa.array(flat), dim)
                items = as_schema(pool, schema, chunk.items(schema.names))
                writer.write_table(items.append_column(vector, values))

    return write_output(out, write, overwrite=overwrite)


def one_schema(pool: Path, schemas: Sequence[pa.Schema]) -> pa.Schema:
    """One schema for the tables of all chunks; in a chunk where a column is all null, it has no type.

    Args:
        pool: the pool's directory, for the error.
        schemas: of tables of its chunks.

    Returns:
        The schema.

    Raises:
        PoolError: the chunks hold a column in types that no single type can hold.
    """
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").remove_metadata()
    except pa.ArrowException as error:
        raise PoolError(pool, f"a carried column changes its type ({error})", _ONE_TYPE) from None


def as_schema(pool: Path, schema: pa.Schema, table: pa.Table) -> pa.Table:
    """A chunk's table in the schema of all; raises what `one_schema` raises."""
    try:
        return table.cast(schema)
    except pa.ArrowException as error:
        raise PoolError(pool, f"a carried column changes its type ({error})", _ONE_TYPE) from None
