"""The near pairs of a whole pool: what is missing of them is found beside the data, on any fleet; the rest is read.

    sample ──▶ cells ──▶ for each pair of units: stage_unit_pair ──▶ pairs

A unit is a range of ids that fits into memory. Each partition is a worker that takes pairs of units, and reads their
vectors from the pool itself. The driver commits. What is found depends on the vectors alone.
"""

from __future__ import annotations

import itertools
import shutil
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.commits import Staged
from raysal.curation.near.cells import Cells
from raysal.curation.near.folder import (
    CELLS,
    COMMITS,
    PAIRS,
    PLAN,
    NearPlan,
    UnitPair,
    keep_cells,
    parts_of,
    read_cells,
    stage_pairs,
    unit_pairs,
)
from raysal.curation.near.pairs import near_pairs_of
from raysal.curation.near.unit import Unit, compared_rows, radius_of
from raysal.errors import Damaged
from raysal.fleet import Fleet, Partition
from raysal.fleet.chunks import in_turns
from raysal.numerics import ceil_div
from raysal.pool import Pool
from raysal.rng import derive, item_order
from raysal.store import locked, remove_temporaries
from raysal.types import Report, no_report

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


@dataclass(frozen=True, kw_only=True)
class NearReport:
    """What a job did."""

    plan: NearPlan
    found: int
    """pairs of units that were compared by this job; 0 where all were there"""
    pairs: int
    """near pairs in the folder, between items of different vectors"""


class NearJob(NamedTuple):
    """What travels to the partitions."""

    folder: str
    plan: NearPlan
    cells: Cells


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
        ConfigError: the threshold is so low that too many pairs are near.
        RunError: another process is at work on the folder.
        Damaged: a file is not as it was written.
    """
    report = report or no_report
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, "near pairs"):
        remove_temporaries(folder)
        plan = _begun(pool, folder, threshold, unit_rows or ceil_div(UNIT_NUMBERS, pool.dim))
        parts = parts_of(folder)
        missing = set(parts.missing(plan.parts))
        work = [pair for pair in unit_pairs(plan.units, UNITS_HELD // 2) if pair.number in missing]
        done = plan.parts - len(work)
        report("compare", done, plan.parts)
        try:
            if work:
                job = NearJob(str(folder.absolute()), plan, read_cells(folder, plan))
                for turn in in_turns(_shared_out(work, fleet.size)):
                    fleet.reset()  # a worker that died makes up for one call
                    for staged in fleet.each(stage_unit_pair, job, turn):
                        if staged is not None:
                            parts.commit(staged)
                            done += 1
                    report("compare", done, plan.parts)
                fleet.each(let_go)
        finally:
            parts.remove_leftovers()
        pairs = sum(parts.committed(plan.parts).values())
    return NearReport(plan=plan, found=len(work), pairs=pairs)


def _begun(pool: Pool, folder: Path, threshold: float, unit_rows: int) -> NearPlan:
    """The plan of a folder that holds what is asked for, extended to a pool that grew; or a new one."""
    plan = NearPlan.read(folder)
    fits = (
        plan is not None
        and plan.vector_space == pool.vector_space
        and plan.metric == pool.metric
        and plan.threshold <= threshold
        and plan.pool in pool.ancestors
    )
    if plan is None or not fits:
        (folder / PLAN).unlink(missing_ok=True)
        for name in (PAIRS, COMMITS):
            shutil.rmtree(folder / name, ignore_errors=True)
        sample = _sample(pool, UNIT_CELLS * ROWS_A_CELL)
        count = min(UNIT_CELLS, ceil_div(len(sample), ROWS_A_CELL))
        cells = Cells.of(sample, count, derive(0, "near cells"))
        plan = NearPlan(
            vector_space=pool.vector_space,
            metric=pool.metric,
            threshold=threshold,
            pool=pool.fingerprint,
            cuts=(0, *_cuts(0, pool.next_id, unit_rows)),
            cells=keep_cells(folder, cells),
        )
        plan.write(folder)
    elif plan.pool != pool.fingerprint:
        more = _cuts(plan.cuts[-1], pool.next_id, unit_rows)
        plan = replace(plan, pool=pool.fingerprint, cuts=(*plan.cuts, *more))
        plan.write(folder)
    parts_of(folder).begin()
    if not (folder / CELLS).exists():
        raise Damaged(folder / CELLS, "the file is missing", f"delete {folder}, and run the same command again")
    return plan


def _cuts(start: int, stop: int, rows: int) -> list[int]:
    """Where units from one id to another end: near-equal ones of at most so many."""
    count = ceil_div(stop - start, rows)
    return [start + (stop - start) * place // count for place in range(1, count + 1)]


def _sample(pool: Pool, most: int) -> NDArray[np.float32]:
    """Rows of a pool as they are compared, the same however it is cut into chunks. One look at the ids, O(n)."""
    chosen = np.empty(0, np.int64)
    for chunk in pool.chunks:
        chosen = np.concatenate([chosen, chunk.ids()])
        if len(chosen) > most:
            order = item_order(derive(0, "near sample"), chosen)
            chosen = chosen[np.argpartition(order, most)[:most]]
    chosen.sort()
    found = [np.empty((0, pool.dim), np.float16)]
    for chunk in pool.chunks:
        rows = np.flatnonzero(np.isin(chunk.ids(), chosen))
        found.append(chunk.vectors()[rows])
    sample = compared_rows(np.concatenate(found), pool.metric)
    return sample if len(sample) else np.zeros((1, pool.dim), np.float32)


def _shared_out(work: Sequence[UnitPair], size: int) -> list[list[UnitPair]]:
    """Deal work out among partitions, in runs: consecutive pairs share units."""
    cuts = [len(work) * place // size for place in range(size + 1)]
    return [list(work[low:high]) for low, high in itertools.pairwise(cuts)]


# Functions of a partition.


def stage_unit_pair(partition: Partition, job: NearJob, turn: Sequence[UnitPair | None]) -> Staged | None:
    """Find the near pairs of two units, and write them.

    Args:
        partition: a worker. What rows it has does not matter.
        job: of the pool that the partition is of.
        turn: the pair of units for each partition, or None.

    Returns:
        What was written; None where there was nothing to do.
    """
    pair = turn[partition.index]
    if pair is None:
        return None
    u, v = _unit(partition, job, pair.u), _unit(partition, job, pair.v)
    threads = partition.spec.threads or torch.get_num_threads()
    found = near_pairs_of(u, v, job.plan.threshold, job.plan.metric, threads=threads)
    copies = u.copies if pair.u == pair.v else u.copies[:0]
    return stage_pairs(Path(job.folder), pair.number, found, copies)


def _unit(partition: Partition, job: NearJob, number: int) -> Unit:
    """A unit, made once as long as it is among the last that were used."""
    held: OrderedDict[tuple[str, int], Unit] = partition.held.setdefault(HELD, OrderedDict())
    name = (job.plan.pool, number)
    if name not in held:
        while len(held) >= UNITS_HELD:
            held.popitem(last=False)
        plan = job.plan
        ids, vectors = rows_between(partition.spec.open_pool(), plan.cuts[number], plan.cuts[number + 1])
        held[name] = Unit.of(ids, vectors, plan.metric, job.cells, radius_of(plan.threshold, plan.metric))
    held.move_to_end(name)
    return held[name]


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


def let_go(partition: Partition) -> None:
    """Forget the units.

    Args:
        partition: a worker.
    """
    partition.held.pop(HELD, None)
