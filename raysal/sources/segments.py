"""Cut the rows of files into units. A unit's locator is segments: which rows of which parts of files are its items."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from raysal.arrow_values import Texts, owned
from raysal.sources.listing import Row, whole_owners
from raysal.types import Unit

Part = tuple[Any, ...]
"""What holds rows one after the other: the name of a file, and for a table the number of a part of it."""
Segment = tuple[Any, ...]
"""A part, and behind it its first row and the number of rows."""


def add_rows(segments: list[Segment], part: Part, row: int, count: int) -> None:
    """Add the rows that follow, to the last segment where they are of the same part.

    Args:
        segments: of a unit.
        part: where the rows are.
        row: the first of them within the part.
        count: how many.
    """
    if segments and segments[-1][:-2] == part:
        segments[-1] = (*part, segments[-1][-2], segments[-1][-1] + count)
    else:
        segments.append((*part, row, count))


def units_of_rows(rows: Iterable[tuple[Part, int, pa.Array]], chunk_rows: int) -> Iterator[Unit]:
    """Cut rows into units.

    Args:
        rows: the part, the first row within it, and the keys of some rows, which follow those before.
        chunk_rows: items in one unit; the last one may have fewer.

    Yields:
        The units in order. A locator is a tuple of `Segment`.
    """
    keys: list[pa.Array] = []
    segments: list[Segment] = []
    first_id = index = held = 0
    for part, row, some in rows:
        while len(some):
            taken = some[: chunk_rows - held]
            add_rows(segments, part, row, len(taken))
            keys.append(taken)
            held, row, some = held + len(taken), row + len(taken), some[len(taken) :]
            if held == chunk_rows:
                yield Unit(index=index, first_id=first_id, keys=_texts(keys), locator=tuple(segments))
                first_id, index, held, keys, segments = first_id + held, index + 1, 0, [], []
    if held:
        yield Unit(index=index, first_id=first_id, keys=_texts(keys), locator=tuple(segments))


def units_of_parts(rows: Iterable[Row], chunk_rows: int, where: object) -> Iterator[Unit]:
    """Cut rows that are parts of owners into units that cut no owner.

    Args:
        rows: key, owner, and (part of a file, row within it) of each.
        chunk_rows: items in one unit, at most.
        where: the source, for the error.

    Yields:
        The units in order. A locator is a tuple of `Segment`.

    Raises:
        SourceError: an owner has more than `chunk_rows` parts.
    """
    first_id = 0
    for index, some in enumerate(whole_owners(rows, chunk_rows, where)):
        segments: list[Segment] = []
        for _, _, (part, row) in some:
            add_rows(segments, part, row, 1)
        keys, owners, _ = zip(*some, strict=True)
        yield Unit(index=index, first_id=first_id, keys=keys, locator=tuple(segments), owners=owners)
        first_id += len(some)


def _texts(pieces: list[pa.Array]) -> Texts:
    """Keys in memory of their own."""
    return Texts(owned(pieces[0]) if len(pieces) == 1 else pa.concat_arrays(pieces))
