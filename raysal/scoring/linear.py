"""A head beside the data: what travels of it, and what it predicts there."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.models.head import Head
from raysal.models.likelihood import SOFTMAX, Likelihood
from raysal.numerics import DRIVER_ROWS, padded, round_up, tiles


class Linear(NamedTuple):
    """What of a head travels to the partitions: weight [C, d] and bias [C], both over the temperature, and what its
    outputs are. The covariance stays at home."""

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    likelihood: Likelihood = SOFTMAX

    @classmethod
    def of(cls, head: Head) -> Linear:
        return cls(head.weight / head.temperature, head.bias / head.temperature, head.likelihood)


def probabilities_of(product: torch.Tensor, head: Linear) -> torch.Tensor:
    """What the head predicts [C, n] from products [n, >= C] of features, whose first columns are the head's."""
    return head.likelihood.torch_responses(outputs_of(product, head))


def outputs_of(product: torch.Tensor, head: Linear) -> torch.Tensor:
    """The outputs [C, n] of the head, as `probabilities_of`."""
    # Laid out anew: the softmax of transposed logits would copy them, twice.
    products = product[:, : len(head.bias)].T.contiguous()
    bias = torch.from_numpy(head.bias.astype(np.float32)).to(products.device)[:, None]
    return products.add_(bias)


def logits_of(x: NDArray[np.float32], head: Linear) -> NDArray[np.float64]:
    """Logits float64 [n, C] of vectors [n, d] that lie in the driver, which keep the law of `numerics`. O(n d C)."""
    width, classes = round_up(x.shape[1]), len(head.bias)
    weight = padded(head.weight, width, torch.float64, rows=round_up(classes))
    out = np.empty((len(x), classes))
    for own, tile in tiles(x, DRIVER_ROWS, width, torch.float64):
        out[own] = (tile @ weight.T)[: own.stop - own.start, :classes].numpy() + head.bias
    return out
