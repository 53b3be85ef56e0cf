"""Strategies around another one that update the head between its picks: a batch learns from its own beginning."""

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
from raysal.fleet import Fleet
from raysal.models.head import Head
from raysal.models.online.classes import add_classes_of
from raysal.models.online.update import update
from raysal.models.targets import Answer
from raysal.rng import derive
from raysal.strategies.base import Picks, Selector
from raysal.strategies.engine.shortlist import gathered
from raysal.strategies.wrappers.candidates import (
    BADGE,
    Wrapper,
    remove_candidates,
    restore_candidates,
    save_candidates,
)

SILENT_PICKS = 10
"""Picks without a single answer, after which an oracle counts as one that does not answer at once."""


@dataclass(frozen=True, kw_only=True)
class Revealed(Wrapper):
    """The strategy `of`, with the true labels revealed between its picks: `reveal:badge`.

    This is update-X of Huseljic et al., arXiv 2210.06112. The strategy picks `every` items; the run's oracle is asked
    for their labels; one closed-form update of the head takes them in, classes that it did not know included. The picks
    then count as labelled, and the next ones are chosen with that head. The oracle must answer at once, as a simulated
    one does. So this is labelling after each pick, and no batch that people could label in parallel (that is
    `fantasy`). What is revealed changes nothing outside of the selection: labels are recorded when the batch is
    answered, and the next round starts from its own head. An item without an answer does not update the head, and
    stands among the labelled with its likeliest class.

    Needs a head with closed-form updates (no ensemble) and an oracle. With `every` >= k it is `of` itself. Cost: `of`
    for k / `every` batches, for each of which the oracle looks up items of the pool. picks(k) is a prefix of
    picks(k + 1) where that is so for `of`. Published: BAIT with updates was no better than BAIT below 120 labels, and
    0.5 to 1 points better above 150 (Snacks).

    Raises (when selecting):
        ConfigError: there is no oracle, it answers for none of the first picks, or the head is an ensemble's.
    """

    of: Inner[Selector] = BADGE
    every: Annotated[int, Field(ge=1)] = 1

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        """Picks of `of`, `every` at a time, with what the oracle says in between."""
        context.needed_head()
        if context.reveal is None:
            raise ConfigError("select", "nobody here reveals labels between picks", f"use fantasy:{self.of.name}")
        teacher = OracleTeacher(context.reveal, self.of.name, min(k - self.every, SILENT_PICKS))
        return select_with_updates(fleet, self.of.part, context, k, self.every, teacher)


@dataclass(frozen=True, kw_only=True)
class Fantasised(Wrapper):
    """The strategy `of`, with labels imagined between its picks: `fantasy:badge`.

    As `reveal`, but nobody is asked: after `every` picks the head is updated with the labels that it expects itself.
    With `label = "expected"` these are the shares that it predicts, so its mean stays, and its covariance shrinks
    around the picks. That changes the picks of strategies which look at the uncertainty of the weights (scores with a
    variance or samples, `power_bald`) or at what is labelled (`coreset`), and of no others. With `"likely"` it is the
    likeliest class, as if it were true (kriging believer). That moves the mean as well, and makes the head surer of
    itself.

    Needs a head with closed-form updates (no ensemble). With `every` >= k it is `of` itself. Cost: `of` for k / `every`
    batches. picks(k) is a prefix of picks(k + 1) where that is so for `of`.

    Raises (when selecting):
        ConfigError: the head is an ensemble's.
    """

    of: Inner[Selector] = BADGE
    every: Annotated[int, Field(ge=1)] = 1
    label: Literal["expected", "likely"] = "expected"

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        """Picks of `of`, `every` at a time, with the labels that the head expects in between."""
        return select_with_updates(fleet, self.of.part, context, k, self.every, HeadTeacher(self.label))


class Teacher(Protocol):
    """Says what the picks are, and updates the head with it."""

    kind: str
    """of labels, for the reasons"""

    def teach(self, head: Head, ids: NDArray[np.int64], features: NDArray[np.float32]) -> tuple[Head, list[str]]:
        """Update a head with the labels of some items.

        Args:
            head: what is known so far.
            ids: of the items [n].
            features: theirs, as the head takes them, [n, d].

        Returns:
            The head after these labels, and the text of the label that each item stands for from now on, [n].
        """
        ...


