"""The candidate rows of a partition, for strategies that bring every row up to date after every pick.

Such a strategy has three programs that its driver calls on every partition: `start` sets up the rows, `propose` names
the best row of the partition (a `Proposal`), and `add_pick` takes the best of all proposals into account. Where one of
them can answer for the next as well, the strategy saves the round trip.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.fleet import Partition
from raysal.numerics import padded
from raysal.scoring.row_values import refuse_broken
from raysal.strategies.base import position_of
from raysal.strategies.engine.ranking import first_of_largest

CANDIDATE_ROWS = 256
"""Rows of a block of candidates. A partition with some hundred candidates should not compute as for thousands."""
GROUP_ROWS = 16 * CANDIDATE_ROWS
"""Rows whose products with many vectors are looked at together: calls for each block would cost more than they do."""
FEW = 2
"""Vectors that are multiplied one by one: a product has columns for 16."""
HELD_BYTES = 2**30
"""Features of candidates stay in memory between picks if they take at most this many bytes; else they are read again
for each pick."""


class Proposal(NamedTuple):
    """The best row of a partition. An id of -1 says that no candidate is left there."""

    value: float
    """What it is judged by; the largest is picked."""
    id: int
    vector: NDArray[np.float64]
    """[d]"""
    extra: NDArray[np.float64]
    """What else the strategy needs of the row; may be empty."""
    tie: int = 2**63 - 1
    """Its number in the order of ties (`raysal.rng.item_order`)."""


NOTHING = Proposal(-np.inf, -1, np.empty(0), np.empty(0))
"""The proposal of a partition without candidates."""


class CandidateRows:
    """Ids and features of the candidates of a partition.

    Features are read in blocks of one shape, so that a row's products are the same to the last bit wherever it lies.
    Memory: the features in float64 if they fit in `HELD_BYTES`, else one block of them.

    Args:
        partition: The partition.
        rows: Ascending positions of some candidates instead of all.
        hold: Whether features are worth memory: False where they are looked at once.
        features: What makes features [n, width] of vectors as they are, both float64; each row by itself.
        ties: Key of the hash that orders rows of equal value.

    Attributes:
        rows: Ascending positions int64 [n].
        ids: int64 [n].
    """

    def __init__(
        self,
        partition: Partition,
        rows: NDArray[np.int64] | None = None,
        *,
        ties: int,
        hold: bool = True,
        features: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        self.partition, self.ties, self._features = partition, ties, features
        self.rows = partition.candidates() if rows is None else rows
        self.ids = partition.ids[self.rows]
        self._held: list[torch.Tensor] | None = None
        if hold and len(self.rows) * partition.width * 8 <= HELD_BYTES:
            self._held = [features for _, features in self._read()]

    def __len__(self) -> int:
        return len(self.rows)

    def _read(self) -> Iterator[tuple[slice, torch.Tensor]]:
        for number, block in enumerate(self.partition.blocks(self.rows, CANDIDATE_ROWS)):
            features = block.features.double()
            own = slice(number * CANDIDATE_ROWS, number * CANDIDATE_ROWS + block.n)
            yield own, features if self._features is None else self._features(features)

    def blocks(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """Read the features, block by block.

        Yields:
            (where its rows stand among the candidates, features float64 [CANDIDATE_ROWS, width]) in order.
        """
        if self._held is None:
            yield from self._read()
            return
        for number, features in enumerate(self._held):
            yield slice(number * CANDIDATE_ROWS, min((number + 1) * CANDIDATE_ROWS, len(self.rows))), features

    def numbers(self, fill: float = 0.0) -> torch.Tensor:
        """One float64 for each row, [n] on the device."""
        return torch.full((len(self.rows),), fill, dtype=torch.float64, device=self.partition.device)

    def sq_norms(self) -> torch.Tensor:
        """Compute squared norms.

        Returns:
            Float64 [n].

        Raises:
            PoolError: A vector is not finite; it names the first such item.
        """
        norms = self.numbers()
        for own, features in self.blocks():
            norms[own] = (features * features).sum(1)[: own.stop - own.start]
        refuse_broken(self.ids, torch.isfinite(norms).cpu().numpy())
        return norms

    def products(self, *vectors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Inner products float64 [n] with each of the vectors [width], in one pass over the features."""
        out = tuple(self.numbers() for _ in vectors)
        for own, features in self.blocks():
            for products, vector in zip(out, vectors, strict=True):
                products[own] = (features @ vector)[: own.stop - own.start]
        return out

    def along(self, vectors: NDArray[np.float64]) -> Iterator[tuple[slice, torch.Tensor]]:
        """Multiply the features with vectors, in one pass over them.

        Args:
            vectors: [q, d]

        Yields:
            (where GROUP_ROWS or fewer rows stand among the candidates, inner products float64 [q, n]) in order. The
            next overwrites them.
        """
        partition = self.partition
        few = padded(vectors, partition.width, torch.float64, partition.device) if len(vectors) <= FEW else ()
        matrix = None if len(few) else partition.aligned(vectors, torch.float64)
        products = torch.empty(len(vectors), GROUP_ROWS, dtype=torch.float64, device=partition.device)
        start = filled = 0
        for own, features in self.blocks():
            n = own.stop - own.start
            if matrix is not None:
                products[:, filled : filled + n] = matrix.products(features)[:n].T
            for place, vector in enumerate(few):
                products[place, filled : filled + n] = (features @ vector)[:n]
            filled += n
            if filled == GROUP_ROWS or own.stop == len(self.rows):
                yield slice(start, own.stop), products[:, :filled]
                start, filled = own.stop, 0

    def proposal_of(self, values: torch.Tensor, extra: torch.Tensor | None = None) -> Proposal:
        """Find the row of largest value.

        Args:
            values: [n]; a row of -inf is never proposed.
            extra: What else goes with the row, [n, ...].

        Returns:
            The row, or `NOTHING`.
        """
        if len(self.rows) == 0:
            return NOTHING
        row, tie = first_of_largest(values, self.ids, self.ties)
        if values[row] == -torch.inf:
            return NOTHING
        vector = self.partition.gather(self.rows[[row]])[0].astype(np.float64)
        if self._features is not None:
            vector = self._features(torch.from_numpy(vector[None]))[0].numpy()
        more = np.empty(0) if extra is None else extra[row].double().cpu().numpy()
        return Proposal(float(values[row]), int(self.ids[row]), vector, more, tie)

    def place(self, item: int) -> int | None:
        """Where an id stands among the candidates here, or None."""
        return position_of(self.ids, item)


def best_proposal(proposals: Sequence[Proposal]) -> Proposal:
    """The best over the partitions."""
    return min(proposals, key=lambda proposal: (-proposal.value, proposal.tie))


def power_of_two_scale(largest: float, bits: int) -> float:
    """A power of two that brings numbers up to `largest` within 2**bits.

    Numbers that are multiplied by it and rounded are whole, and their sum is the same in any order.

    Args:
        largest: The largest magnitude.
        bits: Binary digits of the whole numbers, at most.

    Returns:
        The factor.
    """
    return math.ldexp(1.0, min(bits - math.frexp(largest)[1], 500))
