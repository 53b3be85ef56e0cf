"""Exact greedy selection from the whole pool: a partition's part of the lazy engine.

Every candidate row keeps a state: what the rule knew of it when the row was last looked at. Its priority can only have
fallen since. So as long as some rows are up to date and stand above all others, the others need not be looked at.

`start` reads every row once, for its norm. A call of `propose` goes like this (`RowStates`):

1. `add_centres`: the new picks join the partition's centres.
2. `best_rows`: take the best rows by what is known. Apply to them the centres that their states do not account for
   (`apply_centres`): with an upper bound in single precision where that is enough, exactly where it is not. Go on until
   the best rows are up to date and exact.
3. Send these rows, and the best place that any other row could have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.errors import PoolError
from raysal.fleet import Partition
from raysal.numerics import BLOCK_ROWS, EXACT_COLUMNS
from raysal.rng import item_order, item_uniform
from raysal.strategies.engine.distances import Centres, slack, sq_norms
from raysal.strategies.engine.feature_maps import Arrays, Factors, FeatureMap
from raysal.strategies.engine.priorities import Rule
from raysal.strategies.engine.ranking import NOWHERE, Place, Ranking, first_of_largest

SCREENED_TILES = 16
"""Tiles of centres whose distances are bounded in one product of single precision."""
ALL_CENTRES = torch.iinfo(torch.int32).max
"""Number of centres applied to a row that is a centre itself: it is never looked at again."""


@dataclass(frozen=True, kw_only=True)
class BestRows:
    """Rows of a partition that are up to date, and stand before all its other rows."""

    ids: NDArray[np.int64]
    """[m], ascending."""
    state: NDArray[np.float64]
    """The rule's state, [fields, m]."""
    factors: Arrays
    """[m, width] each."""
    bound: Place
    """The best place that any other row of the partition could have."""
    pairs: int
    """Pairs of a row and a centre that were computed in single precision so far."""


@dataclass(frozen=True, kw_only=True)
class Opening:
    """A partition's proposal for the first pick, if there is no centre yet."""

    place: Place
    factors: Arrays
    """[1, width] each."""


