"""Scores of the best guess alone. Those of its uncertainty are in `epistemic`, those of what a label would change in
`model_change`; `registry` lists all of them."""

from __future__ import annotations

import math

import torch

from raysal.scoring.base import Predicted, score


@score()
def least_confidence(predicted: Predicted) -> torch.Tensor:
    """1 - max p: the probability of the predicted class being wrong (Lewis & Gale, SIGIR 1994). In [0, 1]. Cost
    O(nC)."""
    return predicted.over(lambda p: 1 - p.amax(0))


@score()
def margin(predicted: Predicted) -> torch.Tensor:
    """1 - (p1 - p2) for the two largest (Scheffer et al., IDA 2001). In [0, 1]; 0 with one class. Cost O(nC)."""
    return predicted.over(margin_of)


@score()
def entropy(predicted: Predicted) -> torch.Tensor:
    """Shannon entropy over log C, so that 1 is uniform whatever C. In [0, 1]; 0 with one class. Cost O(nC)."""
    return predicted.over(entropy_of)


def margin_of(p: torch.Tensor) -> torch.Tensor:
    """1 - (p1 - p2) of distributions [C, ...]."""
    if len(p) == 1:
        return torch.zeros_like(p[0])
    first, second = p[0], torch.zeros_like(p[0])
    for row in p[1:]:  # two running maxima: a tenth of the time of topk along the classes
        second = torch.maximum(second, torch.minimum(first, row))
        first = torch.maximum(first, row)
    return 1 - (first - second)


def entropy_of(p: torch.Tensor) -> torch.Tensor:
    """Entropy over log C of distributions [C, ...]."""
    if len(p) == 1:
        return torch.zeros_like(p[0])
    total: torch.Tensor = torch.special.entr(p).sum(0) / math.log(len(p))
    return total.clamp_max(1)  # rounding may leave it a few last digits above
