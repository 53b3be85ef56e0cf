"""The partitions of a pool in this process: for tests, notebooks and one GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import torch

from raysal.fleet.partition import Partition
from raysal.fleet.specs import PartitionSpec
from raysal.pool import Pool

R = TypeVar("R")


class LocalFleet:
    """A fleet in this process. `each` visits the partitions in turn; a product uses all threads."""

    def __init__(self, specs: Sequence[PartitionSpec], pool: Pool | None = None) -> None:
        """Open the partitions.

        Args:
            specs: The partitions of one pool. The threads of the first one, unless 0, are those of torch until `close`.
            pool: The pool, if it is open already.

        Raises:
            PoolError: The pool cannot be opened.
            FingerprintMismatch: It is not the pool of the specs.
        """
        self._threads_before = 0
        if specs and pool is None:
            pool = specs[0].open_pool()
        self._partitions = [Partition(spec, pool) for spec in specs]
        if specs and specs[0].threads:
            self._threads_before = torch.get_num_threads()
            torch.set_num_threads(specs[0].threads)

    @classmethod
    def of(cls, *partitions: Partition) -> Self:
        """Make a fleet of partitions that are open already."""
        made = cls([])
        made._partitions = list(partitions)
        return made

    @property
    def size(self) -> int:
        """Number of partitions."""
        return len(self._partitions)

    def reset(self) -> None:
        """Begin a new program."""
        for partition in self._partitions:
            partition.reset()

    def each(self, fn: Callable[..., R], *args: Any) -> list[R]:
        """Call `fn(partition, *args)` on every partition, in order (see `Fleet.each`).

        An error of any kind is raised as it is, and the later partitions are not visited.

        Args:
            fn: A function of a partition.
            args: Its arguments after the partition.

        Returns:
            The results, in partition order.
        """
        return [fn(partition, *args) for partition in self._partitions]

    def close(self) -> None:
        """Let the files go, and give torch back the number of threads that it had."""
        self._partitions = []
        if self._threads_before:
            torch.set_num_threads(self._threads_before)
            self._threads_before = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
