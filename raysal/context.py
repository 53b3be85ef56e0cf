"""What a round knows when it chooses: one record for its narrower and its strategy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raysal.config import IndexConfig
from raysal.errors import ConfigError
from raysal.fleet import Fleet
from raysal.memory import Memory
from raysal.models.evidence import Evidence
from raysal.models.head import Head
from raysal.models.likelihood import SOFTMAX, Likelihood
from raysal.pool import Pool
from raysal.rng import derive
from raysal.scoring.given_probabilities import AnyInputs, GivenInputs, GivenProbabilities, takes_probabilities
from raysal.scoring.inputs import DEFAULT_DRAWS, ScoreInputs, is_of_target, score_inputs, target_among
from raysal.scoring.linear import Linear
from raysal.scoring.reference import pool_reference, wants_reference

Reveal = Callable[[Sequence[int]], Mapping[int, str]]
"""ids -> labels of those of them that the oracle knows"""


class Yield(NamedTuple):
    """What came of one share of a batch."""

    answered: int
    """its items that have a label by now"""
    found: int
    """those of them that are looked for"""


@dataclass(frozen=True, kw_only=True)
class LabelledVectors:
    """The items with a label, in id order."""

    ids: NDArray[np.int64]
    """[n]"""
    vectors: NDArray[np.float32]
    """[n, d], as the head sees them"""
    classes: Sequence[str]
    """[n] texts of the labels, or none where nobody knows them"""
    likelihood: Likelihood = SOFTMAX
    """what the texts say"""

    def by_class(self) -> dict[str, NDArray[np.int64]]:
        """The rows of every class by name.

        With several labels at once an item belongs to each of its labels, and an item without any belongs to no class.
        Numbers all belong to one class, `value`.

        Returns:
            Ascending rows for each name; the names are sorted.
        """
        rows: dict[str, list[int]] = {}
        for row, text in enumerate(self.classes):
            for name in self.likelihood.names_in(text):
                rows.setdefault(name, []).append(row)
        return {name: np.array(rows[name], np.int64) for name in sorted(rows)}

    def followed_by(
        self, ids: NDArray[np.int64], vectors: NDArray[np.float32], classes: Sequence[str]
    ) -> LabelledVectors:
        """These items, followed by further ones in the order in which they were picked.

        Args:
            ids: int64 [m].
            vectors: float32 [m, d].
            classes: texts [m], or none where nobody knows them.

        Returns:
            All n + m items.
        """
        return replace(
            self,
            ids=np.concatenate([self.ids, ids]),
            vectors=np.concatenate([self.vectors, vectors]),
            classes=[*self.classes, *classes],
        )

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, kw_only=True)
class RoundContext:
    """What a narrower and a strategy may know beside the candidates themselves."""

    head: Head | None
    """what was learnt from the labels so far; None before the first"""
    labelled: LabelledVectors
    """the items with a label, as the head sees their vectors"""
    pool: Pool
    k: int
    """items in the round's batch; a strategy inside another one may be asked for fewer"""
    available: int
    """items that may be offered"""
    key: int
    """randomness of the round or, within a stage, of that stage (`raysal.rng`)"""
    target: tuple[str, ...] = ()
    """the classes that are looked for"""
    like: NDArray[np.float32] | None = None
    """[q, pool_dim] queries for what is looked for, as vectors of the pool: examples that are no items"""
    background: int = 0
    """items without a label that the head takes for not looked for"""
    yields: Sequence[Mapping[str, Yield]] = ()
    """what the last rounds found, by share, the newest last; of rounds whose strategy shares out its batch"""
    previous: Head | None = None
    """the head of the round before"""
    memory: Memory | None = None
    """what the narrower remembered in the round before"""
    index: IndexConfig = field(default_factory=IndexConfig)
    """what becomes of an index that lacks rows"""
    reveal: Reveal | None = None
    """asks an oracle that answers at once"""
    held_out_labels: Callable[[], Mapping[int, str]] | None = None
    """the labels by id, as far as they are known, of those held-out items that measure nothing, because the strategy
    learns from them (`Selector.uses_held_out`)"""
    given: GivenProbabilities | None = None
    """what was predicted from outside; it counts while there is no head, and lies beside the data then"""
    pool_scale: float = 1.0
    """what given vectors were multiplied by (`raysal.scale`)"""

    @property
    def scale(self) -> float:
        """What distances between features are divided by before people see them; hidden features are as they are."""
        return 1.0 if self.head is not None and self.head.hidden_layer is not None else self.pool_scale

    @property
    def ties(self) -> int:
        """Key of the hash that orders items of equal score (`raysal.rng.item_order`)."""
        return derive(self.key, "ties")

    def for_stage(self, stage: str) -> RoundContext:
        """The same with the randomness of one stage: `narrow` or `select`."""
        return replace(self, key=derive(self.key, stage))

    def linear(self, *, several: bool = False) -> Linear:
        """The head as it travels to partitions.

        Args:
            several: whether a head for several labels at once will do too.

        Returns:
            Its weights.

        Raises:
            ConfigError: there is no head, or none for one class of several; the caller chose a strategy that needs one.
        """
        head = self.needed_head()
        labels = head.likelihood
        if not (labels.exclusive or (several and labels.discrete)):
            fix = f"use {labels.strategies}, or `coreset`, which looks at vectors alone"
            raise ConfigError("select", f"this strategy compares classes, and the head predicts {labels.words}", fix)
        return Linear.of(head)

    def reference(self, fleet: Fleet, scores: Iterable[str], key: int) -> Evidence | None:
        """The sample of the pool that `influence` measures the loss on. Two round trips where a score asks for it.

        Args:
            fleet: the pool's partitions.
            scores: names of `raysal.scoring.SCORES`.
            key: key of `raysal.rng`.

        Returns:
            The sample; None where no score asks for it.

        Raises:
            ConfigError: the head is an ensemble.
            PoolError: a vector is not finite; it names the item.
        """
        if self.head is None or not wants_reference(self.head, scores):
            return None
        known = self.labelled
        return pool_reference(fleet, self.head, known.vectors[: len(known.classes)], known.classes, key)

    def class_inputs(self) -> tuple[tuple[str, ...], AnyInputs]:
        """What predicts one class of several: the head, or what is given while there is none.

        Returns:
            The names of the classes, and what travels to the partitions.

        Raises:
            ConfigError: there is neither, or the head predicts something else.
        """
        if self.head is None and self.given is not None:
            return self.given.classes, GivenInputs(self.given.classes)
        return self.needed_head().classes, ScoreInputs(self.linear())

    def score_inputs(self, fleet: Fleet, score: str, draws: int = DEFAULT_DRAWS) -> AnyInputs:
        """What a score needs of the head, as it travels to partitions; or that probabilities are given.

        Args:
            fleet: the pool's partitions, which `influence` alone asks.
            score: a name of `raysal.scoring.SCORES`.
            draws: samples of the posterior, where the score compares samples.

        Returns:
            The inputs.

        Raises:
            ConfigError: there is no head, or not one the score can work with.
        """
        if self.head is None and self.given is not None and takes_probabilities(score):
            names = self.given.classes
            return GivenInputs(names, target_among(names, self.target) if is_of_target(score) else None)
        return score_inputs(
            self.needed_head(),
            (score,),
            previous=self.previous,
            reference=self.reference(fleet, (score,), self.key),
            target=self.target,
            draws=draws,
            key=self.key,
        )

    def needed_head(self) -> Head:
        """The head, for a strategy that cannot work without one.

        Returns:
            The head.

        Raises:
            ConfigError: there is none; the caller chose a strategy that needs one.
        """
        if self.head is None:
            raise ConfigError("select", "this strategy needs labels", "start with `typiclust` or `random`")
        return self.head
