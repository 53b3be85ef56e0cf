"""Scores of the best guess alone.

Those of a head's uncertainty of itself are in `epistemic`, those of what a label would change in `model_change`. With
several labels at once a score is the mean over the labels, each with its two answers.
"""

from __future__ import annotations

import math

import torch

from raysal.scoring.base import Predicted, score


@score()
def least_confidence(predicted: Predicted) -> torch.Tensor:
    """1 - max p, the probability that the predicted class is wrong (Lewis & Gale, SIGIR 1994).

    Cost O(nC).

    Returns:
        float32 [n] in [0, 1].
    """
    return predicted.measure_answers(lambda p: 1 - p.amax(0))


@score()
def margin(predicted: Predicted) -> torch.Tensor:
    """1 - (p1 - p2), with the two largest probabilities (Scheffer et al., IDA 2001).

    Cost O(nC).

    Returns:
        float32 [n] in [0, 1]; 0 with one class.
    """
    return predicted.measure_answers(one_minus_margin)


@score()
def entropy(predicted: Predicted) -> torch.Tensor:
    """Shannon entropy over log C, so that 1 is uniform whatever C.

    Cost O(nC).

    Returns:
        float32 [n] in [0, 1]; 0 with one class.
    """
    return predicted.measure_answers(normalised_entropy)


def one_minus_margin(p: torch.Tensor) -> torch.Tensor:
    """1 - (p1 - p2) of distributions [C, ...], to [...]; 0 with one class."""
    if len(p) == 1:
        return torch.zeros_like(p[0])
    first, second = p[0], torch.zeros_like(p[0])
    for row in p[1:]:  # two running maxima: a tenth of the time of topk along the classes
        second = torch.maximum(second, torch.minimum(first, row))
        first = torch.maximum(first, row)
    return 1 - (first - second)


def normalised_entropy(p: torch.Tensor) -> torch.Tensor:
    """Shannon entropy over log C of distributions [C, ...], to [...]; 0 with one class."""
    if len(p) == 1:
        return torch.zeros_like(p[0])
    total: torch.Tensor = torch.special.entr(p).sum(0) / math.log(len(p))
    return total.clamp_max(1)  # rounding may leave it a few last digits above
