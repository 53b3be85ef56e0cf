"""The vectors of a partition as they lie in the files of its pool.

A file is compared with its record before anything of it is read. A pass does not wait until that was done for all of
them: threads run ahead of it, from file to file, and whoever needs a file before they had it compares it himself. Files
of a pool in a bucket are fetched so, the next few ahead of who reads; of these few stay mapped into memory, because a
mapped file takes its room on the disk until it is let go, also when the cache deletes it.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.errors import Damaged, RaysalError
from raysal.pool.chunk import Chunk
from raysal.pool.files import IntactFile

AHEAD = 4
"""Threads that compare files ahead of a pass, at most: each takes a core for a second per GB or two. Likewise, files of
a pool in a bucket that are fetched ahead of a pass."""
MAPPED = 16
"""Files of pools in buckets that a process has mapped: up to 65,536 vectors each, so some hundred MB to one GB."""
_mapped: OrderedDict[Part, None] = OrderedDict()
_guard = threading.Lock()


class Part:
    """Vectors of a partition that lie in one file."""

    def __init__(self, rows: int, chunk: Chunk | None, cut: slice, living: torch.Tensor | None = None) -> None:
        """Take over where the vectors are. The file is read when its first row is needed, or before.

        Args:
            rows: How many vectors of it are in the partition.
            chunk: The chunk; None where the vectors are in memory.
            cut: Which rows of the file `stored` is of.
            living: Which of these are in the partition, int64 [rows], ascending; None for all: others were removed from
                the pool.
        """
        self._rows, self._chunk, self._cut, self.living = rows, chunk, cut, living
        self._checked: IntactFile | None = None
        self._tensor: torch.Tensor | None = None
        self._lock = threading.Lock()
        self.is_fetched = chunk is not None and chunk.is_fetched
        """Whether the file comes from a bucket."""
        self.next: Sequence[Part] = ()
        """Those that are fetched while this one is read."""
        self._coming = False

    @classmethod
    def of(cls, stored: torch.Tensor) -> Part:
        """Make one of vectors on a device."""
        made = cls(len(stored), None, slice(None))
        made._tensor = stored
        return made

    def __len__(self) -> int:
        return self._rows

    def check(self) -> None:
        """Compare the file with its record, unless that was done. Any thread may call it.

        Raises:
            Damaged: It differs.
        """
        with self._lock:
            known = self._checked is not None and not (self.is_fetched and not self._checked.is_as_it_was())
            if self._chunk is not None and not known:
                self._checked = self._chunk.check_bytes("vectors")

    def come(self) -> None:
        """Begin to fetch the file, in a thread that ends with the process. What fails is left to who reads it."""
        here = self._checked is not None and self._checked.is_as_it_was()
        if self._coming or self._tensor is not None or here:
            return
        self._coming = True

        def work() -> None:
            with suppress(RaysalError):
                self.check()
            self._coming = False

        threading.Thread(target=work, name="raysal-fetch", daemon=True).start()

    @property
    def stored(self) -> torch.Tensor:
        """The vectors, float16 [rows, or more where some were removed, dim], not copied."""
        tensor = self._tensor
        if tensor is None:
            assert self._chunk is not None
            for part in self.next:
                part.come()
            self.check()
            tensor = self._tensor = _tensor(self._chunk.mapped(self._checked)[self._cut])
            if self.is_fetched:
                _let_others_go(self)
        return tensor

    def let_go(self) -> None:
        """Unmap the file. It is mapped again when it is needed."""
        self._tensor = None

    def rows(self, index: slice | torch.Tensor) -> torch.Tensor:
        """Read some of its rows, by a slice or by positions int64."""
        found = index if self.living is None else self.living[index]
        return self.stored[found.to(self.stored.device) if isinstance(found, torch.Tensor) else found]


def part_of_chunk(chunk: Chunk, low: int, high: int) -> Part:
    """The rows [low, high) of those of a chunk that can be read.

    Args:
        chunk: The chunk.
        low: First row.
        high: One past the last.

    Returns:
        The part, of which only the size of the file was looked at.

    Raises:
        Damaged: The file is missing or has another size.
    """
    chunk.check_size("vectors")
    rows = chunk.living()
    if rows is None:
        return Part(high - low, chunk, slice(low, high))
    return Part(high - low, chunk, slice(None), torch.from_numpy(rows[low:high]))


def part_of_array(vectors: NDArray[np.float16]) -> Part:
    """Vectors in memory."""
    return Part.of(_tensor(vectors))


def check_ahead(parts: Sequence[Part]) -> None:
    """Check parts in their order, in threads that end with the process. A damaged file is left to who reads it.

    Of a pool in a bucket the first few are fetched now, and the next few whenever one is read.
    """
    if any(part.is_fetched for part in parts):
        for place, part in enumerate(parts):
            part.next = parts[place + 1 : place + 1 + AHEAD]
        for part in parts[:AHEAD]:
            part.come()
        return
    left = iter(list(parts))  # each of its items is given to one of the threads

    def work() -> None:
        for part in left:
            with suppress(Damaged):
                part.check()

    for _ in range(min(AHEAD, os.cpu_count() or 1, len(parts))):
        threading.Thread(target=work, name="raysal-check-ahead", daemon=True).start()


def parts_between(starts: NDArray[np.int64], start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Which parts hold some consecutive rows.

    Args:
        starts: The first row of each part, and the end of the last one.
        start: First row.
        stop: One past the last.

    Yields:
        (place of the part, its first row, one past its last row), in order, where these rows are some.
    """
    place = int(np.searchsorted(starts, start, side="right")) - 1
    while place < len(starts) - 1 and starts[place] < stop:
        if starts[place] < starts[place + 1]:
            yield place, int(starts[place]), int(starts[place + 1])
        place += 1


def _let_others_go(part: Part) -> None:
    """Keep a part mapped, and no more than `MAPPED` in all. Who reads one of the others now, reads on."""
    with _guard:
        _mapped[part] = None
        while len(_mapped) > MAPPED:
            _mapped.popitem(last=False)[0].let_go()


def _tensor(values: NDArray[np.float16]) -> torch.Tensor:
    """Return mapped vectors as a tensor, not copied."""
    with warnings.catch_warnings(action="ignore"):  # that the array is not writable
        return torch.from_numpy(values)
