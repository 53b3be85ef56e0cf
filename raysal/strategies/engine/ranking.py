"""Rows in order of a priority that only ever falls: best first, equal ones by a hash of their ids."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.rng import item_order

SCOPE_FACTOR = 16
"""The scope of a ranking is this many times as large as the number of rows that are asked for."""


class Place(NamedTuple):
    """Where a row stands: its priority, or a bound on it. Of equal priorities the lower hash is first."""

    priority: float
    tie: int
    """The row's number in the order of ties (`raysal.rng.item_order`)."""
    id: int

    def order(self) -> tuple[float, int]:
        """A key that sorts the best place first."""
        return (-self.priority, self.tie)

    def before(self, other: Place) -> bool:
        """Whether this place is better than another."""
        return self.order() < other.order()


NOWHERE = Place(-np.inf, 2**63 - 1, -1)
"""The place of no row."""


class Ranking:
    """Rows by priority, where priorities fall over time and the best few are asked for again and again.

    A question does not look through all rows but through a scope: the rows that were best when the scope was last set.
    No row outside has risen since.

    Args:
        ids: Ids of the rows, [n].
        priority: Float64 [n]. The ranking keeps it, and callers lower it in place.
        ties: Key of the hash that orders rows of equal priority. Hashes are computed of these rows alone.

    Attributes:
        scope: Ascending positions of the rows in the scope.
        outside: The best place of any row outside, when the scope was set.
    """

    def __init__(self, ids: NDArray[np.int64], priority: torch.Tensor, ties: int) -> None:
        self.ids, self.priority, self.ties = ids, priority, ties
        self.scope = torch.empty(0, dtype=torch.int64, device=priority.device)
        self.outside = self.best(None)

    def top(self, m: int) -> torch.Tensor:
        """Ascending positions of the m rows of best place; rows of priority -inf are never among them."""
        while True:
            found = self.scope[highest(self.priority[self.scope], m, lambda rows: self.order_of(self.scope[rows]))]
            worst = self.worst(found) if len(found) == m else NOWHERE
            if self.outside == NOWHERE or worst.before(self.outside):
                return found
            self.set_scope(max(SCOPE_FACTOR * m, 2 * len(self.scope)))

    def set_scope(self, m: int) -> torch.Tensor:
        """Make the m rows of best place the scope; returns their ascending positions. O(n)."""
        self.scope = highest(self.priority, m, self.order_of)
        self.priority[self.scope], kept = -torch.inf, self.priority[self.scope]
        self.outside = self.best(None)
        self.priority[self.scope] = kept
        return self.scope

    def worst(self, rows: torch.Tensor) -> Place:
        """The worst place of some rows."""
        priority = self.priority[rows]
        level = rows[priority == priority.min()]
        order = self.order_of(level)
        last = int(order.argmax())
        return Place(float(priority.min()), int(order[last]), int(self.ids[int(level[last])]))

    def order_of(self, rows: torch.Tensor) -> NDArray[np.int64]:
        """The numbers of rows in the order of ties."""
        return item_order(self.ties, self.ids[rows.cpu().numpy()])

    def best_except(self, rows: torch.Tensor) -> Place:
        """The best place that any row but these could have."""
        self.priority[rows], kept = -torch.inf, self.priority[rows]
        best = min(self.best(self.scope), self.outside, key=Place.order)
        self.priority[rows] = kept
        return best

    def best(self, rows: torch.Tensor | None) -> Place:
        """The best place of some rows, or of all."""
        priority = self.priority if rows is None else self.priority[rows]
        if len(priority) == 0 or priority.max() == -torch.inf:
            return NOWHERE
        ids = self.ids if rows is None else self.ids[rows.cpu().numpy()]
        first, tie = first_of_largest(priority, ids, self.ties)
        return Place(float(priority[first]), tie, int(ids[first]))


def first_of_largest(values: torch.Tensor, ids: NDArray[np.int64], ties: int) -> tuple[int, int]:
    """The row of largest value, and among equal ones of lowest hash.

    Args:
        values: [n], n >= 1.
        ids: Ids of the rows, [n].
        ties: Key of the hash.

    Returns:
        (position, number in the order of ties).
    """
    level = (values == values.max()).nonzero()[:, 0].cpu().numpy()
    order = item_order(ties, ids[level])
    first = int(order.argmin())
    return int(level[first]), int(order[first])


def highest(priority: torch.Tensor, m: int, order_of: Callable[[torch.Tensor], NDArray[np.int64]]) -> torch.Tensor:
    """Ascending positions of the m largest above -inf; of equal ones those whose numbers by `order_of` are lowest."""
    if m >= len(priority):
        return (priority > -torch.inf).nonzero()[:, 0]
    floor = priority.topk(m, sorted=False).values.min()
    above = (priority > floor).nonzero()[:, 0]
    if floor == -torch.inf:
        return above
    level = (priority == floor).nonzero()[:, 0]
    if len(level) > (few := m - len(above)):
        level = level[torch.from_numpy(np.argpartition(order_of(level), few)[:few]).to(level.device)]
    return torch.cat([above, level]).sort().values
