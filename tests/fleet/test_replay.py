"""Calls are made exactly once, in order, whatever dies, is lost or is repeated."""

from __future__ import annotations

import time
from typing import Any

import pytest
from fleet_calls import Tape, record
from hypothesis import given
from hypothesis import strategies as st

from raysal.fleet.replay import Behind, Call, Done, Host


def refuse(tape: Tape) -> None:
    """Raise an error after the state has changed."""
    tape.done.append("half done")
    raise ValueError("no")


@given(
    programs=st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=4),
    faults=st.lists(st.sampled_from(["restart", "restart after", "lost", "twice", "late", "none"]), max_size=60),
    eager=st.booleans(),
)
def test_every_schedule_of_faults_ends_like_none(programs, faults, eager):
    """The driver is as simple as can be: it sends the newest call, or all calls, until they are done."""
    fault = iter(faults)
    host = Host(Tape)  # type: ignore[arg-type]
    stale: list[tuple[int, int, list[Call]]] = []
    for number, values in enumerate(programs):
        log: list[Call] = []
        for place, value in enumerate(values):
            log.append((record, (value,)))
            first = len(log) - 1
            while True:
                what = next(fault, "none")
                if what == "restart":
                    host = Host(Tape)  # type: ignore[arg-type]
                if what == "late" and stale:  # a message of the past arrives at last
                    host.run(*stale[0])
                message = (number, first, log[first:])
                stale.append((number, first, list(log[first:])))
                answer = host.run(*message)
                if what == "twice":
                    answer = host.run(*message)
                if what == "restart after":
                    host = Host(Tape)  # type: ignore[arg-type]
                if what in ("lost", "restart after"):
                    first = 0 if eager else len(log) - 1
                    continue
                if isinstance(answer, Behind):
                    first = answer.made
                    continue
                assert answer == Done(tuple(values[: place + 1]))
                break


def test_calls_already_made_are_not_made_again():
    """Messages come twice, too early, overlapping, and with a new program."""
    host = Host(Tape)  # type: ignore[arg-type]
    log: list[Call] = [(record, (n,)) for n in range(4)]
    assert host.run(0, 0, log[:2]) == Done((0, 1))
    assert host.run(0, 0, log[:2]) == Done((0, 1))
    assert host.run(0, 3, log[3:]) == Behind(2)
    assert host.run(0, 1, log[1:]) == Done((0, 1, 2, 3))
    assert host.run(1, 0, log[:1]) == Done((0,))


def test_a_new_host_asks_for_everything():
    """It has made none, whatever it is sent first."""
    assert Host(Tape).run(5, 3, [(record, (3,))]) == Behind(0)  # type: ignore[arg-type]


def test_a_host_says_since_when_it_makes_a_call_or_none():
    """The time is read inside a call, after it, and after a call that raised."""
    before = time.monotonic()
    host = Host(Tape)  # type: ignore[arg-type]
    (begun,) = host.run(0, 0, [(lambda tape: [host.since], ())]).result  # type: ignore[union-attr]
    assert before <= begun < host.since <= time.monotonic()
    ended = host.since
    with pytest.raises(ValueError, match="no"):
        host.run(0, 1, [(refuse, ())])
    assert ended < host.since


def test_a_failed_call_ends_the_program_until_a_new_one_begins():
    """A later call is refused, and the failed one raises again."""
    host = Host(Tape)  # type: ignore[arg-type]
    log: list[Call] = [(record, (0,)), (refuse, ()), (record, (2,))]
    with pytest.raises(ValueError, match="no"):
        host.run(0, 0, log[:2])
    assert host.run(0, 2, log[2:]) == Behind(1)
    with pytest.raises(ValueError, match="no"):
        host.run(0, 1, log[1:])
    assert host.run(1, 0, [(record, (7,))]) == Done((7,))


def test_a_partition_that_cannot_be_built_is_an_error_of_the_call():
    """Each call raises it."""

    def fail() -> Any:
        raise OSError("no such file")

    host = Host(fail)
    for _ in range(2):
        with pytest.raises(OSError, match="no such file"):
            host.run(0, 0, [])
