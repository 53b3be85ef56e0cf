"""What the driver does when processes die, restart, hang or are behind: tables of events, and simulated processes.

Nothing here starts a process or waits: time is a number that the tests pass in.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pytest
from fleet_calls import Tape, record
from hypothesis import given, settings
from hypothesis import strategies as st

from raysal.errors import Damaged, FleetError, PoolExhausted
from raysal.fleet.recovery import (
    ATTEMPTS,
    CREATION_TIMEOUT,
    RETRY_PAUSE,
    Answered,
    Ask,
    Called,
    Died,
    Event,
    GiveUp,
    IsBehind,
    Kill,
    NotReached,
    Raised,
    Recovery,
    Replay,
    Return,
    Send,
    TimePassed,
    Wait,
    WasQuiet,
)
from raysal.fleet.replay import Behind, Call, Done, Host

T = 10.0
"""Seconds a call may take in the tables."""
AGAIN = 3 * T + CREATION_TIMEOUT
"""Seconds from a death to the deadline of the replay, in a program of three calls."""
RESTARTING = "The actor is restarting."
FULL, SHORT = Damaged("file", "is broken"), PoolExhausted(2, 1)

ALONE: dict[str, list[tuple[float, Event, list[Any]]]] = {
    "an answer ends the call": [
        (0, Called(), [Send(0), Wait(T)]),
        (4, Answered(0, "a"), [Return(("a",))]),
    ],
    "a process that is behind gets the missing calls, and time for each": [
        (0, Called(), [Send(0), Wait(T)]),
        (1, IsBehind(0, 1), [Replay(0, 1), Wait(1 + 2 * T)]),
        (20, TimePassed(), [Wait(1 + 2 * T)]),
        (20.5, Answered(0, "a"), [Return(("a",))]),
    ],
    "a process that never made a call gets them all": [
        (0, Called(), [Send(0), Wait(T)]),
        (1, IsBehind(0, 0), [Replay(0, 0), Wait(1 + 3 * T)]),
    ],
    "after a death everything is replayed, with time to start and for each call": [
        (0, Called(), [Send(0), Wait(T)]),
        (2, Died(0, "gone"), [Replay(0, 0), Wait(2 + AGAIN)]),
        (300, TimePassed(), [Wait(2 + AGAIN)]),
        (301, Answered(0, "a"), [Return(("a",))]),
    ],
    "no further death while the next process starts": [
        (0, Called(), [Send(0), Wait(T)]),
        (2, Died(0, "gone"), [Replay(0, 0), Wait(2 + AGAIN)]),
        (3, NotReached(0, RESTARTING), [Wait(3 + RETRY_PAUSE)]),
        (3.05, TimePassed(), [Wait(3 + RETRY_PAUSE)]),
        (3.1, TimePassed(), [Replay(0, 0), Wait(2 + AGAIN)]),
        *[
            row
            for t in range(4, 40)
            for row in [
                (t, NotReached(0, RESTARTING), [Wait(t + RETRY_PAUSE)]),
                (t + 0.5, TimePassed(), [Replay(0, 0), Wait(2 + AGAIN)]),
            ]
        ],
        (40, Died(0, "gone"), [Replay(0, 0), Wait(40 + AGAIN)]),
        (41, Died(0, "gone"), [Replay(0, 0), Wait(41 + AGAIN)]),
        (42, Died(0, "gone"), [Replay(0, 0), Wait(42 + AGAIN)]),
        (43, Answered(0, "a"), [Return(("a",))]),
    ],
    "a process that is never reached is a death when its time is over": [
        (0, Called(), [Send(0), Wait(T)]),
        (9.8, NotReached(0, RESTARTING), [Wait(9.8 + RETRY_PAUSE)]),
        (9.9, TimePassed(), [Replay(0, 0), Wait(T)]),
        (9.95, NotReached(0, RESTARTING), [Wait(9.95 + RETRY_PAUSE)]),
        (10.05, TimePassed(), [Replay(0, 0), Wait(10.05 + AGAIN)]),
        *[(t, Died(0, "gone"), [Replay(0, 0), Wait(t + AGAIN)]) for t in range(11, 14)],
        (14, Died(0, "gone"), [GiveUp(0, FleetError(0, "its process keeps dying (gone); given up after 5 attempts"))]),
    ],
    "a call that kills its process each time is given up": [
        (0, Called(), [Send(0), Wait(T)]),
        *[(t, Died(0, "gone"), [Replay(0, 0), Wait(t + AGAIN)]) for t in range(1, ATTEMPTS)],
        (9, Died(0, "gone"), [GiveUp(0, FleetError(0, "its process keeps dying (gone); given up after 5 attempts"))]),
    ],
    "a call that hangs is made again in another process": [
        (0, Called(), [Send(0), Wait(T)]),
        (9.9, TimePassed(), [Wait(T)]),
        (10, TimePassed(), [Kill(0), Replay(0, 0), Wait(10 + AGAIN)]),
        (10.5, TimePassed(), [Wait(10 + AGAIN)]),
        (11, Answered(0, "a"), [Return(("a",))]),
    ],
    "a call that hangs each time is given up, its last process killed": [
        (0, Called(), [Send(0), Wait(T)]),
        (10, TimePassed(), [Kill(0), Replay(0, 0), Wait(10 + AGAIN)]),
        (400, TimePassed(), [Kill(0), Replay(0, 0), Wait(400 + AGAIN)]),
        (800, TimePassed(), [Kill(0), Replay(0, 0), Wait(800 + AGAIN)]),
        (1200, TimePassed(), [Kill(0), Replay(0, 0), Wait(1200 + AGAIN)]),
        (
            1600,
            TimePassed(),
            [Kill(0), GiveUp(0, FleetError(0, "no answer within 10 s a call; given up after 5 attempts"))],
        ),
    ],
    "a hang while the missing calls are replayed is a hang": [
        (0, Called(), [Send(0), Wait(T)]),
        (1, IsBehind(0, 1), [Replay(0, 1), Wait(1 + 2 * T)]),
        (21, TimePassed(), [Kill(0), Replay(0, 0), Wait(21 + AGAIN)]),
        (22, IsBehind(0, 2), [Replay(0, 2), Wait(22 + T)]),
        (23, Answered(0, "a"), [Return(("a",))]),
    ],
}
"""One partition, the third call of a program: (time, event, what the driver is told to do)."""

TWO: dict[str, list[tuple[float, Event, list[Any]]]] = {
    "results are in partition order, whoever is first": [
        (0, Called(), [Send(0), Send(1), Wait(T)]),
        (1, Answered(1, "b"), [Wait(T)]),
        (2, Answered(0, "a"), [Return(("a", "b"))]),
    ],
    "an error waits for the other partitions, and the first of several is raised": [
        (0, Called(), [Send(0), Send(1), Wait(T)]),
        (1, Raised(1, SHORT), [Wait(T)]),
        (2, Raised(0, FULL), [GiveUp(0, FULL)]),
    ],
    "an error is raised though the others answer": [
        (0, Called(), [Send(0), Send(1), Wait(T)]),
        (1, Raised(1, SHORT), [Wait(T)]),
        (2, Answered(0, "a"), [GiveUp(1, SHORT)]),
    ],
    "only the process that hangs is killed": [
        (0, Called(), [Send(0), Send(1), Wait(T)]),
        (9, IsBehind(0, 0), [Replay(0, 0), Wait(T)]),
        (10, TimePassed(), [Kill(1), Replay(1, 0), Wait(9 + 3 * T)]),
        (11, Answered(1, "b"), [Wait(9 + 3 * T)]),
        (12, Answered(0, "a"), [Return(("a", "b"))]),
    ],
    "an answer that is at hand counts, however late it is taken": [
        (0, Called(), [Send(0), Send(1), Wait(T)]),
        (50, Answered(0, "a"), [Wait(T)]),
        (50, TimePassed(), [Kill(1), Replay(1, 0), Wait(50 + AGAIN)]),
    ],
    "each partition has deaths of its own": [
        (0, Called(), [Send(0), Send(1), Wait(T)]),
        *[
            row
            for t in range(1, ATTEMPTS)
            for row in [
                (t, Died(0, "x"), [Replay(0, 0), Wait(T if t == 1 else t - 1 + AGAIN)]),
                (t, Died(1, "x"), [Replay(1, 0), Wait(t + AGAIN)]),
            ]
        ],
        (9, Answered(0, "a"), [Wait(4 + AGAIN)]),
        (9, Died(1, "y"), [GiveUp(1, FleetError(1, "its process keeps dying (y); given up after 5 attempts"))]),
    ],
    "of two that hang each time the first is given up, and nothing is sent after that": [
        (0, Called(), [Send(0), Send(1), Wait(T)]),
        *[
            (t, TimePassed(), [Kill(0), Replay(0, 0), Kill(1), Replay(1, 0), Wait(t + AGAIN)])
            for t in (10, 400, 800, 1200)
        ],
        (
            1600,
            TimePassed(),
            [Kill(0), GiveUp(0, FleetError(0, "no answer within 10 s a call; given up after 5 attempts"))],
        ),
    ],
    "who waits for its next process does not keep the others from being sent to": [
        (0, Called(), [Send(0), Send(1), Wait(T)]),
        (1, NotReached(0, RESTARTING), [Wait(1 + RETRY_PAUSE)]),
        (1, IsBehind(1, 2), [Replay(1, 2), Wait(1 + RETRY_PAUSE)]),
        (1.2, TimePassed(), [Replay(0, 0), Wait(T)]),
    ],
}
"""Two partitions, the third call of a program."""

SHARED: dict[str, list[tuple[float, Event, list[Any]]]] = {
    "a call that waits for another session is not taken for a hang": [
        (0, Called(), [Send(0), Wait(T)]),
        (10, TimePassed(), [Ask(0), Wait(T)]),
        (10, WasQuiet(0, 4), [Wait(16)]),
        (16, TimePassed(), [Ask(0), Wait(16)]),
        (16, WasQuiet(0, 0), [Wait(26)]),
        (25, Answered(0, "a"), [Return(("a",))]),
    ],
    "a process that has done nothing for the time of a call hangs": [
        (0, Called(), [Send(0), Wait(T)]),
        (10, TimePassed(), [Ask(0), Wait(T)]),
        (10, WasQuiet(0, 10), [Kill(0), Replay(0, 0), Wait(10 + AGAIN)]),
        (11, Answered(0, "a"), [Return(("a",))]),
    ],
    "a process that does not even say since when hangs": [
        (0, Called(), [Send(0), Wait(T)]),
        (10, TimePassed(), [Ask(0), Wait(T)]),
        (15, WasQuiet(0, float("inf")), [Kill(0), Replay(0, 0), Wait(15 + AGAIN)]),
    ],
}
"""One partition of a service that other sessions share."""

ROWS = [
    pytest.param(partitions, shared, rows, id=name)
    for partitions, shared, table in ((1, False, ALONE), (2, False, TWO), (1, True, SHARED))
    for name, rows in table.items()
]


def plain(instruction: object) -> object:
    """Make an instruction comparable: errors are equal if their class and their words are."""
    if isinstance(instruction, GiveUp):
        return "give up", instruction.partition, type(instruction.error), str(instruction.error)
    if isinstance(instruction, Wait):
        return "wait", round(instruction.until, 6)
    return instruction


@pytest.mark.parametrize(("partitions", "shared", "rows"), ROWS)
def test_table_of_events(partitions: int, shared: bool, rows: list[tuple[float, Event, list[Any]]]) -> None:
    """Each row of a table: the time, an event, and the instructions expected."""
    state = Recovery(partitions, 3, timeout=T, shared=shared)
    for now, event, expected in rows:
        assert list(map(plain, state.handle(event, now))) == list(map(plain, expected)), (now, event)


def test_the_state_can_be_looked_at() -> None:
    """It says what has arrived, what is pending, and why."""
    state = Recovery(3, 1, timeout=T)
    state.handle(Called(), 0)
    state.handle(Answered(1, "b"), 1)
    state.handle(Raised(2, SHORT), 2)
    state.handle(Died(0, "gone"), 3)
    state.handle(NotReached(0, RESTARTING), 4)
    assert (state.results, state.errors) == ({1: "b"}, {2: SHORT})
    assert list(state.pending) == [0]
    assert (state.pending[0].deaths, state.pending[0].resend_at) == (1, 4 + RETRY_PAUSE)


@pytest.mark.parametrize("event", [Answered(0, "again"), Died(0, "late"), IsBehind(0, 0), NotReached(0, "late")])
def test_an_event_of_a_partition_that_has_answered_is_a_mistake_of_the_caller(event: Event) -> None:
    """Only the newest message to a partition counts."""
    state = Recovery(2, 1, timeout=T)
    state.handle(Called(), 0)
    state.handle(Answered(0, "a"), 1)
    with pytest.raises(KeyError):
        state.handle(event, 2)


def test_a_fleet_without_partitions_has_no_results() -> None:
    """The call ends at once."""
    assert Recovery(0, 1, timeout=T).handle(Called(), 0) == [Return(())]


# Any schedule of faults, with the real `Host` in simulated processes.

DEADLY = ("dies before", "dies inside", "dies after", "hangs")
FAULTS = ("none", *DEADLY, "not reached", "restarted", "forgets", "busy", "late")


@dataclass
class Process:
    """One partition's process in a simulation: a real host, what it was sent last, and what it was sent before."""

    host: Host
    inbox: tuple[int, int, list[Call]] | None = None
    past: list[tuple[int, int, list[Call]]] = field(default_factory=list)
    deaths: int = 0
    hanging: bool = False

    def restart(self) -> None:
        """Start a new process, which has made no calls."""
        self.host = new_host()
        self.deaths += 1
        self.hanging = False


