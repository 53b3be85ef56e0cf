"""Tables that people open: CSV and TSV, Parquet, lines of JSON, and JSON. One way to write them.

What is written comes back, whatever is in a key: commas, quotes, line breaks, blanks at either end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raysal.errors import ConfigError
from raysal.store import Written, dumps, write_output

KINDS = {
    ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet", ".pq": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".json": "json",
}  # fmt: skip
"""The format that an extension names."""
EXTENSIONS = f"{', '.join(list(KINDS)[:-1])} or {list(KINDS)[-1]}"
"""The extensions, for people."""
DELIMITERS = {"csv": ",", "tsv": "\t"}
"""What is between the cells of a line."""


def kind_of(out: Path) -> str:
    """The format that the extension of a file names.

    Args:
        out: the file.

    Returns:
        A format of `KINDS`.

    Raises:
        ConfigError: the file has another extension.
    """
    if (kind := KINDS.get(out.suffix.lower())) is None:
        raise ConfigError(out, f"unknown extension {out.suffix!r}", f"use {EXTENSIONS}")
    return kind


def write_table_file(out: Path, schema: pa.Schema, tables: Iterable[pa.Table], *, overwrite: bool = False) -> Written:
    """Write tables into a file that people asked for. Memory for one of them.

    Args:
        out: the file, with an extension of `KINDS`.
        schema: that of each table.
        tables: the rows.
        overwrite: replace the file that is there; it is kept as `NAME.1`, `NAME.2` ...

    Returns:
        What became of the file that was there.

    Raises:
        ConfigError: the file has another extension.
        OutputExists: another file is there, and `overwrite` is false.
        OSError: it cannot be written; nothing is left there.
    """
    kind = kind_of(out)
    return write_output(out, lambda path: write_tables(path, kind, schema, tables), overwrite=overwrite)


def write_tables(
    path: Path, kind: str, schema: pa.Schema, tables: Iterable[pa.Table], *, fill_in: Sequence[str] = ()
) -> int:
    """Write tables one after the other into one file. Memory for one of them.

    Args:
        path: the file; any extension.
        kind: a format of `KINDS`.
        schema: that of each table.
        tables: the rows.
        fill_in: columns that CSV and TSV get besides, empty, for people to fill in.

    Returns:
        The number of rows.
    """
    count = 0
    if kind == "parquet":
        with pq.ParquetWriter(path, schema) as writer:
            for table in tables:
                writer.write_table(table)
                count += table.num_rows
        return count
    with open(path, "w", encoding="utf-8", newline="") as file:
        mark = DELIMITERS.get(kind, "")
        names = list(dict.fromkeys([*schema.names, *fill_in]))
        file.write(mark.join(cell(name, mark) for name in names) + "\n" if mark else "[" if kind == "json" else "")
        for table in tables:
            for row in table.to_pylist():
                if mark:
                    file.write(mark.join(cell(row.get(name), mark) for name in names) + "\n")
                else:
                    between = ("," if count else "") + "\n" if kind == "json" else ""
                    file.write(between + dumps(row) + ("" if kind == "json" else "\n"))
                count += 1
        file.write("\n]\n" if kind == "json" else "")
    return count


def cell(value: object, mark: str) -> str:
    """One cell of CSV or TSV; `csv.writer` would not quote a lone carriage return where lines end in a newline.

    Args:
        value: what the cell holds.
        mark: what is between cells.

    Returns:
        The text of the cell.
    """
    text = "" if value is None else str(value)
    return '"' + text.replace('"', '""') + '"' if any(special in text for special in (mark, '"', "\r", "\n")) else text
