"""Functions of a partition that misbehave, by name so that they travel to other processes."""

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
    return os.getpid()


def index(partition: Partition) -> int:
    return partition.index


def threads(partition: Partition) -> int:
    return torch.get_num_threads()


def count(partition: Partition, step: int) -> int:
    """A running total: shows how often calls were made, and in what order."""
    partition.state["total"] = partition.state.get("total", 0) * 10 + step
    return partition.state["total"]


def first_time(marker: Path) -> bool:
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
    if partition.index == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def hang_once(partition: Partition, folder: str, step: int) -> int:
    total = count(partition, step)
    if partition.index == 1 and first_time(Path(folder) / "hung"):
        while True:
            time.sleep(60)
    return total


def hand_on(partition: Partition, delay: float) -> int:
    """Takes its time, and counts."""
    time.sleep(delay)
    return count(partition, 1)


def exhausted(partition: Partition) -> None:
    if partition.index:
        raise PoolExhausted(wanted=partition.index, available=0)


def damaged(partition: Partition) -> None:
    raise Damaged("file", "is broken", "mend it")


def broken(partition: Partition) -> None:
    if partition.index == 1:
        raise ZeroDivisionError("by zero")


class Tape:
    """Stands where a partition stands: keeps what was done to it since the last reset."""

    def __init__(self) -> None:
        self.done: list[Any] = []

    def reset(self) -> None:
        self.done = []


def record(tape: Tape, value: Any) -> tuple[Any, ...]:
    tape.done.append(value)
    return tuple(tape.done)
