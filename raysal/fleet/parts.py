"""The vectors of a partition as they lie in the files of its pool."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.pool.chunk import Chunk


class Part(NamedTuple):
    """Vectors of a partition that lie in one file."""

    stored: torch.Tensor
    """float16 [rows of the file, dim], not copied"""
    living: torch.Tensor | None
    """Which rows of them are in the partition, int64, ascending; None for all: others were removed from the pool."""

    def __len__(self) -> int:
        return len(self.stored if self.living is None else self.living)

    def rows(self, index: slice | torch.Tensor) -> torch.Tensor:
        """Read some of its rows, by a slice or by positions int64."""
        found = index if self.living is None else self.living[index]
        return self.stored[found.to(self.stored.device) if isinstance(found, torch.Tensor) else found]


def part_of_chunk(chunk: Chunk, low: int, high: int) -> Part:
    """The rows [low, high) of those of a chunk that can be read, mapped into memory."""
    rows, stored = chunk.living(), _tensor(chunk.mapped())
    return Part(stored[low:high], None) if rows is None else Part(stored, torch.from_numpy(rows[low:high]))


def part_of_array(vectors: NDArray[np.float16]) -> Part:
    """Vectors in memory."""
    return Part(_tensor(vectors), None)


def _tensor(values: NDArray[np.float16]) -> torch.Tensor:
    """Return mapped vectors as a tensor, not copied."""
    with warnings.catch_warnings(action="ignore"):  # that the array is not writable
        return torch.from_numpy(values)
