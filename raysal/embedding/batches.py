"""The items of a unit on their way to the model: read and prepared ahead of it, a batch at a time.

There are two ways. For a model, items are read one by one, and several threads decode them. Ready vectors are read as
columns, and nothing is done for each of them. Both end in a `Batch`, which `raysal.embedding.unit` embeds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.embedding.base import Encoder
from raysal.embedding.measures import Values, check_carried
from raysal.embedding.measuring import Measuring
from raysal.embedding.precomputed import Precomputed
from raysal.embedding.rendering import rendering_in
from raysal.errors import BadItem, RaysalError, SourceError
from raysal.numerics import ceil_div
from raysal.pool.contents import ALGORITHM, BY_ROWS, WITH_NAMES, columns_digest, item_digest
from raysal.sources.base import Source
from raysal.sources.vectors import columns_of
from raysal.threads import give_way
from raysal.types import Columns, Item, Unit

LOOK_AHEAD_BATCHES = 3
"""Batches that are read and decoded while the model works on one. Bounds the memory."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Consecutive items between their source and the model."""

    first_id: int
    keys: Sequence[str]
    """[n]"""
    uris: Sequence[str | None] | None
    """[n]; None if no item has one."""
    carried: Mapping[str, Sequence[Any]]
    """{column: values [n]}"""
    values: Sequence[Any] | NDArray[np.floating[Any]]
    """What the encoder takes [n]. Ready vectors are a matrix [n, d]."""
    errors: Mapping[int, Exception]
    """{row: why it has no value}"""
    contents: int
    """The sum of the items' digests; see `raysal.pool.contents`."""
    digests: NDArray[np.uint64] | None = None
    """Those of ready vectors by themselves [n, 4]."""


def method_for(encoder: Encoder) -> str:
    """The method by which the contents of a new pool of this encoder are known."""
    if isinstance(encoder, Precomputed):
        return BY_ROWS
    return WITH_NAMES if rendering_in(encoder.preprocessing()).channels else ALGORITHM


def prepared_batches(
    source: Source,
    encoder: Encoder,
    unit: Unit,
    batch_size: int,
    threads: int,
    method: str,
    measures: Sequence[str] = (),
) -> Generator[Batch]:
    """Prepare a unit's items ahead of the caller. One thread reads; `threads` more prepare.

    They give way to a model: without that, a job of JPEG files on two cores does 10 to 20 % fewer images.

    Args:
        source: gives the items.
        encoder: prepares them.
        unit: which items.
        batch_size: items in a batch, unless they are ready vectors.
        threads: how many prepare.
        method: by which their contents are known.
        measures: names of what is measured of each item, as further carried columns.

    Yields:
        The items, in order.

    Raises:
        SourceError: the source does not give the items it listed.
    """
    if isinstance(encoder, Precomputed) and method == BY_ROWS:
        columns = checked_columns(source, unit, encoder.dim)
        yield from _ahead(lambda: next(columns, None), lambda some: [(_prepare_columns, encoder, *some)], threads, None)
        return
    items = _checked_items(source, unit)

    def pieces(batch: Sequence[tuple[int, Item]]) -> list[Any]:
        # One piece for each thread: a future for each item would cost more than to decode a small image.
        size = ceil_div(len(batch), threads)
        parts = (batch[start : start + size] for start in range(0, len(batch), size))
        return [(prepare_items, encoder, part, method, measures) for part in parts]

    yield from _ahead(lambda: list(islice(items, batch_size)) or None, pieces, threads, give_way)


def _ahead(
    read: Callable[[], Any], pieces: Callable[[Any], list[Any]], threads: int, first: Callable[[], object] | None
) -> Generator[Batch]:
    """Read in one thread until there is None, and prepare the pieces of what was read in others, which do `first`."""
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(threads, initializer=first) as decoders:

        def load() -> list[Future[Batch]] | None:
            some = read()
            return None if some is None else [decoders.submit(*piece) for piece in pieces(some)]

        ahead = deque(reader.submit(load) for _ in range(LOOK_AHEAD_BATCHES))
        while (found := ahead.popleft().result()) is not None:
            ahead.append(reader.submit(load))
            yield _joined([piece.result() for piece in found])


def _joined(pieces: Sequence[Batch]) -> Batch:
    """Consecutive pieces as one batch."""
    if len(pieces) == 1:
        return pieces[0]
    names = dict.fromkeys(name for piece in pieces for name in piece.carried)
    starts = np.cumsum([0, *(len(piece.keys) for piece in pieces)])

    def values_of(name: str) -> list[Any]:
        return [value for piece in pieces for value in piece.carried.get(name, [None] * len(piece.keys))]

    return Batch(
        first_id=pieces[0].first_id,
        keys=list(chain.from_iterable(piece.keys for piece in pieces)),
        uris=[uri for piece in pieces for uri in piece.uris or [None] * len(piece.keys)],
        carried={name: values_of(name) for name in names},
        values=list(chain.from_iterable(piece.values for piece in pieces)),
        errors={int(starts[at]) + row: error for at, piece in enumerate(pieces) for row, error in piece.errors.items()},
        contents=sum(piece.contents for piece in pieces),
    )


