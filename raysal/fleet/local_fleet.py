"""The partitions of a pool in this process: for tests, notebooks and one GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import torch

from raysal.fleet.partition import Partition, PartitionSpec

R = TypeVar("R")


class LocalFleet:
    """A fleet without processes; `each` visits the partitions in turn, each product using every thread."""

    def __init__(self, specs: Sequence[PartitionSpec]) -> None:
        self._threads_before = 0
        self._partitions = [Partition(spec) for spec in specs]
        if specs and specs[0].threads:
            self._threads_before = torch.get_num_threads()
            torch.set_num_threads(specs[0].threads)

    @property
    def size(self) -> int:
        return len(self._partitions)

    def reset(self) -> None:
        for partition in self._partitions:
            partition.reset()

    def each(self, fn: Callable[..., R], *args: Any) -> list[R]:
        return [fn(partition, *args) for partition in self._partitions]

    def close(self) -> None:
        """Let go of the files, and give torch back the number of threads it had."""
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
