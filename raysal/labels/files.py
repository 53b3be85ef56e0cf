"""Label files: CSV, Parquet or JSONL with the columns `key` and `label`, and optionally `annotator` and `weight`.

A batch file that somebody filled in is a label file too: other columns are ignored, and a row with an empty label is
not labeled yet. In CSV everything is text, so a label `007` stays `007`. In the other formats a whole number becomes
its digits. So does `7.0`, because a table program writes whole numbers like this if the column has empty cells.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raysal.errors import LabelError
from raysal.labels.records import checked, checked_key
from raysal.store import write_file
from raysal.types import Label

FIELDS = ("key", "label", "annotator", "weight")
"""The columns of a label file, in the order in which they are written."""
SCHEMA = pa.schema([("key", pa.string()), ("label", pa.string()), ("annotator", pa.string()), ("weight", pa.float64())])
Row = tuple[int, Mapping[str, Any]]
"""The line where a row begins, counted from 1 (in Parquet: the number of the row), and the cells of the row."""


@dataclass(frozen=True, kw_only=True)
class LabelFile:
    """What a label file holds."""

    labels: list[Label]
    """The labels in the order of the file."""
    unanswered: int
    """Rows that have no label yet."""


def read_labels(path: str | Path) -> LabelFile:
    """Read a label file. Its extension names its format.

    Args:
        path: a file that ends in .csv, .parquet or .jsonl.

    Returns:
        The labels, and the number of rows without one.

    Raises:
        LabelError: the file is missing or unreadable, or has another format; a column is missing; a row cannot be
            accepted, or contradicts another row. The error names rows by their line.
    """
    path = Path(path)
    reader = _READERS[_kind(path)]
    labels: list[Label] = []
    lines: dict[tuple[str, str], tuple[int, Label]] = {}
    unanswered = 0
    try:
        for line, cells in reader(path):
            label = _label(f"{path}, line {line}", cells)
            if label is None:
                unanswered += 1
                continue
            first, same = lines.setdefault((label.key, label.annotator), (line, label))
            if same != label:
                field = "label" if same.label != label.label else "weight"
                raise LabelError(
                    f"{path}, lines {first} and {line}",
                    f"{label.key!r} has two different values of {field} by the same annotator"
                    f" ({getattr(same, field)!r} and {getattr(label, field)!r})",
                    "keep one of the rows, or name different annotators",
                )
            labels.append(label)
    except FileNotFoundError:
        raise LabelError(path, "no such file") from None
    except OSError as error:
        raise LabelError(path, f"cannot be read ({error})") from None
    return LabelFile(labels=labels, unanswered=unanswered)


def write_labels(path: str | Path, labels: Sequence[Label]) -> None:
    """Write labels so that `read_labels` gives them back. The file is whole or absent.

    Args:
        path: a file that ends in .csv, .parquet or .jsonl.
        labels: the labels in order.

    Raises:
        LabelError: the extension is unknown, or a label cannot be accepted.
        OSError: the file cannot be written.
    """
    path = Path(path)
    kind = _kind(path)
    rows = [asdict(checked(label)) for label in labels]
    write_file(path, lambda temporary: _WRITERS[kind](temporary, rows))


def label_text(where: str, value: object) -> str | None:
    """Read the label that a cell holds.

    Args:
        where: what the error calls the cell.
        value: the cell.

    Returns:
        The label as text without outer whitespace; None if the cell is empty.

    Raises:
        LabelError: the cell holds a boolean, an infinite number or a nested value.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and math.isfinite(value)):
        value = str(value)  # the number to learn in regression, or else the name of a class
    if not isinstance(value, str):
        raise LabelError(where, f"{value!r} cannot be a label", "labels are text or numbers")
    return value.strip() or None


def _kind(path: Path) -> str:
    """The format that the extension names."""
    kind = path.suffix.lower().removeprefix(".")
    if kind not in _READERS:
        raise LabelError(path, f"unknown extension {path.suffix!r}", "label files end in .csv, .parquet or .jsonl")
    return kind


