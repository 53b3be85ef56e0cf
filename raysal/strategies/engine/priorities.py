"""The rules of the lazy engine: what a row remembers, how centres change it, and what the row is judged by.

A rule's state is a float64 matrix [fields, n] with a column for each row. Field 0 is the squared distance to the
nearest centre that was applied to the row, the last field is the row's priority. Priorities never rise when centres are
applied, so an old priority is an upper bound. A centre that is no nearer than another one before it changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.rng import item_uniform

SMALLEST_SQ_DISTANCE, LARGEST_SQ_DISTANCE = 2.0**-60, 2.0**60
"""What `FarthestLevel` tells apart: squared distances of float16 vectors are 0, or lie between them."""
LOTS = 2.0**32
"""Parts of a level, in which its rows stand in the order of their hashes: with the level, float64 holds them."""


class Rule(Protocol):
    """What the lazy engine has to know of a rule. Rules travel to the partitions."""

    @property
    def depends_on_order(self) -> bool:
        """Whether a state depends on the order in which centres were applied."""
        ...

    @property
    def picks_most(self) -> bool:
        """Whether most rows of highest priority are picked, also if many of them are looked at together."""
        ...

    def begin(self, ids: NDArray[np.int64], sq_distances: torch.Tensor) -> torch.Tensor:
        """Make the states of rows with their first centre applied, which is there from time 0 on.

        Args:
            ids: Ids of the rows, [n].
            sq_distances: Squared distance of the first centre to each row, float64 [n].

        Returns:
            Float64 [fields, n].
        """
        ...

    def apply_centres(self, state: torch.Tensor, sq_distances: torch.Tensor, times: torch.Tensor) -> None:
        """Take centres into account, in place.

        Upper bounds stay upper bounds: where distances are bounded from above and times from above, so are the new
        distance and priority. So many centres may be applied as one, as near as the nearest and as late as the last.

        Args:
            state: Float64 [fields, n].
            sq_distances: Squared distances of the centres to the rows, float64 [q, n].
            times: When the centres were picked, float64 [q], ascending.
        """
        ...

    def apply_pick(self, state: NDArray[np.float64], sq_distances: NDArray[np.float64], time: float) -> None:
        """As `apply_centres` with one centre, to the same bits, at a third of the cost where rows are few.

        Args:
            state: Float64 [fields, n], changed in place.
            sq_distances: Squared distances of the centre to the rows, float64 [n].
            time: When the centre was picked.
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

    @property
    def picks_most(self) -> bool:
        """No: where one of the farthest rows is picked, others lie beside it."""
        return False

    def begin(self, ids: NDArray[np.int64], sq_distances: torch.Tensor) -> torch.Tensor:
        """The distance itself."""
        del ids
        return sq_distances[None].clone()

    def apply_centres(self, state: torch.Tensor, sq_distances: torch.Tensor, times: torch.Tensor) -> None:
        """The smaller of the old distance and those to the centres."""
        del times
        torch.minimum(state[0], sq_distances.amin(0), out=state[0])

    def apply_pick(self, state: NDArray[np.float64], sq_distances: NDArray[np.float64], time: float) -> None:
        """The smaller of the two distances."""
        del time
        np.minimum(state[0], sq_distances, out=state[0])

    def pick_time(self, priority: float) -> float:
        """Always 0: times have no meaning."""
        del priority
        return 0.0


@dataclass(frozen=True, kw_only=True)
class D2Race:
    """D^2 sampling as a race: rows burn budgets at the rate of their squared distances, and the first to end is picked.

    A row has a budget -ln u, with u from a hash of (key, id). It burns the budget at the rate of its squared distance
    to the nearest centre. The row whose budget ends next is picked next.

    By memorylessness these are exactly the samples of sequential D^2 sampling (Arthur & Vassilvitskii, SODA 2007). The
    state is (rate, minus the time at which the budget ends at this rate); the second is the priority. Only a centre
    that lowers the rate changes it, so it does not matter which of the other centres were looked at.
    """

    key: int

    @property
    def depends_on_order(self) -> bool:
        """Yes: what a row has burnt depends on when each centre was picked."""
        return True

    @property
    def picks_most(self) -> bool:
        """Yes: the next to be picked lie all over the pool."""
        return True

    def begin(self, ids: NDArray[np.int64], sq_distances: torch.Tensor) -> torch.Tensor:
        """The whole budget, which burns from time 0 on; -inf for a row that coincides with the centre."""
        budget = torch.from_numpy(-np.log(item_uniform(self.key, ids))).to(sq_distances.device)
        return torch.stack([sq_distances, -budget / sq_distances])

    def apply_centres(self, state: torch.Tensor, sq_distances: torch.Tensor, times: torch.Tensor) -> None:
        """Burn budgets at the old rate up to the time of each centre that lowers it, and at the new one from there."""
        some = (sq_distances.amin(0) < state[0]).nonzero()[:, 0]
        rate, end = state[0, some], -state[1, some]
        rates = torch.cat([rate[None], sq_distances[:, some]]).cummin(0).values
        lowers = rates[1:] < rates[:-1]
        # Few of the centres lower the rate of a row. All rows take the first of theirs together, then the second, ...
        while bool((left := lowers.any(0)).any()):
            which = lowers.to(torch.uint8).argmax(0)[None]  # the first of equals, by its documentation
            time, gap = times[which[0]], rates[1:].gather(0, which)[0]
            later = time + (end - time) * (rate / gap)
            # A bound on the end may lie before the centre's time: then it stays as it is.
            end = torch.where(left & (end > time), later, end)
            rate = torch.where(left, gap, rate)
            lowers.scatter_(0, which, False)
        state[0, some], state[1, some] = rate, -end

    def apply_pick(self, state: NDArray[np.float64], sq_distances: NDArray[np.float64], time: float) -> None:
        """Burn the budgets of the rows that the centre is nearer to."""
        (some,) = (sq_distances < state[0]).nonzero()
        rate, end, gap = state[0, some], -state[1, some], sq_distances[some]
        with np.errstate(divide="ignore", invalid="ignore"):  # of a row that coincides with the centre
            later = time + (end - time) * (rate / gap)
        state[0, some], state[1, some] = gap, -np.where(end > time, later, end)

    def pick_time(self, priority: float) -> float:
        """The time at which the row's budget ends."""
        return -priority


