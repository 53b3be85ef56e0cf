"""How the lazy engine shares work out among threads, and the memory that each of them uses again.

Each thread does all of the work on some rows, and torch computes on one thread everywhere. Where torch cuts up every
call among threads, they wait for one another at the end of each. On idle cores that takes as long as a short call
itself; on busy ones, where a thread may not be running, it takes milliseconds: a core of 500 from 100,000 x 128 numbers
took 107 s on two cores with a load of 15, and 9 s on one thread.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch

from raysal.numerics import BLOCK_ROWS, FEW_NUMBERS, ceil_div, one_thread, round_up, shared_out, slices

T = TypeVar("T")
R = TypeVar("R")
TURNS = 4
"""Runs of rows for each thread: the last to end then keeps the others waiting for less."""


class _Free(threading.local):
    threads = 1
    """that the work of this thread may be shared out among, itself included"""


_FREE = _Free()


@contextmanager
def sharing(numbers: int, device: torch.device) -> Iterator[None]:
    """Within it torch computes on one thread, and `shared` does work in as many as torch had before.

    Args:
        numbers: Of the vectors that the work is on, rows times width: few of them are left to one thread.
        device: Where they lie; what another device than the CPU does is not shared out.

    Yields:
        Nothing.
    """
    threads = torch.get_num_threads() if numbers > FEW_NUMBERS and device.type == "cpu" else 1
    with one_thread():
        before, _FREE.threads = _FREE.threads, threads
        try:
            yield
        finally:
            _FREE.threads = before


def threads_free() -> int:
    """How many threads `shared` takes here: one outside of `sharing`, and within what is shared out already."""
    return _FREE.threads


def shared(work: Callable[[T], R], things: Sequence[T]) -> list[R]:
    """Do some work for each of some things; returns what it returned, in their order."""
    threads = threads_free()
    if threads == 1 or len(things) < 2:
        return [work(thing) for thing in things]
    _FREE.threads = 1
    try:
        return shared_out(work, things, threads)
    finally:
        _FREE.threads = threads


def in_runs(work: Callable[[slice], None], rows: int, most: int | None = None) -> None:
    """Do some work for runs of rows.

    Args:
        work: Is called with each run; it writes what it finds where no other run does.
        rows: How many there are.
        most: Rows of a run, at most, where the memory for more of them is not to be had. The fewer runs, the better.
    """
    threads = threads_free()
    runs = 1 if threads == 1 else threads if most is not None else TURNS * threads
    size = max(round_up(ceil_div(rows, runs), BLOCK_ROWS), BLOCK_ROWS)
    shared(work, [*slices(rows, size if most is None else min(size, most))])


class Rooms(threading.local):
    """Memory for what is computed of a block, which is used again: products in new memory take twice the time.

    Every thread has its own. What is in it lasts until the thread asks for the same room again.
    """

    def __init__(self) -> None:
        self._held: dict[str, torch.Tensor] = {}

    def room(
        self, name: str, *shape: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> torch.Tensor:
        """A tensor of some shape, whatever is in it."""
        size, held = math.prod(shape), self._held.get(name)
        if held is None or len(held) < size:
            held = self._held[name] = torch.empty(size, dtype=dtype, device=device)
        return held[:size].view(shape)
