"""Where distances are taken: functions of (vector, head) to the features that a rule compares.

A feature map gives *factors*, float32 matrices [n, width]. The feature of a row is the Kronecker product of its
factors. So inner products of features are products of inner products of factors, and BADGE's gradients r (x) h, C * d
numbers a row, are never formed (the identity is that of Zhang et al., arXiv 2306.09910, appendix D).

Factors are computed on blocks of one shape, so that a row has the same factors to the last bit wherever it lies. These
are the numbers that are compared later, in double precision. They are not kept: a row's factors are computed again
whenever the row is looked at, which costs one product with the head.
"""

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
from raysal.strategies.engine.sharing import Rooms

Factors = tuple[torch.Tensor, ...]
"""One or two float32 matrices with the same number of rows and widths that are multiples of ALIGN."""
Arrays = tuple[NDArray[np.float32], ...]
"""Factors as they travel between processes."""


class FeatureMap(Protocol):
    """A map from vectors to factors. Its fields are what travels to the partitions."""

    def bind(self, width: int, device: torch.device) -> Callable[[torch.Tensor], Factors]:
        """Prepare the map for the blocks of a partition.

        Args:
            width: Columns of a block.
            device: The torch device of blocks.

        Returns:
            A function from a block float32 [BLOCK_ROWS, width] to its factors [BLOCK_ROWS, ...], which several threads
            may call. The factors may share memory with the block, and those of the thread's next block overwrite them.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """The embedding vectors as they are."""

    def bind(self, width: int, device: torch.device) -> Callable[[torch.Tensor], Factors]:
        """The block itself."""
        del width, device
        return lambda block: (block,)


@dataclass(frozen=True, kw_only=True)
class UnitVectors:
    """Vectors scaled to length one; a zero vector stays zero."""

    def bind(self, width: int, device: torch.device) -> Callable[[torch.Tensor], Factors]:
        """The block with its rows scaled."""
        del width
        rooms = Rooms()

        def unit(block: torch.Tensor) -> Factors:
            lengths = torch.linalg.vector_norm(block, dim=1, keepdim=True).clamp_min_(1e-12)
            return (torch.div(block, lengths, out=rooms.room("unit", *block.shape, device=device)),)

        return unit


@dataclass(frozen=True, kw_only=True)
class Scaled:
    """Vectors times one number per dimension [d]. For code that calls the engine; no strategy's config names it."""

    scale: NDArray[np.float32]

    def bind(self, width: int, device: torch.device) -> Callable[[torch.Tensor], Factors]:
        """The block with its columns scaled."""
        scale = padded(self.scale[None], width, torch.float32, device)[0]
        return lambda block: (block * scale,)


@dataclass(frozen=True, kw_only=True)
class Probabilities:
    """The head's probabilities, of classes or of several labels."""

    head: Linear

    def bind(self, width: int, device: torch.device) -> Callable[[torch.Tensor], Factors]:
        """One product with the head; C columns, rounded up."""
        predict = predictor(self.head, width, device)
        return lambda block: (as_factor(predict(block)),)


@dataclass(frozen=True, kw_only=True)
class Gradients:
    """Gradients of the loss at the prediction, by the last layer's weights: feature (x) residual.

    The residual is e_argmax - p, or with several labels at once [p >= 1/2] - p. Features are vectors less the centre of
    the head's frame, and where it is standardised, over the sizes of its features. So no distance between gradients
    depends on the origin of the vectors, nor one wide column of a table on its unit.
    """

    head: Linear

    def bind(self, width: int, device: torch.device) -> Callable[[torch.Tensor], Factors]:
        """The block about the centre and, by one product with the head, the residuals: C columns, rounded up."""
        outputs_of_block = predictor(self.head._replace(likelihood=IDENTITY), width, device)
        centre, size = self.head.centre(width, device), self.head.relative_size(width, device)

        def factors(block: torch.Tensor) -> Factors:
            features = block - centre
            if size is not None:
                features.div_(size)
            return features, as_factor(self.head.likelihood.prediction_residual(outputs_of_block(block)))

        return factors


def predictor(head: Linear, width: int, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function from blocks float32 [BLOCK_ROWS, width] to what the head predicts of them, float32 [C, BLOCK_ROWS]."""
    weight = AlignedMatrix(head.weight, torch.float32, device, width=width)

    def predict(block: torch.Tensor) -> torch.Tensor:
        product = weight.products(block)
        with one_thread():
            return probabilities_of(product, head)

    return predict


def as_factor(classes: torch.Tensor) -> torch.Tensor:
    """[C, n] as a factor [n, C'], C' a multiple of ALIGN, zero beyond C."""
    return padded(classes.T, round_up(len(classes)), classes.dtype, classes.device)


def factors_of(feature_map: FeatureMap, vectors: NDArray[np.float32]) -> Arrays:
    """Compute the factors of vectors that lie in the driver, as a partition would compute them.

    Args:
        feature_map: The map.
        vectors: [n, d]; n may be 0.

    Returns:
        The factors, float32 [n, width] each.
    """
    width = round_up(vectors.shape[1])
    bound = feature_map.bind(width, torch.device("cpu"))
    parts: list[Arrays] = []
    for own, block in tiles(vectors, BLOCK_ROWS, width, torch.float32):
        parts.append(tuple(factor[: own.stop - own.start].clone().numpy() for factor in bound(block)))
    if not parts:
        nothing = torch.zeros(BLOCK_ROWS, width)
        return tuple(np.empty((0, factor.shape[1]), np.float32) for factor in bound(nothing))
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))