@dataclass(frozen=True, kw_only=True)
class FarthestLevel:
    """Of the rows at the highest level of distance, the one of lowest hash is picked next.

    Levels are (1 - epsilon)^j for whole numbers j, and a row stands at the largest of them that is not above its
    distance to the nearest centre. So each pick is more than 1 - epsilon times as far from the centres as the farthest
    row is. Rows of one level are decided in the order of their hashes, whatever their distances: all that are sent are
    picked or fall below the level, which makes large k cheap.

    Guarantee: k picks and the farthest row left, at radius r, are all more than (1 - epsilon) r from one another, and k
    balls cannot hold these k + 1 unless two share one. So r < 2 / (1 - epsilon) times the smallest radius with which k
    centres cover the rows, those from the start among them (Gonzalez, TCS 1985, has 2; thresholds: Hochbaum & Shmoys
    1985). It holds after every pick.

    The state is (squared distance, level + what the hash leaves of it); the second is the priority. Rows that coincide
    with a centre stand at the lowest level.
    """

    key: int
    epsilon: float
    """0.001 to 0.5"""

    @property
    def depends_on_order(self) -> bool:
        """No: the nearest centre is nearest in any order."""
        return False

    @property
    def picks_most(self) -> bool:
        """Yes: the order of hashes leads all over the pool."""
        return True

    def begin(self, ids: NDArray[np.int64], sq_distances: torch.Tensor) -> torch.Tensor:
        """The distance, and the place in its level."""
        lots = torch.from_numpy(np.floor((1 - item_uniform(self.key, ids)) * LOTS) / LOTS).to(sq_distances.device)
        return torch.stack([sq_distances, self.levels(sq_distances) + lots])

    def apply_centres(self, state: torch.Tensor, sq_distances: torch.Tensor, times: torch.Tensor) -> None:
        """The smaller of the old distance and those to the centres, and its level."""
        del times
        torch.minimum(state[0], sq_distances.amin(0), out=state[0])
        level = state[1].floor()  # -inf of a pick stays
        state[1] += (self.levels(state[0]) - level).clamp_(max=0)

    def apply_pick(self, state: NDArray[np.float64], sq_distances: NDArray[np.float64], time: float) -> None:
        """The smaller of the two distances, and its level."""
        del time
        (some,) = (sq_distances < state[0]).nonzero()
        state[0, some] = sq_distances[some]
        levels = np.searchsorted(bounds_of_levels(self.epsilon), state[0, some], side="right")
        state[1, some] += levels - np.floor(state[1, some])

    def levels(self, sq_distances: torch.Tensor) -> torch.Tensor:
        """The level of each squared distance, float64 [n]: by comparison, so that no rounding of logarithms matters."""
        bounds = torch.from_numpy(bounds_of_levels(self.epsilon)).to(sq_distances.device)
        return torch.bucketize(sq_distances, bounds, right=True).double()

    def pick_time(self, priority: float) -> float:
        """Always 0: times have no meaning."""
        del priority
        return 0.0


@cache
def bounds_of_levels(epsilon: float) -> NDArray[np.float64]:
    """Where levels of squared distances begin, ascending: powers of (1 - epsilon)^2.

    They are products, one after the other: every machine has the same, which cannot be said of powers.

    Args:
        epsilon: 0.001 to 0.5.

    Returns:
        Float64 [levels].
    """
    below, above, share = [1.0], [1.0], (1 - epsilon) ** 2
    while below[-1] > SMALLEST_SQ_DISTANCE:
        below.append(below[-1] * share)
    while above[-1] < LARGEST_SQ_DISTANCE:
        above.append(above[-1] / share)
    return np.array([*below[::-1], *above[1:]])
