"""Cells of `benchmarks.suite`: heads, updates, sweeps and BAIT."""

from __future__ import annotations

import time
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.loops import published_bait
from benchmarks.machine import random_head
from benchmarks.narrowing_cells import OwnMemory
from benchmarks.suite_rows import CannotMeasure, Numbers, Setting, alone
from benchmarks.suite_rows_selection import medians, random_in
from raysal.fleet import LocalFleet, exclude, keep, plan_partitions
from raysal.models.trainers.base import TrainingData
from raysal.models.trainers.logistic import Logistic
from raysal.pool import Pool


def labelled(n: int, dim: int, classes: int) -> tuple[NDArray[np.float32], list[str]]:
    """Rows around a centre for each class, with a falling spectrum, and the names of their classes."""
    rng = np.random.default_rng(3)
    scale = (1 + np.arange(dim)) ** -0.5
    which = np.arange(n) % classes
    x = (rng.normal(size=(classes, dim))[which] + 1.5 * rng.normal(size=(n, dim))) * scale
    return x.astype(np.float16).astype(np.float32), [f"class-{c}" for c in which]


def fit(x: NDArray[np.float32], names: list[str]) -> object:
    """The default head."""
    data = TrainingData(features=x, labels=names, weights=np.ones(len(names)), classes=sorted(set(names)))
    return Logistic().fit(data)


def scikit_fit(x: NDArray[np.float32], names: list[str]) -> object:
    """scikit-learn's default, one penalty that nobody chose."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=1000).fit(x, names)


# -- heads -----------------------------------------------------------------------------------------------------------


def wide_heads(setting: Setting) -> Numbers:
    """Heads of 30 labels with many features: time and memory, each length in a process of its own."""
    found: Numbers = {}
    for dim in (4096, 8192):
        own = setting.sized(dim, dim // 32)
        pool = random_in(setting, f"wide-{own}", setting.sized(2_000, 200), own)
        numbers = alone("benchmarks.suite_rows_models:wide", pool.path)
        found |= {name.format(dim): value for name, value in numbers.items()}
    return found


def wide(path: str) -> Numbers:
    """For `wide_heads`, over the pool at a path; names leave room for the length of its vectors."""
    import raysal

    pool = Pool(Path(path))
    x, names = labelled(30, pool.dim, 5)
    fit(x[:, :64], names)  # imports
    scikit_fit(x[:, :64], names)
    scikit_s = sorted(seconds_of(partial(scikit_fit, x, names)) for _ in range(3))[1]
    with OwnMemory() as own:
        fit_s = seconds_of(partial(fit, x, names))
    keys = {f"row-{i}": name for i, name in enumerate(names)}
    raysal.select(pool, k=20, strategy="random")
    random_s = seconds_of(lambda: raysal.select(pool, k=20, strategy="random", labels=keys))
    took = own.most - own.start
    return {
        "fit_{}_s": fit_s,
        "fit_{}_mb": took,
        "fit_{}": fit_s / scikit_s,
        "memory_{}": took / (x.size * 8 / 2**20),
        "random_{}_s": random_s,
        "random_{}": random_s / scikit_s,
        "scikit_{}_s": scikit_s,
    }


def head_of_1000(setting: Setting) -> Numbers:
    """A usual head."""
    x, names = labelled(setting.sized(1000, 200), setting.sized(256, 32), 10)
    works = {"fit_s": partial(fit, x, names), "scikit_s": partial(scikit_fit, x, names)}
    found = medians(works, setting.turns(5))
    return {**found, "fit": found["fit_s"] / found["scikit_s"]}


def tell_of_one(setting: Setting) -> Numbers:
    """As `benchmarks.laplace update` measures it: a label after 1,000, and a retrain."""
    from benchmarks import laplace_tell

    found: dict[str, Any] = laplace_tell.measured(setting.own, setting.sized(10_000, 4_000), setting.sized(20, 3))
    return {**found, "retrains": found["retrain_s"] / found["follow_s"], "tells": found["retrain_s"] / found["tell_s"]}


# -- sweeps ----------------------------------------------------------------------------------------------------------


def sweeps(setting: Setting) -> Numbers:
    """Margin for ten classes, and 100 anchors' neighbours with it, beside the bare products."""
    from benchmarks.sweep import CLASSES, against_bare
    from raysal.scoring.sweep import Search, SweepRequest, sweep

    pool = flat_of(setting)
    head = random_head(pool, CLASSES)
    anchors = np.random.default_rng(2).normal(size=(100, pool.dim)).astype(np.float32)
    searches: dict[int, tuple[Search, ...]] = {10: (), 110: (Search(anchors=anchors, each=50),)}
    args, found = sweep_arguments(setting, pool), Numbers()
    with LocalFleet(plan_partitions(pool, 1)) as fleet:
        for columns, near in searches.items():
            request = SweepRequest(scores=("margin",), top=1000, searches=near)
            case = against_bare(partial(sweep, fleet, head, request), columns, args)
            found |= {f"{name[:-2]}_{columns}_s": case[name] for name in ("bare_s", "sweep_s")}
            found[f"rate_{columns}"] = case["ratio"]
    return found


