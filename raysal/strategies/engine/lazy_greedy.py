"""Exact greedy selection over the whole pool in a handful of round trips: candidates and bounds.

A round trip: every partition brings its best rows up to date and sends them, with the best place any other row could
have. The coordinator picks greedily among the rows sent, until its best does not stand before every bound. What it
picked goes out with the next round trip. At least one pick comes of each, since the best row of all is always among
those sent.

Decisions are taken on distances in double precision from products of one shape, ties by the lower id, so the picks do
not depend on how the rows are sharded, how many are sent, or when a row was looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from raysal.fleet import Fleet
from raysal.numerics import EXACT_COLUMNS, EXACT_ROWS, ceil_div
from raysal.strategies.engine.distances import Centres
from raysal.strategies.engine.feature_maps import Arrays, Factors, FeatureMap
from raysal.strategies.engine.partition_state import Front, advance, open_with
from raysal.strategies.engine.priorities import Rule
from raysal.strategies.engine.ranking import Place, Ranking

START, FEWEST, MOST = 1024, 256, 4096
"""Rows sent by all partitions together in one round trip: at first, and at least and at most later, when it is twice
as many as the last trip's yield says are needed."""
HOT = EXACT_ROWS
"""Rows kept up to date with each pick."""


@dataclass
class Greedy:
    """What a run of the engine found and what it took."""

    ids: list[int] = field(default_factory=list)
    sq_distances: list[float] = field(default_factory=list)
    """each pick's squared distance to the centres before it; the opening's is its squared norm, or inf"""
    round_trips: int = 0
    rows_sent: int = 0
    pairs: int = 0


