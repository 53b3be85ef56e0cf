"""Probabilities from outside, laid beside the vectors of a pool while a check of labels runs.

A table of them may have its rows in any order. It is read once, piece by piece, and written row by row where the items
are, as float32 [N, C] in order of id. Partitions map that file as they map vectors, and read it block by block. So no
process holds the table.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.curation.labels.base import Floats
from raysal.errors import PoolError
from raysal.fleet import Partition
from raysal.numerics import BLOCK_ROWS, slices
from raysal.paths import with_home
from raysal.pool import Pool
from raysal.pool.lanes import text_hashes_128
from raysal.prediction.files import Plan
from raysal.rounds.probability_tables import FIELD, open_table, refuse_absent, refuse_twice
from raysal.store import digest_of, remove_temporaries, sha256_of, write_file

FILE = "probabilities.f32"
"""In the folder of the step."""
STATE = "probabilities from outside"
"""Name in the state of a partition: float32 [n, C], NaN in rows that have none; mapped, and not read."""


class Outside(NamedTuple):
    """Probabilities that are laid beside a pool; it travels to the partitions."""

    path: str
    classes: tuple[str, ...]
    """[C]"""


def digest_of_outside(given: Path) -> str:
    """What says whether probabilities are the same: of the bytes of a file, or of what a folder of predictions is of.

    Args:
        given: the file or folder.

    Returns:
        The digest.

    Raises:
        ConfigError: it is not there, or no table of probabilities.
        PoolError, Damaged: a folder holds no predictions, or damaged ones.
    """
    path = with_home(given)
    open_table(path)
    return digest_of(asdict(Plan.read(path))) if path.is_dir() else sha256_of(path)


@contextlib.contextmanager
def laid_beside(pool: Pool, given: Path, folder: Path) -> Iterator[Outside]:
    """Lay probabilities beside a pool.

    Cost: one pass over the keys of the pool, one over the table, one over the file, 4 N C bytes. Memory: a piece of the
    table, 40 bytes for each item.

    Args:
        pool: whose items the keys name.
        given: a file, or a folder of predictions.
        folder: where the file is written, by one process at a time. All partitions must see it, as they see the pool.

    Yields:
        Where they are; the file is deleted afterwards.

    Raises:
        ConfigError: the table cannot be read; a key is missing, twice or not in the pool; or the numbers of an item are
            no probabilities. It names the items.
        PoolError, Damaged: a folder holds no predictions, or damaged ones.
        OSError: the disk is full, or cannot be written.
    """
    path = folder / FILE
    table = open_table(given)

    def write(temporary: Path) -> None:
        places = _Places(pool)
        seen = np.zeros(places.count, bool)
        held = _made(temporary, places.count, len(table.classes))
        for keys, values in table.pieces:
            at = places.of(keys)
            refuse_absent(pool, keys.filter(pa.array(at < 0)).to_pylist())
            own, first = np.unique(at, return_index=True)
            again = np.setdiff1d(np.arange(len(at)), first[~seen[own]])
            refuse_twice(list(dict.fromkeys(keys.take(pa.array(again)).to_pylist())))
            held[at], seen[at] = values, True
        for some in slices(len(seen), BLOCK_ROWS):
            held[some][~seen[some]] = np.nan

    remove_temporaries(folder, FILE)  # of a process that was killed: as large as the table
    try:
        write_file(path, write)
        yield Outside(str(path.absolute()), table.classes)
    finally:
        path.unlink(missing_ok=True)


def _made(path: Path, rows: int, columns: int) -> Floats:
    """A file of numbers [rows, columns], mapped to be written. Its room is taken now, as maps have no errors."""
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(4 * rows * columns, 1))
    return np.memmap(path, np.float32, "r+", shape=(rows, columns)) if rows else np.empty((0, columns), np.float32)


class _Places:
    """Where the items of a pool stand, in order of id, by key. 24 bytes an item, 40 while it is made."""

    def __init__(self, pool: Pool) -> None:
        hashes = np.empty((len(pool), 2), np.uint64)
        done = 0
        for items in pool.items(["key"]):
            for keys in items["key"].chunks:
                hashes[done : done + len(keys)] = text_hashes_128(keys.cast(pa.string()))
                done += len(keys)
        self.count = len(hashes)
        self.order: NDArray[np.int64] = np.lexsort((hashes[:, 1], hashes[:, 0]))
        self.first, self.second = hashes[self.order, 0], hashes[self.order, 1]

    def of(self, keys: pa.Array) -> NDArray[np.int64]:
        """The positions [n] of keys, -1 for those that the pool does not have."""
        found = np.full(len(keys), -1, np.int64)
        hashes = text_hashes_128(keys)
        at = np.searchsorted(self.first, hashes[:, 0])
        left = np.arange(len(keys))
        while True:  # more than once where two keys have the same first half, which is next to never
            left = left[at[left] < self.count]
            left = left[self.first[at[left]] == hashes[left, 0]]
            if not len(left):
                return found
            same = self.second[at[left]] == hashes[left, 1]
            found[left[same]] = self.order[at[left[same]]]
            left = left[~same]
            at[left] += 1


# Functions of a partition.


def place_outside(partition: Partition, outside: Outside) -> None:
    """Map the probabilities of the rows that live here, for the rest of the program.

    Args:
        partition: where they live.
        outside: as `laid_beside` gives it.

    Raises:
        PoolError: the file is not on this machine.
    """
    start, columns = partition.spec.start, len(outside.classes)
    shape = (len(partition), columns)
    try:
        held = np.memmap(outside.path, np.float32, "r", offset=4 * start * columns, shape=shape) if shape[0] else None
    except FileNotFoundError:
        fix = "keep the pool on a disk that all machines see, or work on one machine"
        raise PoolError(outside.path, f"the {FIELD} are not there on this machine", fix) from None
    partition.state[STATE] = np.empty(shape, np.float32) if held is None else held


def outside_blocks(partition: Partition, rows: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Floats]]:
    """The probabilities of some rows, block by block.

    Args:
        partition: where; `place_outside` has run there.
        rows: ascending positions.

    Yields:
        (positions [n], probabilities [n, C]); items without any are left out.
    """
    held: Floats = partition.state[STATE]
    for piece in slices(len(rows), BLOCK_ROWS):
        p = np.asarray(held[rows[piece]])
        there = ~np.isnan(p).all(1)
        yield rows[piece][there], p[there]
