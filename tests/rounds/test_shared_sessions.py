"""Sessions and labels in many threads at once: the ledger ends as if told one after the other."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pools import make_pool, mixture

from raysal.errors import RunError
from raysal.labels import Ledger
from raysal.labels.items import ItemState, apply_events
from raysal.pool import Pool
from raysal.rounds.run_labels import RunLabels
from raysal.rounds.session import Session
from raysal.rounds.status import read_status
from raysal.types import Label

N = 240
FIELDS: dict[str, Any] = {"select": "badge", "update": {"mode": "laplace"}, "rounds": {"k": 6}, "seed": 1}
T = TypeVar("T")


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    vectors, labels = mixture(N, 8, classes=3)
    return make_pool(tmp_path_factory.mktemp("shared") / "pool", vectors, labels=labels, chunk_rows=100)


def in_a_thread(call: Callable[[], T]) -> T:
    """What a call returns, or raises, in a thread of its own."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call).result()


def everything(path: Path) -> tuple[dict[str, ItemState], Counter[str]]:
    """The items of a ledger, made of its events one after the other, and how many events there are of each kind."""
    with Ledger(path, create=False) as ledger:
        events = list(ledger._log.events(range(1, 10**6)))
        items = apply_events({}, events)
        assert ledger._state.items == items
        return items, Counter(event.kind for event in events)


class Annotator:
    """One thread: what it said last of each item, and how much of it was new."""

    def __init__(self, number: int, keys: list[str], open_labels: Callable[[], Any]) -> None:
        self.name, self.keys, self.random = f"a{number}", keys, random.Random(number)
        self.open_labels = open_labels
        self.holds: dict[str, str | None] = {}
        self.counts: Counter[str] = Counter()

    def work(self, steps: int) -> None:
        for _ in range(steps):
            labels = self.open_labels()
            keys = self.random.sample(self.keys, 3)
            what = self.random.choice(["tell", "tell", "skip", "withdraw"])
            if what == "tell":
                text = self.random.choice(["class-0", "class-1"])
                told = labels.tell([Label(key=key, label=text, annotator=self.name) for key in keys])
                self.counts["labeled"] += told.new + told.corrected
                self.holds |= dict.fromkeys(keys, text)
            elif what == "skip":
                self.counts["skipped"] += labels.skip(keys, self.name)
                self.holds |= dict.fromkeys(keys)
            else:
                self.counts["withdrawn"] += labels.withdraw(keys, self.name)
                for key in keys:
                    self.holds.pop(key, None)


def test_many_threads_on_one_session_and_on_labels_of_their_own(pool: Pool, tmp_path: Path) -> None:
    """Every annotator's last word stands, every event was counted by one call, and no batch shares an item."""
    out, keys = tmp_path / "run", [f"item-{n:06d}" for n in range(40)]
    batches: list[list[str]] = []
    with Session(out, pool, **FIELDS) as shared, RunLabels.open(out) as told:
        shared.tell(dict.fromkeys(keys[:6], "class-0"))
        shared.query()  # from here on the head follows every label

        def own() -> Any:
            labels = RunLabels.open(out)
            opened.append(labels)
            return labels

        opened: list[RunLabels] = []
        kinds: list[Callable[[], Any]] = [lambda: shared, lambda: told, own, lambda: shared]
        annotators = [Annotator(n, keys, kinds[n % len(kinds)]) for n in range(8)]

        def look() -> None:
            for _ in range(15):
                status = shared.status()
                assert read_status(out).rounds >= status.rounds
                assert status.labeled + status.disputed + status.skipped <= len(keys)
                with Session.open(out, read_only=True) as reader:
                    assert reader.batch(0).keys == shared.batch(0).keys

        def ask() -> None:
            for _ in range(3):
                batches.append(shared.query(4).keys)
                assert shared.current_head() is not None

        with ThreadPoolExecutor(12) as threads:
            running = [threads.submit(annotator.work, 12) for annotator in annotators]
            running += [threads.submit(look), threads.submit(look), threads.submit(ask), threads.submit(ask)]
            for one in running:
                one.result()
        for labels in opened:
            labels.close()
        head = shared.current_head()
    items, kinds_of = everything(out / "ledger.sqlite")
    for annotator in annotators:
        held = {key: items[key].answers[annotator.name][0] for key in keys if annotator.name in items[key].answers}
        assert held == annotator.holds
    counted = sum((annotator.counts for annotator in annotators), Counter({"labeled": 6}))
    assert {kind: kinds_of[kind] for kind in counted} == dict(counted)
    offered = [key for batch in batches for key in batch]
    assert len(offered) == len(set(offered)) == 24
    with Session(out) as again:
        assert again.rounds == 7
        fitted = again.current_head()
    assert head is not None
    assert fitted is not None
    assert head.labels_seen == fitted.labels_seen


