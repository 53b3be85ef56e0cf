"""Replay: a partition that counts the calls it has made, and refuses a call that comes too early.

The place of a call is (session, program, number of calls before it). A host that restarted has made no calls. It
answers how many calls it has made, is sent the missing calls, and goes on. A call that arrives twice is made once: the
result of the last call is kept. So calls are made exactly once, in order, whatever dies or is repeated, and no
checkpoint is needed.

Several sessions may share a host. Each has a partition of its own over the same data. The first calls of a program make
the session's exclusions, so the number of the program is their version: a call of an older program is not made. A
session that the host has dropped is behind, like a new one, and is replayed.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from raysal.fleet.partition import Partition

Call = tuple[Callable[..., Any], tuple[Any, ...]]
"""(function of a partition, its arguments after the partition)"""

SESSIONS = 16
"""Sessions that a host keeps. Each holds 2 bytes a row for its masks, and what its program has left in `state`."""


@dataclass(frozen=True)
class Behind:
    """The host's answer when calls are missing: it has made the first `made` calls of the program."""

    made: int


@dataclass(frozen=True)
class Stale:
    """The host's answer to a call of an older program than the session's own, which is `program`."""

    program: int

    def problem(self, older: int) -> str:
        """Return the words for a call of program `older`."""
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
    """A partition for each session, and its place in the session's running program."""

    def __init__(self, build: Callable[[], Partition], most: int = SESSIONS) -> None:
        """Begin without sessions.

        Args:
            build: Makes the partition of a new session. The session's first call calls it, so that an error in the
                files is an error of that call.
            most: Number of sessions to keep. A further one replaces the least recently used.
        """
        self._build = build
        self._most = most
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self.since = time.monotonic()
        """Time (`time.monotonic`, seconds) at which the running call began, or else at which the last call ended."""

    def run(self, program: int, first: int, calls: Sequence[Call], session: str = "") -> Done | Behind | Stale:
        """Make calls, except those that were made already.

        A call that raises counts as not made: the program cannot go on past it. If it is sent again, it raises again.

        Args:
            program: Number of the program; a higher one than the running one begins a new program.
            first: Number of calls of the program before `calls`.
            calls: Consecutive calls of the program.
            session: The session whose program it is.

        Returns:
            `Done` with the result of the last call, `Behind` if calls before the first are missing (then none is made),
            or `Stale` if the session's program is newer.
        """
        self.since = time.monotonic()
        try:
            return self._run(self._place(session), program, first, calls)
        finally:
            self.since = time.monotonic()

    def _run(self, place: _Place, program: int, first: int, calls: Sequence[Call]) -> Done | Behind | Stale:
        """Make calls at a place (see `run`)."""
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
        """Drop the masks and the state of a session."""
        self._places.pop(session, None)

    @property
    def sessions(self) -> tuple[str, ...]:
        """The sessions that are kept, the least recently used first."""
        return tuple(self._places)

    def _place(self, session: str) -> _Place:
        """Return the place of a session, made if it is new."""
        if session not in self._places:
            partition = self._build()
            while len(self._places) >= self._most:
                self._places.popitem(last=False)
            self._places[session] = _Place(partition)
        self._places.move_to_end(session)
        return self._places[session]
