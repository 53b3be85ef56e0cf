"""Where distances are taken: functions of (vector, head) to the features a rule compares.

A feature map gives *factors*, float32 matrices [n, width]; the feature of a row is the Kronecker product of its
factors. Inner products of features are then products of inner products of factors, so BADGE's gradients r (x) h, C *
d numbers a row, are never formed (the identity is that of Zhang et al., arXiv 2306.09910, appendix D).

Factors are computed on blocks of one shape, so that a row has the same factors to the last bit wherever it lies; what
is compared later, in double precision, are these numbers. They are not kept: a row's factors are computed again
whenever the row is looked at, which costs one product with the head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.models.likelihood import IDENTITY
from raysal.numerics import BLOCK_ROWS, AlignedMatrix, one_thread, padded, round_up, tiles
from raysal.scoring.linear import Linear, probabilities_of

Factors = tuple[torch.Tensor, ...]
"""One or two float32 matrices with the same number of rows and widths that are multiples of ALIGN."""
Arrays = tuple[NDArray[np.float32], ...]
"""Factors as they travel between processes."""


class FeatureMap(Protocol):
    """Fields are what travels to the partitions."""

    def bind(self, width: int, device: torch.device) -> Callable[[torch.Tensor], Factors]:
        """The map for blocks of features float32 [BLOCK_ROWS, width] on a device.

        Its results may share memory with the block.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """The embedding vectors as they are."""

    def bind(self, width: int, device: torch.device) -> Callable[[torch.Tensor], Factors]:
        del width, device
        return lambda block: (block,)


@dataclass(frozen=True, kw_only=True)
class UnitVectors:
    """Vectors of length one; a zero vector stays zero."""

    def bind(self, width: int, device: torch.device) -> Callable[[torch.Tensor], Factors]:
        del width, device
        return lambda block: (torch.nn.functional.normalize(block, dim=1),)


@dataclass(frozen=True, kw_only=True)
class Projected:
    """Vectors times a matrix [d, m]: whitening, or a random projection. For code that calls the engine; no strategy's
    config names it."""

    matrix: NDArray[np.float32]

    def bind(self, width: int, device: torch.device) -> Callable[[torch.Tensor], Factors]:
        matrix = AlignedMatrix(self.matrix.T, torch.float32, device, width=width)
        return lambda block: (matrix.padded_products(block),)


@dataclass(frozen=True, kw_only=True)
class Scaled:
    """Vectors times one number per dimension [d]. For code that calls the engine, as `Projected`."""

    scale: NDArray[np.float32]

    def bind(self, width: int, device: torch.device) -> Callable[[torch.Tensor], Factors]:
        scale = padded(self.scale[None], width, torch.float32, device)[0]
        return lambda block: (block * scale,)


@dataclass(frozen=True, kw_only=True)
class Probabilities:
    """The head's class probabilities."""

    head: Linear

    def bind(self, width: int, device: torch.device) -> Callable[[torch.Tensor], Factors]:
        predict = predictor(self.head, width, device)
        return lambda block: (columns_wise(predict(block)),)


@dataclass(frozen=True, kw_only=True)
class Gradients:
    """Gradients of the loss at what is predicted by the last layer's weights: vector (x) (e_argmax - p), or with
    several labels at once vector (x) ([p >= 1/2] - p)."""

    head: Linear

    def bind(self, width: int, device: torch.device) -> Callable[[torch.Tensor], Factors]:
        outputs_of_block = predictor(self.head._replace(likelihood=IDENTITY), width, device)

        def factors(block: torch.Tensor) -> Factors:
            outputs = outputs_of_block(block)
            with one_thread():
                residual = self.head.likelihood.prediction_residual(outputs)
            return block, columns_wise(residual)

        return factors


def predictor(head: Linear, width: int, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """Blocks to what the head predicts, float32 [C, BLOCK_ROWS]."""
    weight = AlignedMatrix(head.weight, torch.float32, device, width=width)

    def predict(block: torch.Tensor) -> torch.Tensor:
        product = weight.products(block)
        with one_thread():
            return probabilities_of(product, head)

    return predict


def columns_wise(classes: torch.Tensor) -> torch.Tensor:
    """[C, n] as a factor [n, C'], C' a multiple of ALIGN, zero beyond C."""
    return padded(classes.T, round_up(len(classes)), classes.dtype, classes.device)


def factors_of(feature_map: FeatureMap, vectors: NDArray[np.float32]) -> Arrays:
    """The factors of vectors [n, d] that are at hand, as a partition would compute them."""
    width = round_up(vectors.shape[1])
    bound = feature_map.bind(width, torch.device("cpu"))
    parts: list[Arrays] = []
    for own, block in tiles(vectors, BLOCK_ROWS, width, torch.float32):
        parts.append(tuple(factor[: own.stop - own.start].clone().numpy() for factor in bound(block)))
    if not parts:
        nothing = torch.zeros(BLOCK_ROWS, width)
        return tuple(np.empty((0, factor.shape[1]), np.float32) for factor in bound(nothing))
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))
