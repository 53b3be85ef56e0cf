"""`raysal.balance`: so many items of a pool, as evenly over what there is as they can be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from raysal.arguments import Backend
from raysal.pool import Pool

if TYPE_CHECKING:
    from raysal.curation.curated import Curated
    from raysal.types import Report


def balance(
    pool: str | Path | Pool,
    *,
    size: int | float,
    by: str | Sequence[str] = "clusters",
    clusters: Sequence[int] | None = None,
    rounds: int = 10,
    prefer: Literal["random", "nearest", "farthest"] = "random",
    predictions: str | Path | None = None,
    bins: int = 20,
    seed: int = 0,
    partitions: int | None = None,
    backend: Backend = "local",
    address: str | None = None,
    device: str = "cpu",
    report: Report | None = None,
) -> Curated:
    """Keep so many items of a pool, spread as evenly over groups as there are items.

    No group gives fewer than another beside it unless it has no more, and what small groups cannot fill goes to the
    others. A smaller size keeps some of what a larger one keeps. Clusters stay in the pool, so that another size takes
    seconds. The result does not depend on partitions, chunks and backend.

    Args:
        pool: an embedded pool, its path or its URL.
        size: how many items are kept; below 1, which share of them.
        by: `clusters` (hierarchical k-means), `column:NAME` (values that the pool carries), `class` (what a head
            predicts), or `density`; several are groups within groups, the outermost first.
        clusters: how many at each level, the most first; by default one for ten items, at most 10,000, and a tenth at
            each next level.
        rounds: of resampling, at every level of clusters but the first.
        prefer: which items of a cluster come first: any, or those nearest to its centroid, or farthest from it.
        predictions: for `class`, a folder that `raysal.predict` wrote.
        bins: ranges that numbers of a column are cut into, if they have more different values.
        seed: randomness.
        partitions: parts that the pool is cut into; by default one, and with Ray one per CPU.
        backend: this process, or Ray.
        address: a Ray cluster; by default one is started on this machine.
        device: `cpu`, or `cuda`, `cuda:1` ... for the clusters.
        report: called with the stage, what of it is done, and its total.

    Returns:
        What became of each item: `.kept`, `.dropped`, `.table()` and `.write("kept.parquet")`.

    Raises:
        ConfigError: an argument is out of range, or of the wrong type, or the pool has no such column.
        FingerprintMismatch: the predictions are of another pool.
        UnknownName: there is no such backend.
        PoolError: the pool or the predictions cannot be opened.
        NotNow: another process curates this pool.
        Damaged: a file is not as it was written.
    """
    from raysal.api.curate import run_step

    fields = {
        "size": size,
        "by": by if isinstance(by, str) else by[0] if len(by) == 1 else tuple(by),
        "clusters": None if clusters is None else tuple(clusters),
        "rounds": rounds,
        "prefer": prefer,
        "predictions": None if predictions is None else str(predictions),
        "bins": bins,
    }
    step = {"name": "balance", **{name: value for name, value in fields.items() if value is not None}}
    return run_step(
        pool, step, seed=seed, partitions=partitions, backend=backend, address=address, device=device, report=report
    )
