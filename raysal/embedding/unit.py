"""One chunk from items to staged files: read, decode ahead of the model, encode, set the bad ones aside.

One bad item never stops a job; a broken encoder does. The difference: a broken encoder fails on every item
of a batch in the same way, and not by calling the item bad.
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
from raysal.errors import BadItem, EncoderError, RaysalError, SourceError
from raysal.numerics import ceil_div
from raysal.pool import ChunkStage, StagedChunk
from raysal.sources.base import Source
from raysal.types import Item, Unit

LOOK_AHEAD = 3
"""Batches decoded or being decoded while the model works on one; bounds the memory."""

FLOAT16_MAX = float(np.finfo(np.float16).max)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """An item on its way: `value` is what the encoder's `prepare` made of it, or why there is nothing."""

    id: int
    item: Item
    value: Any = None
    error: Exception | None = None


def embed_unit(
    source: Source,
    encoder: Encoder,
    unit: Unit,
    stage: ChunkStage,
    *,
    batch_size: int,
    decode_threads: int,
    attempt: int = 0,
) -> StagedChunk:
    """Embed and stage one unit. Batches are fixed runs of its items, so the bytes do not depend on timing.

    Raises:
        EncoderError: the encoder fails on every item alike, or returns something other than [n, dim].
        SourceError: the source does not give the items it listed.
        OSError: the files cannot be written.
    """
    good: list[Prepared] = []
    vectors: list[NDArray[np.float16]] = []
    lost: list[tuple[int, str, str, str]] = []
    reached: list[Exception | None] = []
    columns: dict[str, None] = {}
    with closing(_prepared(source, encoder, unit, batch_size, decode_threads)) as batches:
        for batch in batches:
            columns.update(dict.fromkeys(name for entry in batch for name in entry.item.carried))
            _refuse_if_broken(encoder, "prepare", [entry.error for entry in batch])
            decoded = [entry for entry in batch if entry.error is None]
            lost += [_loss(entry, "decode", entry.error) for entry in batch if entry.error is not None]
            results = encode_each(encoder, [entry.value for entry in decoded]) if decoded else []
            for entry, result in zip(decoded, results, strict=True):
                outcome = result if isinstance(result, Exception) else to_half(entry.item.key, result)
                reached.append(result if isinstance(result, Exception) else None)
                if isinstance(outcome, Exception):
                    lost.append(_loss(entry, "encode", outcome))
                else:
                    good.append(entry)
                    vectors.append(outcome)
    _refuse_if_broken(encoder, "encode", reached)
    return stage.write(
        index=unit.index,
        first_id=unit.first_id,
        vectors=np.stack(vectors) if vectors else np.empty((0, encoder.dim), np.float16),
        ids=np.array([entry.id for entry in good], np.int64),
        keys=[entry.item.key for entry in good],
        uris=[entry.item.uri for entry in good],
        carried={name: [entry.item.carried.get(name) for entry in good] for name in columns},
        quarantined=lost,
        attempt=attempt,
    )


def lose_unit(unit: Unit, stage: ChunkStage, reason: str, attempt: int) -> StagedChunk:
    """Stage a unit with every item quarantined: how a job goes on past a unit that kills its workers."""
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
    )


def encode_each(encoder: Encoder, values: Sequence[Any]) -> list[NDArray[np.float32] | Exception]:
    """A float32 vector or an error for each value. If the batch fails, its values are tried one by one.

    Raises:
        EncoderError: two or more values failed, all of them, alike.
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


def _encode(encoder: Encoder, values: Sequence[Any]) -> NDArray[np.float32]:
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


def to_half(key: str, vector: NDArray[np.float32]) -> NDArray[np.float16] | BadItem:
    """The vector as pools hold it, or why it cannot be."""
    with np.errstate(over="ignore"):
        half = vector.astype(np.float16)
    if np.isfinite(half).all():
        return half
    if not np.isfinite(vector).all():
        return BadItem(key, "the vector is not finite")
    return BadItem(key, f"a value of {np.abs(vector).max():.6g} does not fit float16 (at most {FLOAT16_MAX:.0f})")


def _loss(entry: Prepared, stage: str, error: Exception | None) -> tuple[int, str, str, str]:
    return entry.id, entry.item.key, stage, _reason(error)


def _reason(error: Exception | None) -> str:
    if isinstance(error, BadItem):
        return error.problem + (f"; {error.fix}" if error.fix else "")
    return f"{type(error).__name__}: {error}"


def _prepared(source: Source, encoder: Encoder, unit: Unit, batch_size: int, threads: int) -> Generator[list[Prepared]]:
    """The unit's items in order, `batch_size` at a time, prepared ahead of the caller.

    One thread reads; `threads` more prepare. A batch is cut into one piece per thread: a future per item
    would cost more than decoding a small image does.
    """
    items = _listed(source, unit)
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(threads) as decoders:

        def load() -> list[Future[list[Prepared]]]:
            batch = list(islice(items, batch_size))
            piece = ceil_div(len(batch), threads) or 1
            return [
                decoders.submit(_prepare_all, encoder, batch[start : start + piece])
                for start in range(0, len(batch), piece)
            ]

        ahead = deque(reader.submit(load) for _ in range(LOOK_AHEAD))
        while pieces := ahead.popleft().result():
            ahead.append(reader.submit(load))
            yield [entry for piece in pieces for entry in piece.result()]


def _listed(source: Source, unit: Unit) -> Iterator[tuple[int, Item]]:
    """The items of a unit with their ids, checked against its keys."""
    count = 0
    for item in source.read(unit):
        if count >= len(unit.keys) or item.key != unit.keys[count]:
            raise SourceError(item.key, "not the item that was listed in its place", "the source changed; start over")
        yield unit.first_id + count, item
        count += 1
    if count < len(unit.keys):
        raise SourceError(unit.keys[count], "was listed, and is gone", "the source changed; start over")


def _prepare_all(encoder: Encoder, batch: Sequence[tuple[int, Item]]) -> list[Prepared]:
    return [_prepare(encoder, item_id, item) for item_id, item in batch]


def _prepare(encoder: Encoder, item_id: int, item: Item) -> Prepared:
    if isinstance(item.payload, BadItem):
        return Prepared(id=item_id, item=_shell(item), error=item.payload)
    try:
        return Prepared(id=item_id, item=_shell(item), value=encoder.prepare(item.key, item.payload))
    except Exception as error:
        if isinstance(error, RaysalError) and not isinstance(error, BadItem):
            raise
        return Prepared(id=item_id, item=_shell(item), error=error)


def _shell(item: Item) -> Item:
    """The item without its payload, which would otherwise be held until the unit is staged."""
    return Item(key=item.key, payload=None, uri=item.uri, carried=item.carried)
