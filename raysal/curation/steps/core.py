"""A step that keeps a number of items which cover all others: k-center, exact or by levels of distance."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysal.arrow_values import array_of
from raysal.curation.base import Forecast, Speed, Step, StepResult, Work
from raysal.curation.core.picks import StoredPicks
from raysal.curation.sizes import check_size, size_of
from raysal.errors import ConfigError
from raysal.fleet import exclude, vectors_of
from raysal.numerics import round_up
from raysal.pool import Pool
from raysal.rng import derive
from raysal.strategies.engine.feature_maps import Arrays, FeatureMap, UnitVectors, Vectors, factors_of
from raysal.strategies.engine.lazy_greedy import GreedyResult, lazy_greedy
from raysal.strategies.engine.nearest_centres import nearest_centres
from raysal.strategies.engine.priorities import FarthestLevel, FarthestPoint, Rule
from raysal.types import POOL_COLUMNS

SECONDS_BETWEEN = 30.0
"""After which picks are stored. The choice of some picks takes a second or two."""
EPSILON = 0.1
EPSILONS = 0.001, 0.5
VALUE = "the distance to the nearest kept item"
"""What the value of a dropped item is."""
PRODUCTS = 3.0
"""What is computed takes the time of so many products of all items with all kept ones, where there are many."""
PAIR = 100
"""Multiplications that take as long as what is done with each of these products, beside them."""
NUMBER = 5000
"""Multiplications that take as long as what is done with each number of each item, however few are kept: it is read,
converted and scaled for every round trip that looks at it, and compared once in double precision."""
BEGIN_S = 0.3
"""Seconds of a step that has next to nothing to do. The four fit processor seconds on one thread of 13 pools, of 20,000
to 1,000,000 items and 48 to 1,024 numbers, with and without clusters, within a factor of two."""


@dataclass(frozen=True, kw_only=True)
class Core(Step):
    """Keeps `size` items so that every dropped one is near to a kept one: greedy k-center.

    Each kept item is the farthest from all that were kept before it, and the first is drawn. The covering radius, the
    largest distance of a dropped item to the nearest kept one, is computed exactly, and so is the nearest kept item of
    every dropped one. Distances are those of vectors of length 1 where the metric is the cosine (cosine = 1 - distance²
    / 2), otherwise of vectors as they were given.

    `mode` says how the next one is found, and what the radius is at most, beside the smallest that any `size` items can
    have, with those of `always` among them:

    - `exact`: the farthest item of all. Twice the smallest radius (Gonzalez, TCS 1985).
    - `levels`: any item farther than 1 - `epsilon` times the radius so far, in an order that is drawn. Less than
      2 / (1 - `epsilon`) times the smallest (`FarthestLevel`). It needs fewer round trips, which counts on Ray.

    What a smaller `size` keeps is kept by a larger one, and comes first in `listed` (id, rank from 1, and the distance
    of each to what was kept before it: the radius without it). Seeks what is rare: outliers and broken items come
    first, so that `near` and `filter` belong before it.

    Cost: two to four times that of the product of all rows with all kept ones in single precision, half for the choice
    (`strategies.engine.lazy_greedy`), half for the nearest kept items (`nearest_centres`). Where fewer than some 1,000
    are kept, the time goes by the rows. Picks are stored every half minute, so that an interrupted step goes on, and a
    larger `size` begins where a smaller one ended.
    Memory of the driver: the kept vectors in single precision, and 60 bytes an item; of a partition likewise.
    """

    size: int | float
    """how many items are kept; below 1, which share of what is left"""
    mode: Literal["exact", "levels"] = "exact"
    """whether the farthest item is kept next, or any that is nearly as far"""
    epsilon: float | None = None
    """of the mode `levels`: by which share of the radius so far an item may be nearer, 0.001 to 0.5; by default 0.1"""
    always: str | None = None
    """a column of the pool: items that have a value in it (true, where values are true or false) are kept, and cover
    others from the start. They count for `size`"""

    REASON: ClassVar[str] = "covered by a kept item"

    def __post_init__(self) -> None:
        check_size(self.size)
        if self.mode not in ("exact", "levels"):
            raise ConfigError("mode", f"unknown value {self.mode!r}", "use exact or levels")
        if isinstance(self.epsilon, bool) or not EPSILONS[0] <= self._share_nearer <= EPSILONS[1]:
            raise ConfigError("epsilon", f"{self.epsilon!r} is out of range", "use 0.001 to 0.5")
        if self.mode == "exact" and self.epsilon is not None:
            raise ConfigError(
                "epsilon", "the mode exact takes the farthest item", 'leave it out, or use mode = "levels"'
            )

    @property
    def _share_nearer(self) -> float:
        return EPSILON if self.epsilon is None else self.epsilon

    def check(self, pool: Pool) -> None:
        """Look for the column."""
        if self.always is not None and self.always not in pool.columns:
            known = ", ".join(name for name in pool.columns if name not in POOL_COLUMNS) or "none"
            raise ConfigError("always", f"the pool has no column {self.always!r}", f"its columns: {known}")

    def check_first(self, pool: Pool) -> None:
        """Count the items that are always kept."""
        if self.always is not None:
            self._check_room(size_of(self.size, len(pool)), len(items_with(pool, self.always)))

    def _check_room(self, size: int, given: int) -> None:
        if given > size:
            problem = f"{size:,} is less than the {given:,} items that have a value in {self.always!r}"
            raise ConfigError("size", problem, "ask for more, or leave out always")

    def forecast(self, pool: Pool, left: int, speed: Speed) -> Forecast:
        """The size; some products of all items with all that are kept, and what is done with each item."""
        kept = size_of(self.size, left)
        if kept == left:
            return Forecast(kept=kept, seconds=0.0)
        of_item = round_up(pool.dim) * (NUMBER + PRODUCTS * kept) + PAIR * kept
        return Forecast(kept=kept, seconds=BEGIN_S + left * of_item / speed.products)

    def apply(self, work: Work) -> StepResult:
        """Pick the items to keep, then find the nearest of them for each other one."""
        ids = work.ids_left
        size, given = size_of(self.size, len(ids)), self._given(work)
        self._check_room(size, len(given))
        if size == len(ids):
            return StepResult.of(ids[:0], self.REASON, facts=self._facts(work.pool, size, len(given), np.empty(0)))
        work.begin()
        space: FeatureMap = UnitVectors() if work.pool.metric == "cosine" else Vectors()
        stored = self._stored_picks(work, given)
        found = self._pick(work, space, size, given, stored)
        work.report("nearest kept items", 0, 0)
        parts = work.fleet.each(nearest_centres, found.unsent)
        work.fleet.reset()
        dropped = np.concatenate([part.ids for part in parts])
        order = np.argsort(dropped)
        centres = np.concatenate([given, stored.ids])
        # What was picked beyond the size, for a larger one, is dropped here: it was never a centre.
        centre = np.concatenate([part.centre for part in parts])[order]
        value = self._distances(work.pool, np.concatenate([part.sq_distance for part in parts])[order])
        gaps = np.concatenate([np.full(len(given), np.inf), stored.sq_distances])[:size]
        return StepResult.of(
            dropped[order],
            self.REASON,
            nearest=centres[centre],
            value=value,
            facts=self._facts(work.pool, size, len(given), value),
            listed=self._listed(work.pool, centres[:size], gaps),
        )

    def _given(self, work: Work) -> NDArray[np.int64]:
        """Ids of the items that are always kept, ascending."""
        if self.always is None:
            return np.empty(0, np.int64)
        return np.intersect1d(items_with(work.pool, self.always), work.ids_left)

    def _stored_picks(self, work: Work, given: NDArray[np.int64]) -> StoredPicks:
        what: dict[str, Any] = {"mode": self.mode, "key": work.key, "given": given.tolist(), "version": self.version}
        if self.mode == "levels":
            what["epsilon"] = self._share_nearer
        return StoredPicks.of(work.folder, what)

    def _rule(self, key: int) -> Rule:
        return (
            FarthestPoint()
            if self.mode == "exact"
            else FarthestLevel(key=derive(key, "levels"), epsilon=self._share_nearer)
        )

    def _pick(
        self, work: Work, space: FeatureMap, size: int, given: NDArray[np.int64], stored: StoredPicks
    ) -> GreedyResult:
        """Go on from the stored picks until there are enough, and store the new ones."""
        known = np.concatenate([given, stored.ids])[:size]
        if len(known):
            work.fleet.each(exclude, known)
        before, last = len(known), time.monotonic()

        def keep(found: GreedyResult) -> None:
            nonlocal last
            if (new := before + len(found.ids) - len(given) - len(stored.ids)) > 0:
                stored.append(np.array(found.ids[-new:], np.int64), np.array(found.sq_distances[-new:]))
            last = time.monotonic()

        def after(found: GreedyResult) -> None:
            work.report("pick", before + len(found.ids), size)
            if time.monotonic() - last > SECONDS_BETWEEN:
                keep(found)

        rule, factors, key = self._rule(work.key), self._factors(work, space, known), derive(work.key, "first")
        found = lazy_greedy(
            work.fleet, rule, space, size - before, centres=factors, opening="lowest", key=key, after=after
        )  # fmt: skip
        keep(found)
        return found

    def _factors(self, work: Work, space: FeatureMap, ids: NDArray[np.int64]) -> Arrays:
        """Factors of items, in the order of their ids as given."""
        rows = np.empty((len(ids), work.pool.dim), np.float32)
        order = np.argsort(ids)
        for here, vectors in work.fleet.each(vectors_of, ids) if len(ids) else ():
            rows[order[np.searchsorted(ids[order], here)]] = vectors
        return factors_of(space, rows)

    def _distances(self, pool: Pool, sq_distances: NDArray[np.float64]) -> NDArray[np.float64]:
        distances: NDArray[np.float64] = np.sqrt(sq_distances)
        return distances / pool.scale if pool.metric == "l2" else distances

    def _listed(self, pool: Pool, ids: NDArray[np.int64], gaps: NDArray[np.float64]) -> pa.Table:
        """Rank and distance of each kept item, in the order of ids."""
        order = np.argsort(ids)
        distance = self._distances(pool, gaps[order])
        there = np.packbits(np.isfinite(distance), bitorder="little")  # `pa.array` with a mask imports pandas
        return pa.table(
            {
                "id": array_of(ids[order], pa.int64()),
                "rank": array_of(order + 1, pa.int64()),
                "distance": pa.Array.from_buffers(
                    pa.float64(), len(ids), [pa.py_buffer(there), pa.py_buffer(distance)]
                ),
            }
        )

    def _facts(self, pool: Pool, size: int, given: int, value: NDArray[np.float64]) -> Mapping[str, Any]:
        radius = float(value.max(initial=0.0))
        factor = 2.0 if self.mode == "exact" else 2 / (1 - self._share_nearer)
        what = "distance of vectors of length 1" if pool.metric == "cosine" else "distance"
        word = "at most" if self.mode == "exact" else "less than"
        # Without them others may do better by any factor: they may all lie in one place.
        among = f", the {given:,} with a value in {self.always!r} among them" if given else ""
        note = (
            f"each dropped item is within {radius:.4g} of a kept one ({what}); that is {word} {factor:.3g} times the "
            f"smallest radius that {size:,} kept item{'s' * (size != 1)} can have{among}"
        )
        facts = {
            "mode": self.mode,
            "kept": size,
            "radius": radius,
            "mean_distance": float(value.mean()) if len(value) else 0.0,
        }
        return facts | {"guarantee": factor, "notes": [note] if len(value) else [], "value": VALUE}


def items_with(pool: Pool, column: str) -> NDArray[np.int64]:
    """Ids of the items that have a value in a column; true, where values are true or false."""
    found = [np.empty(0, np.int64)]
    for table in pool.items(["id", column]):
        values = table[column]
        there = pc.is_valid(values)
        if pa.types.is_boolean(values.type):
            there = pc.fill_null(values, False)
        elif pa.types.is_floating(values.type):
            there = pc.and_(there, pc.invert(pc.fill_null(pc.is_nan(values), True)))
        found.append(table["id"].to_numpy()[there.to_numpy()])
    return np.concatenate(found)
