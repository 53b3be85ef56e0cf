"""The one thread that works beside the page: it follows the labels with the head, the orders and the next batch.

It alone calls the fleet, because calls of one fleet are made by one thread. Requests read what it published last, and
never wait for it, except for a search (`raysal.web.searches`). What it does, in this order of urgency:

1. what people asked for: a search, also between two parts of a pass; the next batch;
2. after new labels: the head, moved in closed form, then the order of the candidates, in milliseconds;
3. after some more labels, or when people pause: the head as the next round would have it, which is a new fit in most
   runs, and one pass over the whole pool, which finds new candidates;
4. while people pause: a part of the pass for novelty, of which one is made.

`stop` ends a batch that is being chosen, between two round trips, and a pass, between two parts of it: nothing of
either is kept.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from raysal.errors import NotNow, RaysalError, RunError
from raysal.fleet import Fleet
from raysal.fleet.watched import WatchedFleet
from raysal.models.head import Head
from raysal.rng import derive
from raysal.rounds.gathering import gather_labelled
from raysal.rounds.held_out import HeldOut
from raysal.rounds.program import start_program
from raysal.rounds.session import Session
from raysal.scoring.top_k import BestItems
from raysal.web import orders
from raysal.web.jobs import Jobs, Stopped
from raysal.web.orders import Orders
from raysal.web.refusals import without_paths
from raysal.web.searches import Searches

SWEEP_AFTER = 25
"""New labels after which a pass over the pool is made, even while people go on labelling."""
PAUSE_S = 1.0
"""Seconds without a new label after which a pass is made, however few labels are new."""
FOLLOW_REST, SWEEP_REST = 2.0, 6.0
"""How long the thread rests after it followed labels, or made a pass, in units of the time that this took: so requests
have the processors most of the time, however fast labels come."""
LOOK_S = 1.0
"""Seconds between two looks for labels that other processes told."""
SHORT_S = 0.1
"""Seconds until the next look where a pass is still to be made."""


@dataclass(frozen=True, kw_only=True)
class Busy:
    """What is being done."""

    stage: str
    done: int
    total: int
    """0 is unknown"""


class Follower:
    """The thread, and what it published last. Any thread may call its methods and read its attributes."""

    def __init__(self, session: Session, changed: Callable[[], None] = lambda: None, per_item: int = 1) -> None:
        """Begin to follow a session.

        Args:
            session: belongs to the follower until `close`: nobody else may ask it for a batch or a head.
            changed: called, in the thread, whenever something is published.
            per_item: how many people get an item; it stays in the orders until so many answered it.
        """
        self._per_item = per_item
        self.orders = Orders()
        self.busy: Busy | None = None
        self._problems: dict[str, str] = {}
        self._session, self._changed = session, changed
        self._wake = threading.Event()
        self._jobs = Jobs(self._wake.set)
        """batches"""
        self._choosing = threading.Lock()
        self._round: Future[Any] | None = None
        self._stop, self._closing = threading.Event(), threading.Event()
        self._candidates: orders.Candidates | None = None
        self._novel: orders.Novel | None = None
        self._seeking: orders.NovelPass | None = None
        self._sought = -1
        """the ledger's event at which novelty was looked for: after a stop it is tried again with the next label"""
        self._followed = self._swept = -1
        self._refused: int | None = None
        """the ledger's event at which a pass was stopped or failed: none is made again before another label"""
        self._rest_until = self._no_sweep_until = 0.0
        self._told = time.monotonic()
        self._fleet: Fleet = session.start_fleet()
        self.searches = Searches(session, self._fleet, self._wake.set)
        """somebody waits for these: they are let in between two parts of a pass"""
        if isinstance(self._fleet, WatchedFleet):
            self._fleet.before = self._look
        self._thread = threading.Thread(target=self._work, name="raysal follower", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    @property
    def problem(self) -> str | None:
        """What went wrong with the last batch, or else with the last head or pass; None where all went well."""
        return self._problems.get("round") or self._problems.get("follow")

    # -- what others call ---------------------------------------------------------------------------------------

    def labels_changed(self) -> None:
        """Say that labels were told."""
        self._told = time.monotonic()
        self._wake.set()

    def choose_round(self, k: int | None, after: int | None = None) -> int:
        """Choose the next batch in the background.

        Args:
            k: items in the batch; the config's by default.
            after: the newest round that is known to whoever asks, -1 for none; by default whichever it is.

        Returns:
            The number of the round.

        Raises:
            RunError: a batch is being chosen, a newer one than `after` is there, or k is below 1.
        """
        if k is not None and k < 1:
            raise RunError("k", f"{k} is not a batch", "ask for at least 1")

        def choose() -> None:
            self._problems.pop("round", None)
            self._publish(busy=Busy(stage="round", done=0, total=0))
            try:
                self._session.query(k)
            except Stopped:
                pass  # as people wanted it
            except Exception as error:
                self._problems["round"] = without_paths(str(error))
                raise

        with self._choosing:  # of two people who ask at once, or one after the other, one is heard
            if self._is_choosing:
                raise RunError("round", "a batch is being chosen", "wait for it, or stop it")
            round = self._session.run.rounds
            if after is not None and after != round - 1:
                raise RunError("round", "another batch was chosen meanwhile", "label that one first")
            self.busy = Busy(stage="round", done=0, total=0)  # at once: it may wait for a pass to end
            self._round = self._jobs.submit(choose)
        self._changed()
        return round

    def stop(self) -> bool:
        """Stop what is being done; returns whether something was. Labels are followed again from the next one on."""
        busy = self.busy is not None
        if busy:
            if self._round is not None:
                self._round.cancel()  # one that waits for a pass
            self._stop.set()
        return busy

    def close(self) -> None:
        """End the thread, between two round trips of what it is doing."""
        self._closing.set()
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self.searches.line.end()
        self._jobs.end()

    # -- the thread ---------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._closing.is_set():
            self._wake.clear()
            while (line := self.searches.line or self._jobs) and not self._closing.is_set():
                line.do_next()
                self._end()
            if not self._closing.is_set() and not self._attempt(self._follow):
                self._rest()

    def _rest(self) -> None:
        """Wait for something to do."""
        behind = self._followed != self._swept and self._refused != self._followed
        self._wake.wait(SHORT_S if behind or time.monotonic() < self._rest_until else LOOK_S)
        if (left := self._rest_until - time.monotonic()) > 0 and not (self.searches.line or self._jobs):
            self._closing.wait(min(left, LOOK_S))

    def _attempt(self, work: Callable[[], bool]) -> bool:
        """Do some work; whether there may be more at once."""
        try:
            return work()
        except Exception as error:  # labels that cannot be learnt from, a pool that is gone: the page says so
            if not isinstance(error, NotNow):  # what is busy is tried again, without a new label
                self._refused = self._followed = self._swept = self._sought = self._seq()
            self._seeking = None
            if not isinstance(error, Stopped):
                self._problems["follow"] = without_paths(str(error))
                self._publish()
            return False
        finally:
            self._end()

    def _end(self) -> None:
        """A piece of work is over, stopped or not. What closes the thread stays set."""
        if self._stop.is_set() and not self._closing.is_set():
            # It may have been pressed while something else was done between two parts of the pass for novelty.
            if self._seeking is not None:
                self._seeking, self._sought = None, self._seq()
            self._stop.clear()
        seeking = self._seeking is not None and not self._closing.is_set()
        if self.busy is not None and not (self.searches.line or self._jobs) and not seeking:
            self._publish(busy=None)

    def _seq(self) -> int:
        try:
            return self._session.ledger.head_seq
        except RaysalError:
            return self._followed

    def _follow(self) -> bool:
        """Take in new labels, or make a pass; whether there may be more to do at once."""
        seq, now = self._session.ledger.head_seq, time.monotonic()
        if self._seeking is not None:
            self._look()
        if seq != self._followed and now >= self._rest_until:
            head = self._session.current_head(fit=False)
            self._followed = seq
            if head is not None and self._candidates is not None:
                self.orders = self._ordered(self.orders, self._candidates, head, seq)
            self._problems.pop("follow", None)
            self._rest_until = time.monotonic() + FOLLOW_REST * (time.monotonic() - now)
            self._publish()
            if self._candidates is not None:
                return False  # look for jobs first
        paused = now - self._told >= PAUSE_S
        if seq == self._swept and self._novel is None and (self._sought != seq or self._seeking is not None):
            self._sought = seq
            if paused or self._seeking is None:
                self._seek_novel()
                return True  # look for jobs and labels first
        if seq in (self._swept, self._refused):
            return False
        due = seq - self._swept >= SWEEP_AFTER and now >= self._no_sweep_until
        if self._candidates is None or paused or due:
            self._sweep(seq)
            self._no_sweep_until = time.monotonic() + SWEEP_REST * (time.monotonic() - now)
            return True
        return False

    def _ordered(self, before: Orders, candidates: orders.Candidates, head: Head, seq: int) -> Orders:
        """The orders with the candidates scored by a head."""
        taken = self._session.ledger.taken(self._per_item)
        lists, probabilities = orders.order_candidates(candidates, head, self._target, taken, self._key("ties"))
        return replace(
            before,
            lists={**{name: orders.without(own, taken) for name, own in before.lists.items()}, **lists},
            scores=orders.scores_of(head, self._target),
            probabilities=probabilities,
            head_version=head.version,
            labels=head.labels_seen,
            seq=seq,
        )

    @property
    def _held_out(self) -> HeldOut | None:
        return HeldOut.of(self._session.config, self._session.pool)

    def _sweep(self, seq: int) -> None:
        """One pass over the pool: all orders, new candidates, histograms."""
        session, fleet = self._session, self._fleet
        self._publish(busy=Busy(stage="ranking", done=0, total=1))
        head = session.current_head()
        taken = session.ledger.taken(self._per_item)
        begin = partial(start_program, fleet, taken, self._held_out, session.rows.by_means)
        begin()
        lists = {"random": orders.random_order(fleet, self._key("random"))}
        if self._novel is not None:
            lists["novel"] = orders.without(self._novel.best, taken)
        histograms = {} if self._novel is None else {"novelty": self._novel.histogram}
        if head is not None:
            request = orders.asked_of(head, self._target, orders.LENGTH, self._key("ties"))
            rows = len(session.pool)
            found = orders.sweep_in_parts(fleet, head, request, self._target, rows, self._tell_part, begin)
            lists |= {order: found.top[score] for order, score in orders.scores_of(head, self._target).items()}
            histograms |= found.histograms
        best_ids = np.concatenate([ids for ids, _ in lists.values()])
        self._candidates = candidates = orders.gather_candidates(fleet, session.pool, best_ids)
        known = sorted(session.ledger.labels(), key=lambda item: item.seq)[-orders.MOST_CENTRES :]
        labelled = gather_labelled(fleet, session.pool.dim, sorted(known, key=lambda item: item.id))
        best = {name: own for name, own in lists.items() if name not in ("random", "novel")} or lists
        lists["diverse"] = orders.choose_diverse(
            candidates, best, labelled, session.ledger.excluded(), session.pool, self._key("diverse")
        )
        scores: dict[str, BestItems] = {}
        if head is not None:
            own = orders.gather_candidates(fleet, session.pool, labelled.ids)
            _, scores["probability"] = orders.order_candidates(own, head, self._target, labelled.ids, self._key("ties"))
        if self._novel is not None:
            scores["novelty"] = self._novel.of(fleet, labelled.ids)
        # At once: whoever asks meanwhile sees the orders of before, not orders without their probabilities.
        ranked = Orders(lists=lists, histograms=histograms, labelled=scores, seq=seq)
        self.orders = ranked if head is None else self._ordered(ranked, candidates, head, seq)
        self._swept = seq
        self._problems.pop("follow", None)
        self._publish(busy=None)

    def _seek_novel(self) -> None:
        """Look for what is unlike the rest in a part of the pool; in each part once: labels do not change it."""
        session, fleet = self._session, self._fleet
        done, parts = (0, 0) if self._seeking is None else (self._seeking.done, self._seeking.parts)
        self._publish(busy=Busy(stage="novelty", done=done, total=parts))
        start_program(fleet, session.ledger.taken(self._per_item), self._held_out, session.rows.by_means)
        if self._seeking is None:
            self._seeking = orders.NovelPass(fleet, len(session.pool), self._key("novel"))
        self._novel = novel = self._seeking.step(fleet)
        self._look()
        if novel is None:
            return
        self._seeking = None
        labelled, now = np.array(sorted(item.id for item in session.ledger.labels()), np.int64), self.orders
        self.orders = replace(
            now,
            lists={**now.lists, "novel": novel.best},
            histograms={**now.histograms, "novelty": novel.histogram},
            labelled={**now.labelled, "novelty": novel.of(fleet, labelled)},
        )

    @property
    def _is_choosing(self) -> bool:
        return self._round is not None and not self._round.done()

    @property
    def _target(self) -> tuple[str, ...]:
        return self._session.config.target

    def _key(self, use: str) -> int:
        return derive(self._session.config.seed, "serve", use)

    def _look(self) -> None:
        """Before a round trip: whether somebody pressed stop."""
        if self._stop.is_set():
            raise Stopped("stopped")
        if isinstance(self._fleet, WatchedFleet) and self.busy is not None and self.busy.stage == "round":
            self._publish(busy=replace(self.busy, done=self.busy.done + 1))

    def _tell_part(self, part: int, parts: int) -> bool:
        """Before a part of a pass: progress, searches that people wait for, and whether somebody pressed stop.

        Returns:
            Whether there were searches: the fleet is in another program then.

        Raises:
            Stopped: somebody did.
        """
        self._publish(busy=Busy(stage="ranking", done=part, total=parts))
        searched = False
        while self.searches.line and not self._stop.is_set():
            self.searches.line.do_next()
            searched = True
        if self._stop.is_set():
            raise Stopped("stopped")
        return searched

    def _publish(self, **fields: Any) -> None:
        if "busy" in fields:
            busy: Busy | None = fields["busy"]
            if not self._is_choosing or (busy is not None and busy.stage == "round"):
                self.busy = busy
        self._changed()
