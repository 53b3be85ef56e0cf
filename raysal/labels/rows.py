"""Label files as records: rows of CSV, TSV and Parquet, objects of JSON and its lines, elements of XML.

What a record says is in `raysal.labels.formats`. Where programs write CSV in another way, the header says so:
semicolons or tabs (`key;label`), a first line `sep=;`, UTF-16 with its mark.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import threading
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.parsers.expat import ErrorString, ExpatError, ParserCreate

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysal.arrow import ColumnKind
from raysal.errors import LabelError
from raysal.store import dumps
from raysal.tables import DELIMITERS, EXTENSIONS, KINDS

Row = tuple[int, Mapping[str, Any]]
"""The line where a record begins, from 1 (in Parquet and JSON: the number of the row), and the record."""
Check = Callable[[str, Sequence[str]], None]
XML = ".xml"
"""The extension of XML."""
ELEMENT = "element"
"""The field of a record of XML that has the name of the element; it has `attributes`, `children` (records, too) and
`text` besides."""
KEYS = ("key", "raysal_key")
"""The columns that may hold keys."""
LONGEST_CELL = 2**31 - 1
"""Characters. The csv module takes 131,072 unless it is told otherwise."""
_ONE_READER = threading.Lock()
"""The limit of the csv module holds for the whole process. One file at a time changes it, and puts it back."""


def kind_of(path: Path) -> str:
    """The format that the extension of a file names.

    Args:
        path: the file.

    Returns:
        `csv`, `tsv`, `parquet`, `jsonl`, `json` or `xml`.

    Raises:
        LabelError: it names another one.
    """
    kind = "xml" if path.suffix.lower() == XML else KINDS.get(path.suffix.lower())
    if kind is None:
        problem = f"unknown extension {path.suffix!r}"
        raise LabelError(path, problem, f"label files end in {EXTENSIONS}, and those of CVAT in {XML}")
    return kind


def unit_of(path: Path) -> str:
    """What the number of a record counts: lines, or rows.

    Args:
        path: a file whose extension is known.

    Returns:
        `line` or `row`.

    Raises:
        LabelError: it has another extension.
    """
    return "row" if kind_of(path) in ("parquet", "json") else "line"


def write_objects(path: Path, objects: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSON list of objects, one per line. Memory for one of them.

    Args:
        path: the file.
        objects: what JSON can hold.
    """
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write("[")
        for place, cells in enumerate(objects):
            file.write(("," if place else "") + "\n" + dumps(cells))
        file.write("\n]\n")


def read_rows(path: Path, columns: Sequence[str], check: Check) -> Iterator[Row]:
    """Read the records of a file, and of a table some columns.

    Args:
        path: a file whose extension is known.
        columns: those of a table that are wanted. One that a row lacks is not among its cells.
        check: of a table, is called with the place and the names of its columns, and raises an error if it lacks one.

    Yields:
        The records in order. An object that is no list is one record, as COCO and FiftyOne write it.

    Raises:
        LabelError: the file is not of its format, a row is malformed, or a wanted column is there twice.
        OSError: the file cannot be read.
    """
    kind = kind_of(path)
    if kind in DELIMITERS:
        yield from _csv_rows(path, columns, check, DELIMITERS[kind])
    elif kind == "parquet":
        yield from _parquet_rows(path, columns, check)
    elif kind == "xml":
        yield from _xml_rows(path)
    else:
        yield from _json_rows(path) if kind == "json" else _jsonl_rows(path)


def column_names(path: Path) -> list[str]:
    """The columns of a table.

    Args:
        path: a file whose extension is in `raysal.tables.KINDS`.

    Returns:
        The names; of JSON those of the first row.

    Raises:
        LabelError: the file is not of its format.
        OSError: the file cannot be read.
    """
    kind = kind_of(path)
    if kind == "parquet":
        return list(_opened(path).schema_arrow.names)
    if kind in DELIMITERS:
        return _header(path, _text(path), DELIMITERS[kind])[0]
    return list(next(iter(_json_rows(path) if kind == "json" else _jsonl_rows(path)), (0, {}))[1])


def _text(path: Path) -> str:
    """The whole text of a file in UTF-8, or in UTF-16 with its mark, as Excel writes "Unicode text"."""
    data = path.read_bytes()
    encoding = "utf-16" if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        name = encoding.removesuffix("-sig").upper()
        raise LabelError(f"{path}, line {line}", f"not {name} ({error.reason})", "save the file as UTF-8") from None


