"""Recovery by replay: a partition behind a call counter, and what a driver must send it.

A call's place is (program, calls before it). A host that restarted has made no calls; it answers how many it
has made, is sent the missing ones again, and goes on. A call that arrives twice is not made twice: its result
is kept until the next one. So calls are made exactly once, in order, whatever dies or is repeated, and
nothing needs a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from raysal.fleet.partition import Partition

Call = tuple[Callable[..., Any], tuple[Any, ...]]


@dataclass(frozen=True)
class Behind:
    """The host's answer when calls are missing: it has made `made` calls of the program."""

    made: int


@dataclass(frozen=True)
class Done:
    """The result of the last of the calls sent."""

    result: Any


class Host:
    """One partition and its place in the running program.

    The partition is built by the first call, so that files that cannot be opened are that call's error.
    """

    def __init__(self, build: Callable[[], Partition]) -> None:
        self._build = build
        self._partition: Partition | None = None
        self._program = -1
        self._made = 0
        self._last: Any = None

    def run(self, program: int, first: int, calls: Sequence[Call]) -> Done | Behind:
        """Make `calls`, the first of which is number `first` of `program`; those already made are skipped.

        A call that raises counts as not made: the program cannot go on past it, and its next call raises it
        again.
        """
        if self._partition is None:
            self._partition = self._build()
        if program != self._program:
            self._partition.reset()
            self._program, self._made, self._last = program, 0, None
        if first > self._made:
            return Behind(self._made)
        for fn, args in calls[self._made - first :]:
            self._last = None
            result = fn(self._partition, *args)
            self._made += 1
            self._last = result
        return Done(self._last)
