"""BADGE: items whose gradients are large and unlike one another, drawn by exact D^2 sampling over the whole
pool."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.fleet import Fleet, Partition
from raysal.rng import item_uniform
from raysal.select.base import Picks, Task
from raysal.select.greedy import Best, Candidates, winner
from raysal.sweep import Linear


@dataclass(frozen=True, kw_only=True)
class Badge:
    """k-means++ seeding over gradient embeddings r (x) h, r = e_argmax - p (Ash et al., ICLR 2020).

    D^2 sampling runs as a race: an item has a budget -ln u, u from a hash of (key, id), and burns it at the
    rate of its squared distance to the nearest pick; the next to burn out is the next pick. By memorylessness
    that is exactly D^2 sampling, and it does not depend on how the pool is sharded. The first pick has the
    largest gradient.

    Needs a head; O(k n (C + d)), memory O(n C) plus features (never n C d). picks(k) is a prefix of picks(k +
    1). Ignores which items are labelled. Where no gradient is left to tell items apart, they are drawn
    uniformly.
    """

    @property
    def needs_head(self) -> bool:
        return True

    def select(self, fleet: Fleet, task: Task, k: int) -> Picks:
        parts = fleet.each(begin, task.linear(), task.key)
        ids: list[int] = []
        scores: list[float] = []
        reasons: list[str] = []
        now = 0.0
        while True:
            best = winner([part.best for part in parts])
            arrival = -best.value
            uniform = np.isinf(arrival)
            if uniform:
                best = winner([part.spare for part in parts])
            elif ids:
                now = arrival
            sq_distance = next(part.sq_distance for part in parts if part.best.id == best.id) if not uniform else 0.0
            ids.append(best.id)
            scores.append(sq_distance)
            reasons.append(
                "no gradient left, uniform"
                if uniform
                else f"largest gradient {sq_distance**0.5:.3g}"
                if len(ids) == 1
                else f"gradient {sq_distance**0.5:.3g} from the nearest pick"
            )
            if len(ids) == k:
                return Picks(ids=np.array(ids), scores=np.array(scores), reasons=tuple(reasons))
            parts = fleet.each(burn, best.id, best.feature, best.factor, now)


@dataclass(frozen=True)
class Entry:
    """A partition's next arrival (value = -arrival time), its squared distance, and its next in a uniform
    draw."""

    best: Best
    spare: Best
    sq_distance: float


@dataclass
class _Race:
    rows: Candidates
    left: torch.Tensor
    """budget still to burn"""
    spare: torch.Tensor
    """minus the whole budget: the order of a uniform draw; -inf once picked"""
    rate: torch.Tensor
    """squared distance to the nearest pick"""
    clock: float = 0.0
    started: bool = False

    def entry(self, values: torch.Tensor, sq_distances: torch.Tensor) -> Entry:
        best = self.rows.best(values)
        row = self.rows.row_of(best.id)
        return Entry(best, self.rows.best(self.spare), 0.0 if row is None else float(sq_distances[row]))


def begin(partition: Partition, head: Linear, key: int) -> Entry:
    """Lay out the race and name the candidate of the largest gradient (value: its squared norm; 0 names
    none)."""
    rows = Candidates(partition, head)
    budget = torch.from_numpy(-np.log(item_uniform(key, rows.ids))).to(partition.device)
    race = _Race(rows, budget, -budget, torch.full_like(budget, torch.inf))
    partition.state["race"] = race
    # The first pick has no distance to race on. Its value is negated like an arrival: a larger gradient comes
    # earlier.
    return race.entry(torch.where(rows.sq_norms > 0, rows.sq_norms, -torch.inf), rows.sq_norms)


def burn(
    partition: Partition, item: int, feature: NDArray[np.float64], factor: NDArray[np.float64], now: float
) -> Entry:
    """Burn every budget up to `now`, fold in the pick that arrived then, and name the next arrival."""
    race: _Race = partition.state["race"]
    if race.started:
        race.left -= race.rate * (now - race.clock)
    race.clock, race.started = now, True
    torch.minimum(race.rate, race.rows.sq_distances(feature, factor), out=race.rate)
    own = race.rows.row_of(item)
    if own is not None:
        race.rate[own], race.spare[own] = 0.0, -torch.inf
    arrival = torch.where(race.rate > 0, now + race.left / race.rate, torch.inf)
    return race.entry(-arrival, race.rate)
