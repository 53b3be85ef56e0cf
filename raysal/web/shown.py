"""Items as the page gets them: one record of plain values for each."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any

from raysal.errors import RaysalError
from raysal.labels.records import Said
from raysal.labels.remarks import NOTHING, Remark
from raysal.pool import Pool
from raysal.types import POOL_COLUMNS, SKIP
from raysal.web.catalogue import Catalogue, Entry
from raysal.web.media import MAX_TEXT, SIZES, Media
from raysal.web.payloads import Kind, Payloads
from raysal.web.places import Place

MOST_COLUMNS, MOST_LETTERS = 8, 200
"""Carried values of an item in a list, and letters of each."""
FEWEST_LETTERS = 20
"""Letters on average from which a column of a table is a text to read, not a name among other values."""


class Shown:
    """Makes the records of the items of one pool."""

    def __init__(self, pool: Pool, catalogue: Catalogue, media: Media, payloads: Payloads) -> None:
        self._catalogue, self._media, self._payloads = catalogue, media, payloads
        self._columns = [name for name in pool.columns if name not in POOL_COLUMNS]

    def item(
        self,
        entry: Entry,
        said: Said | None,
        remarks: Mapping[str, Remark],
        annotator: str,
        probability: float | None,
        place: Place,
    ) -> dict[str, Any]:
        """The record of an item.

        Args:
            entry: the item.
            said: what the ledger knows of it.
            remarks: those of each annotator about it.
            annotator: whose answer is `mine`.
            probability: that it is of a class that is looked for.
            place: where it is in an order.

        Returns:
            The record.
        """
        answers = {} if said is None else dict(said.answers)
        state = "unlabeled" if said is None else said.state
        if any(remark.disputed and answers.get(who) == SKIP for who, remark in remarks.items()):
            state = "disputed"
        own = remarks.get(annotator, NOTHING)
        mine = None
        if annotator in answers or own != NOTHING:
            mine = {"label": answers.get(annotator), **own._asdict()}
        kind = self.kind(entry)
        carried = dict(self._catalogue.carried(entry.id))
        text = self._text(entry) if kind == "text" else self._words(kind, carried)  # before `broken` is asked
        width, height = self._media.sizes.get(entry.id, (None, None))
        return {
            "id": str(entry.id), "key": entry.key, "kind": kind, **place._asdict(),
            "probability": probability, "mine": mine, "others": sum(who != annotator for who in answers),
            "state": state, "broken": self._media.broken.get(entry.id), "text": text,
            "carried": shortened(carried), "width": width, "height": height,
        }  # fmt: skip

    def details(self, entry: Entry) -> dict[str, Any]:
        """What the large view says more of an item: all that is carried, whole, and its size where it is a picture."""
        carried, kind = dict(self._catalogue.carried(entry.id)), self.kind(entry)
        found: dict[str, Any] = {}
        if (words := self._words(kind, carried, most=None)) is not None:
            found["text"] = words
        found["carried"] = carried
        if kind == "image":
            with suppress(RaysalError):  # `broken` has the reason
                self._media.picture(entry, SIZES[0], small=True)
            width, height = self._media.sizes.get(entry.id, (None, None))
            found |= {"width": width, "height": height, "broken": self._media.broken.get(entry.id)}
        return found

    def kind(self, entry: Entry) -> Kind:
        """How an item is shown."""
        return self._payloads.kind(entry, bool(self._columns))

    def _words(self, kind: Kind, carried: dict[str, Any], most: int | None = MAX_TEXT) -> str | None:
        """The text of a row of a table, taken out of what it carries; None where it has none."""
        column = self._text_column if kind == "table" else None
        if column is None or not isinstance(carried.get(column), str) or not carried[column]:
            return None
        text = str(carried.pop(column))
        return text if most is None or len(text) <= most else text[: most - 1] + "…"

    @cached_property
    def _text_column(self) -> str | None:
        """The carried column that people read: of those of texts the longest one, if it is all, or no mere name."""
        lengths = self._catalogue.text_lengths()
        longest = max(lengths, key=lengths.__getitem__, default=None)
        is_read = longest is not None and (len(self._columns) == 1 or lengths[longest] >= FEWEST_LETTERS)
        return longest if is_read else None

    def _text(self, entry: Entry) -> str | None:
        try:
            return self._media.text(entry, MAX_TEXT)
        except RaysalError:
            return None  # `broken` has the reason


def shortened(values: Mapping[str, Any]) -> dict[str, Any]:
    """The first columns, and of each value so much as fits into a list."""
    return {name: _short(value) for name, value in list(values.items())[:MOST_COLUMNS]}


def _short(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= MOST_LETTERS else text[: MOST_LETTERS - 1] + "…"
