"""Exact greedy selection from the whole pool: a partition's part of the lazy engine.

Every candidate row keeps a state: upper bounds of what the rule would say of it, from when the row was last looked at.
Its priority can only have fallen since. So as long as some rows are up to date and stand above all others, the others
need not be looked at.

Every row is read once at the start, for its norm. A call of `partition_programs.propose` goes like this (`RowStates`):

1. `add_centres`: the new picks join the partition's centres.
2. `best_rows`: choose a level of priority that as many rows as are wanted will hold. Bring all rows above it up to date
   (`apply_bounds`): one product in single precision with all the centres that their states do not account for, and
   proven bounds. Where too few rows stay above the level, go on with a lower one. Where only the nearest centre
   matters, it may be guessed instead (`apply_guesses`): the distance to any centre is a bound.
3. Make the states of the best rows exact (`make_exact`), in double precision. Only rows that are sent need that.
4. Send these rows, and the best place that any other row could have.

So a pair of a row and a centre is bounded at most once, and once more when a row is made exact: laziness can save, and
hardly costs more than the product of all rows with all picks. If too many rows are made exact in vain because
guesses are bad, guesses end, and what was guessed is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.errors import PoolError
from raysal.fleet import Partition
from raysal.numerics import BLOCK_ROWS, EXACT_COLUMNS, ceil_div, slices
from raysal.rng import item_order, item_uniform
from raysal.strategies.engine.distances import Centres, approximate_sq_norms, slack, sq_norms
from raysal.strategies.engine.exact_states import make_exact
from raysal.strategies.engine.feature_maps import Arrays, Factors, FeatureMap
from raysal.strategies.engine.guesses import Guesses
from raysal.strategies.engine.priorities import Rule
from raysal.strategies.engine.proposals import BestRows, Opening
from raysal.strategies.engine.ranking import NOWHERE, IdsOfRows, Place, Ranking, first_of_largest
from raysal.strategies.engine.sharing import Rooms, in_runs

FIRST_ROWS = 2
"""Times the rows to send: as many rows are looked at first."""
GROWTH = 8
"""Times as many rows are looked at, at most, if too few of them stay above the others."""
PIECE_ROWS = 2**17
"""Rows whose states are begun together: what is computed on the way takes many times the memory of a state."""
KEPT_BYTES = 64 * 2**20
"""Factors of a partition's candidates that take no more are computed once, and kept."""
NUMBERS_TOGETHER = 2**23
"""Numbers of rows that are looked at together, 32 MB: the more rows, the more of them share an exact product, or a cell
of centres."""


