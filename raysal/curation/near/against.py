"""Items of a pool that are near to an item of another pool: to test data, or to what was taken last month.

For each unit of the one and each unit of the other, the nearest is kept on the disk of every item that has a near one.
So another threshold of the same size or higher compares nothing, and where one of the pools grew only what is new is
compared. If an item of the other pool is gone that something was nearest to, its unit is compared again.

    plan.json           of which pools, and where units end (sealed)
    cells.arrow         as of `raysal.curation.near.folder`
    near/00000.arrow    of two units: items, the nearest of the other pool, and the similarity
    commits/00000.json  the bytes and sha256 of the file (sealed)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch

from raysal.arrow_values import array_of, numbers_of
from raysal.commits import Parts, Staged, stage_file
from raysal.curation.near.cells import Cells
from raysal.curation.near.folder import COMMITS, FIX, PLAN, read_batch, read_cells, write_batch, write_cells
from raysal.curation.near.job import shared_among
from raysal.curation.near.nearest import Nearest, nearest_of
from raysal.curation.near.pairs import at_least
from raysal.curation.near.reading import (
    cells_of,
    cuts_between,
    held_unit,
    let_go,
    open_once,
    rows_between,
    rows_of_unit,
)
from raysal.curation.near.unit import Unit, radius_of
from raysal.errors import ConfigError, Damaged, FingerprintMismatch
from raysal.fleet import Fleet, Partition
from raysal.fleet.chunks import in_turns
from raysal.pool import Pool
from raysal.store import locked, read_sealed, remove_temporaries, write_sealed
from raysal.types import Metric, Report, no_report

NEAR = "near"
FOLDER = "against-{}"
"""Of what was compared with a pool, with the beginning of its fingerprint when it was first."""
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class AgainstPlan:
    """What a folder holds."""

    vector_space: str
    """of both pools"""
    metric: Metric
    threshold: float
    """the least similarity: a cosine, or minus a squared distance"""
    pool: str
    """fingerprint of the generation whose items the units hold"""
    cuts: tuple[int, ...]
    """ids of it at which units begin, and the id after the last one"""
    other: str
    """fingerprint of the other pool's"""
    other_cuts: tuple[int, ...]
    """likewise"""
    cells: str
    """sha256 of the file of the cells"""
    version: int = VERSION

    @property
    def units(self) -> list[UnitsOfTwo]:
        """All units of the one with all of the other."""
        return [UnitsOfTwo(u, v) for u in range(len(self.cuts) - 1) for v in range(len(self.other_cuts) - 1)]

    @classmethod
    def read(cls, folder: Path) -> AgainstPlan | None:
        """Read the plan of a folder; None where nothing was begun, or an older version of raysal began it."""
        path = folder / PLAN
        if not path.exists():
            return None
        record = read_sealed(path, FIX.format(folder))
        if record.get("version") != VERSION:
            return None
        try:
            cuts = {name: tuple(record[name]) for name in ("cuts", "other_cuts")}
            return cls(**{**record, **cuts})
        except (TypeError, KeyError) as error:
            raise Damaged(path, f"not a plan of items near to another pool ({error})", FIX.format(folder)) from None

    def write(self, folder: Path) -> None:
        """Write the plan into its folder."""
        write_sealed(folder / PLAN, asdict(self))


class UnitsOfTwo(NamedTuple):
    """A unit of the pool, and one of the other."""

    u: int
    v: int

    @property
    def number(self) -> int:
        """The number of its files, the same however many units come later (Szudzik 2006)."""
        return self.v * self.v + self.u if self.u < self.v else self.u * self.u + self.u + self.v


class AgainstJob(NamedTuple):
    """What travels to the partitions."""

    folder: str
    plan: AgainstPlan
    cells: Cells
    other: str
    generation: int


