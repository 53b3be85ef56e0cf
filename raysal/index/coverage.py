"""Which chunks of a pool an index covers, and how far the rows added since lie from those it was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.index.files import TRAINED, Index
from raysal.index.kinds import CODE_ROWS, apply_rotation, inverted_lists, load_faiss, prepare_vectors, read_faiss
from raysal.index.shards import verified_path
from raysal.pool import Pool
from raysal.pool.chunk import Chunk

MAX_DRIFT = 1.2
"""From this drift on an index is trained anew: the quantisation error of new rows, relative to those trained on."""
DRIFT_CHUNKS = 16
"""New chunks that are read to measure the drift, spread evenly."""
DRIFT_ROWS = 1024
"""Rows of each that are used, spread evenly."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What an index covers of its pool. A missing chunk was added or changed after the index was built."""

    covered_rows: int
    missing: tuple[int, ...]
    """places of the missing chunks in the pool"""
    missing_rows: int

    @property
    def stale(self) -> bool:
        """Whether a search by this index would miss items."""
        return bool(self.missing)


def vectors_sha256(chunk: Chunk) -> str:
    """The sha256 of a chunk's vectors, as its record says."""
    return next(str(entry["sha256"]) for name, entry in chunk.files.items() if name.startswith("vectors/"))


def coverage(pool: Pool, index: Index) -> Coverage:
    """Compare an index with its pool, chunk by chunk, by place and sha256. Reads no file.

    Args:
        pool: the pool as it is now.
        index: its index.

    Returns:
        What the index covers and lacks.
    """
    known = index.chunks
    missing = [
        place
        for place, chunk in enumerate(pool.chunks)
        if chunk.rows and (place >= len(known) or known[place] != vectors_sha256(chunk))
    ]
    lost = sum(pool.chunks[place].rows for place in missing)
    return Coverage(
        covered_rows=len(pool) - lost,
        missing=tuple(missing),
        missing_rows=lost,
    )


def drift(pool: Pool, index: Index) -> float:
    """Measure how far the missing rows lie from their centroids. Reads up to DRIFT_CHUNKS chunks.

    Args:
        pool: the pool as it is now.
        index: its index.

    Returns:
        The mean quantisation error of missing rows, relative to that of the rows trained on; 1.0 where no row is
        missing or the kind is not trained.

    Raises:
        Damaged: the trained index, or a chunk, is not as it was written.
    """
    missing = coverage(pool, index).missing
    if not missing or index.error is None:
        return 1.0
    trained = read_faiss(verified_path(index.path / TRAINED, index.trained, pool), mapped=False)
    some = [missing[place] for place in np.unique(np.linspace(0, len(missing) - 1, DRIFT_CHUNKS).astype(int))]
    errors = [np.empty(0)]
    for place in some:
        vectors = pool.chunks[place].vectors()
        rows = np.unique(np.linspace(0, len(vectors) - 1, DRIFT_ROWS).astype(int))
        errors.append(quantisation_errors(trained, prepare_vectors(vectors[rows], index.metric)))
    new = float(np.concatenate(errors).mean())
    if index.error == 0.0:  # each row trained on was equal to a centroid
        return 1.0 if new == 0.0 else float("inf")
    return new / index.error


def quantisation_errors(trained: Any, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Measure how far vectors lie from their centroids.

    Args:
        trained: a trained index with inverted lists.
        vectors: float32 [n, width], from `prepare_vectors`.

    Returns:
        Squared distances float64 [n] to the centroid of the list that each would be put into.
    """
    faiss = load_faiss()
    inverted = inverted_lists(trained)
    centroids = faiss.downcast_index(inverted.quantizer).reconstruct_n(0, inverted.nlist)
    errors = np.empty(len(vectors))
    for start in range(0, len(vectors), CODE_ROWS):
        _, some = apply_rotation(trained, vectors[start : start + CODE_ROWS])
        _, nearest = inverted.quantizer.search(some, 1)
        gap = some.astype(np.float64) - centroids[nearest[:, 0]]
        errors[start : start + CODE_ROWS] = (gap * gap).sum(1)
    return errors
