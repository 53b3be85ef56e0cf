"""Strategies around another one that move the head between its picks, so that a batch learns from its own beginning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysal.config import Inner
from raysal.context import Reveal, RoundContext
from raysal.errors import ConfigError
from raysal.fleet import Fleet, Partition
from raysal.models.head import Head
from raysal.models.online.update import add_classes_of, update
from raysal.models.targets import Answer
from raysal.rng import derive
from raysal.strategies.base import Picks, Selector
from raysal.strategies.engine.shortlist import gathered
from raysal.strategies.wrappers.candidates import BADGE, OUTER, Split, Wrapper, show_all

PATIENCE = 10
"""Picks without a single answer after which an oracle counts as one that does not answer at once."""


@dataclass(frozen=True, kw_only=True)
class Revealed(Wrapper):
    """The strategy `of`, with the true labels revealed between its picks: `reveal:badge` (update-X; Huseljic et al.,
    arXiv 2210.06112).

    `every` picks of `of`; the run's oracle is asked for their labels; the head takes them in by one closed-form update,
    classes that it did not know included; the picks count as labelled; the next ones are chosen with that head. The
    oracle must answer at once, as a simulated one does: it is label-after-each-pick, and no batch that people could
    label in parallel (that is `fantasy`). What it reveals moves nothing outside of the selection: the labels are
    recorded when the batch is answered, and the next round starts from its own head. An item without an answer moves no
    head, and stands among the labelled with its likeliest class.

    Needs a head with closed-form updates (no ensemble) and an oracle. With `every` >= k it is `of` itself. Cost: `of`
    for k / `every` batches, each with a look into the pool's items by the oracle. picks(k) is a prefix of picks(k + 1)
    where it is so for `of`. Published: BAIT with updates was no better than BAIT below 120 labels, and 0.5 to 1 points
    better above 150 (Snacks).

    Raises (when selecting):
        ConfigError: there is no oracle, it answers for none of the first picks, or the head is an ensemble's.
    """

    of: Inner[Selector] = BADGE
    every: Annotated[int, Field(ge=1)] = 1

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        context.needed_head()
        if context.reveal is None:
            raise ConfigError("select", "nobody here reveals labels between picks", f"use fantasy:{self.of.name}")
        teacher = Revealing(context.reveal, self.of.name, min(k - self.every, PATIENCE))
        return with_updates(fleet, self.of.part, context, k, self.every, teacher)


@dataclass(frozen=True, kw_only=True)
class Fantasised(Wrapper):
    """The strategy `of`, with labels imagined between its picks: `fantasy:badge`.

    As `reveal`, but nobody is asked: after every batch of `every` picks the head is updated with the label it expects.
    `label` = expected: the shares it predicts, so that its mean stays and its covariance shrinks around the picks; that
    moves strategies which look at uncertainty of the weights (scores with a variance or draws, power_bald) or at what
    is labelled (coreset), and no others. likely: its likeliest class, as if it were true (kriging believer), which
    moves the mean as well, and makes the head surer of itself.

    Needs a head with closed-form updates (no ensemble). With `every` >= k it is `of` itself. Cost: `of` for k / `every`
    batches. picks(k) is a prefix of picks(k + 1) where it is so for `of`.

    Raises (when selecting):
        ConfigError: the head is an ensemble's.
    """

    of: Inner[Selector] = BADGE
    every: Annotated[int, Field(ge=1)] = 1
    label: Literal["expected", "likely"] = "expected"

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        return with_updates(fleet, self.of.part, context, k, self.every, Imagining(self.label))


class Teacher(Protocol):
    """Who says what the picks are."""

    kind: str
    """of labels, for the reasons"""

    def teach(self, head: Head, ids: NDArray[np.int64], features: NDArray[np.float32]) -> tuple[Head, list[str]]:
        """The head after the labels of these items [n], and the label each stands for from now on."""
        ...


class Revealing:
    """An oracle. Until it has answered for one item it may be silent about fewer than `patience`; `of` is for the
    error."""

    kind = "revealed"

    def __init__(self, reveal: Reveal, of: str, patience: int) -> None:
        self._reveal, self._of, self._patience = reveal, of, patience
        self._asked = self._answered = 0

    def teach(self, head: Head, ids: NDArray[np.int64], features: NDArray[np.float32]) -> tuple[Head, list[str]]:
        """As `Teacher`.

        Raises:
            ConfigError: the oracle has not answered for any item so far.
        """
        found = self._reveal(ids.tolist())
        self._asked, self._answered = self._asked + len(ids), self._answered + len(found)
        if not self._answered and self._asked >= self._patience:
            problem = f"the oracle does not answer at once (asked for {self._asked} items, the last one {ids[-1]})"
            raise ConfigError("select", problem, f"use fantasy:{self._of}, or an oracle that knows the labels")
        names = [found.get(id, guess) for id, guess in zip(ids.tolist(), likeliest(head, features), strict=True)]
        rows = [row for row, id in enumerate(ids.tolist()) if id in found]
        return taught(head, features[rows], [names[row] for row in rows]), names


class Imagining:
    """The head itself; `kind` is the field `label` of `Fantasised`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def teach(self, head: Head, ids: NDArray[np.int64], features: NDArray[np.float32]) -> tuple[Head, list[str]]:
        del ids
        names = likeliest(head, features)
        moved = taught(head, features, names)
        # An expected label has no residual, and which class of the last fit a label names does not matter to evidence.
        return moved if self.kind == "likely" else replace(moved, mean=head.mean), names