def check_against(pool: Pool, other: Pool) -> None:
    """Refuse a pool whose vectors cannot be compared with those of another one.

    Args:
        pool: the pool.
        other: the one that it is to be compared with.

    Raises:
        ConfigError: it is the same pool.
        FingerprintMismatch: they differ in metric, length of vectors, or in what made them.
    """
    if other.place == pool.place:
        problem = f"{other.place} is the pool itself"
        raise ConfigError("against", problem, "name another pool; a pool is always compared with itself, too")
    fix = "embed both with the same encoder; ready vectors of one model with the same `--origin`"
    for what, own, its in (
        ("the metric", pool.metric, other.metric),
        ("the length of its vectors", f"{pool.dim} numbers", f"{other.dim} numbers"),
        ("what made its vectors", pool.vector_space, other.vector_space),
    ):
        if own != its:
            raise FingerprintMismatch(other.place, what, own, its, fix)


def find_near_to_other(
    pool: Pool,
    other: Pool,
    fleet: Fleet,
    folder: Path,
    threshold: float,
    *,
    unit_rows: int | None = None,
    report: Report | None = None,
) -> tuple[Nearest, int]:
    """Find all items of a pool that are near to one of another, and the most similar one of that.

    Cost: at most the products of all items with all, O(n m d), of which bounds rule most out; the new with all where a
    pool grew. Memory of the driver: 100 bytes for each item that is near to one.

    Args:
        pool: the items.
        other: the pool that they are compared with, as `check_against` allows.
        fleet: over `pool`. On a cluster, `other` must be there under its path or URL.
        folder: holds a folder for each pool that was compared; what is there is read, what is missing is added.
        threshold: a cosine, or minus the squared distance of what the pools hold.
        unit_rows: rows of a unit, about; for tests.
        report: called with the stage, what of it is done, and its total.

    Returns:
        The items, and how many pairs of units had to be compared.

    Raises:
        RunError: another process is at work on the folder.
        Damaged: a file is not as it was written.
    """
    report = report or no_report
    folder = _folder_of(folder, other)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, "items near to another pool"):
        remove_temporaries(folder)
        plan = _begun(pool, other, folder, threshold, unit_rows or rows_of_unit(pool))
        parts = _parts(folder)
        work = [pair for pair in plan.units if not parts.record_of(pair.number).exists()]
        done = total = len(plan.units)
        done -= len(work)
        report("compare with the other pool", done, total)
        try:
            if work:
                cells = read_cells(folder, plan.cells)
                job = AgainstJob(str(folder.absolute()), plan, cells, other.place, other.generation)
                for turn in in_turns(shared_among(work, fleet.size)):
                    fleet.reset()  # a worker that died makes up for one call
                    for staged in fleet.each(stage_near, job, turn):
                        if staged is not None:
                            parts.commit(staged)
                            done += 1
                    report("compare with the other pool", done, total)
                fleet.each(let_go)
        finally:
            parts.remove_leftovers()
        found = [_read(folder, pair.number) for pair in plan.units]
    near = Nearest.joined(found)
    return near.only(at_least(near.similarity, threshold)), len(work)


def _folder_of(folder: Path, other: Pool) -> Path:
    """Where what was found of a pool, or of an earlier generation of it, is kept."""
    for one in sorted(folder.glob(FOLDER.format("*"))):
        plan = AgainstPlan.read(one)
        if plan is not None and plan.other in other.ancestors:
            return one
    return folder / FOLDER.format(other.fingerprint[:16])


def _parts(folder: Path) -> Parts:
    return Parts(folder, (f"{NEAR}/{{:05d}}.arrow",), f"{COMMITS}/{{:05d}}.json", FIX.format(folder))


