"""Strategies around another one: they say which candidates it may see, and leave the picking to it.

A wrapper saves the candidates of each partition, narrows them, asks the strategy inside for picks, and restores them.
Wrappers may be nested, so what is saved is a stack.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from raysal.config import Inner, Named
from raysal.context import RoundContext
from raysal.errors import ConfigError, UnknownName
from raysal.fleet import Fleet, Partition
from raysal.rng import derive
from raysal.scoring.base import Predicted
from raysal.scoring.given_probabilities import AnyInputs, takes_probabilities
from raysal.scoring.inputs import replacement_note, score_to_compute
from raysal.scoring.quantile import order_statistics, ranks_within
from raysal.scoring.registry import SCORES
from raysal.scoring.row_values import row_values
from raysal.scoring.top_k import BestItems, best_of, best_of_parts
from raysal.strategies.base import Picks, Selector
from raysal.strategies.coverage.badge import Badge, sample_others

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
    """The strategy `of` within one predicted class after the other, the rarest first: `class_balanced:coreset`.

    PCB; Bang et al., "Active Prompt Learning in Vision Language Models", CVPR 2024. Each pick goes to the class with
    the fewest labels and picks so far: labels by their true class, picks by the class that is predicted of them. So an
    imbalance of the labels is made up for, whatever its size. Classes with as many go by a hash. Within a class come
    the picks of `of`, which sees the candidates of that class and all labels. Published is a uniform draw within the
    class, from the tenth of the pool that another rule likes best: `class_balanced:random` behind a narrower.

    Once the rarest class has no candidate left, published (the authors' code) is a uniform draw for all the rest of the
    batch: `exhausted = "uniform"`. With the default, `"next"`, the rarest class that has candidates goes on.

    Needs a head, or probabilities given at the start (`probabilities`); then `of` has to work without a head, too. One
    product O(n d C) for the predictions, then `of` once for every class with a pick, over disjoint candidates: up to
    min(C, k) runs of several round trips each, so it is not for thousands of classes. Memory: 5 bytes a row. picks(k)
    is a prefix of picks(k + 1) where that is so for `of`. It balances what is predicted, not what is true: while the
    head is poor, or never predicts a class, little is gained.
    """

    of: Inner[Selector] = BADGE
    exhausted: Literal["next", "uniform"] = "next"

    @property
    def takes_probabilities(self) -> bool:
        """Where the strategy inside needs no head, or takes them, too."""
        return works_from_probabilities(self.of.part)

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        """Picks of `of` in predicted classes, in turns."""
        names, inputs = context.class_inputs()
        counts = np.sum(fleet.each(predict_classes, inputs, len(names)), axis=0)
        labels = Counter(context.labelled.classes)
        before = [labels[name] for name in names]
        order = [derive(context.key, "class", name) for name in names]
        turns = class_turns(before, counts.tolist(), order, k, pass_on=self.exhausted == "next")
        shares = Counter(turns)
        found: dict[int, Iterator[tuple[int, float, str]]] = {}
        for c in shares:
            fleet.each(keep_class, c)
            picks = self.of.part.select(fleet, context, shares[c])
            found[c] = zip(picks.ids.tolist(), picks.scores.tolist(), picks.reasons, strict=True)
        fleet.each(restore_candidates)
        ids, scores, reasons = np.empty(k, np.int64), np.zeros(k), []
        for place, c in enumerate(turns):
            ids[place], scores[place], reason = next(found[c])
            reasons.append(f"{reason}; predicted {names[c]}, of which there were {before[c]}")
            before[c] += 1
        if (rest := k - len(turns)) > 0:
            key = derive(context.key, "exhausted")
            others = fleet.each(sample_others, key, ids[: len(turns)], rest)
            ids[len(turns) :] = best_of_parts(others, rest, ties=key)[0]
            reasons += ["the rarest class has no candidate left, uniform"] * rest
        return Picks(ids=ids, scores=scores, reasons=tuple(reasons))


@dataclass(frozen=True, kw_only=True)
class SkipExtremes(Wrapper):
    """The strategy `of` among candidates without the extremes of a `score`: `skip_extremes:badge`.

    Only candidates whose score lies within the pool's quantiles `low` and `high` are offered. The most uncertain items
    of a pool are often its broken, ambiguous or foreign ones. Of n available items, narrowed away or not, the
    floor((1 - high) n) of highest score are left out, and the floor(low n) of lowest. What ties with the last one left
    in stays in. Where fewer than k candidates remain, those nearest to the quantiles are offered as well, and the
    reason says so.

    Needs a head, or probabilities given at the start. One product O(n d C) over the pool and the exact quantiles in
    three round trips, then `of`. Memory: 12 bytes a row, and one while `of` runs. picks(k) is a prefix of picks(k + 1)
    where that is so for `of`, up to the k for which others must be offered. Not for rare classes, which are the
    extremes of a head that does not know them.
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

    @property
    def takes_probabilities(self) -> bool:
        """Where the score and the strategy inside do, or the latter needs no head."""
        return takes_probabilities(self.score) and works_from_probabilities(self.of.part)

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        """Picks of `of` between the quantiles."""
        score = score_to_compute(self.score, context.head, context.previous)
        n = sum(fleet.each(score_available, context.score_inputs(fleet, score), score))
        lower, upper = order_statistics(fleet, score, ranks_within(self.low, self.high, n)).tolist()
        left = sum(fleet.each(keep_between, score, lower, upper))
        beyond: set[int] = set()
        if left < k:
            ties = context.ties
            found = fleet.each(nearest_outside, score, lower, upper, k - left, ties)
            ids, _ = best_of_parts(found, k - left, ties=ties)
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


def class_turns(
    labels: Sequence[int], candidates: Sequence[int], order: Sequence[int], k: int, *, pass_on: bool
) -> list[int]:
    """Whose turn it is, up to k times: each time that of the class with the fewest labels and turns. O((C + k) log C).

    Args:
        labels: of each class [C].
        candidates: of each class [C]; it has no more turns than these.
        order: [C] which of equally rare classes comes first: that with the lower number.
        k: how many turns.
        pass_on: whether the next rarest class has its turn where the rarest has no candidate left; else this ends.

    Returns:
        Numbers of classes, at most k.
    """
    waiting = [(labels[c], order[c], c) for c in range(len(labels)) if candidates[c] or not pass_on]
    heapq.heapify(waiting)
    left = list(candidates)
    turns: list[int] = []
    while len(turns) < k and waiting:
        count, tie, c = waiting[0]
        if not left[c]:
            break
        turns.append(c)
        left[c] -= 1
        if left[c] or not pass_on:
            heapq.heapreplace(waiting, (count + 1, tie, c))
        else:
            heapq.heappop(waiting)
    return turns


def works_from_probabilities(selector: Selector) -> bool:
    """Whether a strategy can pick where there is no head, and probabilities are given."""
    return selector.takes_probabilities or not selector.needs_head


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


def predict_classes(partition: Partition, inputs: AnyInputs, classes: int) -> NDArray[np.int64]:
    """Predict the class of every candidate, and save them; returns how many candidates each class has, [C]."""
    rows = partition.candidates()
    predicted = np.full(len(partition), -1, np.int32)
    predicted[rows] = row_values(partition, inputs, rows, predicted_class, of_parts=False)
    save_candidates(partition, predicted)
    return np.bincount(predicted[rows], minlength=classes)


def keep_class(partition: Partition, c: int) -> None:
    """Narrow the candidates to those of one predicted class."""
    partition.candidate[:] = partition.state[SAVED][-1].predicted == c


def score_available(partition: Partition, inputs: AnyInputs, score: str) -> int:
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


def nearest_outside(partition: Partition, score: str, lower: float, upper: float, m: int, ties: int) -> BestItems:
    """The m saved candidates least outside the bounds, judged by minus their distance to them."""
    ids, values = partition.state[score]
    wide = values.astype(np.float64)
    outside = np.maximum(lower - wide, wide - upper)
    mine = (outside > 0) & partition.state[SAVED][-1].candidate[partition.available]
    return best_of(ids[mine], -outside[mine], m, ties=ties)


def add_candidates(partition: Partition, ids: NDArray[np.int64]) -> None:
    """Let these be candidates again."""
    partition.candidate[partition.rows_of(ids)] = True


def remove_candidates(partition: Partition, ids: NDArray[np.int64]) -> None:
    """Let these be candidates no more, until the ones that were saved are restored."""
    partition.candidate[partition.rows_of(ids)] = False


def drop_scores(partition: Partition, score: str) -> None:
    """Forget what `score_available` kept."""
    del partition.state[score]
