"""The ways by which a search finds: each lists candidates, best first, as deep as one asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from raysal.fleet import Fleet, Partition
from raysal.rng import item_uniform
from raysal.scoring.given_probabilities import AnyInputs
from raysal.scoring.novelty.base import FittedNovelty, most_novel
from raysal.scoring.of_target import log_odds
from raysal.scoring.row_values import refuse_broken, row_values
from raysal.scoring.similarity import similarities
from raysal.scoring.top_k import BestItems, best_of, best_of_parts
from raysal.strategies.engine.shortlist import gathered
from raysal.strategies.search.seen import Seen, diverse_order

Vectors = NDArray[np.float32]
ROWS_AT_ONCE = 2**16
"""Rows whose similarities to all examples are held at once."""
NOVEL_AMONG = 20_000
"""Candidates among which the novel ones of a batch are looked for, where there are other ways to find: a batch has one
or two of them, and each round draws others. To look at all of a million took most of a round
(`benchmarks/search_round.py`)."""
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


class Odds:
    """The candidates by their log odds of the target: the highest, and those nearest to 0. One product for both."""

    def __init__(self, fleet: Fleet, inputs: AnyInputs, ties: int, first: int) -> None:
        """Nothing is computed before somebody asks; then at least so many of both are listed."""
        self._fleet, self._inputs, self._ties, self._first = fleet, inputs, ties, first
        self._depth, self._lists = 0, ((np.empty(0, np.int64), np.empty(0, np.float32)),) * 2

    def likeliest(self, m: int) -> BestItems:
        """The m candidates of highest log odds."""
        return self._best(0, m)

    def uncertain(self, m: int) -> BestItems:
        """The m candidates whose log odds are nearest to 0; the values are minus their size."""
        return self._best(1, m)

    def _best(self, place: int, m: int) -> BestItems:
        if m > self._depth:
            self._depth = depth = max(m, self._first)
            parts = self._fleet.each(likeliest_and_uncertain, self._inputs, depth, self._ties)
            merged = [best_of_parts(each, depth, ties=self._ties) for each in zip(*parts, strict=True)]
            self._lists = merged[0], merged[1]
        ids, values = self._lists[place]
        return ids[:m], values[:m]


def by_examples(fleet: Fleet, examples: Vectors, ties: int) -> Ask:
    """The candidates nearest to any of some examples [a, d]."""
    return lambda m: best_of_parts(fleet.each(nearest_candidates, examples, m, ties), m, ties=ties)


def by_novelty(fleet: Fleet, fitted: FittedNovelty, ties: int, sample: int | None = None) -> Ask:
    """The most novel candidates; with the key of a sample, those of about `NOVEL_AMONG` candidates drawn uniformly."""
    if sample is None:
        return lambda m: best_of_parts(fleet.each(most_novel, fitted, m, ties), m, ties=ties)
    share = NOVEL_AMONG / max(sum(fleet.each(count_candidates)), 1)
    return lambda m: best_of_parts(fleet.each(most_novel_of_some, fitted, m, ties, sample, share), m, ties=ties)


# Functions of a partition.


def likeliest_and_uncertain(partition: Partition, inputs: AnyInputs, m: int, ties: int) -> tuple[BestItems, BestItems]:
    """The m candidates here of highest log odds, and the m whose log odds are nearest to 0."""
    rows = partition.candidates()
    ids, odds = partition.ids[rows], row_values(partition, inputs, rows, log_odds)
    return best_of(ids, odds, m, ties=ties), best_of(ids, -np.abs(odds), m, ties=ties)


def count_candidates(partition: Partition) -> int:
    """How many candidates are here."""
    return len(partition.candidates())


def most_novel_of_some(
    partition: Partition, fitted: FittedNovelty, m: int, ties: int, sample: int, share: float
) -> BestItems:
    """The most novel of a uniform sample of the candidates here, which is the same for any partitions."""
    rows = partition.candidates()
    rows = rows[item_uniform(sample, partition.ids[rows]) < share]
    return best_of(partition.ids[rows], fitted.scores(partition, rows), m, ties=ties)


def nearest_candidates(partition: Partition, examples: Vectors, m: int, ties: int) -> BestItems:
    """The m candidates nearest to any of the examples here, by similarity."""
    rows = partition.candidates()
    values = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        some = rows[start : start + ROWS_AT_ONCE]
        values[start : start + len(some)] = similarities(partition, some, examples).amax(1).cpu().numpy()
    refuse_broken(partition.ids[rows], np.isfinite(values))
    return best_of(partition.ids[rows], values, m, ties=ties)
