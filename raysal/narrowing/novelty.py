"""Narrowing to the most novel items: those that are least like the rest of the pool, whatever the labels say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from raysal.config import Count
from raysal.context import RoundContext
from raysal.fleet import Fleet
from raysal.narrowing.base import Candidates, OneSweep
from raysal.rng import derive
from raysal.scoring.novelty.base import most_novel
from raysal.scoring.novelty.field import NEAREST, NoveltyField
from raysal.scoring.sweep import Sweep, SweepRequest
from raysal.scoring.top_k import best_of_parts


@dataclass(frozen=True, kw_only=True)
class Novelty(OneSweep):
    """The `size` most novel available items, `by` one of `raysal.scoring.novelty`: `novelty:isolation_forest`.

    Neither labels nor a head change it, so it works in the first round, too. What is usual is learnt anew in each round
    from what is available. For the search of what is rare: a diverse strategy among them takes each kind of it once.
    Not where the rare items lie among the others.

    Cost: what the novelty costs, in passes of its own beside the sweep; four or five round trips.
    """

    SIZE_FIELD: ClassVar[str] = "size"
    by: NoveltyField = NEAREST
    size: Count = 10_000

    def request(self, context: RoundContext) -> SweepRequest:
        """Nothing but the sample that every sweep has."""
        del context
        return SweepRequest()

    def looks_at_head(self) -> bool:
        """Never."""
        return False

    def candidates(self, fleet: Fleet, context: RoundContext, found: Sweep) -> Candidates:
        """The most novel items, in order of their novelty."""
        fitted = self.by.part.fit(fleet, derive(context.key, "novelty"))
        parts = fleet.each(most_novel, fitted, self.size, context.ties)
        ids = best_of_parts(parts, self.size, ties=context.ties)[0]
        return Candidates(ids=ids, rule=f"{len(ids)} most novel of {found.rows} by {fitted.words}")
