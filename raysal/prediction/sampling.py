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


class Lowest:
    """The ids of lowest hash among those that are given chunk by chunk: a uniform sample. Memory for twice the sample.

    The sample depends on the seed and the ids alone, not on how they are cut. Every round keeps the same share of its
    picks, on average.
    """

    def __init__(self, seed: int, most: int) -> None:
        """Nothing yet.

        Args:
            seed: another seed gives another sample.
            most: how many; all ids where fewer are given.
        """
        self._key, self._most = derive(seed, "map"), most
        self._ids, self._hashes = np.empty(0, np.int64), np.empty(0)
        self._above = 1.0

    def add(self, ids: NDArray[np.int64]) -> None:
        """Take in more ids, none of which was there."""
        hashes = item_uniform(self._key, ids)
        rows = hashes <= self._above
        self._ids, self._hashes = np.append(self._ids, ids[rows]), np.append(self._hashes, hashes[rows])
        if len(self._ids) >= 2 * self._most:
            self._keep_lowest()

    def _keep_lowest(self) -> None:
        if len(self._ids) > self._most:
            rows = np.sort(np.argsort(self._hashes, kind="stable")[: self._most])
            self._ids, self._hashes = self._ids[rows], self._hashes[rows]
            self._above = float(self._hashes.max(initial=0))

    @property
    def ids(self) -> NDArray[np.int64]:
        """Those of lowest hash so far, ascending."""
        self._keep_lowest()
        return np.sort(self._ids)


def sample_vectors(pool: Pool, seed: int, most: int, column: str | None = None) -> Vectors:
    """Take a uniform sample of a pool: the items of lowest hash. Two passes over the ids; memory for twice the sample.

    Args:
        pool: the items.
        seed: another seed gives another sample.
        most: how many; all items where the pool has fewer.
        column: a carried column to read, too.

    Returns:
        The sampled items.
    """
    lowest = Lowest(seed, most)
    for table in pool.items(["id"]):
        lowest.add(table["id"].to_numpy())
    return vectors_by_id(pool, lowest.ids, column)


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
    """The `most` picks of lowest hash, ascending."""
    lowest = Lowest(seed, most)
    lowest.add(ids)
    return lowest.ids


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
            it is taken, in two passes over the ids.

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


def _nothing(pool: Pool, column: str | None) -> Vectors:
    return Vectors(
        ids=np.empty(0, np.int64),
        vectors=np.empty((0, pool.dim), np.float32),
        column=None if column is None else (),
    )
