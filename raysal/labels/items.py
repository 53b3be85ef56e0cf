"""One item's history folded into its state, and the copy on which a call decides before anything is
committed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import NamedTuple

from raysal.errors import LabelError, RunError
from raysal.labels.events import Draft, Event
from raysal.labels.records import State, checked_key


class Counted(NamedTuple):
    """What an item is to a training set."""

    label: str
    """what all agree on, or what most of the weight is for; ties to the first by name"""
    weight: float
    shares: tuple[tuple[str, float], ...] = ()
    """of the weight, by label, where they do not agree"""


@dataclass(slots=True)
class ItemState:
    """One item's state. `leased` is the seq of its open lease or 0, `newest` that of its last event; an answer is
    (label, weight), label None a skip."""

    key: str
    round: int | None = None
    leased: int = 0
    answers: dict[str, tuple[str | None, float]] = field(default_factory=dict)
    decided: int = 0
    newest: int = 0

    def apply(self, event: Event | Draft, seq: int) -> None:
        self.newest = seq
        who = event.annotator or ""
        if event.kind == "leased":
            self.round, self.leased = event.round, seq
        elif event.kind == "released":
            self.leased = 0
        else:
            before = self.labels()
            if event.kind == "withdrawn":
                self.answers = {name: answer for name, answer in self.answers.items() if name != who}
            else:
                self.answers = {**self.answers, who: (event.label, event.weight or 0.0)}
            if self.labels() != before:
                self.decided = seq

    def labels(self) -> dict[str, tuple[str | None, float]]:
        return {who: answer for who, answer in self.answers.items() if answer[0] is not None}

    def state(self) -> State:
        held = {label for label, _ in self.labels().values()}
        if held:
            return "labeled" if len(held) == 1 else "disputed"
        if self.answers:
            return "skipped"
        return "leased" if self.leased else "unlabeled"

    def counted(self, votes: bool = False) -> Counted | None:
        """The label and the sum of its weights, exact and therefore independent of the order they came in. With `votes`
        those who disagree share the item by their weights; without, it counts for nothing, as one without a label.
        """
        held = list(self.labels().values())
        names = sorted({str(label) for label, _ in held})
        if not held or (len(names) > 1 and not votes):
            return None
        weight = math.fsum(weight for _, weight in held)
        if len(names) == 1:
            return Counted(names[0], weight)
        each = {name: math.fsum(weight for label, weight in held if label == name) for name in names}
        most = max(names, key=lambda name: each[name])  # the first of several
        return Counted(most, weight, tuple((name, each[name] / weight) for name in names))


def fold(items: dict[int, ItemState], events: Iterable[Event]) -> dict[int, ItemState]:
    for event in events:
        items.setdefault(event.id, ItemState(event.key)).apply(event, event.seq)
    return items


class Scratch:
    """The items as they will be if the drafts are committed; the ledger's own are not touched."""

    def __init__(self, items: Mapping[int, ItemState], ids: Mapping[str, int]) -> None:
        self._items, self._ids = items, ids
        self._copies: dict[int, ItemState] = {}
        self._new_ids: dict[str, int] = {}
        self.drafts: list[Draft] = []

    def known(self, id: int) -> ItemState | None:
        if id not in self._copies and id in self._items:
            self._copies[id] = copy(self._items[id])
        return self._copies.get(id)

    def item(self, id: int, key: str, error: type[LabelError] | type[RunError]) -> ItemState:
        """The item, new if need be. One id has one key, and one key one id."""
        item = self.known(id)
        if item is None:
            owner = self._ids.get(key, self._new_ids.get(key, id))
            if owner != id:
                raise error(repr(key), f"given with id {id}, but the ledger knows it as {owner}", "check the pool")
            if not -(2**63) <= id < 2**63:
                raise error(repr(key), f"its id {id} does not fit 64 bits", "ids come from the pool")
            item = self._copies[id] = ItemState(checked_key(key))
            self._new_ids[key] = id
        elif item.key != key:
            raise error(repr(key), f"given with id {id}, which the ledger knows as {item.key!r}", "check the pool")
        return item

    def add(self, draft: Draft) -> None:
        self.drafts.append(draft)
        item = self.known(draft.id)
        if item is not None:
            item.apply(draft, 1)  # its seq is not known before the commit; any but 0 will do
