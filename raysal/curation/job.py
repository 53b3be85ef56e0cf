"""The steps of a plan, in order: each is given what those before it left, and what it found is kept in the pool.

    plan ──▶ for each step: found before? read it : apply it, check it, write it ──▶ Curated

The same plan upon the same pool is read. If a later step changes, the earlier ones are read; if the pool changed, all
steps are done anew, with what they keep themselves. An interrupted plan goes on at the step that was not finished.
"""

from __future__ import annotations

import contextlib
import json
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raysal.config import FleetConfig
from raysal.curation.base import StepResult, Work
from raysal.curation.curated import Curated, StepDone
from raysal.curation.folder import Findings, digest_after, digest_at_start
from raysal.curation.home import make_home_of
from raysal.curation.plan import PlannedStep, check_plan
from raysal.errors import RaysalError, RaysalWarning
from raysal.fleet import Fleet, open_fleet
from raysal.pool import Pool
from raysal.rng import derive
from raysal.types import Report, no_report


def curate_pool(
    pool: Pool,
    plan: Sequence[PlannedStep],
    fleet: FleetConfig,
    *,
    seed: int = 0,
    home: Path | None = None,
    report: Report | None = None,
) -> Curated:
    """Do the steps of a plan, or what is not done yet.

    Cost: that of the steps; where all are done, one look at the ids. Memory of the driver: that of the steps, and of
    `Curated`.

    Args:
        pool: the items. It is this generation that is curated, whatever becomes of the pool.
        plan: the steps.
        fleet: where the work is done; it is opened when a step needs it. No result depends on it.
        seed: randomness.
        home: where what steps found is kept; by default in the pool, or where it cannot be written in the cache.
        report: called with the stage, what of it is done, and its total.

    Returns:
        What became of each item.

    Raises:
        ConfigError: a step cannot work on this pool.
        NotNow: another process curates the pool.
        PoolError: a vector is not finite; or neither the pool nor the cache can be written.
        Damaged: a file is not as it was written.
    """
    started, report = time.perf_counter(), report or no_report
    check_plan(plan, pool)
    ids = ids_of(pool)
    left = np.ones(len(ids), bool)
    done: list[StepDone] = []
    findings, before = Findings.of(pool, home), digest_at_start(pool, seed)
    make_home_of(pool)  # steps keep near pairs there, too
    with contextlib.ExitStack() as stack:
        stack.enter_context(findings.locked())
        findings.forget_older(pool)
        opened: Fleet | None = None
        for planned in plan:
            record = planned.record(pool)
            digest = digest_after(before, record)
            resumed = findings.has(digest)
            if not resumed:
                opened = opened or stack.enter_context(open_fleet(pool, fleet))
                work = Work(
                    pool=pool,
                    fleet=opened,
                    ids=ids,
                    left=left.copy(),
                    folder=findings.work_folder(planned.name, before),
                    key=derive(seed, "curate", planned.name),
                    report=_told(report, planned.label),
                )
                begun = time.perf_counter()
                with planned.naming_errors():
                    result = planned.step.apply(work)
                check_result(result, ids, left, planned.label)
                findings.write(digest, record, result, time.perf_counter() - begun)
            found = findings.read(digest)
            done.append(
                StepDone(
                    label=planned.label, name=planned.name, fields=planned.fields, said=planned.said,
                    left=int(left.sum()),
                    result=found.result, seconds=found.seconds, resumed=resumed,
                )
            )  # fmt: skip
            left[np.searchsorted(ids, found.result.ids)] = False
            before = digest
            if found.result.ids.size and not left.any():
                warnings.warn(f"no item is left after the step {planned.label!r}", RaysalWarning, stacklevel=2)
    return Curated(pool=pool, ids=ids, steps=tuple(done), seed=seed, seconds=time.perf_counter() - started)


def finished_steps(pool: Pool, plan: Sequence[PlannedStep], *, seed: int = 0, home: Path | None = None) -> list[int]:
    """How many items each step of a plan kept that was done before, up to the first that was not.

    Args:
        pool: the items.
        plan: the steps.
        seed: randomness.
        home: where what steps found is kept; by default in the pool.

    Returns:
        Items left after each of these steps; none where the plan was never begun.

    Raises:
        Damaged: a file is not as it was written.
    """
    findings, before, left, kept = Findings.of(pool, home), digest_at_start(pool, seed), len(pool), []
    for planned in plan:
        before = digest_after(before, planned.record(pool))
        if not findings.has(before):
            break
        left -= len(findings.read(before).result)
        kept.append(left)
    return kept


def ids_of(pool: Pool) -> NDArray[np.int64]:
    """The ids of a pool, ascending."""
    return np.concatenate([np.empty(0, np.int64), *(chunk.ids() for chunk in pool.chunks)])


def check_result(result: StepResult, ids: NDArray[np.int64], left: NDArray[np.bool_], label: str) -> None:
    """Hold a step to what every step promises.

    Args:
        result: what it found.
        ids: of all items, ascending.
        left: which of them it was given.
        label: what the error calls it.

    Raises:
        RaysalError: it broke a promise; the fault is that of the step.
    """
    problem = _broken_promise(result, ids, left)
    if problem is not None:
        raise RaysalError(f"the step {label!r} did not keep what steps promise: {problem}")


def _broken_promise(result: StepResult, ids: NDArray[np.int64], left: NDArray[np.bool_]) -> str | None:
    m = len(result.ids)
    if {len(result.reason), len(result.nearest), len(result.value)} != {m}:
        return f"it dropped {m} items, and what it says of them has other lengths"
    if (np.diff(result.ids) <= 0).any():
        return "the items that it dropped are not in order"
    place = np.minimum(np.searchsorted(ids, result.ids), max(len(ids) - 1, 0))
    if m and not (np.array_equal(ids[place], result.ids) and left[place].all()):
        return "it dropped an item that it was not given"
    if m and int(result.reason.max()) >= len(result.reasons):
        return "an item has no reason"
    kept = left.copy()
    kept[place[:m]] = False
    named = np.unique(result.nearest[result.nearest >= 0])
    if not np.isin(named, ids[kept], assume_unique=True).all():
        return "it dropped an item for one that is not kept"
    if result.listed is not None and "id" not in result.listed.column_names:
        return "what it listed has no column id"
    try:
        json.dumps(dict(result.facts))
    except (TypeError, ValueError) as error:
        return f"its facts are no JSON ({error})"
    return None


def _told(report: Report, label: str) -> Callable[[str, int, int], None]:
    return lambda stage, done, total: report(f"{label}: {stage}", done, total)
