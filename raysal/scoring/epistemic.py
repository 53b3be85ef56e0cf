"""Scores of how unsure a head is of itself.

They measure on what samples of its posterior disagree, how large the posterior's variance is, and how far the head has
moved since the last round. Differences of entropies cancel, so they are taken in float64 of what the product gave in
float32; scores are float32 again. Bounds that hold but for rounding are enforced.
"""

from __future__ import annotations

import math

import torch

from raysal.models.likelihood import Likelihood
from raysal.numerics import ALIGN, slices
from raysal.scoring.base import Predicted, mean_over_labels, needed, score

NUMBERS_TOGETHER = 2**18
"""Logits of samples that are looked at together on a CPU, 2 MB of float64. With half as many, one thread takes a tenth
less, and two take a tenth more: they wait for each other between short calls."""


@score("samples")
def bald(predicted: Predicted) -> torch.Tensor:
    """Mutual information between the answer and the weights (Houlsby et al., arXiv 1112.5745), over its largest value.

    H(mean p) - mean H(p) over T samples of the posterior, over log C, so that 1 is the most there can be; with several
    labels the mean over them, each over log 2. Cost O(nTC).

    Returns:
        float32 [n] in [0, 1]; 0 with one class.
    """
    mean, nats = mean_and_nats(needed(predicted.samples), predicted.likelihood)
    gained = torch.special.entr(mean).sum(0) - nats
    return mean_over_labels((gained / math.log(max(len(mean), 2))).clamp(0, 1))


@bald.for_numbers("mean_variance")
def bald_of_numbers(predicted: Predicted) -> torch.Tensor:
    """Mutual information between a number and the weights, exactly: log(1 + v / noise) / 2 in nats.

    Cost O(nD).

    Returns:
        float32 [n], at least 0, unbounded.
    """
    return (0.5 * torch.log1p(predicted.mean_variance / predicted.noise)).float()


@score("samples")
def mean_std(predicted: Predicted) -> torch.Tensor:
    """Standard deviation of a probability over samples of the posterior, mean over classes or labels.

    Over T, not T - 1 (Kampffmeyer et al., CVPR workshops 2016). Cost O(nTC).

    Returns:
        float32 [n] in [0, 1/2].
    """
    samples = needed(predicted.samples)
    first = predicted.likelihood.torch_responses(samples[0])
    total = square = torch.zeros_like(first)
    for logits in samples[1:]:
        # Differences to the first are as small as the deviation, so float32 is enough for their squares.
        apart = predicted.likelihood.torch_responses(logits) - first
        total, square = total + apart, square + apart * apart
    mean = total / len(samples)
    deviation: torch.Tensor = (square / len(samples) - mean * mean).clamp_min(0).sqrt()
    return deviation.mean(0)


@mean_std.for_numbers("mean_variance")
def standard_deviation(predicted: Predicted) -> torch.Tensor:
    """Standard deviation of a predicted number, of the posterior alone, in the unit of the numbers.

    Exact. Cost O(nD).

    Returns:
        float32 [n], at least 0, unbounded.
    """
    return needed(predicted.deviation).clone()


@score("samples")
def variation_ratio(predicted: Predicted) -> torch.Tensor:
    """Share of the samples of the posterior that do not predict the class most of them predict (Freeman, 1965).

    Ties go to the first class; with several labels the mean over them. It has no more than T values, so that many items
    tie. Cost O(nTC).

    Returns:
        float32 [n] in [0, 1).
    """
    votes = torch.zeros((), device=predicted.logits.device)
    for logits in predicted.sampled_logits():
        votes = votes + is_largest(logits)
    return mean_over_labels(1 - votes.amax(0).double() / len(needed(predicted.samples)))


@score("mean_variance", numbers=("mean_variance",))
def epistemic_variance(predicted: Predicted) -> torch.Tensor:
    """Posterior variance of an output over the squared temperature, mean over the outputs.

    It does not depend on what is predicted, and rises with h̃ᵀΣh̃. Cost O(nD), whatever C.

    Returns:
        float32 [n], at least 0, unbounded: squared logits, or the squared unit of the numbers.
    """
    return predicted.mean_variance.float()


@score("previous", numbers=("previous",))
def tod(predicted: Predicted) -> torch.Tensor:
    """Temporal output discrepancy ½‖p - p'‖² to the last round's head (Huang et al., ICCV 2021).

    p' are the probabilities of that head; a class that it did not know had none. With several labels the mean over
    them, each with its two answers; of numbers half the squared difference. Cost O(nC).

    Returns:
        float32 [n] in [0, 1]; unbounded for numbers.
    """
    now, before = predicted.logits.double(), needed(predicted.previous).double()
    moved = predicted.likelihood.torch_responses(now) - predicted.likelihood.torch_responses(before)
    return predicted.likelihood.discrepancy(moved).float()


def mean_and_nats(samples: torch.Tensor, likelihood: Likelihood) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean over samples of the probabilities of the answers, and the mean of their entropies.

    Powers of 2 take a third of the time of powers of e (torch 2.13, float64). The entropy of a sample is
    log Σ e^z + Σ p (-z) of shifted logits z <= 0: no logarithm for every probability, and no term below zero.

    Args:
        samples: float32 [T, C, n] outputs.
        likelihood: what they are.

    Returns:
        float64 [A, n] and [n] in nats; with several labels [2, C, n] and [C, n].
    """
    width = n = samples.shape[-1]
    if samples.is_cpu:
        width = max(2 ** int(math.log2(max(NUMBERS_TOGETHER // samples[..., 0].numel(), 1))), ALIGN)
    shape = likelihood.answer_logits(samples[..., :0]).shape  # [T, A, ..., 0]

    def empty(*sizes: int) -> torch.Tensor:
        return torch.empty(sizes, dtype=torch.float64, device=samples.device)

    # Few calls for each piece, and no new arrays: threads wait for each other between calls, and for pages.
    bits, powers = empty(*shape[:-1], min(width, n)), empty(*shape[:-1], min(width, n))
    total, inside, mean = empty(shape[0], *shape[2:-1], n), empty(shape[0], *shape[2:-1], n), empty(*shape[1:-1], n)
    for own in slices(n, width):
        logits = likelihood.answer_logits(samples[..., own])
        z, p = bits[..., : own.stop - own.start], powers[..., : own.stop - own.start]
        z.copy_(logits).sub_(logits.amax(1, keepdim=True)).mul_(1 / math.log(2))
        torch.exp2(z, out=p)
        over_total = torch.sum(p, 1, out=total[..., own]).reciprocal()
        torch.sum(z.mul_(p), 1, out=inside[..., own])
        torch.mean(p.mul_(over_total.unsqueeze(1)), 0, out=mean[..., own])
    return mean, (torch.log(total) - inside.mul_(math.log(2)).div_(total)).mean(0)


def is_largest(logits: torch.Tensor) -> torch.Tensor:
    """Which answer has the largest logit, ties to the first.

    Comparing with the maximum is several times faster than argmax, which only ties need.

    Args:
        logits: [A, ...] of the A answers.

    Returns:
        bool [A, ...], one true along the first axis.
    """
    top = logits == logits.amax(0)
    if int(top.sum()) != logits[0].numel():
        top = torch.nn.functional.one_hot(logits.argmax(0), len(logits)).movedim(-1, 0).bool()
    return top
