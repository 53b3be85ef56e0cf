"""Strategies around another one: they say which candidates it may see, and leave the picking to it.

A wrapper saves the candidates of each partition, narrows them, asks the strategy inside for picks, and restores them.
Wrappers may be nested, so what is saved is a stack.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from raysal.config import Inner, Named
from raysal.context import RoundContext
from raysal.errors import ConfigError, UnknownName
from raysal.fleet import Fleet, Partition
from raysal.scoring.base import Predicted
from raysal.scoring.inputs import ScoreInputs, replacement_note, score_to_compute
from raysal.scoring.linear import Linear
from raysal.scoring.quantile import order_statistics, ranks_within
from raysal.scoring.registry import SCORES
from raysal.scoring.row_values import row_values
from raysal.scoring.top_k import BestItems, best_of, best_of_parts
from raysal.strategies.base import Picks, Selector
from raysal.strategies.coverage.badge import Badge

BADGE: Named[Selector] = Named("badge", Badge())
SAVED = "candidates outside"
"""In a partition's state: a stack of `SavedCandidates`, that of the innermost wrapper last."""


class Wrapper(Selector):
    """A strategy around another one, `of`, which may be a wrapper too."""

    of: Inner[Selector]

    @property
    def needs_head(self) -> bool:
        """Always."""
        return True

    def inner_parts(self) -> tuple[Selector, ...]:
        """The strategy `of`."""
        return (self.of.part,)


@dataclass(frozen=True, kw_only=True)
class ClassBalanced(Wrapper):
    """The strategy `of` within each predicted class, with equal quotas: `class_balanced:coreset`.

    A class with fewer candidates than its quota gives the rest of it to the others. What does not divide evenly goes to
    the classes with the fewest labels, ties in the head's order. Picks take turns over the classes in the same order,
    so that every beginning of the batch is balanced too. The strategy inside sees the candidates of one class, and all
    labels.

    Needs a head. One product O(n d C) for the predictions, then `of` once for every class with a quota, over disjoint
    candidates: up to min(C, k) runs of several round trips each, so it is not for thousands of classes. Memory: 5 bytes
    a row. picks(k) is a prefix of picks(k + 1) where that is so for `of`. It balances what the head predicts, not what
    is true: while the head is poor, or never predicts a class, little is gained. Quotas by predicted class as in
    class-balanced active learning (Bengar et al., WACV 2022), without its optimisation.
    """

    of: Inner[Selector] = BADGE

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        """Picks of `of` in every predicted class, in turns."""
        names = () if context.head is None else context.head.classes
        counts = np.sum(fleet.each(predict_classes, context.linear()), axis=0)
        labels = Counter(context.labelled.classes)
        order = sorted(range(len(names)), key=lambda c: (labels[names[c]], c))
        shares = np.zeros(len(names), np.int64)
        shares[order] = quotas(counts[order], k)
        found: dict[int, Picks] = {}
        for c in order:
            if shares[c]:
                fleet.each(keep_class, c)
                found[c] = self.of.part.select(fleet, context, int(shares[c]))
        fleet.each(restore_candidates)
        turns = [(c, turn) for turn in range(int(shares.max())) for c in order if turn < shares[c]]
        return Picks(
            ids=np.array([found[c].ids[turn] for c, turn in turns], np.int64),
            scores=np.array([found[c].scores[turn] for c, turn in turns], np.float64),
            reasons=tuple(f"{found[c].reasons[turn]}; predicted {names[c]}, quota {shares[c]}" for c, turn in turns),
        )


@dataclass(frozen=True, kw_only=True)
class SkipExtremes(Wrapper):
    """The strategy `of` among candidates without the extremes of a `score`: `skip_extremes:badge`.

    Only candidates whose score lies within the pool's quantiles `low` and `high` are offered. The most uncertain items
    of a pool are often its broken, ambiguous or foreign ones. Of n available items, narrowed away or not, the
    floor((1 - high) n) of highest score are left out, and the floor(low n) of lowest. What ties with the last one left
    in stays in. Where fewer than k candidates remain, those nearest to the quantiles are offered as well, ties to the
    lower id, and the reason says so.

    Needs a head. One product O(n d C) over the pool and the exact quantiles in three round trips, then `of`. Memory: 12
    bytes a row, and one while `of` runs. picks(k) is a prefix of picks(k + 1) where that is so for `of`, up to the k
    for which others must be offered. Not for rare classes, which are the extremes of a head that does not know them.
    Inside `class_balanced` it scores the pool once for every class; put `class_balanced` inside instead.
    """

    of: Inner[Selector] = BADGE
    score: str = "margin"
    low: Annotated[float, Field(ge=0, lt=1)] = 0.0
    high: Annotated[float, Field(gt=0, le=1)] = 0.95

    def __post_init__(self) -> None:
        if self.score not in SCORES:
            raise UnknownName("select.score", self.score, sorted(SCORES))
        if not 0 <= self.low < self.high <= 1:
            raise ConfigError("select.low", f"{self.low} to {self.high} is no range", "use 0 <= low < high <= 1")

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        """Picks of `of` between the quantiles."""
        score = score_to_compute(self.score, context.head, context.previous)
        n = sum(fleet.each(score_available, context.score_inputs(fleet, score), score))
        lower, upper = order_statistics(fleet, score, ranks_within(self.low, self.high, n)).tolist()
        left = sum(fleet.each(keep_between, score, lower, upper))
        beyond: set[int] = set()
        if left < k:
            ids, _ = best_of_parts(fleet.each(nearest_outside, score, lower, upper, k - left), k - left)
            fleet.each(add_candidates, ids)
            beyond = set(ids.tolist())
        fleet.each(drop_scores, score)
        picks = self.of.part.select(fleet, context, k)
        fleet.each(restore_candidates)
        where = f"{score} quantiles {self.low:g} to {self.high:g}{replacement_note(self.score, score)}"
        notes = (f"beyond {where}, too few within" if id in beyond else f"within {where}" for id in picks.ids.tolist())
        return Picks(
            ids=picks.ids,
            scores=picks.scores,
            reasons=tuple(f"{reason}; {note}" for reason, note in zip(picks.reasons, notes, strict=True)),
        )


