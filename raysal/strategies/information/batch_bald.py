"""BatchBALD: the batch whose labels, taken together, would say most of the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from raysal.context import RoundContext
from raysal.fleet import Fleet, Partition
from raysal.rng import derive
from raysal.strategies.base import Picks, Selector
from raysal.strategies.engine.shortlist import QuadraticCount, gathered_by_hash
from raysal.strategies.information.mutual_information import (
    AnswerInformation,
    BatchInformation,
    NumberInformation,
    greedy_batch,
)
from raysal.strategies.information.positive_first import PositiveFirst, merge_positive_first, positive_first
from raysal.strategies.information.posterior_samples import OutputVariance, Uncertainty, bald_nats, uncertainty_of


@dataclass(frozen=True, kw_only=True)
class BatchBald(Selector):
    """Greedy joint mutual information between a batch's labels and the weights (Kirsch et al., NeurIPS 2019).

    Kirsch, van Amersfoort & Gal. The information is over `draws` samples of the head's posterior, the same samples for
    every item. Classes that the batch may turn out to have are enumerated while there are at most `configurations` of
    them, and sampled from their joint distribution beyond, a class more for each pick (see mutual_information.py). When
    fewer than `fewest` samples are left likely by the classes, the picks are taken into the posterior, in closed form
    and without their classes, and new samples are taken from it; 0 is as published: a batch then ends at log(draws)
    nats. The score of a pick is what it adds, in nats. Once nothing is left to add, items follow in the order of their
    own information (BALD), then a uniform sample of those without any; the reason says so. With several labels at once
    each is a question of its own, and information adds up. For a head that predicts numbers it is exact, log det(I + K
    / noise) / 2, and needs no samples. An ensemble's samples are its members, and never new.

    Needs a head with a posterior. One pass for BALD of every item, O(n draws C d); then the `max_candidates` best by
    BALD are compared in the driver: O(48 C draws configurations) for each look at 48 of them, of which there are few a
    pick. Memory in the driver 4 max_candidates d + 16 draws configurations (with several labels, for each) + 8 draws C
    d bytes and 64 MB. picks(k) is a prefix of picks(k + 1).
    """

    FORMER: ClassVar[dict[str, str]] = {"limit": "max_candidates"}
    draws: Annotated[int, Field(ge=2)] = 128
    configurations: Annotated[int, Field(ge=1)] = 2_000
    fewest: Annotated[int, Field(ge=0)] = 16
    max_candidates: QuadraticCount = 2_000

    @property
    def needs_head(self) -> bool:
        """Always."""
        return True

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        """The greedy batch of the best by BALD; then those that add nothing, by BALD; then those without any."""
        count, key = max(self.max_candidates, k), derive(context.key, "spare")
        uncertainty = uncertainty_of(context, self.draws)
        parts = fleet.each(most_informative, uncertainty, key, count)
        (by_bald, _), (without, _) = merge_positive_first(parts, key, count)
        compared = by_bald[: self.max_candidates]
        picks, gains = np.empty(0, np.int64), np.empty(0)
        if len(compared):
            compared, vectors = gathered_by_hash(fleet, compared, context.ties)
            information: BatchInformation
            if isinstance(uncertainty, OutputVariance):
                information = NumberInformation(vectors, *uncertainty)
            else:
                information = AnswerInformation(
                    vectors,
                    context.needed_head(),
                    uncertainty,
                    configurations=self.configurations,
                    fewest=self.fewest,
                    key=derive(context.key, "configurations"),
                )
            rows, found = greedy_batch(information, len(compared), k)
            picks, gains = compared[rows], np.array(found)
        rest = by_bald[~np.isin(by_bald, picks)][: k - len(picks)]
        last = without[: k - len(picks) - len(rest)]
        origin = "" if len(by_bald) <= self.max_candidates else f" (of the {self.max_candidates:,} best by BALD)"
        return Picks(
            ids=np.concatenate([picks, rest, last]),
            scores=np.concatenate([gains, np.zeros(len(rest) + len(last))]),
            reasons=(
                *(f"adds {gain:.3g} nats{origin}" for gain in gains),
                *("adds nothing to the batch, first by its own information",) * len(rest),
                *("no information, uniform",) * len(last),
            ),
        )


def most_informative(partition: Partition, uncertainty: Uncertainty, key: int, count: int) -> PositiveFirst:
    """The candidates here of most information on the weights, and those of none by their hash: `count` of each."""
    rows = partition.candidates()
    return positive_first(partition.ids[rows], bald_nats(partition, uncertainty, rows), key, count)
