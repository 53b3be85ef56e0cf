"""REFINE: candidates are what several strategies would have picked, filtered again and again.

Huseljic et al., "Cleaning the Pool: Progressive Filtering of Unlabeled Pools in Deep Active Learning", arXiv
2511.22344, 2025. No strategy is best on every data set and in every round, and nobody knows in advance which one will
be. What each of several would pick is a better pool for any of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, ValidationInfo

from raysal.config import Count, Named, Origin, choice
from raysal.context import RoundContext
from raysal.errors import ConfigError
from raysal.fleet import Fleet, keep
from raysal.narrowing.base import Candidates, Narrower
from raysal.narrowing.round_sweep import round_sweep
from raysal.rng import derive
from raysal.scoring.sweep import Sweep, SweepRequest, sample_available
from raysal.scoring.top_k import lowest_hashes
from raysal.strategies import SELECTORS
from raysal.strategies.base import Selector, select
from raysal.strategies.coverage.badge import Badge
from raysal.strategies.coverage.herding import MaxHerding, UHerding
from raysal.strategies.coverage.typiclust import TypiClust
from raysal.strategies.simple import Random, TopScore
from raysal.strategies.uncertainty.perturbation import AlfaMix, DropQuery

MEMBERS: tuple[Named[Selector], ...] = (
    Named("random", Random()),
    Named("top_score", TopScore()),
    Named("badge", Badge()),
    Named("typiclust", TypiClust()),
    Named("alfa_mix", AlfaMix()),
    Named("drop_query", DropQuery()),
    Named("max_herding", MaxHerding(max_represented=2_000)),
    Named("u_herding", UHerding(max_represented=2_000)),
)
"""The published ones, but for BAIT."""


def build_members(given: Any, info: ValidationInfo) -> Any:
    """The `members` of a config, each of them built.

    Args:
        given: names, or mappings with `name`.
        info: where they stand in the config.

    Returns:
        A tuple of `Named`; what is no list is returned as it is, and refused by the type of the field.

    Raises:
        UnknownName, ConfigError: one of them, or a field of it, does not exist.
    """
    if not isinstance(given, list | tuple):
        return given
    places = [f"{Origin.of_field(info).place}.{number}" for number in range(len(given))]
    return tuple(choice(one, place).build_named(place, SELECTORS) for one, place in zip(given, places, strict=True))


@dataclass(frozen=True, kw_only=True)
class Refine(Narrower):
    """What several strategies pick from random subsets of the pool, `rounds` times over.

    In each round every one of the `members` picks `batches` times. Each time it sees a uniform subset of its own, taken
    from what the round before has left: `subset` items of all that are available in the first round, a share `alpha`
    later. A round leaves what any of them picked; of more than `size` items, a uniform sample. The members pick as many
    items as the batch to come, or `picks` where that is not 0, and subsets are never smaller than that. The run's
    strategy then picks for coverage: `u_herding`, as published, or `max_herding`. Published with 5 rounds and 11
    batches; in the tables of the paper 3 and 3 do as well, and alpha matters little.

    `members` are strategies, by name or with fields. Those that need a head are left out while there is none, and the
    rule says how many; where none is left, the whole pool is kept. `bait` is not among the defaults, since it looks at
    the whole pool each time (0.9 s at 60,000 rows, and in proportion to them). Nor is any other strategy that picks
    among its candidates but judges by all rows (`skip_extremes`). Give them where that is cheap.

    Cost: rounds * members * batches selections, each from a few thousand items; and as many uniform samples of the pool
    in the first round, O(n) each. The defaults took 13 s on 60,000 x 256 for a batch of 100, on one core, most of it in
    the two herdings. Memory in the driver: O(members * batches * k + size) ids, and what the members hold. Candidates
    depend on k unless `picks` is given, so without it no strategy has the prefix property.
    """

    rounds: Count = 3
    batches: Count = 3
    alpha: Annotated[float, Field(gt=0, le=1)] = 0.4
    subset: Count = 5_000
    size: Count = 10_000
    picks: Annotated[int, Field(ge=0)] = 0
    members: Annotated[tuple[Named[Selector], ...], BeforeValidator(build_members)] = MEMBERS

    def __post_init__(self) -> None:
        if not self.members:
            raise ConfigError("narrow.members", "there are none", f'for example ["{MEMBERS[0].name}"]')

    def strategies(self) -> tuple[Selector, ...]:
        """The members."""
        return tuple(member.part for member in self.members)

    def narrow(self, fleet: Fleet, context: RoundContext) -> tuple[Sweep, Candidates]:
        """A sweep that finds nothing but a sample; and what the members left in the last round, ascending."""
        found = round_sweep(fleet, context, SweepRequest())
        members = self.strategies()
        able = {place: one for place, one in enumerate(members) if context.head is not None or not one.needs_head}
        lacking = len(members) - len(able)
        who = f"{len(able)} of {len(members)} members ({lacking} need a head)" if lacking else f"{len(members)} members"
        k = min(self.picks or context.k, found.rows)
        if not able or k == 0:
            return found, Candidates(ids=None, rule=f"all {found.rows} (refine: {who})")
        ids, sizes = None, [found.rows]
        for round in range(self.rounds):
            ids = self.picked_in_round(fleet, context, able, k, round, ids)
            sizes.append(len(ids))
        steps = " -> ".join(f"{size:,}" for size in sizes)
        return found, Candidates(ids=ids, rule=f"refine: {who} x {self.batches} batches, {steps}")

    def picked_in_round(
        self,
        fleet: Fleet,
        context: RoundContext,
        able: Mapping[int, Selector],
        k: int,
        round: int,
        ids: NDArray[np.int64] | None,
    ) -> NDArray[np.int64]:
        """What the members pick, k at a time, from subsets of `ids`, or of all that is available: ids, ascending."""
        picked = []
        for place, member in able.items():
            for batch in range(self.batches):
                key = derive(context.key, "refine", round, place, batch)
                fleet.each(keep, self.subset_of(fleet, derive(key, "subset"), k, ids))
                asked = replace(context, key=derive(key, "select"), reveal=None)
                picked.append(select(fleet, member, asked, k).ids)
        return sample_ids(np.unique(np.concatenate(picked)), derive(context.key, "refine", round), max(self.size, k))

    def subset_of(self, fleet: Fleet, key: int, k: int, ids: NDArray[np.int64] | None) -> NDArray[np.int64]:
        """A uniform subset to pick k from: of `ids`, or of all that is available."""
        if ids is not None:
            return sample_ids(ids, key, max(math.ceil(Fraction(str(self.alpha)) * len(ids)), k))
        return sample_available(fleet, key, max(self.subset, k))


def sample_ids(ids: NDArray[np.int64], key: int, size: int) -> NDArray[np.int64]:
    """A uniform sample of `size` ids: those of lowest hash, ascending."""
    return np.sort(lowest_hashes(ids, key, size)[0])
