"""The two rules of the lazy engine: what a row remembers, how centres change it, and what the row is judged by.

A rule's state is a float64 matrix [fields, n] with a column for each row. Field 0 is the squared distance to the
nearest centre that was applied to the row. Priorities never rise when centres are applied, so an old priority is an
upper bound. To apply a centre twice changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.rng import item_uniform


class Rule(Protocol):
    """What the lazy engine has to know of a rule. Rules travel to the partitions."""

    @property
    def depends_on_order(self) -> bool:
        """Whether a state depends on the order in which centres were applied."""
        ...

    def initial_state(self, ids: NDArray[np.int64]) -> torch.Tensor:
        """Make the states of rows before any centre is applied.

        Args:
            ids: Ids of the rows, [n].

        Returns:
            Float64 [fields, n]. The engine fills field 0 with a finite bound.
        """
        ...

    def apply_centres(self, state: torch.Tensor, sq_distances: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """Take centres into account.

        Args:
            state: Float64 [fields, n].
            sq_distances: Squared distances of the centres to the rows, float64 [q, n].
            times: When the centres were picked, float64 [q], ascending.

        Returns:
            The new states, float64 [fields, n].
        """
        ...

    def priority(self, state: torch.Tensor) -> torch.Tensor:
        """Judge rows by their states.

        Args:
            state: Float64 [fields, n].

        Returns:
            Float64 [n]. The row of largest priority is picked next; a row of -inf never is.
        """
        ...

    def pick_time(self, priority: float) -> float:
        """The time at which a row of this priority is picked; 0 where times have no meaning."""
        ...


@dataclass(frozen=True, kw_only=True)
class FarthestPoint:
    """The row farthest from all centres is picked next (Gonzalez, TCS 1985).

    The state is the squared distance to the nearest centre alone, and it is the priority.
    """

    @property
    def depends_on_order(self) -> bool:
        """No: the nearest centre is nearest in any order."""
        return False

    def initial_state(self, ids: NDArray[np.int64]) -> torch.Tensor:
        """One field, for the engine to fill."""
        return torch.empty(1, len(ids), dtype=torch.float64)

    def apply_centres(self, state: torch.Tensor, sq_distances: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """The smaller of the old distance and those to the centres."""
        del times
        return torch.minimum(state, sq_distances.amin(0))

    def priority(self, state: torch.Tensor) -> torch.Tensor:
        """The squared distance to the nearest centre."""
        return state[0].clone()

    def pick_time(self, priority: float) -> float:
        """Always 0: times have no meaning."""
        del priority
        return 0.0


@dataclass(frozen=True, kw_only=True)
class D2Race:
    """D^2 sampling as a race: rows burn budgets at the rate of their squared distances, and the first to end is picked.

    A row has a budget -ln u, with u from a hash of (key, id). It burns the budget at the rate of its squared distance
    to the nearest centre. The row whose budget ends next is picked next, so its priority is minus the time of that end.

    By memorylessness these are exactly the samples of sequential D^2 sampling (Arthur & Vassilvitskii, SODA 2007). The
    state is (rate, budget left, clock): how much budget was left at the time of the clock.
    """

    key: int

    @property
    def depends_on_order(self) -> bool:
        """Yes: what a row has burnt depends on when each centre was picked."""
        return True

    def initial_state(self, ids: NDArray[np.int64]) -> torch.Tensor:
        """The whole budget, and a clock at 0."""
        state = torch.zeros(3, len(ids), dtype=torch.float64)
        state[1] = torch.from_numpy(-np.log(item_uniform(self.key, ids)))
        return state

    def apply_centres(self, state: torch.Tensor, sq_distances: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """Burn budget up to the time of the last centre, and lower the rate."""
        rate, left, clock = state
        # Up to a centre's time a row burns at the rate set by the centres before it. Centres from before the clock
        # were applied already: they burn nothing and lower nothing.
        rates = torch.cat([rate[None], sq_distances])
        running_minimum(rates)
        stops = torch.maximum(times[:, None], clock)
        burnt = stops.clone()
        burnt[0] -= clock
        burnt[1:] -= stops[:-1]
        burnt *= rates[:-1]
        return torch.stack([rates[-1], left - burnt.sum(0), stops[-1]])

    def priority(self, state: torch.Tensor) -> torch.Tensor:
        """Minus the time at which the budget ends; -inf for a row that coincides with a centre."""
        rate, left, clock = state
        return torch.where(rate > 0, -(clock + left / rate), -torch.inf)

    def pick_time(self, priority: float) -> float:
        """The time at which the row's budget ends."""
        return -priority


def running_minimum(rows: torch.Tensor) -> None:
    """Each row [q, n] becomes the minimum of itself and those before, in place."""
    for q in range(1, len(rows)):
        torch.minimum(rows[q], rows[q - 1], out=rows[q])
