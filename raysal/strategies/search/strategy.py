"""The strategy `search`: the rest of a few examples."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from pydantic import Field

from raysal.context import RoundContext
from raysal.errors import ConfigError
from raysal.fleet import Fleet, Partition
from raysal.narrowing.duplicates import duplicate_similarity
from raysal.rng import derive
from raysal.scoring.inputs import NAME_TARGET
from raysal.scoring.novelty.field import NEAREST, NoveltyField
from raysal.scoring.top_k import best_of_parts
from raysal.strategies.base import Picks, Selector
from raysal.strategies.coverage.badge import sample_others
from raysal.strategies.search.seen import Seen
from raysal.strategies.search.shares import streak_of, turns, weights_of, without
from raysal.strategies.search.ways import Odds, Say, Vectors, Way, by_examples, by_novelty
from raysal.types import Metric

LIKELIEST, UNCERTAIN, NOVEL, REST = "likeliest", "uncertain", "novel", "rest"
FEWEST = 32
"""Candidates that a way lists at least."""
WIDEST = 2
"""Batches among whose items the most diverse are taken, at most, while every likely item is a find. Of sandals at 1 %
of Fashion-MNIST, 3 found 0.945 of what the log odds alone did, and 1 found 0.98; F1 on other items was 0.74, 0.67, and
0.48 by the log odds alone."""
WIDEST_ITEMS = 512
"""The same in items, beyond which diversity costs more than it finds."""
MOST_KNOWN = 256
"""Finds that the likely items should differ from."""
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True)
class Search(Selector):
    """The rest of a few examples: the likeliest items, some uncertain ones, some novel ones, no duplicates.

    Goes by the classes that are looked for (`target`). A batch is shared out among three ways of finding, in turns:

    - `likeliest`: highest log odds of the target (`log_odds`). While labels cannot tell the target from the rest (one
      example, and no background), the nearest to the examples, or to what a query is like (`like`).
    - `uncertain`: log odds nearest to 0.
    - `novel`: highest novelty `by` one of `raysal.scoring.novelty`, among 20,000 candidates that are drawn anew for
      each batch; among all where nothing else leads.

    Shares follow what was found: a way weighs its share · ((found + 1) / (expected + 1))² over the last three rounds.
    What is expected is what it would have found as often as all ways together.
    After a round in which all answers to the likeliest are finds, the most diverse of twice as many are taken.

    A candidate that is a near-duplicate of a labelled item, or of a pick, uses up no place: a copy, or with
    `duplicates` what is at least so similar (a cosine; in a pool of distances, at most so far). Where nothing else is
    left, near-duplicates come after all, and then a uniform sample; the reason says so.

    Works from no label: with a query from what is like it, else by novelty alone, and then by the answers. Cost: a
    product O(n d C) in one round trip; the novelty's own cost of 20,000 items, where it has a turn, and O(n a d) for a
    examples while there is no head; few hundred vectors in the driver. picks(k) is a prefix of picks(k + 1). The
    score is what the way goes by: log odds, similarity, the probability, novelty. It finds what a head on these vectors
    can tell; a class that has several kinds, of which no example shows one, needs `novel`.
    """

    by: NoveltyField = NEAREST
    likeliest: Share = 0.89
    uncertain: Share = 0.08
    novel: Share = 0.03
    duplicates: Annotated[float, Field(ge=0)] | None = None

    def __post_init__(self) -> None:
        if not self.likeliest + self.uncertain + self.novel > 0:
            raise ConfigError("select.likeliest", "no way of finding has a share", "give one above 0")

    @property
    def needs_head(self) -> bool:
        """Never."""
        return False

    @property
    def needs_target(self) -> bool:
        """Always."""
        return True

    @property
    def uses_like(self) -> bool:
        """Always, while nothing is found."""
        return True

    @property
    def takes_probabilities(self) -> bool:
        """Always, where a class that is looked for is among them."""
        return True

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        """A batch of k, in turns of the three ways."""
        if not context.target:
            raise ConfigError("target", "names no class, and the strategy goes by the classes looked for", NAME_TARGET)
        ways, shares = self.ways(fleet, context), self.shares()
        own = {name: shares[name] for name in ways if shares[name] > 0} or dict.fromkeys(ways, 1.0)
        weights = weights_of(own, context.yields)
        metric = fleet.each(metric_of)[0]
        threshold = 1.0 if metric == "cosine" else -0.0
        if self.duplicates is not None:
            threshold = duplicate_similarity(self.duplicates, metric, "select.duplicates", context.scale)
        seen = Seen(context.labelled.vectors, threshold, metric)
        batch = Batch(fleet=fleet, key=derive(context.key, "rest"))
        made: dict[str, Way] = {}
        order = turns(weights)
        while weights and len(batch) < k:
            name = next(order)
            if name not in made:
                made[name] = ways[name]()
            found = made[name].take(batch.picked, seen)
            if found is None:
                weights = without(name, weights)
                order = turns(weights)
                continue
            id, value, vector = found
            seen.add(vector)
            batch.add(name, id, *made[name].say(value))
        for name, way in made.items():
            for id, value in way.passed:
                if len(batch) < k and id not in batch.picked:
                    score, reason = way.say(value)
                    batch.add(name, id, score, f"{reason}; a near-duplicate, as nothing else is left")
        return batch.picks(k)

    def shares(self) -> dict[str, float]:
        """The shares at the start, by way."""
        return {LIKELIEST: self.likeliest, UNCERTAIN: self.uncertain, NOVEL: self.novel}

    def ways(self, fleet: Fleet, context: RoundContext) -> dict[str, Callable[[], Way]]:
        """The ways that labels allow, each made when its first turn comes.

        Args:
            fleet: the pool's partitions.
            context: what the round knows.

        Returns:
            What makes each way, by name.
        """
        ties, first = context.ties, max(FEWEST, 2 * context.k)
        examples, among = examples_of(context), derive(context.key, "novel")

        def novel(sample: int | None = None) -> Way:
            fitted = self.by.part.fit(fleet, derive(context.key, "novelty"))
            ask = by_novelty(fleet, fitted, ties, sample)
            return Way(fleet=fleet, ask=ask, say=lambda v: (v, f"novel: {v:.3g}, {fitted.words}"), first=first)

        if can_tell(context, len(examples)):
            inputs = context.score_inputs(fleet, "log_odds")
            streak = streak_of(LIKELIEST, context.yields, WIDEST - 1)
            band = min((1 + streak) * context.k, max(context.k, WIDEST_ITEMS))
            what = "likeliest" if band == context.k else f"likeliest, the most diverse of {band}"
            diverse = None if band == context.k else (band, examples[:MOST_KNOWN])

            odds = Odds(fleet, inputs, ties, max(first, band))

            def likeliest() -> Way:
                return Way(fleet=fleet, ask=odds.likeliest, say=likely(what), first=max(first, band), diverse=diverse)

            def uncertain() -> Way:
                return Way(fleet=fleet, ask=odds.uncertain, say=unsure, first=first)

            return {LIKELIEST: likeliest, UNCERTAIN: uncertain, NOVEL: lambda: novel(among)}
        if context.like is not None:
            like = context.like if context.head is None else context.head.see(context.like)
            examples = np.concatenate([examples, like.astype(np.float32)]) if len(examples) else like.astype(np.float32)
        if not len(examples):
            return {NOVEL: novel}

        def nearest() -> Way:
            ask, say = by_examples(fleet, examples, ties), near(len(examples), fleet.each(metric_of)[0], context.scale)
            return Way(fleet=fleet, ask=ask, say=say, first=first)

        return {LIKELIEST: nearest, NOVEL: lambda: novel(among)}


@dataclass(kw_only=True)
class Batch:
    """Picks so far."""

    fleet: Fleet
    key: int
    picked: set[int] = field(default_factory=set)
    _ids: list[int] = field(default_factory=list)
    _scores: list[float] = field(default_factory=list)
    _reasons: list[str] = field(default_factory=list)
    _shares: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, share: str, id: int, score: float, reason: str) -> None:
        """Take one more."""
        self.picked.add(id)
        self._ids.append(id)
        self._scores.append(score)
        self._reasons.append(reason)
        self._shares.append(share)

    def picks(self, k: int) -> Picks:
        """The batch, made up to k by a uniform sample of other candidates."""
        if (rest := k - len(self)) > 0:
            taken = np.array(sorted(self.picked), np.int64)
            ids, values = best_of_parts(self.fleet.each(sample_others, self.key, taken, rest), rest, ties=self.key)
            for id, value in zip(ids.tolist(), values.tolist(), strict=True):
                self.add(REST, id, value, "uniform draw, as nothing else is left")
        return Picks(
            ids=np.array(self._ids, np.int64),
            scores=np.array(self._scores, np.float64),
            reasons=tuple(self._reasons),
            shares=tuple(self._shares),
        )


def examples_of(context: RoundContext) -> Vectors:
    """The vectors [a, d] of the labelled items that are looked for."""
    known = context.labelled
    target = set(context.target)
    rows = [row for row, text in enumerate(known.classes) if target & set(known.likelihood.names_in(text))]
    return known.vectors[np.array(rows, np.int64)]


def can_tell(context: RoundContext, examples: int) -> bool:
    """Whether what is known can tell what is looked for from the rest."""
    if context.head is None:
        return context.given is not None and bool(set(context.given.classes) & set(context.target))
    if not context.labelled.classes:  # a head, and nobody knows of what labels
        return True
    return examples > 0 and (examples < len(context.labelled) or context.background > 0)


def likely(what: str) -> Say:
    """What is said of log odds."""

    def say(value: float) -> tuple[float, str]:
        probability = 1 / (1 + math.exp(-value)) if value > -500 else 0.0
        return value, f"{what}: probability {probability:.3g}"

    return say


def unsure(value: float) -> tuple[float, str]:
    """What is said of the size of log odds, which comes with a minus."""
    return value, f"uncertain: log odds ±{-value:.3g}"


def near(examples: int, metric: Metric, scale: float) -> Say:
    """What is said of a similarity to the nearest of some examples."""
    of = "the example" if examples == 1 else f"one of {examples} examples"

    def say(value: float) -> tuple[float, str]:
        if metric == "cosine":
            return value, f"likeliest: near {of}, cosine {value:.3g}"
        return value / scale**2, f"likeliest: near {of}, distance {math.sqrt(max(-value, 0.0)) / scale:.3g}"

    return say


# Functions of a partition.


def metric_of(partition: Partition) -> Metric:
    """The pool's metric."""
    return partition.metric
