"""Plain tables with a row for each answer: CSV and TSV, Parquet, lines of JSON, and JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from raysal.arrow_values import array_of
from raysal.labels.formats.base import COLUMNS, FIELDS, POOL, Format, Record, Sheet, grouped
from raysal.tables import KINDS, write_tables
from raysal.types import Label

ANSWER = {"label": pa.string(), "annotator": pa.string(), "weight": pa.float64()}


class Table(Format):
    """A table with the columns `key` and `label`, and all else that is known of the items."""

    title: ClassVar[str] = "plain tables"
    suffixes: ClassVar[tuple[str, ...]] = tuple(KINDS)

    def claims(self, record: Record) -> bool:  # noqa: ARG002
        """Everything; it is asked last."""
        return True

    def answers(self, where: str, record: Record) -> Iterator[Record]:  # noqa: ARG002
        """The row itself."""
        yield record

    def write(self, path: Path, sheet: Sheet) -> None:
        """Key, label, annotator and weight, then what is known of the item. An item without an answer is one row."""
        kind = KINDS.get(path.suffix.lower(), "csv")
        more = [pa.field(POOL, pa.string())] if sheet.pool else []
        facts = [field for field in sheet.schema if field.name not in FIELDS]
        schema = pa.schema([("key", COLUMNS["key"]), *ANSWER.items(), *facts, *more])
        write_tables(path, kind, schema, self._tables(sheet, schema))

    def _tables(self, sheet: Sheet, schema: pa.Schema) -> Iterator[pa.Table]:
        for table in sheet.tables():
            rows = [
                {**row, **answer, POOL: sheet.pool}
                for row in table.to_pylist()
                for answer in [_cells(given) for given in grouped(sheet, row["key"])] or [dict.fromkeys(ANSWER)]
            ]
            yield pa.table([array_of([row[field.name] for row in rows], field.type) for field in schema], schema=schema)


def _cells(answer: Label) -> dict[str, Any]:
    return {name: getattr(answer, name) for name in ANSWER}
