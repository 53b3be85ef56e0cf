"""A selector picks a batch from the fleet's candidates, in pick order, without ever gathering them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from raysal.errors import ConfigError, PoolError, PoolExhausted
from raysal.fleet import Fleet, Partition
from raysal.models.head import Head
from raysal.scoring.inputs import DRAWS, ScoreInputs, score_inputs
from raysal.scoring.linear import Linear

Reveal = Callable[[Sequence[int]], Mapping[int, str]]
"""ids -> labels of those of them that the oracle knows"""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a selector may know beside the candidates: the head (None before any label), the labelled items'
    vectors float32 [n, d], their classes (n names, or none where nobody knows), a key of `raysal.rng`, the head of the
    round before, and `reveal`, which asks an oracle that answers at once."""

    head: Head | None
    labelled: NDArray[np.float32]
    key: int
    classes: Sequence[str] = ()
    previous: Head | None = None
    reveal: Reveal | None = None

    def linear(self, *, several: bool = False) -> Linear:
        """The head as it travels to partitions; `several` says whether one for several labels at once will do too.

        Raises:
            ConfigError: there is no head, or none for one class of several; the caller chose a selector that needs one.
        """
        head = self.needed()
        if head.link != "softmax" and not (several and head.link == "sigmoid"):
            if head.link == "identity":
                kind, others = "numbers", "`batch_bald`, `top_score` with the score `epistemic_variance`"
            else:
                kind, others = "several labels at once", "`badge`, `top_score` with the score `margin`"
            fix = f"use {others}, or `coreset`, which looks at vectors alone"
            raise ConfigError("select", f"this strategy compares classes, and the head predicts {kind}", fix)
        return Linear.of(head)

    def inputs(self, score: str, draws: int = DRAWS) -> ScoreInputs:
        """What a score needs of the head, as it travels to partitions.

        Raises:
            ConfigError: there is no head, or not one the score can work with.
        """
        return score_inputs(
            self.needed(),
            (score,),
            previous=self.previous,
            labelled=self.labelled,
            answers=self.classes,
            draws=draws,
            key=self.key,
        )

    def needed(self) -> Head:
        """The head.

        Raises:
            ConfigError: there is none; the caller chose a selector that needs one.
        """
        if self.head is None:
            raise ConfigError("select", "this strategy needs labels", "start with `typiclust` or `random`")
        return self.head


@dataclass(frozen=True, kw_only=True)
class Picks:
    """A batch: ids [k] in pick order, the score each was picked for, and why, in a few words each."""

    ids: NDArray[np.int64]
    scores: NDArray[np.float64]
    reasons: tuple[str, ...] = field(default=())


class Selector(Protocol):
    """Constructor fields are its config."""

    @property
    def needs_head(self) -> bool:
        """Whether it cannot work before the first label."""
        ...

    def select(self, fleet: Fleet, task: Task, k: int) -> Picks:
        """k distinct candidates in pick order. 1 <= k <= number of candidates, checked by `select`.

        Deterministic in (pool, candidates, task): the same for any partitions of the pool.
        """
        ...


def select(fleet: Fleet, selector: Selector, task: Task, k: int) -> Picks:
    """A batch of k from the fleet's candidates.

    Raises:
        ConfigError: k is below 1, or the selector needs a head and there is none.
        PoolExhausted: fewer than k candidates are left.
    """
    if k < 1:
        raise ConfigError("k", f"{k} is not a batch", "ask for at least 1")
    left = sum(fleet.each(count_candidates))
    if k > left:
        raise PoolExhausted(wanted=k, available=left)
    return selector.select(fleet, task, k)


def count_candidates(partition: Partition) -> int:
    """How many rows may be picked here."""
    return len(partition.candidates())


def refuse_broken(ids: NDArray[np.int64], finite: NDArray[np.bool_]) -> None:
    """
    Raises:
        PoolError: an item is not `finite`; it names the first.
    """
    broken = ids[~finite]
    if len(broken):
        raise PoolError(f"item {broken[0]}", "its vector is not finite numbers", "embed it again, or leave it out")
