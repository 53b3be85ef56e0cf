"""A head beside the data: its columns for the product with a block, and what it predicts there, with bits that are the
same for any number of threads."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.fleet.partition import ALIGN, Partition, padded
from raysal.models.head import Head
from raysal.models.likelihood import Link


class Linear(NamedTuple):
    """What of a head travels to the partitions: weight [C, d] and bias [C], both over the temperature, and what its
    outputs are. The covariance stays at home."""

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    link: Link = "softmax"

    @classmethod
    def of(cls, head: Head) -> Linear:
        return cls(head.weight / head.temperature, head.bias / head.temperature, head.link)


def columns_of(rows: NDArray[np.floating], partition: Partition) -> torch.Tensor:
    """`rows` [m, d] as columns float32 [width, m'] for `features @ columns`; m' is m rounded up, the rest are zero.

    As many columns as is a multiple of ALIGN: 16 take half the time of 10, and with fewer the last bits of the product
    depend on the number of threads (MKL, measured 2026-11).
    """
    aligned = np.zeros((-(-len(rows) // ALIGN) * ALIGN, partition.dim), np.float32)
    aligned[: len(rows)] = rows
    return padded(aligned, partition.width, torch.float32, partition.device).T.contiguous()


def probabilities_of(product: torch.Tensor, head: Linear) -> torch.Tensor:
    """What the head predicts [C, n] from `features @ columns` [n, >= C], whose first columns are the head's."""
    # Laid out anew: the softmax of transposed logits would copy them, twice.
    products = product[:, : len(head.bias)].T.contiguous()
    bias = torch.from_numpy(head.bias.astype(np.float32)).to(products.device)[:, None]
    return respond(products.add_(bias), head.link)


def respond(logits: torch.Tensor, link: Link) -> torch.Tensor:
    """What outputs [C, n] predict: class probabilities, a probability for each label, or the numbers themselves."""
    if link == "softmax":
        return torch.softmax(logits, 0)
    return torch.sigmoid(logits) if link == "sigmoid" else logits
