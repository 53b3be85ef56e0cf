"""One chunk from items to staged files: read, decode ahead of the model, encode, quarantine the bad items.

One bad item never stops a job; a broken encoder does. An encoder counts as broken where it fails on every item of a
batch (two or more) with the same type of error, and that error is not a `BadItem`. A batch that does not fit into
memory is halved (`raysal.embedding.encoding`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.arrow_values import Texts, taken
from raysal.embedding.base import Encoder
from raysal.embedding.batches import Batch, method_for, prepared_batches
from raysal.embedding.devices import Replicas
from raysal.embedding.encoding import Encoding, reason_of, refuse_if_broken
from raysal.embedding.measures import measured_column
from raysal.embedding.rounding import Floats, Rounding, as_given, middle_row
from raysal.errors import SourceError
from raysal.numerics import slices
from raysal.pool import ChunkStage, StagedChunk
from raysal.pool.contents import ALGORITHM, unread_digest
from raysal.pool.lanes import total
from raysal.pool.owners import owners_in
from raysal.sources.base import Source
from raysal.sources.keys import source_name
from raysal.types import OWNER_KEY, Unit

ROUNDED_NUMBERS = 1 << 18
"""Numbers that are rounded at a time: their copies stay in the cache."""

QuarantineRow = tuple[int, str, str, str]
"""(id, key, stage, reason) of an item without a vector"""


def unit_writer(
    source: Source,
    encoder: Encoder,
    unit: Unit,
    stage: ChunkStage,
    *,
    batch_size: int,
    decode_threads: int,
    replicas: Replicas | None = None,
    rounding: Rounding | None = None,
    attempt: int = 0,
    method: str | None = None,
    memory: NDArray[np.float16] | None = None,
    measures: Sequence[str] = (),
) -> Callable[[], StagedChunk]:
    """Embed one unit. Batches are fixed runs of items, so the bytes do not depend on timing.

    Memory: the vectors of the unit, and `LOOK_AHEAD_BATCHES` + 1 batches of prepared items; of several devices, `AHEAD`
    more for each.

    Args:
        source: gives the items of the unit.
        encoder: gives their vectors.
        unit: the chunk to embed.
        stage: writes the chunk's files under temporary names.
        batch_size: items in one call of the model.
        decode_threads: threads that prepare items ahead of the model.
        replicas: the encoder where it runs; one for all units of a process, so that it learns which batches do not fit.
        rounding: how vectors become float16; by default with the scale 1.
        attempt: how often the unit was tried before; the commit record holds it.
        method: by which the contents of the pool are known; by default that of a new pool.
        memory: where the vectors may lie until they are staged, at least [n, dim].
        measures: names of what is measured of each item (`raysal.embedding.measures`).

    Returns:
        What stages the chunk, ready to be committed. It may run in another thread. It needs neither source nor model.

    Raises:
        EncoderError: the encoder fails on every item in the same way, or does not return [n, dim].
        SourceError: the source does not give the items it listed.
        OSError: (what is returned) the files cannot be written.
    """
    rounding, method = rounding or Rounding(), method or method_for(encoder)
    replicas = replicas or Replicas(encoder, [getattr(encoder, "device", "cpu")])
    reference, blurred = rounding.reference, 0
    vectors = np.empty((len(unit.keys), encoder.dim), np.float16) if memory is None else memory
    kept: list[_Kept] = []
    quarantined: list[QuarantineRow] = []
    encode_errors: list[Exception] = []
    encoded = held = contents = 0
    known: int | None = 0  # the digest of what is stored, while that is what was given
    with closing(prepared_batches(source, encoder, unit, batch_size, decode_threads, method, measures)) as batches:
        for batch, (rows, given, errors) in replicas.in_order(_encoded, batches):
            contents += batch.contents
            encoded += len(batch.keys) - len(batch.errors)
            encode_errors += errors.values()
            halves, bad = _rounded(rounding, _Kept(batch, rows).of(batch.keys), rows, given)
            quarantined += [_quarantine_row(batch, "decode", *pair) for pair in batch.errors.items()]
            quarantined += [_quarantine_row(batch, "encode", *pair) for pair in (errors | bad).items()]
            if bad:
                good = ~np.isin(rows, list(bad))
                rows, given, halves = rows[good], given[good], halves[good]
            if len(rows):
                reference = middle_row(_wide(given[:batch_size])) if reference is None else reference
                blurred += _blurred(rounding, given, halves, reference)
            known = (
                None
                if known is None or halves is not given or batch.digests is None
                else known + total(batch.digests[rows])
            )
            vectors[held : held + len(rows)] = halves
            held += len(rows)
            # With their values, the prepared items of the whole unit would stay in memory until it is staged.
            kept.append(_Kept(replace(batch, values=(), digests=None), rows))
    refuse_if_broken(encoder, "encode", encode_errors, encoded)
    names = dict.fromkeys(name for some in kept for name in some.batch.carried)
    ids = np.concatenate([np.empty(0, np.int64), *(some.batch.first_id + some.rows for some in kept)])
    carried: dict[str, Sequence[Any]] = {
        name: _concatenated([some.of(some.batch.carried.get(name)) for some in kept]) for name in names
    }
    carried |= {name: measured_column(name, carried.get(name, ())) for name in measures}
    owners, keys_of_owners = owners_in(unit, ids)
    if keys_of_owners.keys() & carried.keys():
        problem = f"carries a column {OWNER_KEY!r}, which a pool of parts has of its own"
        raise SourceError(source_name(source), problem, "rename it")
    return partial(
        stage.write,
        index=unit.index,
        first_id=unit.first_id,
        vectors=vectors[:held],
        ids=ids,
        keys=_concatenated([some.of(some.batch.keys) for some in kept]),
        uris=None if all(s.batch.uris is None for s in kept) else _concatenated([s.of(s.batch.uris) for s in kept]),
        carried={**carried, **keys_of_owners},
        quarantined=sorted(quarantined),
        blurred=blurred,
        attempt=attempt,
        contents=contents,
        method=method,
        vectors_digest=known,
        owners=owners,
    )


class _Kept(NamedTuple):
    """The items of a batch that have a vector."""

    batch: Batch
    rows: NDArray[np.int64]

    def of(self, values: Sequence[Any] | None) -> Sequence[Any]:
        """Their values of a column of the batch; None where the batch lacks it."""
        if values is None:
            return [None] * len(self.rows)
        if len(self.rows) == len(self.batch.keys):
            return values
        if isinstance(values, Texts):
            return Texts(taken(values.column, self.rows))
        return taken(values, self.rows) if isinstance(values, pa.Array) else [values[row] for row in self.rows.tolist()]


def _concatenated(pieces: Sequence[Sequence[Any]]) -> Sequence[Any]:
    """Columns one after the other: an array of Arrow if all are, of one type."""
    columns: list[Any] = [piece.column if isinstance(piece, Texts) else piece for piece in pieces]
    if columns and all(isinstance(column, pa.Array) and column.type == columns[0].type for column in columns):
        whole: Sequence[Any] = pa.concat_arrays(columns)
        return whole
    return [value for one in columns for value in (one.to_pylist() if isinstance(one, pa.Array) else one)]


def _encoded(encoding: Encoding, batch: Batch) -> tuple[NDArray[np.int64], Floats, dict[int, Exception]]:
    """Run the model on what could be decoded.

    Args:
        encoding: runs the model.
        batch: the items.

    Returns:
        The rows of the batch that have a vector, their vectors as given, and {row: error} of those that it fails on.
    """
    refuse_if_broken(encoding.encoder, "prepare", list(batch.errors.values()), len(batch.keys))
    rows = np.arange(len(batch.keys))
    if batch.errors:
        rows = np.delete(rows, list(batch.errors))
    if isinstance(batch.values, np.ndarray):
        return rows, batch.values[rows] if batch.errors else batch.values, {}
    results = encoding([batch.values[row] for row in rows.tolist()]) if len(rows) else []
    errors = {int(row): found for row, found in zip(rows, results, strict=True) if isinstance(found, Exception)}
    good = [found for found in results if not isinstance(found, Exception)]
    rows = rows[[not isinstance(found, Exception) for found in results]] if errors else rows
    return rows, as_given(good) if good else np.empty((0, encoding.encoder.dim), np.float32), errors


def _rounded(
    rounding: Rounding, keys: Sequence[str], rows: NDArray[np.int64], given: Floats
) -> tuple[NDArray[np.float16], dict[int, Exception]]:
    """Round vectors [n, d] to float16.

    Args:
        rounding: how.
        keys: the items' names [n].
        rows: where in their batch they are [n].
        given: their vectors.

    Returns:
        float16 [n, d], and {row of the batch: error} of those that lose too much.
    """
    if given.dtype == np.float16 and rounding.scale == 1:  # finite, and already what it would become
        return given, {}
    halves = np.empty(given.shape, np.float16)
    lost: dict[int, Exception] = {}
    for part in _parts(given):
        halves[part], bad = rounding.halves(keys[part], _wide(given[part]))
        lost.update({int(rows[part.start + at]): error for at, error in bad.items()})
    return halves, lost


def _blurred(rounding: Rounding, given: Floats, halves: NDArray[np.float16], reference: Floats) -> int:
    """How many vectors float16 tells too little apart from the others; see `Rounding.blurred`."""
    if given is halves:
        return 0
    return sum(rounding.blurred(_wide(given[part]), halves[part], reference) for part in _parts(given))


def _parts(matrix: Floats) -> Iterator[slice]:
    return slices(len(matrix), max(1, ROUNDED_NUMBERS // max(matrix.shape[1], 1)))


def _wide(given: Floats) -> Floats:
    """float16 as float32, in which it is multiplied and compared."""
    return given.astype(np.float32) if given.dtype == np.float16 else given


def quarantine_unit(unit: Unit, stage: ChunkStage, reason: str, attempt: int, method: str = ALGORITHM) -> StagedChunk:
    """Stage a unit with all its items quarantined, so that the job can pass a unit that kills its workers.

    Args:
        unit: the chunk to give up.
        stage: writes the chunk's files under temporary names.
        reason: why the items have no vector.
        attempt: how often the unit was tried before.
        method: by which the contents of the pool are known.

    Returns:
        The staged chunk, without vectors.
    """
    return stage.write(
        index=unit.index,
        first_id=unit.first_id,
        vectors=np.empty((0, stage.dim), np.float16),
        ids=np.empty(0, np.int64),
        keys=[],
        uris=None,
        carried={},
        quarantined=[(unit.first_id + place, key, "encode", reason) for place, key in enumerate(unit.keys)],
        attempt=attempt,
        contents=unread_digest(unit.first_id, unit.keys, method),
        method=method,
    )


def _quarantine_row(batch: Batch, stage: str, row: int, error: Exception) -> QuarantineRow:
    return batch.first_id + row, batch.keys[row], stage, reason_of(error)
