"""The state of one item, which its events make, and the transaction in which a call to the ledger decides."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from raysal.errors import LabelError, RunError
from raysal.labels.events import Event, Kind, PendingEvent
from raysal.labels.records import Labelled, State, checked_key
from raysal.labels.spelling import spelled
from raysal.types import SKIP, Label


class TrainingLabel(NamedTuple):
    """What one item adds to the training set."""

    label: str
    """The label all annotators agree on, or else the one with the largest weight; ties go to the first by name."""
    weight: float
    """The sum of all annotators' weights."""
    shares: tuple[tuple[str, float], ...] = ()
    """Where annotators disagree: each label with its share of the weight. Empty where they agree."""


TEST = "!test"
"""What the lease of a test draw has in place of a label."""


@dataclass(slots=True)
class ItemState:
    """What the ledger knows about one item."""

    key: str
    id: int | None = None
    """Its number in the pool of the ledger; None if that pool does not have the item."""
    round: int | None = None
    """The last round that leased the item; -1 for an example that no round did."""
    lease_seq: int = 0
    """Number of the event that opened the lease; 0 if no lease is open."""
    answers: dict[str, tuple[str | None, float]] = field(default_factory=dict)
    """The newest answer of each annotator: (label, weight). The label of a skip is None."""
    test: bool = False
    """Whether a round leased it as a test draw, ever."""
    labels_seq: int = 0
    """Number of the last event that changed the item's labels."""
    since: int = 0
    """Number of the event since which its labels say what they say, whoever said it again."""
    last_seq: int = 0
    """Number of the last event of any kind."""

    def apply(self, event: Event | PendingEvent, seq: int) -> None:
        """Change the state by one event.

        Args:
            event: an event of this item.
            seq: the event's number, from 1.
        """
        self.last_seq = seq
        who = event.annotator or ""
        if event.kind == "leased":
            self.round, self.lease_seq = event.round, seq
            self.test |= event.label == TEST
        elif event.kind == "released":
            self.lease_seq = 0
        elif event.kind == "moved":
            self.id = event.id
        else:
            before, said = self.labels(), self.texts()
            if event.kind == "withdrawn":
                self.answers = {name: answer for name, answer in self.answers.items() if name != who}
            else:
                self.answers = {**self.answers, who: (event.label, event.weight or 0.0)}
            if self.labels() != before:
                self.labels_seq = seq
            if self.texts() != said:
                self.since = seq

    def labels(self) -> dict[str, tuple[str | None, float]]:
        """The answers that are labels, not skips."""
        return {who: answer for who, answer in self.answers.items() if answer[0] is not None}

    def texts(self) -> set[str]:
        """What the labels say: one text where annotators agree."""
        return {text for text, _ in self.answers.values() if text is not None}

    def text_of(self, annotator: str) -> str | None:
        """The label that an annotator holds; None for a skip, and for nothing."""
        return self.answers.get(annotator, (None, 0.0))[0]

    def known_name(self, annotator: str) -> str:
        """An annotator's name as the item's answers have it. Ledgers of earlier versions may hold `1.0` for `1`."""
        if annotator in self.answers:
            return annotator
        return next((name for name in self.answers if spelled(name) == annotator), annotator)

    def state(self) -> State:
        """The item's state by the rules of `raysal.labels.ledger`."""
        held = {label for label, _ in self.labels().values()}
        if held:
            return "labeled" if len(held) == 1 else "disputed"
        if self.answers:
            return "skipped"
        return "leased" if self.lease_seq else "unlabeled"

    def training_label(self, votes: bool = False) -> TrainingLabel | None:
        """What the item adds to the training set.

        The weight is the exact sum of the annotators' weights, so it does not depend on the order of the labels.

        Args:
            votes: annotators who disagree share the item by their weights. Otherwise a disputed item adds nothing.

        Returns:
            The label, the weight and the shares; None if the item adds nothing.
        """
        held = list(self.labels().values())
        names = sorted({str(label) for label, _ in held})
        if not held or (len(names) > 1 and not votes):
            return None
        weight = math.fsum(weight for _, weight in held)
        if len(names) == 1:
            return TrainingLabel(names[0], weight)
        each = {name: math.fsum(weight for label, weight in held if label == name) for name in names}
        most = max(names, key=lambda name: each[name])  # the first of several
        return TrainingLabel(most, weight, tuple((name, each[name] / weight) for name in names))

    def labelled(self, id: int, votes: bool = False) -> Labelled | None:
        """The item as a record of the training set.

        Args:
            id: the item's id.
            votes: as for `training_label`.

        Returns:
            The record; None if the item adds nothing to the training set.
        """
        label = self.training_label(votes)
        if label is None:
            return None
        return Labelled(id=id, key=self.key, seq=self.labels_seq, since=self.since, round=self.round, **label._asdict())


