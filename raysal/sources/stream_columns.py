"""What the columns of a file of a stream must be, so that it can lie beside those that were written down before it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raysal.arrow import HOLDS, ColumnKind
from raysal.errors import SourceError
from raysal.sources.batches import PROBLEM, WHERE, Batches
from raysal.sources.listing import check_columns
from raysal.sources.payloads import guessed_payload
from raysal.types import Modality


def fitted(
    table: pa.Table, batches: Batches, own: str, before: Path | None, payload: tuple[Modality, str] | None
) -> pa.Table:
    """Check the columns of a file before it is written: one that cannot be read would stop every later job on the pool.

    Args:
        table: what the file will hold.
        batches: the stream, which names columns.
        own: the column that raysal adds.
        before: the file before it; None for the first one of a pool.
        payload: modality and column of the items of the pool; None for the first file.

    Returns:
        The table. A column without a value has the type of the file before, and one of bad items alone its columns.

    Raises:
        SourceError: a column is missing, or holds something else than items; or no item of the first file can be read.
    """
    bad = PROBLEM in table.column_names and not table[PROBLEM].null_count
    if before is None and bad:
        problem = f"none of its first {table.num_rows} items can be read; the first one: {table[PROBLEM][0]}"
        raise SourceError(WHERE, problem, "give some that can")
    if before is not None:
        for one in pq.read_schema(before):
            nothing = pa.nulls(table.num_rows, one.type)
            if one.name not in table.column_names:
                table = table.append_column(one, nothing) if bad else table
            elif pa.types.is_null(table.schema.field(one.name).type):
                table = table.set_column(table.column_names.index(one.name), one, nothing)
    _check(table.schema, batches, own, payload)
    return table


def _check(schema: pa.Schema, batches: Batches, own: str, payload: tuple[Modality, str] | None) -> None:
    names = [name for name in schema.names if name not in (own, PROBLEM)]
    check_columns(WHERE, [(name, "carry") for name in batches.carry], names)
    kinds = {name: ColumnKind.of(schema.field(name)) for name in names if name != batches.key_column}
    if payload is None:
        given: list[tuple[Modality, str | None]] = [
            ("vector", batches.vector_column), ("image", batches.image_column), ("text", batches.text_column),
        ]  # fmt: skip
        payload = next(((kind, name) for kind, name in given if name is not None), None) or guessed_payload(kinds)
    if payload is None:
        problem = f"cannot tell which column holds the items; its columns: {', '.join(names)}"
        raise SourceError(WHERE, problem, "name vector_column, image_column or text_column")
    modality, column = payload
    check_columns(WHERE, [(column, f"{modality}_column")], names)
    if column not in kinds or not kinds[column].fits(modality):
        problem = f"column {column!r} holds {schema.field(column).type}, and the items of the pool are {modality}s"
        raise SourceError(WHERE, problem, f"give {HOLDS[modality]}")
