"""Label files: tables with the columns `key` and `label`, and optionally `annotator` and `weight`.

A batch file that somebody filled in is a label file too: other columns are ignored, and a row with an empty label is
not labeled yet. The files of label tools are label files as well. `raysal.labels.rows` makes records of a file,
`raysal.labels.formats` says what the records of each tool answer, and `raysal.labels.spelling` what a cell means.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from raysal.arrow import Unnamed
from raysal.arrow_values import array_of
from raysal.errors import LabelError
from raysal.labels.formats.base import FIELDS, KEY, NOTE, POOL, RATING, Format, Sheet, remark_fields
from raysal.labels.formats.registry import all_formats, claiming, format_of, name_of, writer_of
from raysal.labels.records import checked, checked_key
from raysal.labels.remarks import ByItem, beside
from raysal.labels.rows import column_names, kind_of, read_rows, unit_of
from raysal.labels.spelling import annotator_text, label_text
from raysal.store import Written, write_output
from raysal.tables import write_tables
from raysal.types import Label

SCHEMA = pa.schema([("key", pa.string()), ("label", pa.string()), ("annotator", pa.string()), ("weight", pa.float64())])
Answer = tuple[str, str, str, float]
"""Key, label, annotator and weight."""


@dataclass(frozen=True, kw_only=True)
class LabelFile:
    """What a label file holds."""

    labels: list[Label]
    """The labels in the order of the file. A skip has the text `raysal.types.SKIP`."""
    blank: list[tuple[str, str]]
    """(key, annotator) of the rows that have no label."""
    places: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Where each key is named first, as `labels.csv, line 3`."""
    pools: frozenset[str] = frozenset()
    """Fingerprints of the pools that the file was exported for; none where it does not say."""

    @property
    def unanswered(self) -> int:
        """Rows that have no label yet."""
        return len(self.blank)

    @property
    def withdrawn(self) -> list[tuple[str, str]]:
        """What to take back if a blank takes back: the blank rows that no other row answers."""
        answered = {(label.key, label.annotator) for label in self.labels}
        return [row for row in dict.fromkeys(self.blank) if row not in answered]


def read_labels(path: str | Path, *, format: str | None = None) -> LabelFile:
    """Read a label file, or an export of a label tool. Its extension says how it is written.

    Args:
        path: a .csv, .tsv, .parquet, .pq, .jsonl, .ndjson, .json or .xml file.
        format: the tool that wrote it, a name of `raysal.labels.FORMATS`. By default the records say so themselves.

    Returns:
        The labels, and the rows without one.

    Raises:
        LabelError: the file is missing or unreadable, or of another format; a column is missing; a row cannot be
            accepted, or contradicts another row. The error names rows by their line.
        UnknownName: there is no such format.
    """
    path = Path(path)
    form = None if format is None else format_of(format)
    labels: list[Label] = []
    blank: list[tuple[str, str]] = []
    lines: dict[tuple[str, str], tuple[int, Label]] = {}
    places: dict[str, str] = {}
    pools: set[str] = set()
    unit = unit_of(path)
    try:
        for line, cells in _answers(path, unit, form):
            where = f"{path}, {unit} {line}"
            label = _label(where, cells)
            places.setdefault(label.key if isinstance(label, Label) else label[0], where)
            if pool := cells.get(POOL):
                pools.add(str(pool))
            if not isinstance(label, Label):
                blank.append(label)
                continue
            first, same = lines.setdefault((label.key, label.annotator), (line, label))
            if same != label:
                what = "label" if same.label != label.label else "weight"
                raise LabelError(
                    f"{path}, {unit}s {first} and {line}",
                    f"{label.key!r} has two different values of {what} by the same annotator"
                    f" ({getattr(same, what)!r} and {getattr(label, what)!r})",
                    "keep one of the rows, or name different annotators",
                )
            labels.append(label)
    except FileNotFoundError:
        raise LabelError(path, "no such file") from None
    except OSError as error:
        raise LabelError(path, f"cannot be read ({error})") from None
    return LabelFile(labels=labels, blank=blank, places=places, pools=frozenset(pools))


