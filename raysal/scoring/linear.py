"""A head beside the data: what travels of it, and what it predicts there."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.models.frame import Frame
from raysal.models.head import Head
from raysal.models.likelihood import SOFTMAX, Likelihood
from raysal.numerics import DRIVER_ROWS, padded, round_up, tiles


class Linear(NamedTuple):
    """What of a head travels to the partitions. The covariance stays in the driver."""

    weight: NDArray[np.float64]
    """[C, d], over the temperature"""
    bias: NDArray[np.float64]
    """[C], over the temperature"""
    likelihood: Likelihood = SOFTMAX
    """what the outputs are"""
    frame: Frame | None = None
    """the head's frame: gradients are those in it, up to one factor"""

    @classmethod
    def of(cls, head: Head) -> Linear:
        """The weights of a head, over its temperature."""
        return cls(head.weight / head.temperature, head.bias / head.temperature, head.likelihood, head.frame)

    def centre(self, width: int, device: torch.device, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Where features are 0 in the frame, [width], with zeros beyond d."""
        return padded(self._centre()[None], width, dtype, device)[0]

    def size(self, width: int, device: torch.device, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """What features are divided by in the frame, [width], with ones beyond d."""
        own = np.ones(self.weight.shape[1]) if self.frame is None else self.frame.size
        whole = np.pad(own, (0, width - len(own)), constant_values=1.0)
        return torch.from_numpy(whole).to(device=device, dtype=dtype)

    def relative_size(
        self, width: int, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> torch.Tensor | None:
        """`size` over its median, [width], with ones beyond d; None where all features have one size."""
        if self.frame is None or self.frame.has_one_size:
            return None
        return self.size(width, device, dtype) / float(np.median(self.frame.size))

    def over_sizes(self) -> Linear:
        """The same head for features over `relative_size`, less the centre of its frame."""
        size = self.relative_size(self.weight.shape[1], torch.device("cpu"), torch.float64)
        head = self.about_centre()
        return head if size is None else head._replace(weight=head.weight * size.numpy())

    def about_centre(self) -> Linear:
        """The same head for features less the centre of its frame."""
        return self._replace(bias=self.bias + self.weight @ self._centre())

    def _centre(self) -> NDArray[np.float64]:
        return np.zeros(self.weight.shape[1]) if self.frame is None else self.frame.centre


def probabilities_of(product: torch.Tensor, head: Linear) -> torch.Tensor:
    """What the head predicts of the rows of a product. For one thread.

    Args:
        product: float32 [n, >= C] of features; the head's columns come first.
        head: the weights that were multiplied.

    Returns:
        float32 [C, n] probabilities; numbers where labels are numbers.
    """
    # Laid out anew: the softmax of transposed logits would copy them, twice.
    products = product[:, : len(head.bias)].T.contiguous()
    bias = torch.from_numpy(head.bias.astype(np.float32)).to(products.device)[:, None]
    return head.likelihood.torch_responses(products.add_(bias))


def logits_of(vectors: NDArray[np.float32], head: Linear) -> NDArray[np.float64]:
    """Logits of vectors that lie in the driver; they keep the law of `raysal.numerics`. O(n d C).

    Args:
        vectors: float32 [n, d].
        head: the weights.

    Returns:
        float64 [n, C].
    """
    width, classes = round_up(vectors.shape[1]), len(head.bias)
    weight = padded(head.weight, width, torch.float64, rows=round_up(classes))
    out = np.empty((len(vectors), classes))
    for own, tile in tiles(vectors, DRIVER_ROWS, width, torch.float64):
        out[own] = (tile @ weight.T)[: own.stop - own.start, :classes].numpy() + head.bias
    return out
