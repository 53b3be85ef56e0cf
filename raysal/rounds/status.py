"""Where a run stands, read from its records and its ledger."""

from __future__ import annotations

from pathlib import Path

from raysal.config import RunConfig
from raysal.errors import UserError
from raysal.labels import Ledger
from raysal.labels.records import STATES, State
from raysal.models.head import OTHERWISE, Head
from raysal.models.measures import standing
from raysal.models.trainers import TRAINERS
from raysal.pool import Pool, open_pool
from raysal.pool.owners import pool_of_labels
from raysal.rounds.binding import check_pool, own_pool
from raysal.rounds.directory import HEAD, Record, RunDir
from raysal.rounds.found import found_by
from raysal.rounds.training_labels import TrainingLabels, count_outputs
from raysal.types import Found, Status


def read_status(run: Path, pool: str | Path | None = None) -> Status:
    """Where a run stands. Starts and makes nothing, whatever another process is doing with the run.

    Args:
        run: the run directory.
        pool: the run's pool, where it lies elsewhere than the run's config says; the config then says so, too.

    Returns:
        Its rounds, its labels by state and class, and its last evaluation. Where its pool is gone, or another one lies
        in its place, the status says so.

    Raises:
        RunError: no run is there.
        PoolError: the pool cannot be opened or is not ready, and it was given, or the run has no labels yet.
        FingerprintMismatch: `pool` is not the pool of the run's labels.
        Damaged: a file of the run was altered.
    """
    there = RunDir(run)
    config = there.require_config()
    if not there.has_ledger:
        opened = own_pool(config) if pool is None else pool_of_labels(open_pool(pool), config.parts)
        if pool is not None:
            there.remember_pool(pool)
        return status_of(there, config, None, opened)
    with there.open_ledger() as ledger:
        if pool is not None:
            opened = pool_of_labels(open_pool(pool), config.parts)
            check_pool(there, ledger, opened)
            there.remember_pool(pool)
            return status_of(there, config, ledger, opened)
        try:
            opened = own_pool(config)
            check_pool(there, ledger, opened)
        except UserError as error:
            return status_of(there, config, ledger, None, str(error))
        return status_of(there, config, ledger, opened)


def status_of(
    run: RunDir, config: RunConfig, ledger: Ledger | None, pool: Pool | None, problem: str | None = None
) -> Status:
    """Where a run stands.

    Args:
        run: the run directory.
        config: its config.
        ledger: its labels; None if it has none yet.
        pool: its pool; None where it cannot be opened.
        problem: why not.

    Returns:
        The status.
    """
    counts: dict[State, int] = dict.fromkeys(STATES, 0)
    tested = 0
    classes: dict[str, int] = {}
    closing: Record | None = None
    search: Found | None = None
    likelihood = config.update.trainer.build("update.trainer", TRAINERS).likelihood
    if ledger is not None:
        counts, classes = ledger.counts(), count_outputs(ledger.labels(), likelihood)
        if pool is not None or not config.parts.labels_of_parts_of_owners:  # else the pool says which are held out
            tested = len(TrainingLabels.of(ledger, config, pool).tests())
        closing = final_record(run, ledger)
    rounds = run.rounds
    last = closing or (run.record(rounds - 1) if rounds else {})
    evaluation = last.get("evaluation") or {}
    if ledger is not None:
        search = found_by(run, config, ledger, likelihood, None if pool is None else len(pool), evaluation)
    return Status(
        run=str(run.path),
        pool=str(config.pool) if pool is None else pool.place,
        items=None if pool is None else len(pool),
        rounds=rounds,
        asked=sum(len(run.batch(round)) for round in range(rounds)),
        labeled=counts["labeled"],
        tested=tested,
        waiting=counts["leased"],
        skipped=counts["skipped"],
        disputed=counts["disputed"],
        absent=0 if ledger is None else len(ledger.absent()),
        classes=classes,
        **standing(last.get("evaluation")),
        finished=closing is not None,
        problem=problem,
        measures=evaluation.get("measures", {}),
        intervals={name: (low, high) for name, (low, high) in evaluation.get("intervals", {}).items()},
        known_by=evaluation.get("known_by"),
        search=search,
        note=OTHERWISE if Head.was_fitted_otherwise(run.folder(rounds - 1 if rounds else None) / HEAD) else None,
    )


def final_record(run: RunDir, ledger: Ledger) -> Record | None:
    """The closing record; None before the run is closed, and again once a round or a label came after it."""
    record = run.final()
    return record if record is not None and record["ledger_seq"] == ledger.head_seq else None
