"""A head beside the data: its columns for the product with a block, and what it predicts there, with bits that are the
same for any number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.fleet.partition import ALIGN, Partition, padded
from raysal.models.head import Head
from raysal.models.likelihood import SOFTMAX, Likelihood


class Linear(NamedTuple):
    """What of a head travels to the partitions: weight [C, d] and bias [C], both over the temperature, and what its
    outputs are. The covariance stays at home."""

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    likelihood: Likelihood = SOFTMAX

    @classmethod
    def of(cls, head: Head) -> Linear:
        return cls(head.weight / head.temperature, head.bias / head.temperature, head.likelihood)


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
    return head.likelihood.torch_responses(outputs_of(product, head))


def outputs_of(product: torch.Tensor, head: Linear) -> torch.Tensor:
    """The outputs [C, n] of the head, as `probabilities_of`."""
    # Laid out anew: the softmax of transposed logits would copy them, twice.
    products = product[:, : len(head.bias)].T.contiguous()
    bias = torch.from_numpy(head.bias.astype(np.float32)).to(products.device)[:, None]
    return products.add_(bias)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for softmax and scores. Threads cut an array where it suits them, exp and log treat the ends of a
    piece apart, and so a last bit would depend on their number: it did with 3 of them (measured 2026-11)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # takes 0.1 microseconds
    try:
        yield
    finally:
        torch.set_num_threads(threads)
