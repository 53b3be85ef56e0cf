"""REFINE: candidates are what several strategies would have picked, filtered again and again.

Huseljic et al., "Cleaning the Pool: Progressive Filtering of Unlabeled Pools in Deep Active Learning", arXiv
2511.22344, 2025. No strategy is best on every data set and in every round, and nobody knows in advance which one will
be. What each of several would pick is a better pool for any of them.

A subset is the whole pool to the member that picks from it, and what is left in the end is the whole pool to the run's
strategy. What they cover (`max_herding`, `u_herding`), and what they judge items by (the Fisher matrix of `bait`, the
targets of `epig`, the quantiles of `skip_extremes`), is within. So a member gets a fleet of its own: one partition in
the driver, with the few thousand rows of its subset. Its round trips, one for a pick of `bait`, then cost nothing, and
a cluster's call log does not hold what it sends in them (55 pairs of d x d matrices by default).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, ValidationInfo

from raysal.config import Count, Named, Origin, choice
from raysal.context import RoundContext
from raysal.errors import ConfigError
from raysal.fleet import Fleet, LocalFleet, Partition, exclude, use_features, vectors_below
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
from raysal.strategies.information.bait import Bait
from raysal.strategies.simple import Random, TopScore
from raysal.strategies.uncertainty.perturbation import AlfaMix, DropQuery

MEMBERS: tuple[Named[Selector], ...] = (
    Named("random", Random()),
    Named("top_score", TopScore()),
    Named("badge", Badge()),
    Named("bait", Bait()),
    Named("typiclust", TypiClust()),
    Named("alfa_mix", AlfaMix()),
    Named("drop_query", DropQuery()),
    Named("max_herding", MaxHerding()),
    Named("u_herding", UHerding()),
)
"""The published ones, in their order."""


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
    strategy then picks for coverage: `u_herding`, as published, or `max_herding`. A subset is the pool to the member
    that picks from it, and what is left is the pool to the run's strategy: neither covers, or judges by, other items.

    `members` are strategies, by name or with fields. Those that need a head are left out while there is none, and the
    rule says how many; where none is left, the whole pool is kept. All defaults are the published ones: 5 rounds, 11
    batches, and members for classes of which an item has one (the authors' code divides 100 batches among 9 members).

    Cost: rounds * members * batches selections, each from a few thousand items, in the driver; and as many uniform
    samples of the pool in the first round, O(n) each. The defaults took 102 s of a core on 60,000 x 256 for a batch of
    100 with 300 labels: 64 in the two herdings, 21 in BAIT. A batch of 1,000 takes about 19 minutes. `rounds = 3,
    batches = 3` takes a sixth. In the paper (area under the curve over random, CIFAR-10 and Snacks) 3 rounds gain 3.7
    and 7.2 % where 5 gain 3.7 and 7.8; 5 batches 3.7 and 7.8 where 11 gain 3.8 and 7.2; and alpha matters little.
    Memory in the driver: O(members * batches * k) ids, max(`subset`, `size`) vectors, and what a member holds.
    Candidates depend on k unless `picks` is given, so without it no strategy has the prefix property.
    """

    rounds: Count = 5
    batches: Count = 11
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
        labels = {} if context.held_out_labels is None else dict(context.held_out_labels())
        beside = Rows.of(fleet, np.array(sorted(labels), np.int64))
        context = replace(context, held_out_labels=None if context.held_out_labels is None else lambda: labels)
        ids, sizes = None, [found.rows]
        for round in range(self.rounds):
            ids = self.picked_in_round(fleet, context, able, k, round, ids, beside)
            sizes.append(len(ids))
        steps = " -> ".join(f"{size:,}" for size in sizes)
        return found, Candidates(ids=ids, rule=f"refine: {who} x {self.batches} batches, {steps}", as_pool=True)

    def picked_in_round(
        self,
        fleet: Fleet,
        context: RoundContext,
        able: Mapping[int, Selector],
        k: int,
        round: int,
        ids: NDArray[np.int64] | None,
        beside: Rows,
    ) -> NDArray[np.int64]:
        """What the members pick in one round.

        Args:
            fleet: the pool's partitions.
            context: what the round knows.
            able: the members, by their places.
            k: how many items each picks at a time.
            round: its number.
            ids: what the round before has left; None for all that is available.
            beside: held-out items that a member may learn from, and never picks.

        Returns:
            What this round leaves, ascending.
        """
        picked, left = [], None if ids is None else Rows.of(fleet, ids)
        for place, member in able.items():
            for batch in range(self.batches):
                key = derive(context.key, "refine", round, place, batch)
                subset = np.sort(self.subset_of(fleet, derive(key, "subset"), k, ids))
                rows = Rows.of(fleet, subset) if left is None else left.among(subset)
                alone = LocalFleet.of(Partition.of_items(*rows.joined(beside), context.pool.metric))
                alone.each(use_features, None if context.head is None else context.head.hidden_layer)
                alone.each(exclude, beside.ids)
                asked = replace(context, key=derive(key, "select"), available=len(subset), reveal=None)
                picked.append(select(alone, member, asked, k).ids)
        return sample_ids(np.unique(np.concatenate(picked)), derive(context.key, "refine", round), max(self.size, k))

    def subset_of(self, fleet: Fleet, key: int, k: int, ids: NDArray[np.int64] | None) -> NDArray[np.int64]:
        """A uniform subset to pick k from: of `ids`, or of all that is available."""
        if ids is not None:
            return sample_ids(ids, key, max(math.floor(Fraction(str(self.alpha)) * len(ids)), k))
        return sample_available(fleet, key, max(self.subset, k))


class Rows(NamedTuple):
    """Items in the driver, with their vectors, those below a hidden layer."""

    ids: NDArray[np.int64]
    """[n], ascending"""
    vectors: NDArray[np.float16]
    """[n, d]"""

    @classmethod
    def of(cls, fleet: Fleet, ids: NDArray[np.int64]) -> Rows:
        """Those of some items of a fleet, in one round trip."""
        found, vectors = (np.concatenate(part) for part in zip(*fleet.each(vectors_below, ids), strict=True))
        return cls(found, vectors.astype(np.float16))  # exact: what is read are float16 numbers

    def among(self, ids: NDArray[np.int64]) -> Rows:
        """Those of some of these items, ascending ids."""
        return Rows(ids, self.vectors[np.searchsorted(self.ids, ids)])

    def joined(self, others: Rows) -> Rows:
        """These and others, in the order of their ids."""
        ids = np.concatenate([self.ids, others.ids])
        order = np.argsort(ids)
        return Rows(ids[order], np.concatenate([self.vectors, others.vectors])[order])


def sample_ids(ids: NDArray[np.int64], key: int, size: int) -> NDArray[np.int64]:
    """A uniform sample of `size` ids: those of lowest hash, ascending."""
    return np.sort(lowest_hashes(ids, key, size)[0])
