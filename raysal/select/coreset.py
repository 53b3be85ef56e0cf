"""CoreSet: cover the pool, each pick the item farthest from all that is covered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.fleet import Fleet, Partition
from raysal.rng import item_uniform
from raysal.select.base import Picks, Task
from raysal.select.greedy import Best, Candidates, winner


@dataclass(frozen=True, kw_only=True)
class CoreSet:
    """Greedy k-center over the vectors, the labelled items as centres already there (Sener & Savarese, ICLR
    2018).

    A 2-approximation of the covering radius (Gonzalez, TCS 1985). Needs no head; O((labelled + k) n d),
    memory O(n). picks(k) is a prefix of picks(k + 1); without labelled items the first pick is uniform. The
    score is the squared distance to what was covered before the pick. Seeks outliers, and is often below
    random on frozen features with noisy extremes: use it where coverage is the aim, not accuracy per label.
    """

    @property
    def needs_head(self) -> bool:
        return False

    def select(self, fleet: Fleet, task: Task, k: int) -> Picks:
        parts = fleet.each(begin, task.labelled.astype(np.float64), task.key)
        ids: list[int] = []
        gaps: list[float] = []
        while True:
            best = winner(parts)
            ids.append(best.id)
            gaps.append(best.value)
            if len(ids) == k:
                break
            parts = fleet.each(cover, best.id, best.feature)
        if len(task.labelled) == 0:
            gaps[0] = np.inf
        reasons = tuple("first, uniform" if np.isinf(gap) else f"{gap**0.5:.4g} from what is covered" for gap in gaps)
        return Picks(ids=np.array(ids), scores=np.array(gaps), reasons=reasons)


@dataclass
class _Cover:
    rows: Candidates
    gap: torch.Tensor
    """squared distance to the nearest centre; -inf once picked"""


def begin(partition: Partition, centres: NDArray[np.float64], key: int) -> Best:
    """Fold in the labelled centres [m, d] and name the farthest candidate, or the one of lowest hash without
    centres."""
    rows = Candidates(partition, None)
    gap = rows.nearest_sq_distances(centres)
    partition.state["cover"] = _Cover(rows, gap)
    if len(centres) == 0:
        return rows.best(torch.from_numpy(1 - item_uniform(key, rows.ids)).to(partition.device))
    return rows.best(gap)


def cover(partition: Partition, item: int, feature: NDArray[np.float64]) -> Best:
    """Fold in a pick and name the next."""
    state: _Cover = partition.state["cover"]
    torch.minimum(state.gap, state.rows.sq_distances(feature, np.empty(0)), out=state.gap)
    own = state.rows.row_of(item)
    if own is not None:
        state.gap[own] = -torch.inf
    return state.rows.best(state.gap)
