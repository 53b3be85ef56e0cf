"""The one way to a batch: narrow, then select."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from raysal.context import RoundContext
from raysal.fleet import Fleet
from raysal.models.head import Head
from raysal.narrowing.base import Candidates, Narrower, narrow
from raysal.rounds.budgets import Budget, select_within
from raysal.rounds.given_probabilities import place
from raysal.rounds.stages import NARROW, SELECT, Clock
from raysal.scoring.sweep import Sweep
from raysal.strategies.base import Picks, Selector


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A batch and how it came about."""

    found: Sweep
    candidates: Candidates
    picks: Picks

    def summary(self, head: Head | None) -> dict[str, Any]:
        """What a round's record says of the sweep: how many items were available, and what the head predicts."""
        counts = self.found.class_counts  # none where neighbours come from an index: such a round has no pass
        predicted = {} if head is None or not len(counts) else dict(zip(head.classes, counts.tolist(), strict=True))
        return {"available": self.found.rows, "predicted": predicted}


def choose(
    fleet: Fleet,
    context: RoundContext,
    narrower: Narrower,
    selector: Selector,
    clock: Clock | None = None,
    budget: Budget | None = None,
) -> Chosen:
    """A batch of `context.k` items, or of as many as a budget pays for, which are then no more than that.

    Deterministic in (pool, what is available, context): the same for any partitions of the pool. Each stage draws
    from randomness of its own.

    Args:
        fleet: the pool's partitions, in a program from which what must not be offered was taken out.
        context: what the round knows; its key is that of the round.
        narrower: from all that is available to candidates.
        selector: from candidates to picks.
        clock: where the seconds of each stage are counted.
        budget: what the batch may cost.

    Returns:
        The sweep, the candidates, and the picks in pick order.

    Raises:
        ConfigError: the narrower or the strategy cannot work with this head, or without one; or given probabilities
            lack an item.
        PoolExhausted: fewer than `context.k` items are left.
        PoolError: the index asked for does not exist, or a vector is not finite; it names the item.
    """
    clock = Clock() if clock is None else clock
    place(fleet, context)
    with clock.stage(NARROW):
        found, candidates = narrow(fleet, narrower, context.for_stage("narrow"))
    with clock.stage(SELECT):
        picks = select_within(fleet, selector, context.for_stage("select"), budget)
    return Chosen(found=found, candidates=candidates, picks=picks)