class OracleTeacher:
    """An oracle that answers at once."""

    kind = "revealed"

    def __init__(self, reveal: Reveal, of: str, patience: int) -> None:
        """Ask an oracle.

        Args:
            reveal: asks it.
            of: the name of the strategy inside, for the error.
            patience: items without a single answer, after which it counts as one that does not answer at once.
        """
        self._reveal, self._of, self._patience = reveal, of, patience
        self._asked = self._answered = 0

    def teach(self, head: Head, ids: NDArray[np.int64], features: NDArray[np.float32]) -> tuple[Head, list[str]]:
        """As `Teacher.teach`; an item without an answer stands for its likeliest label, and updates nothing.

        Args:
            head: what is known so far.
            ids: of the items [n].
            features: theirs, as the head takes them, [n, d].

        Returns:
            The head after the answers, and the text of a label for each item, [n].

        Raises:
            ConfigError: the oracle has not answered for any item so far.
        """
        found = self._reveal(ids.tolist())
        self._asked, self._answered = self._asked + len(ids), self._answered + len(found)
        if not self._answered and self._asked >= self._patience:
            problem = f"the oracle does not answer at once (asked for {self._asked} items, the last one {ids[-1]})"
            raise ConfigError("select", problem, f"use fantasy:{self._of}, or an oracle that knows the labels")
        guesses = likeliest_labels(head, features)
        labels = [found.get(id, guess) for id, guess in zip(ids.tolist(), guesses, strict=True)]
        rows = [row for row, id in enumerate(ids.tolist()) if id in found]
        return updated(head, features[rows], [labels[row] for row in rows]), labels


class HeadTeacher:
    """The head itself; `kind` is the field `label` of `Fantasised`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def teach(self, head: Head, ids: NDArray[np.int64], features: NDArray[np.float32]) -> tuple[Head, list[str]]:
        """As `Teacher.teach`, with the labels that the head expects."""
        del ids
        labels = likeliest_labels(head, features)
        after = updated(head, features, labels)
        # An expected label has no residual, and which class of the last fit a label names does not matter to evidence.
        return after if self.kind == "likely" else replace(after, mean=head.mean), labels


def select_with_updates(
    fleet: Fleet, inner: Selector, context: RoundContext, k: int, every: int, teacher: Teacher
) -> Picks:
    """Picks of a strategy, with updates of the head in between. Leaves the candidates as they were.

    Args:
        fleet: the pool's partitions.
        inner: the strategy.
        context: what the round knows.
        k: items in the batch.
        every: picks between two updates.
        teacher: updates the head.

    Returns:
        k picks.

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
    fleet.each(save_candidates)
    while True:
        step = replace(context, key=derive(context.key, done)) if done else context
        picks = inner.select(fleet, step, min(every, k - done))
        note = f"after {done} {teacher.kind} labels" if done else f"before any {teacher.kind} label"
        batches.append(replace(picks, reasons=tuple(f"{reason}; {note}" for reason in picks.reasons)))
        done += len(picks.ids)
        if done == k:
            break
        features = features_of(fleet, picks.ids)
        head, labels = teacher.teach(head, picks.ids, features)
        fleet.each(remove_candidates, picks.ids)
        labelled = context.labelled.followed_by(picks.ids, features, labels if named else ())
        context = replace(context, head=head, labelled=labelled)
    fleet.each(restore_candidates)
    return Picks(
        ids=np.concatenate([picks.ids for picks in batches]),
        scores=np.concatenate([picks.scores for picks in batches]),
        reasons=tuple(reason for picks in batches for reason in picks.reasons),
    )


def updated(head: Head, features: NDArray[Any], answers: Sequence[Answer]) -> Head:
    """The head after these labels, whose classes it may not know yet."""
    return update(add_classes_of(head, answers), features, answers, ledger_seq=head.ledger_seq)


def likeliest_labels(head: Head, features: NDArray[Any]) -> list[str]:
    """The label that a head holds most probable for each row [n, d], as text; ties go to the first class."""
    return head.likelihood.texts(head.probabilities(features), head.classes)


def features_of(fleet: Fleet, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """What the head takes of these items, [n, d] in the order of `ids`. One round trip."""
    found, features = gathered(fleet, np.sort(ids))
    return features[np.searchsorted(found, ids)]
