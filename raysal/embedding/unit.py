"""One chunk from items to staged files: read, decode ahead of the model, encode, quarantine the bad items.

One bad item never stops a job; a broken encoder does. An encoder counts as broken where it fails on every item of a
batch (two or more) with the same type of error, and that error is not a `BadItem`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.embedding.base import Encoder
from raysal.embedding.rounding import Floats, Rounding, as_given, middle_row
from raysal.errors import BadItem, EncoderError, RaysalError, SourceError
from raysal.numerics import ceil_div
from raysal.pool import ChunkStage, StagedChunk
from raysal.pool.contents import item_digest, unread_digest
from raysal.sources.base import Source
from raysal.threads import give_way
from raysal.types import Item, Unit

LOOK_AHEAD_BATCHES = 3
"""Batches that are read and decoded while the model works on one. Bounds the memory."""

QuarantineRow = tuple[int, str, str, str]
"""(id, key, stage, reason) of an item without a vector"""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """An item between its source and the model."""

    id: int
    item: Item
    """without its payload"""
    digest: int
    """of the item with its payload; see `raysal.pool.contents`"""
    value: Any = None
    """what the encoder's `prepare` returned"""
    error: Exception | None = None
    """why there is no value"""


def embed_unit(
    source: Source,
    encoder: Encoder,
    unit: Unit,
    stage: ChunkStage,
    *,
    batch_size: int,
    decode_threads: int,
    rounding: Rounding | None = None,
    attempt: int = 0,
) -> StagedChunk:
    """Embed one unit and stage its files. Batches are fixed runs of items, so the bytes do not depend on timing.

    Memory: the vectors of the unit, and `LOOK_AHEAD_BATCHES` + 1 batches of prepared items.

    Args:
        source: gives the items of the unit.
        encoder: gives their vectors.
        unit: the chunk to embed.
        stage: writes the chunk's files under temporary names.
        batch_size: items in one call of the model.
        decode_threads: threads that prepare items ahead of the model.
        rounding: how vectors become float16; by default with the scale 1.
        attempt: how often the unit was tried before; the commit record holds it.

    Returns:
        The staged chunk, ready to be committed.

    Raises:
        EncoderError: the encoder fails on every item in the same way, or does not return [n, dim].
        SourceError: the source does not give the items it listed.
        OSError: the files cannot be written.
    """
    rounding = rounding or Rounding()
    reference, blurred = rounding.reference, 0
    good: list[Prepared] = []
    vectors = [np.empty((0, encoder.dim), np.float16)]
    quarantined: list[QuarantineRow] = []
    encode_errors: list[Exception | None] = []
    columns: dict[str, None] = {}
    contents = 0
    with closing(_prepared_batches(source, encoder, unit, batch_size, decode_threads)) as batches:
        for batch in batches:
            contents += sum(entry.digest for entry in batch)
            columns.update(dict.fromkeys(name for entry in batch for name in entry.item.carried))
            _refuse_if_broken(encoder, "prepare", [entry.error for entry in batch])
            decoded = [entry for entry in batch if entry.error is None]
            quarantined += [_quarantine_row(entry, "decode", entry.error) for entry in batch if entry.error is not None]
            results = encode_each(encoder, [entry.value for entry in decoded]) if decoded else []
            encode_errors += [result if isinstance(result, Exception) else None for result in results]
            kept, given, rounded, lost = _rounded(rounding, decoded, results)
            quarantined += [_quarantine_row(entry, "encode", error) for entry, error in lost]
            if kept:
                reference = middle_row(given) if reference is None else reference
                blurred += rounding.blurred(given, rounded, reference)
                good += kept
                vectors.append(rounded)
    _refuse_if_broken(encoder, "encode", encode_errors)
    return stage.write(
        index=unit.index,
        first_id=unit.first_id,
        vectors=np.concatenate(vectors),
        ids=np.array([entry.id for entry in good], np.int64),
        keys=[entry.item.key for entry in good],
        uris=[entry.item.uri for entry in good],
        carried={name: [entry.item.carried.get(name) for entry in good] for name in columns},
        quarantined=quarantined,
        blurred=blurred,
        attempt=attempt,
        contents=contents,
    )


