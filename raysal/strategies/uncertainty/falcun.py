"""FALCUN: items the head is unsure of, and whose probabilities are unlike those of the picks so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from raysal.context import RoundContext
from raysal.fleet import Fleet, Partition
from raysal.numerics import BLOCK_ROWS, one_thread
from raysal.rng import derive, item_gumbel
from raysal.scoring.linear import Linear, probabilities_of
from raysal.scoring.row_values import refuse_broken
from raysal.scoring.scores import one_minus_margin
from raysal.strategies.base import Picks, Selector, position_of

UNITS_OF_ONE = 2**29
"""Probabilities and what is made of them are whole multiples of 1 / UNITS_OF_ONE ("units" below), finer than float32
resolves near 1. L1 distances are then sums of int32, the same in any order, and at most 2 * UNITS_OF_ONE."""


@dataclass(frozen=True, kw_only=True)
class Falcun(Selector):
    """Fast active learning by contrastive uncertainty (Gilhuber et al., ECML-PKDD 2024).

    Samples item after item with probability in proportion to (u + d')^gamma: u = 1 - (p1 - p2), d = min(u, L1 distances
    of the probabilities to the picks), and d' is d scaled to [0, 1] over the items left. The d that is carried on is
    never the scaled one. Each pick is the winner of an exponential race by a hash of (key, pick, item).

    Needs a head, not the vectors after it. O(n C) a pick and two round trips: the range of d, then the race. Memory n C
    int32 and 17 bytes a row. picks(k) is a prefix of picks(k + 1). The score of a pick is u + d'. Where that is zero
    for all that is left, a uniform sample. Looks at probabilities only: with few classes it cannot tell unlike items
    apart.
    """

    gamma: Annotated[float, Field(ge=0)] = 10.0

    @property
    def needs_head(self) -> bool:
        """Always."""
        return True

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        """Sample k candidates, one after the other."""
        ids = np.empty(k, np.int64)
        scores = np.empty(k)
        ranges = fleet.each(start, context.linear())
        for place in range(k):
            low, high = (bound(ends) for bound, ends in zip((min, max), zip(*ranges, strict=True), strict=True))
            winners = fleet.each(propose, low, high, self.gamma, derive(context.key, place))
            best = min(winners, key=lambda winner: (not winner.weight > 0, -winner.value, winner.id))
            ids[place], scores[place] = best.id, best.weight
            if place + 1 < k:
                ranges = fleet.each(add_pick, best.id, best.probabilities)
        reasons = (f"unsure and unlike {score:.3f}" if score > 0 else "sure of the rest, uniform" for score in scores)
        return Picks(ids=ids, scores=scores, reasons=tuple(reasons))


class Winner(NamedTuple):
    """The winner of a race among the rows of a partition. An id of -1: no candidate is left here."""

    value: float
    """in the race, the larger the earlier"""
    id: int
    weight: float
    """u + d'"""
    probabilities: NDArray[np.int32]
    """[C] in units"""


@dataclass
class _Candidates:
    ids: NDArray[np.int64]
    probabilities: torch.Tensor
    """int32 [C, n] in units"""
    uncertainty: NDArray[np.int32]
    """[n] u in units"""
    difference: torch.Tensor
    """int32 [n] d in units, on the device"""
    left: NDArray[np.bool_]
    """[n] whether it is not picked yet"""

    def difference_range(self) -> tuple[int, int]:
        """Smallest and largest d of what is left here, in units; an empty range where nothing is."""
        d = self.difference.cpu().numpy()[self.left]
        return (int(d.min()), int(d.max())) if len(d) else (4 * UNITS_OF_ONE, -1)


# Functions of a partition.


def start(partition: Partition, head: Linear) -> tuple[int, int]:
    """Compute the probabilities of the candidates.

    Args:
        partition: where they live.
        head: what predicts.

    Returns:
        The smallest and the largest d here, in units.

    Raises:
        PoolError: a vector is not finite; it names the item.
    """
    rows = partition.candidates()
    ids = partition.ids[rows]
    weight = partition.aligned(head.weight)
    probabilities = torch.empty(len(head.bias), len(rows), dtype=torch.int32, device=partition.device)
    uncertainty = torch.empty(len(rows), dtype=torch.int32, device=partition.device)
    done = 0
    for block in partition.blocks(rows):
        own = slice(done, done + block.n)
        product = weight.products(block.features)
        with one_thread():
            p = probabilities_of(product, head)
            u = one_minus_margin(p)
        refuse_broken(ids[own], torch.isfinite(u[: block.n]).cpu().numpy())
        probabilities[:, own] = (p * UNITS_OF_ONE).round().int()[:, : block.n]
        uncertainty[own] = (u * UNITS_OF_ONE).round().int()[: block.n]
        done += block.n
    state = _Candidates(ids, probabilities, uncertainty.cpu().numpy(), uncertainty.clone(), np.ones(len(rows), bool))
    partition.state["falcun"] = state
    return state.difference_range()


def propose(partition: Partition, low: int, high: int, gamma: float, key: int) -> Winner:
    """The winner of a race in which each row runs at the rate (u + d')^gamma.

    Rows of no weight run only where there is no other here.

    Args:
        partition: where the candidates live.
        low: smallest d over the pool, in units.
        high: largest d over the pool, in units.
        gamma: the exponent.
        key: key of `raysal.rng` for this pick.

    Returns:
        The winner here.
    """
    state: _Candidates = partition.state["falcun"]
    left = np.flatnonzero(state.left)
    if len(left) == 0:
        return Winner(-np.inf, -1, 0.0, np.empty(0, np.int32))
    scaled = (state.difference.cpu().numpy()[left] - low) / max(high - low, 1)
    weight = state.uncertainty[left] / UNITS_OF_ONE + scaled
    if weight.any():
        able = weight > 0
        left, weight = left[able], weight[able]
    noise = item_gumbel(key, state.ids[left])
    value = gamma * np.log(weight) + noise if weight.any() else noise
    row = int(value.argmax())
    place = int(left[row])
    probabilities = state.probabilities[:, place].cpu().numpy()
    return Winner(float(value[row]), int(state.ids[place]), float(weight[row]), probabilities)


def add_pick(partition: Partition, item: int, probabilities: NDArray[np.int32]) -> tuple[int, int]:
    """Take a pick into the candidates' d.

    Args:
        partition: where the candidates live.
        item: id of the pick, which may live elsewhere.
        probabilities: its int32 [C], in units.

    Returns:
        The smallest and the largest d of what is left here, in units.
    """
    state: _Candidates = partition.state["falcun"]
    pick = torch.from_numpy(probabilities).to(partition.device)
    for first in range(0, len(state.ids), BLOCK_ROWS):
        own = slice(first, first + BLOCK_ROWS)
        distance = (state.probabilities[:, own] - pick[:, None]).abs_().sum(0, dtype=torch.int32)
        torch.minimum(state.difference[own], distance, out=state.difference[own])
    place = position_of(state.ids, item)
    if place is not None:
        state.left[place] = False
    return state.difference_range()
