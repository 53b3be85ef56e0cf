"""One answer of an annotator, and what it says to the ledger and to the remarks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from raysal.labels.records import Said
from raysal.labels.remarks import NOTHING, Remark
from raysal.types import SKIP, Label


class Answer(NamedTuple):
    """What an annotator says of an item: a label, a skip, a dispute, a withdrawal, or only a remark."""

    id: int
    key: str = ""
    label: str | None = None
    skip: bool = False
    dispute: bool = False
    """the annotator doubts what is said, and gives no other label: the own answer becomes a skip, and the item is
    shown as disputed; labels of others stay theirs"""
    withdraw: bool = False
    note: str | None = None
    """None: as it was"""
    rating: int | None = None
    """None: as it was"""

    @property
    def is_answer(self) -> bool:
        """Whether it says something to the ledger."""
        return self.label is not None or self.skip or self.dispute or self.withdraw

    @property
    def is_remark(self) -> bool:
        """Whether it says something beside a label."""
        return self.note is not None or self.rating is not None

    def without(self, said: SaidSince) -> Answer:
        """What is left of it to do, where the same annotator has spoken of items since."""
        left = self
        if self.key in said.answered:
            left = left._replace(label=None, skip=False, dispute=False, withdraw=False)
        return left._replace(note=None, rating=None) if self.key in said.remarked else left


class SaidSince(NamedTuple):
    """The keys of items that an annotator has spoken of after some request."""

    answered: frozenset[str] = frozenset()
    remarked: frozenset[str] = frozenset()


def labels_of(answers: Sequence[Answer], who: str) -> tuple[list[Label], list[tuple[str, str]]]:
    """What answers say to the ledger: labels and skips, and what is taken back."""
    labels = [
        Label(key=answer.key, label=SKIP if answer.skip or answer.dispute else answer.label or "", annotator=who)
        for answer in answers
        if answer.is_answer and not answer.withdraw
    ]
    return labels, [(answer.key, who) for answer in answers if answer.withdraw]


def remark_of(answer: Answer, before: Remark | None) -> Remark | None:
    """The remark after an answer; None where it stays what it was."""
    old = before or NOTHING
    disputed = answer.dispute if answer.is_answer else old.disputed
    new = Remark(
        old.note if answer.note is None else answer.note,
        old.rating if answer.rating is None else answer.rating,
        disputed,
    )
    return None if new == old else new


def before_of(answer: Answer, said: Said | None, remarks: Mapping[str, Remark], who: str) -> dict[str, Any]:
    """What an answer is about to replace, as a turn keeps it.

    Args:
        answer: the answer.
        said: what the ledger knows of the item.
        remarks: those of each annotator about it.
        who: the annotator.

    Returns:
        {id, key, label: None for none, weight, note, rating, disputed}; and what the answer is about: {answered,
        remarked}.
    """
    remark = remarks.get(who, NOTHING)
    label = None if said is None else said.answers.get(who)
    weight = 1.0 if said is None else said.weights.get(who, 1.0)
    about = {"answered": answer.is_answer, "remarked": answer.is_remark}
    return {"id": answer.id, "key": answer.key, "label": label, "weight": weight, **remark._asdict(), **about}


def since(turns: Iterable[Iterable[Mapping[str, Any]]]) -> SaidSince:
    """What some turns are about, by what they replaced; turns of an older raysal say no more than the items."""
    entries = [entry for before in turns for entry in before]
    return SaidSince(
        frozenset(entry["key"] for entry in entries if entry.get("answered", True)),
        frozenset(entry["key"] for entry in entries if entry.get("remarked", True)),
    )
