"""The ledger: which items were asked for, and what the annotators answered. It is the only truth about labels.

The ledger is a list of events that only grows. The events of one item make its state by these rules:

- An annotator holds one answer for an item, the newest: a label or a skip. `withdraw` takes the answer back.
- **labeled**: all annotators who hold a label hold the same one. The item's weight is the sum of their weights: each
  label is evidence, and none is counted twice or lost.
- **disputed**: annotators hold different labels. No round offers the item until they agree. The item trains nothing,
  unless votes count (`update.disputed`): then every label has its share of the weights.
- **skipped**: nobody holds a label, and somebody holds a skip.
- **leased**: nobody holds an answer, and a round asked for the item and has not released it.
- **unlabeled**: everything else, and every item that has no event.
- A label counts whether its item was leased or not, and whenever it comes.
- A call that says nothing new adds no event: the same label and weight by the same annotator, a lease that is open in
  that round, a release of an item that is not leased, a withdrawal of nothing. So any call may be repeated after a
  crash.

An item's state depends only on the order in which each annotator answered about it. It does not depend on how labels
were split into calls, or on how the annotators took turns. Memory grows with the number of items that have events, and
by 16 bytes for each event, never with the pool.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from operator import index
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from raysal.errors import Damaged, LabelError, RunError
from raysal.labels.events import RESTORE, EventLog, PendingEvent
from raysal.labels.items import ItemState, Transaction, apply_events
from raysal.labels.records import STATES, Changes, Labelled, State, TellCounts, checked
from raysal.labels.spelling import annotator_text
from raysal.types import SKIP, Label

_RENAME = "withdraw these labels, then give the class another name"


def _sorted_ids(ids: Iterable[int]) -> NDArray[np.int64]:
    return np.array(sorted(ids), np.int64)


class Ledger:
    """An open ledger.

    One thread uses it at a time; other threads and processes open their own. Every call except `close` first reads the
    events that others have committed.
    """

    def __init__(self, path: str | Path, *, create: bool = True) -> None:
        """Open the ledger at `path`, read all of it and check it.

        Args:
            path: the file.
            create: make an empty ledger if there is no file.

        Raises:
            Damaged: the file is missing and `create` is false, or it was altered or cut.
            RunError: the file cannot be opened or made.
        """
        self.path = Path(path)
        self._items: dict[int, ItemState] = {}
        self._texts: Counter[str] = Counter()
        self._ids: dict[str, int] = {}
        # Two entries for each event, at place seq - 1: the id of its item, and the number of the item's event before
        # it, or 0. From an item's last event they lead back through its history, so no other event must be read.
        self._item_of, self._previous = array("q"), array("q")
        self._log = EventLog(self.path, create=create)
        try:
            self._catch_up()
        except BaseException:
            self._log.close()
            raise

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._log.close()

    def lease(self, round: int, ids: Sequence[int] | NDArray[np.int64], keys: Sequence[str]) -> None:
        """Record that a round asked for these items. An item that this round has leased already stays leased.

        Args:
            round: number of the round, from 0.
            ids: int64 [n], in the order in which annotators shall see them.
            keys: the items' keys [n].

        Raises:
            RunError: the ledger knows an id with another key, or a key with another id.
        """
        pairs = [(index(id), key) for id, key in zip(ids, keys, strict=True)]

        def decide(transaction: Transaction) -> None:
            for id, key in pairs:
                item = transaction.find_or_add(id, key, RunError)
                if not (item.lease_seq and item.round == round):
                    transaction.add(PendingEvent(id, key, "leased", round=index(round)))

        self._commit(decide)

    def release(self, ids: Sequence[int] | NDArray[np.int64]) -> None:
        """End the open leases of these items. Rounds may offer those without an answer again.

        Args:
            ids: int64 [n]. Items without an open lease stay as they are.
        """

        def decide(transaction: Transaction) -> None:
            for id in map(index, ids):
                item = transaction.find(id)
                if item is not None and item.lease_seq:
                    transaction.add(PendingEvent(id, item.key, "released", round=item.round))

        self._commit(decide)

    def tell(
        self,
        labels: Sequence[tuple[int, Label]],
        round: int | None = None,
        *,
        withdrawn: Sequence[tuple[int, str]] = (),
    ) -> TellCounts:
        """Record labels; all of them, or none if one cannot be accepted.

        Labels may be partial, late, repeated, or for items that no round leased.

        Args:
            labels: (id, label) pairs, in the order in which they were given. The text `SKIP` is a skip.
            round: number of a round to note with the labels. It has no effect.
            withdrawn: (id, annotator) pairs, whose answers are taken back.

        Returns:
            How many labels were new, repeated or corrected, and how many of the items are disputed now.

        Raises:
            LabelError: a key or label is empty, a weight is not a finite number above 0, the ledger knows an id with
                another key, or it has labels with the text `SKIP`, of a time when this was a class like any other.
        """
        entries = [(index(id), checked(label)) for id, label in labels]
        taken_back = [(index(id), annotator_text("annotator", annotator)) for id, annotator in withdrawn]
        counts = {"new": 0, "repeated": 0, "corrected": 0, "skipped": 0, "withdrawn": 0}
        disputed = 0

        def decide(transaction: Transaction) -> None:
            nonlocal disputed
            if self._texts[SKIP] and any(label.label == SKIP for _, label in entries):
                raise LabelError(SKIP, "is a class of this run, and now says that an item was skipped", _RENAME)
            for id, label in entries:
                counts[transaction.tell(id, label, round)] += 1
            counts["withdrawn"] = sum(transaction.take_back(id, annotator) for id, annotator in taken_back)
            items = [transaction.find_or_add(id, label.key, LabelError) for id, label in dict(entries).items()]
            disputed = sum(item.state() == "disputed" for item in items)

        self._commit(decide)
        return TellCounts(**counts, disputed=disputed)

    def skip(self, id: int, key: str, annotator: str = "") -> bool:
        """Record that an annotator will not label an item. This replaces the annotator's label, if there is one.

        Args:
            id: the item's id.
            key: the item's key.
            annotator: the annotator's name.

        Returns:
            True if this is new, false if the annotator had skipped the item already.

        Raises:
            LabelError: the ledger knows the id with another key.
        """
        return self.tell([(id, Label(key=key, label=SKIP, annotator=annotator))]).skipped > 0

    def withdraw(self, id: int, annotator: str = "") -> bool:
        """Take back an annotator's label or skip of an item.

        Args:
            id: the item's id.
            annotator: the annotator's name.

        Returns:
            True if there was a label or skip to take back.
        """
        return self.tell([], withdrawn=[(id, annotator)]).withdrawn > 0

    @property
    def head_seq(self) -> int:
        """Number of the last event; 0 if there is none."""
        self._catch_up()
        return self._log.tip

    def labels(
        self, upto: int | None = None, ids: NDArray[np.int64] | None = None, *, votes: bool = False
    ) -> list[Labelled]:
        """The training set: the labeled items, in order of id.

        Args:
            upto: number of an event; the items as they were after it. None for now.
            ids: int64 [n]; only these items. None for all.
            votes: add the disputed items, with shares.

        Returns:
            One record for each item that trains.

        Raises:
            Damaged: the ledger ends before `upto`, so it is older than the record that names this event.
        """
        self._catch_up()
        items = self._items
        if upto is not None and self._check_reached(upto) != self._log.tip:
            seqs = range(1, upto + 1) if ids is None else self._history(ids.tolist(), upto)
            items = apply_events({}, self._log.events(seqs))
        asked = items if ids is None else [id for id in ids.tolist() if id in items]
        return [item for id in sorted(asked) if (item := items[id].labelled(id, votes)) is not None]

    def answers(self, *, skips: bool = False) -> list[Label]:
        """The current label of every annotator for every item, also where they disagree.

        To tell these labels to the ledger again adds no event.

        Args:
            skips: add the skips, as labels with the text `SKIP`.

        Returns:
            The labels in order of id, then annotator.
        """
        self._catch_up()
        return [
            Label(key=item.key, label=SKIP, annotator=annotator)
            if text is None
            else Label(key=item.key, label=text, annotator=annotator, weight=weight)
            for _, item in sorted(self._items.items())
            for annotator, (text, weight) in sorted(item.answers.items())
            if skips or text is not None
        ]

    @property
    def texts(self) -> set[str]:
        """The distinct texts of all current labels, also of disputed ones."""
        self._catch_up()
        return {text for text, count in self._texts.items() if count}

    def changed_since(self, seq: int, upto: int | None = None, *, votes: bool = False) -> Changes:
        """How the training set differs between two points of the ledger.

        It reads the history of the items that have an event between the two points, and nothing else.

        Args:
            seq: number of the event that is the first point.
            upto: number of the event that is the second point. None for now.
            votes: disputed items train, with shares.

        Returns:
            The ids of the items that differ, by kind of change. It is false if nothing differs.

        Raises:
            Damaged: the ledger ends before `seq` or `upto`.
        """
        self._catch_up()
        end = self._log.tip if upto is None else self._check_reached(upto)
        touched = set(self._item_of[self._check_reached(seq) : end])
        events = list(self._log.events(self._history(touched, end)))
        before = apply_events({}, (event for event in events if event.seq <= seq))
        found: dict[str, list[int]] = {"new": [], "corrected": [], "lost": [], "reweighted": []}
        for id, item in apply_events({}, events).items():
            now, then = item.training_label(votes), before[id].training_label(votes) if id in before else None
            if now == then:
                continue
            if now is None or then is None:
                found["lost" if now is None else "new"].append(id)
            else:
                same = (now.label, now.shares) == (then.label, then.shares)
                found["reweighted" if same else "corrected"].append(id)
        return Changes(**{name: _sorted_ids(ids) for name, ids in found.items()})

    def excluded(self) -> NDArray[np.int64]:
        """Ids of the items that no round may offer, sorted: the leased, labeled, skipped and disputed ones."""
        self._catch_up()
        return _sorted_ids(id for id, item in self._items.items() if item.state() != "unlabeled")

    def state(self, id: int) -> State:
        """The state of one item; unlabeled if it has no event."""
        self._catch_up()
        item = self._items.get(index(id))
        return "unlabeled" if item is None else item.state()

    def counts(self) -> dict[State, int]:
        """How many items are in each of the five states.

        Returns:
            The counts, zeros included. Unlabeled counts only items that have events: the ledger does not know the pool.
        """
        self._catch_up()
        counts = dict.fromkeys(STATES, 0)
        for item in self._items.values():
            counts[item.state()] += 1
        return counts

    def outstanding(self, round: int | None = None) -> list[tuple[int, str]]:
        """The leased items that nobody has answered, in the order in which they were leased.

        Args:
            round: only what this round leased. None for all rounds.

        Returns:
            (id, key) pairs.
        """
        self._catch_up()
        found = [
            (item.lease_seq, id, item.key)
            for id, item in self._items.items()
            if item.state() == "leased" and round in (None, item.round)
        ]
        return [(id, key) for _, id, key in sorted(found)]

    @property
    def last_round(self) -> int | None:
        """The last round that leased anything; None if no round did."""
        self._catch_up()
        return max((item.round for item in self._items.values() if item.round is not None), default=None)

    def key_ids(self, keys: Iterable[str]) -> dict[str, int]:
        """The ids of those among `keys` that have events."""
        self._catch_up()
        return {key: self._ids[key] for key in keys if key in self._ids}

    def _history(self, ids: Iterable[int], upto: int) -> list[int]:
        """The numbers of all events of these items, up to `upto`."""
        found = []
        for item in filter(None, map(self._items.get, ids)):
            seq = item.last_seq
            while seq:
                if seq <= upto:
                    found.append(seq)
                seq = self._previous[seq - 1]
        return found

    def _check_reached(self, seq: int) -> int:
        """The number `seq`, if the ledger has an event of that number."""
        if seq > self._log.tip:
            raise Damaged(self.path, f"it ends at event {self._log.tip}, but event {seq} is needed", RESTORE)
        return seq

    def _catch_up(self) -> None:
        """Read the events that were committed since the last call."""
        try:
            with closing(self._log.read_new()) as events:
                for event in events:
                    item = self._items.get(event.id)
                    self._item_of.append(event.id)
                    self._previous.append(0 if item is None else item.last_seq)
                    if event.kind not in ("leased", "released"):
                        replaced = None if item is None else item.text_of(event.annotator or "")
                        self._texts.update({replaced: -1} if replaced is not None else {})
                        self._texts.update({event.label: 1} if event.label is not None else {})
                    apply_events(self._items, [event])
                    self._ids[event.key] = event.id
        except BaseException:  # an event may be half applied: let the next call read all events again
            self._items.clear()
            self._texts.clear()
            self._ids.clear()
            del self._item_of[:], self._previous[:]
            self._log.rewind()
            raise

    def _commit(self, decide: Callable[[Transaction], None]) -> int:
        """Let `decide` add events to a transaction, commit them, then read them back; returns their number."""
        with self._log.writing():
            self._catch_up()
            transaction = Transaction(self._items, self._ids)
            decide(transaction)
            self._log.append(transaction.pending)
        self._catch_up()
        return len(transaction.pending)
