"""EPIG: the items whose label would say most of the predictions on the pool, not of the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from raysal.context import RoundContext
from raysal.fleet import Fleet, Partition
from raysal.numerics import FLOAT64_STEP, one_thread, padded, round_up
from raysal.rng import derive
from raysal.scoring.sweep import sample_available
from raysal.strategies.base import Picks, Selector
from raysal.strategies.engine.shortlist import gathered
from raysal.strategies.information.positive_first import PositiveFirst
from raysal.strategies.information.posterior_samples import (
    OutputVariance,
    PosteriorSamples,
    SampledHead,
    uncertainty_of,
    values_by_block,
    without_rounding,
)
from raysal.strategies.information.power import noisy_picks, noisy_top

GAIN_ROWS = 10 * FLOAT64_STEP
"""Rows of a block."""
GAIN_STEP = 2 * FLOAT64_STEP
"""Rows of a part of a block where there are more answers than this; columns of products are a multiple of it."""
PAIRS_AT_ONCE = 2**18
"""Pairs, about, that are computed at once: of an answer of one of some rows and an answer of a target. They stay in
the cache."""
NEGLIGIBLE_GAIN = 1e-10
"""Expected gain in nats up to this counts as none: it is what rounding in single precision leaves of nothing."""


@dataclass(frozen=True, kw_only=True)
class Epig(Selector):
    """The items of largest expected predictive information gain (Bickford Smith et al., AISTATS 2023).

    That is the mutual information between an item's label and the label of a target, on average over `targets` items, a
    uniform sample of all that may be labelled, whatever is narrowed away.

    BALD asks what a label says of the weights; this asks what it says where predictions are wanted, so an odd item, far
    from the others, is worth little. p(y, y*) is the mean over `draws` samples of the head's posterior, the same for
    every item, of p(y) p(y*); with several labels at once, the sum over them of each with itself. For a head that
    predicts numbers it is exact, -log(1 - r²) / 2 with r the correlation of the two labels.

    The batch is sampled as by `power_bald`: the top k of beta log(gain) + Gumbel noise, a hash of (key, item); a large
    beta is the plain top, whose neighbours come together (on digits, in batches of 30, noise of beta = 2 was worth two
    points of accuracy). The score of a pick is its noisy value. Items that say nothing of any target come last, in a
    uniform order. Blind to the rest of the batch beyond its noise.

    Needs a head with a posterior. Every candidate is scored beside the data: O(n draws C (d + targets C)), which makes
    it a strategy for some dozen classes, or for narrowed candidates (with several labels targets count 4 times, not C);
    memory 40 bytes a row. picks(k) is a prefix of picks(k + 1).
    """

    targets: Annotated[int, Field(ge=1, le=100_000)] = 100
    draws: Annotated[int, Field(ge=2)] = 64
    beta: Annotated[float, Field(ge=0)] = 2.0

    @property
    def needs_head(self) -> bool:
        """Always."""
        return True

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        """The k candidates of largest noisy gain."""
        uncertainty = uncertainty_of(context, self.draws)
        ids = sample_available(fleet, derive(context.key, "targets"), self.targets)
        _, vectors = gathered(fleet, np.sort(ids))
        if isinstance(uncertainty, OutputVariance):
            parts = fleet.each(noisy_gains_of_numbers, uncertainty, vectors, self.beta, context.key, k)
        else:
            targets = Targets.of(vectors, uncertainty)
            parts = fleet.each(noisy_gains_of_answers, uncertainty, targets, self.beta, context.key, k)
        return noisy_picks(parts, context.key, k, "predictive information")


class Targets(NamedTuple):
    """Predictions at the targets for each of Q questions (`Likelihood.answer_probabilities`), as they travel.

    An answer is one that some target may have.
    """

    ratios: NDArray[np.float32]
    """[Q, T, answers] how far every sample's probability is from the mean, over the mean"""
    shares: NDArray[np.float32]
    """[Q, answers] mean probability, over the number of targets"""

    @classmethod
    def of(cls, vectors: NDArray[np.float32], samples: PosteriorSamples) -> Targets:
        """Those of target vectors. O(s T C d).

        Args:
            vectors: float32 [s, d].
            samples: of the posterior.

        Returns:
            The predictions, with zeros up to a multiple of GAIN_STEP answers.
        """
        rows = np.column_stack([vectors.astype(np.float64), np.ones(len(vectors))])
        with one_thread():
            outputs = torch.stack([torch.from_numpy(rows) @ weights.T for weights in torch.tensor(samples.weights)])
            p = samples.likelihood.answer_probabilities(outputs.transpose(1, 2))  # [T, Q, A, s]
            mean, ratio = mean_and_ratios(p)
        total, questions, *each = ratio.shape
        answers = each[0] * each[1]
        wide = round_up(answers, GAIN_STEP)
        shares = np.zeros((questions, wide), np.float32)
        shares[:, :answers] = mean.reshape(questions, -1).numpy() / len(vectors)
        ratios = np.zeros((questions, total, wide), np.float32)
        ratios[:, :, :answers] = ratio.transpose(0, 1).reshape(questions, total, -1).numpy()
        return cls(ratios, shares)


