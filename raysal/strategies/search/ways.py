"""The ways by which a search finds: each lists candidates, best first, as deep as one asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.fleet import Fleet, Partition
from raysal.scoring.base import Predicted
from raysal.scoring.given_probabilities import AnyInputs
from raysal.scoring.novelty.base import FittedNovelty, most_novel
from raysal.scoring.of_target import log_odds
from raysal.scoring.row_values import refuse_broken, row_values
from raysal.scoring.similarity import similarities
from raysal.scoring.top_k import BestItems, best_of, best_of_parts
from raysal.strategies.engine.shortlist import gathered
from raysal.strategies.search.seen import Seen, diverse_order
from raysal.strategies.simple import highest_score

Vectors = NDArray[np.float32]
ROWS_AT_ONCE = 2**16
"""Rows whose similarities to all examples are held at once."""
DEEPEST = 4096
"""Candidates that a way lists at most, or twice the batch: beyond so many duplicates it gives up."""

Ask = Callable[[int], BestItems]
"""The m best candidates of a way: ids and values, best first."""
Say = Callable[[float], tuple[float, str]]
"""From the value of a candidate to the score and the reason of a pick."""


@dataclass(kw_only=True)
class Way:
    """Candidates in the order of a way, without near-duplicates of what is known or picked."""

    fleet: Fleet
    ask: Ask
    say: Say
    first: int
    """how many are listed at first"""
    diverse: tuple[int, Vectors] | None = None
    """of so many candidates the most diverse come first, beside these known vectors [n, d]"""
    passed: list[tuple[int, float]] = field(default_factory=list)
    """near-duplicates that were passed over, with their values"""
    _order: list[int] = field(default_factory=list)
    _values: dict[int, float] = field(default_factory=dict)
    _vectors: dict[int, Vectors] = field(default_factory=dict)
    _next: int = 0
    _depth: int = 0

    def take(self, picked: set[int], seen: Seen) -> tuple[int, float, Vectors] | None:
        """The next candidate that is not picked and no near-duplicate.

        Args:
            picked: ids that are picked.
            seen: their vectors, and those of labelled items.

        Returns:
            Its id, value and vector; None where the list has come to its end.
        """
        while True:
            if self._next == len(self._order) and not self._deepen(seen):
                return None
            id = self._order[self._next]
            self._next += 1
            if id in picked:
                continue
            if seen.has_near(self._vectors[id][None])[0]:
                self.passed.append((id, self._values[id]))
                continue
            return id, self._values[id], self._vectors[id]

    def _deepen(self, seen: Seen) -> bool:
        """List twice as many; whether there were more."""
        limit = max(DEEPEST, 2 * self.first)
        if self._depth >= limit:
            return False
        self._depth = min(max(self.first, 2 * self._depth), limit)
        ids, values = self.ask(self._depth)
        new = [place for place, id in enumerate(ids.tolist()) if id not in self._values]
        if not new:
            self._depth = limit
            return False
        found = ids[new]
        for id, value in zip(found.tolist(), values[new].tolist(), strict=True):
            self._values[id] = value
        some, vectors = gathered(self.fleet, np.sort(found))
        self._vectors |= dict(zip(some.tolist(), vectors, strict=True))
        listed = found.tolist()
        if self.diverse is not None and not self._order:
            band, known = self.diverse
            at = np.stack([self._vectors[id] for id in listed[:band]])
            kept = [row for row, near in enumerate(seen.has_near(at)) if not near] or [0]
            order = diverse_order(at[kept], known, seen.metric)
            ahead = [listed[kept[row]] for row in order]
            listed = ahead + [id for id in listed if id not in set(ahead)]
        self._order += listed
        return True


def by_odds(fleet: Fleet, inputs: AnyInputs, ties: int) -> Ask:
    """The candidates of highest log odds of the target."""
    return lambda m: best_of_parts(fleet.each(highest_score, inputs, "log_odds", m, ties), m, ties=ties)


def by_doubt(fleet: Fleet, inputs: AnyInputs, ties: int) -> Ask:
    """The candidates whose log odds are nearest to 0."""
    return lambda m: best_of_parts(fleet.each(nearest_to_even, inputs, m, ties), m, ties=ties)


def by_examples(fleet: Fleet, examples: Vectors, ties: int) -> Ask:
    """The candidates nearest to any of some examples [a, d]."""
    return lambda m: best_of_parts(fleet.each(nearest_candidates, examples, m, ties), m, ties=ties)


def by_novelty(fleet: Fleet, fitted: FittedNovelty, ties: int) -> Ask:
    """The most novel candidates."""
    return lambda m: best_of_parts(fleet.each(most_novel, fitted, m, ties), m, ties=ties)


# Functions of a partition.


def doubt(predicted: Predicted) -> torch.Tensor:
    """How unsure it is whether an item is looked for: minus the size of the log odds, [n]."""
    return -log_odds(predicted).abs()


def nearest_to_even(partition: Partition, inputs: AnyInputs, m: int, ties: int) -> BestItems:
    """The m candidates here whose log odds are nearest to 0."""
    rows = partition.candidates()
    return best_of(partition.ids[rows], row_values(partition, inputs, rows, doubt), m, ties=ties)


def nearest_candidates(partition: Partition, examples: Vectors, m: int, ties: int) -> BestItems:
    """The m candidates nearest to any of the examples here, by similarity."""
    rows = partition.candidates()
    values = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        some = rows[start : start + ROWS_AT_ONCE]
        values[start : start + len(some)] = similarities(partition, some, examples).amax(1).cpu().numpy()
    refuse_broken(partition.ids[rows], np.isfinite(values))
    return best_of(partition.ids[rows], values, m, ties=ties)
