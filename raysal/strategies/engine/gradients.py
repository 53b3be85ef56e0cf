"""Gradients of a head by all of its weights, as a space: exact, or sketched to a few hundred numbers.

The gradient by the weights of a layer is input (x) derivative of what comes out. So the inner product of the gradients
of two items is a sum over layers of (inner product of inputs) * (inner product of derivatives): the finite-width neural
tangent kernel (Holzmueller et al., JMLR 2023).

A sketch holds a gradient in m numbers: the inputs and the derivatives of each layer are projected by Gaussian matrices,
multiplied number by number, and added up over the layers. Inner products of sketches are unbiased. With one layer, the
standard deviation of a squared length is sqrt(8 / m) of it, 12 % for 512 numbers. Derivatives that are all one number 1
are not projected, and it is sqrt(2 / m), 6 %; the authors' code projects these, too.

As in the authors' networks, inputs of a layer have a mean square length of 1, and beside them is a 1, the input of the
bias; vectors are centred. So neither a constant that is added to all vectors nor a factor changes a comparison. The
authors centre and scale each feature by itself; here all features of a vector have one scale, as in the pool. Centre
and lengths are those of a uniform sample of the candidates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.features import LARGEST, DeviceLayer, HiddenLayer
from raysal.fleet import Fleet, vectors_below
from raysal.models.head import Head
from raysal.numerics import AlignedMatrix, padded, round_up
from raysal.rng import derive, generator
from raysal.scoring.linear import Linear
from raysal.scoring.row_values import refuse_broken
from raysal.scoring.top_k import best_of_parts
from raysal.strategies.base import sample_candidates
from raysal.strategies.engine.spaces import INPUTS, Factors, Space

SAMPLE = 1_024
"""Candidates that say where the vectors lie and how long the inputs of a layer are."""

Layer = tuple[torch.Tensor, torch.Tensor | None]
"""Inputs, the last of which is 1, and derivatives of the rows of a block; None where all derivatives are 1."""


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
    sample = derive(key, "sample")
    ids, _ = best_of_parts(fleet.each(sample_candidates, sample, SAMPLE), SAMPLE, ties=sample)
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
