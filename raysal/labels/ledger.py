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
- An item that a round leased as a **test draw** is one for good. It measures, and never trains
  (`raysal.rounds.training_labels`).
- A label counts whether its item was leased or not, and whenever it comes.
- The ledger knows an item by its key. Its id is the number that the item has in one pool: the one that the ledger is
  **bound** to, by its fingerprint. When the ledger is bound to another pool, each item that has another id there is
  **moved**. An item that the pool does not have is absent: its answers are kept, and it is in no count, no training set
  and no list of ids until a pool has it again.
- A handle that was told its pool (`bind`, `expect`) refuses every call once the ledger is bound to another one, whoever
  did that. So no id of one pool is taken for an id of another.
- **Examples** are labels that a run begins with. Their items count as asked for, in a round before the first, and the
  lease is released at once.
- A call that says nothing new adds no event: the same label and weight by the same annotator, a lease that is open in
  that round, a release of an item that is not leased, a withdrawal of nothing. So any call may be repeated after a
  crash.

An item's state depends only on the order in which each annotator answered about it. It does not depend on how labels
were split into calls, or on how the annotators took turns. Memory grows with the number of items that have events, and
by 16 bytes for each event, never with the pool.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import index

import numpy as np
from numpy.typing import NDArray

from raysal.errors import LabelError, RunError
from raysal.labels.events import PendingEvent
from raysal.labels.items import TEST, Transaction
from raysal.labels.reader import LedgerReader
from raysal.labels.records import TellCounts, checked
from raysal.labels.spelling import annotator_text
from raysal.threads import one_at_a_time
from raysal.types import SKIP, Label

EXAMPLES_ROUND = -1
"""The round that is noted for examples: before the first."""
RENAME = "withdraw these labels, then give the class another name"
"""What an error says to do where `SKIP` is a class."""


