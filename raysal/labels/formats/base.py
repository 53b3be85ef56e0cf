"""What a format is: the files of one label tool, as raysal writes and reads them.

A tool gets a **sheet**: items with all that a run says of them. It gives back **records**: the rows of a table, the
objects of JSON, the elements of XML (`raysal.labels.rows`). A format says what a record answers.

What every format must keep:

- An item is known by its key. It travels in a field that the tool keeps: `raysal_key` where a tool has fields of the
  user, else the name of the file. Beside it, where there is room, `raysal_pool` is the fingerprint of the pool.
- A record whose item is not named is an error. No key is made of a part of a name, an order, or a number of the tool.
- What a model predicts is never read as a label, and what people said is never lost: an annotator, a weight, a skip.
- A record says a label of the whole item, or it is refused with its place. Boxes, spans and the like are no such label.

To add a format: write one file with its class, and add one line to `raysal.labels.formats.registry`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pyarrow as pa

from raysal.arrow_values import array_of
from raysal.errors import LabelError
from raysal.labels.remarks import ByItem, Remark
from raysal.types import NONE, SEPARATOR, SKIP, Label, Modality

KEY, POOL = "raysal_key", "raysal_pool"
"""The fields of a tool that hold an item's key, and the fingerprint of the pool that the key is of."""
ANNOTATOR, WEIGHT = "raysal_annotator", "raysal_weight"
"""Fields of an answer, where the tool has no user of that name, or no weights."""
FIELDS = ("key", "label", "annotator", "weight")
"""The columns of a label file, in the order in which they are written."""
NOTE, RATING = "note", "rating"
"""Columns of what annotators say beside labels, where any did. They are written, and not read."""
QUESTION = "label"
"""What the control, question or field is called that people answer."""
PREDICTION = "prediction"
"""What the field is called that holds what a model predicts, where a tool has no place of its own for it."""
FACTS = ("rank", "score", "reason")
"""What a round says of an item that it asks for."""
COLUMNS = {
    "key": pa.string(),
    "uri": pa.string(),
    "text": pa.string(),
    "rank": pa.int64(),
    "score": pa.float64(),
    "reason": pa.string(),
    PREDICTION: pa.string(),
    "probability": pa.float64(),
    "state": pa.string(),
    "projection_x": pa.float32(),
    "projection_y": pa.float32(),
}
"""The columns that a sheet may have, in their order. Only the first must be there."""

