"""Scores of how unsure a head is of itself: what draws from its posterior disagree on, the posterior's variance, and
how far the head has moved since the last round.

Differences of entropies cancel. They are taken in float64, of what the product gave in float32; scores are float32
again. Bounds that hold but for rounding are enforced.
"""

from __future__ import annotations

import math

import torch

from raysal.scoring.base import Predicted, given, score


@score("draws")
def bald(predicted: Predicted) -> torch.Tensor:
    """Mutual information between the answer and the weights (Houlsby et al., arXiv 1112.5745): H(mean p) - mean H(p)
    over the draws, over log C, so that 1 is the most there can be; with several labels the mean over them, each over
    log 2. In [0, 1]; 0 with one class. Of numbers exactly, log(1 + v / noise) / 2 in nats. Cost O(nTC).
    """
    total = inside = torch.zeros((), dtype=torch.float64, device=predicted.logits.device)
    for logits in predicted.drawn():
        p, entropy = with_entropy(logits.double())
        total, inside = total + p, inside + entropy
    draws, answers = len(given(predicted.draws)), len(total)
    gained = torch.special.entr(total / draws).sum(0) - inside / draws
    return over_outputs((gained / math.log(max(answers, 2))).clamp(0, 1))


@bald.for_numbers("mean_variance")
def bald_of_numbers(predicted: Predicted) -> torch.Tensor:
    """Mutual information between a number and the weights, exactly, in nats."""
    return (0.5 * torch.log1p(predicted.mean_variance / predicted.noise)).float()


@score("draws")
def mean_std(predicted: Predicted) -> torch.Tensor:
    """Standard deviation of a probability over the draws (over T, not T - 1), mean over classes or labels (Kampffmeyer
    et al., CVPR workshops 2016). In [0, 1/2]. Of numbers that of the posterior, exactly, in their unit. Cost O(nTC).
    """
    draws = given(predicted.draws)
    first = predicted.likelihood.torch_responses(draws[0])
    total = square = torch.zeros_like(first)
    for logits in draws[1:]:
        # As small as the deviation: float32 is enough for its square.
        apart = predicted.likelihood.torch_responses(logits) - first
        total, square = total + apart, square + apart * apart
    mean = total / len(draws)
    deviation: torch.Tensor = (square / len(draws) - mean * mean).clamp_min(0).sqrt()
    return deviation.mean(0)


@mean_std.for_numbers("mean_variance")
def standard_deviation(predicted: Predicted) -> torch.Tensor:
    """Standard deviation of a predicted number, of the posterior alone, in the unit of the numbers."""
    return given(predicted.deviation).clone()


@score("draws")
def variation_ratio(predicted: Predicted) -> torch.Tensor:
    """Share of the draws that do not vote for the class most of them vote for (Freeman, 1965), ties to the first class;
    with several labels the mean over them. In [0, 1). It has no more than T values, so that there are many ties, which
    go to the lower id. Cost O(nTC)."""
    votes = torch.zeros((), device=predicted.logits.device)
    for logits in predicted.drawn():
        votes = votes + vote(logits)
    return over_outputs(1 - votes.amax(0).double() / len(given(predicted.draws)))


@score("mean_variance", numbers=("mean_variance",))
def epistemic_variance(predicted: Predicted) -> torch.Tensor:
    """Posterior variance of an output over the squared temperature, mean over the outputs: in squared logits, or in the
    squared unit of the numbers. It does not depend on what is predicted, and rises with h̃ᵀΣh̃. Unbounded. Cost O(nD),
    whatever C."""
    return predicted.mean_variance.float()


@score("previous", numbers=("previous",))
def tod(predicted: Predicted) -> torch.Tensor:
    """Temporal output discrepancy ½‖p - p'‖² to the probabilities p' of the last round's head (Huang et al., ICCV
    2021); with several labels the mean over them, each with its two answers; of numbers half the squared difference. In
    [0, 1] but for numbers. A class that the last head did not know had no probability. Cost O(nC)."""
    now, before = predicted.logits.double(), given(predicted.previous).double()
    moved = predicted.likelihood.torch_responses(now) - predicted.likelihood.torch_responses(before)
    return predicted.likelihood.discrepancy(moved).float()


def with_entropy(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities [K, ...] of logits [K, ...], and their entropy [...] in nats: log Σ e^z + Σ p (-z) of shifted
    logits z <= 0, whose terms are none below zero, at half the price of a logarithm for every probability."""
    shifted = logits - logits.amax(0)
    powers = torch.exp(shifted)
    total = powers.sum(0)
    entropy = torch.log(total) - shifted.mul_(powers).sum(0) / total
    return powers.div_(total), entropy


def vote(logits: torch.Tensor) -> torch.Tensor:
    """Bool [K, ...], the answer of the largest logit of [K, ...], ties to the first: several times faster than argmax,
    which only ties need."""
    top = logits == logits.amax(0)
    if int(top.sum()) != logits[0].numel():
        top = torch.nn.functional.one_hot(logits.argmax(0), len(logits)).movedim(-1, 0).bool()
    return top


def over_outputs(values: torch.Tensor) -> torch.Tensor:
    """float32 [n] of values [n], or of the mean over labels of values [C, n]."""
    return (values if values.ndim == 1 else values.mean(0)).float()
