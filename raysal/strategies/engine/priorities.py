"""The two rules of the lazy engine: what a row remembers, how picks change it, and what it is judged by.

A rule's state is a float64 matrix [fields, n], a column a row; field 0 is the squared distance to the nearest centre
the row has heard of. Priorities never rise when more centres are heard of, so an old priority is an upper bound.
Hearing of a centre twice changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.rng import item_uniform


class Rule(Protocol):
    @property
    def ordered(self) -> bool:
        """Whether a state depends on the order of the centres it has heard of."""
        ...

    def start(self, ids: NDArray[np.int64]) -> torch.Tensor:
        """State [fields, n] of rows that have heard of no centre; field 0 is to be filled with a finite bound."""
        ...

    def fold(self, state: torch.Tensor, sq_distances: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """State [fields, n] after centres at squared distances [q, n], picked at `times` [q], ascending."""
        ...

    def priority(self, state: torch.Tensor) -> torch.Tensor:
        """What rows are judged by [n]; the largest is picked next, -inf never."""
        ...

    def time(self, priority: float) -> float:
        """When a row of this priority is picked."""
        ...


@dataclass(frozen=True, kw_only=True)
class FarthestPoint:
    """The row farthest from all centres is picked next (Gonzalez, TCS 1985)."""

    @property
    def ordered(self) -> bool:
        return False

    def start(self, ids: NDArray[np.int64]) -> torch.Tensor:
        return torch.empty(1, len(ids), dtype=torch.float64)

    def fold(self, state: torch.Tensor, sq_distances: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        del times
        return torch.minimum(state, sq_distances.amin(0))

    def priority(self, state: torch.Tensor) -> torch.Tensor:
        return state[0].clone()

    def time(self, priority: float) -> float:
        del priority
        return 0.0


@dataclass(frozen=True, kw_only=True)
class D2Race:
    """D^2 sampling as a race: a row has a budget -ln u, u from a hash of (key, id), and burns it at the rate of its
    squared distance to the nearest centre; the next to burn out is picked next, and its priority is minus that time.

    By memorylessness these are exactly the draws of sequential D^2 sampling (Arthur & Vassilvitskii, SODA 2007). The
    state is (rate, budget left, clock): what was left when the clock stood there.
    """

    key: int

    @property
    def ordered(self) -> bool:
        return True

    def start(self, ids: NDArray[np.int64]) -> torch.Tensor:
        state = torch.zeros(3, len(ids), dtype=torch.float64)
        state[1] = torch.from_numpy(-np.log(item_uniform(self.key, ids)))
        return state

    def fold(self, state: torch.Tensor, sq_distances: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        rate, left, clock = state
        # Up to a centre's time a row burns at the rate set by the centres before it. Centres from before the clock
        # have been heard of: they burn nothing and lower nothing.
        rates = torch.cat([rate[None], sq_distances])
        running_minimum(rates)
        stops = torch.maximum(times[:, None], clock)
        burnt = stops.clone()
        burnt[0] -= clock
        burnt[1:] -= stops[:-1]
        burnt *= rates[:-1]
        return torch.stack([rates[-1], left - burnt.sum(0), stops[-1]])

    def priority(self, state: torch.Tensor) -> torch.Tensor:
        rate, left, clock = state
        return torch.where(rate > 0, -(clock + left / rate), -torch.inf)

    def time(self, priority: float) -> float:
        return -priority


def running_minimum(rows: torch.Tensor) -> None:
    """Each row [q, n] becomes the minimum of itself and those before, in place."""
    for q in range(1, len(rows)):
        torch.minimum(rows[q], rows[q - 1], out=rows[q])
