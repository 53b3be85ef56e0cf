"""BatchBALD: the batch whose labels, taken together, would say most of the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysal.context import RoundContext
from raysal.fleet import Fleet, Partition
from raysal.rng import derive, item_uniform
from raysal.scoring.top_k import BestItems, best_of, best_of_parts
from raysal.strategies.base import Picks, Selector
from raysal.strategies.engine.shortlist import gathered
from raysal.strategies.information.mutual_information import Information, OfClasses, OfNumbers, greedy
from raysal.strategies.information.posterior_samples import (
    OutputVariance,
    PosteriorSamples,
    information,
    uncertainty_of,
)


@dataclass(frozen=True, kw_only=True)
class BatchBald(Selector):
    """Greedy joint mutual information between a batch's labels and the weights (Kirsch, van Amersfoort & Gal, NeurIPS
    2019), over `draws` of the head from its posterior, the same draws for every item.

    Classes that the batch may turn out to have are enumerated while there are at most `configurations` of them, and
    sampled from their joint distribution beyond, a class more for each pick (see joint.py). When fewer than `fewest`
    draws are left likely by the classes, the picks are taken into the posterior, in closed form and without their
    classes, and new draws are made of it; 0 is as published: a batch then ends at log(draws) nats. The score of a pick
    is what it adds, in nats. Once nothing is left to add, items follow in the order of their own information (BALD),
    then a uniform draw of those without any; the reason says so. With several labels at once each is a question of its
    own, and information adds up. For a head that predicts numbers it is exact, log det(I + K / noise) / 2, and needs no
    draws. An ensemble's draws are its members, and never new.

    Needs a head with a posterior. One pass for BALD of every item, O(n draws C d); then the `limit` best by BALD are
    compared in the driver: O(48 C draws configurations) for each look at 48 of them, of which there are few a pick.
    Memory in the driver 4 limit d + 16 draws configurations (with several labels, for each) + 8 draws C d bytes and
    64 MB. picks(k) is a prefix of picks(k + 1).
    """

    draws: Annotated[int, Field(ge=2)] = 128
    configurations: Annotated[int, Field(ge=1)] = 2_000
    fewest: Annotated[int, Field(ge=0)] = 16
    limit: Annotated[int, Field(ge=1, le=200_000)] = 2_000

    @property
    def needs_head(self) -> bool:
        return True

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        count, spare = max(self.limit, k), derive(context.key, "spare")
        uncertainty = uncertainty_of(context, self.draws)
        parts = fleet.each(most_informative, uncertainty, spare, count)
        (told, _), (none, _) = (best_of_parts(list(ranked), count) for ranked in zip(*parts, strict=True))
        shortlist = np.sort(told[: self.limit])
        picks, gains = np.empty(0, np.int64), np.empty(0)
        if len(shortlist):
            _, vectors = gathered(fleet, shortlist)
            joint: Information
            if isinstance(uncertainty, OutputVariance):
                joint = OfNumbers(vectors, *uncertainty)
            else:
                key = derive(context.key, "configurations")
                joint = OfClasses(vectors, context.needed_head(), uncertainty, self.configurations, self.fewest, key)
            rows, found = greedy(joint, len(shortlist), k)
            picks, gains = shortlist[rows], np.array(found)
        rest = told[~np.isin(told, picks)][: k - len(picks)]
        last = none[: k - len(picks) - len(rest)]
        candidates = "" if len(told) <= self.limit else f" (of the {self.limit:,} best by BALD)"
        return Picks(
            ids=np.concatenate([picks, rest, last]),
            scores=np.concatenate([gains, np.zeros(len(rest) + len(last))]),
            reasons=(
                *(f"adds {gain:.3g} nats{candidates}" for gain in gains),
                *("adds nothing to the batch, first by its own information",) * len(rest),
                *("no information, uniform",) * len(last),
            ),
        )


def most_informative(
    partition: Partition, uncertainty: PosteriorSamples | OutputVariance, key: int, count: int
) -> tuple[BestItems, BestItems]:
    """The candidates here of most information on the weights, and those of none by their hash: `count` of each."""
    rows = partition.candidates()
    return split(partition.ids[rows], information(partition, uncertainty, rows), key, count)


def split(ids: NDArray[np.int64], scores: NDArray[np.float64], key: int, count: int) -> tuple[BestItems, BestItems]:
    """The `count` best of scores [n] above zero, and the `count` of lowest hash among the others."""
    some = scores > 0
    return best_of(ids[some], scores[some], count), best_of(ids[~some], 1 - item_uniform(key, ids[~some]), count)
