"""Owners in place of their parts: the rows of a partition as a program sees them that looks at owners.

The vector of an owner is the mean of those of its parts, their weighted mean, or that of one part. It is computed in
double precision, where the sum of up to 8,192 vectors of float16 is exact, and is rounded to float16, as the vectors of
a pool are. So it depends on the parts of that owner alone, to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.fleet.parts import Part

Aggregator = Callable[[NDArray[np.float64], NDArray[np.int64]], NDArray[np.float64]]
"""From a number of each part [n], and where owners begin [m + 1], to a number of each owner [m]."""
KEPT_BYTES = 2**28
"""Vectors of owners of a partition that take no more, 256 MiB, are computed once; others at every reading."""
EXACT_PARTS = 2**13
"""Vectors of float16, at most, whose sum in double precision is exact, in any order."""
PARTS_READ = 2**14
"""Parts whose vectors are added up together: 8 bytes a number while they are."""


class Parts(Protocol):
    """A partition whose rows are parts, as far as the vectors of owners need it."""

    device: torch.device
    dim: int
    held: dict[str, Any]

    def fill(self, out: torch.Tensor, rows: NDArray[np.int64]) -> None:
        """See `Partition`."""
        ...


@dataclass(frozen=True, eq=False)
class Owners:
    """The owners of all rows of a partition, and how readers see them. 16 bytes an owner, 8 a part with weights."""

    ids: NDArray[np.int64]
    """[m], ascending"""
    begins: NDArray[np.int64]
    """[m + 1], the first row of each, and the number of rows"""
    weights: NDArray[np.float64] | None = None
    """[n] of the parts in the mean, none below 0; None for equal weights"""
    chosen: NDArray[np.int64] | None = None
    """[m] the row of each owner's part whose vector is its own; None for a mean"""
    scores: Aggregator | None = None
    """how the scores of parts become that of their owner; None where its own vector is scored"""

    def reduced(self, values: NDArray[Any], by: np.ufunc) -> NDArray[Any]:
        """What an operation makes of the values [n] of the parts of each owner, [m]."""
        return values[:0] if len(self.ids) == 0 else by.reduceat(values, self.begins[:-1])

    def rows_of(self, owners: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Find the parts of some owners.

        Args:
            owners: Their positions [k], ascending.

        Returns:
            The rows of all parts, ascending; and where among them those of each owner begin, [k + 1].
        """
        counts = self.begins[owners + 1] - self.begins[owners]
        begins = np.concatenate([[0], np.cumsum(counts)])
        return np.repeat(self.begins[owners] - begins[:-1], counts) + np.arange(begins[-1]), begins

    def seen(self, parts: Parts) -> Part:
        """Return the vectors of the owners of a partition's rows. Plain means are kept with the partition."""
        if self.weights is not None or self.chosen is not None:
            return OwnerVectors(self, parts)
        held: dict[str, Any] = parts.held
        if "means of owners" not in held:
            held["means of owners"] = OwnerVectors(self, parts)
        found: Part = held["means of owners"]
        return found


class OwnerVectors(Part):
    """The vectors of owners, as a partition reads those of items."""

    def __init__(self, owners: Owners, parts: Parts) -> None:
        """Take over the parts. Nothing is read yet."""
        super().__init__(len(owners.ids), None, slice(None))
        self._owners, self._of = owners, parts
        self._fits = 2 * len(self) * parts.dim <= KEPT_BYTES

    @property
    def stored(self) -> torch.Tensor:
        """The vectors of all owners, float16 [m, dim]; they stay in memory."""
        with self._lock:
            if self._tensor is None:
                self._tensor = self._computed(np.arange(len(self)))
        return self._tensor

    def rows(self, index: slice | torch.Tensor) -> torch.Tensor:
        """Read some of its rows, by a slice or by positions int64, ascending."""
        if self._fits:
            return super().rows(index)
        places = np.arange(len(self))[index] if isinstance(index, slice) else index.cpu().numpy()
        return self._computed(places)

    def _computed(self, places: NDArray[np.int64]) -> torch.Tensor:
        """Compute the vectors of owners at ascending positions, float16 [k, dim], on the device of the partition."""
        device, dim, of = self._of.device, self._of.dim, self._owners
        out = torch.empty(len(places), dim, dtype=torch.float16, device=device)
        if of.chosen is not None:
            self._of.fill(out, of.chosen[places])
            return out
        for some in _groups(of.begins, places):
            rows, begins = of.rows_of(places[some])
            counts = np.diff(begins)
            share = _shares(of.weights, rows, begins)
            # Only processors add up one after the other.
            place = device if share is None and counts.max() <= EXACT_PARTS else torch.device("cpu")
            whole = torch.zeros(len(counts), dim, dtype=torch.float64, device=place)
            for start in range(0, len(rows), PARTS_READ):
                own = slice(start, min(start + PARTS_READ, len(rows)))
                read = torch.empty(own.stop - own.start, dim, dtype=torch.float64, device=place)
                self._of.fill(read, rows[own])
                if share is not None:
                    read *= share[own, None]
                which = np.repeat(np.arange(len(counts)), counts)[own]
                whole.index_add_(0, torch.from_numpy(which).to(place), read)
            if share is None:
                whole /= torch.from_numpy(counts).to(place)[:, None]
            out[some] = whole.float().half().to(device)
        return out


def _groups(begins: NDArray[np.int64], places: NDArray[np.int64]) -> Iterator[slice]:
    """Cut owners into runs of at most PARTS_READ parts; one that has more is a run of its own."""
    ends = np.cumsum(begins[places + 1] - begins[places])
    start = 0
    while start < len(places):
        before = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, before + PARTS_READ, "right")), start + 1)
        yield slice(start, stop)
        start = stop


def _shares(
    weights: NDArray[np.float64] | None, rows: NDArray[np.int64], begins: NDArray[np.int64]
) -> torch.Tensor | None:
    """The share of each part in its owner, float64 [n]: equal ones where all weights are 0. None for equal weights."""
    if weights is None:
        return None
    own, counts = weights[rows], np.diff(begins)
    total = np.add.reduceat(own, begins[:-1])
    equal = np.repeat(total == 0, counts)
    share = np.where(equal, 1 / np.repeat(counts, counts), own / np.where(equal, 1, np.repeat(total, counts)))
    return torch.from_numpy(share)
