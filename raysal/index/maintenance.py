"""The index of a run: build one where there is none, and rebuild it where it lacks rows, as the config says."""

from __future__ import annotations

import subprocess
from pathlib import Path

from raysal.config import IndexConfig
from raysal.fleet import Fleet, LocalFleet
from raysal.index.background import LOG, is_building, rebuild_in_background
from raysal.index.build import build_index
from raysal.index.files import FOLDER, Index, current_generation, open_index
from raysal.index.kinds import load_faiss
from raysal.index.memory import memory_limit
from raysal.index.plan import plan_index
from raysal.pool import Pool
from raysal.types import Report

_begun: dict[tuple[Path, str, int], subprocess.Popen[bytes]] = {}
"""(pool, generation, missing rows) -> the rebuild that this process began. One that failed is not begun again."""


def check_index(pool: Pool | None, config: IndexConfig) -> None:
    """Check that rounds over a pool can search its index, or that the config has one built.

    Args:
        pool: the pool; None is one that is not embedded yet.
        config: what it says of the index.

    Raises:
        UserError: FAISS is not installed.
        ConfigError: `memory` is not a size.
        PoolError: there is no index and the config builds none, or it is of a newer version.
        Damaged: a file of the index is missing or was altered.
        FingerprintMismatch: the index is of another encoder, dim or metric.
    """
    load_faiss()
    memory_limit(config.memory, "index.memory")
    if pool is not None and not (config.build and current_generation(pool.path) == ""):
        open_index(pool)


def build_missing_index(pool: Pool, fleet: Fleet, config: IndexConfig, report: Report | None = None) -> None:
    """Build an index of a pool that has none. Ends the fleet's program.

    Args:
        pool: the pool.
        fleet: is open over it.
        config: what it says of the index.
        report: called with (stage, done, total).

    Raises:
        ConfigError: the index would need more memory than `config` allows.
        PoolError: the pool has fewer than 2 rows, or the disk is full.
        RunError: another build is at work.
    """
    if current_generation(pool.path):
        return
    plan = plan_index(
        [chunk.stored for chunk in pool.chunks],
        pool.dim,
        kind=config.kind,
        memory=memory_limit(config.memory, "index.memory"),
        processes=1 if isinstance(fleet, LocalFleet) else fleet.size,
    )
    build_index(pool, fleet, plan, report=report)


def start_rebuild(pool: Pool, index: Index, lacking: int, config: IndexConfig) -> str:
    """Begin to rebuild an index that lacks rows, where the config says so, and put into words what was done.

    The rebuild keeps the kind unless the config names one. It keeps the size of shards and the seed, so that it can
    use shards and training again.

    Args:
        pool: the pool.
        index: its current index.
        lacking: rows of the pool that the index lacks.
        config: what it says of the index.

    Returns:
        A clause for the round's record.
    """
    if not config.rebuild:
        return "`raysal index build` adds them"
    child = _begun.get(this := (pool.path.absolute(), index.name, lacking))
    if (child is not None and child.poll() is None) or is_building(pool.path):
        return "a rebuild is under way"
    if child is not None:
        return f"the rebuild failed (see {Path(FOLDER) / LOG} in the pool)"
    kind = index.kind if config.kind == "auto" else config.kind
    options = [f"--kind={kind}", f"--shard-rows={index.shard_rows}", f"--seed={index.seed}"]
    options += [f"--target-recall={index.target_recall}", *([f"--memory={config.memory}"] if config.memory else [])]
    _begun[this] = rebuild_in_background(pool, *options)
    return "rebuild begun"
