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
from raysal.scoring.row_values import refuse_broken
from raysal.scoring.top_k import BestItems, best_of_parts
from raysal.strategies.base import Picks, Selector
from raysal.strategies.engine.shortlist import gathered, lowest_available
from raysal.strategies.information.posterior_samples import DrawnHead, OutputVariance, PosteriorSamples, uncertainty_of
from raysal.strategies.information.power import drawn, noisy_top

ROWS = 10 * FLOAT64_STEP
"""Rows of a block."""
FEW = 2 * FLOAT64_STEP
"""Rows of a part of a block where there are more classes than this; columns of products are a multiple of it."""
PAIRS = 2**18
"""Pairs, about, that are computed at once: of an answer of one of some rows and an answer of a target. They stay in
the cache."""
NO_INFORMATION = 1e-10
"""Expected gain in nats below this is taken as none: it is what rounding in single precision leaves of nothing."""


@dataclass(frozen=True, kw_only=True)
class Epig(Selector):
    """The items of largest expected predictive information gain (Bickford Smith et al., AISTATS 2023): the mutual
    information between an item's label and the label of a target, on average over `targets` items, a uniform draw of
    all that may be labelled, whatever is narrowed away.

    BALD asks what a label says of the weights; this asks what it says where predictions are wanted, so an odd item, far
    from the others, is worth little. p(y, y*) is the mean over `draws` of the head from its posterior, the same for
    every item, of p(y) p(y*); with several labels at once, the sum over them of each with itself. For a head that
    predicts numbers it is exact, -log(1 - r²) / 2 with r the correlation of the two labels.

    The batch is drawn as by `power_bald`: the top k of beta log(gain) + Gumbel noise, a hash of (key, item); a large
    beta is the plain top, whose neighbours come together (on digits, in batches of 30, noise of beta = 2 was worth two
    points of accuracy). The score of a pick is its noisy value. Items that say nothing of any target come last, a
    uniform draw. Blind to the rest of the batch beyond its noise.

    Needs a head with a posterior. Every candidate is scored beside the data: O(n draws C (d + targets C)), which makes
    it a rule for some dozen classes, or for narrowed candidates (with several labels targets count 4 times, not C);
    memory 40 bytes a row. picks(k) is a prefix of picks(k + 1).
    """

    targets: Annotated[int, Field(ge=1, le=100_000)] = 100
    draws: Annotated[int, Field(ge=2)] = 64
    beta: Annotated[float, Field(ge=0)] = 2.0

    @property
    def needs_head(self) -> bool:
        return True

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        uncertainty = uncertainty_of(context, self.draws)
        ids, _ = best_of_parts(fleet.each(lowest_available, derive(context.key, "targets"), self.targets), self.targets)
        _, vectors = gathered(fleet, np.sort(ids))
        if isinstance(uncertainty, OutputVariance):
            parts = fleet.each(score_numbers, uncertainty, vectors, self.beta, context.key, k)
        else:
            parts = fleet.each(score_answers, uncertainty, Targets.of(vectors, uncertainty), self.beta, context.key, k)
        return drawn(parts, k, "predictive information")


class Targets(NamedTuple):
    """Predictions at the targets for each of Q questions (`Likelihood.answer_probabilities`), as they travel to the
    partitions. An answer is one that some target may have.
    """

    ratios: NDArray[np.float32]
    """[Q, T, answers] how far every draw's probability is from the mean, over the mean"""
    shares: NDArray[np.float32]
    """[Q, answers] mean probability, over the number of targets"""

    @classmethod
    def of(cls, vectors: NDArray[np.float32], draws: PosteriorSamples) -> Targets:
        """Of target vectors [s, d]. O(s T C d)."""
        rows = np.column_stack([vectors.astype(np.float64), np.ones(len(vectors))])
        with one_thread():
            outputs = torch.stack([torch.from_numpy(rows) @ draw.T for draw in torch.tensor(draws.weights)])
            mean, ratio = ratios(draws.likelihood.answer_probabilities(outputs.transpose(1, 2)))  # of [T, Q, A, s]
        total, questions, *each = ratio.shape
        answers = each[0] * each[1]
        wide = round_up(answers, FEW)
        shares = np.zeros((questions, wide), np.float32)
        shares[:, :answers] = mean.reshape(questions, -1).numpy() / len(vectors)
        columns = np.zeros((questions, total, wide), np.float32)
        columns[:, :, :answers] = ratio.transpose(0, 1).reshape(questions, total, -1).numpy()
        return cls(columns, shares)


