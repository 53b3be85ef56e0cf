"""The ranking job: the items of a pool in the order of a score by one head. An interrupted job is resumed.

    chunks ──stage_run──▶ runs ──count_before──▶ cuts ──stage_pages──▶ pages
           beside the data      (64 round trips)      └──stage_keys───▶ keys

The partitions score, sort and write; the driver commits, and finds the places at which pages begin by bisection over
all runs. It holds some numbers for each page. The files depend on pool, head, options and the ledger alone, for any
number of partitions, here or on Ray. On a cluster, every process must see the ranking and the pool at the same path.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.arrow_values import array_of, numbers_of
from raysal.commits import Parts, Staged
from raysal.errors import Damaged
from raysal.fleet import Fleet
from raysal.fleet.chunks import in_turns, waves_of_chunks
from raysal.labels.records import STATES, KnownItem
from raysal.models.head import OTHERWISE, Head
from raysal.pool import Pool
from raysal.prediction.heads import keep_head
from raysal.ranking.layout import (
    CUTS,
    ID_FILE,
    MANIFEST,
    PAGE_ROWS,
    PLAN,
    RUN_ROWS,
    RUNS,
    VERSIONS,
    Cuts,
    Manifest,
    Plan,
    check_place,
    is_finished,
    key_files,
    key_parts,
    page_parts,
    read_batch,
    run_parts,
    versions_of,
    write_batch,
)
from raysal.ranking.layout import (
    STATES as STATES_FILE,
)
from raysal.ranking.options import Options, plan_of
from raysal.ranking.partition import MERGED_ROWS, Job, count_before, let_go, stage_keys, stage_pages, stage_run
from raysal.rng import derive
from raysal.rounds.held_out import HeldOut
from raysal.store import check_bytes, check_kind, locked, remove_temporaries, sha256_of, write_file
from raysal.types import Report, no_report


@dataclass(frozen=True, kw_only=True)
class RankReport:
    """What a job did."""

    version: str
    """name of the version's directory"""
    score: str
    """what the items are in the order of"""
    items: int
    """in the ranking"""
    scored: int
    """in the whole pool, with a vector"""
    quarantined: int
    """in the whole pool, without a vector: they are not ranked"""
    head: str | None
    """digest; None for novelty"""
    head_version: int | None
    labels: int | None
    """that the head had learnt from"""
    made: bool
    """whether the version is new; if not, it was there"""
    resumed: bool
    """whether a part of it was there"""
    seconds: float
    """of this job"""
    note: str | None = None
    """what is worth knowing of the head"""
    head_from: str | None = None
    """whose head it is: of which round, or of all labels there were"""


