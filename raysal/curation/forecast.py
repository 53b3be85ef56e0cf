"""What a plan will do, before it does it: what each step keeps, and how long it takes on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raysal.curation.base import Forecast, Speed
from raysal.curation.job import finished_steps
from raysal.curation.plan import PlannedStep, check_plan
from raysal.pool import Pool

MEASURED_S = 0.15
"""How long each of the two speeds is measured, in seconds."""
SIDE = 768
"""Rows and columns of the products that are measured."""
ROWS = 4096
"""Rows that are read and converted at a time."""


@dataclass(frozen=True, kw_only=True)
class PlanLine:
    """What a step of a plan will do."""

    label: str
    items: int
    """that it is given, at most"""
    kept: int | None
    """items that it keeps; None where only doing it tells"""
    seconds: float
    """predicted, on one partition; 0 where it is done"""
    done: bool
    """whether it was done before, and is only read"""


def forecast_plan(
    pool: Pool, plan: Sequence[PlannedStep], *, seed: int = 0, home: Path | None = None, speed: Speed | None = None
) -> list[PlanLine]:
    """Say what a plan will do. It takes about `2 * MEASURED_S` seconds, and reads some rows of the pool.

    Args:
        pool: the items.
        plan: the steps.
        seed: randomness of the plan: steps that were done with it are known.
        home: where what steps found is kept; by default in the pool.
        speed: of this machine; by default it is measured.

    Returns:
        A line for each step.

    Raises:
        ConfigError: a step cannot work on this pool.
        Damaged: a file of a finished step is not as it was written.
    """
    check_plan(plan, pool)
    finished = finished_steps(pool, plan, seed=seed, home=home)
    if speed is None and len(finished) < len(plan):
        speed = measured_speed(pool)
    lines, left = [], len(pool)
    for at, planned in enumerate(plan):
        if at < len(finished):
            foreseen = Forecast(kept=finished[at], seconds=0.0)
        else:
            assert speed is not None, "it is measured where a step is not finished"
            with planned.naming_errors():
                foreseen = planned.step.forecast(pool, left, speed)
        lines.append(
            PlanLine(
                label=planned.label, items=left, kept=foreseen.kept, seconds=foreseen.seconds, done=at < len(finished)
            )
        )  # fmt: skip
        left = left if foreseen.kept is None else foreseen.kept
    return lines


def measured_speed(pool: Pool) -> Speed:
    """Measure what this machine does in a second.

    Args:
        pool: its rows are read, unless they would come from a bucket.

    Returns:
        The speed, while other processes are as busy as they are now.
    """
    square = np.ones((SIDE, SIDE), np.float32)
    out = np.empty_like(square)
    products = SIDE**3 / _seconds(lambda: np.matmul(square, square, out=out))
    chunk = next((one for one in pool.chunks if one.rows and not one.is_fetched), None)
    rows = np.ones((ROWS, pool.dim), np.float16) if chunk is None else chunk.vectors()[:ROWS]
    return Speed(products=products, rows=len(rows) / _seconds(lambda: np.square(rows.astype(np.float32))))


def _seconds(work: Callable[[], object]) -> float:
    """Seconds that some work takes while other processes are as busy as they are now: the mean of several tries."""
    work()
    tries, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < MEASURED_S or not tries:
        work()
        tries += 1
    return max(passed / tries, 1e-9)
