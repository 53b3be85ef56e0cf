"""One answer of an annotator, and what it says to the ledger and to the remarks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from raysal.labels.records import Said
from raysal.labels.remarks import NOTHING, Remark
from raysal.types import SKIP, Label

Before = list[dict[str, Any]]
"""what a turn replaced: of each item what `before_of` says"""
PARTS = {"answered": ("label", "weight", "disputed"), "remarked": ("note", "rating")}
"""what a turn may be about, and which fields of an item it replaces then"""


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
    def is_given(self) -> bool:
        """Whether the annotator has an answer of the item after it."""
        return self.is_answer and not self.withdraw

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
        if answer.is_given
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


def before_of(
    answer: Answer, said: Said | None, remarks: Mapping[str, Remark], who: str, *, found: bool = False
) -> dict[str, Any]:
    """What an answer is about to replace, as a turn keeps it.

    Args:
        answer: the answer.
        said: what the ledger knows of the item.
        remarks: those of each annotator about it.
        who: the annotator.
        found: the annotator was not offered the item.

    Returns:
        {id, key, label: None for none, weight, note, rating, disputed}; what the answer is about: {answered,
        remarked}; and found.
    """
    remark = remarks.get(who, NOTHING)
    label = None if said is None else said.answers.get(who)
    weight = 1.0 if said is None else said.weights.get(who, 1.0)
    about = {"answered": answer.is_answer, "remarked": answer.is_remark, "found": found}
    return {"id": answer.id, "key": answer.key, "label": label, "weight": weight, **remark._asdict(), **about}


def since(turns: Iterable[Iterable[Mapping[str, Any]]]) -> SaidSince:
    """What some turns are about, by what they replaced; turns of an older raysal say no more than the items."""
    entries = [entry for before in turns for entry in before]
    return SaidSince(
        frozenset(entry["key"] for entry in entries if entry.get("answered", True)),
        frozenset(entry["key"] for entry in entries if entry.get("remarked", True)),
    )


def bequeathed(undone: Iterable[Mapping[str, Any]], later: Iterable[Sequence[Mapping[str, Any]]]) -> list[Before]:
    """What later turns replace once a turn before them is undone: what that one replaced, not what it said.

    So whoever undoes both gets back what was so before both, whichever is undone first. An item's label passes on up
    to the first later turn that gave another one, and its remark to the first that wrote another one.

    Args:
        undone: what the undone turn replaced.
        later: what each later turn of the annotator replaced, in their order.

    Returns:
        What each of them replaces now.
    """
    left = {fields: {entry["key"]: entry for entry in undone} for fields in PARTS.values()}
    found = []
    for before in later:
        entries = [dict(entry) for entry in before]
        for entry in entries:
            for about, fields in PARTS.items():
                if (old := left[fields].get(entry["key"])) is None:
                    continue
                if "label" in entry:  # of a turn that is too old no more is kept than what it is about
                    entry.update({name: old[name] for name in fields if name in old})
                if entry.get(about, True):
                    del left[fields][entry["key"]]
        found.append(entries)
    return found
