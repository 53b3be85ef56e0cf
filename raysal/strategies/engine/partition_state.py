"""A partition's part of the lazy engine: what each row remembers, and bringing the rows up to date that could be next.

Most rows are judged by what they last knew. Their priority can only have fallen since, so as long as rows that are up
to date stand above it, they need not be looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.errors import PoolError
from raysal.fleet import Partition
from raysal.numerics import BLOCK_ROWS, EXACT_COLUMNS, ceil_div
from raysal.rng import item_uniform
from raysal.strategies.engine.distances import Centres, slack, sq_norms
from raysal.strategies.engine.feature_maps import Arrays, Factors, FeatureMap
from raysal.strategies.engine.priorities import Rule
from raysal.strategies.engine.ranking import NOWHERE, Place, Ranking

WIDE = 16
"""Tiles screened in one product."""


@dataclass(frozen=True, kw_only=True)
class Front:
    """Rows of a partition that are up to date and stand before all its others: ids [m] ascending, their state
    [fields, m] and factors; and the best place any other row of the partition could have."""

    ids: NDArray[np.int64]
    state: NDArray[np.float64]
    factors: Arrays
    rest: Place
    looked_at: int
    """(row, centre) pairs screened so far"""


@dataclass(frozen=True, kw_only=True)
class Opening:
    """A partition's proposal for the first pick, where there is no centre yet."""

    place: Place
    factors: Arrays


