"""Embedding Atlas: a Parquet file of the whole pool, with two coordinates for each item.

`embedding-atlas FILE --x projection_x --y projection_y` shows it (0.26). It has no column `label`, so that it is no
label file. A selection that is exported keeps the keys; with a column `label` it is a plain table.
"""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from raysal.arrow_values import array_of
from raysal.labels.formats.base import POOL, Format, Sheet, grouped, is_skip, places_of

ANSWER, ANSWERS = "answer", "answers"
"""The columns of the label that an item's annotators agree on, and of how many gave one."""


class EmbeddingAtlas(Format):
    """A row for each item of the pool: key, answer, state, what the head predicts, and where it is on the map."""

    title: ClassVar[str] = "Embedding Atlas"
    suffixes: ClassVar[tuple[str, ...]] = (".parquet", ".pq")
    whole: ClassVar[bool] = True
    reads: ClassVar[bool] = False

    def write(self, path: Path, sheet: Sheet) -> None:
        """One table for each chunk of the pool."""
        own = [(ANSWER, pa.string()), (ANSWERS, pa.int64()), (POOL, pa.string())]
        schema = pa.schema([*sheet.schema, *own])
        with pq.ParquetWriter(path, schema) as writer:
            for table in sheet.tables():
                writer.write_table(_with_labels(sheet, table, schema))

    def setup(self, out: Path, sheet: Sheet) -> str:
        """The command that shows it."""
        # It shows pictures of the web, and none of a path on this machine.
        pictures = sheet.modality == "image" and sheet.url.startswith(("http://", "https://"))
        shown = " --image uri" if pictures else " --text text" if "text" in sheet.schema.names else ""
        return f"embedding-atlas {quote(str(out))} --x projection_x --y projection_y{shown}"


def _with_labels(sheet: Sheet, table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A part of the sheet with what people said of its items."""
    rows = table.num_rows
    labels: list[str | None] = [None] * rows
    counts: list[int] = [0] * rows
    for place in places_of(table["key"], sheet.answers):
        said = [answer.label for answer in grouped(sheet, table["key"][place].as_py()) if not is_skip(answer)]
        counts[place] = len(said)
        labels[place] = said[0] if len(set(said)) == 1 else None
    own = [array_of(labels, pa.string()), array_of(counts, pa.int64()), array_of([sheet.pool] * rows, pa.string())]
    return pa.table([*table.columns, *own], schema=schema)