def write_sheet(path: str | Path, sheet: Sheet, *, format: str = "table", overwrite: bool = False) -> Written:
    """Write items with what a run says of them, for a label tool. The file is whole or absent.

    Args:
        path: a file with an extension of the format.
        sheet: the items.
        format: the tool, a name of `raysal.labels.FORMATS`.
        overwrite: replace the file that is there. A copy of it is kept.

    Returns:
        Whether the same file was there already, and where the old one is kept.

    Raises:
        LabelError: the format is only read, has other extensions, or cannot hold what the sheet has.
        UnknownName: there is no such format.
        OutputExists: another file is there, and `overwrite` is false.
        OSError: the file cannot be written.
    """
    path = Path(path)
    form = writer_of(format, path.suffix)

    def write(temporary: Path) -> None:
        named = temporary.with_name(temporary.name + path.suffix)  # tables are written by their extension
        try:
            form.write(named, sheet)
            named.replace(temporary)
        finally:
            named.unlink(missing_ok=True)

    return write_output(path, write, overwrite=overwrite, disposable=lambda _: False)


def write_labels(
    path: str | Path, labels: Sequence[Label], *, remarks: ByItem | None = None, overwrite: bool = False
) -> Written:
    """Write labels so that `read_labels` gives them back. The file is whole or absent.

    Args:
        path: a file with an extension that `read_labels` knows.
        labels: the labels in order.
        remarks: notes and ratings, as `raysal.labels.remarks.remarks_of` gives them. Where there are any, the file has
            the columns `note` and `rating`, and rows without a label for those who only remarked.
        overwrite: replace the file that is there. A copy of it is kept, unless it is a label file and all its labels
            are among `labels`.

    Returns:
        Whether the same file was there already, and where the old one is kept.

    Raises:
        LabelError: the extension is unknown, or a label cannot be accepted.
        OutputExists: another file is there, and `overwrite` is false.
        OSError: the file cannot be written.
    """
    path = Path(path)
    kind_of(path)
    told = [checked(label, as_it_is=True) for label in labels]
    if not remarks:
        rows = [{name: getattr(label, name) for name in FIELDS} for label in told]
        return write_table(path, _table(rows, SCHEMA), overwrite=overwrite, known=told)
    by_item: dict[str, list[Label]] = {}
    for label in told:
        by_item.setdefault(label.key, []).append(label)
    rows = []
    for key in dict.fromkeys([*by_item, *sorted(remarks)]):
        for annotator, said, remark in beside(by_item.get(key, []), remarks.get(key, {})):
            row = dict.fromkeys(FIELDS) if said is None else {name: getattr(said, name) for name in FIELDS}
            rows.append({**row, "key": key, "annotator": annotator, **remark_fields(remark)})
    schema = pa.schema([*SCHEMA, (NOTE, pa.string()), (RATING, pa.int64())])
    # No label is known: a copy of a file is kept, as somebody may have written notes into it.
    return write_table(path, _table(rows, schema), overwrite=overwrite)


def _table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.table(
        {each.name: array_of([row[each.name] for row in rows], each.type) for each in schema}, schema=schema
    )


def write_table(
    path: Path,
    table: pa.Table,
    *,
    fill_in: Sequence[str] = (),
    overwrite: bool = False,
    known: Collection[Label] = (),
) -> Written:
    """Write a table of items where a person said. See `raysal.store.write_output`.

    Args:
        path: a file with an extension that `read_labels` knows.
        table: the rows.
        fill_in: columns that .csv and .tsv get besides, for people to fill in.
        overwrite: replace the file that is there.
        known: labels that are kept elsewhere. A file with the same columns that holds no other labels is replaced
            without a copy.

    Returns:
        Whether the same file was there already, and where the old one is kept.

    Raises:
        LabelError: the extension is unknown.
        OutputExists: another file is there, and `overwrite` is false.
        OSError: the file cannot be written.
    """
    kind = kind_of(path)
    answers = {_answer(label) for label in known}
    columns = {*table.column_names, *fill_in}
    return write_output(
        path,
        lambda temporary: write_tables(temporary, kind, table.schema, [table], fill_in=fill_in),
        overwrite=overwrite,
        disposable=lambda there: not unknown_work(there, columns, answers),
    )