def lazy_greedy(
    fleet: Fleet,
    rule: Rule,
    feature_map: FeatureMap,
    k: int,
    *,
    centres: Arrays,
    opening: Literal["lowest", "largest"],
    key: int,
) -> Greedy:
    """Up to k picks by a rule: fewer if no row has a priority left (in a race, when all coincide with a centre).

    `centres` are factors of items that are covered from the start. Without any, the first pick is the row of lowest
    hash by `key`, or of largest norm (there is none if all are zero).
    """
    found = Greedy(round_trips=1)
    openings = fleet.each(open_with, feature_map, rule, opening, key)
    ids, times = np.empty(0, np.int64), np.zeros(len(centres[0]))
    if len(times) == 0:
        proposals = [proposal for proposal in openings if proposal is not None]
        if not proposals:
            return found
        first = min(proposals, key=lambda proposal: proposal.place.order())
        found.ids.append(first.place.id)
        found.sq_distances.append(first.place.priority if opening == "largest" else np.inf)
        ids, centres, times = np.array([first.place.id]), first.factors, np.zeros(1)
    want = START
    while len(found.ids) < k:
        fronts = fleet.each(advance, ids, centres, times, ceil_div(want, fleet.size))
        found.round_trips += 1
        found.pairs = sum(front.looked_at for front in fronts)
        found.rows_sent += sum(len(front.ids) for front in fronts)
        proposed = ProposedRows(fronts, rule)
        proposed.pick(k - len(found.ids))
        if not proposed.picked:
            break
        found.ids.extend(int(id) for id in proposed.ids[proposed.picked])
        found.sq_distances.extend(proposed.sq_distances)
        ids, times = proposed.ids[proposed.picked], np.array(proposed.times)
        centres = tuple(factor[proposed.picked].numpy() for factor in proposed.factors)
        missing = k - len(found.ids)
        want = min(max(FEWEST, 2 * missing * len(proposed.ids) // len(proposed.picked)), MOST)
    return found


class ProposedRows:
    """The rows sent in one round trip, in id order, and the greedy choice among them.

    The same laziness once more: only HOT of them, the hottest, are kept up to date with each pick.
    """

    def __init__(self, fronts: list[Front], rule: Rule) -> None:
        self.rule = rule
        order = np.argsort(np.concatenate([front.ids for front in fronts]))
        self.ids = np.concatenate([front.ids for front in fronts])[order]
        self.state = torch.from_numpy(np.concatenate([front.state for front in fronts], 1)[:, order])
        columns = zip(*(front.factors for front in fronts if len(front.ids)), strict=True)
        self.factors = tuple(torch.from_numpy(np.concatenate(column)[order]) for column in columns)
        self.ranking = Ranking(self.ids, rule.priority(self.state))
        self.rest = min((front.rest for front in fronts), key=Place.order)
        self.heard = torch.zeros(len(order), dtype=torch.int64)
        self.picked: list[int] = []
        self.times: list[float] = []
        self.sq_distances: list[float] = []
        self.widths = tuple(factor.shape[1] for factor in self.factors)
        self.centres = Centres(self.widths, torch.device("cpu"))

    def pick(self, k: int) -> None:
        """Up to k picks: as many as stand before every row that was not sent."""
        ahead = HOT
        while len(self.picked) < k:
            hot = self.ranking.top(HOT)
            if bool((self.heard[hot] < len(self.picked)).any()):
                wide = self.ranking.widen(ahead)
                self.refresh(wide[self.heard[wide] < len(self.picked)])
                ahead *= 2
                continue
            ahead = HOT
            cold = min(self.ranking.best_but(hot), self.rest, key=Place.order)
            if not self.pick_among(hot, cold, k):
                return

    def refresh(self, rows: torch.Tensor) -> None:
        """Let rows hear of the picks they have missed."""
        first = int(self.heard[rows].min()) // EXACT_COLUMNS
        factors = tuple(factor[rows] for factor in self.factors)
        state = self.state[:, rows]
        for tile in range(first, ceil_div(self.centres.count, EXACT_COLUMNS)):
            times = self.centres.times[tile * EXACT_COLUMNS : (tile + 1) * EXACT_COLUMNS]
            state = self.rule.fold(state, self.centres.sq_distances(tile, factors), times)
        self.state[:, rows] = state
        self.ranking.priority[rows] = self.rule.priority(state)
        self.ranking.priority[self.picked] = -torch.inf
        self.heard[rows] = len(self.picked)

    def pick_among(self, hot: torch.Tensor, cold: Place, k: int) -> bool:
        """Pick among rows that are up to date while the best of them stands before `cold`; whether any was."""
        factors = tuple(factor[hot] for factor in self.factors)
        state, priority = self.state[:, hot], self.ranking.priority[hot]
        before = len(self.picked)
        gaps: dict[int, torch.Tensor] = {}
        picked = torch.zeros(len(hot), dtype=torch.bool)
        while len(self.picked) < k and len(hot):
            best = int(priority.argmax())
            place = Place(float(priority[best]), int(self.ids[int(hot[best])]))
            if place.priority == -np.inf or not place.before(cold):
                break
            if best not in gaps:
                gaps = self.gaps_of(likely(priority, best), factors)
            time = self.rule.time(place.priority)
            self.picked.append(int(hot[best]))
            self.times.append(time)
            self.sq_distances.append(float(state[0, best]))
            picked[best] = True
            state = self.rule.fold(state, gaps[best][None], torch.tensor([time], dtype=torch.float64))
            priority = self.rule.priority(state).masked_fill_(picked, -torch.inf)
        self.state[:, hot], self.ranking.priority[hot] = state, priority
        new = self.picked[before:]
        if new:
            self.centres.extend(tuple(factor[new].numpy() for factor in self.factors), np.array(self.times[before:]))
            self.heard[hot] = len(self.picked)
        return bool(new)

    def gaps_of(self, rows: torch.Tensor, factors: Factors) -> dict[int, torch.Tensor]:
        """Squared distances of each of up to EXACT_COLUMNS rows to all rows, by row."""
        ahead = Centres(self.widths, torch.device("cpu"))
        ahead.extend(tuple(factor[rows].numpy() for factor in factors), np.zeros(len(rows)))
        return dict(zip(rows.tolist(), ahead.sq_distances(0, factors), strict=False))


def likely(priority: torch.Tensor, best: int) -> torch.Tensor:
    """The rows likely picked next, `best` among them: their distances cost one product together."""
    order = priority.clone()
    order[best] = torch.inf
    return order.topk(min(EXACT_COLUMNS, len(order))).indices
