"""Functions of a partition that misbehave; they have names, so that they travel to other processes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import torch

from raysal.errors import Damaged, PoolExhausted
from raysal.fleet import Partition


def process(partition: Partition) -> int:
    """Return the number of the process."""
    return os.getpid()


def index(partition: Partition) -> int:
    """Return the number of the partition."""
    return partition.index


def threads(partition: Partition) -> int:
    """Return how many threads torch uses here."""
    return torch.get_num_threads()


def count(partition: Partition, step: int) -> int:
    """Add a digit to a running total, which shows how often calls were made, and in what order."""
    partition.state["total"] = partition.state.get("total", 0) * 10 + step
    return partition.state["total"]


def first_time(marker: Path) -> bool:
    """Return whether a file is not there yet, and make it."""
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def die_once(partition: Partition, folder: str, step: int) -> int:
    """The first partition kills its own process in the middle of a call, after the state has changed."""
    total = count(partition, step)
    if partition.index == 0 and first_time(Path(folder) / f"died-{step}"):
        os.kill(os.getpid(), signal.SIGKILL)
    return total


def die(partition: Partition) -> None:
    """Partition 1 kills its own process, each time."""
    if partition.index == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def hang_once(partition: Partition, folder: str, step: int) -> int:
    """Partition 1 hangs, the first time, after the state has changed."""
    total = count(partition, step)
    if partition.index == 1 and first_time(Path(folder) / "hung"):
        while True:
            time.sleep(60)
    return total


def hand_on(partition: Partition, delay: float) -> int:
    """Take some seconds, and count."""
    time.sleep(delay)
    return count(partition, 1)


def exhausted(partition: Partition) -> None:
    """Partition 1 raises an error of raysal with fields."""
    if partition.index:
        raise PoolExhausted(wanted=partition.index, available=0)


def damaged(partition: Partition) -> None:
    """Raise an error of raysal in every partition."""
    raise Damaged("file", "is broken", "mend it")


def broken(partition: Partition) -> None:
    """Partition 1 raises an error that is not one of raysal."""
    if partition.index == 1:
        raise ZeroDivisionError("by zero")


class Tape:
    """Stands in for a partition: it keeps what was done to it since the last reset."""

    def __init__(self) -> None:
        self.done: list[Any] = []

    def reset(self) -> None:
        """Forget what was done."""
        self.done = []


def record(tape: Tape, value: Any) -> tuple[Any, ...]:
    """Do one more thing, and return all that was done."""
    tape.done.append(value)
    return tuple(tape.done)
