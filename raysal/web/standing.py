"""Where a run stands, as the page shows it: its orders, its batch, its classes, its people."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from threading import Lock
from typing import Any

from raysal.errors import NotNow
from raysal.labels import Ledger
from raysal.models.agreement import agreement_of
from raysal.models.trainers import TRAINERS
from raysal.pool.place import name_of
from raysal.rounds.batch import Batch
from raysal.rounds.found import found_by
from raysal.rounds.session import Session
from raysal.rounds.status import final_record
from raysal.scoring.top_k import BestItems
from raysal.store import digest_of
from raysal.types import SKIP, Found
from raysal.web.follower import Follower
from raysal.web.jobs import UNDONE, Stopped
from raysal.web.orders import LENGTH, Orders
from raysal.web.places import Place

ORDERS = {
    "batch": "The batch",
    "likeliest": "Likeliest",
    "uncertain": "Most uncertain",
    "novel": "Most novel",
    "diverse": "Most diverse",
    "random": "Random",
    "nearest": "Nearest to an item",
}
"""The orders and their titles, as the page lists them."""
SCORES_OF_THEIR_OWN = {"diverse": "squared distance", "novel": "novelty", "random": None}
"""What orders are by that go by no score of a head; the random one by nothing."""
DOING = {"round": "a batch is being chosen", "ranking": "the pool is being ranked", "novelty": "novelty is looked for"}
SEARCH_S = 20.0
"""How long a search is waited for, in seconds."""
REFRESH_S = 1.0
"""How old what is counted over all labels may be, in seconds."""


class Standing:
    """Reads where a run stands. Any thread may ask."""

    def __init__(self, session: Session, ledger: Ledger, follower: Follower, per_item: int) -> None:
        self._session, self._ledger, self._follower, self._per_item = session, ledger, follower, per_item
        self.likelihood = session.config.update.trainer.build("update.trainer", TRAINERS).likelihood
        """what labels are"""
        self._lock, self._counting = Lock(), Lock()
        self._batch: tuple[int, Batch | None] = (-1, None)
        self._keys: list[str] = []
        self._rows: dict[int, Place] = {}
        self._waiting: dict[int, Place] = {}
        self._looked = -REFRESH_S
        self._placed: dict[str, tuple[BestItems, dict[int, Place]]] = {}
        self._people: tuple[int, float, dict[str, Any]] = (-1, 0.0, {})

    # -- orders -------------------------------------------------------------------------------------------------

    def order(self, order: str) -> Mapping[int, Place]:
        """The items of an order that is ready, with their places, best first."""
        if order == "batch":
            self.batch()
            return {**self._rows, **self._older()}
        orders = self._follower.orders
        found = orders.lists.get(order)
        if found is None:
            return {}
        known = self._placed.get(order)
        if known is None or known[0] is not found:
            name = SCORES_OF_THEIR_OWN.get(order, orders.scores.get(order))
            known = self._placed[order] = found, _placed(found, name, orders)
        return known[1]

    def why_not(self, order: str) -> str | None:
        """Why an order is not ready; None where it is."""
        orders, config = self._follower.orders, self._session.config
        if order == "batch":
            ready = self.batch() is not None or bool(self._older())
            return None if ready else "no batch was chosen yet"
        if order == "nearest" or order in orders.lists:
            return None
        if order == "novel":
            return self._follower.problem or "the pool is being looked through for novelty"
        if order == "likeliest" and not config.target:
            return "the run names no class that is looked for (--target)"
        if orders.head_version is None and not self._ledger.texts and order != "random":
            return "nothing is labelled yet"
        return self._follower.problem or "the pool is being ranked"

    def nearest(self, id: int) -> Mapping[int, Place]:
        """The items nearest to one with their places, best first.

        Args:
            id: the item.

        Returns:
            {id: place}.

        Raises:
            NotNow: the pool is busy with something that takes longer than `SEARCH_S`, or somebody pressed stop.
        """
        try:
            found = self._follower.searches.nearest(id, LENGTH).result(SEARCH_S)
        except UNDONE as why:
            raise self.not_now("nearest", why) from None
        return _placed(found, "similarity", self._follower.orders)

    def not_now(self, what: str, why: Exception) -> NotNow:
        """The error for what the thread that has the vectors did not do: it was busy for too long, or stopped."""
        if isinstance(why, Stopped):
            return NotNow(what, "was stopped", "try again")
        busy = self._follower.busy
        doing = DOING.get("" if busy is None else busy.stage, "something else is being done")
        return NotNow(what, f"waits, because {doing}", "try again in a moment")

    def batch(self) -> Batch | None:
        """The last batch; None before the first."""
        run = self._session.run
        count = run.rounds
        with self._lock:
            if self._batch[0] != count:
                batch = run.batch(count - 1) if count else None
                if batch is not None and not run.is_of(count - 1, self._session.pool):
                    batch = batch.with_ids(self._ledger.key_ids(batch.keys))
                rows = [] if batch is None else batch.table.select(["id", "rank", "score", "reason"]).to_pylist()
                strategy = None if batch is None or not len(batch) else batch.table["strategy"][0].as_py()
                self._keys = [] if batch is None else batch.keys
                self._rows = {
                    row["id"]: Place(
                        row["rank"], row["score"], strategy if row["score"] is not None else None, row["reason"]
                    )
                    for row in rows
                }
                self._batch, self._looked = (count, batch), -REFRESH_S
            return self._batch[1]

    def _older(self) -> dict[int, Place]:
        """What rounds before the last batch asked for and nobody answered; see `REFRESH_S`."""
        if time.monotonic() - self._looked >= REFRESH_S:
            rows = self._rows
            more = [id for id, _ in self._ledger.outstanding() if id not in rows]
            self._waiting = {id: Place(rank) for rank, id in enumerate(more, len(rows) + 1)}
            self._looked = time.monotonic()
        return self._waiting

    # -- the run ------------------------------------------------------------------------------------------------

    def head(self) -> dict[str, Any]:
        """The head that the orders follow."""
        orders = self._follower.orders
        return {"version": orders.head_version, "labels": orders.labels}

    def batch_state(self) -> dict[str, Any]:
        """How far the last batch is."""
        batch = self.batch()
        if batch is None:
            return {"round": None, "size": 0, "waiting": len(self._older())}
        answered = self._ledger.answerers(self._keys)
        done = sum(len(people) >= self._per_item for people in answered.values())
        return {"round": batch.round, "size": len(batch), "waiting": len(batch) - done}

    def state(self) -> dict[str, Any]:
        """What changes while people work: the event `state`."""
        busy = self._follower.busy
        return {
            "seq": self._ledger.head_seq,
            "head": self.head(),
            "batch": self.batch_state(),
            "busy": None if busy is None else {"stage": busy.stage, "done": busy.done, "total": busy.total},
            "problem": self._follower.problem,
            "rounds": self._session.run.rounds,
            "ready": [name for name in ORDERS if self.why_not(name) is None],
        }

    def run(self) -> dict[str, Any]:
        """The run as a whole: `/api/run`."""
        session, config = self._session, self._session.config
        counted = self._counted()
        # A class keeps its place, and so its key, whatever classes come later.
        names = list(dict.fromkeys([*config.target, *config.update.classes, *counted["texts"]]))
        closed = final_record(session.run, self._ledger) is not None
        hints = ["the run is closed; a label opens it again"] if closed else []
        if counted["absent"]:
            hints.append(f"{counted['absent']} items with an answer are not in the pool")
        return {
            "id": digest_of({"pool": session.pool.fingerprint, "run": str(session.dir.absolute())})[:16],
            "name": session.dir.absolute().name,
            "pool": name_of(session.pool.place),
            "modality": session.pool.manifest.modality,
            "items": len(session.pool),
            "rounds": session.run.rounds,
            "k": config.rounds.k,
            "batch": self.batch_state(),
            "classes": [{"name": name, "count": counted["classes"].get(name, 0)} for name in names],
            "target": list(config.target),
            "binary": len(names) == 2 and any(name in config.target for name in names),
            "orders": [
                {"name": name, "title": title, "ready": (why := self.why_not(name)) is None, "why": why}
                for name, title in ORDERS.items()
            ],
            "head": self.head(),
            "seq": self._ledger.head_seq,
            "annotators": counted["annotators"],
            "agreement": counted["agreement"],
            "hints": hints,
            "search": counted["search"],
            "closed": "Its last round is done; a label opens it again." if closed else None,
            "per_item": self._per_item,
            "skipped": counted["skipped"],
            "disputed": counted["disputed"],
        }

    def _counted(self) -> dict[str, Any]:
        """What is counted over all labels: not more often than once in `REFRESH_S`."""
        with self._counting:  # a lock of its own: whoever asks for items does not wait for a count of all labels
            seq, now = self._ledger.head_seq, time.monotonic()
            if not self._people[2] or (self._people[0] != seq and now - self._people[1] >= REFRESH_S):
                self._people = seq, now, self._count()
            return self._people[2]

    def _count(self) -> dict[str, Any]:
        people: Counter[str] = Counter()
        classes: Counter[str] = Counter()
        by_item: dict[str, dict[str, str]] = {}
        for label in self._ledger.answers(skips=True):
            people[label.annotator] += 1
            if label.label != SKIP:
                by_item.setdefault(label.key, {})[label.annotator] = label.label
        for item in self.labelled():
            classes.update(self.likelihood.names_in(item.label) if self.likelihood.discrete else [item.label])
        counts = self._ledger.counts()
        found = self._found()
        return {
            "annotators": [{"name": name, "labels": count} for name, count in sorted(people.items())],
            "classes": dict(classes),
            "texts": [name for text in self._ledger.texts_in_order for name in self.likelihood.names_in(text)],
            "agreement": agreement_of(list(by_item.values())),
            "absent": len(self._ledger.absent()),
            "skipped": counts["skipped"],
            "disputed": counts["disputed"],
            "search": None if found is None else asdict(found),
        }

    def _found(self) -> Found | None:
        """What the run has found, and what is left; None where it looks for nothing."""
        session, run = self._session, self._session.run
        last = final_record(run, self._ledger) or (run.record(run.rounds - 1) if run.rounds else {})
        evaluation = last.get("evaluation") or {}
        return found_by(run, session.config, self._ledger, self.likelihood, len(session.pool), evaluation)

    def labelled(self) -> Sequence[Any]:
        """The items whose annotators agree, held-out ones included."""
        return self._ledger.labels()


def _placed(found: BestItems, score: str | None, orders: Orders) -> dict[int, Place]:
    """The items of a list with their places. Odds that an order is by are shown as the probability they stand for."""
    ids, values = found[0].tolist(), found[1].tolist()
    if score is None:
        return {id: Place(rank) for rank, id in enumerate(ids, 1)}
    if score == "log_odds":
        values, score = orders.probabilities_of(found[0]), "probability"
    return {id: Place(rank, value, score) for rank, (id, value) in enumerate(zip(ids, values, strict=True), 1)}