def test_many_sessions_at_once_take_turns_or_say_so(pool: Pool, tmp_path: Path) -> None:
    """As a server has it that opens a session for each request."""
    out, start = tmp_path / "run", threading.Barrier(6)
    messages: set[str] = set()

    def request(number: int) -> int:
        start.wait()
        refused = 0
        for step in range(5):
            with Session(out, pool, **FIELDS) as session:
                session.tell({f"item-{number:03d}{step:03d}": "class-0"}) if number == 0 else session.status()
                try:
                    session.query(2)
                except RunError as error:
                    refused += "at work" in error.problem
                    messages.add(error.problem)
        return refused

    with ThreadPoolExecutor(6) as threads:
        refused = sum(threads.map(request, range(6)))
    assert all("at work" in message for message in messages)
    with Session(out) as session:
        assert session.rounds == 30 - refused
        assert session.status().labeled == 5
        offered = [key for round in range(session.rounds) for key in session.batch(round).keys]
        assert len(offered) == len(set(offered)) == 2 * session.rounds
    everything(out / "ledger.sqlite")


def test_a_session_made_in_one_thread_answers_requests_in_others(pool: Pool, tmp_path: Path) -> None:
    """As Streamlit keeps an object: made once, then every run of the page is a thread of its own."""
    session = in_a_thread(lambda: Session(tmp_path / "run", pool, **FIELDS))
    first = in_a_thread(session.query)
    for key in first.keys:
        assert in_a_thread(lambda key=key: session.tell({key: "class-0"})).new == 1
    assert in_a_thread(session.status).labeled == 6
    assert in_a_thread(lambda: session.skip(["item-000200"])) == 1
    assert in_a_thread(session.ledger.counts)["skipped"] == 1
    second = in_a_thread(session.query)
    assert not set(first.keys) & set(second.keys)
    assert in_a_thread(session.current_head) is not None
    with Session.open(tmp_path / "run", read_only=True) as visit:
        assert in_a_thread(visit.status) == session.status()
        with pytest.raises(RunError, match="read-only"):
            in_a_thread(lambda: visit.tell({second.keys[0]: "class-0"}))
    assert in_a_thread(session.finish)["labels"] == 6
    in_a_thread(session.close)


def test_what_was_closed_says_so_in_every_thread(pool: Pool, tmp_path: Path) -> None:
    session = Session(tmp_path / "run", pool, **FIELDS)
    ledger, labels = session.ledger, RunLabels.open(tmp_path / "run")
    session.close()
    labels.close()
    calls: list[Callable[[], object]] = [
        session.status,
        session.query,
        session.finish,
        session.current_head,
        lambda: session.tell({"item-000001": "class-0"}),
        lambda: session.ledger,
        ledger.counts,
        lambda: ledger.tell([(1, Label(key="item-000001", label="class-0"))]),
        lambda: labels.tell({"item-000001": "class-0"}),
    ]
    for call in calls:
        for way in (call, lambda call=call: in_a_thread(call)):
            with pytest.raises(RunError, match="closed"):
                way()
    session.close()
