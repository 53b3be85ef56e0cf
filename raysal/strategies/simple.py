"""Strategies that pick every item without regard to the rest of the batch: at random, or by a score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from raysal.context import RoundContext
from raysal.errors import UnknownName
from raysal.fleet import Fleet, Partition
from raysal.scoring.given_probabilities import AnyInputs, takes_probabilities
from raysal.scoring.inputs import DEFAULT_DRAWS, is_of_target, replacement_note, score_to_compute
from raysal.scoring.registry import SCORES
from raysal.scoring.row_values import row_values
from raysal.scoring.top_k import BestItems, best_of, best_of_parts
from raysal.strategies.base import Picks, Selector, sample_candidates


@dataclass(frozen=True, kw_only=True)
class Random(Selector):
    """Uniform without replacement: the items of lowest hash. The control every strategy is compared with.

    Needs nothing. O(n), one round trip. picks(k) is a prefix of picks(k + 1). The score is 1 - hash.
    """

    @property
    def needs_head(self) -> bool:
        """Never."""
        return False

    @property
    def looks_at_head(self) -> bool:
        """Never."""
        return False

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        """The k candidates of lowest hash."""
        ids, scores = best_of_parts(fleet.each(sample_candidates, context.key, k), k, ties=context.key)
        return Picks(ids=ids, scores=scores.astype(np.float64), reasons=("uniform draw",) * k)


@dataclass(frozen=True, kw_only=True)
class TopScore(Selector):
    """The items of highest uncertainty `score` (Lewis & Gale, SIGIR 1994).

    Needs a head; for a score of the best guess alone, probabilities given at the start will do. One round trip; one
    product O(n d C), and as many columns more as the score needs: D for a variance, C
    for each of `draws` samples of the posterior. picks(k) is a prefix of picks(k + 1). Neighbours of one another are
    picked together, so prefer a diverse strategy for batches beyond a handful.
    """

    score: str = "margin"
    draws: Annotated[int, Field(ge=2)] = DEFAULT_DRAWS

    def __post_init__(self) -> None:
        if self.score not in SCORES:
            raise UnknownName("select.score", self.score, sorted(SCORES))

    @property
    def needs_head(self) -> bool:
        """Always."""
        return True

    @property
    def needs_target(self) -> bool:
        """With a score of the classes that are looked for."""
        return is_of_target(self.score)

    @property
    def takes_probabilities(self) -> bool:
        """With a score of the best guess alone."""
        return takes_probabilities(self.score)

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        """The k candidates of highest score."""
        name = score_to_compute(self.score, context.head, context.previous)
        inputs, ties = context.score_inputs(fleet, name, self.draws), context.ties
        ids, scores = best_of_parts(fleet.each(highest_score, inputs, name, k, ties), k, ties=ties)
        note = replacement_note(self.score, name)
        return Picks(
            ids=ids,
            scores=scores.astype(np.float64),
            reasons=tuple(f"{name} {score:.3g}{note}" for score in scores.astype(np.float64)),
        )


def highest_score(partition: Partition, inputs: AnyInputs, score: str, k: int, ties: int) -> BestItems:
    """The candidates of highest score here.

    Args:
        partition: where they live.
        inputs: what the score needs of the head, or that probabilities are given.
        score: a name of `SCORES`.
        k: how many; all where there are fewer.
        ties: key of the hash that orders items of equal score.

    Returns:
        Ids and scores, best first.

    Raises:
        PoolError: a score is not a number, as a vector is not finite or too large for the head; it names the item.
    """
    rows = partition.candidates()
    return best_of(partition.ids[rows], row_values(partition, inputs, rows, SCORES[score]), k, ties=ties)
