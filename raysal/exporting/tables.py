"""Shards that are tables: CSV, and Parquet with media as data sets of Hugging Face hold them; Lance shares its rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysal.arrow_values import array_of
from raysal.errors import BadItem
from raysal.exporting.base import Entry, Noted
from raysal.tables import cell

GROUP_ROWS, GROUP_BYTES = 1_000, 32 << 20
"""A row group ends after so many rows, or bytes of media: it is what readers hold in memory."""
MOST_BYTES = 2**31 - 1 - GROUP_BYTES
"""Of the media of an item: a column of a row group has 32 bits for its places."""
FILE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""How Hugging Face's data sets store an image or a sound."""
FEATURES = {"image": "Image", "audio": "Audio"}
"""{column of media that are files: what these data sets call it}"""


def table_schema(facts: pa.Schema, media: pa.Field | None, text: bool, vector: pa.Field | None) -> pa.Schema:
    """The schema of a shard that holds media.

    Args:
        facts: of `Entry.facts`.
        media: the column of images or sounds, one of `FEATURES`; None for none.
        text: whether there is a column of texts.
        vector: the column of the vectors; None for none.

    Returns:
        The schema, with a note by which Hugging Face's data sets know images and sounds.
    """
    fields = list(facts)
    if media is not None:
        fields.insert(1, media)
    if text:
        fields.insert(1, pa.field("text", pa.string()))
    if vector is not None:
        fields.append(vector)
    if media is None or media.type != FILE:
        return pa.schema(fields)
    note = {"info": {"features": {media.name: {"_type": FEATURES[media.name]}}}}
    return pa.schema(fields, {"huggingface": json.dumps(note)})


class TableShard:
    """Rows of a table that is being written. Memory for one group of rows."""

    def __init__(self, schema: pa.Schema, write: Callable[[pa.Table], object], end: Callable[[], object]) -> None:
        """Begin a shard.

        Args:
            schema: of the table.
            write: takes a group of rows.
            end: is called after the last one.
        """
        self._schema, self._write, self._end = schema, write, end
        # By its place: a carried column beside texts may be called `audio`, too.
        self._files = second if (second := "".join(schema.names[1:2])) in FEATURES else ""
        self._rows: list[dict[str, Any]] = []
        self._vectors: list[Any] = []
        self._bytes = 0

    def add(self, entry: Entry) -> Noted:
        """Add a row; see `Shard.add`."""
        row = entry.facts()
        if entry.media is not None:
            if len(entry.media.content) > MOST_BYTES:
                raise BadItem(entry.key, f"more than {MOST_BYTES} bytes, which no cell holds", "export as webdataset")
            if self._files and entry.media.suffix == ".npy":
                problem = "its numbers are no picture of 8 bits, which a column of images would need"
                raise BadItem(entry.key, problem, "export as webdataset, which holds them as .npy")
            if self._files:
                row[self._files] = entry.media.content
            else:
                row["text"] = entry.media.content.decode()
            self._bytes += len(entry.media.content)
        self._rows.append(row)
        if entry.vector is not None:
            self._vectors.append(entry.vector)
        if len(self._rows) == GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self._flush()
        return Noted(None)

    def _flush(self) -> None:
        self._write(pa.Table.from_arrays([*map(self._column, self._schema)], schema=self._schema))
        self._rows, self._vectors, self._bytes = [], [], 0

    def _column(self, field: pa.Field) -> pa.Array:
        """A column of the rows that are in memory, without pandas, which `pa.array` would import."""
        if field.name == "vector":
            flat = np.concatenate(self._vectors)
            return pa.FixedSizeListArray.from_arrays(array_of(flat, field.type.value_type), field.type.list_size)
        values: list[Any] = [row.get(field.name) for row in self._rows]
        if field.name != self._files:
            return array_of(values, field.type)
        cuts = np.cumsum([0, *map(len, values)], dtype=np.int64)
        buffers = [None, pa.py_buffer(cuts), pa.py_buffer(b"".join(values))]
        images = pa.Array.from_buffers(pa.large_binary(), len(values), buffers)
        if field.type != FILE:
            return images
        paths = array_of([row["key"] for row in self._rows], pa.string())
        return pa.StructArray.from_arrays([images.cast(pa.binary()), paths], fields=list(FILE))

    def close(self) -> None:
        """Write the last group of rows, and end the shard."""
        if self._rows:
            self._flush()
        self._end()


def parquet_shard(path: Path, schema: pa.Schema) -> TableShard:
    """A Parquet file that is being written; a group of rows becomes a row group."""
    writer = pq.ParquetWriter(path, schema)
    return TableShard(schema, writer.write_table, writer.close)


class CsvShard:
    """A CSV file that is being written."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self._names = names
        self._file = open(path, "w", encoding="utf-8", newline="")  # noqa: SIM115
        self._line(names)

    def add(self, entry: Entry) -> Noted:
        """Add a line; see `Shard.add`."""
        facts = entry.facts()
        self._line([facts.get(name) for name in self._names])
        return Noted(None)

    def _line(self, values: Iterable[Any]) -> None:
        self._file.write(",".join(cell(value, ",") for value in values) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()
