"""What all events of a ledger make: its items by key, the ids that they have now, and where each item's events are."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping

from raysal.labels.events import Event
from raysal.labels.items import ItemState, apply_events


class LedgerState:
    """The items that have events, and the pool that their ids are of."""

    def __init__(self) -> None:
        self.items: dict[str, ItemState] = {}
        """By key, in the order in which the ledger met them."""
        self.keys: dict[int, str] = {}
        """The key of each id. An item that is not in the pool has none."""
        self.pool: str | None = None
        """Fingerprint of the pool that the ids are of; None before the ledger is bound to one."""
        self.pools: dict[str, None] = {}
        """Fingerprints of every pool that the ledger was ever bound to, in order."""
        self.texts: Counter[str] = Counter()
        """How many answers have each text of a label. A text that nobody holds any more may be left with 0."""
        self.head_seq = 0
        """Number of the last event that says something new. To be bound to a first pool does not: nothing moves."""
        # Two entries for each event, at place seq - 1: the key of its item, and the number of the item's event before
        # it, or 0. From an item's last event they lead back through its history, so no other event must be read.
        self._key_of: list[str | None] = []
        self._previous = array("q")

    def apply(self, event: Event) -> None:
        """Take in the next event."""
        if event.kind == "bound":
            first, self.pool = self.pool is None, event.key
            self.pools[event.key] = None
            self._key_of.append(None)
            self._previous.append(0)
            self.head_seq = self.head_seq if first else event.seq
            return
        item = self.items.get(event.key)
        self._key_of.append(event.key if item is None else item.key)  # one text in memory for all events of an item
        self._previous.append(0 if item is None else item.last_seq)
        if event.kind == "moved" and item is not None and item.id is not None and self.keys.get(item.id) == item.key:
            del self.keys[item.id]
        if event.kind in ("labeled", "skipped", "withdrawn"):
            replaced = None if item is None else item.text_of(event.annotator or "")
            self.texts.update({replaced: -1} if replaced is not None else {})
            self.texts.update({event.label: 1} if event.label is not None else {})
        apply_events(self.items, [event])
        if event.id is not None:
            self.keys[event.id] = event.key
        self.head_seq = event.seq

    def move_all(self, pool: str, ids: Mapping[str, int]) -> None:
        """Give each item the id that it has in another pool, in memory alone; none if the pool does not have it."""
        for item in self.items.values():
            item.id = ids.get(item.key)
        self.pool, self.keys = pool, {item.id: item.key for item in self.items.values() if item.id is not None}

    def touched(self, after: int, upto: int) -> set[str]:
        """The keys of the items that have an event with a number above `after`, and up to `upto`."""
        return {key for key in self._key_of[after:upto] if key is not None}

    def history(self, keys: Iterable[str], upto: int) -> list[int]:
        """The numbers of all events of these items, up to `upto`."""
        found = []
        for item in filter(None, map(self.items.get, keys)):
            seq = item.last_seq
            while seq:
                if seq <= upto:
                    found.append(seq)
                seq = self._previous[seq - 1]
        return found

    def present(self) -> Iterable[tuple[int, ItemState]]:
        """The items that the pool has, by id, in the order in which the ledger met them."""
        return ((item.id, item) for item in self.items.values() if item.id is not None)

    def absent(self) -> list[ItemState]:
        """The items that hold an answer, and that the pool does not have."""
        return [item for item in self.items.values() if item.id is None and item.answers]
