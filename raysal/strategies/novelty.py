"""The most novel items: those that are least like the rest of the pool, whatever the labels say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raysal.context import RoundContext
from raysal.fleet import Fleet
from raysal.rng import derive
from raysal.scoring.novelty.base import most_novel
from raysal.scoring.novelty.field import NEAREST, NoveltyField
from raysal.scoring.top_k import best_of_parts
from raysal.strategies.base import Picks, Selector


@dataclass(frozen=True, kw_only=True)
class Novelty(Selector):
    """The candidates of highest novelty `by` one of `raysal.scoring.novelty`: `novelty:isolation_forest`.

    Needs nothing: neither labels nor a head change a novelty, and it looks below a hidden layer. What is usual is
    learnt anew in each round from what is still available, so a sample of another round gives slightly other scores.
    It also picks the first batch, as outliers are what it is asked for. Near-copies of one another are all as novel,
    and are picked together: for a batch beyond a handful take `search`, or `badge` under the narrower `novelty`.

    Cost: what the novelty costs, over what is available to learn and over the candidates to score; three or four round
    trips. picks(k) is a prefix of picks(k + 1). The score is the novelty, in [0, 1]; about 1/2 is an ordinary item.
    """

    by: NoveltyField = NEAREST

    @property
    def needs_head(self) -> bool:
        """Never."""
        return False

    @property
    def looks_at_head(self) -> bool:
        """Never."""
        return False

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        """The k most novel candidates."""
        fitted = self.by.part.fit(fleet, derive(context.key, "novelty"))
        ids, scores = best_of_parts(fleet.each(most_novel, fitted, k, context.ties), k, ties=context.ties)
        reasons = tuple(f"novelty {score:.3g}: {fitted.words}" for score in scores.tolist())
        return Picks(ids=ids, scores=scores.astype(np.float64), reasons=reasons)
