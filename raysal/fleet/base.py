"""A fleet runs functions beside the data.

The one idea: an algorithm over a pool is a pair, a pure function of a partition and a coordinator. The coordinator
calls `Fleet.each` with the function, joins the results, and calls again. The pair is written once. It runs in this
process (`raysal.fleet.local_fleet`) and on a cluster (`raysal.fleet.ray_fleet`), with the same results.

The one method:

    def rows_near(partition: Partition, point: NDArray[np.float64], limit: float) -> int:   # beside the data
        ...

    fleet.reset()                                                                           # a new program
    counts = fleet.each(rows_near, point, 0.5)                                              # one round trip
    total = sum(counts)                                                                     # the coordinator

Pitfalls:

- A function of a module travels by its name: the processes of a cluster must be able to import the module. A lambda or
  a closure travels with all that it refers to. Pass data as arguments.
- A partition that died is rebuilt: its calls are made again, in another process. So the function must give the same
  result each time. It has no clock, no random numbers but those of `raysal.rng`, and keeps nothing outside of
  `partition.state`. Files that it writes must be the same when they are written again.
- What is a function of files alone, such as an index that was read, goes into `partition.held`, which `reset` leaves.
- It must not change its arguments: in this process all partitions get the same objects, on a cluster read-only copies.
- It must not return arrays that it changes later: in this process the coordinator gets the arrays themselves.
- Arguments travel once to every partition, results once to the coordinator. A result is as long as what the coordinator
  needs, never as long as the partition: the memory of the coordinator must not grow with the pool.
- The cost of `each` is that of the slowest partition, and with Ray about 1.5 ms more. A loop over single picks is too
  slow; let a call find many.
- An error ends the program. The next call must be `reset`.
- Calls of one fleet are made by one thread, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

R = TypeVar("R")


class Fleet(Protocol):
    """The partitions of one pool, wherever they live.

    A program is a sequence of `each` calls between two `reset`s. What a partition keeps in `state` is a function of the
    files and the calls of the program, so a lost partition is rebuilt by replaying the calls.
    """

    @property
    def size(self) -> int:
        """Number of partitions."""
        ...

    def reset(self) -> None:
        """Begin a new program: every partition forgets its state, exclusions, candidates and hidden layer."""
        ...

    def each(self, fn: Callable[..., R], *args: Any) -> list[R]:
        """Call `fn(partition, *args)` on every partition, in one round trip.

        Args:
            fn: A pure function of a module; see the pitfalls above.
            args: Its arguments after the partition, the same for every partition.

        Returns:
            The results, in partition order.

        Raises:
            RaysalError: What `fn` raised, in the first partition that raised.
            FleetError: A partition could not be computed, however often it was tried. On a cluster also in place of an
                error that is not one of raysal.
        """
        ...

    def close(self) -> None:
        """Let the partitions go. The fleet cannot be used afterwards."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
