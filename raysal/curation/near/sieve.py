"""Which items are kept, without a list of near pairs: every item is compared with kept ones alone.

    items in order ──▶ a batch of those that are open ──▶ settle_batch ──▶ kept ones ──▶ every unit: nearest_in_unit
                               ▲                                                               │
                               └────────────── open: neither kept nor near to a kept one ◀─────┘

Within a batch the first items are compared with one another, then all others with those of them that are kept. What is
kept is the first independent set, as `raysal.curation.near.keeping` finds it from pairs; memory and files do not grow
with the pairs, so a group of a million jittered copies is as cheap as any. The price: another threshold or another
order of keeping computes it again.

The folder is one of `raysal.curation.near.going`; a step is a batch, of which it has the kept ones, and all items that
are near to one of them with the nearest.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.commits import Staged
from raysal.curation.near.cells import Cells
from raysal.curation.near.going import KeepingPlan, begun, parts_of, read, stage
from raysal.curation.near.job import shared_among
from raysal.curation.near.keeping import Kept
from raysal.curation.near.nearest import Nearest, nearest_of
from raysal.curation.near.reading import PLACED, cells_of, held_unit, let_go, open_once, rows_at, rows_of_unit
from raysal.curation.near.settling import Settled, settle
from raysal.curation.near.unit import Placing, Unit, radius_of
from raysal.fleet import Fleet, Partition
from raysal.fleet.chunks import in_turns
from raysal.numerics import ceil_div
from raysal.pool import Pool
from raysal.store import digest_of, locked, remove_temporaries
from raysal.types import Metric, Report, no_report


class SieveJob(NamedTuple):
    """What travels to the partitions."""

    name: str
    """of the plan; units that are held are of one"""
    metric: Metric
    threshold: float
    cells: Cells

    def unit(self, pool: Pool, ids: NDArray[np.int64], *, right: bool = True, placing: Placing | None = None) -> Unit:
        """Make a unit of some items; arguments as of `Unit.of`."""
        found, vectors = rows_at(pool, ids)
        return Unit.of(
            found,
            vectors,
            self.metric,
            self.cells,
            radius_of(self.threshold, self.metric),
            distinct=False,
            right=right,
            placing=placing,
        )


class Batch(NamedTuple):
    """Items that are settled together: ids [b], ascending, and the rank of each in the order of keeping."""

    ids: NDArray[np.int64]
    ranks: NDArray[np.int64]


def kept_without_pairs(
    pool: Pool,
    fleet: Fleet,
    folder: Path,
    threshold: float,
    items: NDArray[np.int64],
    *,
    unit_rows: int | None = None,
    report: Report | None = None,
) -> Kept:
    """Choose who is kept, comparing items with kept ones alone.

    Cost: at most the products of all items with the kept ones, O(n k d); bounds rule most of them out, as for near
    pairs. Driver memory 50 bytes an item; a worker holds `UNITS_HELD` units. Kept batch by batch: after an interruption
    it goes on with the next.

    Args:
        pool: the items.
        fleet: is over that pool.
        folder: of this computation; what is there of the same one is read, anything else of it is replaced.
        threshold: a cosine, or minus the squared distance of what the pool holds.
        items: ids [n] of those that are looked at, in the order of keeping.
        unit_rows: rows of a unit, at most; for tests.
        report: called with the stage, what of it is done, and its total.

    Returns:
        What became of each of the items, in order of id.

    Raises:
        RunError: another process is at work on the folder.
        Damaged: a file is not as it was written.
    """
    report = report or no_report
    folder.mkdir(parents=True, exist_ok=True)
    plan = KeepingPlan.of(pool, threshold, items, unit_rows or rows_of_unit(pool))
    with locked(folder, "comparison"):
        remove_temporaries(folder)
        made = begun(folder, plan, lambda: cells_of(pool))
        parts, state = parts_of(folder), _State(items)
        batches = 0
        while parts.record_of(batches).exists():
            state.take(*_read(folder, batches))
            batches += 1
        report("compare", state.closed, len(items))
        job = SieveJob(digest_of(asdict(plan)), plan.metric, threshold, made)
        units = [cut for cut in np.array_split(state.ids, max(ceil_div(len(items), plan.rows), 1)) if len(cut)]
        try:
            while state.closed < len(items):
                settled, found = _one_batch(fleet, job, state.next(plan.rows), units)
                parts.commit(_stage(folder, batches, settled, found))
                state.take(settled.kept, Nearest.joined([settled.dropped, found]))
                batches += 1
                report("compare", state.closed, len(items))
            if batches:
                fleet.each(let_go)
        finally:
            parts.remove_leftovers()
    return state.result(1.0 if pool.metric == "cosine" else 0.0)


class _State:
    """What is known of each item so far."""

    def __init__(self, items: NDArray[np.int64]) -> None:
        self.order = np.argsort(items)
        self.ids = items[self.order]
        self.at = np.empty(len(items), np.int64)
        """of each rank, where its item is among the ids"""
        self.at[self.order] = np.arange(len(items))
        self.open, self.kept = np.ones(len(items), bool), np.zeros(len(items), bool)
        self.nearest, self.value = np.full(len(items), -1), np.full(len(items), -np.inf)
        self.begin = 0

    @property
    def closed(self) -> int:
        """How many items are kept, or near to a kept one."""
        return len(self.open) - int(self.open.sum())

    def next(self, most: int) -> Batch:
        """The first items that are open."""
        ranks = self.begin + np.flatnonzero(self.open[self.at[self.begin :]])[:most]
        self.begin = int(ranks[0])
        ids = self.ids[self.at[ranks]]
        by_id = np.argsort(ids)
        return Batch(ids[by_id], ranks[by_id])

    def take(self, kept: NDArray[np.int64], found: Nearest) -> None:
        """Take over what was found of a batch."""
        own = np.searchsorted(self.ids, kept)
        self.kept[own], self.open[own] = True, False
        rows = np.searchsorted(self.ids, found.ids)
        before = self.value[rows]
        nearer = (found.similarity > before) | ((found.similarity == before) & (found.nearest < self.nearest[rows]))
        self.nearest[rows[nearer]], self.value[rows[nearer]] = found.nearest[nearer], found.similarity[nearer]
        self.open[rows] = False

    def result(self, same: float) -> Kept:
        nearest, value = np.where(self.kept, self.ids, self.nearest), np.where(self.kept, same, self.value)
        return Kept(self.ids, self.kept, nearest, value)


def _one_batch(fleet: Fleet, job: SieveJob, batch: Batch, units: list[NDArray[np.int64]]) -> tuple[Settled, Nearest]:
    """Settle a batch, and find all items that are near to what is kept of it."""
    fleet.reset()  # a worker that died makes up for one call
    settled = fleet.each(settle_batch, job, batch)[0]
    assert settled is not None
    found = []
    for turn in in_turns(shared_among([*enumerate(units)], fleet.size)):
        fleet.reset()
        found += [nearest for nearest in fleet.each(nearest_in_unit, job, settled.kept, turn) if nearest is not None]
    return settled, Nearest.joined(found)


def _stage(folder: Path, number: int, settled: Settled, found: Nearest) -> Staged:
    near = Nearest.joined([settled.dropped, found])
    columns = {
        "id": np.concatenate([settled.kept, near.ids]),
        "nearest": np.concatenate([settled.kept, near.nearest]),
        "similarity": np.concatenate([np.ones(len(settled.kept)), near.similarity]),
        "kept": np.repeat(np.array([1, 0], np.int8), [len(settled.kept), len(near.ids)]),
    }
    return stage(folder, number, columns)


def _read(folder: Path, number: int) -> tuple[NDArray[np.int64], Nearest]:
    ids, nearest, similarity, kept = read(folder, number, "id", "nearest", "similarity", "kept")
    near = kept == 0
    return ids[~near], Nearest(ids[near], nearest[near], similarity[near])


# Functions of a partition.


def settle_batch(partition: Partition, job: SieveJob, batch: Batch) -> Settled | None:
    """Choose who is kept among the items of a batch. None of them is near to an item that is kept before.

    Args:
        partition: the first one does it. What rows it has does not matter.
        job: of the pool that the partition is of.
        batch: the items.

    Returns:
        What became of each; None on other partitions.
    """
    if partition.index:
        return None
    unit = job.unit(open_once(partition), batch.ids)
    threads = partition.spec.threads or torch.get_num_threads()
    in_order = np.argsort(batch.ranks[np.searchsorted(batch.ids, unit.ids)])
    return settle(unit, in_order, job.threshold, job.metric, threads=threads)


def nearest_in_unit(
    partition: Partition,
    job: SieveJob,
    kept: NDArray[np.int64],
    turn: tuple[tuple[int, NDArray[np.int64]] | None, ...],
) -> Nearest | None:
    """Find the items of a unit that are near to one of those that a batch has kept.

    Args:
        partition: a worker. What rows it has does not matter.
        job: of the pool that the partition is of.
        kept: ids of what the batch has kept, ascending.
        turn: number and ids of the unit for each partition, or None.

    Returns:
        The items with the nearest kept one; None where there was nothing to do.
    """
    mine = turn[partition.index]
    if mine is None:
        return None
    number, ids = mine
    pool = open_once(partition)
    placed: dict[tuple[str, int], Placing] = partition.held.setdefault(PLACED, {})
    name = (job.name, number)

    def left_unit() -> Unit:
        unit = job.unit(pool, ids, right=False, placing=placed.get(name))
        placed[name] = unit.placing
        return unit

    right = held_unit(partition, (job.name, "kept", int(kept[0])), lambda: job.unit(pool, kept))
    left = held_unit(partition, name, left_unit)
    threads = partition.spec.threads or torch.get_num_threads()
    return nearest_of(left, right, job.threshold, job.metric, threads=threads)
