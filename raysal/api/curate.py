"""`raysal.curate`: a plan of steps over a pool; and one step alone, as the verbs of single steps need it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysal.arguments import Backend
from raysal.pool import Pool

if TYPE_CHECKING:
    from raysal.curation.curated import Curated
    from raysal.curation.plan import AnyStep, CurateConfig
    from raysal.types import Report

DEFAULT_STEPS = ("exact", "near")
"""Of a plan that says nothing else: copies, and near-copies at the default threshold."""


def curate(
    pool: str | Path | Pool,
    steps: AnyStep | Sequence[AnyStep] | None = None,
    *,
    config: str | Path | Mapping[str, Any] | CurateConfig | None = None,
    seed: int | None = None,
    partitions: int | None = None,
    backend: Backend = "local",
    address: str | None = None,
    device: str = "cpu",
    report: Report | None = None,
) -> Curated:
    """Choose the items of a pool that are worth keeping, by a plan of steps.

    Each step is given the items that those before it left, and says which of them it drops, and why. No result depends
    on partitions, chunks and backend. What a step found is kept in the pool, or in the cache where the
    pool cannot be written: the same call again computes nothing, another later step leaves the earlier ones as they
    are, and an interrupted call goes on.

    Args:
        pool: an embedded pool, its path or its URL.
        steps: names of `raysal.curation.registry.STEPS`, mappings with `name` and fields, or instances, in order. By
            default `exact` and `near`.
        config: a plan in place of steps: a TOML file with `[[steps]]`, as configs/curate.toml, or its values.
        seed: randomness; by default that of the config, or 0.
        partitions: parts that the pool is cut into; by default one, and with Ray one per CPU.
        backend: this process, or Ray.
        address: a Ray cluster; by default one is started on this machine.
        device: `cpu`, or `cuda`, `cuda:1` ... for the steps that compute there.
        report: called with the stage, what of it is done, and its total.

    Returns:
        What became of each item: `.kept`, `.dropped`, `.steps`, `.table()` and `.write("kept.parquet")`.

    Raises:
        ConfigError: a field of a step is unknown or out of range, or the step cannot work on this pool; or an argument
            is of the wrong type.
        UnknownName: there is no such step or backend.
        PoolError: the pool cannot be opened, or has no column that a step needs.
        NotNow: another process curates this pool.
        Damaged: a file is not as it was written.
    """
    from raysal.arguments import as_path
    from raysal.curation.plan import CurateConfig, load_plan, parse_plan
    from raysal.errors import ConfigError

    if config is not None and steps is not None:
        raise ConfigError("steps, config", "both are given", "leave out one of them")
    if config is not None:
        if isinstance(config, CurateConfig):
            plan = config
        else:
            plan = parse_plan(config) if isinstance(config, Mapping) else load_plan(as_path("config", config))
        steps, seed = plan.steps, plan.seed if seed is None else seed
    return run_steps(
        pool, DEFAULT_STEPS if steps is None else steps, seed=0 if seed is None else seed, partitions=partitions,
        backend=backend, address=address, device=device, report=report,
    )  # fmt: skip


def run_step(pool: str | Path | Pool, step: AnyStep, **options: Any) -> Curated:
    """Do one step alone, as a plan of one.

    Args:
        pool: an embedded pool, its path or its URL.
        step: a name, a mapping with `name` and fields, or an instance.
        options: as of `run_steps`.

    Returns:
        What became of each item.

    Raises:
        RaysalError: as `run_steps`.
    """
    from raysal.curation.registry import STEPS

    name = step if isinstance(step, str) else step.get("name") if isinstance(step, Mapping) else STEPS.name_of(step)
    return run_steps(pool, step, place=str(name or "step"), **options)


def run_steps(
    pool: str | Path | Pool,
    steps: AnyStep | Sequence[AnyStep],
    *,
    seed: int = 0,
    partitions: int | None = None,
    backend: Backend = "local",
    address: str | None = None,
    device: str = "cpu",
    report: Report | None = None,
    place: str = "steps",
) -> Curated:
    """Do steps in order; arguments, result and errors as of `curate`.

    Args:
        pool: an embedded pool, its path or its URL.
        steps: in order; or one.
        seed: randomness.
        partitions: parts that the pool is cut into.
        backend: this process, or Ray.
        address: a Ray cluster.
        device: for the steps that compute there.
        report: called with the stage, what of it is done, and its total.
        place: what errors call the steps.

    Returns:
        What became of each item.

    Raises:
        ConfigError: as of `curate`.
        UnknownName: there is no such step or backend.
        PoolError: the pool cannot be opened.
        NotNow: another process curates this pool.
        Damaged: a file is not as it was written.
    """
    from raysal.arguments import as_place, as_whole_number
    from raysal.config import FleetConfig
    from raysal.curation.job import curate_pool
    from raysal.curation.plan import plan_of
    from raysal.errors import ConfigError, UnknownName
    from raysal.pool import open_pool

    if backend not in ("local", "ray"):
        raise UnknownName("backend", backend, ["local", "ray"])
    if address is not None and backend != "ray":
        raise ConfigError("address", f"is of a Ray cluster, the backend is {backend}", 'use backend="ray", too')
    count = 0 if partitions is None else as_whole_number("partitions", partitions, 1)
    seed = as_whole_number("seed", seed, 0)
    plan = plan_of(steps, place)
    opened = pool if isinstance(pool, Pool) else open_pool(as_place("pool", pool))
    fleet = FleetConfig(backend=backend, partitions=count, address=address, device=device)
    return curate_pool(opened, plan, fleet, seed=seed, report=report)