def apply_events(items: dict[str, ItemState], events: Iterable[Event]) -> dict[str, ItemState]:
    """Change the states in `items`, by key, by events in order, and return `items`; items not seen before are added."""
    for event in events:
        if event.kind != "bound":
            items.setdefault(event.key, ItemState(event.key, event.id)).apply(event, event.seq)
    return items


class Transaction:
    """The events that one call wants to add, and the items as they would be after them.

    It works on copies: the ledger's own items change only when the events come back from the file.
    """

    def __init__(self, items: Mapping[str, ItemState], keys: Mapping[int, str]) -> None:
        self._items, self._keys = items, keys
        self._copies: dict[str, ItemState] = {}
        self._new_keys: dict[int, str] = {}
        self.pending: list[PendingEvent] = []

    def find(self, key: str) -> ItemState | None:
        """The item as the pending events make it; None if it has no event."""
        if key not in self._copies and key in self._items:
            self._copies[key] = copy(self._items[key])
        return self._copies.get(key)

    def find_or_add(self, id: int | None, key: str, error: type[LabelError] | type[RunError]) -> ItemState:
        """The item as the pending events make it; a new one if it has no event.

        Args:
            id: the item's id, int64; None for an item that has events, whatever its id.
            key: the item's key. One id has one key, and one key has one id.
            error: the class of the errors.

        Returns:
            The item's state, a copy.

        Raises:
            LabelError, RunError: the ledger knows the key with another id or the id with another key, the id does not
                fit, or there is no id and no event.
        """
        item = self.find(key)
        if item is not None:
            if id is not None and id != item.id:
                known = "says that its pool lacks it" if item.id is None else f"knows it as {item.id}"
                raise error(repr(key), f"given with id {id}, but the ledger {known}", "check the pool")
            return item
        if id is None:
            raise error(repr(key), "the ledger does not know it", "give its id in the pool, too")
        owner = self._keys.get(id, self._new_keys.get(id))
        if owner is not None:
            raise error(repr(key), f"given with id {id}, which the ledger knows as {owner!r}", "check the pool")
        if not -(2**63) <= id < 2**63:
            raise error(repr(key), f"its id {id} does not fit 64 bits", "ids come from the pool")
        item = self._copies[key] = ItemState(checked_key(key), id)
        self._new_keys[id] = key
        return item

    def tell(
        self, id: int | None, label: Label, round: int | None
    ) -> Literal["new", "repeated", "corrected", "skipped"]:
        """Add an annotator's answer, if it says anything new.

        Args:
            id: the item's id; None for an item that has events.
            label: the answer; the text `SKIP` is a skip.
            round: number of a round to note.

        Returns:
            What the answer is to the ledger.

        Raises:
            LabelError: as `find_or_add`.
        """
        item = self.find_or_add(id, label.key, LabelError)
        who, skips = item.known_name(label.annotator), label.label == SKIP
        held = item.answers.get(who)
        if held == ((None, 0.0) if skips else (label.label, label.weight)):
            return "repeated"
        if skips:
            self.add("skipped", item, annotator=who, round=round)
            return "skipped"
        self.add("labeled", item, label=label.label, annotator=who, weight=label.weight, round=round)
        return "new" if held is None or held[0] is None else "corrected"

    def take_back(self, key: str, annotator: str) -> bool:
        """Take back an annotator's answer, if there is one.

        Args:
            key: the item's key.
            annotator: the annotator's name.

        Returns:
            Whether there was one.
        """
        item = self.find(key)
        if item is None or (who := item.known_name(annotator)) not in item.answers:
            return False
        self.add("withdrawn", item, annotator=who)
        return True

    def add(self, kind: Kind, item: ItemState, **fields: Any) -> None:
        """Add an event of an item, and change its state, which must be a copy of this transaction."""
        event = PendingEvent(item.id, item.key, kind, **fields)
        self.pending.append(event)
        item.apply(event, 1)  # the commit gives the number; until then any number but 0 will do
