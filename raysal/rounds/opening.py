"""A run as it is opened: its config, its pool, its parts and its labels, checked against one another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysal.config import RunConfig
from raysal.labels import Ledger
from raysal.pool import Pool, open_pool
from raysal.pool.owners import pool_of_labels
from raysal.rounds.binding import check_pool, own_pool, pool_to_write
from raysal.rounds.configs import config_of
from raysal.rounds.directory import RunDir
from raysal.rounds.parts import RunParts
from raysal.rounds.preflight import check_like


@dataclass(frozen=True, kw_only=True)
class OpenRun:
    """A run that was read and checked."""

    run: RunDir
    config: RunConfig
    pool: Pool
    """of what labels are of: items, or owners of parts"""
    parts: RunParts
    ledger: Ledger | None
    """None where the run has no ledger yet"""


def read_run(
    run_dir: str | Path,
    pool: str | Path | Pool | None,
    config: RunConfig | None,
    fleet: object,
    fields: Mapping[str, Any],
    *,
    rebind: bool = False,
    only_look: bool = False,
) -> OpenRun:
    """Read a run, there or not yet. Touches nothing.

    Args:
        run_dir: the run directory.
        pool: its pool, or a path; by default the one in its config.
        config: the whole config, instead of `fields`.
        fleet: where it is a mapping, the fleet's config for now.
        fields: those of `RunConfig`.
        rebind: the pool may be another one than that of the run's labels.
        only_look: nothing will be written.

    Returns:
        The run. Its ledger is open.

    Raises:
        RunError: no run and no pool; or the run there has another config.
        FingerprintMismatch: the run's labels are of another pool, and `rebind` is false.
        ConfigError, PoolError, Damaged: as their names say.
    """
    run = RunDir(Path(run_dir))
    new = config is None and run.config() is None
    config = config_of(run, pool, config, fleet, fields)
    if pool is None:
        pool = own_pool(config)
    else:
        pool = pool_of_labels(pool if isinstance(pool, Pool) else open_pool(pool), config.parts)
    ledger = run.open_ledger() if run.has_ledger else None
    try:
        if ledger is not None and not rebind:
            if only_look:
                check_pool(run, ledger, pool)
            else:
                pool = pool_to_write(run, ledger, pool)
        parts = RunParts.of(config, pool)
        if new:  # an older raysal took queries that nothing goes by
            check_like(config.like, (parts.selector, parts.start, *parts.narrower.strategies()))
        return OpenRun(run=run, config=config, pool=pool, parts=parts, ledger=ledger)
    except BaseException:
        if ledger is not None:
            ledger.close()
        raise
