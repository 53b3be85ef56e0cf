"""Exact greedy selection from the whole pool in a few round trips: the driver's part.

A rule picks the row of highest priority. The pick becomes a centre, and centres can only lower the priorities of the
other rows. So a priority computed before some picks is an upper bound of the priority now, and a row whose bound is low
need not be looked at.

One round trip:

1. The driver sends the picks of the last round trip to every partition (`partition_programs.propose`).
2. A partition takes them as centres. It brings its best rows up to date. It sends back these rows, and the best place
   that any of its other rows could have: a bound.
3. The driver puts the rows of all partitions together (`ProposedRows`). It picks the best row, applies it as a centre
   to the others, and goes on as long as its best row stands before every bound.
4. What it picked goes out with the next round trip.

Every round trip gives at least one pick, because the best row of the pool is always among the rows sent.

Decisions are taken on distances in double precision from products of one shape; ties go by a hash of (key, item). So
the picks do not depend on the partitions, on how many rows are sent, or on when a row was looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.fleet import Fleet
from raysal.numerics import EXACT_COLUMNS, ceil_div
from raysal.rng import derive, item_order
from raysal.strategies.engine.distances import Centres, WideRows
from raysal.strategies.engine.feature_maps import Arrays, FeatureMap
from raysal.strategies.engine.partition_programs import propose, start
from raysal.strategies.engine.priorities import Rule
from raysal.strategies.engine.proposals import BestRows
from raysal.strategies.engine.ranking import Place
from raysal.strategies.engine.sharing import sharing

ROWS_AT_FIRST = 1024
"""Rows that all partitions together send in the first round trip."""
FEWEST_ROWS = 256
"""Rows that all partitions together send in a later round trip, at least."""
MOST_ROWS = 4096
"""Rows that all partitions together send in a later round trip, at most. Between the two bounds it is a quarter more
than the picks still missing need, if a row sent yields as many picks as in the last round trip."""
HELD_ROWS = 32768
"""As `MOST_ROWS`, by a rule that picks most rows that are sent, and no more than twice the missing picks: 36 MB of 272
numbers. With k = 10,000 a race is three times as fast then. Of the farthest rows few are picked, and more of them would
only be looked at more often."""


@dataclass(frozen=True)
class Unsent:
    """Centres that the partitions were not told of, as nothing was to be picked after them."""

    ids: NDArray[np.int64]
    factors: Arrays
    times: NDArray[np.float64]


@dataclass
class GreedyResult:
    """What a run of the engine found, and what it took."""

    ids: list[int] = field(default_factory=list)
    """Ids in pick order."""
    sq_distances: list[float] = field(default_factory=list)
    """Squared distance of each pick to the centres before it. Without any, it is the squared norm or inf."""
    round_trips: int = 0
    """Calls of all partitions."""
    rows_sent: int = 0
    """Rows that the partitions sent."""
    pairs: int = 0
    """Pairs of a row and a centre whose distance the partitions bounded in single precision."""
    pairs_again: int = 0
    """Of those, the pairs that were bounded before, and once more for a row to be sent."""
    pairs_guessed: int = 0
    """Pairs of which the partitions guessed which centre is nearest (`guesses`)."""
    unsent: Unsent | None = None
    """The picks of the last round trip."""

    def divided_by(self, scale: float) -> GreedyResult:
        """The same with distances of vectors as they were given to the pool, which holds them times its scale."""
        return replace(self, sq_distances=[gap / scale**2 for gap in self.sq_distances])


def lazy_greedy(
    fleet: Fleet,
    rule: Rule,
    feature_map: FeatureMap,
    k: int,
    *,
    centres: Arrays,
    opening: Literal["lowest", "largest"],
    key: int,
    after: Callable[[GreedyResult], None] = lambda _: None,
) -> GreedyResult:
    """Pick up to k rows by a rule.

    Args:
        fleet: The partitions of the pool.
        rule: What rows are judged by.
        feature_map: The space in which distances are taken.
        k: The most picks.
        centres: Factors of items that are covered from the start, [m, width] each; m may be 0.
        opening: The first pick if there are no centres: the row of lowest hash, or of largest norm.
        key: Key of the hash of the opening; that of the hash that orders equal rows is derived from it.
        after: Called with what was picked so far, after each round trip.

    Returns:
        The picks. They are fewer than k if no row has a priority left: in a race, when all rows coincide with a centre.
        There are none if the opening is the largest norm, there are no centres, and all norms are zero.

    Raises:
        PoolError: The features of a candidate are not finite; it names the item.
    """
    found = GreedyResult(round_trips=1)
    ties = derive(key, "ties")
    openings = fleet.each(start, feature_map, rule, opening, key, ties)
    ids, times = np.empty(0, np.int64), np.zeros(len(centres[0]))
    if len(times) == 0:
        proposals = [proposal for proposal in openings if proposal is not None]
        if not proposals:
            return found
        first = min(proposals, key=lambda proposal: proposal.place.order())
        found.ids.append(first.place.id)
        found.sq_distances.append(first.place.priority if opening == "largest" else np.inf)
        ids, centres, times = np.array([first.place.id]), first.factors, np.zeros(1)
    found.unsent = Unsent(ids, centres, times)
    wanted = ROWS_AT_FIRST
    while len(found.ids) < k:
        parts = fleet.each(propose, ids, centres, times, ceil_div(wanted, fleet.size))
        found.round_trips += 1
        found.unsent = None
        found.pairs_again = sum(part.pairs_again for part in parts)
        found.pairs = sum(part.pairs for part in parts) + found.pairs_again
        found.pairs_guessed = sum(part.pairs_guessed for part in parts)
        found.rows_sent += sum(len(part.ids) for part in parts)
        parts = [part for part in parts if len(part.ids)]
        if not parts:
            break
        proposed = ProposedRows(parts, rule, ties)
        with sharing(sum(factor.numel() for factor in proposed.factors), torch.device("cpu")):
            proposed.pick(k - len(found.ids))
        if not proposed.picked:
            break
        found.ids.extend(int(id) for id in proposed.ids[proposed.picked])
        found.sq_distances.extend(proposed.sq_distances)
        ids, times = proposed.ids[proposed.picked], np.array(proposed.times)
        centres = tuple(factor[proposed.picked].numpy() for factor in proposed.factors)
        found.unsent = Unsent(ids, centres, times)
        after(found)
        missing = k - len(found.ids)
        needed = 5 * missing * len(proposed.ids) // (4 * len(proposed.picked))
        most = max(MOST_ROWS, min(2 * missing, HELD_ROWS)) if rule.picks_most else MOST_ROWS
        wanted = min(max(FEWEST_ROWS, needed), most)
    return found


class ProposedRows:
    """The rows that all partitions sent in one round trip, and the greedy choice among them.

    Attributes:
        ids: int64 [n], in the order of ties, so that the first of equal rows is the one to pick.
        order: The rows' numbers in that order, int64 [n], ascending.
        factors: Float32 [n, width] each.
        state: The rule's state, float64 [fields, n], as sent; `pick` overwrites it. The last field is the priority.
        bound: The best place that any row could have that was not sent.
        picked: Positions of the picks, in pick order.
        times: The rule's time of each pick.
        sq_distances: Squared distance of each pick to the centres before it.
    """

    def __init__(self, parts: list[BestRows], rule: Rule, ties: int) -> None:
        self.rule = rule
        self.ids = np.concatenate([part.ids for part in parts])
        order = np.argsort(item_order(ties, self.ids))
        self.ids = self.ids[order]
        self.order = item_order(ties, self.ids)
        self.state = np.concatenate([part.state for part in parts], 1)[:, order]
        columns = zip(*(part.factors for part in parts), strict=True)
        self.factors = tuple(torch.from_numpy(np.concatenate(column)[order]) for column in columns)
        self.bound = min((part.bound for part in parts), key=Place.order)
        self.picked: list[int] = []
        self.times: list[float] = []
        self.sq_distances: list[float] = []

    def pick(self, k: int) -> None:
        """Pick up to k rows: as many as stand before every row that was not sent."""
        gaps: dict[int, NDArray[np.float64]] = {}
        live, rows, state = np.arange(len(self.ids)), WideRows.of(self.factors), self.state
        bound, before = self.bound.priority, 0
        while len(self.picked) < k and len(live):
            best = int(state[-1].argmax())  # the first of equals
            row, priority = int(live[best]), float(state[-1, best])
            if priority < bound or priority == -np.inf:
                break
            if priority == bound and not Place(priority, int(self.order[row]), int(self.ids[row])).before(self.bound):
                break
            if best not in gaps:
                (able,) = (state[-1] >= bound).nonzero()  # the others will not be picked here
                if 4 * len(able) < 3 * len(live):
                    rows, state, live = rows.only(torch.from_numpy(able)), state[:, able], live[able]
                    best = int(able.searchsorted(best))
                tried = gaps and 4 * (len(self.picked) - before) < len(gaps)
                likely = trial_picks(self.rule, state, rows) if tried else likely_picks(state[-1], best)
                gaps, before = sq_distances_from(likely, rows), len(self.picked)
            time = self.rule.pick_time(priority)
            self.picked.append(row)
            self.times.append(time)
            self.sq_distances.append(float(state[0, best]))
            self.rule.apply_pick(state, gaps[best], time)
            state[:, best] = -np.inf


def sq_distances_from(some: NDArray[np.int64], rows: WideRows) -> dict[int, NDArray[np.float64]]:
    """Squared distances [n] of each of up to EXACT_COLUMNS rows to all rows, by row."""
    factors = rows.narrow(torch.from_numpy(some))
    centres = Centres(tuple(factor.shape[1] for factor in factors), torch.device("cpu"))
    centres.extend(tuple(factor.numpy() for factor in factors), np.zeros(len(some)))
    return dict(zip(some.tolist(), centres.sq_distances(0, rows).numpy(), strict=False))


def likely_picks(priority: NDArray[np.float64], best: int) -> NDArray[np.int64]:
    """The rows of highest priority and the `best` row: distances from all of them cost one product together."""
    first = max(len(priority) - EXACT_COLUMNS, 0)
    likely = priority.argpartition(first)[first:] if first else np.arange(len(priority))
    if best not in likely:  # of more equal ones
        likely[0] = best
    return likely


def trial_picks(rule: Rule, state: NDArray[np.float64], rows: WideRows) -> NDArray[np.int64]:
    """The next picks by distances in single precision, one after the other. O(EXACT_COLUMNS n width).

    Where rows lie in groups of near copies, those of highest priority are of one group, and one of them is picked.

    Args:
        rule: What rows are judged by.
        state: Their states, float64 [fields, n]; left as they are.
        rows: The rows.

    Returns:
        Up to EXACT_COLUMNS positions; the first is the row of highest priority.
    """
    factors = tuple(factor[: rows.count].float().numpy() for factor in rows.factors)
    sq_norms, state, picks = rows.sq_norms[: rows.count].numpy(), state.copy(), list[int]()
    while len(picks) < EXACT_COLUMNS and (priority := float(state[-1].max())) > -np.inf:
        picks.append(pick := int(state[-1].argmax()))
        inner = np.ones(rows.count)
        for factor in factors:
            inner *= factor @ factor[pick]
        rule.apply_pick(state, np.maximum(sq_norms + sq_norms[pick] - 2 * inner, 0), rule.pick_time(priority))
        state[:, pick] = -np.inf
    return np.array(picks)
