"""Spaces in which every candidate is compared with every centre.

In a space an item has a vector, which is read from the pool, and factors, which are computed once and kept. An inner
product is a sum of products of inner products of these. So gradients, which are Kronecker products, are never formed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add, mul
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.fleet import Partition
from raysal.numerics import padded, round_up, slices, tiles
from raysal.scoring.row_values import refuse_broken
from raysal.strategies.engine.dense import CANDIDATE_ROWS, CandidateRows

CENTRES_PER_PRODUCT = 64
"""Centres of one product, when many are added at once."""
INPUTS = -1
"""In `Space.summands`: the vectors."""

Floats = NDArray[np.float64]
Factors = tuple[torch.Tensor, ...]
"""What is kept of the rows of a block: float32 [CANDIDATE_ROWS, width] each, widths multiples of ALIGN."""


class Centres(NamedTuple):
    """Items that others are compared with; or one item, without the first dimension."""

    vectors: Floats
    """[m, d], as `Space.inputs` has them."""
    kept: Floats
    """[m, widths of what is kept together]"""


@dataclass(frozen=True, kw_only=True)
class Space(ABC):
    """What rows and centres are compared by. Its fields are what travels to the partitions.

    An inner product is a sum over `summands`, each the product of the inner products of its factors. A factor is the
    vectors about `centre`, in units of `length`, with a `bias` added to their inner product; or a matrix that is kept.
    """

    centre: Floats
    """[d]"""
    length: float = 1.0

    @property
    @abstractmethod
    def summands(self) -> tuple[tuple[int, ...], ...]:
        """The factors of each summand: `INPUTS`, or a place in what is kept."""

    @property
    @abstractmethod
    def bias(self) -> float:
        """What is added to an inner product of vectors."""

    @property
    @abstractmethod
    def below(self) -> bool:
        """Whether vectors are those of the pool, even where the partitions show hidden features."""

    @property
    def reads(self) -> bool:
        """Whether vectors are looked at again for every centre."""
        return any(INPUTS in summand for summand in self.summands)

    @property
    @abstractmethod
    def widths(self) -> tuple[int, ...]:
        """Columns of what is kept."""

    def split(self, kept: Floats) -> list[Floats]:
        """Cut what is kept of items [..., all widths] into factors."""
        return np.split(kept, np.cumsum(self.widths)[:-1], -1) if self.widths else []

    def combined(self, of: Callable[[int], Any]) -> Any:
        """The sum over summands of the products of numbers that `of` gives of a factor: inner products, or squares."""

        def with_bias(place: int) -> Any:
            return of(place) + self.bias if place == INPUTS else of(place)

        return reduce(add, (reduce(mul, map(with_bias, summand)) for summand in self.summands))

    def sq_norms(self, centres: Centres) -> Floats:
        """Squared norms float64 [m] of centres."""
        factors = (*self.split(centres.kept), centres.vectors)
        return np.asarray(self.combined(lambda place: (factors[place] ** 2).sum(-1)))

    def inputs(self, vectors: Floats) -> Floats:
        """Vectors [..., d] about the centre, in units of the length."""
        return np.asarray((vectors - self.centre) / self.length)

    @abstractmethod
    def bind(self, width: int, device: torch.device) -> Callable[[torch.Tensor], Factors]:
        """Prepare to compute what is kept.

        Args:
            width: Columns of a block.
            device: The torch device of blocks.

        Returns:
            A function from a block of vectors, float32 [CANDIDATE_ROWS, width], to what is kept of its rows.
        """


@dataclass(frozen=True, kw_only=True)
class VectorSpace(Space):
    """The vectors, or the hidden features that the partitions show. Nothing is kept."""

    summands = ((INPUTS,),)
    widths = ()
    bias = 0.0
    below = False

    def bind(self, width: int, device: torch.device) -> Callable[[torch.Tensor], Factors]:
        """Keep nothing."""
        del width, device

        def kept(block: torch.Tensor) -> Factors:
            del block
            return ()

        return kept


def centres_of(space: Space, vectors: NDArray[np.float32]) -> Centres:
    """Compute of vectors in the driver [m, d], m >= 1, what the partitions compute of theirs."""
    width = round_up(vectors.shape[1])
    bound = space.bind(width, torch.device("cpu"))
    kept = []
    for own, block in tiles(vectors, CANDIDATE_ROWS, width, torch.float32):
        columns = [factor[: own.stop - own.start].double().numpy() for factor in bound(block)]
        kept.append(np.concatenate([np.empty((own.stop - own.start, 0)), *columns], 1))
    return Centres(space.inputs(vectors.astype(np.float64)), np.concatenate(kept))


class SpaceRows(CandidateRows):
    """The candidates of a partition in a space.

    Memory: what is kept, in float32; and where vectors are looked at for every centre, as `CandidateRows`.
    """

    def __init__(self, partition: Partition, space: Space, *, ties: int) -> None:
        self.space = space
        super().__init__(partition.below() if space.below else partition, ties=ties, hold=space.reads)
        bound = space.bind(self.partition.width, self.partition.device)
        whole = round_up(len(self), CANDIDATE_ROWS)
        self.kept = torch.empty(whole, sum(space.widths), device=self.partition.device)
        """Float32 [n, widths together]; n rounded up to whole blocks."""
        for number, block in enumerate(self.partition.blocks(self.rows, CANDIDATE_ROWS)):
            for out, factor in zip(self._factors_of(number * CANDIDATE_ROWS), bound(block.features), strict=True):
                out.copy_(factor)

    def _read(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """Vectors as `Space.inputs` has them."""
        centre = padded(self.space.centre[None], self.partition.width, torch.float64, self.partition.device)[0]
        for own, features in super()._read():
            yield own, features.sub_(centre).div_(self.space.length)

    def _factors_of(self, start: int) -> tuple[torch.Tensor, ...]:
        """What is kept of a block, by factor."""
        block, ends = self.kept[start : start + CANDIDATE_ROWS], np.cumsum(self.space.widths).tolist()
        return tuple(block[:, end - width : end] for end, width in zip(ends, self.space.widths, strict=True))

    def factors(self) -> Iterator[tuple[slice, tuple[torch.Tensor, ...]]]:
        """What inner products are taken of, block by block.

        Yields:
            (which candidates, float64 [CANDIDATE_ROWS, width] of all that is kept, and last of the vectors).
        """
        unread = torch.empty(0, dtype=torch.float64, device=self.partition.device)
        places = ((own, unread) for own in slices(len(self), CANDIDATE_ROWS))
        for own, vectors in self.blocks() if self.space.reads else places:
            yield own, (*(factor.double() for factor in self._factors_of(own.start)), vectors)

    def sq_norms(self) -> torch.Tensor:
        """Squared norms in the space, as `CandidateRows.sq_norms`."""
        norms = self.numbers()
        for own, factors in self.factors():
            square = [(factor * factor).sum(-1) for factor in factors]
            norms[own] = self.space.combined(square.__getitem__)[: own.stop - own.start]
        refuse_broken(self.ids, torch.isfinite(norms).cpu().numpy())
        return norms

    def inner_products(self, centres: Centres) -> Iterator[tuple[slice, torch.Tensor]]:
        """Compute inner products with centres, block by block. One product of one shape for each factor.

        Args:
            centres: One, or up to CENTRES_PER_PRODUCT.

        Yields:
            (which candidates [n], inner products float64 [n, m]) in order.
        """
        many = len(centres.vectors)
        columns = [
            padded(factor, width, torch.float64, self.partition.device, rows=CENTRES_PER_PRODUCT).T.contiguous()
            if many > 1
            else padded(factor, width, torch.float64, self.partition.device)[0]
            for factor, width in zip(
                (*self.space.split(centres.kept), centres.vectors),
                (*self.space.widths, self.partition.width),
                strict=True,
            )
        ]
        for own, factors in self.factors():
            inner = self.space.combined(partial(_product, factors, columns))
            yield own, inner[: own.stop - own.start].reshape(own.stop - own.start, -1)[:, :many]


def _product(factors: Sequence[torch.Tensor], columns: Sequence[torch.Tensor], place: int) -> torch.Tensor:
    return factors[place] @ columns[place]
