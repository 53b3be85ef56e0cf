"""`raysal.core`: a number of items of a pool that cover all others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from raysal.arguments import Backend
from raysal.pool import Pool

if TYPE_CHECKING:
    from raysal.curation.curated import Curated
    from raysal.types import Report


def core(
    pool: str | Path | Pool,
    size: float,
    *,
    mode: Literal["exact", "levels"] = "exact",
    epsilon: float | None = None,
    always: str | None = None,
    seed: int = 0,
    partitions: int | None = None,
    backend: Backend = "local",
    address: str | None = None,
    device: str = "cpu",
    report: Report | None = None,
) -> Curated:
    """Keep a number of items so that every dropped one is near to a kept one (k-center).

    Each item that is kept next is the farthest from those that are kept already. The covering radius, the largest
    distance of a dropped item to the nearest kept one, is computed exactly: `found.steps[0].result.facts["radius"]`.
    It is at most twice the smallest that `size` items can have, with those of `always` among them. The result does not
    depend on partitions, chunks and backend. What a smaller `size` keeps, a larger one keeps as well, and begins with.

    Args:
        pool: an embedded pool, its path or its URL.
        size: how many items are kept; below 1, which share of all.
        mode: `exact`; or `levels`: the next one is any item farther than 1 - `epsilon` times the radius so far, in an
            order that is drawn, and the radius is less than 2 / (1 - `epsilon`) times the smallest.
        epsilon: 0.001 to 0.5; by default 0.1. Of `levels` alone.
        always: a column of the pool: items that have a value in it (true, where values are true or false) are kept,
            cover others from the start, and count for `size`.
        seed: randomness, of the first item, and of the order.
        partitions: parts that the pool is cut into; by default one, and with Ray one per CPU.
        backend: this process, or Ray.
        address: a Ray cluster; by default one is started on this machine.
        device: `cpu`, or `cuda`, `cuda:1` ... for distances.
        report: called with the stage, what of it is done, and its total.

    Returns:
        What became of each item: `.kept`, `.dropped`, `.table()` and `.write("core.parquet")`. The value of a dropped
        item is its distance to the nearest kept one, of vectors of length 1 where the metric is the cosine.

    Raises:
        ConfigError: the size is none, or less than the items that are always kept; the pool has no such column; or an
            argument is out of range or of the wrong type.
        UnknownName: there is no such backend.
        PoolError: the pool cannot be opened.
        NotNow: another process curates this pool.
        Damaged: a file is not as it was written.
    """
    from raysal.api.curate import run_step

    step = {"name": "core", "size": size, "mode": mode, "epsilon": epsilon, "always": always}
    return run_step(
        pool, step, seed=seed, partitions=partitions, backend=backend, address=address, device=device, report=report
    )
