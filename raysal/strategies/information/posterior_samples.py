"""Draws of a head from its posterior, beside the data and in the driver: the same draws for every item."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.context import RoundContext
from raysal.fleet import Partition
from raysal.models.likelihood import Likelihood
from raysal.models.posterior import Quadratic
from raysal.numerics import FLOAT64_STEP, one_thread
from raysal.scoring.inputs import score_inputs
from raysal.scoring.row_values import refuse_broken

SAMPLED_ROWS = 20 * FLOAT64_STEP
"""Rows of a block beside the data.

Blocks that stay in the cache make products of some milliseconds, of which there are hundreds. They are taken by one
thread: a second one brings a third, and on busy cores every product waits for it (60,000 x 256, 128 draws of 10 classes
and a load of 5 on two cores: 98 s against 11)."""
SAMPLED_COLUMNS = 512
"""Columns of a product with draws, about: as many whole draws as fit, and one at least."""
NO_INFORMATION = 1e-12
"""Mutual information in nats below this is taken as none: it is what rounding leaves of the difference of two
entropies."""
TINY = 1e-300
"""What a probability below it counts as in a logarithm, so that 0 log 0 is 0."""


class PosteriorSamples(NamedTuple):
    """Draws of a head from its posterior, as they travel to the partitions."""

    weights: NDArray[np.float64]
    """[T, C, D], over the temperature"""
    likelihood: Likelihood


class OutputVariance(NamedTuple):
    """The posterior of a head that predicts numbers: no draws are needed there."""

    variance: Quadratic
    """of every output"""
    noise: float
    """the variance of a label around it"""


def uncertainty_of(context: RoundContext, draws: int) -> PosteriorSamples | OutputVariance:
    """What the head is unsure of. As many draws as `draws` says, or as an ensemble has members where that is less.

    Raises:
        ConfigError: there is no head.
    """
    head = context.needed_head()
    if head.likelihood.quadratic:
        inputs = score_inputs(head, needs=("variance",))
        assert inputs.variance is not None
        return OutputVariance(inputs.variance, inputs.noise)
    drawn = score_inputs(head, needs=("samples",), draws=draws, key=context.key).samples
    assert drawn is not None
    return PosteriorSamples(drawn, head.likelihood)


class DrawnHead:
    """Draws beside one partition, as columns for products with blocks of features in float64."""

    def __init__(self, partition: Partition, draws: PosteriorSamples) -> None:
        self.total, self.outputs, _ = draws.weights.shape
        self._draws = draws
        device = partition.device
        some = max(SAMPLED_COLUMNS // self.outputs, 1)
        self._parts = []
        for start in range(0, self.total, some):
            weights = draws.weights[start : start + some].reshape(-1, partition.dim + 1)
            matrix = partition.aligned(weights[:, :-1], torch.float64)
            self._parts.append((matrix, torch.tensor(weights[:, -1], device=device)))

    def probabilities(self, features: torch.Tensor) -> Iterator[torch.Tensor]:
        """`Likelihood.answer_probabilities` float64 [some of T, Q, A, n] of features float64 [n, width], in order of
        the draws. For one thread.
        """
        for matrix, bias in self._parts:
            outputs = matrix.products(features).T.contiguous().add_(bias[:, None])
            yield self._draws.likelihood.answer_probabilities(outputs.view(-1, self.outputs, len(features)))


def entropy(p: torch.Tensor, axis: int) -> torch.Tensor:
    """Nats, over an axis of probabilities. For one thread. A seventh of the time of `torch.special.entr`."""
    return -(p * p.clamp_min(TINY).log_()).sum(axis)


def information(
    partition: Partition, uncertainty: PosteriorSamples | OutputVariance, rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """BALD: nats of mutual information between what each row is labeled and the weights, float64 [len(rows)]; with
    several labels at once, or several numbers, the sum over them. O(n T C d) over draws, O(n D) for each row of
    `project` else, which is exact; memory for one block.

    Raises:
        PoolError: a row has none, as its vector is not finite; it names the item.
    """
    gains = (
        _of_draws(partition, uncertainty, rows)
        if isinstance(uncertainty, PosteriorSamples)
        else _of_numbers(partition, *uncertainty, rows)
    )
    refuse_broken(partition.ids[rows], np.isfinite(gains))
    return np.where(gains > NO_INFORMATION, gains, 0.0)


def _of_draws(partition: Partition, draws: PosteriorSamples, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    head = DrawnHead(partition, draws)
    found = [np.empty(0)]
    with one_thread():  # see SAMPLED_ROWS
        for block in partition.blocks(rows, SAMPLED_ROWS):
            mean: torch.Tensor | float = 0.0
            own: torch.Tensor | float = 0.0
            for p in head.probabilities(block.features.double()):
                mean = mean + p.sum(0)
                own = own + entropy(p, 2).sum(0)
            gained = entropy(torch.as_tensor(mean) / head.total, 1) - own / head.total
            found.append(gained.sum(0)[: block.n].cpu().numpy())
    return np.concatenate(found)


def _of_numbers(
    partition: Partition, variance: Quadratic, noise: float, rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The sum over outputs of log(1 + variance / noise) / 2."""
    weights, combine = variance
    matrix = partition.aligned(weights[:, :-1], torch.float64)
    bias = torch.tensor(weights[:, -1], device=partition.device)
    mixer = torch.tensor(combine, device=partition.device)
    found = [np.empty(0)]
    with one_thread():
        for block in partition.blocks(rows, SAMPLED_ROWS):
            roots = (matrix.products(block.features.double()) + bias) ** 2
            each = torch.stack([(roots * row).sum(1) for row in mixer])
            gained = torch.log1p(each / noise).sum(0) / 2
            found.append(gained[: block.n].cpu().numpy())
    return np.concatenate(found)