def new_host() -> Host:
    """Make a host whose partition keeps what is done to it."""
    return Host(Tape)  # type: ignore[arg-type]


@dataclass
class Simulation:
    """Processes that suffer one fault after another, and the loop of `RayFleet.each` over them."""

    processes: list[Process]
    faults: deque[str]
    order: deque[int]
    """Which of the processes with a message is next, modulo their number."""
    shared: bool
    now: float = 0.0

    def each(self, program: int, log: list[Call]) -> Return | GiveUp:
        """Make the newest call of `log`, and return how it ended."""
        state = Recovery(len(self.processes), len(log), timeout=T, shared=self.shared)
        events: deque[Event] = deque([Called()])
        for process in self.processes:
            process.deaths = 0
        for _ in range(2000):
            event = events.popleft()
            if isinstance(event, TimePassed):
                self.count_unreached(state)
            for step in state.handle(event, self.now):
                match step:
                    case Send(i):
                        self.post(i, program, len(log) - 1, log)
                    case Replay(i, first):
                        self.post(i, program, first, log)
                    case Kill(i):
                        assert self.processes[i].hanging, "a process that works is killed"
                        self.processes[i].restart()
                    case Ask(i):
                        events.append(WasQuiet(i, T if self.processes[i].hanging else 0.0))
                    case Wait(until):
                        if not events:
                            events.extend(self.events(until))
                    case Return() | GiveUp():
                        return step
        raise AssertionError("no end")

    def count_unreached(self, state: Recovery) -> None:
        """Count a process that is not reached until its time is over: the one rule that is repeated here."""
        for i, pending in state.pending.items():
            if pending.resend_at is not None and max(pending.resend_at, pending.deadline) <= self.now:
                self.processes[i].deaths += 1

    def post(self, i: int, program: int, first: int, log: list[Call]) -> None:
        """Send calls from number `first` on; they replace a message that was not taken."""
        process = self.processes[i]
        if process.inbox is not None:
            process.past.append(process.inbox)
        process.inbox = program, first, log[first:]

    def events(self, until: float) -> list[Event]:
        """Let one process take its message, or let time pass if none can."""
        ready = [i for i, process in enumerate(self.processes) if process.inbox is not None and not process.hanging]
        if not ready:
            self.now = max(self.now, until)
            return [TimePassed()]
        self.now += 0.01
        i = ready[(self.order.popleft() if self.order else 0) % len(ready)]
        event = self.take(i, self.processes[i], self.faults.popleft() if self.faults else "none")
        return [TimePassed()] if event is None else [event, TimePassed()]

    def take(self, i: int, process: Process, fault: str) -> Event | None:
        """Let a process take its message; return what the driver hears, None if it hears nothing."""
        assert process.inbox is not None
        program, first, calls = process.inbox
        if fault == "hangs":
            process.hanging = True
            return None
        if fault == "busy":  # with another session's call, until after the deadline
            self.now += T if self.shared else 0
            return None
        process.past.append(process.inbox)
        process.inbox = None
        if fault == "not reached":
            return NotReached(i, RESTARTING)
        if fault == "restarted":  # it died between two calls, and nobody noticed
            process.host = new_host()
        if fault == "forgets":
            process.host.forget("")
        if fault == "late":  # a message of the past arrives again, with this or an older program
            process.host.run(*process.past[0])
        if fault == "dies before":
            process.restart()
            return Died(i, "before")
        if fault == "dies inside":  # after some of the calls
            process.host.run(program, first, calls[: len(calls) // 2])
            process.restart()
            return Died(i, "inside")
        answer = process.host.run(program, first, calls)
        if fault == "dies after":
            process.restart()
            return Died(i, "after")
        if isinstance(answer, Behind):
            return IsBehind(i, answer.made)
        assert isinstance(answer, Done)
        return Answered(i, answer.result)


@settings(max_examples=300)
@given(
    partitions=st.integers(1, 3),
    programs=st.lists(st.lists(st.integers(0, 9), min_size=2, max_size=5), min_size=1, max_size=3),
    faults=st.lists(st.sampled_from(FAULTS), min_size=10, max_size=60) | st.lists(st.sampled_from(FAULTS)),
    order=st.lists(st.integers(0, 5), max_size=60),
    shared=st.booleans(),
)
def test_calls_are_made_in_order_exactly_once_or_given_up_by_name(partitions, programs, faults, order, shared):
    """Whatever processes suffer: each result is that of calls made once, in order, on every partition.

    A call is given up only when one partition has died or hung ATTEMPTS times in it, under that partition's number.
    """
    simulation = Simulation([Process(new_host()) for _ in range(partitions)], deque(faults), deque(order), shared)
    for program, values in enumerate(programs):
        log: list[Call] = []
        for place, value in enumerate(values):
            log.append((record, (value,)))
            end = simulation.each(program, log)
            if isinstance(end, GiveUp):
                assert simulation.processes[end.partition].deaths == ATTEMPTS
                assert re.fullmatch(rf"partition {end.partition}: .*; given up after 5 attempts", str(end.error))
                break
            assert end == Return((tuple(values[: place + 1]),) * partitions)
            assert all(process.deaths < ATTEMPTS for process in simulation.processes)


@pytest.mark.parametrize("fault", DEADLY)
@pytest.mark.parametrize("shared", [False, True])
def test_the_last_attempt_counts(fault, shared):
    """One death less than ATTEMPTS is survived, in every call anew; one more is not."""
    simulation = Simulation([Process(new_host())], deque([fault] * (ATTEMPTS - 1)), deque(), shared)
    log: list[Call] = [(record, (1,))]
    assert simulation.each(0, log) == Return(((1,),))
    simulation.faults.extend([fault] * (ATTEMPTS - 1))
    log.append((record, (2,)))
    assert simulation.each(0, log) == Return(((1, 2),))
    simulation.faults.extend([fault] * ATTEMPTS)
    log.append((record, (3,)))
    assert isinstance(simulation.each(0, log), GiveUp)