def ratios(p: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(The mean over draws [...] of probabilities float64 [T, ...], their distances from it over it [T, ...])."""
    mean = p.mean(0)
    return mean, (p - mean) / mean.clamp_min(torch.finfo(p.dtype).tiny)


def predictive_gain(p: torch.Tensor, columns: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """[n] of probabilities float64 [T, A, n] of answers to one question, and of ratios float32 [T, answers] and shares
    [answers] of targets.

    With q = p(y) p(y*) and p(y, y*) = q (1 + e), the information is the sum of q ((1 + e) log(1 + e) - e), in which no
    term is below zero, and e is the mean product of ratios: so single precision will do. O(n C T answers). For one
    thread.
    """
    draws, own, n = p.shape
    mean, ratio = ratios(p)
    rows = (ratio / draws).permute(2, 1, 0).reshape(n * own, draws).float()
    each = torch.zeros(n * own, device=rows.device)
    step = max(PAIRS // len(rows) // FEW, 1) * FEW
    for start in range(0, columns.shape[1], step):
        excess = (rows @ columns[:, start : start + step]).clamp_(min=-1 + 1e-6)
        log = torch.log1p(excess)
        log.mul_(excess + 1).sub_(excess).mul_(shares[start : start + step])
        each += log.sum(1)
    return (each.view(n, own).double() * mean.T).sum(1)


def score_answers(
    partition: Partition, draws: PosteriorSamples, targets: Targets, beta: float, key: int, k: int
) -> tuple[BestItems, BestItems]:
    """The k candidates here of largest noisy gain, and the k of lowest hash among those of none."""
    rows = partition.candidates()
    head = DrawnHead(partition, draws)
    columns = torch.from_numpy(targets.ratios).to(partition.device)
    shares = torch.from_numpy(targets.shares).to(partition.device)
    found = [np.empty(0)]
    with one_thread():  # thousands of products of a millisecond: see posterior_samples.py
        for block in partition.blocks(rows, ROWS):
            p = torch.cat(list(head.probabilities(block.features.double())))
            few = ROWS if p.shape[2] <= FEW else FEW
            gained = torch.zeros(ROWS, dtype=torch.float64, device=p.device)
            for question, own in enumerate(p.unbind(1)):
                for start in range(0, ROWS, few):
                    some = slice(start, start + few)
                    gained[some] += predictive_gain(own[:, :, some], columns[question], shares[question])
            found.append(gained[: block.n].cpu().numpy())
    return _noisy(partition.ids[rows], np.concatenate(found), beta, key, k)


def score_numbers(
    partition: Partition, spread: OutputVariance, vectors: NDArray[np.float32], beta: float, key: int, k: int
) -> tuple[BestItems, BestItems]:
    """`score_answers` where labels are numbers, of target vectors [s, d]; several numbers of an item are added up."""
    rows = partition.candidates()
    (project, combine), noise = spread
    with one_thread():  # and not by NumPy: bits of its products depend on its threads, of which an actor has one
        rays = torch.tensor(project)
        told = torch.from_numpy(np.column_stack([vectors.astype(np.float64), np.ones(len(vectors))])) @ rays.T  # [s, r]
        turned = [((told * torch.tensor(mix)) @ rays).numpy() for mix in combine]
        at_targets = [((told**2) @ torch.tensor(mix)).to(partition.device) for mix in combine]
    device, wide = partition.device, round_up(len(project))
    own = partition.aligned(project[:, :-1], torch.float64)
    own_bias = padded(project[None, :, -1], wide, torch.float64, device)[0]
    across = [
        (partition.aligned(one[:, :-1], torch.float64), torch.tensor(one[:, -1], device=device)) for one in turned
    ]
    mixers = padded(combine, wide, torch.float64, device)
    found = [np.empty(0)]
    with one_thread():
        for block in partition.blocks(rows, ROWS):
            features = block.features.double()
            squares = (own.padded_products(features) + own_bias) ** 2
            gained = torch.zeros(ROWS, dtype=torch.float64, device=device)
            for (matrix, bias), there, mixer in zip(across, at_targets, mixers, strict=True):
                covariance = matrix.products(features) + bias
                here = (squares * mixer).sum(1) + noise
                sq_correlation = covariance**2 / (here[:, None] * (there + noise))
                gained -= torch.log1p(-sq_correlation.clamp_max(1 - 1e-15)).mean(1) / 2
            found.append(gained[: block.n].cpu().numpy())
    return _noisy(partition.ids[rows], np.concatenate(found), beta, key, k)


def _noisy(
    ids: NDArray[np.int64], gains: NDArray[np.float64], beta: float, key: int, k: int
) -> tuple[BestItems, BestItems]:
    refuse_broken(ids, np.isfinite(gains))
    return noisy_top(np.where(gains > NO_INFORMATION, gains, 0.0), ids, beta, key, k)