def quotas(counts: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """How many of k items each class gives, as equal as the candidates allow. O(C log k).

    Args:
        counts: candidates of each class [C], at least k together.
        k: items in the batch.

    Returns:
        [C] with sum k. What the highest equal quota leaves goes to the first classes that have more candidates.
    """
    low, high = 0, k
    while low < high:  # the largest level that does not overflow
        level = (low + high + 1) // 2
        low, high = (level, high) if np.minimum(counts, level).sum() <= k else (low, level - 1)
    shares = np.minimum(counts, low)
    shares[np.flatnonzero(counts > low)[: k - int(shares.sum())]] += 1
    return shares


# Functions of a partition.


class SavedCandidates(NamedTuple):
    """The candidates of a partition before a wrapper narrowed them."""

    candidate: NDArray[np.bool_]
    """[n] whether a row is a candidate"""
    predicted: NDArray[np.int32] | None = None
    """[n] positions of predicted classes, -1 where no class was predicted; None where no class was asked for"""


def save_candidates(partition: Partition, predicted: NDArray[np.int32] | None = None) -> None:
    """Put the candidates on the stack, for `restore_candidates`."""
    saved = SavedCandidates(partition.candidate.copy(), predicted)
    partition.state.setdefault(SAVED, []).append(saved)


def restore_candidates(partition: Partition) -> None:
    """Take the candidates that were saved last from the stack."""
    partition.candidate[:] = partition.state[SAVED].pop().candidate


def predicted_class(predicted: Predicted) -> torch.Tensor:
    """The position [n] of the likeliest class, ties to the first."""
    return predicted.probabilities.argmax(0).int()


def predict_classes(partition: Partition, head: Linear) -> NDArray[np.int64]:
    """Predict the class of every candidate, and save them; returns how many candidates each class has, [C]."""
    rows = partition.candidates()
    predicted = np.full(len(partition), -1, np.int32)
    predicted[rows] = row_values(partition, ScoreInputs(head), rows, predicted_class)
    save_candidates(partition, predicted)
    return np.bincount(predicted[rows], minlength=len(head.bias))


def keep_class(partition: Partition, c: int) -> None:
    """Narrow the candidates to those of one predicted class."""
    partition.candidate[:] = partition.state[SAVED][-1].predicted == c


def score_available(partition: Partition, inputs: ScoreInputs, score: str) -> int:
    """Score every available row, narrowed away or not, into `state[score]`; returns how many there are."""
    rows = np.flatnonzero(partition.available)
    partition.state[score] = partition.ids[rows], row_values(partition, inputs, rows, SCORES[score])
    return len(rows)


def keep_between(partition: Partition, score: str, lower: float, upper: float) -> int:
    """Save the candidates, and narrow them to those that score within both bounds; returns how many there are."""
    save_candidates(partition)
    _, values = partition.state[score]
    partition.candidate[partition.available] &= (values >= lower) & (values <= upper)
    return len(partition.candidates())


def nearest_outside(partition: Partition, score: str, lower: float, upper: float, m: int) -> BestItems:
    """The m saved candidates least outside the bounds, judged by minus their distance to them."""
    ids, values = partition.state[score]
    wide = values.astype(np.float64)
    outside = np.maximum(lower - wide, wide - upper)
    mine = (outside > 0) & partition.state[SAVED][-1].candidate[partition.available]
    return best_of(ids[mine], -outside[mine], m)


def add_candidates(partition: Partition, ids: NDArray[np.int64]) -> None:
    """Let these be candidates again."""
    partition.candidate[partition.rows_of(ids)] = True


def remove_candidates(partition: Partition, ids: NDArray[np.int64]) -> None:
    """Let these be candidates no more, until the ones that were saved are restored."""
    partition.candidate[partition.rows_of(ids)] = False


def drop_scores(partition: Partition, score: str) -> None:
    """Forget what `score_available` kept."""
    del partition.state[score]
