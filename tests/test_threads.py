"""Objects that several threads share are in one public method at a time."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from raysal.labels import Ledger
from raysal.labels.reader import LedgerReader
from raysal.rounds.run_labels import RunLabels
from raysal.rounds.session import Session
from raysal.threads import one_at_a_time


class Base:
    def __init__(self) -> None:
        self.inside, self.most, self.calls = 0, 0, 0
        self.met = threading.Barrier(8)

    def work(self) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        for _ in range(200):
            self.calls += 1
        self.inside -= 1


@one_at_a_time
class Shared(Base):
    def first(self) -> None:
        self.work()

    def second(self) -> None:
        self.first()  # it does not wait for itself
        self.work()

    @property
    def third(self) -> None:
        self.work()

    @classmethod
    def make(cls) -> Shared:
        return cls()

    def __enter__(self) -> Shared:
        self.work()
        return self

    def __exit__(self, *_: object) -> None:
        self.work()


@one_at_a_time
class Inheriting(Shared):
    def fourth(self) -> None:
        self.work()


@pytest.mark.parametrize("kind", [Shared, Inheriting])
def test_one_thread_is_inside_at_a_time(kind: type[Shared]) -> None:
    thing = kind.make()
    calls: list[Callable[[], object]] = [thing.first, thing.second, lambda: thing.third, thing.__enter__]
    calls += [thing.__exit__, thing.fourth] if isinstance(thing, Inheriting) else []
    each = {thing.second: 2}

    def all_of_them(_: int) -> None:
        thing.met.wait()
        for _ in range(20):
            for call in calls:
                call()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns all the time
    try:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(all_of_them, range(8)))
    finally:
        sys.setswitchinterval(interval)
    assert thing.most == 1
    assert thing.calls == 8 * 20 * 200 * sum(each.get(call, 1) for call in calls)


def test_two_objects_do_not_wait_for_each_other() -> None:
    one, other = Shared(), Shared()
    order: list[str] = []

    def of_the_other() -> None:
        other.first()
        order.append("other")

    def wait_inside() -> None:
        thread = threading.Thread(target=of_the_other)
        thread.start()
        thread.join()
        order.append("one")

    one.work = wait_inside  # type: ignore[method-assign]
    one.first()
    assert order == ["other", "one"]


@pytest.mark.parametrize("kind", [LedgerReader, Ledger, RunLabels, Session])
def test_every_public_method_waits_for_its_turn(kind: type) -> None:
    for name, member in vars(kind).items():
        if not name.startswith("_") and not isinstance(member, classmethod):
            function = member.fget if isinstance(member, property) else member
            if callable(function):
                assert hasattr(function, "__wrapped__"), name
                assert inspect.getdoc(function), name
