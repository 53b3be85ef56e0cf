"""Samples of a head's posterior, beside the data and in the driver: the same samples for every item."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
thread: a second one brings a third, and on busy cores every product waits for it (60,000 x 256, 128 samples of 10
classes and a load of 5 on two cores: 98 s against 11)."""
SAMPLED_COLUMNS = 512
"""Columns of a product with samples, about: as many whole samples as fit, and one at least."""
NEGLIGIBLE_NATS = 1e-12
"""Mutual information in nats up to this counts as none: it is what rounding leaves of the difference of two
entropies."""
LEAST_PROBABILITY = 1e-300
"""What a smaller probability counts as in a logarithm, so that 0 log 0 is 0."""


class PosteriorSamples(NamedTuple):
    """Samples of a head's posterior, as they travel to the partitions."""

    weights: NDArray[np.float64]
    """[T, C, D], over the temperature"""
    likelihood: Likelihood


class OutputVariance(NamedTuple):
    """The posterior of a head that predicts numbers: no samples are needed there."""

    variance: Quadratic
    """of every output"""
    noise: float
    """the variance of a label around it"""


Uncertainty = PosteriorSamples | OutputVariance
"""What a head is unsure of."""


def uncertainty_of(context: RoundContext, draws: int) -> Uncertainty:
    """What the head is unsure of.

    Args:
        context: what the round knows.
        draws: how many samples; an ensemble has as many as members where that is less.

    Returns:
        Samples of the posterior, or the variance where the head predicts numbers.

    Raises:
        ConfigError: there is no head.
    """
    head = context.needed_head()
    if head.likelihood.quadratic:
        inputs = score_inputs(head, needs=("variance",))
        assert inputs.variance is not None
        return OutputVariance(inputs.variance, inputs.noise)
    samples = score_inputs(head, needs=("samples",), draws=draws, key=context.key).samples
    assert samples is not None
    return PosteriorSamples(samples, head.likelihood)


class SampledHead:
    """Samples of a posterior beside one partition, as columns for products with blocks of features in float64."""

    def __init__(self, partition: Partition, samples: PosteriorSamples) -> None:
        self.count: int = len(samples.weights)
        self._outputs: int = samples.weights.shape[1]
        self._likelihood = samples.likelihood
        device = partition.device
        some = max(SAMPLED_COLUMNS // self._outputs, 1)
        self._parts = []
        for start in range(0, self.count, some):
            weights = samples.weights[start : start + some].reshape(-1, partition.dim + 1)
            matrix = partition.aligned(weights[:, :-1], torch.float64)
            self._parts.append((matrix, torch.tensor(weights[:, -1], device=device)))

    def probabilities(self, features: torch.Tensor) -> Iterator[torch.Tensor]:
        """The probabilities of answers by every sample, some samples at a time. For one thread.

        Args:
            features: float64 [n, width].

        Yields:
            `Likelihood.answer_probabilities` float64 [some of T, Q, A, n], in order of the samples.
        """
        for matrix, bias in self._parts:
            outputs = matrix.products(features).T.contiguous().add_(bias[:, None])
            yield self._likelihood.answer_probabilities(outputs.view(-1, self._outputs, len(features)))


def entropy_nats(p: torch.Tensor, axis: int) -> torch.Tensor:
    """Shannon entropy in nats over an axis of probabilities. For one thread. A seventh of the time of `entr`."""
    return -(p * p.clamp_min(LEAST_PROBABILITY).log_()).sum(axis)


def bald_nats(partition: Partition, uncertainty: Uncertainty, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """BALD: the mutual information between what each row is labeled and the weights, in nats.

    With several labels at once, or several numbers, the sum over them. O(n T C d) over samples; O(n D) for each row of
    `project` without, which is exact; memory for one block.

    Args:
        partition: the rows' partition.
        uncertainty: what the head is unsure of.
        rows: int64 [n], ascending positions.

    Returns:
        float64 [n], at least 0.

    Raises:
        PoolError: a row has none, as its vector is not finite; it names the item.
    """
    if isinstance(uncertainty, PosteriorSamples):
        nats = _by_samples(partition, uncertainty, rows)
    else:
        nats = _by_variance(partition, *uncertainty, rows)
    return without_rounding(partition.ids[rows], nats, NEGLIGIBLE_NATS)


def without_rounding(ids: NDArray[np.int64], nats: NDArray[np.float64], negligible: float) -> NDArray[np.float64]:
    """Information where it is more than what rounding leaves of none, else 0.

    Args:
        ids: int64 [n].
        nats: float64 [n].
        negligible: up to how many nats count as none.

    Returns:
        float64 [n], at least 0.

    Raises:
        PoolError: a number is not finite; it names the item.
    """
    refuse_broken(ids, np.isfinite(nats))
    return np.where(nats > negligible, nats, 0.0)


def values_by_block(
    partition: Partition,
    rows: NDArray[np.int64],
    block_rows: int,
    value: Callable[[torch.Tensor], torch.Tensor],
) -> NDArray[np.float64]:
    """A number for each row, computed block by block on one thread (see SAMPLED_ROWS).

    Args:
        partition: the rows' partition.
        rows: int64 [n], ascending positions.
        block_rows: rows of a block.
        value: from features float64 [block_rows, width] to float64 [block_rows].

    Returns:
        float64 [n].
    """
    found = [np.empty(0)]
    with one_thread():
        for block in partition.blocks(rows, block_rows):
            found.append(value(block.features.double())[: block.n].cpu().numpy())
    return np.concatenate(found)


def _by_samples(partition: Partition, samples: PosteriorSamples, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """The entropy of the mean over samples, less the mean of their entropies."""
    head = SampledHead(partition, samples)

    def nats(features: torch.Tensor) -> torch.Tensor:
        total = own = torch.zeros((), dtype=torch.float64, device=features.device)
        for p in head.probabilities(features):
            total, own = total + p.sum(0), own + entropy_nats(p, 2).sum(0)
        return (entropy_nats(total / head.count, 1) - own / head.count).sum(0)

    return values_by_block(partition, rows, SAMPLED_ROWS, nats)


def _by_variance(
    partition: Partition, variance: Quadratic, noise: float, rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The sum over outputs of log(1 + variance / noise) / 2."""
    weights, combine = variance
    matrix = partition.aligned(weights[:, :-1], torch.float64)
    bias = torch.tensor(weights[:, -1], device=partition.device)
    mixer = torch.tensor(combine, device=partition.device)

    def nats(features: torch.Tensor) -> torch.Tensor:
        squares = (matrix.products(features) + bias) ** 2
        each = torch.stack([(squares * row).sum(1) for row in mixer])
        return torch.log1p(each / noise).sum(0) / 2

    return values_by_block(partition, rows, SAMPLED_ROWS, nats)
