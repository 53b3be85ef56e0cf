"""The near pairs of a whole pool: what is missing of them is found beside the data, on any fleet; the rest is read.

    sample ──▶ cells ──▶ for each pair of units: stage_unit_pair ──▶ pairs

A unit is a range of ids that fits into memory. Each partition is a worker that takes pairs of units, and reads their
vectors from the pool itself. The driver commits. What is found depends on the vectors alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from raysal.commits import Staged
from raysal.curation.near.cells import Cells
from raysal.curation.near.folder import (
    CELLS,
    PLAN,
    NearPlan,
    UnitPair,
    parts_of,
    read_cells,
    stage_pairs,
    unit_pairs,
    write_cells,
)
from raysal.curation.near.pairs import MOST_PAIRS, TooManyPairs, near_pairs_of
from raysal.curation.near.reading import (
    UNITS_HELD,
    cells_of,
    cuts_between,
    held_unit,
    let_go,
    open_once,
    rows_between,
    rows_of_unit,
    sample_of,
)
from raysal.curation.near.unit import Unit, radius_of
from raysal.errors import Damaged
from raysal.fleet import Fleet, Partition
from raysal.fleet.chunks import in_turns
from raysal.pool import Pool
from raysal.store import locked, remove_temporaries
from raysal.strategies.engine.distinct import distinct_rows
from raysal.types import Report, no_report

PAIRS_AN_ITEM = 64
"""Near pairs for each item that are listed, at most."""
FEWEST_MOST, MOST_IN_ALL = 2**22, 2**27
"""Bounds on how many pairs are listed of a whole pool: 100 MB on the disk, and 3 GB."""
LOOKED_AT = 2**13
"""Items of the sample by which the number of pairs is foreseen."""
FEWEST_SEEN = 32
"""Pairs of the sample below which it says little."""
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class NearReport:
    """What a job did."""

    plan: NearPlan
    found: int
    """pairs of units that were compared by this job; 0 where all were there"""
    pairs: int
    """near pairs in the folder, between items of different vectors"""


class Told(Enum):
    """What a worker says in place of what it wrote."""

    nothing = "there was nothing to do"
    too_many = "more pairs are near than are listed"


class NearJob(NamedTuple):
    """What travels to the partitions."""

    folder: str
    plan: NearPlan
    cells: Cells


def pairs_are_there(pool: Pool, folder: Path, threshold: float) -> bool:
    """Whether all pairs of a pool at a threshold were found before, so that nothing need be compared."""
    plan = NearPlan.read(folder)
    known = plan is not None and not plan.too_many and plan.threshold <= threshold and plan.pool == pool.fingerprint
    return plan is not None and known and not parts_of(folder).missing(plan.parts)


def most_pairs(items: int) -> int:
    """How many near pairs of so many items are listed, at most."""
    return min(max(PAIRS_AN_ITEM * items, FEWEST_MOST), MOST_IN_ALL)


def find_near_pairs(
    pool: Pool,
    fleet: Fleet,
    folder: Path,
    threshold: float,
    *,
    unit_rows: int | None = None,
    report: Report | None = None,
) -> NearReport:
    """Find all pairs of a pool that are at least as similar as a threshold, or what is missing of them.

    Cost: a share of the products of all pairs, O(n^2 d), that falls with the threshold (6 to 16 % of real images at
    cosines of 0.95 and 0.9); nothing where a folder of the same or a lower threshold is there; the new with all where
    the pool grew. Memory of the driver: some numbers for each pair of units; of a worker `UNITS_HELD` units.

    Args:
        pool: the items.
        fleet: is over that pool.
        folder: what is there is read, what is missing is added. It holds pairs of removed items, too.
        threshold: a cosine, or minus the squared distance of what the pool holds.
        unit_rows: rows of a unit, about; for tests.
        report: called with the stage, what of it is done, and its total.

    Returns:
        What was done; the plan's threshold may be lower than the one asked for.

    Raises:
        TooManyPairs: more are near than `most_pairs`, or a sample says so.
        RunError: another process is at work on the folder.
        Damaged: a file is not as it was written.
    """
    report = report or no_report
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, "near pairs"):
        remove_temporaries(folder)
        plan = _begun(pool, folder, threshold, unit_rows or rows_of_unit(pool))
        parts = parts_of(folder)
        missing = set(parts.missing(plan.parts))
        work = [pair for pair in unit_pairs(plan.units, UNITS_HELD // 2) if pair.number in missing]
        done, pairs, most = plan.parts - len(work), sum(parts.committed(plan.parts).values()), most_pairs(len(pool))
        report("compare", done, plan.parts)
        try:
            if work:
                job = NearJob(str(folder.absolute()), plan, read_cells(folder, plan.cells))
                for turn in in_turns(shared_among(work, fleet.size)):
                    fleet.reset()  # a worker that died makes up for one call
                    for staged in fleet.each(stage_unit_pair, job, turn):
                        if isinstance(staged, Staged):
                            parts.commit(staged)
                            done, pairs = done + 1, pairs + staged.rows
                        if staged is Told.too_many or pairs > most:
                            _give_up(folder, plan)
                    report("compare", done, plan.parts)
                fleet.each(let_go)
        finally:
            parts.remove_leftovers()
    return NearReport(plan=plan, found=len(work), pairs=pairs)


def _begun(pool: Pool, folder: Path, threshold: float, unit_rows: int) -> NearPlan:
    """The plan of a folder that holds what is asked for, extended to a pool that grew; or a new one."""
    plan = NearPlan.read(folder)
    same = plan is not None and plan.vector_space == pool.vector_space and plan.metric == pool.metric
    if plan is not None and same and plan.too_many and plan.threshold >= threshold and plan.pool in pool.ancestors:
        raise TooManyPairs
    fits = (
        plan is not None
        and not plan.too_many
        and plan.vector_space == pool.vector_space
        and plan.metric == pool.metric
        and plan.threshold <= threshold
        and plan.pool in pool.ancestors
    )
    if plan is None or not fits:
        cells = cells_of(pool)
        _foresee(pool, cells, threshold)
        (folder / PLAN).unlink(missing_ok=True)
        parts_of(folder).delete()
        plan = NearPlan(
            vector_space=pool.vector_space,
            metric=pool.metric,
            threshold=threshold,
            pool=pool.fingerprint,
            cuts=(0, *cuts_between(0, pool.next_id, unit_rows)),
            cells=write_cells(folder, cells),
        )
        plan.write(folder)
    elif plan.pool != pool.fingerprint:
        more = cuts_between(plan.cuts[-1], pool.next_id, unit_rows)
        plan = replace(plan, pool=pool.fingerprint, cuts=(*plan.cuts, *more))
        plan.write(folder)
    parts_of(folder).begin()
    if not (folder / CELLS).exists():
        raise Damaged(folder / CELLS, "the file is missing", f"delete {folder}, and run the same command again")
    return plan


def _foresee(pool: Pool, cells: Cells, threshold: float) -> None:
    """Raise `TooManyPairs` if a sample has its share of more than are listed."""
    ids, vectors = sample_of(pool, LOOKED_AT)
    most = max(int(most_pairs(len(pool)) * (len(ids) / max(len(pool), 1)) ** 2), FEWEST_SEEN)
    first = np.sort(distinct_rows(vectors.astype(np.float32))[0])
    radius = radius_of(threshold, pool.metric)
    unit = Unit.together(ids[first], vectors[first], pool.metric, cells, radius)
    near_pairs_of(unit, unit, threshold, pool.metric, most=most)


def _give_up(folder: Path, plan: NearPlan) -> None:
    """Remember that there are too many pairs, and free the disk of those that were listed."""
    replace(plan, too_many=True).write(folder)
    parts_of(folder).delete()
    raise TooManyPairs


def shared_among(work: Sequence[T], size: int) -> list[list[T]]:
    """Deal work out among partitions, in runs: consecutive pieces share units."""
    cuts = [len(work) * place // size for place in range(size + 1)]
    return [list(work[low:high]) for low, high in itertools.pairwise(cuts)]


# Functions of a partition.


def stage_unit_pair(partition: Partition, job: NearJob, turn: Sequence[UnitPair | None]) -> Staged | Told:
    """Find the near pairs of two units, and write them.

    Args:
        partition: a worker. What rows it has does not matter.
        job: of the pool that the partition is of.
        turn: the pair of units for each partition, or None.

    Returns:
        What was written, or why nothing was.
    """
    pair = turn[partition.index]
    if pair is None:
        return Told.nothing
    u, v = _unit(partition, job, pair.u), _unit(partition, job, pair.v)
    threads = partition.spec.threads or torch.get_num_threads()
    try:
        found = near_pairs_of(u, v, job.plan.threshold, job.plan.metric, threads=threads, most=MOST_PAIRS)
    except TooManyPairs:
        return Told.too_many
    copies = u.copies if pair.u == pair.v else u.copies[:0]
    return stage_pairs(Path(job.folder), pair.number, found, copies)


def _unit(partition: Partition, job: NearJob, number: int) -> Unit:
    plan = job.plan

    def make() -> Unit:
        ids, vectors = rows_between(open_once(partition), plan.cuts[number], plan.cuts[number + 1])
        return Unit.of(ids, vectors, plan.metric, job.cells, radius_of(plan.threshold, plan.metric))

    return held_unit(partition, (plan.pool, plan.threshold, number), make)