def with_updates(fleet: Fleet, inner: Selector, context: RoundContext, k: int, every: int, teacher: Teacher) -> Picks:
    """k picks, `every` at a time, the head taught in between. Leaves the candidates as they were.

    Raises:
        ConfigError: there is no head, or it has no closed-form update.
    """
    head = context.needed_head()
    if not head.posterior.closed_form:
        raise ConfigError(
            "select", "an ensemble's head cannot be updated between picks", "use the strategy inside alone"
        )
    named = len(context.labelled.classes) == len(context.labelled.vectors)
    batches: list[Picks] = []
    done = 0
    fleet.each(remember_candidates)
    while True:
        step = replace(context, key=derive(context.key, done)) if done else context
        picks = inner.select(fleet, step, min(every, k - done))
        note = f"after {done} {teacher.kind} labels" if done else f"before any {teacher.kind} label"
        batches.append(replace(picks, reasons=tuple(f"{reason}; {note}" for reason in picks.reasons)))
        done += len(picks.ids)
        if done == k:
            break
        features = features_of(fleet, picks.ids)
        head, names = teacher.teach(head, picks.ids, features)
        fleet.each(take_out, picks.ids)
        labelled = context.labelled.and_then(picks.ids, features, names if named else ())
        context = replace(context, head=head, labelled=labelled)
    fleet.each(show_all)
    return Picks(
        ids=np.concatenate([picks.ids for picks in batches]),
        scores=np.concatenate([picks.scores for picks in batches]),
        reasons=tuple(reason for picks in batches for reason in picks.reasons),
    )


def taught(head: Head, features: NDArray[Any], answers: Sequence[Answer]) -> Head:
    """The head after these labels, of classes that it may not know yet."""
    return update(add_classes_of(head, answers), features, answers, ledger_seq=head.ledger_seq)


def likeliest(head: Head, features: NDArray[Any]) -> list[str]:
    """The label that a head holds most probable for each row [n, d], as text; ties go to the first class."""
    return head.likelihood.texts(head.probabilities(features), head.classes)


def features_of(fleet: Fleet, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """What the head takes of these items [n, d], in their order. One round trip."""
    found, features = gathered(fleet, np.sort(ids))
    return features[np.searchsorted(found, ids)]


# Functions of a partition.


def remember_candidates(partition: Partition) -> None:
    """Keep the candidates for `show_all`."""
    partition.state.setdefault(OUTER, []).append(Split(partition.candidate.copy()))


def take_out(partition: Partition, ids: NDArray[np.int64]) -> None:
    """Let these be candidates no more."""
    partition.candidate[partition.rows_of(ids)] = False
