"""The ledger: who was asked for what, and what they answered. The only truth about labels; it only ever
grows.

Rules, by which the events of one item make its state:

- An annotator's newest answer counts, a label or a skip. `withdraw` takes the answer back.
- **labeled**: all who hold a label hold the same one. Its weight is the sum of theirs: each is evidence, and
  none is counted twice or lost. **disputed**: they do not; the item is not offered until they agree, and
  trains nothing, unless votes count (`update.disputed`): then every answer has its share of the weights.
- **skipped**: nobody holds a label, and somebody skipped.
- **leased**: nobody holds an answer, and a round asked for the item and has not released it.
- **unlabeled**: everything else, and every item the ledger has never seen.
- A label counts whether or not its item was leased, and whenever it comes.
- Saying the same thing again is no event: the same label and weight by the same annotator, a lease that is
  open in that round, a release of what is not leased, a withdrawal of nothing. So any call may be repeated
  after a crash.

The answers depend only on the order in which each annotator answered about each item, not on how labels were
split into calls or how annotators were interleaved. Memory grows with the items the ledger has seen and by 16
bytes for each event, never with the pool.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from operator import index
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from raysal.errors import Damaged, LabelError, RunError
from raysal.labels.events import RESTORE, Draft, EventLog
from raysal.labels.items import ItemState, Scratch, fold
from raysal.labels.records import STATES, Changes, Labelled, State, Told, checked, checked_text
from raysal.types import Label


def _sorted_ids(ids: Iterable[int]) -> NDArray[np.int64]:
    return np.array(sorted(ids), np.int64)


class Ledger:
    """An open ledger. One thread at a time; other threads and processes open their own and see what was
    committed.

    Every call but `close` reads what others appended meanwhile first.
    """

    def __init__(self, path: str | Path, *, create: bool = True) -> None:
        """Open the ledger at `path`, made if `create` and absent. Reads and checks all of it.

        Raises:
            Damaged: it is missing and may not be made, or was altered or cut.
            RunError: it cannot be opened or made.
        """
        self.path = Path(path)
        self._items: dict[int, ItemState] = {}
        self._ids: dict[str, int] = {}
        # By seq - 1: the item of each event, and the event that this item had before, or 0. With the newest event of
        # each item they lead through its history, and nothing else need be read.
        self._item_of, self._before = array("q"), array("q")
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
        self._log.close()

    def lease(self, round: int, ids: Sequence[int] | NDArray[np.int64], keys: Sequence[str]) -> None:
        """Record that `round` asked for these items, in this order. What is leased in that round already
        stays so.

        Raises:
            RunError: an id or key is known to the ledger with another partner.
        """
        pairs = [(index(id), key) for id, key in zip(ids, keys, strict=True)]

        def propose(scratch: Scratch) -> None:
            for id, key in pairs:
                item = scratch.item(id, key, RunError)
                if not (item.leased and item.round == round):
                    scratch.add(Draft(id, key, "leased", round=index(round)))

        self._record(propose)

    def release(self, ids: Sequence[int] | NDArray[np.int64]) -> None:
        """Give up the open leases among `ids`; items without an answer may be offered again."""

        def propose(scratch: Scratch) -> None:
            for id in map(index, ids):
                item = scratch.known(id)
                if item is not None and item.leased:
                    scratch.add(Draft(id, item.key, "released", round=item.round))

        self._record(propose)

    def tell(self, labels: Sequence[tuple[int, Label]], round: int | None = None) -> Told:
        """Record labels with their items' ids, in order; all of them or, when one cannot be accepted, none.

        `round` is noted and has no effect. Labels may be partial, late, repeated, or for items never leased.

        Raises:
            LabelError: a key or label is empty, a weight is not finite and above 0, or an id is known by
                another key.
        """
        entries = [(index(id), checked(label)) for id, label in labels]
        counts = {"new": 0, "repeated": 0, "corrected": 0}
        disputed = 0

        def propose(scratch: Scratch) -> None:
            nonlocal disputed
            for id, label in entries:
                item = scratch.item(id, label.key, LabelError)
                held = item.answers.get(label.annotator)
                if held == (label.label, label.weight):
                    counts["repeated"] += 1
                    continue
                counts["new" if held is None or held[0] is None else "corrected"] += 1
                scratch.add(Draft(id, label.key, "labeled", label.label, label.annotator, label.weight, round))
            items = [scratch.item(id, label.key, LabelError) for id, label in dict(entries).items()]
            disputed = sum(item.state() == "disputed" for item in items)

        self._record(propose)
        return Told(**counts, disputed=disputed)

    def skip(self, id: int, key: str, annotator: str = "") -> bool:
        """Record that the annotator will not label the item; replaces a label of theirs. True if that is
        news.

        Raises:
            LabelError: the id is known by another key.
        """
        id, annotator = index(id), checked_text("annotator", annotator).strip()

        def propose(scratch: Scratch) -> None:
            held = scratch.item(id, key, LabelError).answers.get(annotator)
            if held is None or held[0] is not None:
                scratch.add(Draft(id, key, "skipped", annotator=annotator))

        return self._record(propose) > 0

    def withdraw(self, id: int, annotator: str = "") -> bool:
        """Take back the annotator's label or skip of an item. True if there was one."""
        id, annotator = index(id), checked_text("annotator", annotator).strip()

        def propose(scratch: Scratch) -> None:
            item = scratch.known(id)
            if item is not None and annotator in item.answers:
                scratch.add(Draft(id, item.key, "withdrawn", annotator=annotator))

        return self._record(propose) > 0

    @property
    def head_seq(self) -> int:
        """The seq of the last event; 0 if there is none."""
        self._catch_up()
        return self._log.tip

    def labels(
        self, upto: int | None = None, ids: NDArray[np.int64] | None = None, *, votes: bool = False
    ) -> list[Labelled]:
        """The items all agree on, by id; as they stood at event `upto`, if given; of `ids` alone, if given.
        `votes` adds the disputed ones, with shares.

        Raises:
            Damaged: the ledger ends before `upto`, so it is older than what refers to it.
        """
        self._catch_up()
        items = self._items
        if upto is not None and self._seen(upto) != self._log.tip:
            seqs = range(1, upto + 1) if ids is None else self._history(ids.tolist(), upto)
            items = fold({}, self._log.events(seqs))
        asked = items if ids is None else [id for id in ids.tolist() if id in items]
        found = [(id, item, counted) for id in sorted(asked) if (counted := (item := items[id]).counted(votes))]
        return [
            Labelled(id=id, key=item.key, seq=item.decided, round=item.round, **counted._asdict())
            for id, item, counted in found
        ]

    def answers(self) -> list[Label]:
        """The label each annotator holds now, by id and then annotator; also where they disagree.

        Skips are no labels. Telling these to the ledger again is no event.
        """
        self._catch_up()
        return [
            Label(key=item.key, label=text, annotator=annotator, weight=weight)
            for _, item in sorted(self._items.items())
            for annotator, (text, weight) in sorted(item.answers.items())
            if text is not None
        ]

    def changed_since(self, seq: int, upto: int | None = None, *, votes: bool = False) -> Changes:
        """How the training set differs between event `seq` and now, or event `upto`. False if it does not. With `votes`
        disputed items are in it. It reads the history of the items that have an event in between, and nothing else.

        Raises:
            Damaged: the ledger ends before `seq` or `upto`.
        """
        self._catch_up()
        end = self._log.tip if upto is None else self._seen(upto)
        touched = set(self._item_of[self._seen(seq) : end])
        events = list(self._log.events(self._history(touched, end)))
        before = fold({}, (event for event in events if event.seq <= seq))
        found: dict[str, list[int]] = {"new": [], "corrected": [], "lost": [], "reweighted": []}
        for id, item in fold({}, events).items():
            now, then = item.counted(votes), before[id].counted(votes) if id in before else None
            if now == then:
                continue
            if now is None or then is None:
                found["lost" if now is None else "new"].append(id)
            else:
                same = (now.label, now.shares) == (then.label, then.shares)
                found["reweighted" if same else "corrected"].append(id)
        return Changes(**{name: _sorted_ids(ids) for name, ids in found.items()})

    def excluded(self) -> NDArray[np.int64]:
        """Ids that must not be offered, sorted: leased, labeled, skipped or disputed."""
        self._catch_up()
        return _sorted_ids(id for id, item in self._items.items() if item.state() != "unlabeled")

    def state(self, id: int) -> State:
        """The state of one item; unlabeled if the ledger never saw it."""
        self._catch_up()
        item = self._items.get(index(id))
        return "unlabeled" if item is None else item.state()

    def counts(self) -> dict[State, int]:
        """Items by state, all five named. Unlabeled counts those the ledger has seen; the pool has the
        others."""
        self._catch_up()
        counts = dict.fromkeys(STATES, 0)
        for item in self._items.values():
            counts[item.state()] += 1
        return counts

    def outstanding(self, round: int | None = None) -> list[tuple[int, str]]:
        """(id, key) of the items leased and not answered, of one round if given, in the order they were
        leased."""
        self._catch_up()
        found = [
            (item.leased, id, item.key)
            for id, item in self._items.items()
            if item.state() == "leased" and round in (None, item.round)
        ]
        return [(id, key) for _, id, key in sorted(found)]

    @property
    def last_round(self) -> int | None:
        """The newest round that leased anything; None if none did."""
        self._catch_up()
        return max((item.round for item in self._items.values() if item.round is not None), default=None)

    def key_ids(self, keys: Iterable[str]) -> dict[str, int]:
        """The ids of those among `keys` that the ledger has seen."""
        self._catch_up()
        return {key: self._ids[key] for key in keys if key in self._ids}

    def _history(self, ids: Iterable[int], upto: int) -> list[int]:
        """The seqs of all events of these items, up to `upto`."""
        found = []
        for item in filter(None, map(self._items.get, ids)):
            seq = item.newest
            while seq:
                if seq <= upto:
                    found.append(seq)
                seq = self._before[seq - 1]
        return found

    def _seen(self, seq: int) -> int:
        if seq > self._log.tip:
            raise Damaged(self.path, f"it ends at event {self._log.tip}, event {seq} was asked for", RESTORE)
        return seq

    def _catch_up(self) -> None:
        try:
            with closing(self._log.new()) as events:
                for event in events:
                    item = self._items.get(event.id)
                    self._item_of.append(event.id)
                    self._before.append(0 if item is None else item.newest)
                    fold(self._items, [event])
                    self._ids[event.key] = event.id
        except BaseException:  # an event may be half taken over: let the next call read all of them again
            self._items.clear()
            self._ids.clear()
            del self._item_of[:], self._before[:]
            self._log.rewind()
            raise

    def _record(self, propose: Callable[[Scratch], None]) -> int:
        """Let `propose` decide on a copy, commit what it decided, and only then take it over; returns the
        events."""
        with self._log.writing():
            self._catch_up()
            scratch = Scratch(self._items, self._ids)
            propose(scratch)
            self._log.append(scratch.drafts)
        self._catch_up()
        return len(scratch.drafts)