def rank_pool(
    pool: Pool,
    fleet: Fleet,
    head: Head | None,
    out: Path,
    options: Options,
    *,
    states: Callable[[], dict[int, KnownItem]] = dict,
    held_out: HeldOut | None = None,
    labels: int | None = None,
    head_from: str | None = None,
    labels_digest: str | None = None,
    report: Report | None = None,
    page_rows: int = PAGE_ROWS,
    run_rows: int = RUN_ROWS,
) -> RankReport:
    """Add a version to a ranking, finish one that was interrupted, or find it there.

    Cost: one pass over the pool, and a sort of it in slices; on the disk about 80 bytes an item and the keys, and while
    it works twice that. Memory: a run, or `MERGED_ROWS` items, in each process.

    Args:
        pool: the items.
        fleet: is over that pool.
        head: what the score is of; None for novelty.
        out: the ranking to make or to add to.
        options: what the pool is ranked by.
        states: gives what the ledger knows, by id, in order of id; it is called where a version begins.
        held_out: the items that the run holds out, but for those that were asked for.
        labels: that the head had learnt from; by default the items it was fitted to, whose background is no label.
        head_from: whose head it is, for people.
        labels_digest: digest of the labels behind the head.
        report: called with the stage, what of it is done, and its total.
        page_rows: items of a page; for tests.
        run_rows: rows of a run; for tests.

    Returns:
        What the job did.

    Raises:
        FingerprintMismatch: the head is of another encoder, or the ranking of another pool or encoder.
        PoolError: the directory holds something else; or an item has no score, and the error names it.
        RunError: another process is at work on the ranking.
        ConfigError: the head has no such score, or no class is named that is looked for; or there is a head and a
            novelty, or neither.
        Damaged: a file is not as it was written.
    """
    report, started, out = report or no_report, time.perf_counter(), out.absolute()
    plan, inputs = plan_of(pool, head, options)
    plan = replace(plan, page_rows=page_rows, run_rows=run_rows, head_from=head_from, labels_digest=labels_digest)
    if held_out is not None:
        plan = replace(plan, held_out=(held_out.key, held_out.share))
    if labels is not None:
        plan = replace(plan, labels=labels)
    check_kind(out, MANIFEST)
    check_place(out)
    (out / VERSIONS).mkdir(parents=True, exist_ok=True)
    with locked(out, "ranking"):
        remove_temporaries(out)
        Manifest(pool=pool.fingerprint, encoder=pool.vector_space, place=pool.place).begin(out, pool.ancestors)
        version, begun, found = _begin(out, plan, head, states)
        made = not is_finished(version, begun)
        if made:
            known = read_batch(version / STATES_FILE)
            fitted = None
            if options.novelty is not None and run_parts(version).missing(len(begun.units())):
                fleet.reset()  # to the whole pool
                fitted = options.novelty.part.fit(fleet, derive(options.seed, "novelty"))
            job = Job(
                version=str(version),
                plan=begun,
                hidden_layer=None if head is None else head.hidden_layer,
                inputs=inputs,
                novelty=fitted,
                known=numbers_of(known["id"]),
                states=numbers_of(known["state"]),
                asked=numbers_of(known["asked"]),
                owners=None if held_out is None else held_out.owners,
            )
            _make(job, fleet, report)
        shutil.rmtree(version / RUNS, ignore_errors=True)
    return RankReport(
        version=version.name,
        score=begun.score,
        items=begun.total,
        scored=begun.items,
        quarantined=pool.info().quarantined,
        head=begun.head,
        head_version=begun.head_version,
        labels=begun.labels,
        made=made,
        resumed=made and found,
        seconds=time.perf_counter() - started,
        note=OTHERWISE if head is not None and head.fitted_otherwise else None,
        head_from=begun.head_from,
    )


def _begin(
    out: Path, plan: Plan, head: Head | None, states: Callable[[], dict[int, KnownItem]]
) -> tuple[Path, Plan, bool]:
    """The version of a plan, the plan it was begun with, and whether it was there. Others that nobody finished go."""
    versions = list(versions_of(out))
    plans = {version: Plan.read(version) for version in versions}
    pools = Manifest.read(out).pools
    for version, begun in plans.items():
        if begun.pool not in pools:
            raise Damaged(version / PLAN, "is of another pool than the ranking", "rank again with another --out")
        if (begun.pool, begun.identity) == (plan.pool, plan.identity):
            if not is_finished(version, begun):
                check_bytes(version / STATES_FILE, begun.states, f"delete {version}, and rank again")
            return version, begun, True
    for version, begun in plans.items():
        if not is_finished(version, begun):
            shutil.rmtree(version)
    numbers = [int(version.name) for version in versions_of(out)]
    version = out / VERSIONS / f"{max(numbers, default=-1) + 1:04d}"
    shutil.rmtree(version, ignore_errors=True)  # of a process that was killed before it had written a plan
    version.mkdir()
    known = states()
    codes = np.array([STATES.index(item.state) for item in known.values()], np.int8)
    columns = {
        "id": array_of(np.array(list(known), np.int64), pa.int64()),
        "state": array_of(codes, pa.int8()),
        "asked": array_of(np.array([item.trains for item in known.values()], np.int8), pa.int8()),
        "label": pa.array([item.label for item in known.values()], pa.string()),
    }
    write_file(version / STATES_FILE, lambda temporary: write_batch(temporary, columns))
    plan = replace(plan, states=sha256_of(version / STATES_FILE))
    if head is not None:
        keep_head(version, head)
    plan.write(version)
    return version, plan, False


