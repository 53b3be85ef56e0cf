"""The beginning of a program of the fleet: what must not be offered is taken out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raysal.config import RunConfig
from raysal.fleet import Fleet, exclude
from raysal.rng import derive
from raysal.rounds.evaluation import hold_out


class HeldOut(NamedTuple):
    """The items that a run keeps for its evaluation, chosen by hash."""

    key: int
    """of `raysal.rng`"""
    share: float
    """of all items, in (0, 1)"""

    @classmethod
    def of(cls, config: RunConfig) -> HeldOut | None:
        """Those of a run; None if it keeps none."""
        share = config.rounds.holdout
        return cls(derive(config.seed, "holdout"), share) if share else None


def start_program(fleet: Fleet, taken: NDArray[np.int64], held_out: HeldOut | None) -> int:
    """Reset the fleet and take out what must not be offered. One or two round trips.

    Args:
        fleet: the pool's partitions; whatever program was running ends.
        taken: ids int64 that have a label, wait for one, or were skipped.
        held_out: the items kept for the evaluation.

    Returns:
        How many items are left.
    """
    fleet.reset()
    if held_out is not None:
        fleet.each(hold_out, *held_out)
    return sum(fleet.each(exclude, taken))
