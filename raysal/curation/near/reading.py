"""What of a pool is compared together: ranges of its ids, some of its items, and a sample to cluster."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

import numpy as np
from numpy.typing import NDArray

from raysal.curation.near.cells import Cells
from raysal.curation.near.unit import Unit, compared_rows
from raysal.fleet import Partition
from raysal.numerics import ceil_div
from raysal.pool import Pool
from raysal.rng import derive, item_order

UNIT_NUMBERS = 2**25
"""Numbers in the vectors of a unit, about: 131,072 rows of 256. A unit takes some 300 MB, and a worker holds two to
`UNITS_HELD`."""
UNIT_CELLS = 512
"""Cells, at most: 256 rows of a unit in each, which is about where products reach their speed."""
ROWS_A_CELL = 64
"""Rows of the sample for each cell."""
UNITS_HELD = 4
"""Units that a worker keeps, because the next pairs of units need them too."""
HELD = "units of near pairs"
PLACED = "placing of units"


def rows_of_unit(pool: Pool) -> int:
    """How many rows a unit of a pool has, about."""
    return ceil_div(UNIT_NUMBERS, pool.dim)


def cuts_between(start: int, stop: int, rows: int) -> list[int]:
    """Where units from one id to another end: near-equal ones of at most so many."""
    count = ceil_div(stop - start, rows)
    return [start + (stop - start) * place // count for place in range(1, count + 1)]


def sample_of(pool: Pool, most: int) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
    """Some items of a pool, the same however it is cut into chunks. One look at the ids, O(n).

    Args:
        pool: the items.
        most: how many, if it has as many.

    Returns:
        Ids [m], ascending, and vectors [m, d].
    """
    chosen = np.empty(0, np.int64)
    for chunk in pool.chunks:
        chosen = np.concatenate([chosen, chunk.ids()])
        if len(chosen) > most:
            order = item_order(derive(0, "near sample"), chosen)
            chosen = chosen[np.argpartition(order, most)[:most]]
    chosen.sort()
    return rows_at(pool, chosen)


def cells_of(pool: Pool, count: int = UNIT_CELLS) -> Cells:
    """Cells of a sample of a pool, the same however it is cut into chunks.

    Args:
        pool: the items.
        count: of cells, at most.

    Returns:
        The cells.
    """
    _, vectors = sample_of(pool, count * ROWS_A_CELL)
    sample = compared_rows(vectors, pool.metric) if len(vectors) else np.zeros((1, pool.dim), np.float32)
    return Cells.of(sample, min(count, ceil_div(len(sample), ROWS_A_CELL)), derive(0, "near cells"))


def rows_between(pool: Pool, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
    """The items of a pool whose ids are in a range.

    Args:
        pool: the items.
        start: the first id.
        stop: the id after the last one.

    Returns:
        Their ids [n], ascending, and their vectors [n, d].
    """
    ids, vectors = [np.empty(0, np.int64)], [np.empty((0, pool.dim), np.float16)]
    firsts = [record["first_id"] for record in pool.records]
    for chunk, first, after in zip(pool.chunks, firsts, [*firsts[1:], pool.next_id], strict=True):
        if first < stop and after > start:
            own = chunk.ids()
            low, high = np.searchsorted(own, [start, stop])
            ids.append(own[low:high])
            vectors.append(chunk.vectors()[low:high])
    return np.concatenate(ids), np.concatenate(vectors)


def rows_at(pool: Pool, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
    """Some items of a pool.

    Args:
        pool: the items.
        ids: of which ones, ascending. Those that it does not have are passed over.

    Returns:
        The ids that it has [n], and their vectors [n, d].
    """
    found, vectors = [np.empty(0, np.int64)], [np.empty((0, pool.dim), np.float16)]
    firsts = [record["first_id"] for record in pool.records]
    bounds = np.searchsorted(ids, [*firsts, pool.next_id])
    for place in np.flatnonzero(np.diff(bounds)).tolist():
        chunk = pool.chunks[place]
        own = chunk.ids()
        wanted = ids[bounds[place] : bounds[place + 1]]
        rows = np.searchsorted(own, wanted)
        rows = rows[own[rows.clip(max=max(len(own) - 1, 0))] == wanted] if len(own) else rows[:0]
        found.append(own[rows])
        vectors.append(chunk.vectors()[rows])
    return np.concatenate(found), np.concatenate(vectors)


def open_once(partition: Partition) -> Pool:
    """The pool of a partition, opened once."""
    if "pool" not in partition.held:
        partition.held["pool"] = partition.spec.open_pool()
    pool: Pool = partition.held["pool"]
    return pool


def held_unit(partition: Partition, name: Hashable, make: Callable[[], Unit]) -> Unit:
    """A unit, made once as long as it is among the last that were used.

    Args:
        partition: that holds it.
        name: which unit of what.
        make: makes it.

    Returns:
        The unit.
    """
    held: OrderedDict[Hashable, Unit] = partition.held.setdefault(HELD, OrderedDict())
    if name not in held:
        while len(held) >= UNITS_HELD:
            held.popitem(last=False)
        held[name] = make()
    held.move_to_end(name)
    return held[name]


def let_go(partition: Partition) -> None:
    """Forget the units.

    Args:
        partition: a worker.
    """
    partition.held.pop(HELD, None)
    partition.held.pop(PLACED, None)
