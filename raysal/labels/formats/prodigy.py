"""Prodigy: lines of JSON, as `prodigy db-out` writes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from raysal.errors import LabelError
from raysal.labels.formats.base import Format, Record
from raysal.labels.nested import shortened
from raysal.types import NONE, SKIP


class Prodigy(Format):
    """Rows with `answer` and `_task_hash`: `accept` is the label or the options, `ignore` is a skip."""

    title: ClassVar[str] = "Prodigy"
    suffixes: ClassVar[tuple[str, ...]] = ()
    columns: ClassVar[tuple[str, ...]] = ("answer", "accept", "options", "_task_hash", "_annotator_id", "_session_id")

    def claims(self, record: Record) -> bool:
        """A row that Prodigy has numbered, and that somebody answered."""
        return record.get("answer") is not None and record.get("_task_hash") is not None

    def answers(self, where: str, record: Record) -> Iterator[Record]:
        """One answer, in the words of a label file."""
        who = record.get("annotator") or record.get("_annotator_id") or record.get("_session_id")
        row, accepted = {**record, "annotator": who}, record.get("accept")
        if record["answer"] == "ignore" or (record["answer"] == "reject" and accepted is not None):
            row["label"] = SKIP
        elif record["answer"] == "reject":
            problem = f"{shortened(str(record.get('label')))} was rejected, which names no label"
            raise LabelError(f"{where}: label", problem, "write the label, or leave the row out")
        elif accepted is not None:
            row["label"] = [str(option) for option in accepted] or NONE
        yield row
