"""Boxes of images in a table: one item for each box, cut out of its image when it is read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from typing import Any, Literal

import pyarrow as pa

from raysal.arrow import is_list, plain_type
from raysal.errors import BadItem, ConfigError, SourceError
from raysal.sources.listing import Row, bad_item, check_columns, digest, whole_owners
from raysal.sources.row_file import RowFile
from raysal.sources.segments import Segment, add_rows
from raysal.sources.table import Table
from raysal.types import Cut, Item, Unit, Whole


@dataclass(frozen=True, kw_only=True)
class Boxes(Table):
    """The boxes in a column of a table of images. `KEY#0`, `KEY#1` ... are parts of the image `KEY`, its owner.

    A box is four numbers in pixels of the upright image, as fractions of which a box takes the whole pixels that it
    touches; what reaches beyond the border is cut off. A row whose boxes are null or none is one item, the whole image,
    and no part. Carried columns are those of the row, the same for each of its boxes.
    """

    boxes: str
    """The column of lists of boxes."""
    box_form: Literal["xyxy", "xywh"] = "xyxy"
    """What the numbers of a box are: left, top, right and bottom; or left, top, width and height, as COCO has them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.owner is not None:
            problem = "the owner of a box is its image, and another one is named"
            raise ConfigError("source.owner", problem, "leave out one of owner and boxes")

    @property
    def modality(self) -> Literal["image"]:
        """Image."""
        if (found := super().modality) != "image":
            raise SourceError(self.path, f"its items are {found}s, which have no boxes", "name --image-column")
        return "image"

    def _open(self, name: str) -> RowFile:
        file = super()._open(name)
        check_columns(file.path, [(self.boxes, "--boxes")], file.schema.names)
        kind = plain_type(file.schema.field(self.boxes).type)
        if not (is_list(kind) or pa.types.is_null(kind)):
            problem = f"column {self.boxes!r} holds {kind}, not boxes"
            raise SourceError(file.path, problem, "a column of boxes is a list of lists of four numbers")
        return file

    def fingerprint(self) -> str:
        """Hex sha256 over what that of a table covers, and how boxes are read."""
        return digest([super().fingerprint(), self.boxes, self.box_form])

    def spans(self, unit: Unit) -> Iterator[tuple[str, int]]:
        """See `OfFiles`."""
        segments, _, counts = unit.locator
        of_rows = iter(counts)
        return ((name, sum(max(one, 1) for one in islice(of_rows, rows))) for name, _, _, rows in segments)

    def units_in(self, names: Iterable[str], chunk_rows: int) -> Iterator[Unit]:
        """List the boxes of some tables; see `OfFiles`. It reads the columns of keys and of boxes.

        Args:
            names: of files.
            chunk_rows: items in one chunk.

        Yields:
            The chunks in order. A locator has `Segment`s of rows, their keys, and how many boxes each has.

        Raises:
            SourceError: as `Table.units_in`; or an image has more than `chunk_rows` boxes.
        """
        first_id = 0
        for index, some in enumerate(whole_owners(self._listed(names), chunk_rows, self.path)):
            segments: list[Segment] = []
            row_keys: list[str] = []
            counts: list[int] = []
            for _, _, (part, row, key, place, count) in some:
                if place:
                    continue
                add_rows(segments, part, row, 1)
                row_keys.append(key)
                counts.append(count)
            keys, owners, _ = zip(*some, strict=True)
            locator = tuple(segments), tuple(row_keys), tuple(counts)
            yield Unit(index=index, first_id=first_id, keys=keys, owners=owners, locator=locator)
            first_id += len(some)

    def _listed(self, names: Iterable[str]) -> Iterator[Row]:
        """Key and owner of every item; and part of a file, row, its key, number of the box, and how many there are."""
        for name in names:
            file = self._open(name)
            found = (
                value
                for _, batches in file.parts([self.boxes])
                for batch in batches
                for value in batch.column(self.boxes).to_pylist()
            )
            for part, row, keys in self._keys([name]):
                for at, (key, value) in enumerate(zip(keys.to_pylist(), islice(found, len(keys)), strict=True)):
                    count = len(_boxes(value))
                    where = part, row + at, key
                    if count == 0:
                        yield key, None, (*where, 0, 0)
                    for place in range(count):
                        yield f"{key}#{place}", key, (*where, place, count)

    def read(self, unit: Unit, only: Collection[int] | None = None) -> Iterator[Item]:
        """Read a chunk; see `Source.read`. A payload is a `Cut`, which is decoded once for all boxes of an image."""
        segments, row_keys, counts = unit.locator
        rows = replace(unit, keys=row_keys, locator=segments, owners=None)
        place = unit.first_id
        for item, count in zip(self._rows.read(rows), counts, strict=True):
            carried = {name: item.carried[name] for name in self.carry}
            wanted = [at for at in range(max(count, 1)) if only is None or place + at in only]
            if count == 0:
                if wanted:
                    yield replace(item, carried=carried)
            else:
                whole = Whole(item.payload, uses=len(wanted))
                boxes = _boxes(item.carried[self.boxes])
                for at in wanted:
                    yield self._part(f"{item.key}#{at}", whole, boxes[at], carried)
            place += max(count, 1)

    @property
    def _rows(self) -> Table:
        """The table as rows of images, with their boxes."""
        given = {one.name: getattr(self, one.name) for one in fields(Table)}
        return Table(**given | {"carry": tuple(dict.fromkeys((*self.carry, self.boxes)))})

    def _part(self, key: str, whole: Whole, box: Any, carried: dict[str, Any]) -> Item:
        """The item of a box, or a bad one that says what is wrong with it."""
        if isinstance(whole.payload, BadItem):
            return bad_item(key, whole.payload.problem, carried=carried)
        try:
            left, top, third, fourth = map(float, box)
        except (TypeError, ValueError):
            return bad_item(key, f"box {box!r} is not four numbers", carried=carried)
        right, bottom = (left + third, top + fourth) if self.box_form == "xywh" else (third, fourth)
        if not (left < right and top < bottom):  # nor where one is no number
            return bad_item(key, f"box {box!r} of the form {self.box_form} has no area", carried=carried)
        return Item(key=key, payload=Cut(whole=whole, box=(left, top, right, bottom)), carried=carried)


def _boxes(value: Any) -> Sequence[Any]:
    """The boxes of a row: none where it is null; one where the row is four numbers, without a list around them."""
    if value is None or len(value) == 0:
        return ()
    return [value] if isinstance(value[0], int | float) else value
