"""A pool in two dimensions: a uniform sample of its items and the picks, laid out by t-SNE."""

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
from raysal.rng import derive, item_uniform

SAMPLE_ITEMS = 2_500
"""Sampled items of the pool on a map."""
MAX_PICKS = 1_000
"""Picks on a map. With so many items and picks the layout takes 8 s on one core."""
TSNE_DIMENSIONS = 50
"""Principal components that t-SNE gets."""
MIN_TSNE_POINTS = 8
"""For fewer points t-SNE has too few neighbours."""


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


def lay_out(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lay out vectors in the unit square; the same points on every call.

    t-SNE (van der Maaten & Hinton, JMLR 2008) works on the first TSNE_DIMENSIONS principal components and starts from
    the first two. It runs on one thread: with several, the sums of its gradient depend on their number. Fewer than
    MIN_TSNE_POINTS vectors lie at their first two principal components.

    Args:
        vectors: [n, d].

    Returns:
        Points float32 [n, 2].
    """
    from threadpoolctl import threadpool_limits

    n = len(vectors)
    with threadpool_limits(1):
        components = _principal(vectors, TSNE_DIMENSIONS)
        if n < MIN_TSNE_POINTS or not components.any():
            return _unit_square(components[:, :2])
        from sklearn.manifold import TSNE

        model = TSNE(perplexity=min(30.0, (n - 1) / 4), init="pca", max_iter=600, random_state=0)
        return _unit_square(model.fit_transform(components))


def _principal(vectors: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    """The first principal components [n, m], 2 <= m <= `most`; zeros stand for those that do not exist."""
    from sklearn.decomposition import PCA

    n, dim = vectors.shape
    components = np.zeros((n, 2), np.float32)
    if n > 1 and np.ptp(vectors, axis=0).any():
        found = PCA(min(most, n, dim), random_state=0).fit_transform(vectors)
        components = np.zeros((n, max(2, found.shape[1])), np.float32)
        components[:, : found.shape[1]] = found
    return components


def _unit_square(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """The points with each axis spread over [0, 1]; a constant axis becomes 0.5."""
    if not len(points):
        return points
    low, high = points.min(axis=0), points.max(axis=0)
    span = np.where(high > low, high - low, 1)
    return np.where(high > low, (points - low) / span, 0.5).astype(np.float32)


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