def _begun(pool: Pool, other: Pool, folder: Path, threshold: float, rows: int) -> AgainstPlan:
    """The plan of a folder that holds what is asked for, extended where a pool grew; or a new one."""
    plan = AgainstPlan.read(folder)
    fits = (
        plan is not None
        and plan.vector_space == pool.vector_space
        and plan.metric == pool.metric
        and plan.threshold <= threshold
        and plan.pool in pool.ancestors
        and plan.other in other.ancestors
    )
    if plan is None or not fits:
        (folder / PLAN).unlink(missing_ok=True)
        _parts(folder).delete()
        plan = AgainstPlan(
            vector_space=pool.vector_space,
            metric=pool.metric,
            threshold=threshold,
            pool=pool.fingerprint,
            cuts=(0, *cuts_between(0, pool.next_id, rows)),
            other=other.fingerprint,
            other_cuts=(0, *cuts_between(0, other.next_id, rows)),
            cells=write_cells(folder, cells_of(pool)),
        )
        plan.write(folder)
    elif (plan.pool, plan.other) != (pool.fingerprint, other.fingerprint):
        if plan.other != other.fingerprint:
            _forget_gone(folder, plan, other)
        plan = replace(
            plan,
            pool=pool.fingerprint,
            cuts=(*plan.cuts, *cuts_between(plan.cuts[-1], pool.next_id, rows)),
            other=other.fingerprint,
            other_cuts=(*plan.other_cuts, *cuts_between(plan.other_cuts[-1], other.next_id, rows)),
        )
        plan.write(folder)
    _parts(folder).begin()
    return plan


def _forget_gone(folder: Path, plan: AgainstPlan, other: Pool) -> None:
    """Let units be compared again in which an item was nearest that is gone: another one may be near."""
    there = np.concatenate([np.empty(0, np.int64), *(chunk.ids() for chunk in other.chunks)])
    parts = _parts(folder)
    for pair in plan.units:
        if parts.record_of(pair.number).exists() and not np.isin(_read(folder, pair.number).nearest, there).all():
            parts.record_of(pair.number).unlink()


def _read(folder: Path, number: int) -> Nearest:
    _parts(folder).check(number)
    batch = read_batch(folder / f"{NEAR}/{number:05d}.arrow")
    return Nearest(*(numbers_of(batch.column(name)) for name in Nearest._fields))


# Functions of a partition.


def stage_near(partition: Partition, job: AgainstJob, turn: tuple[UnitsOfTwo | None, ...]) -> Staged | None:
    """Find the items of a unit that are near to one of a unit of the other pool, and write them.

    Args:
        partition: a worker. What rows it has does not matter.
        job: of the pool that the partition is of.
        turn: the units for each partition, or None.

    Returns:
        What was written; None where there was nothing to do.
    """
    pair = turn[partition.index]
    if pair is None:
        return None
    plan, threads = job.plan, partition.spec.threads or torch.get_num_threads()
    radius = radius_of(plan.threshold, plan.metric)

    def own() -> Unit:
        ids, vectors = rows_between(open_once(partition), plan.cuts[pair.u], plan.cuts[pair.u + 1])
        return Unit.of(ids, vectors, plan.metric, job.cells, radius, distinct=False)

    def its() -> Unit:
        ids, vectors = rows_between(
            Pool(job.other, job.generation), plan.other_cuts[pair.v], plan.other_cuts[pair.v + 1]
        )
        return Unit.of(ids, vectors, plan.metric, job.cells, radius)

    name = (plan.pool, plan.other, plan.threshold)
    left = held_unit(partition, (*name, "own", pair.u), own)
    right = held_unit(partition, (*name, "other", pair.v), its)
    near = nearest_of(left, right, plan.threshold, plan.metric, threads=threads)
    columns = {
        "ids": array_of(near.ids, pa.int64()),
        "nearest": array_of(near.nearest, pa.int64()),
        "similarity": array_of(near.similarity, pa.float64()),
    }
    file = stage_file(
        Path(job.folder), f"{NEAR}/{pair.number:05d}.arrow", lambda temporary: write_batch(temporary, columns)
    )
    return Staged(pair.number, len(near.ids), (file,))
