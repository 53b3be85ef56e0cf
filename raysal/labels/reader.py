"""What a ledger says: an open ledger that is only read. `raysal.labels.ledger` has the rules, and what writes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import closing
from operator import index
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from raysal.errors import Damaged, FingerprintMismatch
from raysal.labels.events import RESTORE, EventLog
from raysal.labels.items import apply_events
from raysal.labels.records import STATES, Changes, Labelled, Said, State
from raysal.labels.state import LedgerState
from raysal.threads import one_at_a_time
from raysal.types import SKIP, Label

OTHER_POOL = (
    "name the run's own pool (`raysal resume RUN --pool POOL`), or match its labels with this one by key "
    "(add --rebind, which `label import` has, too; Python: rebind=True)"
)
"""What an error says to do where the labels are of another pool."""


def _sorted_ids(ids: Iterable[int]) -> NDArray[np.int64]:
    return np.array(sorted(ids), np.int64)


@one_at_a_time
class LedgerReader:
    """An open ledger, without what writes.

    Threads may share it; other processes open their own. Every call except `close` first reads the events that others
    have committed. It raises FingerprintMismatch if the ledger is bound to another pool than this handle was told.
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
        self._state, self._expected, self._is_view = LedgerState(), "", False
        self._log = EventLog(self.path, create=create)
        try:
            self._catch_up()
        except BaseException:
            self._log.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._log.close()

    @property
    def pool(self) -> str | None:
        """Fingerprint of the pool that the ids are of; None before the ledger is bound to one."""
        self._catch_up()
        return self._state.pool

    @property
    def pools(self) -> tuple[str, ...]:
        """Fingerprints of every pool that the ledger was ever bound to: their keys are those of `pool`."""
        self._catch_up()
        return tuple(self._state.pools)

    def expect(self, pool: str) -> None:
        """Refuse from now on what concerns another pool than this one. Writes nothing.

        Args:
            pool: the fingerprint of the pool that the caller's ids are of.

        Raises:
            FingerprintMismatch: the ledger is bound to another pool.
        """
        self._expected = pool
        self._catch_up()

    def view_as_in(self, pool: str, ids: Mapping[str, int]) -> None:
        """Say from now on what the ledger would say if it was bound to another pool.

        Nothing is written: this handle cannot write any more, and sees no events that others add from now on.

        Args:
            pool: the other pool's fingerprint.
            ids: {key: id} of the items that the other pool has.
        """
        self._catch_up()
        self._state.move_all(pool, ids)
        self._is_view = True

    def known_ids(self) -> dict[str, int | None]:
        """The id of every item that has events, by key, in the order in which the ledger met them.

        Returns:
            {key: id}; None for an item that the pool does not have.
        """
        self._catch_up()
        return {item.key: item.id for item in self._state.items.values()}

    @property
    def head_seq(self) -> int:
        """Number of the last event that says something new; 0 if there is none.

        The event that first binds the ledger to a pool does not, because no label and no id changes.
        """
        self._catch_up()
        return self._state.head_seq

    def labels(
        self, upto: int | None = None, ids: NDArray[np.int64] | None = None, *, votes: bool = False
    ) -> list[Labelled]:
        """The training set: the labeled items that the pool has, in order of id.

        Args:
            upto: number of an event; the labels as they were after it, of the items that the pool has now, with the ids
                of now. None for now.
            ids: int64 [n]; only these items. None for all.
            votes: add the disputed items, with shares.

        Returns:
            One record for each item that trains.

        Raises:
            Damaged: the ledger ends before `upto`, so it is older than the record that names this event.
        """
        self._catch_up()
        state = self._state
        asked = sorted(state.keys if ids is None else {id for id in ids.tolist() if id in state.keys})
        keys, then = [state.keys[id] for id in asked], state.items
        if upto is not None and self._check_reached(upto) < state.head_seq:
            seqs = range(1, upto + 1) if ids is None else state.history(keys, upto)
            then = apply_events({}, self._log.events(seqs))
        pairs = ((id, then[key]) for id, key in zip(asked, keys, strict=True) if key in then)
        return [label for id, item in pairs if (label := item.labelled(id, votes)) is not None]

    def answers(self, *, skips: bool = False) -> list[Label]:
        """The current label of every annotator for every item, absent ones included, also where they disagree.

        To tell these labels to the ledger again adds no event.

        Args:
            skips: add the skips, as labels with the text `SKIP`.

        Returns:
            The labels in order of id, then annotator; absent items come last, in order of key.
        """
        self._catch_up()
        items = sorted(self._state.items.values(), key=lambda item: (item.id is None, item.id or 0, item.key))
        return [
            Label(key=item.key, label=SKIP, annotator=annotator)
            if text is None
            else Label(key=item.key, label=text, annotator=annotator, weight=weight)
            for item in items
            for annotator, (text, weight) in sorted(item.answers.items())
            if skips or text is not None
        ]

    @property
    def texts(self) -> set[str]:
        """The distinct texts of all current labels, also of disputed ones."""
        self._catch_up()
        return {text for text, count in self._state.texts.items() if count}

    @property
    def texts_in_order(self) -> list[str]:
        """The texts of all labels that were ever told, the first first, up to the last that is still a current label.

        What others add or take back later moves none of them.
        """
        self._catch_up()
        texts = [*self._state.texts]
        while texts and not self._state.texts[texts[-1]]:
            texts.pop()
        return texts

    def changed_since(self, seq: int, upto: int | None = None, *, votes: bool = False) -> Changes:
        """How the training set differs between two points of the ledger, for the items that the pool has now.

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
        state = self._state
        end = self._log.tip if upto is None else self._check_reached(upto)
        touched = state.touched(self._check_reached(seq), end)
        events = list(self._log.events(state.history(touched, end)))
        before = apply_events({}, (event for event in events if event.seq <= seq))
        found: dict[str, list[int]] = {"new": [], "corrected": [], "lost": [], "reweighted": []}
        for key, item in apply_events({}, events).items():
            now, then = item.training_label(votes), before[key].training_label(votes) if key in before else None
            id = state.items[key].id
            if now == then or id is None:
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
        return _sorted_ids(id for id, item in self._state.present() if item.state() != "unlabeled")

    def taken(self, people: int) -> NDArray[np.int64]:
        """The `excluded` items, sorted, but for those that somebody answered, and fewer people than so many."""
        self._catch_up()
        return _sorted_ids(
            id
            for id, item in self._state.present()
            if item.state() != "unlabeled" and not 0 < len(item.answers) < people
        )

    def drawn(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these items a round leased as test draws, of whichever pool it was chosen, bool [n]."""
        self._catch_up()
        items = (self._state.items.get(self._state.keys.get(id, "")) for id in ids.tolist())
        return np.array([item is not None and item.test for item in items], bool)

    def asked(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these items are examples, or a round ever asked for, of whichever pool it was chosen, bool [n]."""
        self._catch_up()
        items = (self._state.items.get(self._state.keys.get(id, "")) for id in ids.tolist())
        return np.array([item is not None and item.round is not None for item in items], bool)

    def state(self, id: int) -> State:
        """The state of the item with this id; unlabeled if it has no event."""
        self._catch_up()
        key = self._state.keys.get(index(id))
        return "unlabeled" if key is None else self._state.items[key].state()

    def states(self) -> dict[int, State]:
        """The state of every item that has events, and that the pool has, by id; all others are unlabeled."""
        self._catch_up()
        return {id: item.state() for id, item in self._state.present()}

    def said(self, keys: Iterable[str]) -> dict[str, Said]:
        """What is known of some items. O(1) for each, whatever else the ledger holds.

        Args:
            keys: keys of items, with events or not.

        Returns:
            {key: what annotators hold, and its state} of those that have events, in the order of `keys`.
        """
        self._catch_up()
        items = ((key, self._state.items.get(key)) for key in keys)
        return {
            key: Said(
                state=item.state(),
                answers={who: SKIP if text is None else text for who, (text, _) in item.answers.items()},
                weights={who: weight for who, (text, weight) in item.answers.items() if text is not None},
                round=item.round,
            )
            for key, item in items
            if item is not None
        }

    def answerers(self, keys: Iterable[str]) -> dict[str, Collection[str]]:
        """Who holds an answer, a label or a skip, of items: {key: annotators}, of those that have any."""
        self._catch_up()
        items = self._state.items
        return {key: items[key].answers.keys() for key in keys if key in items and items[key].answers}

    def counts(self) -> dict[State, int]:
        """How many items that the pool has are in each of the five states.

        Returns:
            The counts, zeros included. Unlabeled counts only items that have events: the ledger does not know the pool.
        """
        self._catch_up()
        counts = dict.fromkeys(STATES, 0)
        for _, item in self._state.present():
            counts[item.state()] += 1
        return counts

    def absent(self) -> list[str]:
        """The keys of the items that hold an answer, and that the pool does not have."""
        self._catch_up()
        return [item.key for item in self._state.absent()]

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
            for id, item in self._state.present()
            if item.state() == "leased" and round in (None, item.round)
        ]
        return [(id, key) for _, id, key in sorted(found)]

    @property
    def last_round(self) -> int | None:
        """The last round that leased anything; None if no round did."""
        self._catch_up()
        return max((item.round for item in self._state.items.values() if item.round is not None), default=None)

    def key_ids(self, keys: Iterable[str]) -> dict[str, int]:
        """The ids of those among `keys` that have events, and that the pool has."""
        self._catch_up()
        items = self._state.items
        return {key: id for key in keys if key in items and (id := items[key].id) is not None}

    def unknown(self, keys: Iterable[str]) -> list[str]:
        """Those among `keys` that have no event, each once."""
        self._catch_up()
        return [key for key in dict.fromkeys(keys) if key not in self._state.items]

    def _check_reached(self, seq: int) -> int:
        """The number `seq`, if the ledger has an event of that number."""
        if seq > self._log.tip:
            raise Damaged(self.path, f"it ends at event {self._log.tip}, but event {seq} is needed", RESTORE)
        return seq

    def _catch_up(self) -> None:
        """Read the events that were committed since the last call."""
        if self._is_view:
            return
        try:
            with closing(self._log.read_new()) as events:
                for event in events:
                    self._state.apply(event)
        except BaseException:  # an event may be half applied: let the next call read all events again
            self._state = LedgerState()
            self._log.rewind()
            raise
        bound = self._state.pool
        if self._expected and bound is not None and bound != self._expected:
            raise FingerprintMismatch(self.path, "the pool's fingerprint", bound, self._expected, OTHER_POOL)
