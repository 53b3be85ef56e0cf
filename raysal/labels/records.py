"""What the ledger takes and gives: checked labels, and frozen records."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from reprlib import repr as _short
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raysal.errors import LabelError
from raysal.labels.spelling import annotator_text, label_text, valid_text
from raysal.types import Label

State = Literal["unlabeled", "leased", "labeled", "skipped", "disputed"]
"""What an item can be to the ledger; `raysal.labels.ledger` has the rules."""
STATES: tuple[State, ...] = ("unlabeled", "leased", "labeled", "skipped", "disputed")


class KnownItem(NamedTuple):
    """What a ledger knew of an item at some time."""

    state: State
    trains: bool = False
    """Whether it was asked for, or is an example, and is no test draw: it trains, even where it would be held out."""
    label: str | None = None
    """What its annotators said, where they agree."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TellCounts:
    """What one `tell` did, as numbers of labels and items."""

    new: int
    """Labels that are the annotator's first for the item."""
    repeated: int
    """Labels that the annotator had given before."""
    corrected: int
    """Labels that replace another label or weight by the same annotator."""
    disputed: int
    """Items of this call that are disputed now."""
    skipped: int = 0
    """Skips that are new."""
    withdrawn: int = 0
    """Answers that were taken back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Labelled:
    """An item that trains: its annotators agree on a label, or they disagree and votes count."""

    id: int
    key: str
    label: str
    """The label all agree on, or else the one with the largest weight."""
    weight: float
    """The sum of the annotators' weights."""
    seq: int
    """Number of the last event that changed the item's labels."""
    since: int
    """Number of the event since which they say what they say, whoever said it again."""
    round: int | None
    """The last round that leased the item; -1 for an example that no round did, None for any other such item."""
    shares: tuple[tuple[str, float], ...] = ()
    """Where annotators disagree: each label with its share of the weight. Empty where they agree."""

    @property
    def answer(self) -> str | dict[str, float]:
        """What a trainer gets: the label, or {label: share} where annotators disagree."""
        return dict(self.shares) if self.shares else self.label

    @property
    def texts(self) -> tuple[str, ...]:
        """Every label that somebody gave."""
        return tuple(name for name, _ in self.shares) or (self.label,)


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """The items whose part in the training set differs between two points of the ledger: ids int64, sorted.

    An item is in the training set if its annotators agree, or if they disagree and votes count.
    """

    new: NDArray[np.int64]
    """In the training set at the second point only: their evidence can be added."""
    corrected: NDArray[np.int64]
    """In it at both points, with another label or other shares."""
    lost: NDArray[np.int64]
    """In it at the first point only: the label was withdrawn, skipped or disputed."""
    reweighted: NDArray[np.int64]
    """In it at both points with the same label and another weight, mostly because another annotator confirmed it."""

    def __len__(self) -> int:
        return len(self.new) + len(self.corrected) + len(self.lost) + len(self.reweighted)


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What the ledger knows of one item that has events."""

    state: State
    answers: Mapping[str, str]
    """{annotator: label, or `SKIP`}, each the newest"""
    weights: Mapping[str, float]
    """{annotator: weight} of the labels among these"""
    round: int | None
    """the last round that leased it; None if no round did"""


PASS_LABELS = "pass {key: label}, or a list of raysal.Label"
"""The fix for what are no labels."""


def checked_text(where: str, value: object) -> str:
    """Check that a value is text that can be written as UTF-8.

    Args:
        where: what the error calls the value.
        value: anything.

    Returns:
        The value, as a plain str.

    Raises:
        LabelError: the value is no such text.
    """
    if not isinstance(value, str):
        raise LabelError(where, f"{value!r} is not text", "pass a string")
    return valid_text(where, value)


def checked_key(key: object) -> str:
    """Check that a key is text and not empty.

    Args:
        key: anything.

    Returns:
        The key. Its whitespace is kept, because it is part of the key.

    Raises:
        LabelError: the key is empty, or no text that can be written as UTF-8.
    """
    if key == "":
        raise LabelError("key", "is empty", "name the item by its key in the pool")
    return checked_text(f"key {key!r}", key)


def checked(label: object, *, as_it_is: bool = False) -> Label:
    """Check one label.

    Args:
        label: anything.
        as_it_is: leave a text as it is. Ledgers of earlier versions hold labels that would be read otherwise today.

    Returns:
        The label, its text and its annotator in their one spelling (`raysal.labels.spelling`).

    Raises:
        LabelError: it is no `Label`, its key or label is empty or not valid text, or its weight is not a finite
            number above 0.
    """
    if not isinstance(label, Label):
        raise LabelError("labels", f"{_short(label)} is not a raysal.Label", PASS_LABELS)
    key = checked_key(label.key)
    weight: object = label.weight  # it comes from outside, so its type is not certain
    where = f"{key!r}: label"
    kept = valid_text(where, label.label).strip() if as_it_is and isinstance(label.label, str) else None
    text = kept or label_text(where, label.label)
    if text is None:
        raise LabelError(where, "is empty", "leave the item out, or skip it")
    annotator = annotator_text(f"{key!r}: annotator", label.annotator)
    if isinstance(weight, bool) or not isinstance(weight, Real) or not math.isfinite(weight) or weight <= 0:
        raise LabelError(f"{key!r}: weight", f"{weight!r} is not a finite number above 0", "1.0 is usual")
    return Label(key=key, label=text, annotator=annotator, weight=float(weight))
