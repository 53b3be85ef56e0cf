"""Rows in order of a priority that only ever falls: best first, equal ones by a hash of their ids."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.numerics import ceil_div
from raysal.rng import item_order

LEVEL_ROWS = 64
"""Rows of the sample that stand above a level that is to be guessed."""


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


class IdsOfRows:
    """The ids of some rows of a partition, looked up when they are asked for: a copy would take 8 bytes a row."""

    def __init__(self, ids: NDArray[np.int64], rows: NDArray[np.uint32]) -> None:
        self.ids, self.rows = ids, rows

    def __getitem__(self, places: NDArray[np.int64] | slice) -> NDArray[np.int64]:
        return self.ids[self.rows[places]]


class Ranking:
    """Rows by priority, where priorities fall over time.

    Args:
        ids: Ids of the rows.
        priority: Float64 [n]. The ranking keeps it, and callers lower it in place.
        ties: Key of the hash that orders rows of equal priority. Hashes are computed of these rows alone.
    """

    def __init__(self, ids: IdsOfRows, priority: torch.Tensor, ties: int) -> None:
        self.ids, self.priority, self.ties = ids, priority, ties

    def level(self, m: int) -> float:
        """A priority above which about m rows stand, from a sample; -inf if there are hardly more rows than m."""
        if 5 * m > 4 * len(self.priority):
            return -np.inf
        step = max(1, m // LEVEL_ROWS)
        sample = self.priority[::step]
        return float(sample.topk(min(ceil_div(m, step) + 1, len(sample)), sorted=False).values.min())

    def above(self, level: float) -> torch.Tensor:
        """Ascending positions of the rows whose priority is larger. O(n)."""
        return (self.priority > level).nonzero()[:, 0]

    def top(self, m: int, among: torch.Tensor) -> torch.Tensor:
        """Ascending positions of the m rows of best place among some; rows of priority -inf are never among them."""
        return among[highest(self.priority[among], m, lambda rows: self.order_of(among[rows]))]

    def order_of(self, rows: torch.Tensor) -> NDArray[np.int64]:
        """The numbers of rows in the order of ties."""
        return item_order(self.ties, self.ids[rows.cpu().numpy()])

    def best_except(self, rows: torch.Tensor) -> Place:
        """The best place that any row but these could have. O(n)."""
        self.priority[rows], kept = -torch.inf, self.priority[rows]
        best = NOWHERE
        if len(self.priority) and self.priority.max() > -torch.inf:
            level = (self.priority == self.priority.max()).nonzero()[:, 0]
            order = self.order_of(level)
            first = level[int(order.argmin())]
            best = Place(float(self.priority[first]), int(order.min()), int(self.ids[first[None].cpu().numpy()][0]))
        self.priority[rows] = kept
        return best


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
