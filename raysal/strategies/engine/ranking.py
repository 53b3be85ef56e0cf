"""Rows in order of a priority that only ever falls: best first, equal ones by id."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

SCOPE_FACTOR = 16
"""The scope of a ranking is this many times as large as the number of rows that are asked for."""


class Place(NamedTuple):
    """Where a row stands: its priority, or a bound on it, and its id. Of equal priorities the lower id is first."""

    priority: float
    id: int

    def order(self) -> tuple[float, int]:
        """A key that sorts the best place first."""
        return (-self.priority, self.id)

    def before(self, other: Place) -> bool:
        """Whether this place is better than another."""
        return self.order() < other.order()


NOWHERE = Place(-np.inf, 2**63 - 1)
"""The place of no row."""


class Ranking:
    """Rows by priority, where priorities fall over time and the best few are asked for again and again.

    A question does not look through all rows but through a scope: the rows that were best when the scope was last set.
    No row outside has risen since.

    Args:
        ids: Ids of the rows, [n], ascending.
        priority: Float64 [n]. The ranking keeps it, and callers lower it in place.

    Attributes:
        scope: Ascending positions of the rows in the scope.
        outside: The best place of any row outside, when the scope was set.
    """

    def __init__(self, ids: NDArray[np.int64], priority: torch.Tensor) -> None:
        self.ids, self.priority = ids, priority
        self.scope = torch.empty(0, dtype=torch.int64, device=priority.device)
        self.outside = self.best(None)

    def top(self, m: int) -> torch.Tensor:
        """Ascending positions of the m rows of best place; rows of priority -inf are never among them."""
        while True:
            found = self.scope[highest(self.priority[self.scope], m)]
            worst = self.worst(found) if len(found) == m else NOWHERE
            if self.outside == NOWHERE or worst.before(self.outside):
                return found
            self.set_scope(max(SCOPE_FACTOR * m, 2 * len(self.scope)))

    def set_scope(self, m: int) -> torch.Tensor:
        """Make the m rows of best place the scope; returns their ascending positions. O(n)."""
        self.scope = highest(self.priority, m)
        self.priority[self.scope], kept = -torch.inf, self.priority[self.scope]
        self.outside = self.best(None)
        self.priority[self.scope] = kept
        return self.scope

    def worst(self, rows: torch.Tensor) -> Place:
        """The worst place of some ascending rows."""
        priority = self.priority[rows]
        last = rows[(priority == priority.min()).nonzero()[-1, 0]]
        return Place(float(priority.min()), int(self.ids[int(last)]))

    def best_except(self, rows: torch.Tensor) -> Place:
        """The best place that any row but these could have."""
        self.priority[rows], kept = -torch.inf, self.priority[rows]
        best = min(self.best(self.scope), self.outside, key=Place.order)
        self.priority[rows] = kept
        return best

    def best(self, rows: torch.Tensor | None) -> Place:
        """The best place of some ascending rows, or of all."""
        priority = self.priority if rows is None else self.priority[rows]
        if len(priority) == 0:
            return NOWHERE
        first = int(priority.argmax())  # the first of equals, by its documentation
        if priority[first] == -torch.inf:
            return NOWHERE
        return Place(float(priority[first]), int(self.ids[first if rows is None else int(rows[first])]))


def highest(priority: torch.Tensor, m: int) -> torch.Tensor:
    """Ascending positions of the m largest above -inf, ties to the lower position."""
    if m >= len(priority):
        return (priority > -torch.inf).nonzero()[:, 0]
    floor = priority.topk(m, sorted=False).values.min()
    above = (priority > floor).nonzero()[:, 0]
    if floor == -torch.inf:
        return above
    level = (priority == floor).nonzero()[: m - len(above), 0]
    return torch.cat([above, level]).sort().values