class RowStates:
    """The candidate rows of a partition, and what is known of each.

    Memory per row: 8 bytes for the position and 8 for the id, 4 for the norm, 4 for the number of centres applied and 1
    for whether its state is exact, 8 for the priority, and 8 for each field of the rule's state (one or three). Factors
    are not kept; they are computed again when a row is looked at.

    Raises:
        PoolError: The features of a row are not finite; it names the item.
    """

    def __init__(self, partition: Partition, feature_map: FeatureMap, rule: Rule, ties: int) -> None:
        self.partition, self.rule, self.ties = partition, rule, ties
        self.rows = partition.candidates()
        self.ids = partition.ids[self.rows]
        self.factors_of = feature_map.bind(partition.width, partition.device)
        n, device = len(self.rows), partition.device
        self.sq_norms = torch.empty(n, device=device)
        """Squared norms float32 [n]."""
        widths: tuple[int, ...] = ()
        start = 0
        for block in partition.blocks(self.rows):
            factors = self.factors_of(block.features)
            widths = tuple(factor.shape[1] for factor in factors)
            norms = self.sq_norms[start : start + block.n].fill_(1.0)
            for factor in factors:
                norms *= (factor * factor).sum(1)[: block.n]
            start += block.n
        broken = (~torch.isfinite(self.sq_norms)).nonzero()
        if len(broken):
            raise PoolError(
                f"item {self.ids[int(broken[0, 0])]}",
                "its features are not finite numbers",
                "embed it again, or leave it out",
            )
        self.state = rule.initial_state(self.ids).to(device)
        """The rule's state, float64 [fields, n]."""
        self.ranking = Ranking(self.ids, torch.zeros(n, dtype=torch.float64, device=device), ties)
        self.centres_applied = torch.zeros(n, dtype=torch.int32, device=device)
        """How many of the centres each row's state accounts for, int32 [n]."""
        self.exact = torch.zeros(n, dtype=torch.bool, device=device)
        """Whether the distance in a row's state is the exact one and no bound, [n]."""
        self.centres = Centres(widths, device)
        self.pairs = 0
        """Pairs of a row and a centre that were computed in single precision."""
        self.last_batch = 0
        """Rows that were last looked at together, until the best rows were up to date."""

    def __len__(self) -> int:
        return len(self.rows)

    def largest_norm(self) -> Opening | None:
        """The row of largest norm.

        Returns:
            The row, with its exact squared norm as priority. None if no norm is above 0.
        """
        if len(self) == 0 or not bool((self.sq_norms > 0).any()):
            return None
        share = slack(self.centres.factors)
        near = (self.sq_norms >= self.sq_norms.max() * (1 - 3 * share)).nonzero()[:, 0].cpu().numpy()
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
        hashes = item_uniform(key, self.ids)
        row = int(hashes.argmin())
        ((_, factors),) = self.read(np.array([row]))
        tie = int(item_order(self.ties, self.ids[row : row + 1])[0])
        return Opening(place=Place(1 - float(hashes[row]), tie, int(self.ids[row])), factors=one_row(factors, 0))

    def read(self, places: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Factors]]:
        """Compute the factors of rows, block by block.

        Args:
            places: Ascending positions among the candidate rows.

        Yields:
            (positions [n], their factors [n, width]) in order.
        """
        start = 0
        for block in self.partition.blocks(self.rows[places]):
            factors = self.factors_of(block.features)
            yield places[start : start + block.n], tuple(factor[: block.n] for factor in factors)
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
        if first:  # no row is farther from a centre than the sum of both norms
            nearest = float(self.centres.sq_norms[: self.centres.count].min()) ** 0.5
            bound = (self.sq_norms.double() * (1 + slack(self.centres.factors))).sqrt() + nearest
            self.state[0] = bound * bound * (1 + 1e-9)
            self.ranking = Ranking(self.ids, self.rule.priority(self.state), self.ties)
        if len(ids):
            place = np.searchsorted(self.ids, ids).clip(max=len(self.ids) - 1)
            own = torch.from_numpy(place[self.ids[place] == ids]).to(self.partition.device)
            self.state[0, own] = 0.0
            self.ranking.priority[own] = -torch.inf
            self.centres_applied[own] = ALL_CENTRES

    def best_rows(self, wanted: int) -> BestRows:
        """Bring the `wanted` best rows up to date, and return them with their exact states."""
        batch = max(wanted, self.last_batch // 4)
        while True:
            top = self.ranking.top(wanted)
            if bool((self.centres_applied[top] < self.centres.count).any()):
                some = self.ranking.set_scope(batch)
                self.bring_up_to_date(some[self.centres_applied[some] < self.centres.count])
                self.last_batch, batch = batch, 2 * batch
            elif not bool(self.exact[top].all()):
                self.make_exact(top[~self.exact[top]])
            else:
                break
        places = top.cpu().numpy()
        parts = [tuple(f.clone() for f in factors) for _, factors in self.read(places)]
        factors = tuple(torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))
        return BestRows(
            ids=self.ids[places],
            state=self.state[:, top].cpu().numpy(),
            factors=factors,
            bound=self.ranking.best_except(top),
            pairs=self.pairs,
        )

    def bring_up_to_date(self, places: torch.Tensor) -> None:
        """Apply to rows the centres that their states do not account for, to those that miss as many together."""
        applied = self.centres_applied[places]
        for some in torch.split(torch.argsort(applied), BLOCK_ROWS):
            first = int(applied[some[0]]) // EXACT_COLUMNS
            self.apply_centres(places[some].sort().values, first, exactly=self.rule.depends_on_order)

    def make_exact(self, places: torch.Tensor) -> None:
        """Replace the bounds in the states of rows by exact values."""
        for some in torch.split(places, BLOCK_ROWS):
            self.apply_centres(some, 0, exactly=True)

    def apply_centres(self, places: torch.Tensor, first: int, *, exactly: bool) -> None:
        """Apply centres to the states of rows.

        Args:
            places: Ascending positions of at most BLOCK_ROWS rows.
            first: The first tile of centres to apply; the states account for all before it.
            exactly: Whether to compute exact distances, or only upper bounds where these are not sure to be exact.
        """
        ((_, factors),) = self.read(places.cpu().numpy())
        self.pairs += len(places) * (self.centres.count - first * EXACT_COLUMNS)
        state, norms = self.state[:, places], self.sq_norms[places]
        still_exact = self.exact[places]
        for low in range(first, self.centres.tiles, SCREENED_TILES):
            closeness = self.centres.closeness_bounds(low, min(low + SCREENED_TILES, self.centres.tiles), factors)
            if exactly:
                self.apply_exactly(state, norms, factors, closeness, low)
            else:
                still_exact &= self.apply_bounds(state, norms, closeness)
        self.state[:, places] = state
        self.ranking.priority[places] = self.rule.priority(state)
        self.centres_applied[places] = self.centres.count
        self.exact[places] = still_exact | exactly

    def apply_bounds(self, state: torch.Tensor, norms: torch.Tensor, closeness: torch.Tensor) -> torch.Tensor:
        """Lower the distances in states to upper bounds in single precision, in place.

        Args:
            state: Float64 [fields, n].
            norms: Squared norms float32 [n].
            closeness: `Centres.closeness_bounds` [tiles, n].

        Returns:
            Bool [n]: True where no centre is near enough to lower the distance.
        """
        share = slack(self.centres.factors)
        low = norms * (1 - share) - 2 * closeness.amax(0)
        high = low.double() + 2 * share * (norms + self.centres.sq_norms.max())
        unchanged = low >= state[0]
        torch.minimum(state[0], high.clamp_(min=0), out=state[0])
        return unchanged

    def apply_exactly(
        self, state: torch.Tensor, norms: torch.Tensor, factors: Factors, closeness: torch.Tensor, low: int
    ) -> None:
        """Apply tiles of centres to states in place, in double precision, where a tile could lower a row's distance.

        Args:
            state: Float64 [fields, n].
            norms: Squared norms float32 [n].
            factors: [n, width] each.
            closeness: `Centres.closeness_bounds` [tiles, n].
            low: Number of the first of these tiles.
        """
        norms = norms * (1 - slack(self.centres.factors))
        # Where order does not matter, the nearest tile comes first: the others then rarely lower anything.
        nearest = None if self.rule.depends_on_order else closeness.argmax(0)
        for again in (False,) if nearest is None else (False, True):
            for tile, close in enumerate(closeness):
                able = close * 2 >= norms - state[0]
                if nearest is not None:
                    able &= (nearest == tile) ^ again
                rows = able.nonzero()[:, 0]
                if len(rows):
                    gaps = self.centres.sq_distances(low + tile, tuple(factor[rows] for factor in factors))
                    times = self.centres.tile_times(low + tile)
                    state[:, rows] = self.rule.apply_centres(state[:, rows], gaps, times)


