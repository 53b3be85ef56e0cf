"""What finds wrong labels among probabilities, in passes over chunks of items: for one class of several, or several.

A pass turns a chunk of items into whole numbers that add up, or into suspects of which the first ones of each group
count. So nothing depends on how items are cut into chunks and partitions, to the last bit:

    tally (1st pass) ──▶ thresholds ──▶ joint (2nd) ──▶ estimate ──▶ suspects (3rd) ──▶ the first of each group

`raysal.curation.labels.confident` has it for one class of several, `raysal.curation.labels.several` for others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raysal.scoring.row_values import refuse_broken

Floats = NDArray[np.float32]
Whole = NDArray[np.int64]
Method = Literal["class", "noise_rate", "confident"]
How = Method | Literal["lowest"]
Score = Literal["transitions", "self_confidence", "normalized_margin", "entropy"]
UNIT = 2.0**30
"""Probabilities are added up as whole numbers of 1 / UNIT: such a sum does not depend on its order. 8 * 10^9 fit."""
NEARLY = 1e-6
"""How far a probability may be below a threshold and still reach it: of all equal ones, each reaches their mean."""


class Suspects(NamedTuple):
    """Items whose labels look wrong, and what is compared within groups of them."""

    ids: Whole
    """[m]"""
    output: NDArray[np.int32]
    """[m], the class that is suggested; of several labels the one that is doubted"""
    group: Whole
    """[m], within which `doubt` is compared"""
    doubt: Floats
    """[m], higher for those that count first"""
    score: Floats
    """[m], how good the label of the item is: 0 to 1, lower for one that is more likely wrong"""

    @classmethod
    def joined(cls, pieces: Sequence[Suspects]) -> Suspects:
        """Put pieces together."""
        kinds: tuple[Any, ...] = (np.int64, np.int32, np.int64, np.float32, np.float32)
        empty = cls(*(np.empty(0, kind) for kind in kinds))
        return cls(*(np.concatenate([getattr(one, name) for one in (empty, *pieces)]) for name in cls._fields))

    def take(self, which: NDArray[Any]) -> Suspects:
        """Some of them."""
        return Suspects(*(column[which] for column in self))

    def first_of_groups(self, limits: Whole) -> Suspects:
        """Those of each group with the highest doubt.

        Args:
            limits: [groups] how many count of each, at most.

        Returns:
            At most so many, in order of group; ties go to the lower id. Joined with those of other items, and asked for
            the first ones again, they give the first ones of all.
        """
        order = np.lexsort((self.output, self.ids, -self.doubt, self.group))
        group = self.group[order]
        place = np.arange(len(order)) - np.searchsorted(group, group)
        return self.take(order[place < limits[group]])


@dataclass(frozen=True, kw_only=True, eq=False)
class Estimate:
    """What two passes say of the labels as a whole."""

    labelled: int
    items: Whole
    """[C], with each class or label"""
    wrong: NDArray[np.float64]
    """[C], how many of these have it wrongly, estimated"""
    error_rate: float
    """the estimated share of labels that are wrong; of several labels, of all answers, a label that is absent too"""
    confused: tuple[tuple[int, int, float], ...]
    """(given, true, estimated items), the most first; of several labels -1 stands for the absence of the other"""
    limits: dict[How, Whole]
    """[groups] of suspects"""
    transitions: Floats | None = None
    """[C, C], weights of a given class (row) by the true one, for the score of that name; columns add up to 1"""


class Checker(ABC):
    """Finds wrong labels of one kind, of C outputs. p are probabilities [n, C], `given` is what the labels say."""

    scores: ClassVar[tuple[Score, ...]]
    """those that it knows, the usual one first"""

    def __init__(self, outputs: int) -> None:
        """Look at labels of so many classes."""
        self.outputs = outputs

    @abstractmethod
    def tally(self, p: Floats, given: NDArray[Any]) -> Whole:
        """The first pass: counts, and sums of probabilities. They add up."""

    @abstractmethod
    def thresholds(self, tally: Whole) -> Floats:
        """From the first pass: from which probability on an item may be counted for a class."""

    @abstractmethod
    def joint(self, p: Floats, given: NDArray[Any], thresholds: Floats) -> Whole:
        """The second pass: the confident joint, how many items that are given a class are confidently of another."""

    @abstractmethod
    def estimate(self, tally: Whole, joint: Whole) -> Estimate:
        """From both passes: what is wrong as a whole."""

    @abstractmethod
    def suspects(
        self,
        ids: Whole,
        p: Floats,
        given: NDArray[Any],
        thresholds: Floats,
        estimate: Estimate,
        how: How,
        score: Score,
    ) -> Suspects:
        """The third pass: the items that may be suspects, before the first ones of each group are taken.

        Args:
            ids: [n].
            p: [n, C].
            given: [n], or [n, C].
            thresholds: of the first pass.
            estimate: of both passes.
            how: which rule finds them; `lowest` has every item.
            score: how labels are scored.

        Returns:
            The suspects.
        """


def checked(p: Floats, ids: Whole) -> Floats:
    """Refuse probabilities that are not finite.

    Args:
        p: [n, C].
        ids: [n].

    Returns:
        The same.

    Raises:
        PoolError: those of an item are not; it names the first.
    """
    refuse_broken(ids, np.asarray(np.isfinite(p).all(1)))
    return p


def units(p: Floats) -> Whole:
    """Probabilities as whole numbers of 1 / UNIT."""
    return np.rint(p.astype(np.float64) * UNIT).astype(np.int64)


def whole_rows(estimated: NDArray[np.float64], totals: Whole) -> Whole:
    """Round rows [r, c] to whole numbers that add up to totals [r]: the largest remainders are rounded up."""
    low = np.floor(estimated + 1e-9)
    order = np.argsort(-(estimated - low), axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(order.shape[1]), order.shape), axis=1)
    return np.asarray(low + (rank < (totals - low.sum(1))[:, None]), np.int64)


def entropy_score(p: Floats, own: Floats) -> Floats:
    """The confidence-weighted entropy H(p) / own as a score of 0 to 1, with log(x + 1) / x; H is over log C."""
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.where(p > 0, p * np.log(p), 0).sum(1) / np.log(max(p.shape[1], 2))
    weighted = np.maximum(entropy, 1e-6) / np.maximum(own, 1e-6)
    return np.asarray(np.log1p(weighted) / weighted, np.float32)
