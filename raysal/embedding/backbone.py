"""The network of an image encoder, and the pixels that it takes: what is trained, and what runs when that is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raysal.embedding.rendering import PLAIN, Rendering
from raysal.embedding.torch_model import one_vector_each

if TYPE_CHECKING:
    import torch

Scale = tuple[float, float, float]
"""One number for each channel, in units of a pixel's 0..255."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Backbone:
    """A network, and the pixels that it takes: (x - mean) / std with x in 0..255, as float32 [n, 3, size, size]."""

    name: str
    """of the encoder, for errors"""
    module: torch.nn.Module
    """It returns [n, d] or [n, d, 1, 1]."""
    size: int
    """Side of a picture in pixels."""
    mean: Scale
    std: Scale
    fast: bool = False
    """Whether pictures are read by `decode.fast_square_pixels`, else by `decode.square_pixels`."""
    rendering: Rendering = PLAIN
    """What is seen of a picture."""

    def features(self, batch: torch.Tensor) -> torch.Tensor:
        """The vectors [n, d] of normalised pictures. Gradients flow through it.

        Args:
            batch: float32 [n, 3, size, size]

        Returns:
            The vectors.

        Raises:
            EncoderError: the network does not pool its features.
        """
        return one_vector_each(self.name, self.module(batch)).flatten(1)

    def quickest(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """What computes `features` most quickly, where the network is done with training."""
        return self.features

    def passes(self, images: int) -> int:
        """In how many pieces a batch of images is best run on a CPU."""
        del images
        return 1