def _rounded(
    rounding: Rounding, entries: Sequence[Prepared], results: Sequence[NDArray[np.floating[Any]] | Exception]
) -> tuple[list[Prepared], Floats, NDArray[np.float16], list[tuple[Prepared, Exception]]]:
    """Round the vectors of a batch.

    Args:
        rounding: how.
        entries: the items.
        results: for each its vector, or the error it caused.

    Returns:
        The items that can be held, their vectors as given and rounded, and the other items with the reasons. All in
        order.
    """
    lost: dict[int, Exception] = {row: result for row, result in enumerate(results) if isinstance(result, Exception)}
    rows = [row for row in range(len(results)) if row not in lost]
    given: Floats = np.empty((0, 0), np.float32)
    rounded = np.empty((0, 0), np.float16)
    if rows:
        given = as_given([result for result in results if not isinstance(result, Exception)])
        rounded, bad = rounding.halves([entries[row].item.key for row in rows], given)
        if bad:
            lost.update({rows[place]: error for place, error in bad.items()})
            held = [place for place in range(len(rows)) if place not in bad]
            rows, given, rounded = [rows[place] for place in held], given[held], rounded[held]
    return [entries[row] for row in rows], given, rounded, [(entries[row], lost[row]) for row in sorted(lost)]


def quarantine_unit(unit: Unit, stage: ChunkStage, reason: str, attempt: int) -> StagedChunk:
    """Stage a unit with all its items quarantined, so that the job can pass a unit that kills its workers.

    Args:
        unit: the chunk to give up.
        stage: writes the chunk's files under temporary names.
        reason: why the items have no vector.
        attempt: how often the unit was tried before.

    Returns:
        The staged chunk, without vectors.
    """
    return stage.write(
        index=unit.index,
        first_id=unit.first_id,
        vectors=np.empty((0, stage.dim), np.float16),
        ids=np.empty(0, np.int64),
        keys=[],
        uris=[],
        carried={},
        quarantined=[(unit.first_id + place, key, "encode", reason) for place, key in enumerate(unit.keys)],
        attempt=attempt,
        contents=unread_digest(unit.first_id, unit.keys),
    )


def unit_contents(source: Source, unit: Unit) -> int:
    """Read a unit again, for the digest of its contents alone.

    Args:
        source: gives the items of the unit.
        unit: the chunk to read.

    Returns:
        The sum of its items' digests, as `embed_unit` has it.

    Raises:
        SourceError: the source does not give the items it listed.
    """
    return sum(item_digest(id, item) for id, item in _checked_items(source, unit))


def encode_each(encoder: Encoder, values: Sequence[Any]) -> list[NDArray[np.floating[Any]] | Exception]:
    """Encode a batch, and where the batch fails, encode its items one by one.

    Args:
        encoder: the model.
        values: n results of its `prepare`.

    Returns:
        For each value a vector [d], or the error it caused.

    Raises:
        EncoderError: there are two or more values, and all fail with the same type of error.
    """
    try:
        return list(_encode(encoder, values))
    except Exception as error:
        if isinstance(error, RaysalError) and not isinstance(error, BadItem):
            raise
        if len(values) == 1:
            return [error]
    results = [result for value in values for result in encode_each(encoder, [value])]
    _refuse_if_broken(encoder, "encode", [r if isinstance(r, Exception) else None for r in results])
    return results


def _encode(encoder: Encoder, values: Sequence[Any]) -> NDArray[np.floating[Any]]:
    out = encoder.encode(values)
    if out.shape != (len(values), encoder.dim):
        raise EncoderError(type(encoder).__name__, f"returned {out.shape}, expected ({len(values)}, {encoder.dim})")
    return out