def mean_and_ratios(p: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean over samples [...] of probabilities float64 [T, ...], and their distances from it over it [T, ...]."""
    mean = p.mean(0)
    return mean, (p - mean) / mean.clamp_min(torch.finfo(p.dtype).tiny)


def predictive_gain(p: torch.Tensor, ratios: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """The information between the answers of rows to one question and those of targets. For one thread.

    With q = p(y) p(y*) and p(y, y*) = q (1 + e), the information is the sum of q ((1 + e) log(1 + e) - e), in which no
    term is below zero, and e is the mean product of ratios: so single precision will do. O(n A T answers).

    Args:
        p: float64 [T, A, n], the probabilities of the rows' answers.
        ratios: float32 [T, answers] of the targets.
        shares: float32 [answers] of the targets.

    Returns:
        float64 [n] nats, on average over the targets.
    """
    samples, own, n = p.shape
    mean, ratio = mean_and_ratios(p)
    rows = (ratio / samples).permute(2, 1, 0).reshape(n * own, samples).float()
    each = torch.zeros(n * own, device=rows.device)
    step = max(PAIRS_AT_ONCE // len(rows) // GAIN_STEP, 1) * GAIN_STEP
    for start in range(0, ratios.shape[1], step):
        excess = (rows @ ratios[:, start : start + step]).clamp_(min=-1 + 1e-6)
        log = torch.log1p(excess)
        log.mul_(excess + 1).sub_(excess).mul_(shares[start : start + step])
        each += log.sum(1)
    return (each.view(n, own).double() * mean.T).sum(1)


# Functions of a partition.


def noisy_gains_of_answers(
    partition: Partition, samples: PosteriorSamples, targets: Targets, beta: float, key: int, k: int
) -> PositiveFirst:
    """The k candidates here of largest noisy gain, and the k of lowest hash among those of none.

    Args:
        partition: where they live.
        samples: of the posterior.
        targets: their predictions.
        beta: as of `Epig`.
        key: key of `raysal.rng`.
        k: how many.

    Returns:
        Both, best first.

    Raises:
        PoolError: a vector is not finite; it names the item.
    """
    head = SampledHead(partition, samples)
    ratios = torch.from_numpy(targets.ratios).to(partition.device)
    shares = torch.from_numpy(targets.shares).to(partition.device)

    def gains(features: torch.Tensor) -> torch.Tensor:
        p = torch.cat(list(head.probabilities(features)))
        few = GAIN_ROWS if p.shape[2] <= GAIN_STEP else GAIN_STEP
        gained = torch.zeros(GAIN_ROWS, dtype=torch.float64, device=p.device)
        for question, own in enumerate(p.unbind(1)):
            for start in range(0, GAIN_ROWS, few):
                some = slice(start, start + few)
                gained[some] += predictive_gain(own[:, :, some], ratios[question], shares[question])
        return gained

    rows = partition.candidates()
    return _noisy(partition.ids[rows], values_by_block(partition, rows, GAIN_ROWS, gains), beta, key, k)


def noisy_gains_of_numbers(
    partition: Partition, output: OutputVariance, vectors: NDArray[np.float32], beta: float, key: int, k: int
) -> PositiveFirst:
    """As `noisy_gains_of_answers`, where labels are numbers; several numbers of an item are added up.

    Args:
        partition: where the candidates live.
        output: the variance of outputs.
        vectors: float32 [s, d] of the targets.
        beta: as of `Epig`.
        key: key of `raysal.rng`.
        k: how many.

    Returns:
        Both, best first.

    Raises:
        PoolError: a vector is not finite; it names the item.
    """
    (project, combine), noise = output
    with one_thread():  # and not by NumPy: bits of its products depend on its threads, of which an actor has one
        rays = torch.tensor(project)
        # [s, r] projections of the targets
        at_targets = torch.from_numpy(np.column_stack([vectors.astype(np.float64), np.ones(len(vectors))])) @ rays.T
        turned = [((at_targets * torch.tensor(mix)) @ rays).numpy() for mix in combine]
        target_variance = [((at_targets**2) @ torch.tensor(mix)).to(partition.device) for mix in combine]
    device, wide = partition.device, round_up(len(project))
    own = partition.aligned(project[:, :-1], torch.float64)
    own_bias = padded(project[None, :, -1], wide, torch.float64, device)[0]
    across = [
        (partition.aligned(one[:, :-1], torch.float64), torch.tensor(one[:, -1], device=device)) for one in turned
    ]
    mixers = padded(combine, wide, torch.float64, device)

    def gains(features: torch.Tensor) -> torch.Tensor:
        squares = (own.padded_products(features) + own_bias) ** 2
        gained = torch.zeros(GAIN_ROWS, dtype=torch.float64, device=device)
        for (matrix, bias), there, mixer in zip(across, target_variance, mixers, strict=True):
            covariance = matrix.products(features) + bias
            here = (squares * mixer).sum(1) + noise
            sq_correlation = covariance**2 / (here[:, None] * (there + noise))
            gained -= torch.log1p(-sq_correlation.clamp_max(1 - 1e-15)).mean(1) / 2
        return gained

    rows = partition.candidates()
    return _noisy(partition.ids[rows], values_by_block(partition, rows, GAIN_ROWS, gains), beta, key, k)


def _noisy(ids: NDArray[np.int64], gains: NDArray[np.float64], beta: float, key: int, k: int) -> PositiveFirst:
    """`noisy_top` of gains [n]."""
    return noisy_top(without_rounding(ids, gains, NEGLIGIBLE_GAIN), ids, beta, key, k)