class Frontier:
    """The candidate rows of a partition.

    Memory per row: 8 bytes for the position and for the id, 4 for the norm, 5 for what it has heard of, 8 for the
    priority, and 8 for each field of the rule's state (one or three). Factors are read again when needed.
    """

    def __init__(self, partition: Partition, feature_map: FeatureMap, rule: Rule) -> None:
        self.partition, self.rule = partition, rule
        self.rows = partition.candidates()
        self.ids = partition.ids[self.rows]
        self.factors_of = feature_map.bind(partition.width, partition.device)
        n, device = len(self.rows), partition.device
        self.norms = torch.empty(n, device=device)
        widths: tuple[int, ...] = ()
        start = 0
        for block in partition.blocks(self.rows):
            factors = self.factors_of(block.features)
            widths = tuple(factor.shape[1] for factor in factors)
            norms = self.norms[start : start + block.n].fill_(1.0)
            for factor in factors:
                norms *= (factor * factor).sum(1)[: block.n]
            start += block.n
        broken = (~torch.isfinite(self.norms)).nonzero()
        if len(broken):
            raise PoolError(
                f"item {self.ids[int(broken[0, 0])]}",
                "its features are not finite numbers",
                "embed it again, or leave it out",
            )
        self.state = rule.start(self.ids).to(device)
        self.ranking = Ranking(self.ids, torch.zeros(n, dtype=torch.float64, device=device))
        self.heard = torch.zeros(n, dtype=torch.int32, device=device)
        self.exact = torch.zeros(n, dtype=torch.bool, device=device)
        self.widths = widths
        self.centres: Centres | None = None
        self.looked_at = 0
        self.ahead = 0
        """How many rows were last looked at to bring the best up to date: about as many as next time."""

    def __len__(self) -> int:
        return len(self.rows)

    def largest(self) -> Opening | None:
        """The row of largest norm above 0 (exact; ties to the lower id), with its squared norm as priority."""
        if len(self) == 0 or not bool((self.norms > 0).any()):
            return None
        share = slack((torch.empty(0, sum(self.widths)),))
        near = (self.norms >= self.norms.max() * (1 - 3 * share)).nonzero()[:, 0].cpu().numpy()
        best, opening = NOWHERE, None
        for rows, factors in self.read(near):
            norms = sq_norms(factors)
            place = Place(float(norms.max()), int(self.ids[rows[int(norms.argmax())]]))
            if place.before(best):
                best, opening = place, Opening(place=place, factors=one_row(factors, int(norms.argmax())))
        return opening

    def lowest(self, key: int) -> Opening | None:
        """The row of lowest hash: uniform over the pool."""
        if len(self) == 0:
            return None
        hashes = item_uniform(key, self.ids)
        row = int(hashes.argmin())
        ((_, factors),) = self.read(np.array([row]))
        return Opening(place=Place(1 - float(hashes[row]), int(self.ids[row])), factors=one_row(factors, 0))

    def read(self, places: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Factors]]:
        """(ascending places among the rows, their factors) in blocks."""
        start = 0
        for block in self.partition.blocks(self.rows[places]):
            factors = self.factors_of(block.features)
            yield places[start : start + block.n], tuple(factor[: block.n] for factor in factors)
            start += block.n

    def hear(self, ids: NDArray[np.int64], factors: Arrays, times: NDArray[np.float64]) -> None:
        """Take new centres; rows that are among them will not be picked again."""
        first = self.centres is None
        if self.centres is None:
            self.centres = Centres(tuple(factor.shape[1] for factor in factors), self.partition.device)
        self.centres.extend(factors, times)
        if first:  # no row is farther from a centre than its norm and the centre's allow
            nearest = float(self.centres.sq_norms[: self.centres.count].min()) ** 0.5
            bound = (self.norms.double() * (1 + slack(self.centres.factors))).sqrt() + nearest
            self.state[0] = bound * bound * (1 + 1e-9)
            self.ranking = Ranking(self.ids, self.rule.priority(self.state))
        if len(self) and len(ids):
            place = np.searchsorted(self.ids, ids).clip(max=len(self.ids) - 1)
            own = torch.from_numpy(place[self.ids[place] == ids]).to(self.partition.device)
            self.state[0, own] = 0.0
            self.ranking.priority[own] = -torch.inf
            self.heard[own] = torch.iinfo(torch.int32).max

    def front(self, want: int) -> Front:
        """The `want` best rows, brought up to date and exact."""
        assert self.centres is not None
        ahead = max(want, self.ahead // 4)
        while True:
            top = self.ranking.top(want)
            if bool((self.heard[top] < self.centres.count).any()):
                wide = self.ranking.widen(ahead)
                self.refresh(wide[self.heard[wide] < self.centres.count])
                self.ahead, ahead = ahead, 2 * ahead
            elif not bool(self.exact[top].all()):
                self.settle(top[~self.exact[top]])
            else:
                break
        places = top.cpu().numpy()
        parts = [tuple(f.clone() for f in factors) for _, factors in self.read(places)]
        factors = tuple(torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))
        return Front(
            ids=self.ids[places],
            state=self.state[:, top].cpu().numpy(),
            factors=factors,
            rest=self.ranking.best_but(top),
            looked_at=self.looked_at,
        )

    def refresh(self, places: torch.Tensor) -> None:
        """Let rows hear of the centres they have missed, those that missed alike together."""
        assert self.centres is not None
        heard = self.heard[places]
        for some in torch.split(torch.argsort(heard), BLOCK_ROWS):
            self.tell(places[some].sort().values, int(heard[some[0]]) // EXACT_COLUMNS, exactly=self.rule.ordered)

    def settle(self, places: torch.Tensor) -> None:
        """Turn bounds of rows into exact values."""
        for some in torch.split(places, BLOCK_ROWS):
            self.tell(some, 0, exactly=True)

    def tell(self, places: torch.Tensor, first: int, *, exactly: bool) -> None:
        """Let at most BLOCK_ROWS rows hear of the centres from tile `first` on."""
        assert self.centres is not None
        ((_, factors),) = self.read(places.cpu().numpy())
        self.looked_at += len(places) * (self.centres.count - first * EXACT_COLUMNS)
        state, norms = self.state[:, places], self.norms[places]
        tiles = ceil_div(self.centres.count, EXACT_COLUMNS)
        still = self.exact[places]
        for low in range(first, tiles, WIDE):
            closest = self.centres.closest(low, min(low + WIDE, tiles), factors)
            if exactly:
                self.tell_exactly(state, norms, factors, closest, low)
            else:
                still &= self.tell_bounds(state, norms, closest)
        self.state[:, places] = state
        self.ranking.priority[places] = self.rule.priority(state)
        self.heard[places] = self.centres.count
        self.exact[places] = still | exactly

    def tell_bounds(self, state: torch.Tensor, norms: torch.Tensor, closest: torch.Tensor) -> torch.Tensor:
        """Lower distances to bounds in single precision; which of them [n] no centre came near enough to change."""
        assert self.centres is not None
        share = slack(self.centres.factors)
        low = norms * (1 - share) - 2 * closest.amax(0)
        high = low.double() + 2 * share * (norms + self.centres.sq_norms.max())
        unchanged = low >= state[0]
        torch.minimum(state[0], high.clamp_(min=0), out=state[0])
        return unchanged

    def tell_exactly(
        self, state: torch.Tensor, norms: torch.Tensor, factors: Factors, closest: torch.Tensor, low: int
    ) -> None:
        """Take distances in double precision to the tiles, from `low` on, that could lower a row's."""
        assert self.centres is not None
        norms = norms * (1 - slack(self.centres.factors))
        # Where order does not matter, the nearest tile comes first: the others then rarely lower anything.
        nearest = None if self.rule.ordered else closest.argmax(0)
        for again in (False,) if nearest is None else (False, True):
            for tile, close in enumerate(closest):
                able = close * 2 >= norms - state[0]
                if nearest is not None:
                    able &= (nearest == tile) ^ again
                rows = able.nonzero()[:, 0]
                if len(rows):
                    gaps = self.centres.sq_distances(low + tile, tuple(factor[rows] for factor in factors))
                    times = self.centres.times[(low + tile) * EXACT_COLUMNS : (low + tile + 1) * EXACT_COLUMNS]
                    state[:, rows] = self.rule.fold(state[:, rows], gaps, times)


def one_row(factors: Factors, row: int) -> Arrays:
    return tuple(factor[row : row + 1].cpu().numpy().copy() for factor in factors)


# What the coordinator calls on every partition.


def open_with(
    partition: Partition, feature_map: FeatureMap, rule: Rule, opening: Literal["lowest", "largest"], key: int
) -> Opening | None:
    """Lay out the rows, and propose a first pick: the lowest hash, or the largest norm."""
    frontier = partition.state["frontier"] = Frontier(partition, feature_map, rule)
    return frontier.largest() if opening == "largest" else frontier.lowest(key)


def advance(
    partition: Partition, ids: NDArray[np.int64], factors: Arrays, times: NDArray[np.float64], want: int
) -> Front:
    """Hear of new centres and name the rows that stand before all others."""
    frontier: Frontier = partition.state["frontier"]
    frontier.hear(ids, factors, times)
    return frontier.front(want)
