"""Samples of a pool for its maps, and the two axes of these: the same for the page and for label tools."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.errors import LabelError
from raysal.labels.spelling import label_text
from raysal.pool import Pool
from raysal.pool.chunk import Chunk
from raysal.principal_axes import principal_axes
from raysal.rng import derive, item_uniform

MAP_SAMPLE = 4_000
"""So many items have the principal axes of a map: about a second with 1,280 numbers."""
MAP_WIDTH = 2_048
"""Up to so many numbers per vector; of wider ones, so many items."""


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """Some of a pool's items."""

    ids: NDArray[np.int64]
    """[n], ascending"""
    vectors: NDArray[np.float32]
    """[n, d]"""
    column: tuple[str | None, ...] | None
    """[n] values of a carried column; None where none was asked for"""

    def __len__(self) -> int:
        return len(self.ids)


def sample_vectors(pool: Pool, seed: int, most: int, column: str | None = None) -> Vectors:
    """Take a uniform sample of a pool: the items of lowest hash.

    The sample depends on the seed and the ids alone, not on chunks. One pass over the ids; memory for twice the sample.

    Args:
        pool: the items.
        seed: another seed gives another sample.
        most: how many; all items where the pool has fewer.
        column: a carried column to read, too.

    Returns:
        The sampled items.
    """
    kept: list[tuple[NDArray[np.float64], Vectors]] = []
    threshold = 1.0
    for chunk in pool.chunks:
        ids, values = _items(chunk, column)
        hashes = item_uniform(derive(seed, "map"), ids)
        rows = np.flatnonzero(hashes <= threshold)
        if not len(rows):
            continue
        rows = np.sort(rows[np.argsort(hashes[rows], kind="stable")[:most]])
        kept.append((hashes[rows], _take(chunk, ids, values, rows)))
        if sum(len(hashes) for hashes, _ in kept) >= 2 * most:
            kept = [_lowest(kept, most)]
            threshold = float(kept[0][0].max())
    return _lowest(kept, most)[1] if kept else _nothing(pool, column)


def vectors_by_id(pool: Pool, ids: Sequence[int] | NDArray[np.int64], column: str | None = None) -> Vectors:
    """The items with these ids that the pool holds. One pass over the ids."""
    wanted = np.unique(np.asarray(ids, np.int64))
    parts = []
    for chunk in pool.chunks:
        held, values = _items(chunk, column)
        rows = np.flatnonzero(np.isin(held, wanted))
        if len(rows):
            parts.append(_take(chunk, held, values, rows))
    return _joined(parts) if parts else _nothing(pool, column)


def thin_picks(ids: NDArray[np.int64], seed: int, most: int) -> NDArray[np.int64]:
    """The `most` picks of lowest hash, ascending. Every round keeps the same share of its picks, on average."""
    hashes = item_uniform(derive(seed, "map"), ids)
    return np.sort(ids[np.argsort(hashes, kind="stable")[:most]])


def axes_sample(pool: Pool) -> int:
    """How many items of a pool have the axes of its maps."""
    return MAP_SAMPLE if pool.dim <= MAP_WIDTH else MAP_WIDTH


def map_axes(pool: Pool, seed: int, sample: Vectors | None = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The centre and the two principal axes of a uniform sample of a pool: the items of lowest hash.

    The axes are of the d x d moments of 4,000 items up to `MAP_WIDTH` numbers per vector, and of the m x m products of
    m = 2,048 items beyond: seconds at most.

    Args:
        pool: the items.
        seed: another seed gives another sample.
        sample: has the `axes_sample` items of lowest hash, as `sample_vectors` gives them for this seed; unless given
            it is taken, in one pass over the ids.

    Returns:
        As `principal_axes`.
    """
    most = axes_sample(pool)
    found = sample_vectors(pool, seed, most) if sample is None else sample
    rows = np.isin(found.ids, thin_picks(found.ids, seed, most))
    return principal_axes(found.vectors[rows].astype(np.float64))


def _items(chunk: Chunk, column: str | None) -> tuple[NDArray[np.int64], pa.ChunkedArray | None]:
    table = chunk.items(["id"] if column is None else ["id", column])
    return table["id"].to_numpy(), None if column is None else table[column]


def _take(chunk: Chunk, ids: NDArray[np.int64], values: pa.ChunkedArray | None, rows: NDArray[np.intp]) -> Vectors:
    column = None if values is None else tuple(_texts(values.take(pa.array(rows)).to_pylist()))
    return Vectors(ids=ids[rows], vectors=chunk.vectors()[rows].astype(np.float32), column=column)


def _texts(values: Sequence[object]) -> Iterator[str | None]:
    """The values as labels are spelled; what cannot be a label is shown as it is."""
    for value in values:
        try:
            yield label_text("column", value)
        except LabelError:
            yield str(value)


def _joined(parts: Sequence[Vectors]) -> Vectors:
    column = None
    if parts[0].column is not None:
        column = tuple(value for part in parts for value in part.column or ())
    return Vectors(
        ids=np.concatenate([part.ids for part in parts]),
        vectors=np.concatenate([part.vectors for part in parts]),
        column=column,
    )


def _lowest(kept: Sequence[tuple[NDArray[np.float64], Vectors]], most: int) -> tuple[NDArray[np.float64], Vectors]:
    """(hashes, items) of the `most` items of lowest hash."""
    hashes, all_of = np.concatenate([part for part, _ in kept]), _joined([part for _, part in kept])
    rows = np.sort(np.argsort(hashes, kind="stable")[:most])
    column = None if all_of.column is None else tuple(all_of.column[row] for row in rows)
    return hashes[rows], Vectors(ids=all_of.ids[rows], vectors=all_of.vectors[rows], column=column)


def _nothing(pool: Pool, column: str | None) -> Vectors:
    return Vectors(
        ids=np.empty(0, np.int64),
        vectors=np.empty((0, pool.dim), np.float32),
        column=None if column is None else (),
    )
