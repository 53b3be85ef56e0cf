"""The test draws of a round as its record and its batch keep them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TESTS = "tests"
"""What a round's record calls what it says of them, and of what else was known."""
PROBABILITY, LEAST, REMAINING = "probability", "least_probability", "remaining"
"""The columns of a batch that say how a test draw was drawn; empty for what the strategy picked."""
TRUTH, UNIFORM, DRAWS = "truth", "uniform", "test draws"
"""How held-out items became known: an oracle knows the truth, people told some, or some were drawn as tests."""
STRATEGY = "test"
"""What the column `strategy` of a batch says of a test draw."""


@dataclass(frozen=True, kw_only=True)
class DrawnTests:
    """The test draws of a round, in the order in which they were drawn."""

    ids: NDArray[np.int64]
    """[n]"""
    probability: NDArray[np.float64]
    """[n] of the item, among those that were left"""
    least: NDArray[np.float64]
    """[n] the lowest that any item left could have"""
    population: int
    """held-out items that measure"""
    told: Sequence[int]
    """ids of those that became known since the last record in another way than by a test draw"""
    uniform: int
    """how many of `told`, from the first, are uniform draws: no item before them in the order in which held-out items
    are given to people is unknown"""
    known: int
    """held-out items that were known before the draws, `told` included"""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def remaining(self) -> NDArray[np.int64]:
        """How many items each draw was from, [n]."""
        return self.population - self.known - np.arange(len(self), dtype=np.int64)

    def record(self) -> dict[str, Any]:
        """What the record of the round says of them."""
        return {
            "population": self.population,
            "remaining": self.population - self.known,
            "drawn": len(self),
            "told": list(self.told),
            "uniform": self.uniform,
        }
