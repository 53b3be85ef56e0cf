"""Where a run stands, read from its records and its ledger."""

from __future__ import annotations

from pathlib import Path

from raysal.config import RunConfig
from raysal.labels import Ledger
from raysal.labels.records import STATES, State
from raysal.models.trainers import TRAINERS
from raysal.pool import Pool, open_pool
from raysal.rounds.directory import Record, RunDir
from raysal.rounds.evaluation import standing
from raysal.rounds.learner import count_outputs
from raysal.types import Status


def read_status(run: Path) -> Status:
    """Where a run stands. Starts and makes nothing, whatever another process is doing with the run.

    Args:
        run: the run directory.

    Returns:
        Its rounds, its labels by state and class, and its last evaluation.

    Raises:
        RunError: no run is there.
        PoolError: its pool cannot be opened, or is not ready.
        FingerprintMismatch: the pool is not the one the run began with.
        Damaged: a file of the run was altered.
    """
    there = RunDir(run)
    config = there.require_config()
    pool = open_pool(config.pool)
    there.check_pool(pool)
    if not there.has_ledger:
        return status_of(there, pool, config, None)
    with there.open_ledger() as ledger:
        return status_of(there, pool, config, ledger)


def status_of(run: RunDir, pool: Pool, config: RunConfig, ledger: Ledger | None) -> Status:
    """Where a run with this ledger stands; without one it has no labels yet."""
    counts: dict[State, int] = dict.fromkeys(STATES, 0)
    classes: dict[str, int] = {}
    closing: Record | None = None
    if ledger is not None:
        likelihood = config.update.trainer.build("update.trainer", TRAINERS).likelihood
        counts, classes = ledger.counts(), count_outputs(ledger.labels(), likelihood)
        closing = final_record(run, ledger)
    rounds = run.rounds
    last = closing or (run.record(rounds - 1) if rounds else {})
    return Status(
        run=str(run.path),
        pool=str(pool.path),
        items=len(pool),
        rounds=rounds,
        asked=sum(len(run.batch(round)) for round in range(rounds)),
        labeled=counts["labeled"],
        waiting=counts["leased"],
        skipped=counts["skipped"],
        disputed=counts["disputed"],
        classes=classes,
        **standing(last.get("evaluation")),
        finished=closing is not None,
    )


def final_record(run: RunDir, ledger: Ledger) -> Record | None:
    """The closing record; None before the run is closed, and again once a round or a label came after it."""
    record = run.final()
    return record if record is not None and record["ledger_seq"] == ledger.head_seq else None