def checked_columns(source: Source, unit: Unit, dim: int) -> Iterator[tuple[int, Columns]]:
    """The items of a unit as columns.

    Args:
        source: gives them.
        unit: which.
        dim: length of a vector.

    Yields:
        Id of the first item, and the columns; in order.

    Raises:
        SourceError: the source gives other keys than it listed.
    """
    place = 0
    for columns in columns_of(source, unit, dim):
        listed, found = unit.keys[place : place + len(columns.keys)], columns.keys
        if listed is not found and listed != found:
            for at, key in enumerate(found):
                _check_key(key, unit, place + at)
        yield unit.first_id + place, columns
        place += len(found)
    _check_end(unit, place)


def _checked_items(source: Source, unit: Unit) -> Iterator[tuple[int, Item]]:
    """(id, item) of a unit's items. Raises SourceError where the source gives other keys than it listed."""
    count = 0
    for item in source.read(unit):
        _check_key(item.key, unit, count)
        yield unit.first_id + count, item
        count += 1
    _check_end(unit, count)


def _check_key(key: str, unit: Unit, place: int) -> None:
    if place >= len(unit.keys) or key != unit.keys[place]:
        raise SourceError(key, "not the item that was listed in its place", "the source changed; start over")


def _check_end(unit: Unit, count: int) -> None:
    if count < len(unit.keys):
        raise SourceError(unit.keys[count], "was listed, and is gone", "the source changed; start over")


def unit_contents(source: Source, unit: Unit, method: str, dim: int) -> int:
    """Read a unit again, for the digest of its contents alone.

    Args:
        source: gives the items of the unit.
        unit: the chunk to read.
        method: by which the contents of the pool are known.
        dim: length of a vector of the pool.

    Returns:
        The sum of its items' digests.

    Raises:
        SourceError: the source does not give the items it listed.
    """
    if method == BY_ROWS:
        return sum(columns_digest(first_id, columns)[0] for first_id, columns in checked_columns(source, unit, dim))
    return sum(item_digest(id, item, method) for id, item in _checked_items(source, unit))


def _prepare_columns(encoder: Precomputed, first_id: int, columns: Columns) -> Batch:
    """Check ready vectors. Raises SourceError where all have another length than was listed."""
    if columns.vectors.shape != (len(columns.keys), encoder.dim):
        problem = f"is in columns of the shape {columns.vectors.shape}, expected ({len(columns.keys)}, {encoder.dim})"
        raise SourceError(columns.keys[0], problem, "the source changed; start over")
    errors: dict[int, Exception] = dict(encoder.check(columns))
    contents, digests = columns_digest(first_id, columns)
    return Batch(
        first_id=first_id,
        keys=columns.keys,
        uris=None,
        carried=columns.carried,
        values=columns.vectors,
        errors=errors,
        contents=contents,
        digests=digests,
    )


def prepare_items(
    encoder: Encoder, items: Sequence[tuple[int, Item]], method: str = ALGORITHM, measures: Sequence[str] = ()
) -> Batch:
    """Prepare consecutive items in this thread.

    Args:
        encoder: prepares them.
        items: (id, item), at least one.
        method: by which their contents are known, one of `raysal.pool.contents.OF_ITEMS`.
        measures: names of what is measured of each item, as further carried columns.

    Returns:
        What `prepare` made of them. The items' payloads are let go.

    Raises:
        SourceError: an item carries a column that has the name of a measure.
    """
    values: list[Any] = []
    errors: dict[int, Exception] = {}
    measured: list[Values] = []
    measuring = Measuring(measures)
    for row, (_, item) in enumerate(items):
        value, found, error = _prepare(encoder, item, measuring)
        values.append(value)
        measured.append(found)
        if error is not None:
            errors[row] = error
    names = dict.fromkeys(name for _, item in items for name in item.carried)
    check_carried(names, measures, items[0][1].key)
    return Batch(
        first_id=items[0][0],
        keys=[item.key for _, item in items],
        uris=[item.uri for _, item in items],
        carried={name: [item.carried.get(name) for _, item in items] for name in names}
        | {name: [found.get(name) for found in measured] for name in measures},
        values=values,
        errors=errors,
        contents=sum(item_digest(id, item, method) for id, item in items),
    )


def _prepare(encoder: Encoder, item: Item, measuring: Measuring) -> tuple[Any, Values, Exception | None]:
    if isinstance(item.payload, BadItem):
        return None, {}, item.payload
    try:
        return *measuring(item, lambda: encoder.prepare(item.key, item.payload)), None
    except Exception as error:
        if isinstance(error, RaysalError) and not isinstance(error, BadItem):
            raise
        return None, {}, error
