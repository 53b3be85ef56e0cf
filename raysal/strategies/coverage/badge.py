"""D^2 sampling over the whole pool: BADGE on gradients, k-means++ on vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysal.context import RoundContext
from raysal.fleet import Fleet, Partition
from raysal.rng import derive
from raysal.scoring.top_k import BestItems, best_of_parts, lowest_hashes
from raysal.strategies.base import Picks, Selector
from raysal.strategies.coverage.coreset import distance_reasons
from raysal.strategies.engine.feature_maps import Gradients, UnitVectors, Vectors, factors_of
from raysal.strategies.engine.lazy_greedy import GreedyResult, lazy_greedy
from raysal.strategies.engine.priorities import D2Race


@dataclass(frozen=True, kw_only=True)
class Badge(Selector):
    """k-means++ seeding over gradient embeddings: items whose gradients are large and unlike one another.

    BADGE; Ash et al., ICLR 2020. The gradient of an item is r (x) h with r = e_argmax - p, or [p >= 1/2] - p with
    several labels at once. The first pick has the largest gradient. Each later one is sampled with probability
    proportional to its squared distance to the nearest pick. Where no gradient is left to tell items apart, the picks
    are a uniform sample.

    Exact over the whole pool, by the lazy engine; the gradient, C * d numbers, is never formed. Needs a head. Ignores
    which items are labelled. O(k n (C + d)) at worst, one sweep and a few percent of that in practice; memory 25 bytes
    an item. picks(k) is a prefix of picks(k + 1). Of little use before the head knows most classes.
    """

    @property
    def needs_head(self) -> bool:
        """Always."""
        return True

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        """The largest gradient, then D^2 sampling by the lazy engine."""
        gradients = Gradients(head=context.linear(several=True))
        nothing = factors_of(gradients, context.labelled.vectors[:0])
        found = lazy_greedy(
            fleet, D2Race(key=context.key), gradients, k, centres=nothing, opening="largest", key=context.key
        ).divided_by(context.scale)
        reasons = [f"gradient {gap**0.5:.3g} from the nearest pick" for gap in found.sq_distances]
        if reasons:
            reasons[0] = f"largest gradient {found.sq_distances[0] ** 0.5:.3g}"
        return filled_uniformly(fleet, found, reasons, "no gradient left, uniform", context.key, k)


@dataclass(frozen=True, kw_only=True)
class KMeansPlusPlus(Selector):
    """k-means++ seeding over the vectors, with the labelled items as centres that are already there.

    Arthur & Vassilvitskii, SODA 2007. Each pick is sampled with probability proportional to its squared distance to
    the nearest labelled item or pick: between CoreSet, which takes the farthest and so outliers, and a uniform sample.
    Without labelled items the first pick is uniform. `unit` compares directions only.

    Exact over the whole pool, by the lazy engine. Needs no head. O((labelled + k) n d) at worst; memory 25 bytes an
    item. picks(k) is a prefix of picks(k + 1). It knows nothing of what is hard for the head.
    """

    unit: bool = False

    @property
    def needs_head(self) -> bool:
        """Never."""
        return False

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        """D^2 sampling from the labelled items on, by the lazy engine."""
        space = UnitVectors() if self.unit else Vectors()
        centres = factors_of(space, context.labelled.vectors)
        # Not the race's own hash: the lowest of all would say something about the budgets of the others.
        first = derive(context.key, "first")
        found = lazy_greedy(fleet, D2Race(key=context.key), space, k, centres=centres, opening="lowest", key=first)
        found = found if self.unit else found.divided_by(context.scale)
        return filled_uniformly(
            fleet, found, distance_reasons(found), "nothing left uncovered, uniform", context.key, k
        )


def filled_uniformly(
    fleet: Fleet, found: GreedyResult, reasons: list[str], reason_of_rest: str, key: int, k: int
) -> Picks:
    """A batch of k: what the engine found, then a uniform sample where every row left coincides with a pick."""
    ids, scores = np.array(found.ids, np.int64), np.array(found.sq_distances)
    if (missing := k - len(ids)) > 0:
        rest = derive(key, "rest")
        more, _ = best_of_parts(fleet.each(sample_others, rest, ids, missing), missing, ties=rest)
        ids, scores = np.concatenate([ids, more]), np.concatenate([scores, np.zeros(missing)])
        reasons = reasons + [reason_of_rest] * missing
    return Picks(ids=ids, scores=scores, reasons=tuple(reasons))


def sample_others(partition: Partition, key: int, taken: NDArray[np.int64], m: int) -> BestItems:
    """A uniform sample of m candidates that are not taken; the score is 1 - hash."""
    left = partition.available & partition.candidate
    left[partition.rows_of(taken)] = False
    return lowest_hashes(partition.ids, key, m, left)
