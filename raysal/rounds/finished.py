"""A run that is finished has nothing left to do, and to find that out takes neither torch nor Ray."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from raysal.arrow_values import numbers_of
from raysal.config import RunConfig, deciding_fields
from raysal.labels import Ledger
from raysal.pool import Pool, open_pool
from raysal.pool.owners import pool_of_labels
from raysal.rounds.binding import Rebound, meet_pool, pool_to_write, settle
from raysal.rounds.configs import control_config
from raysal.rounds.directory import RunDir
from raysal.rounds.held_out import HeldOut
from raysal.rounds.ready import check_pool_lost, pool_is_ready
from raysal.rounds.status import final_record, status_of
from raysal.store import locked_if_free
from raysal.types import Report

if TYPE_CHECKING:
    from raysal.embedding.job import EmbedReport


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """Where a run stands when `run` returns: finished, or `waiting` for that many labels."""

    run: Path
    rounds: int
    labels: int
    waiting: int
    finished: bool
    accuracy: float | None
    control_accuracy: float | None
    metric: str | None
    """the main measure of what is learnt, of `raysal.rounds.evaluation.MEASURES`: its name and both arms' values"""
    value: float | None
    control_value: float | None
    embedded: EmbedReport | None
    rebound: Rebound | None
    """what became of the items of the main arm when its labels were matched with another pool"""
    exhausted: bool
    """whether it was closed before its last round, as no item was left to offer"""


def finished_run(config: RunConfig, out: Path, report: Report) -> RunResult | None:
    """Where a run stands in which every arm is closed, and nothing came after that.

    What would be refused of a run that goes on is refused here too: another pool, a changed source, too much lost.

    Args:
        config: the config that the run is to go on with.
        out: the run directory, there or not.
        report: called with the stage, what of it is done, and its total.

    Returns:
        What `raysal.rounds.loop.run` returns; None if anything may be left to do.

    Raises:
        UserError: as `run`.
    """
    main = RunDir(out)
    configs = {main: config, **({main.control: control_config(config)} if config.rounds.control else {})}
    with ExitStack() as stack:
        ledgers: dict[RunDir, Ledger] = {}
        for run, own in configs.items():
            if (stored := run.config()) is None or deciding_fields(stored) != deciding_fields(own):
                return None
            if not run.has_ledger:
                return None
            ledgers[run] = stack.enter_context(run.open_ledger())
            if not _is_closed(run, ledgers[run], own):
                return None
        if not pool_is_ready(config, report):
            return None
        pool = pool_of_labels(open_pool(config.pool), config.parts)
        for run, ledger in ledgers.items():
            if pool_to_write(run, ledger, pool) is not pool:
                return None
        short = {run: run.rounds < config.rounds.count for run in configs}
        if any(short[run] and _is_anything_left(pool, ledgers[run], config) for run in configs):
            return None
        for run, ledger in ledgers.items():
            with locked_if_free(run.path) as free:
                if free is not False:
                    settle(run, ledger)
                meet_pool(run, ledger, pool, alone=free is not False)
            run.remember_pool(pool.place)
        arms = [status_of(run, configs[run], ledger, pool) for run, ledger in ledgers.items()]
    check_pool_lost(pool, config)
    if config.source is not None:
        pool.check_blurred()
    status, control = arms[0], arms[1] if len(arms) > 1 else None
    return RunResult(
        run=out,
        rounds=status.rounds,
        labels=status.labeled,
        waiting=status.waiting,
        finished=True,
        accuracy=status.accuracy,
        control_accuracy=None if control is None else control.accuracy,
        metric=status.metric,
        value=status.value,
        control_value=None if control is None else control.value,
        embedded=None,
        rebound=None,
        exhausted=short[main],
    )


def _is_closed(run: RunDir, ledger: Ledger, config: RunConfig) -> bool:
    """Whether an arm has a closing record that speaks of all its labels, and no oracle may have more of them."""
    return final_record(run, ledger) is not None and (config.oracle.name == "files" or not ledger.outstanding())


def _is_anything_left(pool: Pool, ledger: Ledger, config: RunConfig) -> bool:
    """Whether the pool has an item that a round could offer. One pass over its ids."""
    held_out, taken = HeldOut.of(config, pool), ledger.excluded()
    for table in pool.items(["id"]):
        ids = numbers_of(table["id"])
        open_to = ~np.isin(ids, taken)
        if held_out is not None:
            open_to &= ~held_out.among(ids)
        if open_to.any():
            return True
    return False
