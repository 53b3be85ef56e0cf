"""What the ledger takes and gives: labels that were checked, and frozen answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from reprlib import repr as _short
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from raysal.errors import LabelError
from raysal.types import Label

State = Literal["unlabeled", "leased", "labeled", "skipped", "disputed"]
STATES: tuple[State, ...] = ("unlabeled", "leased", "labeled", "skipped", "disputed")


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What one `tell` did: its labels were `new` (the annotator's first for the item), `corrected` or
    `repeated`; `disputed` of its items are disputed now."""

    new: int
    repeated: int
    corrected: int
    disputed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Labelled:
    """An item all its annotators agree on, or where votes count, one they share. `seq` is the newest event that made it
    so, `round` the last that leased it."""

    id: int
    key: str
    label: str
    weight: float
    seq: int
    round: int | None
    shares: tuple[tuple[str, float], ...] = ()
    """where they do not agree, the share of the weight for every label; `label` is then the one with most"""

    @property
    def answer(self) -> str | dict[str, float]:
        """What a trainer is told."""
        return dict(self.shares) if self.shares else self.label

    @property
    def texts(self) -> tuple[str, ...]:
        """Every label that somebody gave."""
        return tuple(name for name, _ in self.shares) or (self.label,)


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """Ids int64, sorted, by how their part in the training set differs between two points of the ledger. Where votes
    count, disputed items are in it and shared ones "agree" on their shares."""

    new: NDArray[np.int64]
    """Agreed now, and not then: their evidence can be added."""
    corrected: NDArray[np.int64]
    """Agreed on another label then, or shared otherwise."""
    lost: NDArray[np.int64]
    """Agreed then, and not now: withdrawn, skipped or disputed."""
    reweighted: NDArray[np.int64]
    """The same label with another weight, mostly because another annotator confirmed it."""

    def __len__(self) -> int:
        return len(self.new) + len(self.corrected) + len(self.lost) + len(self.reweighted)


LABELS = "pass {key: label}, or a list of raysal.Label"


def checked_text(where: str, value: object) -> str:
    """The value, which is text that can be written as UTF-8.

    Raises:
        LabelError: it is not; `where` names it.
    """
    if not isinstance(value, str):
        raise LabelError(where, f"{value!r} is not text", "pass a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise LabelError(where, f"{value!r} is not valid Unicode", "mend its encoding") from None
    return str(value)


def checked_key(key: object) -> str:
    """The key, which is text and not empty; whitespace is part of it.

    Raises:
        LabelError: it is not.
    """
    if key == "":
        raise LabelError("key", "is empty", "name the item by its key in the pool")
    return checked_text(f"key {key!r}", key)


def checked(label: object) -> Label:
    """The label with outer whitespace stripped from its text and its annotator.

    Raises:
        LabelError: it is no `Label`, its key or label is empty or not valid text, or its weight is not a finite
            number above 0.
    """
    if not isinstance(label, Label):
        raise LabelError("labels", f"{_short(label)} is not a raysal.Label", LABELS)
    key = checked_key(label.key)
    weight: object = label.weight  # from outside, whatever its annotation says
    text = checked_text(f"{key!r}: label", label.label).strip()
    if not text:
        raise LabelError(f"{key!r}: label", "is empty", "leave the item out, or skip it")
    annotator = checked_text(f"{key!r}: annotator", label.annotator).strip()
    if isinstance(weight, bool) or not isinstance(weight, Real) or not math.isfinite(weight) or weight <= 0:
        raise LabelError(f"{key!r}: weight", f"{weight!r} is not a finite number above 0", "1.0 is usual")
    return Label(key=key, label=text, annotator=annotator, weight=float(weight))


def as_labels(labels: Mapping[str, str] | Sequence[Label]) -> list[Label]:
    """Labels as callers write them, by key or as records; every one `checked`, in their order.

    Raises:
        LabelError: it is neither, or one of them cannot be accepted.
    """
    given: object = labels  # from outside, whatever its annotation says
    if isinstance(given, Mapping):
        return [checked(Label(key=key, label=label)) for key, label in given.items()]
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        raise LabelError("labels", f"{_short(given)} is neither a mapping nor a list", LABELS)
    return [checked(label) for label in given]