def _refuse_if_broken(encoder: Encoder, step: str, errors: Sequence[Exception | None]) -> None:
    first = errors[0] if errors else None
    if first is None or len(errors) < 2 or isinstance(first, BadItem):
        return
    if all(type(error) is type(first) for error in errors):
        name = type(encoder).__name__
        raise EncoderError(name, f"{step} fails on every item: {_reason(first)}", "fix the encoder") from first


def _quarantine_row(entry: Prepared, stage: str, error: Exception | None) -> QuarantineRow:
    return entry.id, entry.item.key, stage, _reason(error)


def _reason(error: Exception | None) -> str:
    if isinstance(error, BadItem):
        return error.problem + (f"; {error.fix}" if error.fix else "")
    return f"{type(error).__name__}: {error}"


def _prepared_batches(
    source: Source, encoder: Encoder, unit: Unit, batch_size: int, threads: int
) -> Generator[list[Prepared]]:
    """Prepare a unit's items ahead of the caller.

    One thread reads; `threads` more prepare, and give way to the model: without that, a job of JPEG files on two cores
    does 10 to 20 % fewer images. A batch is cut into one piece per thread, since a future per item would
    cost more than decoding a small image.

    Yields:
        The items in order, `batch_size` at a time.
    """
    items = _checked_items(source, unit)
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(threads, initializer=give_way) as decoders:

        def load() -> list[Future[list[Prepared]]]:
            batch = list(islice(items, batch_size))
            piece = ceil_div(len(batch), threads) or 1
            return [
                decoders.submit(_prepare_all, encoder, batch[start : start + piece])
                for start in range(0, len(batch), piece)
            ]

        ahead = deque(reader.submit(load) for _ in range(LOOK_AHEAD_BATCHES))
        while pieces := ahead.popleft().result():
            ahead.append(reader.submit(load))
            yield [entry for piece in pieces for entry in piece.result()]


def _checked_items(source: Source, unit: Unit) -> Iterator[tuple[int, Item]]:
    """(id, item) of a unit's items. Raises SourceError where the source gives other keys than it listed."""
    count = 0
    for item in source.read(unit):
        if count >= len(unit.keys) or item.key != unit.keys[count]:
            raise SourceError(item.key, "not the item that was listed in its place", "the source changed; start over")
        yield unit.first_id + count, item
        count += 1
    if count < len(unit.keys):
        raise SourceError(unit.keys[count], "was listed, and is gone", "the source changed; start over")


def prepared_items(source: Source, encoder: Encoder, unit: Unit) -> list[Prepared]:
    """All items of a unit, prepared in this thread.

    Args:
        source: gives the items.
        encoder: prepares them.
        unit: which items.

    Returns:
        What `prepare` made of them, in order.

    Raises:
        SourceError: the source does not give the items it listed.
    """
    return _prepare_all(encoder, list(_checked_items(source, unit)))


def _prepare_all(encoder: Encoder, batch: Sequence[tuple[int, Item]]) -> list[Prepared]:
    return [_prepare(encoder, item_id, item) for item_id, item in batch]


def _prepare(encoder: Encoder, item_id: int, item: Item) -> Prepared:
    digest, rest = item_digest(item_id, item), _without_payload(item)
    if isinstance(item.payload, BadItem):
        return Prepared(id=item_id, item=rest, digest=digest, error=item.payload)
    try:
        return Prepared(id=item_id, item=rest, digest=digest, value=encoder.prepare(item.key, item.payload))
    except Exception as error:
        if isinstance(error, RaysalError) and not isinstance(error, BadItem):
            raise
        return Prepared(id=item_id, item=rest, digest=digest, error=error)


def _without_payload(item: Item) -> Item:
    """The item without its payload. With it, all payloads would stay in memory until the unit is staged."""
    return Item(key=item.key, payload=None, uri=item.uri, carried=item.carried)
