"""The beginning of a program of the fleet: what must not be offered is taken out, held-out items among it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raysal.fleet import Fleet, exclude
from raysal.rounds.evaluation import hold_out
from raysal.rounds.held_out import HeldOut
from raysal.rounds.offered import RowsOffered


def start_program(
    fleet: Fleet, taken: NDArray[np.int64], held_out: HeldOut | None, rows: RowsOffered | None = None
) -> int:
    """Reset the fleet and take out what must not be offered. One to three round trips.

    Args:
        fleet: the pool's partitions; whatever program was running ends.
        taken: ids int64 that have a label, wait for one, or were skipped.
        held_out: the items kept for the evaluation.
        rows: what the items are, where they may be owners of parts.

    Returns:
        How many items are left.
    """
    fleet.reset()
    if rows is not None:
        rows.begin(fleet)
    if held_out is not None:
        fleet.each(hold_out, *held_out)
    return sum(fleet.each(exclude, taken))
