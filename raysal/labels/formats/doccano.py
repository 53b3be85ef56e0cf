"""doccano and others: rows that have `labels` where there is no `label`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from raysal.labels.formats.base import QUESTION, Format, Record


class Doccano(Format):
    """Lines of JSON with the column `labels`, a list."""

    title: ClassVar[str] = "doccano"
    suffixes: ClassVar[tuple[str, ...]] = ()
    columns: ClassVar[tuple[str, ...]] = ("labels",)

    def claims(self, record: Record) -> bool:
        """A row with `labels` and without `label`."""
        return QUESTION not in record and "labels" in record

    def answers(self, where: str, record: Record) -> Iterator[Record]:  # noqa: ARG002
        """The labels of the row."""
        yield {**record, QUESTION: record["labels"]}
