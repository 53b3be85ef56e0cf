"""Plain tables with a row for each answer: CSV and TSV, Parquet, lines of JSON, and JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from raysal.arrow_values import array_of
from raysal.labels.formats.base import (
    COLUMNS,
    FIELDS,
    NOTE,
    POOL,
    RATING,
    Format,
    Record,
    Sheet,
    grouped,
    remark_fields,
)  # fmt: skip
from raysal.labels.remarks import beside
from raysal.tables import KINDS, write_tables

ANSWER = {"label": pa.string(), "annotator": pa.string(), "weight": pa.float64()}
REMARK = {NOTE: pa.string(), RATING: pa.int64()}


class Table(Format):
    """A table with the columns `key` and `label`, and all else that is known of the items."""

    title: ClassVar[str] = "plain tables"
    suffixes: ClassVar[tuple[str, ...]] = tuple(KINDS)
    remarks: ClassVar[bool] = True

    def claims(self, record: Record) -> bool:  # noqa: ARG002
        """Everything; it is asked last."""
        return True

    def answers(self, where: str, record: Record) -> Iterator[Record]:  # noqa: ARG002
        """The row itself."""
        yield record

    def write(self, path: Path, sheet: Sheet) -> None:
        """Key, label, annotator, weight, and note and rating where any are; then what is known of the item.

        An item of which nobody said anything is one row.
        """
        kind = KINDS.get(path.suffix.lower(), "csv")
        more = [pa.field(POOL, pa.string())] if sheet.pool else []
        facts = [field for field in sheet.schema if field.name not in FIELDS]
        schema = pa.schema(
            [("key", COLUMNS["key"]), *ANSWER.items(), *(REMARK.items() if sheet.remarks else ()), *facts, *more]
        )
        write_tables(path, kind, schema, self._tables(sheet, schema))

    def _tables(self, sheet: Sheet, schema: pa.Schema) -> Iterator[pa.Table]:
        for table in sheet.tables():
            rows = [
                {**row, **answer, POOL: sheet.pool} for row in table.to_pylist() for answer in _said(sheet, row["key"])
            ]
            yield pa.table([array_of([row[field.name] for row in rows], field.type) for field in schema], schema=schema)


def _said(sheet: Sheet, key: str) -> list[dict[str, Any]]:
    """What people said of an item, a row for each; one row without values where nobody said anything."""
    rows = []
    for annotator, answer, remark in beside(grouped(sheet, key), sheet.remarks.get(key, {})):
        said = {"annotator": annotator} if answer is None else {name: getattr(answer, name) for name in ANSWER}
        rows.append({**dict.fromkeys(ANSWER), **said, **remark_fields(remark)})
    return rows or [dict.fromkeys((*ANSWER, *REMARK))]
