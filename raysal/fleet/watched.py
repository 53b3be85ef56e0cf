"""A fleet that says when a round trip begins, so that work in the background can tell how far it is, and be stopped."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from raysal.fleet.base import Fleet

R = TypeVar("R")


class WatchedFleet:
    """Another fleet, opened when it is first needed.

    What `before` raises ends the program between two round trips, as an error of a function does: nothing is committed,
    and the next program begins with `reset`.
    """

    def __init__(self, opening: Callable[[], Fleet]) -> None:
        """Watch the fleet that `opening` makes."""
        self._opening = opening
        self._fleet: Fleet | None = None
        self.calls = 0
        """round trips so far"""
        self.before: Callable[[], None] = lambda: None
        """called before each of them"""

    def _opened(self) -> Fleet:
        if self._fleet is None:
            self._fleet = self._opening()
        return self._fleet

    @property
    def size(self) -> int:
        """Number of partitions."""
        return self._opened().size

    def reset(self) -> None:
        """Begin a new program."""
        self._opened().reset()

    def each(self, fn: Callable[..., R], *args: Any) -> list[R]:
        """Call `fn(partition, *args)` on every partition; see `Fleet.each`.

        Args:
            fn: A function of a partition.
            args: Its arguments after the partition.

        Returns:
            The results, in partition order.
        """
        self.before()
        self.calls += 1
        return self._opened().each(fn, *args)

    def close(self) -> None:
        """Let the partitions go."""
        if self._fleet is not None:
            self._fleet.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