def unknown_work(path: Path, columns: Collection[str] | None, known: Collection[Answer] = ()) -> bool:
    """Whether a file may hold the work of a person: it is no table of ours, or has labels that nobody else has.

    Args:
        path: the file.
        columns: those that a table of ours has there; None for any, if `key` is among them.
        known: the answers that are kept elsewhere.

    Returns:
        True in doubt.
    """
    try:
        found = set(column_names(path))
        if not found:
            return False
        if "key" not in found or (columns is not None and found - {"label"} != set(columns) - {"label"}):
            return True
        labels = read_labels(path).labels if "label" in found else []
    except (LabelError, OSError):
        return True
    return any(_answer(label) not in known for label in labels)


def _answer(label: Label) -> Answer:
    """What two labels have in common if they say the same."""
    return label.key, label.label, label.annotator, label.weight


def _answers(path: Path, unit: str, form: Format | None) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The answers of a file as rows with the columns of `FIELDS`, without rows in which these are all blank."""
    said, without = False, ""
    more = [name for each in all_formats() for name in each.columns]
    for line, record in read_rows(path, (*FIELDS, KEY, POOL, *dict.fromkeys(more)), _check_columns):
        where = f"{path}, {unit} {line}"
        own = claiming(record)
        if form is not None and form.reads and type(own) is not type(form):
            fix = f"give its name with --format, as {name_of(own)}, or none"
            raise LabelError(where, f"is no record of {form.title}, but of {own.title}", fix)
        for answer in (form or own).answers(where, record):
            if kind_of(path) in ("jsonl", "json"):
                _check_columns(where, list(answer))
            said = said or "label" in answer
            without = without or (where if "label" not in answer else "")
            row = answer if answer.get(KEY) in (None, "") else {**answer, "key": answer[KEY]}
            if any(_is_said(row.get(name)) for name in FIELDS):
                yield line, row
    if without and not said:
        raise LabelError(without, "there is no column 'label', and no row has one", "columns are key,label")


def _is_said(cell: object) -> bool:
    """Whether a cell is not blank."""
    return cell is not None and cell == cell and (not isinstance(cell, str) or bool(cell.strip()))


def _check_columns(where: str, found: Sequence[str]) -> None:
    """Raise an error if there is no key, or nothing that can be a label."""
    # Label Studio leaves the label out of an object where the annotator chose none.
    label = not {"label", "labels", "label.responses", "annotation_id"}.isdisjoint(found)
    label = label or {"answer", "_task_hash"} <= set(found)
    for name, there in (("key", not {"key", KEY}.isdisjoint(found)), ("label", label)):
        if not there:
            raise LabelError(where, f"there is no column {name!r}, only {', '.join(found)!r}", "columns are key,label")


def _label(where: str, cells: Mapping[str, Any]) -> Label | tuple[str, str]:
    """The label of one row; (key, annotator) if its label is empty."""
    key = cells.get("key")
    if key is None or key == "":
        raise LabelError(f"{where}: key", "is empty", "name the item by its key in the pool")
    if isinstance(key, int) and not isinstance(key, bool):
        key = str(key)
    said = cells.get("label")
    if isinstance(said, Unnamed):
        raise LabelError(where, str(said), "correct the number, or write the names of the classes")
    text = label_text(f"{where}: label", said)
    try:
        key = checked_key(key)
        annotator = annotator_text("annotator", cells.get("annotator"))
        if text is None:
            return key, annotator
        return checked(Label(key=key, label=text, annotator=annotator, weight=_weight(cells.get("weight"))))
    except LabelError as error:
        raise LabelError(f"{where}: {error.where}", error.problem, error.fix) from None


def _weight(value: object) -> float:
    """The weight that a cell holds; 1 if it is empty."""
    if value is None or value == "" or value != value:
        return 1.0
    if isinstance(value, (str, int, float, np.floating)) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    raise LabelError("weight", f"{value!r} is not a number", "1.0 is usual; an empty cell means 1.0")
