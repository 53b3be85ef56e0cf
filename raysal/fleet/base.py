"""A fleet runs functions beside the data. Every algorithm over the pool is a pure function of a partition and
a coordinator that calls `each`; it is written once and runs in this process or on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

R = TypeVar("R")


class Fleet(Protocol):
    """The partitions of one pool, wherever they live.

    A *program* is a sequence of `each` calls between two `reset`s. What a partition keeps in `state` is a
    function of (files, the calls of the program), so a lost partition is rebuilt by replaying them.
    """

    @property
    def size(self) -> int:
        """Number of partitions."""
        ...

    def reset(self) -> None:
        """Begin a new program: every partition forgets its state, its exclusions and its candidates."""
        ...

    def each(self, fn: Callable[..., R], *args: Any) -> list[R]:
        """`fn(partition, *args)` on every partition; results in partition order. One round trip.

        `fn` is a function of a module (it travels by name). Its exceptions are raised here, the first in
        partition order; they end the program, and the next call must be `reset`.
        """
        ...

    def close(self) -> None:
        """Let the partitions go. The fleet cannot be used afterwards."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
