"""What runs in the processes of a Ray fleet: plain classes, which `raysal.fleet.ray_fleet` makes actors of."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from raysal.fleet.partition import Partition
from raysal.fleet.replay import Behind, Call, Done, Host, Stale
from raysal.fleet.specs import PartitionSpec


def actor_options(spec: PartitionSpec) -> dict[str, Any]:
    """Return Ray's options for the actor of a partition: what it needs of its node, and what follows its death.

    Ray starts a new process as often as one dies, and never repeats a call.
    """
    return {
        "num_cpus": max(spec.threads, 1),
        "num_gpus": 1 if spec.device.startswith("cuda") else 0,
        "max_restarts": -1,
        "max_task_retries": 0,
    }


class PartitionActor:
    """Hosts one partition in a process of its own."""

    def __init__(self, spec: PartitionSpec, most: int = 1) -> None:
        """Open no file: `ready`, and the first call of a session, open the files and raise what is wrong with them.

        Args:
            spec: The partition.
            most: Number of sessions that are kept.
        """
        if spec.threads:
            torch.set_num_threads(spec.threads)  # Ray exports OMP_NUM_THREADS=1
        self._spec = spec
        self._data: Partition | None = None
        self._host = Host(self._view, most)

    def _view(self) -> Partition:
        """Return the partition for a new session; the first time, open the files."""
        if self._data is None:
            self._data = Partition(self._spec)
        return self._data.view()

    def ready(self) -> None:
        """Open the files, so that an error in them is raised now."""
        self._view()

    def apply(self, program: int, first: int, calls: Sequence[Call], session: str = "") -> Done | Behind | Stale:
        """Make calls of a program on the partition of this process.

        Args:
            program: Number of the program.
            first: Number of the first of `calls` in the program.
            calls: Consecutive calls.
            session: The session whose program it is.

        Returns:
            What `Host.run` returns.
        """
        return self._host.run(program, first, calls, session)


class ServiceActor(PartitionActor):
    """Hosts one partition of a service, for several sessions."""

    def __init__(self, spec: PartitionSpec, most: int, count: int) -> None:
        """Open no file.

        Args:
            spec: The partition.
            most: Number of sessions that are kept.
            count: Number of partitions of the service.
        """
        super().__init__(spec, most)
        self._count = count

    def forget(self, session: str) -> None:
        """Drop the masks and the state of a session."""
        self._host.forget(session)

    def about(self) -> tuple[PartitionSpec, int]:
        """Return the partition's spec, and the number of partitions of the service."""
        return self._spec, self._count

    def quiet(self) -> float:
        """Return the seconds since a call of any session began or ended."""
        return time.monotonic() - self._host.since
