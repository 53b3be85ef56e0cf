"""Spaces in which every row is compared with every centre: vectors, and gradients of a head, exact or sketched.

The gradient by the weights of a layer is input (x) derivative of what comes out. So the inner product of the gradients
of two items is a sum over layers of (inner product of inputs) * (inner product of derivatives), and no gradient is
formed: the finite-width neural tangent kernel (Holzmueller et al., JMLR 2023, section 3). A sketch holds a gradient in
m numbers: the inputs and the derivatives of each layer are projected by Gaussian matrices, multiplied number by number,
and added up over the layers. Inner products of sketches are unbiased. The squared length of a sketch varies by a
standard deviation of sqrt(8 / m) of itself where there is one layer: 12 % for 512 numbers. Where a derivative is one
number that is 1 it is not projected, and the deviation is sqrt(2 / m), 6 %; the authors' code projects it, too.

As in the authors' networks, inputs of a layer have a mean square length of 1, and beside them is a 1, the input of the
bias; vectors are centred. So neither a constant that is added to all vectors nor a factor changes a comparison. The
authors centre and scale each feature by itself; here all features of a vector have one scale, as in the pool. Centre
and lengths are those of a uniform sample of the candidates.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import add, mul
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.features import LARGEST, DeviceLayer, HiddenLayer
from raysal.fleet import Fleet, Partition, vectors_below
from raysal.models.head import Head
from raysal.numerics import AlignedMatrix, padded, round_up, slices, tiles
from raysal.rng import derive, generator
from raysal.scoring.linear import Linear
from raysal.scoring.row_values import refuse_broken
from raysal.scoring.top_k import best_of_parts
from raysal.strategies.base import sample_candidates
from raysal.strategies.engine.dense import CANDIDATE_ROWS, CandidateRows

CENTRES_PER_PRODUCT = 64
"""Centres of one product, when many are added at once."""
SAMPLE = 1_024
"""Candidates that say where the vectors lie and how long the inputs of a layer are."""
INPUTS = -1
"""In `Space.summands`: the vectors."""

Floats = NDArray[np.float64]
Factors = tuple[torch.Tensor, ...]
"""What is kept of the rows of a block: float32 [CANDIDATE_ROWS, width] each, widths multiples of ALIGN."""
Layer = tuple[torch.Tensor, torch.Tensor | None]
"""Inputs, the last of which is 1, and derivatives of the rows of a block; None where all derivatives are 1."""


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


@dataclass(frozen=True, kw_only=True)
class GradientSpace(Space):
    """Gradients by all weights and biases of a head, those of its hidden layer included.

    The derivative of what comes out of the head is r = e_argmax - p for classes, [p >= 1/2] - p for several labels
    (minus that of the loss, were the prediction true), and 1 for numbers. With weights W on hidden features h, that of
    what comes out of the hidden layer is (W' r) [h > 0].
    """

    head: Linear
    layer: HiddenLayer | None
    level: float
    """Root of the mean square of a hidden feature."""
    sketch: int
    """Numbers that a gradient is held in; 0 for exact inner products."""
    key: int
    """Key of the projections."""

    bias = 1.0
    below = True

    @property
    def summands(self) -> tuple[tuple[int, ...], ...]:
        """One for each layer, the first one first; a single one of sketches."""
        if self.sketch:
            return ((0,),)
        residual = self.head.likelihood.discrete
        if self.layer is None:
            return ((INPUTS, 0),) if residual else ((INPUTS,),)
        return ((INPUTS, 0), (1, 2)) if residual else ((INPUTS, 0), (1,))

    @property
    def widths(self) -> tuple[int, ...]:
        """Of sketches; or of residuals; or of derivatives and hidden features, and of residuals."""
        if self.sketch:
            return (round_up(self.sketch),)
        hidden = () if self.layer is None else (round_up(self.layer.dim), round_up(self.layer.dim + 1))
        return (*hidden, round_up(len(self.head.bias))) if self.head.likelihood.discrete else hidden

    @property
    def width(self) -> int:
        """Numbers of an item that exact inner products need."""
        outputs = len(self.head.bias) if self.head.likelihood.discrete else 0
        return len(self.centre) + outputs + (0 if self.layer is None else 2 * self.layer.dim)

    def bind(self, width: int, device: torch.device) -> Callable[[torch.Tensor], Factors]:
        """Keep derivatives and hidden features, O(n hidden (d + C)); or sketches, O(n sketch width) more."""
        layers = self._layers(width, device)
        if self.sketch:
            return self._sketched(layers, device)

        def kept(block: torch.Tensor) -> Factors:
            (_, first), *others = layers(block)
            factors = first, *(factor for layer in others for factor in layer)
            return tuple(aligned(factor) for factor in factors if factor is not None)

        return kept

    def _sketched(
        self, layers: Callable[[torch.Tensor], list[Layer]], device: torch.device
    ) -> Callable[[torch.Tensor], Factors]:
        """The sum over layers of projected inputs * projected derivatives / sqrt(m), as one matrix."""
        shapes = [(len(self.centre), len(self.head.bias))]
        if self.layer is not None:
            shapes = [(len(self.centre), self.layer.dim), (self.layer.dim, len(self.head.bias))]
        projections = [
            (self._projection(place, "inputs", dim + 1, device), self._projection(place, "derivatives", out, device))
            for place, (dim, out) in enumerate(shapes)
        ]

        def kept(block: torch.Tensor) -> Factors:
            total = torch.zeros(len(block), round_up(self.sketch), device=device)
            for (inputs, derivatives), (left, right) in zip(layers(block), projections, strict=True):
                part = left.padded_products(aligned(inputs))
                total += part if derivatives is None else part * right.padded_products(aligned(derivatives))
            return (total / math.sqrt(self.sketch),)

        return kept

    def _projection(self, layer: int, side: str, dim: int, device: torch.device) -> AlignedMatrix:
        """A Gaussian matrix [sketch, dim], the same wherever it is made."""
        matrix = generator(derive(self.key, "sketch", layer, side)).standard_normal((self.sketch, dim))
        return AlignedMatrix(matrix, torch.float32, device, width=round_up(dim))

    def _layers(self, width: int, device: torch.device) -> Callable[[torch.Tensor], list[Layer]]:
        """A function from a block to inputs and derivatives of each layer, the first one first, in float64."""
        hidden = None if self.layer is None else DeviceLayer(self.layer, device)
        centre, bias = (torch.from_numpy(array).to(device) for array in (self.centre, self.head.bias))
        weight = torch.from_numpy(self.head.weight).to(device)
        forth = AlignedMatrix(weight, torch.float64, device, width=width if hidden is None else hidden.width)
        back = AlignedMatrix(weight.T, torch.float64, device, width=round_up(len(bias)))

        def residual_of(features: torch.Tensor) -> torch.Tensor | None:
            if not self.head.likelihood.discrete:
                return None
            outputs = forth.products(features.double()) + bias
            return self.head.likelihood.prediction_residual(outputs.T.contiguous()).T

        def layers(block: torch.Tensor) -> list[Layer]:
            vectors = with_one((block[:, : len(centre)].double() - centre) / self.length)
            if hidden is None:
                return [(vectors, residual_of(block))]
            features = hidden.see(block)
            residual = residual_of(features)
            shown = features[:, : weight.shape[1]].double()
            pulled = weight if residual is None else back.products(aligned(residual).double())
            through = pulled * ((shown > 0) & (shown < LARGEST)) * self.level
            return [(vectors, through), (with_one(shown / (self.level * math.sqrt(weight.shape[1]))), residual)]

        return layers


def with_one(inputs: torch.Tensor) -> torch.Tensor:
    """Inputs [n, d] and the input of the bias, [n, d + 1]."""
    return torch.nn.functional.pad(inputs, (0, 1), value=1.0)


def aligned(factor: torch.Tensor) -> torch.Tensor:
    """A factor in float32, with zeros up to a multiple of ALIGN columns."""
    return padded(factor, round_up(factor.shape[1]), torch.float32, factor.device)


def gradient_space(fleet: Fleet, head: Head, sketch: int, key: int) -> GradientSpace:
    """The gradients of a head over the candidates of a fleet. Two round trips; memory O(1,024 d) in the driver.

    Args:
        fleet: The partitions of the pool.
        head: The head.
        sketch: Numbers that a gradient is sketched to if exact inner products need more; 0 for exact ones.
        key: Key of the sample and of the projections.

    Returns:
        The space.

    Raises:
        PoolError: A vector of the sample is not finite; it names the item.
    """
    ids, _ = best_of_parts(fleet.each(sample_candidates, derive(key, "sample"), SAMPLE), SAMPLE)
    ids, vectors = gathered_below(fleet, np.sort(ids))
    refuse_broken(ids, np.isfinite(vectors.sum(1)))
    wide = vectors.astype(np.float64)
    centre = wide.mean(0)
    length = math.sqrt(float(((wide - centre) ** 2).sum(1).mean())) or 1.0
    layer, level = head.hidden_layer, 1.0
    if layer is not None:
        level = math.sqrt(float((layer.see(vectors).astype(np.float64) ** 2).mean())) or 1.0
    exact = GradientSpace(
        centre=centre, length=length, head=Linear.of(head), layer=layer, level=level, sketch=0, key=key
    )
    return replace(exact, sketch=sketch) if 0 < sketch < exact.width else exact


def gathered_below(fleet: Fleet, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The pool's vectors of items, below any hidden layer: (ids ascending, float32 [n, d]). One round trip."""
    ids, vectors = (np.concatenate(column) for column in zip(*fleet.each(vectors_below, ids), strict=True))
    order = np.argsort(ids)
    return ids[order], vectors[order]


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

    def __init__(self, partition: Partition, space: Space) -> None:
        self.space = space
        super().__init__(partition.below() if space.below else partition, hold=space.reads)
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
