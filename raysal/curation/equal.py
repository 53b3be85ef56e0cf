"""Items that are equal to others: by the bytes of their files, or by their vectors.

Equal is as good as a group: items that are equal to one another, also through others, are copies of one thing.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b, sha256

import numpy as np
from numpy.typing import NDArray

from raysal.curation.near.keeping import Kept
from raysal.embedding.file_hashes import recorded_digests
from raysal.fleet import Fleet, Partition
from raysal.numerics import slices
from raysal.pool import Pool
from raysal.pool.owners import has_parts
from raysal.pool.taken_files import KnownFiles
from raysal.types import Report, no_report

DIGEST = 16
"""Bytes of the digest of a vector: of 10 billion, two unlike ones share one with a probability of 1e-19."""
ROWS_AT_ONCE = 2**16
BYTES, VECTOR, THROUGH = range(3)
REASONS = (
    "its file has the bytes of a kept item's file",
    "its vector is that of a kept item",
    "equal to another copy of a kept item",
)
"""Why an item was dropped, by number."""
NO_HASHES = (
    "bytes of files were not compared: the pool has no digests of them; "
    "`raysal embed SOURCE --out POOL --check hash` keeps them"
)
PARTS = "bytes of files were not compared: the items are parts of files"
MANY_IN_A_FILE = "bytes of files were not compared: no file holds one item alone"


@dataclass(frozen=True, kw_only=True)
class Equal:
    """Groups of equal items."""

    ids: NDArray[np.int64]
    """[n], ascending"""
    nearest: NDArray[np.int64]
    """[n], the item of the group that is kept"""
    reason: NDArray[np.uint8]
    """[n], of a dropped one: which of `REASONS`"""
    same_vector: NDArray[np.bool_]
    """[n], whether it has the vector of the one that is kept"""
    notes: tuple[str, ...]
    """what was not compared, and why"""

    def kept(self, pool: Pool) -> Kept:
        """What became of each item; the similarity to a kept one whose vector is another is NaN."""
        kept = self.nearest == self.ids
        same = 1.0 if pool.metric == "cosine" else 0.0
        value = np.where(kept | self.same_vector, same, np.nan)
        return Kept(self.ids, kept, self.nearest, value)


def find_equal(pool: Pool, fleet: Fleet, items: NDArray[np.int64], *, report: Report | None = None) -> Equal:
    """Find items that are equal, and keep the first of each group.

    Bytes are those of a file that holds one item alone: two rows of one table have one file, and are not equal for
    that; nor are parts, as boxes of two copies of a picture. Vectors are equal if all their numbers are, as the pool
    holds them.

    Cost: one pass over the vectors, about 1 s a million of 256 numbers, also where all are equal. Memory of the driver:
    100 bytes an item.

    Args:
        pool: the items.
        fleet: is over that pool.
        items: ids [n] of those that are looked at, in the order of keeping.
        report: called with the stage, what of it is done, and its total.

    Returns:
        The groups.

    Raises:
        Damaged: a file is not as it was written.
    """
    report = report or no_report
    report("look for equal items", 0, len(items))
    fleet.reset()
    digests = np.concatenate([np.empty((0, 2), np.uint64), *fleet.each(vector_digests)])
    rank = np.argsort(items)
    ids = items[rank]
    every = np.concatenate([np.empty(0, np.int64), *(chunk.ids() for chunk in pool.chunks)])
    vectors = _classes(digests[np.searchsorted(every, ids)])
    files, notes = _classes_of_bytes(pool, ids)
    groups = vectors if files is None else _joined(vectors, files)
    best = np.full(int(groups.max()) + 1 if len(groups) else 0, len(ids))
    np.minimum.at(best, groups, rank)
    kept = np.searchsorted(ids, items[best])[groups]
    same_vector = vectors == vectors[kept]
    reason = np.where(same_vector, VECTOR, THROUGH).astype(np.uint8)
    if files is not None:
        reason[files == files[kept]] = BYTES
    report("look for equal items", len(items), len(items))
    return Equal(ids=ids, nearest=ids[kept], reason=reason, notes=notes, same_vector=same_vector)


def _classes(digests: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Numbers of equal digests [n, 2], the same for the same."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    differs = (np.diff(digests[order].astype(np.uint64), axis=0) != 0).any(1)
    classes = np.empty(len(digests), np.int64)
    classes[order] = np.concatenate([[0], np.cumsum(differs)])[: len(digests)]
    return classes


def _classes_of_bytes(pool: Pool, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """Numbers of equal bytes, another one for each item whose bytes are not known; None with the reason if no one's."""
    if has_parts(pool):
        return None, (PARTS,)
    known = KnownFiles(pool.path, pool.generation)
    digests, has = recorded_digests(pool.path, known)
    if not has.any():
        return None, (NO_HASHES,)
    begins, ends, owners = known.runs_of(np.arange(len(known)))
    alone = np.bincount(owners, weights=ends - begins, minlength=len(known)) == 1
    place = known.file_of(ids)
    place = np.where((place >= 0) & has[place] & alone[place], place, -1)
    if (place < 0).all():
        return None, (MANY_IN_A_FILE,)
    words = np.zeros((len(ids), 4), np.uint64)
    words[place >= 0] = np.ascontiguousarray(digests[place[place >= 0]]).view(np.uint64)
    halves = _classes(words[:, :2]), _classes(words[:, 2:])  # a digest of 32 bytes is two of 16
    classes = _classes(np.stack(halves, 1).astype(np.uint64)) + len(ids)
    classes[place < 0] = np.flatnonzero(place < 0)
    missing = int((place < 0).sum())
    notes = (f"bytes of {missing} items were not compared: their files are not known, or hold several",)
    return classes, notes if missing else ()


def digest_of_files(pool: Pool) -> str | None:
    """What a pool knows of the bytes of its files. Memory: 40 bytes a file.

    Args:
        pool: the items.

    Returns:
        A sha256; None where no bytes are compared.

    Raises:
        Damaged: the table of the digests cannot be read.
    """
    if has_parts(pool):
        return None
    digests, has = recorded_digests(pool.path, KnownFiles(pool.path, pool.generation))
    return sha256(np.packbits(has).tobytes() + digests[has].tobytes()).hexdigest() if has.any() else None


def _joined(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of groups [n]: of items that share a number of the one or of the other, also through others. O(n)."""
    group, before = np.arange(len(one)), np.empty(0, np.int64)
    while not np.array_equal(group, before):
        before = group
        for classes in (one, other):
            least = np.full(int(classes.max(initial=-1)) + 1, len(one))
            np.minimum.at(least, classes, group)
            group = least[classes]
        group = group[group]  # so that a long chain takes few turns
    return np.asarray(np.unique(group, return_inverse=True)[1])


# A function of a partition.


def vector_digests(partition: Partition) -> NDArray[np.uint64]:
    """Digests of the vectors of a partition. O(n d).

    Args:
        partition: the rows.

    Returns:
        [n, 2]. Equal vectors have equal ones; 0 and -0 are equal.
    """
    found = [np.empty((0, 2), np.uint64)]
    for part in slices(len(partition), ROWS_AT_ONCE):
        bits = partition.gather(np.arange(part.start, part.stop)).view(np.uint16)
        bits[bits == 1 << 15] = 0  # minus zero
        data, width = bits.tobytes(), 2 * bits.shape[1]
        digests = (blake2b(data[at : at + width], digest_size=DIGEST).digest() for at in range(0, len(data), width))
        found.append(np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2))
    return np.concatenate(found)