class RowStates:
    """The candidate rows of a partition, and what is known of each.

    Memory per row: 4 bytes for the position, 4 for the number of centres applied, where order does not matter 4 for
    that of those proven, 1 for whether its state is exact, and 8 for each field of the rule's state (one or two). The
    factors of a large partition are not kept; they are computed again when a row is looked at.

    Raises:
        PoolError: The features of a row are not finite; it names the item.
    """

    def __init__(self, partition: Partition, feature_map: FeatureMap, rule: Rule, ties: int) -> None:
        self.partition, self.rule, self.ties = partition, rule, ties
        self.rows = partition.candidates().astype(np.uint32)
        self.ids = IdsOfRows(partition.ids, self.rows)
        self.factors_of = feature_map.bind(partition.width, partition.device)
        n, device = len(self.rows), partition.device
        fields = len(rule.begin(self.ids[:0], torch.empty(0, dtype=torch.float64, device=device)))
        self.state = torch.empty(fields, n, dtype=torch.float64, device=device)
        """The rule's state, float64 [fields, n]. Until there is a centre, field 0 holds squared norms."""
        nothing = torch.zeros(BLOCK_ROWS, partition.width, device=device)
        widths = tuple(factor.shape[1] for factor in self.factors_of(nothing))
        self.kept: Factors | None = None
        """The factors of all rows, if they take no more than KEPT_BYTES."""
        kept: Factors = ()
        if n and 4 * n * sum(widths) <= KEPT_BYTES:
            kept = tuple(torch.empty(n, width, device=device) for width in widths)

        def begin(run: slice) -> None:
            for some, factors in self.compute(self.rows[run]):
                own = slice(run.start + some.start, run.start + some.stop)
                self.state[0, own] = approximate_sq_norms(factors).double()
                for mine, factor in zip(kept, factors, strict=False):
                    mine[own] = factor

        in_runs(begin, n)
        self.kept = kept or None
        broken = (~torch.isfinite(self.state[0])).nonzero()
        if len(broken):
            raise PoolError(
                f"item {self.ids[broken[0].cpu().numpy()][0]}",
                "its features are not finite numbers",
                "embed it again, or leave it out",
            )
        self.ranking = Ranking(self.ids, self.state[-1], ties)
        self.centres_applied = torch.zeros(n, dtype=torch.int32, device=device)
        """How many of the centres each row's state accounts for, int32 [n]."""
        self.centres_proven = self.centres_applied if rule.depends_on_order else self.centres_applied.clone()
        """How many of them by more than a guess, and to exact rows by more than a bound; where order matters, all."""
        self.exact = torch.zeros(n, dtype=torch.bool, device=device)
        """Whether the distance in a row's state was exact, and no bound, once these were applied, [n]."""
        self.guessing = False
        """Whether states may account for centres by guesses alone."""
        self.centres = Centres(widths, device)
        self.guesses = Guesses(widths, device, rule)
        self.rooms = Rooms()
        self.pairs, self.pairs_again = 0, 0
        """Pairs of a row and a centre whose distance was bounded, and those bounded once more to make a state exact."""
        self.rows_above = 0
        """Rows that stood above the level down to which all rows were last brought up to date."""

    def __len__(self) -> int:
        return len(self.rows)

    def largest_norm(self) -> Opening | None:
        """The row of largest norm.

        Returns:
            The row, with its exact squared norm as priority. None if no norm is above 0.
        """
        norms = self.state[0]
        if len(self) == 0 or not bool((norms > 0).any()):
            return None
        share = slack(self.centres.factors)
        near = (norms >= norms.max() * (1 - 3 * share)).nonzero()[:, 0].cpu().numpy()
        best, opening = NOWHERE, None
        for rows, factors in self.read(near):
            norms = sq_norms(factors)
            row, tie = first_of_largest(norms, self.ids[rows], self.ties)
            place = Place(float(norms[row]), tie, int(self.ids[rows[row]]))
            if place.before(best):
                best, opening = place, Opening(place=place, factors=one_row(factors, row))
        return opening

    def lowest_hash(self, key: int) -> Opening | None:
        """The row of lowest hash, which is uniform over the pool; None if there are no rows."""
        if len(self) == 0:
            return None
        lowest = []
        for some in slices(len(self), PIECE_ROWS):
            hashes = item_uniform(key, self.ids[some])
            lowest.append((float(hashes.min()), some.start + int(hashes.argmin())))
        hashed, row = min(lowest)
        ((_, factors),) = self.read(np.array([row]))
        id = self.ids[np.array([row])]
        return Opening(
            place=Place(1 - hashed, int(item_order(self.ties, id)[0]), int(id[0])), factors=one_row(factors, 0)
        )

    def read(self, places: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Factors]]:
        """Give the factors of rows, block by block: those that are kept, or else computed again.

        Args:
            places: Ascending positions among the candidate rows.

        Yields:
            (positions [n], their factors [n, width]) in order; the next overwrite them.
        """
        if self.kept is None:
            for some, factors in self.compute(self.rows[places]):
                yield places[some], factors
            return
        for some in slices(len(places), BLOCK_ROWS):
            own = places[some]
            if own[-1] - own[0] == len(own) - 1:  # neighbours are read where they lie
                yield own, tuple(factor[own[0] : own[-1] + 1] for factor in self.kept)
                continue
            rows = torch.from_numpy(own).to(self.partition.device)
            shapes = [(len(own), factor.shape[1]) for factor in self.kept]
            rooms = [self.rooms.room(str(at), *shape, device=rows.device) for at, shape in enumerate(shapes)]
            yield (
                own,
                tuple(
                    torch.index_select(factor, 0, rows, out=room) for factor, room in zip(self.kept, rooms, strict=True)
                ),
            )

    def compute(self, rows: NDArray[np.uint32]) -> Iterator[tuple[slice, Factors]]:
        """Compute the factors of rows of the partition, ascending; yields where in `rows` those of a block are."""
        start = 0
        for some in slices(len(rows), PIECE_ROWS):
            for block in self.partition.blocks(rows[some].astype(np.int64)):
                factors = self.factors_of(block.features)
                yield slice(start, start + block.n), tuple(factor[: block.n] for factor in factors)
                start += block.n

    def add_centres(self, ids: NDArray[np.int64], factors: Arrays, times: NDArray[np.float64]) -> None:
        """Add centres. Rows are not compared with them yet, but rows that are centres will not be picked again.

        Args:
            ids: Ids of the centres that may be candidates here; none for labelled items.
            factors: Factors of the centres, [m, width] each.
            times: The rule's time of each centre, [m], ascending.
        """
        if len(self) == 0:
            return
        first = self.centres.count == 0
        self.centres.extend(factors, times)
        if first:
            self.begin()
        if len(ids):
            rows = self.partition.rows_of(ids).astype(np.uint32)
            place = np.searchsorted(self.rows, rows).clip(max=len(self) - 1)
            own = torch.from_numpy(place[self.rows[place] == rows]).to(self.partition.device)
            self.state[:, own] = -torch.inf

    def begin(self) -> None:
        """Make the states: no row is farther from a centre than the sum of both norms."""
        nearest = float(self.centres.sq_norms[: self.centres.count].min()) ** 0.5
        for some in slices(len(self), PIECE_ROWS):
            bound = (self.state[0, some] * (1 + slack(self.centres.factors))).sqrt() + nearest
            self.state[:, some] = self.rule.begin(self.ids[some], bound * bound * (1 + 1e-9))

    def best_rows(self, wanted: int) -> BestRows:
        """Bring the `wanted` best rows up to date, and return them with their exact states."""
        looked = max(FIRST_ROWS * wanted, self.rows_above // 2)
        level = self.ranking.level(looked)
        self.guesses.free_rows = wanted
        while True:
            above = self.ranking.above(level)
            top = self.best_of(above, wanted, level)
            if len(top) == wanted or level == -np.inf:
                break
            looked = len(above) * min(max(2, ceil_div(wanted, len(top) + 1)), GROWTH)
            guess, sure = self.ranking.level(looked), self.sure_level(above, wanted)
            level = guess if sure < guess < level else sure
        self.rows_above = len(above)
        places = top.cpu().numpy()
        factors = tuple(factor.cpu().numpy() for factor in self.gathered(places))
        return BestRows(
            ids=self.ids[places],
            state=self.state[:, top].cpu().numpy(),
            factors=factors,
            bound=self.ranking.best_except(top),
            pairs=self.pairs,
            pairs_again=self.pairs_again,
            pairs_guessed=self.guesses.pairs,
        )

    def sure_level(self, places: torch.Tensor, wanted: int) -> float:
        """A level above which at least `wanted` of these rows, which are up to date, stand; -inf if they are fewer."""
        if len(places) < wanted:
            return -np.inf
        best = self.ranking.priority[places].topk(wanted, sorted=False).values
        return float(np.nextafter(float(best.min()), -np.inf))

    def best_of(self, above: torch.Tensor, wanted: int, level: float) -> torch.Tensor:
        """Bring rows up to date, and the `wanted` best of those that stay above a level to exact states.

        Args:
            above: Ascending positions of all rows that stood above the level.
            wanted: How many are asked for.
            level: A priority.

        Returns:
            Ascending positions; not exact if fewer than wanted stay above the level, and some are below.
        """
        self.bring_up_to_date(above)
        while True:
            above = above[self.ranking.priority[above] > level]
            top = self.ranking.top(wanted, above)
            bounds = top[~self.exact[top] | (self.centres_proven[top] < self.centres.count)]
            if len(bounds) == 0 or (len(above) < wanted and level > -np.inf):
                return top
            if self.guessing and self.guesses.wasted_too_much(len(bounds), self.centres.count):
                self.guesses.allowed = self.guessing = False
                self.centres_applied = self.centres_proven.clone()
                self.bring_up_to_date(above)
            else:
                self.make_exact(bounds)

    def bring_up_to_date(self, places: torch.Tensor) -> None:
        """Apply to rows the centres that their states do not account for: those that miss as many, together."""
        places = places[self.centres_applied[places] < self.centres.count]
        applied = self.centres_applied[places]
        missed = len(places) * self.centres.count - int(applied.sum())
        self.guessing = self.guessing or self.guesses.pay(self.pairs + missed, self.centres)
        for first in torch.unique(applied).tolist():
            own = places[applied == first].cpu().numpy()
            pairs = len(own) * (self.centres.count - first)
            if self.guessing and (how := self.guesses.how(self.centres.count - first)) is not None:
                self.guesses.pairs += pairs
                self.share_out(own, self.guessing_from(first), together=how == "cells")
            else:
                self.pairs += pairs
                self.share_out(own, partial(self.apply_bounds, first))

    def share_out(
        self, places: NDArray[np.int64], work: Callable[[torch.Tensor, Factors], None], together: bool = False
    ) -> None:
        """Do some work for rows, by ascending positions [n] and factors, in several threads; read as by `together`."""

        def for_some(run: slice) -> None:
            for some, factors in self.together(places[run]) if together else self.read(places[run]):
                work(torch.from_numpy(some).to(self.partition.device), factors)

        in_runs(for_some, len(places), most=self.rows_together if together else None)

    def apply_bounds(self, first: int, places: torch.Tensor, factors: Factors) -> None:
        """Apply to rows all centres from a first one on, by upper bounds of distances.

        A group of centres counts as one centre, as near as the nearest of them and picked when the last of them was. A
        row that none of them can lower keeps its exact state. Where order does not matter, `centres_proven` says of the
        others for how many centres they were exact.
        """
        state, last = self.state[:, places], self.centres.count
        lower, upper = self.centres.screen(first, last, factors, grouped=self.rule.depends_on_order)
        same, exact, proven = lower.amin(0) >= state[0], self.exact[places], self.centres_proven[places]
        if self.rule.depends_on_order:
            self.exact[places] = exact & same
        else:
            self.centres_proven[places] = torch.where(exact & ~(same & (proven == first)), proven, last)
        self.rule.apply_centres(state, upper, self.centres.group_times(first, last)[-len(upper) :])
        self.state[:, places] = state
        self.centres_applied[places] = last

    def guessing_from(self, first: int) -> Callable[[torch.Tensor, Factors], None]:
        """As `apply_bounds`, by one centre, likely the nearest: its distance bounds that to the nearest from above."""
        nearest, last = self.guesses.nearest_of(self.centres, first), self.centres.count

        def apply_guesses(places: torch.Tensor, factors: Factors) -> None:
            state, upper = self.state[:, places], self.centres.bound_of(nearest(factors[0]), factors)
            self.rule.apply_centres(state, upper[None], self.centres.times[last - 1 : last])
            self.state[:, places], self.centres_applied[places] = state, last

        return apply_guesses

    def make_exact(self, places: torch.Tensor) -> None:
        """Replace the bounds in the states of rows by exact values, in double precision."""
        count = self.centres.count
        for own, factors in self.together(places.cpu().numpy()):
            rows = torch.from_numpy(own).to(self.partition.device)
            # What was exact before some guesses is so but for the centres since.
            tiles = torch.where(self.exact[rows], self.centres_proven[rows], 0) // EXACT_COLUMNS
            self.pairs_again += len(rows) * count - int(tiles.sum()) * EXACT_COLUMNS
            state = self.state[:, rows]
            make_exact(self.rule, self.centres, tiles, self.ids[own], factors, state)
            self.state[:, rows], self.exact[rows], self.centres_proven[rows] = state, True, count

    def together(self, places: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Factors]]:
        """As `read`, many more rows at once: what costs as much for few rows as for many is then shared."""
        for some in slices(len(places), self.rows_together):
            yield places[some], self.gathered(places[some])

    @property
    def rows_together(self) -> int:
        """How many rows are looked at together, at most."""
        return max(BLOCK_ROWS, NUMBERS_TOGETHER // sum(factor.shape[1] for factor in self.centres.factors))

    def gathered(self, places: NDArray[np.int64]) -> Factors:
        """The factors of rows, by ascending positions, [n, width] each; of neighbours that are kept a view."""
        if self.kept is not None and len(places) and places[-1] - places[0] == len(places) - 1:
            return tuple(factor[places[0] : places[-1] + 1] for factor in self.kept)
        done, out = 0, tuple(factor.new_empty(len(places), factor.shape[1]) for factor in self.centres.factors)
        for some, factors in self.read(places):
            for mine, factor in zip(out, factors, strict=True):
                mine[done : done + len(some)] = factor
            done += len(some)
        return out


def one_row(factors: Factors, row: int) -> Arrays:
    """The factors of one row, [1, width] each."""
    return tuple(factor[row : row + 1].cpu().numpy().copy() for factor in factors)
