"""Recovery by replay: a partition behind a call counter, and what a driver must send it.

A call's place is (session, program, calls before it). A host that restarted has made no calls; it answers how many it
has made, is sent the missing ones again, and goes on. A call that arrives twice is not made twice: its result
is kept until the next one. So calls are made exactly once, in order, whatever dies or is repeated, and
nothing needs a checkpoint.

Several sessions may share a host, each with a partition of its own over the same data. A session's exclusions are
made by the first calls of its program, so the program number is their version: a call of an older program is not
made. A session that the host has dropped is behind like one that never was, and is replayed.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from raysal.fleet.partition import Partition

Call = tuple[Callable[..., Any], tuple[Any, ...]]

SESSIONS = 16
"""Sessions a host keeps. Each holds 2 bytes a row for its masks and what its program has left in `state`."""


@dataclass(frozen=True)
class Behind:
    """The host's answer when calls are missing: it has made `made` calls of the program."""

    made: int


@dataclass(frozen=True)
class Stale:
    """The host's answer to a call of an older program than the session's own, which is `program`."""

    program: int

    def problem(self, older: int) -> str:
        return (
            f"its session has begun program {self.program}, this call is of program {older}, whose exclusions "
            "are gone; begin again with reset"
        )


@dataclass(frozen=True)
class Done:
    """The result of the last of the calls sent."""

    result: Any


@dataclass
class _Place:
    """A session's partition, and its place in its running program."""

    partition: Partition
    program: int = -1
    made: int = 0
    last: Any = None


class Host:
    """A partition for each session, and its place in the session's running program.

    `build` makes a partition for a new session. It is called by the session's first call, so that files that cannot be
    opened are that call's error. Of more than `most` sessions the least recently used is dropped.
    """

    def __init__(self, build: Callable[[], Partition], most: int = SESSIONS) -> None:
        self._build = build
        self._most = most
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self.since = time.monotonic()
        """`time.monotonic` when the call now made was begun, or else when the last one ended."""

    def run(self, program: int, first: int, calls: Sequence[Call], session: str = "") -> Done | Behind | Stale:
        """Make `calls`, the first of which is number `first` of `program`; those already made are skipped.

        A call that raises counts as not made: the program cannot go on past it, and its next call raises it
        again.
        """
        self.since = time.monotonic()
        try:
            return self._run(self._place(session), program, first, calls)
        finally:
            self.since = time.monotonic()

    def _run(self, place: _Place, program: int, first: int, calls: Sequence[Call]) -> Done | Behind | Stale:
        if program < place.program:
            return Stale(place.program)
        if program > place.program:
            place.partition.reset()
            place.program, place.made, place.last = program, 0, None
        if first > place.made:
            return Behind(place.made)
        for fn, args in calls[place.made - first :]:
            place.last, self.since = None, time.monotonic()
            result = fn(place.partition, *args)
            place.made += 1
            place.last = result
        return Done(place.last)

    def forget(self, session: str) -> None:
        """Let go of a session's masks and state."""
        self._places.pop(session, None)

    @property
    def sessions(self) -> tuple[str, ...]:
        """Those that are kept, the least recently used first."""
        return tuple(self._places)

    def _place(self, session: str) -> _Place:
        if session not in self._places:
            partition = self._build()
            while len(self._places) >= self._most:
                self._places.popitem(last=False)
            self._places[session] = _Place(partition)
        self._places.move_to_end(session)
        return self._places[session]