Record = Mapping[str, Any]
"""A row of a table, an object of JSON, or an element of XML."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Items for a label tool, with all that a run says of them."""

    name: str
    """of the run"""
    schema: pa.Schema
    """columns of `COLUMNS`"""
    tables: Callable[[], Iterable[pa.Table]]
    """the items, part by part; each call begins anew"""
    answers: Mapping[str, Sequence[Label]] = field(default_factory=dict)
    """what annotators said of the items, by key"""
    remarks: ByItem = field(default_factory=dict)
    """the notes and ratings of annotators about the items"""
    pool: str = ""
    """fingerprint of the pool that the keys are of; empty where it is not known"""
    modality: Modality = "vector"
    classes: tuple[str, ...] = ()
    """sorted"""
    several: bool = False
    """a label may name several classes, as `a|b`"""
    model: str = ""
    """which head predicts; empty without predictions"""
    url: str = ""
    """what stands before the keys in the column `uri`; empty where it holds files of this machine"""
    problems: list[str] = field(default_factory=list)
    """why items lack their texts; it is known once the tables are read"""

    def rows(self) -> Iterator[dict[str, Any]]:
        """The items one by one.

        Yields:
            Each row, by column. Memory for one table.
        """
        for table in self.tables():
            yield from table.to_pylist()

    def names(self, label: str) -> list[str]:
        """The classes that the text of a label names.

        Args:
            label: the text.

        Returns:
            One class, or the parts of `a|b`; none for `-`.
        """
        if not self.several:
            return [label]
        return [] if label == NONE else label.split(SEPARATOR)

    def facts(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What travels with an item: its key and pool, rank, score, reason and prediction, without what is not known.

        Args:
            row: of `rows`.

        Returns:
            {field: value}.
        """
        found = {KEY: row["key"], POOL: self.pool or None}
        found |= {name: row.get(name) for name in (*FACTS, PREDICTION, "probability")}
        return {name: value for name, value in found.items() if value is not None}


class Format(Protocol):
    """The files of one tool. An instance has no state."""

    title: ClassVar[str]
    """The tool, as people write it."""
    suffixes: ClassVar[tuple[str, ...]]
    """The extensions that it is written with; none if it is only read."""
    whole: ClassVar[bool] = False
    """What is written is the whole pool, not a batch."""
    reads: ClassVar[bool] = True
    """Files of it may hold labels."""
    remarks: ClassVar[bool] = False
    """It has a place for notes and ratings."""
    columns: ClassVar[tuple[str, ...]] = ()
    """Columns that it reads of a table, beside those of a label file."""

    def claims(self, record: Record) -> bool:
        """Whether a record is surely of this tool.

        Args:
            record: of a file.

        Returns:
            False in doubt. No record is claimed by two formats.
        """
        del record
        return False

    def answers(self, where: str, record: Record) -> Iterator[Record]:
        """What a record says, as rows.

        The rows have the columns of `FIELDS`, and `KEY` and `POOL` where the tool kept them. A row without a label says
        that there is none yet.

        Args:
            where: names the record in an error.
            record: it is claimed.

        Raises:
            LabelError: it says something else than labels of a whole item.
        """
        del record
        raise LabelError(where, f"files of {self.title} are written, and not read", "give a label file")

    def write(self, path: Path, sheet: Sheet) -> None:
        """Write a sheet. Memory for one of its tables, and for one item.

        Args:
            path: the file, with any extension.
            sheet: what to write.

        Raises:
            LabelError: the tool cannot hold what the sheet has.
        """
        del sheet
        raise LabelError(path, f"files of {self.title} are read, and not written", "choose another format")

    def setup(self, out: Path, sheet: Sheet) -> str:
        """What a person tells the tool, so that it shows the file and its answers can be read.

        Args:
            out: the file as it was written.
            sheet: what was written.

        Returns:
            A config, a program or a command; empty if there is nothing to tell.
        """
        del out, sheet
        return ""


def places_of(keys: pa.Array | pa.ChunkedArray, wanted: Mapping[str, object]) -> list[int]:
    """Where in a column of keys some keys are, in order. It looks at the column as a whole, not key by key."""
    import pyarrow.compute as pc

    if not wanted:
        return []
    found: list[int] = pc.indices_nonzero(pc.is_in(keys, value_set=array_of(list(wanted), pa.string()))).to_pylist()
    return found


def remark_fields(remark: Remark) -> dict[str, Any]:
    """A remark as the columns `NOTE` and `RATING`; None for what was not said."""
    return {NOTE: remark.note or None, RATING: remark.rating}


def grouped(sheet: Sheet, key: str) -> list[Label]:
    """The answers of one item, in order of annotator."""
    return sorted(sheet.answers.get(key, ()), key=lambda label: label.annotator)


def kept(label: Label) -> dict[str, Any]:
    """The annotator and the weight of an answer as fields of their own, without what says nothing."""
    fields: dict[str, Any] = {ANNOTATOR: label.annotator} if label.annotator else {}
    return fields | ({WEIGHT: label.weight} if label.weight != 1 else {})


def said_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The annotator and the weight that `kept` wrote."""
    return {"annotator": fields.get(ANNOTATOR), "weight": fields.get(WEIGHT)}


def is_skip(label: Label) -> bool:
    """Whether an answer says that the annotator skipped the item."""
    return label.label == SKIP


def by_annotator(where: str, said: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[Record]:
    """Rows of the names that annotators gave one by one: those of one annotator are one label.

    Args:
        where: names the record in an error.
        said: (name, fields as `kept` writes them) in any order.

    Yields:
        A row for each annotator.

    Raises:
        LabelError: an annotator skips and names, or one answer has two weights.
    """
    names: dict[str, list[str]] = {}
    rows: dict[str, dict[str, Any]] = {}
    for name, fields in said:
        row = said_of(fields)
        who = str(row["annotator"] or "")
        names.setdefault(who, []).append(name)
        if rows.setdefault(who, row) != row:
            raise LabelError(where, f"the annotator {who!r} has two weights", "keep one of them")
    for who, row in rows.items():
        if SKIP in names[who] and set(names[who]) != {SKIP}:
            raise LabelError(where, f"{SKIP} stands beside {', '.join(map(repr, names[who]))}", "keep one of them")
        yield {**row, "label": names[who]}