@one_at_a_time
class Ledger(LedgerReader):
    """An open ledger. Threads may share it; other processes open their own."""

    def bind(self, pool: str) -> None:
        """Bind a ledger to the pool that its ids are of, if it is bound to none; and `expect` this pool.

        Args:
            pool: the pool's fingerprint.

        Raises:
            FingerprintMismatch: the ledger is bound to another pool.
        """
        self.expect(pool)
        if self._state.pool is None:
            self._commit(lambda transaction: self._add_bound(transaction, pool))

    def rebind(self, pool: str, find: Callable[[Sequence[str]], Mapping[str, int]]) -> int:
        """Bind the ledger to a pool, match its items with those of the pool by key, and `expect` this pool.

        In one transaction, so that nobody ever sees a part of it. To repeat it changes nothing.

        Args:
            pool: the pool's fingerprint.
            find: takes keys, and returns {key: id} of those that the pool has.

        Returns:
            How many items have another id now than before, or none.
        """
        expected, self._expected = self._expected, ""
        found: dict[str, int | None] = {}
        moved = 0

        def decide(transaction: Transaction) -> None:
            nonlocal moved
            if unsought := [key for key in self._state.items if key not in found]:
                raise _Unsought(unsought)
            moved = 0
            if self._state.pool != pool:
                for key, id in found.items():
                    item = transaction.find(key)
                    if item is not None and item.id != id:
                        item.id, moved = id, moved + 1
                        transaction.add("moved", item)
                self._add_bound(transaction, pool)

        unsought = list(self._state.items)
        try:
            while True:
                # The pool may be large, so it is read while others may write; what they add is looked up, too.
                found |= dict.fromkeys(unsought) | dict(find(unsought))
                try:
                    self._commit(decide)
                except _Unsought as more:
                    unsought = more.keys
                else:
                    expected = pool
                    return moved
        finally:
            self._expected = expected

    def lease(
        self,
        round: int,
        ids: Sequence[int] | NDArray[np.int64],
        keys: Sequence[str],
        tests: Sequence[bool] | NDArray[np.bool_] = (),
    ) -> None:
        """Record that a round asked for these items. An item that this round has leased already stays leased.

        Args:
            round: number of the round, from 0.
            ids: int64 [n], in the order in which annotators shall see them.
            keys: the items' keys [n].
            tests: [n] which of them are test draws; none unless given. An item that was one stays one for good.

        Raises:
            RunError: the ledger knows an id with another key, or a key with another id.
        """
        drawn = [bool(test) for test in tests] or [False] * len(keys)
        entries = [(index(id), key, test) for id, key, test in zip(ids, keys, drawn, strict=True)]

        def decide(transaction: Transaction) -> None:
            for id, key, test in entries:
                item = transaction.find_or_add(id, key, RunError)
                if not (item.lease_seq and item.round == round):
                    transaction.add("leased", item, round=index(round), label=TEST if test else None)

        self._commit(decide)

    def release(self, ids: Sequence[int] | NDArray[np.int64]) -> None:
        """End the open leases of these items. Rounds may offer those without an answer again.

        Args:
            ids: int64 [n]. Items without an open lease stay as they are.
        """

        def decide(transaction: Transaction) -> None:
            for key in filter(None, map(self._state.keys.get, map(index, ids))):
                item = transaction.find(key)
                if item is not None and item.lease_seq:
                    transaction.add("released", item, round=item.round)

        self._commit(decide)

    def tell(
        self,
        labels: Sequence[tuple[int | None, Label]],
        round: int | None = None,
        *,
        withdrawn: Sequence[tuple[str, str]] = (),
        examples: bool = False,
    ) -> TellCounts:
        """Record labels; all of them, or none if one cannot be accepted.

        Labels may be partial, late, repeated, or for items that no round leased.

        Args:
            labels: (id, label) pairs, in the order in which they were given. The id may be None for items that have
                events: the ledger knows these by key. The text `SKIP` is a skip.
            round: number of a round to note with the labels. It has no effect.
            withdrawn: (key, annotator) pairs, whose answers are taken back.
            examples: whether a run begins with these labels. Their items count as asked for (`asked`) from then on.

        Returns:
            How many labels were new, repeated or corrected, and how many of the items are disputed now.

        Raises:
            LabelError: a key or label is empty, a weight is not a finite number above 0, the ledger knows an id
                with another key, there is no id and no event, or a label is `SKIP` and the ledger has labels with this
                text, of a time when it was a class like any other.
        """
        entries = [(None if id is None else index(id), checked(label)) for id, label in labels]
        taken_back = [(key, annotator_text("annotator", annotator)) for key, annotator in withdrawn]
        counts = {"new": 0, "repeated": 0, "corrected": 0, "skipped": 0, "withdrawn": 0}
        disputed = 0

        def decide(transaction: Transaction) -> None:
            nonlocal disputed
            if self._state.texts[SKIP] and any(label.label == SKIP for _, label in entries):
                raise LabelError(SKIP, "is a class of this run, and now says that an item was skipped", RENAME)
            for id, label in entries:
                counts[transaction.tell(id, label, round)] += 1
            counts["withdrawn"] = sum(transaction.take_back(key, annotator) for key, annotator in taken_back)
            items = [transaction.find(key) for key in dict.fromkeys(label.key for _, label in entries)]
            for item in items if examples else ():
                if item is not None and item.round is None:
                    transaction.add("leased", item, round=EXAMPLES_ROUND)
                    transaction.add("released", item, round=EXAMPLES_ROUND)
            disputed = sum(item is not None and item.state() == "disputed" for item in items)

        self._commit(decide)
        return TellCounts(**counts, disputed=disputed)

    def skip(self, id: int | None, key: str, annotator: str = "") -> bool:
        """Record that an annotator will not label an item. This replaces the annotator's label, if there is one.

        Args:
            id: the item's id; it may be None for an item that has events.
            key: the item's key.
            annotator: the annotator's name.

        Returns:
            True if this is new, false if the annotator had skipped the item already.

        Raises:
            LabelError: the ledger knows the id with another key, or there is no id and no event.
        """
        return self.tell([(id, Label(key=key, label=SKIP, annotator=annotator))]).skipped > 0

    def withdraw(self, key: str, annotator: str = "") -> bool:
        """Take back an annotator's label or skip of an item.

        Args:
            key: the item's key.
            annotator: the annotator's name.

        Returns:
            True if there was a label or skip to take back.
        """
        return self.tell([], withdrawn=[(key, annotator)]).withdrawn > 0

    def _add_bound(self, transaction: Transaction, pool: str) -> None:
        if self._state.pool != pool:
            transaction.pending.append(PendingEvent(None, pool, "bound"))

    def _commit(self, decide: Callable[[Transaction], None]) -> int:
        """Let `decide` add events to a transaction, commit them, then read them back; returns their number."""
        if self._is_view:
            raise RunError(self.path, "was opened to look at, as in another pool", "open it again")
        with self._log.writing():
            self._catch_up()
            transaction = Transaction(self._state.items, self._state.keys)
            decide(transaction)
            self._log.append(transaction.pending)
        self._catch_up()
        return len(transaction.pending)


class _Unsought(Exception):
    """Somebody added items while others were looked up."""

    def __init__(self, keys: list[str]) -> None:
        super().__init__(keys)
        self.keys = keys
