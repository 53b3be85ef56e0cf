"""The desk: what annotators get, and what becomes of their answers. It knows nothing of HTTP.

Labels go into the ledger through a handle of the desk's own, so that no answer waits for the thread that follows the
labels (`raysal.web.follower`).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

from raysal.errors import RunError, UnknownItem
from raysal.labels.remarks import Remarks
from raysal.rounds.run_labels import RunLabels, known_ids
from raysal.rounds.session import Session
from raysal.web.answering import Answering
from raysal.web.catalogue import Catalogue, Entry
from raysal.web.follower import Follower
from raysal.web.handouts import SECONDS, HandOuts
from raysal.web.media import Media
from raysal.web.payloads import Payloads
from raysal.web.people import as_time, named
from raysal.web.places import FIRST, Place
from raysal.web.shown import Shown
from raysal.web.standing import ORDERS, Standing
from raysal.web.telling import Teller

PAGE = 200
"""Items of one answer at most."""


class Desk:
    """One run, as annotators work on it. Any thread may call any method."""

    def __init__(
        self,
        session: Session,
        *,
        per_item: int = 1,
        seconds: float = SECONDS,
        media: Path | None = None,
        clock: Any = time.time,
    ) -> None:
        """Open a desk over a session, which belongs to it until `close`.

        Args:
            session: of the run; it stays open when the desk closes.
            per_item: how many people get an item.
            seconds: how long a hand-out lasts.
            media: the folder of the files that keys name, for pools of ready vectors.
            clock: seconds since 1970, for hand-outs.

        Raises:
            RunError: the session is closed or read-only.
            Damaged: a file of the run was altered.
        """
        self.session, self.per_item = session, per_item
        self.changes = 0
        """grows with everything that a page should look at again"""
        self._changing = Lock()
        with ExitStack() as opened:
            self.labels = RunLabels.open(session.dir, session.pool.path)
            opened.callback(self.labels.close)
            self.catalogue = Catalogue(session.pool)
            self.payloads = Payloads(session.pool, media, self.catalogue.parts)
            self.media = Media(session.pool, self.payloads)
            self.remarks = Remarks(session.dir)
            opened.callback(self.remarks.close)
            self.handouts = HandOuts(session.dir, seconds=seconds, per_item=per_item, clock=clock)
            opened.callback(self.handouts.close)
            self.follower = Follower(session, self.tell_change, per_item)
            opened.callback(self.follower.close)
            self.standing = Standing(session, self.labels.ledger, self.follower, per_item)
            self.answering = Answering(
                labels=self.labels,
                teller=Teller(self.labels),
                remarks=self.remarks,
                handouts=self.handouts,
                catalogue=self.catalogue,
                standing=self.standing,
                classes=(*session.config.target, *session.config.update.classes),
                items=self.items,
                told=self._told,
            )
            self.shown = Shown(session.pool, self.catalogue, self.media, self.payloads)
            self._opened = opened.pop_all()

    def start(self) -> None:
        """Begin to follow the labels, in a thread."""
        self.follower.start()

    def close(self) -> None:
        """Stop what runs in the background, and close the files. The session stays open."""
        self._opened.close()  # in the opposite order: first the thread that reads them

    def _told(self) -> None:
        self.follower.labels_changed()
        self.tell_change()

    def tell_change(self) -> None:
        """Let pages look again."""
        with self._changing:
            self.changes += 1

    # -- items --------------------------------------------------------------------------------------------------

    def items(
        self, ids: Sequence[int], annotator: str, placed: Mapping[int, Place] | None = None
    ) -> list[dict[str, Any]]:
        """Items as the page gets them.

        Args:
            ids: their numbers; those that the pool does not have are left out.
            annotator: whose answers are `mine`.
            placed: where items are in an order.

        Returns:
            One record for each item, in the order of `ids`.
        """
        entries = self.catalogue.entries(ids)
        keys = [entry.key for entry in entries.values()]
        said, remarks = self.labels.ledger.said(keys), self.remarks.of_all(keys)
        orders, nowhere = self.follower.orders, Place()
        return [
            self.shown.item(
                entry,
                said.get(entry.key),
                remarks[entry.key],
                annotator,
                orders.probability_of(id),
                nowhere if placed is None else placed.get(id, nowhere),
            )
            for id, entry in entries.items()
        ]

    def item(self, id: int, annotator: str) -> dict[str, Any]:
        """One item, with all that is carried.

        Args:
            id: its number.
            annotator: whose answer is `mine`.

        Returns:
            The record.

        Raises:
            UnknownItem: the pool has no such item.
        """
        entry = self.known(id)
        return {**self.items([id], annotator)[0], **self.shown.details(entry)}

    def known(self, id: int) -> Entry:
        """What the pool says of an item, or an `UnknownItem`."""
        found = self.catalogue.entries([id])
        if id not in found:
            raise UnknownItem(f"item {id}", "is not in the pool", "load the page again")
        return found[id]

    def page(
        self,
        order: str,
        annotator: str,
        *,
        seen: Collection[int] = (),
        n: int = 60,
        key: str | None = None,
        hide: bool = False,
    ) -> dict[str, Any]:
        """A page of an order, to look at. Nothing is handed out.

        An order changes with every label. So a page is what comes first in the order of now and was not seen yet:
        whoever goes on until there is no more has seen every item of it, and none twice.

        Args:
            order: its name.
            annotator: whose answers are `mine`.
            seen: ids of the pages before this one.
            n: items on it at most.
            key: of the item that `nearest` is about.
            hide: leave out what somebody labelled or skipped.

        Returns:
            {order, items, more, total, head}; `more` says whether the order has items after this page.

        Raises:
            RunError: the order is not ready, or there is no such order.
        """
        version = self.follower.orders.head_version  # before the order, which may be a newer one then
        placed = self._order(order, key)
        known = frozenset(seen)
        ids = [id for id in placed if id not in known]
        place, wanted = 0, list[int]()
        n = min(max(n, 1), PAGE)
        while place < len(ids) and len(wanted) < n:
            some = ids[place : place + n - len(wanted)]
            place += len(some)
            wanted += self._unanswered(some) if hide else some
        return {
            "order": order,
            "items": self.items(wanted, annotator, placed),
            "more": place < len(ids),
            "total": len(placed),
            "head": version,
        }

    def items_of(self, ids: Sequence[int], annotator: str) -> dict[str, Any]:
        """Items that the page asks for by their numbers, as a page. Nothing is handed out.

        Args:
            ids: the first `PAGE` of them are answered; those that the pool does not have are left out.
            annotator: whose answers are `mine`.

        Returns:
            As `page`; the order is None.
        """
        items = self.items(ids[:PAGE], annotator)
        version = self.follower.orders.head_version
        return {"order": None, "items": items, "more": False, "total": len(items), "head": version}

    def _unanswered(self, ids: Sequence[int]) -> list[int]:
        entries = self.catalogue.entries(ids)
        answered = self.labels.ledger.answerers(entry.key for entry in entries.values())
        return [id for id, entry in entries.items() if entry.key not in answered]

    def _order(self, order: str, key: str | None) -> Mapping[int, Place]:
        """The items of an order with their places, best first."""
        if order not in ORDERS:
            raise RunError("order", f"unknown {order!r}", f"use one of: {', '.join(ORDERS)}")
        if order == "nearest":
            if not key:
                raise RunError("key", "`nearest` needs an item", "name one by its key")
            ids = self._ids([key])
            if key not in ids:
                raise UnknownItem(repr(key), "is not in the pool", "choose an item of the pool")
            return self.standing.nearest(ids[key])
        if (why := self.standing.why_not(order)) is not None:
            raise RunError(f"order {order}", f"is not ready: {why}", "choose another order meanwhile")
        return self.standing.order(order)

    # -- hand-outs ----------------------------------------------------------------------------------------------

    def next(self, annotator: str, n: int, order: str, key: str | None = None, tab: str = "") -> dict[str, Any]:
        """Hand out items to a tab of an annotator, up to n at a time; those that it holds for this order count.

        Args:
            annotator: who.
            n: how many the tab is to hold.
            order: where they come from.
            key: of the item that `nearest` is about.
            tab: where the annotator works; two tabs never hold the same item.

        Returns:
            {items, until, end, others}; `end` says what has ended where there are none: the batch, or the pool. Of a
            batch, `others` says who has the rest of it before them, and until when.

        Raises:
            LabelError: nobody is named.
            RunError: the order is not ready.
        """
        who = named(annotator)
        over = order == "batch" and self.standing.why_not("batch") is not None
        placed: Mapping[int, Place] = {} if over else self._order(order, key)
        numbers: dict[str, int] = {}
        purpose = order if key is None else f"{order} {key}"
        most = min(max(n, 0), PAGE)
        candidates, answerers = self._keys(placed, numbers), self.labels.ledger.answerers
        keys, until = self.handouts.take(who, most, purpose, candidates, answerers, tab)
        held = numbers | self._ids(key for key in keys if key not in numbers)
        wanted = sorted((held[key] for key in keys if key in held), key=lambda id: placed.get(id, FIRST).rank or 0)
        end = None if wanted or n <= 0 else "batch" if order == "batch" else "pool"
        others = self.handouts.holders(who, list(numbers), tab) if end == "batch" else []
        return {
            "items": self.items(wanted, who, placed),
            "until": as_time(until),
            "end": end,
            "others": [{"name": name, "until": as_time(last)} for name, last in others],
        }

    def _keys(self, ids: Iterable[int], numbers: dict[str, int]) -> Iterator[str]:
        """Keys of items, looked up some at a time; `numbers` gets the id of each."""
        rest = iter(ids)
        while some := list(islice(rest, 64)):
            for entry in self.catalogue.entries(some).values():
                numbers[entry.key] = entry.id
                yield entry.key

    def _ids(self, keys: Iterable[str]) -> dict[str, int]:
        return known_ids(self.labels.ledger, self.session.pool, keys)

    def renew(self, annotator: str, ids: Sequence[int], tab: str = "") -> dict[str, Any]:
        """Make hand-outs last from now on: {until, lost}, with the ids that went to others or to another tab."""
        entries = self.catalogue.entries(ids)
        keys = [entry.key for entry in entries.values()]
        lost, until = self.handouts.renew(named(annotator), keys, self.labels.ledger.answerers, tab)
        gone = set(lost)
        kept = {id for id, entry in entries.items() if entry.key not in gone}
        return {"until": as_time(until), "lost": [str(id) for id in ids if id not in kept]}

    def release(self, annotator: str, ids: Sequence[int], tab: str = "") -> dict[str, Any]:
        """Give items of a tab back, so that others get them."""
        self.handouts.release(named(annotator), [entry.key for entry in self.catalogue.entries(ids).values()], tab)
        return {"released": [str(id) for id in ids]}