def _label(where: str, cells: Mapping[str, Any]) -> Label | None:
    """The label of one row; None if its label is empty."""
    key = cells["key"]
    if key is None or key == "":
        raise LabelError(f"{where}: key", "is empty", "name the item by its key in the pool")
    if isinstance(key, int) and not isinstance(key, bool):
        key = str(key)
    text = label_text(f"{where}: label", cells.get("label"))
    if text is None:
        return None
    try:
        checked_key(key)
        annotator = label_text("annotator", cells.get("annotator"))
        return checked(Label(key=key, label=text, annotator=annotator or "", weight=_weight(cells.get("weight"))))
    except LabelError as error:
        raise LabelError(f"{where}: {error.where}", error.problem, error.fix) from None


def _weight(value: object) -> float:
    """The weight that a cell holds; 1 if it is empty."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return 1.0
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    raise LabelError("weight", f"{value!r} is not a number", "1.0 is usual; an empty cell means 1.0")


def _text(path: Path) -> str:
    """The whole text of a file in UTF-8."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise LabelError(f"{path}, line {line}", f"not UTF-8 ({error.reason})", "save the file as UTF-8") from None


def _check_columns(where: str, found: Sequence[str]) -> None:
    """Raise an error if a needed column is missing, or one of ours is there twice."""
    for name in ("key", "label"):
        if name not in found:
            raise LabelError(where, f"there is no column {name!r}, only {', '.join(found)!r}", "columns are key,label")
    for name in FIELDS:
        if list(found).count(name) > 1:
            raise LabelError(where, f"there are two columns {name!r}", "rename one of them")


def _csv_rows(path: Path) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    header: list[str] = []
    line = 1
    try:
        for cells in reader:
            begun, line = line, reader.line_num + 1
            if not cells:
                continue
            if not header:
                header = [name.strip() for name in cells]
                _check_columns(f"{path}, line {begun}", header)
            elif len(cells) != len(header):
                raise LabelError(
                    f"{path}, line {begun}",
                    f"{len(cells)} cells, the header has {len(header)}",
                    'put text with commas in double quotes: "a, b"',
                )
            else:
                yield begun, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise LabelError(f"{path}, line {line}", f"not valid CSV ({error})", "check the quotes") from None
    if not header:
        raise LabelError(path, "the file is empty", "its first line is key,label")


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        with pq.ParquetFile(path) as file:
            found = file.schema_arrow.names
            _check_columns(str(path), found)
            line = 1
            for batch in file.iter_batches(columns=[name for name in FIELDS if name in found]):
                rows = batch.to_pylist()
                yield from enumerate(rows, line)
                line += len(rows)
    except pa.ArrowException as error:
        raise LabelError(path, f"not a Parquet file ({error})", "write it again") from None


def _jsonl_rows(path: Path) -> Iterator[Row]:
    for line, text in enumerate(_text(path).split("\n"), 1):
        if not text.strip():
            continue
        try:
            cells = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise LabelError(f"{path}, line {line}", f"not valid JSON ({error})", "write one object per line") from None
        if not isinstance(cells, dict):
            raise LabelError(f"{path}, line {line}", "not a JSON object", 'write {"key": "...", "label": "..."}')
        _check_columns(f"{path}, line {line}", list(cells))
        yield line, cells


def _cell(value: object) -> str:
    """One cell of CSV; `csv.writer` would not quote a lone carriage return where lines end in a newline."""
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\r\n') else text


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    lines = [",".join(FIELDS), *(",".join(_cell(row[name]) for name in FIELDS) for row in rows)]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8", newline="")


def _write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(list(rows), schema=SCHEMA), path)


def _write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8", newline="")


_READERS = {"csv": _csv_rows, "parquet": _parquet_rows, "jsonl": _jsonl_rows}
_WRITERS = {"csv": _write_csv, "parquet": _write_parquet, "jsonl": _write_jsonl}