def one_row(factors: Factors, row: int) -> Arrays:
    """The factors of one row, [1, width] each."""
    return tuple(factor[row : row + 1].cpu().numpy().copy() for factor in factors)


# What the driver calls on every partition, in this order.


def start(
    partition: Partition,
    feature_map: FeatureMap,
    rule: Rule,
    opening: Literal["lowest", "largest"],
    key: int,
    ties: int,
) -> Opening | None:
    """Set up the states of the candidate rows, and propose a first pick.

    Args:
        partition: The partition.
        feature_map: The space in which distances are taken.
        rule: What rows are judged by.
        opening: The first pick: the row of lowest hash, or of largest norm.
        key: Key of the hash.
        ties: Key of the hash that orders rows of equal priority.

    Returns:
        The proposal; None if there is none here.

    Raises:
        PoolError: The features of a candidate are not finite; it names the item.
    """
    rows = partition.state["row_states"] = RowStates(partition, feature_map, rule, ties)
    return rows.largest_norm() if opening == "largest" else rows.lowest_hash(key)


def propose(
    partition: Partition, ids: NDArray[np.int64], factors: Arrays, times: NDArray[np.float64], wanted: int
) -> BestRows:
    """Add the last picks as centres, and propose the best rows.

    Args:
        partition: The partition.
        ids: Ids of the picks.
        factors: Their factors, [m, width] each. In the first call they may be those of labelled items, without ids.
        times: The rule's time of each pick, [m], ascending.
        wanted: How many rows to propose.

    Returns:
        The rows, and a bound of all others.
    """
    rows: RowStates = partition.state["row_states"]
    rows.add_centres(ids, factors, times)
    return rows.best_rows(wanted)