def _records(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The line and the cells of each record that has any."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    line = 1
    try:
        for cells in reader:
            begun, line = line, reader.line_num + 1
            if cells:
                yield begun, cells
    except csv.Error as error:
        raise LabelError(f"{path}, line {line}", f"not valid CSV ({error})", "check the quotes") from None


def _header(path: Path, text: str, delimiter: str) -> tuple[list[str], str]:
    """The names of the columns, and the mark between them: the first of `,`, `;` and tab that gives a key column."""
    declared = text[4:5] if text[:4].casefold() == "sep=" and text[5:6] in ("\r", "\n") else ""
    marks = [declared] if declared else dict.fromkeys([delimiter, ",", ";", "\t"])
    body = text.partition("\n")[2] if declared else text
    first: list[str] = []
    for mark in marks:
        with contextlib.suppress(LabelError):  # where another mark is the right one, the header may be malformed
            names = [name.strip() for _, cells in itertools.islice(_records(path, body, mark), 1) for name in cells]
            if not set(KEYS).isdisjoint(names):
                return names, mark
            first = first or names
    if not first:  # no mark makes a header, or there is none
        next(_records(path, body, delimiter), None)
    return first, declared or delimiter


def _csv_rows(path: Path, columns: Sequence[str], check: Check, delimiter: str) -> list[Row]:
    text = _text(path)
    with _ONE_READER:
        limit = csv.field_size_limit(LONGEST_CELL)
        try:
            return _csv_cells(path, text, columns, check, delimiter)
        finally:
            csv.field_size_limit(limit)


def _csv_cells(path: Path, text: str, columns: Sequence[str], check: Check, delimiter: str) -> list[Row]:
    """The wanted cells of each row."""
    header, mark = _header(path, text, delimiter)
    if not header:
        raise LabelError(path, "the file is empty", "its first line is key,label")
    found: list[Row] = []
    places: dict[str, int] | None = None
    for line, cells in _records(path, text, mark):
        if places is None:
            if [name.strip() for name in cells] == header:
                check(f"{path}, line {line}", header)
                places = _places(f"{path}, line {line}", header, columns)
        elif len(cells) == len(header):
            found.append((line, {name: cells[place] for name, place in places.items()}))
        elif any(cell.strip() for cell in cells):
            raise LabelError(
                f"{path}, line {line}",
                f"{len(cells)} cells, the header has {len(header)}",
                f'put text with {"commas" if mark == "," else repr(mark)} in double quotes: "a{mark} b"',
            )
    return found


def _places(where: str, found: Sequence[str], columns: Sequence[str]) -> dict[str, int]:
    """The place of each wanted column that is there."""
    for name in columns:
        if found.count(name) > 1:
            raise LabelError(where, f"there are two columns {name!r}", "rename one of them")
    return {name: found.index(name) for name in columns if name in found}


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except pa.ArrowException as error:
        raise LabelError(path, f"not a Parquet file ({error})", "write it again") from None


def _parquet_rows(path: Path, columns: Sequence[str], check: Check) -> Iterator[Row]:
    try:
        with _opened(path) as file:
            schema = file.schema_arrow
            names = schema.names
            check(str(path), names)
            wanted = _places(str(path), names, columns)
            kinds = {name: ColumnKind.of(schema.field(name), schema.metadata) for name in wanted}
            line = 1
            for batch in file.iter_batches(columns=list(wanted)):
                columns_read = zip(batch.schema.names, batch.columns, strict=True)
                cells = {name: _values(kinds[name], column) for name, column in columns_read}
                for row in range(batch.num_rows):
                    yield line + row, {name: values[row] for name, values in cells.items()}
                line += batch.num_rows
    except pa.ArrowException as error:
        raise LabelError(path, f"not a Parquet file ({error})", "write it again") from None


def _values(kind: ColumnKind, column: pa.Array) -> Sequence[Any]:
    """The values of a column; numbers of float16 and float32 in their own type, whose shortest text is shorter."""
    values = kind.values(column)
    if pa.types.is_float16(kind.type) or pa.types.is_float32(kind.type):
        own = np.float16 if pa.types.is_float16(kind.type) else np.float32
        return [None if value is None else own(value) for value in values]
    return values


def _jsonl_rows(path: Path) -> Iterator[Row]:
    for line, text in enumerate(_text(path).split("\n"), 1):
        if not text.strip():
            continue
        try:
            cells = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise LabelError(f"{path}, line {line}", f"not valid JSON ({error})", "write one object per line") from None
        yield line, _object(f"{path}, line {line}", cells)


def _json_rows(path: Path) -> Iterator[Row]:
    try:
        found = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise LabelError(path, f"not valid JSON ({error})", 'write [{"key": "...", "label": "..."}, ...]') from None
    if isinstance(found, dict) and any(isinstance(part, list) for part in found.values()):
        found = [found]
    if not isinstance(found, list):
        raise LabelError(path, "not a list of objects", 'write [{"key": "...", "label": "..."}, ...]')
    for line, cells in enumerate(found, 1):
        yield line, _object(f"{path}, row {line}", cells)


def _xml_rows(path: Path) -> Iterator[Row]:
    """The elements directly inside the outermost one. Entities are refused: they make a small file a large one."""
    parser = ParserCreate()
    parser.buffer_text = True
    within: list[tuple[int, dict[str, Any]]] = []
    found: list[Row] = []

    def begin(name: str, attributes: dict[str, str]) -> None:
        element = {ELEMENT: name, "attributes": attributes, "children": [], "text": ""}
        if len(within) > 1:
            within[-1][1]["children"].append(element)
        within.append((parser.CurrentLineNumber, element))

    def letters(text: str) -> None:
        within[-1][1]["text"] += text

    def end(_: str) -> None:
        line, element = within.pop()
        if len(within) == 1:
            found.append((line, element))

    def declared(*_: object) -> None:
        problem = "declares entities, which are not read"
        raise LabelError(f"{path}, line {parser.CurrentLineNumber}", problem, "export the annotations again")

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = begin, end, letters
    parser.EntityDeclHandler = declared
    with open(path, "rb") as file:
        while True:
            part = file.read(1 << 16)
            try:
                parser.Parse(part, not part)
            except ExpatError as error:
                problem = f"not valid XML ({ErrorString(error.code)})"
                raise LabelError(f"{path}, line {error.lineno}", problem, "export the annotations again") from None
            yield from found
            found.clear()
            if not part:
                return


def _object(where: str, cells: Any) -> Mapping[str, Any]:
    if not isinstance(cells, dict):
        raise LabelError(where, "not a JSON object", 'write {"key": "...", "label": "..."}')
    return cells