def _make(job: Job, fleet: Fleet, report: Report) -> None:
    """Make what is missing of a version."""
    version, plan = Path(job.version), job.plan
    runs, pages, keys = run_parts(version), page_parts(version), key_parts(version)
    kinds = (runs, pages, keys)
    for parts in kinds:
        parts.begin()
    remove_temporaries(version)
    try:
        units = plan.units()
        committed = runs.committed(len(units))
        report("score", sum(committed.values()), plan.items)
        missing = [units[unit] for unit in range(len(units)) if unit not in committed]
        for wave in waves_of_chunks(fleet, missing):
            fleet.reset()
            _commit(runs, fleet.each(stage_run, job, wave), committed)
            report("score", sum(committed.values()), plan.items)
        if not (version / CUTS).exists():
            find_cuts(job, fleet).write(version)
        cuts = Cuts.read(version)
        committed = pages.committed(plan.pages)
        report("sort", sum(committed.values()), plan.total)
        step = max(MERGED_ROWS // plan.page_rows, 1)
        for group in in_turns(_shared_out(_runs_in(pages.missing(plan.pages), step), fleet.size)):
            fleet.reset()
            for found in fleet.each(stage_pages, job, cuts, group):
                _commit(pages, found, committed)
            report("sort", sum(committed.values()), plan.total)
        committed = keys.committed(key_files(plan))
        for turn in in_turns(_shared_out(keys.missing(key_files(plan)), fleet.size)):
            report("index keys", len(committed), key_files(plan))
            fleet.reset()
            for found in fleet.each(stage_keys, job, turn):
                _commit(keys, found, committed)
    finally:
        for parts in kinds:
            parts.remove_leftovers()  # of a process that was given up on
    fleet.reset()
    fleet.each(let_go)


def _commit(parts: Parts, found: Iterable[Staged | None], committed: dict[int, int]) -> None:
    """Commit what was staged, and note the rows."""
    for staged in found:
        if staged is not None:
            parts.commit(staged)
            committed[staged.part] = staged.rows


def _runs_in(numbers: Sequence[int], most: int) -> list[range]:
    """Ascending numbers as runs of consecutive ones, each of at most so many."""
    found: list[range] = []
    for number in numbers:
        if found and found[-1].stop == number and len(found[-1]) < most:
            found[-1] = range(found[-1].start, number + 1)
        else:
            found.append(range(number, number + 1))
    return found


def _shared_out(work: Sequence[Any], size: int) -> list[list[Any]]:
    """Deal work out among partitions."""
    return [list(work[place::size]) for place in range(size)]


def find_cuts(job: Job, fleet: Fleet) -> Cuts:
    """The places at which pages begin, each by bisection. 64 round trips, 16 bytes a page in each."""
    plan = job.plan
    fleet.reset()
    ranks = np.array([*(page * plan.page_rows for page in range(plan.pages)), max(plan.total - 1, 0)], np.int64)

    def before(places: NDArray[np.uint64]) -> NDArray[np.int64]:
        found: NDArray[np.int64] = np.sum(fleet.each(count_before, job, places, fleet.size), axis=0)
        return found

    # The largest place before which there are at most as many items as the rank is the place of that item.
    places = np.zeros(len(ranks), np.uint64)
    for bit in reversed(range(64)):
        tried = places | np.uint64(1 << bit)
        places = np.where(before(tried) <= ranks, tried, places)
    first = places[:-1].tolist()
    first[0] = 0  # also where there is no item
    starts = before(np.array(first, np.uint64)).tolist()
    return Cuts(tuple(first), tuple(starts), int(places[-1]), lowest_ids(Path(job.version), len(plan.units())))


def lowest_ids(version: Path, runs: int) -> tuple[int, ...]:
    """The lowest id of each run; of one without items that of the next, or the largest number there is."""
    found, lowest = [], int(np.iinfo(np.int64).max)
    for unit in reversed(range(runs)):
        run_parts(version).check(unit, ID_FILE)
        ids = numbers_of(read_batch(version / ID_FILE.format(unit))["id"])
        lowest = int(ids[0]) if len(ids) else lowest
        found.append(lowest)
    return tuple(reversed(found))
