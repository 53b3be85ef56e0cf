"""The incremental greedy loop over a fleet: each pick is broadcast, every partition folds it in and names its
next.

One round trip per pick. A row's squared distances are taken in float64 from fixed-shape products, so that
equal rows get equal values wherever they lie, and ties go to the lower id.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.fleet import Partition
from raysal.fleet.partition import ALIGN, padded
from raysal.sweep import Linear

BLOCK = 256
"""Rows of a block here. A few thousand candidates over several partitions leave blocks mostly empty, and an
empty row costs as much as a full one."""
HELD_BYTES = 256 * 2**20
"""Candidates whose features fit in this stay in memory between picks; larger sets are read again each
time."""
COINCIDENT = 1e-12
"""Squared distances below this share of the two squared norms are taken as zero: rounding leaves about 1e-15
of the norms between equal rows, and a positive remainder would let a duplicate of a pick be picked for its
noise."""


TILE = 64
"""Centres of one product when many are folded in at once."""


class Best(NamedTuple):
    """A partition's next pick: what it is judged by, its id, and the vectors the others need to fold it in.
    An id of -1: no candidate is left here."""

    value: float
    id: int
    feature: NDArray[np.float64]
    factor: NDArray[np.float64]


class Candidates:
    """The candidate rows of a partition with their features, and for BADGE the residuals that factor its
    gradients.

    Memory: 8 bytes a row for each of a few numbers, the residuals [n, C] in float32, and the features if they
    fit in `HELD_BYTES`. The gradient embedding, C * d numbers a row, is never formed.
    """

    def __init__(self, partition: Partition, head: Linear | None) -> None:
        self.partition = partition
        self.rows = partition.candidates()
        self.ids = partition.ids[self.rows]
        n = len(self.rows)
        self.residuals: torch.Tensor | None = None
        if head is not None:  # padded in both directions, for products of one shape (see fleet.partition)
            classes = -(-len(head.bias) // ALIGN) * ALIGN
            self.residuals = torch.zeros(-(-n // BLOCK) * BLOCK, classes, device=partition.device)
        self.sq_norms = torch.empty(n, dtype=torch.float64, device=partition.device)
        self._held: list[torch.Tensor] | None = [] if n * partition.width * 8 <= HELD_BYTES else None
        weight = None if head is None else padded(head.weight, partition.width, torch.float64, partition.device)
        for start, wide in self._read():
            if self._held is not None:
                self._held.append(wide)
            norms = (wide * wide).sum(1)
            stop = min(start + BLOCK, n)
            if weight is not None and self.residuals is not None and head is not None:
                logits = wide @ weight.T + torch.tensor(head.bias, device=partition.device)
                residual = residuals(torch.softmax(logits, 1)).float()
                self.residuals[start : start + BLOCK, : residual.shape[1]] = residual
                norms = norms * (self.residuals[start : start + BLOCK].double() ** 2).sum(1)
            self.sq_norms[start:stop] = norms[: stop - start]

    def _read(self) -> Iterator[tuple[int, torch.Tensor]]:
        for number, block in enumerate(self.partition.blocks(self.rows, BLOCK)):
            yield number * BLOCK, block.features.double()

    def blocks(self) -> Iterator[tuple[int, torch.Tensor]]:
        """(first row, features float64 [BLOCK, width]) in order."""
        if self._held is None:
            yield from self._read()
        else:
            yield from ((number * BLOCK, block) for number, block in enumerate(self._held))

    def sq_distances(self, feature: NDArray[np.float64], factor: NDArray[np.float64]) -> torch.Tensor:
        """Squared distances float64 [n] to one centre.

        Without residuals |x|^2 + |c|^2 - 2 x.c; with them, of the gradients r (x) h, by their factors:
        |r|^2|h|^2 + |r_c|^2|h_c|^2 - 2 (r.r_c)(h.h_c).
        """
        device, n = self.partition.device, len(self.rows)
        centre = padded(feature[None], self.partition.width, torch.float64, device)[0]
        other = torch.tensor(factor, device=device)
        inner = torch.empty(n, dtype=torch.float64, device=device)
        for start, features in self.blocks():
            product = features @ centre
            if self.residuals is not None:
                product *= self.residuals[start : start + BLOCK].double() @ other
            stop = min(start + BLOCK, n)
            inner[start:stop] = product[: stop - start]
        norm = float((feature**2).sum()) * (1.0 if self.residuals is None else float((factor**2).sum()))
        return without_noise(self.sq_norms + norm, inner)

    def nearest_sq_distances(self, centres: NDArray[np.float64]) -> torch.Tensor:
        """Squared distances float64 [n] of the features to the nearest of the centres [m, d]; inf without
        any.

        One pass over the features however many centres there are; cost O(n m d).
        """
        device = self.partition.device
        nearest = torch.full((len(self.rows),), torch.inf, dtype=torch.float64, device=device)
        tiles = []
        for first in range(0, len(centres), TILE):
            some = centres[first : first + TILE]
            full = np.concatenate([some, np.repeat(some[:1], TILE - len(some), 0)])  # products of one shape
            tiles.append(padded(full, self.partition.width, torch.float64, device).T.contiguous())
        for start, features in self.blocks() if tiles else ():
            own = slice(start, min(start + BLOCK, len(self.rows)))
            sq_norms = self.sq_norms[own, None]
            for tile in tiles:
                inner = (features @ tile)[: len(sq_norms)]
                gaps = without_noise(sq_norms + (tile * tile).sum(0), inner)
                nearest[own] = torch.minimum(nearest[own], gaps.amin(1))
        return nearest

    def best(self, values: torch.Tensor) -> Best:
        """The row of largest value, ties to the lower id; -inf never wins."""
        if len(self.rows) == 0:
            return Best(-np.inf, -1, np.empty(0), np.empty(0))
        row = int(values.argmax())  # the first of equals, by its documentation
        if values[row] == -torch.inf:
            return Best(-np.inf, -1, np.empty(0), np.empty(0))
        feature = self.partition.gather(self.rows[[row]])[0].astype(np.float64)
        factor = np.empty(0) if self.residuals is None else self.residuals[row].double().cpu().numpy()
        return Best(float(values[row]), int(self.ids[row]), feature, factor)

    def row_of(self, item: int) -> int | None:
        """Position of an id among the candidates here, or None."""
        place = int(np.searchsorted(self.ids, item))
        return place if place < len(self.ids) and self.ids[place] == item else None


def without_noise(sq_norms: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
    """Squared distances from the sums of two squared norms and the inner products; 0 where only rounding is
    left."""
    gap = sq_norms - 2 * inner
    return torch.where(gap > COINCIDENT * sq_norms, gap, 0.0)


def residuals(probabilities: torch.Tensor) -> torch.Tensor:
    """e_argmax - p of probabilities [n, C], ties to the first class.

    The predicted class gets the sum of the others' probabilities rather than 1 - p, which would lose all its
    digits where the head is sure.
    """
    top = probabilities.argmax(1, keepdim=True)
    others = probabilities.scatter(1, top, 0.0)
    return (-others).scatter(1, top, others.sum(1, keepdim=True))


def winner(parts: list[Best]) -> Best:
    """The best over the partitions, ties to the lower id."""
    return min(parts, key=lambda part: (-part.value, part.id))