def bald_sweep(setting: Setting) -> Numbers:
    """By `bald` with the draws of its default number, beside bare products of the columns that it reads: ten classes
    for each draw."""
    from benchmarks.laplace_sweep import with_posterior
    from benchmarks.sweep import CLASSES, against_bare
    from raysal.scoring.sweep import SweepRequest, sweep

    pool = flat_of(setting)
    head = with_posterior(pool, "shared")
    request = SweepRequest(scores=("bald",), top=1000)
    with LocalFleet(plan_partitions(pool, 1)) as fleet:
        columns = CLASSES * (1 + draws_of_bald(fleet, head))
        case = against_bare(partial(sweep, fleet, head, request), columns, sweep_arguments(setting, pool))
    return {"bare_s": case["bare_s"], "sweep_s": case["sweep_s"], "rate": case["ratio"], "columns": columns}


def draws_of_bald(fleet: LocalFleet, head: Any) -> int:
    """As `benchmarks.laplace sweep` counts the columns; 32 where this build counts them elsewhere."""
    from benchmarks.sweep import CLASSES

    try:
        from benchmarks.laplace_sweep import columns_read
        from raysal.scoring.inputs import score_inputs

        (columns,) = fleet.each(columns_read, score_inputs(head, ("bald",)))
    except (ImportError, AttributeError, TypeError):
        return 32
    return columns // CLASSES - 1


def flat_of(setting: Setting) -> Pool:
    rows = setting.sized(1_000_000, 6_000)
    return random_in(setting, f"flat-{rows}", rows, 256)


def sweep_arguments(setting: Setting, pool: Pool) -> Namespace:
    return Namespace(rows=len(pool), dim=pool.dim, device="cpu", repeats=setting.turns(5))


# -- BAIT ------------------------------------------------------------------------------------------------------------


def bait_loop(setting: Setting) -> Numbers:
    """The forward loop over rows in memory beside the published one. Each pick of the latter costs the same, so its
    first ones stand for all."""
    from raysal.strategies.information.fisher import bait_of_rows

    n, d, k = setting.sized(1000, 200), setting.sized(384, 16), setting.sized(100, 10)
    rng = np.random.default_rng(0)
    h = rng.normal(size=(n, d)) * np.arange(1, d + 1) ** -0.3
    p = rng.uniform(0.3, 0.99, n)
    roots = np.sqrt(p * (1 - p))[:, None, None]
    x = roots[:, 0] * h
    fisher = x.T @ x / n
    precision = fisher + np.eye(d) * np.trace(fisher) / d
    few = setting.sized(10, 5)
    picks: dict[str, list[int]] = {}

    def ours() -> None:
        picks["ours"] = bait_of_rows(roots, h, precision, fisher, k).tolist()

    def published() -> None:
        picks["published"] = published_bait(p, h, np.linalg.inv(precision), fisher, few)

    found = medians({"ours_s": ours, "published_s": published}, setting.turns(3))
    if picks["ours"][:few] != picks["published"]:
        raise CannotMeasure("the picks are not those of the published loop")
    return {**found, "loops": found["published_s"] * k / few / found["ours_s"]}


def bait_narrowed(setting: Setting) -> Numbers:
    """A batch of narrowed candidates beside one of the whole pool."""
    from benchmarks.information import fitted
    from benchmarks.machine import context_of
    from raysal.rounds.gathering import gather_vectors
    from raysal.strategies import SELECTORS
    from raysal.strategies.base import select

    rows, dim, k = setting.sized(60_000, 1_500), setting.sized(1280, 24), setting.sized(25, 5)
    few = setting.sized(3_000, 300)
    pool = random_in(setting, f"bait-{rows}", rows, dim, decay=0.5)
    with LocalFleet(plan_partitions(pool, 1)) as fleet:
        ids = np.arange(200)
        x = gather_vectors(fleet, dim, ids)
        names = [f"c{c}" for c in (x @ np.random.default_rng(2).normal(size=(dim, 10))).argmax(1)]
        head = fitted(x, names, sorted(set(names)))
        picks, times = {}, {}
        for name in ("narrowed", "whole", "narrowed"):
            fleet.reset()
            fleet.each(exclude, ids)
            if name == "narrowed":
                fleet.each(keep, np.arange(200, 200 + few))
            context = context_of(fleet, head=head, ids=ids, vectors=x, classes=names, k=k, key=0)
            start = time.perf_counter()
            picks[name] = select(fleet, SELECTORS["bait"](), context, k).ids.tolist()
            times[name] = time.perf_counter() - start  # the first one warms up
    return {"narrowed_s": times["narrowed"], "whole_s": times["whole"], "wholes": times["whole"] / times["narrowed"],
            "picks": picks}  # fmt: skip


def seconds_of(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
