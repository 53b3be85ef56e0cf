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
from raysal.rng import derive, item_uniform
from raysal.scoring.linear import Linear, probabilities_of
from raysal.scoring.row_values import refuse_broken
from raysal.scoring.scores import one_minus_margin
from raysal.strategies.base import Picks, Selector

UNIT = 2**29
"""Probabilities are kept as whole multiples of 1 / UNIT, finer than float32 resolves near 1. Their L1 distances are
then sums of int32, the same in whatever order they are taken, and at most twice a UNIT."""


@dataclass(frozen=True, kw_only=True)
class Falcun(Selector):
    """Fast active learning by contrastive uncertainty (Gilhuber et al., ECML-PKDD 2024).

    Draws item after item with probability in proportion to (u + d')^gamma: u = 1 - (p1 - p2), d = min(u, L1
    distances of the probabilities to the picks), and d' is d scaled to [0, 1] over the items left. The d that is
    carried on is never the scaled one. Draws are exponential races by a hash of (key, pick, item).

    Needs a head, not the vectors after it; O(n C) a pick and two round trips: the range of d, then the race.
    Memory n C int32 and 17 bytes a row. picks(k) is a prefix of picks(k + 1). The score of a pick is u + d'. Where
    that is zero for all that is left, a uniform draw. Looks at probabilities only: with few classes it cannot tell
    unlike items apart.
    """

    gamma: Annotated[float, Field(ge=0)] = 10.0

    @property
    def needs_head(self) -> bool:
        return True

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        ids = np.empty(k, np.int64)
        scores = np.empty(k)
        ranges = fleet.each(begin, context.linear())
        for place in range(k):
            low, high = (bound(ends) for bound, ends in zip((min, max), zip(*ranges, strict=True), strict=True))
            runs = fleet.each(race, low, high, self.gamma, derive(context.key, place))
            best = min(runs, key=lambda run: (not run.weight > 0, -run.value, run.id))
            ids[place], scores[place] = best.id, best.weight
            if place + 1 < k:
                ranges = fleet.each(fold, best.id, best.probabilities)
        reasons = (f"unsure and unlike {score:.3f}" if score > 0 else "sure of the rest, uniform" for score in scores)
        return Picks(ids=ids, scores=scores, reasons=tuple(reasons))


class Run(NamedTuple):
    """A partition's first in the race: its noisy value, id, weight u + d', and probabilities in units [C]. An id of
    -1: no candidate is left here.
    """

    value: float
    id: int
    weight: float
    probabilities: NDArray[np.int32]


@dataclass
class _Unsure:
    ids: NDArray[np.int64]
    probabilities: torch.Tensor
    """[C, n] in units"""
    unsure: NDArray[np.int32]
    """1 - (p1 - p2) in units"""
    unlike: torch.Tensor
    """d in units, on the device"""
    left: NDArray[np.bool_]

    def ends(self) -> tuple[int, int]:
        """Smallest and largest d of what is left here."""
        d = self.unlike.cpu().numpy()[self.left]
        return (int(d.min()), int(d.max())) if len(d) else (4 * UNIT, -1)


def begin(partition: Partition, head: Linear) -> tuple[int, int]:
    """Take the probabilities of the candidates; returns the range of their uncertainties."""
    rows = partition.candidates()
    ids = partition.ids[rows]
    weight = partition.aligned(head.weight)
    probabilities = torch.empty(len(head.bias), len(rows), dtype=torch.int32, device=partition.device)
    unsure = torch.empty(len(rows), dtype=torch.int32, device=partition.device)
    done = 0
    for block in partition.blocks(rows):
        own = slice(done, done + block.n)
        product = weight.products(block.features)
        with one_thread():
            p = probabilities_of(product, head)
            score = one_minus_margin(p)
        refuse_broken(ids[own], torch.isfinite(score[: block.n]).cpu().numpy())
        probabilities[:, own] = (p * UNIT).round().int()[:, : block.n]
        unsure[own] = (score * UNIT).round().int()[: block.n]
        done += block.n
    state = _Unsure(ids, probabilities, unsure.cpu().numpy(), unsure.clone(), np.ones(len(rows), bool))
    partition.state["unsure"] = state
    return state.ends()


def race(partition: Partition, low: int, high: int, gamma: float, key: int) -> Run:
    """The first of a race in which rows burn at the rate (u + d')^gamma; d' from d and its range over the pool. Rows
    of no weight run where there is no other here.
    """
    state: _Unsure = partition.state["unsure"]
    left = np.flatnonzero(state.left)
    if len(left) == 0:
        return Run(-np.inf, -1, 0.0, np.empty(0, np.int32))
    scaled = (state.unlike.cpu().numpy()[left] - low) / max(high - low, 1)
    weight = state.unsure[left] / UNIT + scaled
    if weight.any():
        able = weight > 0
        left, weight = left[able], weight[able]
    noise = -np.log(-np.log(item_uniform(key, state.ids[left])))
    value = gamma * np.log(weight) + noise if weight.any() else noise
    row = int(value.argmax())
    place = int(left[row])
    probabilities = state.probabilities[:, place].cpu().numpy()
    return Run(float(value[row]), int(state.ids[place]), float(weight[row]), probabilities)


def fold(partition: Partition, item: int, probabilities: NDArray[np.int32]) -> tuple[int, int]:
    """Fold a pick in; returns the range of d over what is left."""
    state: _Unsure = partition.state["unsure"]
    pick = torch.from_numpy(probabilities).to(partition.device)
    for start in range(0, len(state.ids), BLOCK_ROWS):
        own = slice(start, start + BLOCK_ROWS)
        gap = (state.probabilities[:, own] - pick[:, None]).abs_().sum(0, dtype=torch.int32)
        torch.minimum(state.unlike[own], gap, out=state.unlike[own])
    place = int(np.searchsorted(state.ids, item))
    if place < len(state.ids) and state.ids[place] == item:
        state.left[place] = False
    return state.ends()
