"""What comparing with few cells alone has found of what is near: counted on a sample of the items, exactly."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.curation.near.cells import Cells
from raysal.curation.near.job import shared_among
from raysal.curation.near.keeping import Kept
from raysal.curation.near.pairs import MOST_PAIRS, TooManyPairs, near_pairs_of
from raysal.curation.near.reading import cells_of, held_unit, let_go, open_once, rows_at, rows_of_unit
from raysal.curation.near.unit import Unit, radius_of
from raysal.fleet import Fleet, Partition
from raysal.fleet.chunks import in_turns
from raysal.models.intervals import wilson
from raysal.numerics import ceil_div, slices
from raysal.pool import Pool
from raysal.rng import derive, item_order
from raysal.types import Metric, Report, no_report

SAMPLE = 4096
"""Items that are looked at."""
FEW_ROWS = 256
"""Rows of the sample whose pairs with a unit are always few enough to be listed."""


@dataclass(frozen=True, kw_only=True)
class Recall:
    """Of the items of a sample that are near to an item kept before them, how many were dropped."""

    sample: int
    """items that were looked at"""
    near: int
    """those that are near to an item that is kept before them"""
    found: int
    """those of them that were dropped; the others are kept, though they are near to a kept one"""

    @property
    def share(self) -> float:
        """The recall; 1 where nothing is near."""
        return self.found / self.near if self.near else 1.0

    @property
    def interval(self) -> tuple[float, float]:
        """Where that of the whole pool lies, at 95 %."""
        return wilson(self.share, self.near, counted=True)

    def __str__(self) -> str:
        if not self.near:
            return f"none of a sample of {self.sample} is near to a kept one: the recall is not known"
        low, high = self.interval
        return (
            f"{self.share:.1%} of the items that are near to a kept one were found ({low:.1%} to {high:.1%}, "
            f"{self.near} in a sample of {self.sample})"
        )


class RecallJob(NamedTuple):
    """What travels to the partitions."""

    name: str
    """of the sample; workers hold its unit"""
    metric: Metric
    threshold: float
    cells: Cells

    def unit(self, pool: Pool, ids: NDArray[np.int64]) -> Unit:
        """Make a unit of some items, ascending."""
        radius = radius_of(self.threshold, self.metric)
        return Unit.together(*rows_at(pool, ids), self.metric, self.cells, radius)


def recall_of(
    pool: Pool,
    fleet: Fleet,
    threshold: float,
    items: NDArray[np.int64],
    kept: Kept,
    *,
    report: Report | None = None,
) -> Recall:
    """Look at a sample of the items, and compare those that are kept with all kept ones.

    All are compared with all, so that none is missed. O(s k d) for k kept items.

    Args:
        pool: the items.
        fleet: is over that pool.
        threshold: a cosine, or minus a squared distance.
        items: ids of the items, in the order of keeping.
        kept: what became of them.
        report: called with the stage, what of it is done, and its total.

    Returns:
        The recall. The sample depends on the ids of the items alone.
    """
    report = report or no_report
    sample = items[np.argsort(item_order(derive(0, "near recall"), items), kind="stable")[:SAMPLE]]
    dropped = ~kept.kept[np.searchsorted(kept.ids, sample)]
    open_, every = np.sort(sample[~dropped]), kept.ids[kept.kept]
    job = RecallJob(
        f"recall {sha256(open_.tobytes()).hexdigest()} {threshold}", pool.metric, threshold, cells_of(pool, 1)
    )
    rank = np.empty(len(items), np.int64)
    by_id = np.argsort(items)
    rank[:] = by_id
    pieces = max(ceil_div(len(every), rows_of_unit(pool)), 1)
    missed = np.empty(0, np.int64)
    turns = [*in_turns(shared_among([*enumerate(np.array_split(every, pieces))], fleet.size))]
    for number, turn in enumerate(turns):
        report("measure the recall", number, len(turns))
        fleet.reset()
        for ends in fleet.each(near_to_sample, job, open_, turn):
            later, before = (rank[np.searchsorted(items, ends[:, side], sorter=by_id)] for side in (0, 1))
            missed = np.union1d(missed, ends[later > before, 0])
    fleet.each(let_go)
    found = int(dropped.sum())
    return Recall(sample=len(sample), near=found + len(missed), found=found)


# A function of a partition.


def near_to_sample(
    partition: Partition,
    job: RecallJob,
    sample: NDArray[np.int64],
    turn: tuple[tuple[int, NDArray[np.int64]] | None, ...],
) -> NDArray[np.int64]:
    """Find the pairs of an item of a sample and one of a unit that are near.

    Args:
        partition: a worker. What rows it has does not matter.
        job: of the pool that the partition is of.
        sample: ids, ascending.
        turn: number and ids of the unit for each partition, or None.

    Returns:
        Ids [p, 2] of an item of the sample, and of another one or itself.
    """
    mine = turn[partition.index]
    if mine is None or not len(sample):
        return np.empty((0, 2), np.int64)
    pool = open_once(partition)
    right = held_unit(partition, (job.name, "sample"), lambda: job.unit(pool, sample))
    left = job.unit(pool, mine[1])
    threads = partition.spec.threads or torch.get_num_threads()

    def ends(some: Unit, most: int) -> NDArray[np.int64]:
        pairs = near_pairs_of(left, some, job.threshold, job.metric, threads=threads, most=most)
        both = np.stack([pairs.first, pairs.second], 1)
        every = np.concatenate([both, both[:, ::-1]])
        return every[np.isin(every[:, 0], sample)]

    try:
        return ends(right, MOST_PAIRS)
    except TooManyPairs:
        few = [right.only(np.arange(len(right))[part]) for part in slices(len(right), FEW_ROWS)]
        return np.concatenate([ends(some, len(some) * len(left)) for some in few])
