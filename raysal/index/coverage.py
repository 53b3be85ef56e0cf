"""What of a pool an index covers, and whether what was added still fits what it was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.index.files import TRAINED, Index
from raysal.index.kinds import CODED, lists_of, load_faiss, prepared, read_faiss, turned
from raysal.index.shards import intact
from raysal.pool import Pool
from raysal.pool.pool import Chunk

DRIFTED = 1.2
"""Quantisation error of new rows, relative to those trained on, from which an index is trained anew."""
CHUNKS, ROWS = 16, 1024
"""New chunks looked at for their drift, and rows of each: both spread evenly."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Chunks and rows of the pool that an index covers, and those it lacks: added or changed since it was built."""

    covered_chunks: int
    covered_rows: int
    missing: tuple[int, ...]
    missing_rows: int

    @property
    def stale(self) -> bool:
        """Whether a search by this index would miss items."""
        return bool(self.missing)


def vectors_sha256(chunk: Chunk) -> str:
    """The sha256 of a chunk's vectors, by its record."""
    return next(str(entry["sha256"]) for name, entry in chunk.files.items() if name.startswith("vectors/"))


def coverage(pool: Pool, index: Index) -> Coverage:
    """Which chunks of the pool the index has, by place and sha256. Reads no file."""
    known = index.chunks
    missing = [
        place
        for place, chunk in enumerate(pool.chunks)
        if chunk.rows and (place >= len(known) or known[place] != vectors_sha256(chunk))
    ]
    lost = sum(pool.chunks[place].rows for place in missing)
    return Coverage(
        covered_chunks=len(pool.chunks) - len(missing),
        covered_rows=len(pool) - lost,
        missing=tuple(missing),
        missing_rows=lost,
    )


def drift(pool: Pool, index: Index) -> float:
    """Mean quantisation error of rows the index lacks, relative to those it was trained on; 1.0 where nothing is
    missing or nothing is trained. Reads up to CHUNKS chunks.

    Raises:
        Damaged: the trained index, or a chunk, is not what was written.
    """
    missing = coverage(pool, index).missing
    if not missing or index.error is None:
        return 1.0
    trained = read_faiss(intact(index.path / TRAINED, index.trained, pool), mapped=False)
    some = [missing[place] for place in np.unique(np.linspace(0, len(missing) - 1, CHUNKS).astype(int))]
    errors = [np.empty(0)]
    for place in some:
        vectors = pool.chunks[place].vectors()
        rows = np.unique(np.linspace(0, len(vectors) - 1, ROWS).astype(int))
        errors.append(quantisation_errors(trained, prepared(vectors[rows], index.metric)))
    new = float(np.concatenate(errors).mean())
    if index.error == 0.0:  # every row trained on lay on a centroid
        return 1.0 if new == 0.0 else float("inf")
    return new / index.error


def quantisation_errors(trained: Any, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Squared distances [n] of prepared vectors [n, width] to the centroid of the list they would be put into."""
    faiss = load_faiss()
    inverted = lists_of(trained)
    centroids = faiss.downcast_index(inverted.quantizer).reconstruct_n(0, inverted.nlist)
    errors = np.empty(len(vectors))
    for start in range(0, len(vectors), CODED):
        _, some = turned(trained, vectors[start : start + CODED])
        _, nearest = inverted.quantizer.search(some, 1)
        gap = some.astype(np.float64) - centroids[nearest[:, 0]]
        errors[start : start + CODED] = (gap * gap).sum(1)
    return errors
