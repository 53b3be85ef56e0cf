"""A batch by what it costs, in place of a number of items.

Picks are taken in pick order, and end before the first that would exceed the budget: cheaper ones after it are not
looked for. So a larger budget continues the batch of a smaller one, where picks(k) are a prefix of picks(k + 1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.arrow_values import numbers_of
from raysal.context import RoundContext
from raysal.errors import ConfigError
from raysal.fleet import Fleet, Partition
from raysal.numerics import ceil_div
from raysal.strategies.base import Picks, Selector, count_candidates, select

SHARES = 2**20
"""In so many whole numbers a budget is cut where costs are added up over partitions, so that the sum is exact."""
FAR_ABOVE = 2**10
"""Times the budget: what costs more is added up as this, so that sums of 2**33 rows stay whole numbers of 64 bits."""
ROUNDING = 1 + 1e-9
"""Times the budget: a batch that costs as much to the last digit but a few is within it."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a batch may cost."""

    cost: float
    """above 0"""
    column: str | None
    """of what an item costs, and an owner the sum over its parts; None where an item costs 1, so that an owner costs
    the number of its parts"""

    def most_items(self, fleet: Fleet) -> int:
        """The most available items that it pays for: the cheapest. One round trip; 8 bytes an item that it pays for.

        Args:
            fleet: the pool's partitions.

        Returns:
            How many.

        Raises:
            ConfigError: it pays for none; or a cost is no number above 0.
        """
        cheapest = np.sort(np.concatenate(fleet.each(cheapest_costs, self)))
        if len(cheapest) and not self.paid(cheapest[:1]):
            raise ConfigError("budget", f"{self.cost:g}, and the cheapest item costs {cheapest[0]:g}", "raise it")
        return self.paid(cheapest)

    def paid(self, costs: NDArray[np.float64]) -> int:
        """How many of some costs [n] it pays for, in their order, up to the first that it does not."""
        return int(np.searchsorted(np.cumsum(costs), self.cost * ROUNDING, "right"))


def select_within(fleet: Fleet, selector: Selector, context: RoundContext, budget: Budget | None) -> Picks:
    """Pick a batch of k; or with a budget, as many of at most k as it pays for, in pick order.

    The strategy is asked for as many as the budget pays for on the average, then for twice as many, until that is more
    than it pays for. Cost: that of the strategy for up to twice the batch, two or three times.

    Args:
        fleet: the pool's partitions; their candidates are what may be picked.
        selector: carries out the strategy.
        context: what the round knows; its key is that of the stage.
        budget: what the batch may cost; None for k items.

    Returns:
        The batch.

    Raises:
        ConfigError: the first pick costs more than the budget; or as `select`.
        PoolExhausted, PoolError: as `select`.
    """
    if budget is None:
        return select(fleet, selector, context, context.k)
    most = min(context.k, sum(fleet.each(count_candidates)))
    facts = fleet.each(cost_of_candidates, budget)
    count, shares = (sum(column) for column in zip(*facts, strict=True))
    k = min(most, ceil_div(count * SHARES, max(shares, 1)))
    while True:
        picks = select(fleet, selector, replace(context, k=k), k)
        costs = costs_of(fleet, picks.ids, budget.column)
        paid = budget.paid(costs)
        if paid < k or k == most:
            break
        k = min(2 * k, most)
    if paid == 0:
        problem = f"{budget.cost:g}, and the first pick costs {costs[0]:g}"
        raise ConfigError("budget", problem, "raise it, or leave out what costs more (`filter` tests columns)")
    return Picks(
        ids=picks.ids[:paid], scores=picks.scores[:paid], reasons=picks.reasons[:paid], shares=picks.shares[:paid]
    )


def costs_of(fleet: Fleet, ids: NDArray[np.int64], column: str | None) -> NDArray[np.float64]:
    """What some items cost, float64 [n], in their order. One round trip."""
    parts = fleet.each(costs_here, ids, column)
    found = np.concatenate([part[0] for part in parts])
    costs = np.concatenate([part[1] for part in parts])[np.argsort(found)]
    return np.asarray(costs[np.searchsorted(np.sort(found), ids)])


# Functions of a partition.


def row_costs(partition: Partition, column: str | None) -> NDArray[np.float64]:
    """What each row costs, float64 [n]. A column is read once, and held: 8 bytes an item.

    Args:
        partition: whose rows.
        column: of costs; None where an item costs 1.

    Returns:
        The costs; of an owner the sum over its parts.

    Raises:
        ConfigError: the column is not there, or a value is no number above 0; it names the item.
    """
    owners = partition.owners
    if column is None:
        return np.ones(len(partition)) if owners is None else np.diff(owners.begins).astype(np.float64)
    held = f"costs {column}"
    if held not in partition.held:
        partition.held[held] = _read_costs(partition, column)
    costs: NDArray[np.float64] = partition.held[held]
    return costs if owners is None else owners.reduced(costs, np.add)


def _read_costs(partition: Partition, column: str) -> NDArray[np.float64]:
    chunks, found = partition.spec.open_pool().chunks, [np.empty(0)]
    for chunk, low, high in partition.slices:
        items = chunks[chunk].items(["key", column]).slice(low, high - low)
        values = items[column]
        known = pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
        if not known:
            raise ConfigError("cost", f"column {column!r} is {values.type}", "name a column of numbers that is carried")
        own = np.full(len(values), np.nan)
        there = values.combine_chunks().is_valid().to_numpy(zero_copy_only=False)
        own[there] = numbers_of(values.filter(pa.array(there)).cast(pa.float64()))
        if len(bad := np.flatnonzero(~(np.isfinite(own) & (own > 0)))):
            row = int(bad[0])
            problem = f"item {items['key'][row].as_py()!r} costs {values[row].as_py()} by column {column!r}"
            raise ConfigError("cost", problem, "give every item a number above 0")
        found.append(own)
    return np.concatenate(found)


def cheapest_costs(partition: Partition, budget: Budget) -> NDArray[np.float64]:
    """The costs of the cheapest available rows here, ascending: those that a budget pays for, and one more."""
    costs = np.sort(row_costs(partition, budget.column)[partition.available])
    return costs[: budget.paid(costs) + 1]


def cost_of_candidates(partition: Partition, budget: Budget) -> tuple[int, int]:
    """How many candidates are here, and what they cost together, in parts of SHARES of a budget."""
    costs = row_costs(partition, budget.column)[partition.candidates()]
    shares = np.minimum(costs / budget.cost, FAR_ABOVE) * SHARES
    return len(costs), int(np.rint(shares).astype(np.int64).sum())


def costs_here(
    partition: Partition, ids: NDArray[np.int64], column: str | None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Those of some items that live here, ascending, and their costs."""
    rows = partition.rows_of(ids)
    return partition.ids[rows], row_costs(partition, column)[rows]
