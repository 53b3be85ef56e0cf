"""Draws of a head from its posterior, beside the data and in the driver: the same draws for every item."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.fleet import Partition
from raysal.fleet.partition import ALIGN, padded
from raysal.select.base import Task, refuse_broken
from raysal.sweep import believe
from raysal.sweep.linear import one_thread
from raysal.update import Quadratic

BLOCK = 480
"""Rows of a block beside the data. A multiple of 24: see distances.py.

Blocks that stay in the cache make products of some milliseconds, of which there are hundreds. They are taken by one
thread: a second one brings a third, and on busy cores every product waits for it (60,000 x 256, 128 draws of 10 classes
and a load of 5 on two cores: 98 s against 11)."""
COLUMNS = 512
"""Columns of a product with draws, about: as many whole draws as fit, and one at least."""
NO_INFORMATION = 1e-12
"""Mutual information in nats below this is taken as none: it is what rounding leaves of the difference of two
entropies."""
TINY = 1e-300
"""What a probability below it counts as in a logarithm, so that 0 log 0 is 0."""


def posterior_draws(task: Task, draws: int) -> NDArray[np.float64]:
    """[T, C, D] weights from the posterior, over the temperature. T is `draws`, or the number of members of an ensemble
    where that is less.

    Raises:
        ConfigError: there is no head.
    """
    drawn = believe(task.needed(), needs=("draws",), draws=draws, key=task.key).draws
    assert drawn is not None
    return drawn


def posterior_variance(task: Task) -> tuple[Quadratic, float]:
    """(The variance of every output, that of a label around it), for heads that predict numbers."""
    belief = believe(task.needed(), needs=("variance",))
    assert belief.variance is not None
    return belief.variance, belief.noise


class Draws:
    """Draws [T, C, D] beside one partition, as columns for products with blocks of features in float64."""

    def __init__(self, partition: Partition, draws: NDArray[np.float64]) -> None:
        self.total, self.classes, _ = draws.shape
        device = partition.device
        some = max(COLUMNS // self.classes, 1)
        self._parts = []
        for start in range(0, self.total, some):
            weights = draws[start : start + some].reshape(-1, draws.shape[2])
            aligned = np.zeros((-(-len(weights) // ALIGN) * ALIGN, partition.dim))
            aligned[: len(weights)] = weights[:, :-1]
            columns = padded(aligned, partition.width, torch.float64, device).T.contiguous()
            self._parts.append((columns, torch.tensor(weights[:, -1], device=device)))

    def probabilities(self, features: torch.Tensor) -> Iterator[torch.Tensor]:
        """Class probabilities float64 [some of T, C, n] of features float64 [n, width], in the order of the draws. For
        one thread."""
        for columns, bias in self._parts:
            logits = (features @ columns)[:, : len(bias)].T.contiguous().add_(bias[:, None])
            yield torch.softmax(logits.view(-1, self.classes, len(features)), 1)


def entropy(p: torch.Tensor, axis: int) -> torch.Tensor:
    """Nats, over an axis of probabilities. For one thread. A seventh of the time of `torch.special.entr`."""
    return -(p * p.clamp_min(TINY).log_()).sum(axis)


def information(partition: Partition, draws: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """BALD: nats of mutual information between the label of each row and the weights, float64 [len(rows)], over draws
    [T, C, D]. O(n T C d); memory for one block.

    Raises:
        PoolError: a row has none, as its vector is not finite; it names the item.
    """
    columns = Draws(partition, draws)
    found = [np.empty(0)]
    with one_thread():  # see BLOCK
        for block in partition.blocks(rows, BLOCK):
            mean: torch.Tensor | float = 0.0
            own: torch.Tensor | float = 0.0
            for p in columns.probabilities(block.features.double()):
                mean = mean + p.sum(0)
                own = own + entropy(p, 1).sum(0)
            gained = entropy(torch.as_tensor(mean) / columns.total, 0) - own / columns.total
            found.append(gained[: block.n].cpu().numpy())
    gains = np.concatenate(found)
    refuse_broken(partition.ids[rows], np.isfinite(gains))
    return np.where(gains > NO_INFORMATION, gains, 0.0)


def information_of_numbers(
    partition: Partition, variance: Quadratic, noise: float, rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Nats of mutual information between the number(s) of each row and the weights, float64 [len(rows)]: the sum over
    outputs of log(1 + variance / noise) / 2, exact. O(n D) for each row of `project`.

    Raises:
        PoolError: a row has none, as its vector is not finite; it names the item.
    """
    weights, combine = variance
    aligned = np.zeros((-(-len(weights) // ALIGN) * ALIGN, partition.dim))
    aligned[: len(weights)] = weights[:, :-1]
    columns = padded(aligned, partition.width, torch.float64, partition.device).T.contiguous()
    bias = torch.tensor(weights[:, -1], device=partition.device)
    mixer = torch.tensor(combine, device=partition.device)
    found = [np.empty(0)]
    with one_thread():
        for block in partition.blocks(rows, BLOCK):
            product = block.features.double() @ columns
            roots = (product[:, : len(bias)] + bias) ** 2
            each = torch.stack([(roots * row).sum(1) for row in mixer])
            gained = torch.log1p(each / noise).sum(0) / 2
            found.append(gained[: block.n].cpu().numpy())
    gains = np.concatenate(found)
    refuse_broken(partition.ids[rows], np.isfinite(gains))
    return np.where(gains > NO_INFORMATION, gains, 0.0)
