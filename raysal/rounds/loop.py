"""A whole run: embed if need be, then rounds until the budget is spent or a person must answer.

Everything is taken from what is on disk, so running, resuming after a kill and running again are one function.
"""

from __future__ import annotations

from pathlib import Path

from raysal.config import RunConfig
from raysal.pool import open_pool
from raysal.rounds.binding import own_pool
from raysal.rounds.directory import RunDir
from raysal.rounds.finished import RunResult, finished_run
from raysal.types import Report, no_report

__all__ = ["RunResult", "resume", "run"]


def run(config: RunConfig, out: Path, *, rebind: bool = False, report: Report | None = None) -> RunResult:
    """Make or continue the run in a directory.

    With an oracle that answers, it goes on to the last round and closes the run. With `files` it stops after each
    batch until at least one of its labels is told; what is told later counts in the next round. Where fewer items than
    a batch are left, they are the last batch, and the run is closed.

    Args:
        config: the whole config.
        out: the run directory.
        rebind: if the run's labels are of another pool than the config's, match them by key (`raysal.Session`).
        report: called with the stage, what of it is done, and its total.

    Returns:
        Where the run stands.

    Raises:
        ItemsLost: after everything else is done, every time, when embedding lost more than it may.
        VectorsBlurred: when float16 does not tell the vectors apart: after embedding, before any round; and after
            everything else where the run was continued all the same.
        FingerprintMismatch: the pool was made of another source or by another encoder than the config names, or it is
            not the pool of the run's labels.
        PoolExhausted: the pool has nothing to offer, and the run no labels.
        ConfigError, RunError, PoolError: as their names say; nothing half-written is left, and no run directory where
            none was.
    """
    with RunDir(out).undone_if_refused():
        done = None if rebind else finished_run(config, out, report or no_report)
        if done is None:
            from raysal.rounds.arms import go_on  # torch, and with it seconds

            done = go_on(config, out, rebind=rebind, report=report or no_report)
        return done


def resume(
    out: Path, *, pool: str | Path | None = None, rebind: bool = False, report: Report | None = None
) -> RunResult:
    """Go on with a run, wherever it was stopped.

    Args:
        out: the run directory.
        pool: the run's pool, where it lies elsewhere than the run's config says; the run remembers the place.
        rebind: as in `run`.
        report: as in `run`.

    Returns:
        Where the run stands.

    Raises:
        RunError: no run is there; otherwise as `run`.
    """
    config = RunDir(out).require_config()
    if pool is not None:
        config = config.model_copy(update={"pool": open_pool(pool).place})  # it is there: none is embedded in its place
    elif config.source is None:
        own_pool(config)
    return run(config, out, rebind=rebind, report=report)
