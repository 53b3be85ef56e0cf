"""The index of a run: built where there is none, built anew where it lacks rows, as its config says."""

from __future__ import annotations

import subprocess
from pathlib import Path

from raysal.config import IndexConfig
from raysal.fleet import Fleet, LocalFleet
from raysal.index.background import LOG, rebuild_in_background, under_way
from raysal.index.build import Report, build_index
from raysal.index.files import FOLDER, Index, in_force, open_index
from raysal.index.kinds import load_faiss
from raysal.index.memory import allowed
from raysal.index.plan import plan_index
from raysal.pool import Pool

_begun: dict[tuple[Path, str, int], subprocess.Popen[bytes]] = {}
"""Rebuilds this process began, by pool, generation and rows it lacks: one that failed is not begun again each round."""


def check_index(pool: Pool | None, config: IndexConfig) -> None:
    """Whether rounds over a pool can search its index, or will be able to; None is a pool that is yet to be embedded.

    Raises:
        UserError: faiss is not installed.
        ConfigError: `memory` is not a size.
        PoolError: there is no index, and none is to be built; or it is of a newer version.
        Damaged, FingerprintMismatch: the one that is there cannot be used.
    """
    load_faiss()
    allowed(config.memory, "index.memory")
    if pool is not None and not (config.build and in_force(pool.path) == ""):
        open_index(pool)


def first_index(pool: Pool, fleet: Fleet, config: IndexConfig, report: Report | None = None) -> None:
    """Build an index of the pool of an open fleet where it has none. Ends the fleet's program.

    Raises:
        ConfigError: it would need more memory than is allowed.
        PoolError: fewer than 2 rows; or the disk is full.
        RunError: another build is under way.
    """
    if in_force(pool.path):
        return
    plan = plan_index(
        [chunk.rows for chunk in pool.chunks],
        pool.dim,
        kind=config.kind,
        memory=allowed(config.memory, "index.memory"),
        processes=1 if isinstance(fleet, LocalFleet) else fleet.size,
    )
    build_index(pool, fleet, plan, report=report)


def renewal(pool: Pool, index: Index, lacking: int, config: IndexConfig) -> str:
    """What happens about an index that lacks so many rows, in words; begins a rebuild where the config wants it.

    It is of the kind that is there unless the config names one, and cut and seeded alike, so that what still serves is
    used again.
    """
    if not config.rebuild:
        return "`raysal index build` adds them"
    child = _begun.get(this := (pool.path.absolute(), index.name, lacking))
    if (child is not None and child.poll() is None) or under_way(pool.path):
        return "a rebuild is under way"
    if child is not None:
        return f"the rebuild failed (see {Path(FOLDER) / LOG} in the pool)"
    kind = index.kind if config.kind == "auto" else config.kind
    options = [f"--kind={kind}", f"--shard-rows={index.shard_rows}", f"--seed={index.seed}"]
    options += [f"--target-recall={index.target_recall}", *([f"--memory={config.memory}"] if config.memory else [])]
    _begun[this] = rebuild_in_background(pool, *options)
    return "rebuild begun"
