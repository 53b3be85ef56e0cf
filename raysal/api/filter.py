"""`raysal.filter`: which items of a pool are no good by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from raysal.arguments import Backend
from raysal.pool import Pool

if TYPE_CHECKING:
    from raysal.curation.curated import Curated
    from raysal.types import Report


def filter(
    pool: str | Path | Pool,
    *,
    where: Mapping[str, Any] | None = None,
    keep_missing: bool = False,
    lowest: Mapping[str, float] | None = None,
    highest: Mapping[str, float] | None = None,
    outliers: Literal["knn", "mahalanobis"] | None = None,
    like: Mapping[str, Any] | None = None,
    outlier_share: float | None = None,
    outlier_k: int = 5,
    outlier_sample: int = 10_000,
    novelty: str | Mapping[str, Any] | None = None,
    novelty_share: float | None = None,
    seed: int = 0,
    partitions: int | None = None,
    backend: Backend = "local",
    address: str | None = None,
    device: str = "cpu",
    report: Report | None = None,
) -> Curated:
    """Drop the items of a pool that are no good by themselves: by their columns, by distance, by novelty.

    What is named first of these is done first, and what comes later looks at what is left. Of each share, items that
    tie with the last one to stay, stay. The result does not depend on partitions, chunks and backend.

    Args:
        pool: an embedded pool, its path or its URL.
        where: a test for each of these columns, which an item must pass: `{"sharpness": {"min": 5}}`,
            `{"language": ["en", "de"]}`, `{"split": {"not": "test"}}`. Measures of quality are columns of pools that
            were embedded with `measures`.
        keep_missing: whether an item without a value passes.
        lowest: {column: share}: that share of the items with the lowest values is dropped, as `{"sharpness": 0.01}`.
        highest: the same of the highest values.
        outliers: drop those that are farthest from a reference: by `knn`, the distance to the nearest items of it, or
            by `mahalanobis`, that to its mean.
        like: tests of columns; the items that pass are the reference, and none of them is dropped as an outlier.
        outlier_share: of the items that are not of the reference; by default 0.01.
        outlier_k: to which nearest one `knn` takes the distance.
        outlier_sample: items of the reference that are looked at, at most; a uniform sample.
        novelty: drop those that are least like the rest of the pool: `knn`, `isolation_forest`, `local_density` or
            `mahalanobis`, or a mapping with `name` and fields.
        novelty_share: of the items that are left; by default 0.01.
        seed: randomness, of samples.
        partitions: parts that the pool is cut into; by default one, and with Ray one per CPU.
        backend: this process, or Ray.
        address: a Ray cluster; by default one is started on this machine.
        device: `cpu`, or `cuda`, `cuda:1` ... for distances.
        report: called with the stage, what of it is done, and its total.

    Returns:
        What became of each item: `.kept`, `.dropped`, `.table()` and `.write("kept.parquet")`.

    Raises:
        ConfigError: nothing is asked for; the pool has no such column, or a test is of another type than it; a share is
            out of range; or an argument is of the wrong type.
        UnknownName: there is no such novelty or backend.
        PoolError: the pool cannot be opened.
        NotNow: another process curates this pool.
        Damaged: a file is not as it was written.
    """
    from raysal.api.curate import run_step

    fields = {
        "where": where,
        "keep_missing": keep_missing,
        "lowest": lowest,
        "highest": highest,
        "outliers": outliers,
        "like": like,
        "outlier_share": outlier_share,
        "outlier_k": outlier_k,
        "outlier_sample": outlier_sample,
        "novelty": novelty,
        "novelty_share": novelty_share,
    }
    step = {"name": "filter", **{name: value for name, value in fields.items() if value is not None}}
    return run_step(
        pool, step, seed=seed, partitions=partitions, backend=backend, address=address, device=device, report=report
    )
