"""Scores: from class probabilities to one number an item, higher = more wanted, in [0, 1]. Pure functions.

Probabilities come as [C, n], classes first: reductions then run along rows that lie together in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

Score = Callable[[torch.Tensor], torch.Tensor]
"""probabilities [C, n] -> [n]"""


def least_confidence(probabilities: torch.Tensor) -> torch.Tensor:
    """1 - max p: the probability of the predicted class being wrong (Lewis & Gale, SIGIR 1994). Cost
    O(nC)."""
    return 1 - probabilities.amax(0)


def margin(probabilities: torch.Tensor) -> torch.Tensor:
    """1 - (p1 - p2) for the two largest (Scheffer et al., IDA 2001). 0 with one class. Cost O(nC)."""
    if len(probabilities) == 1:
        return torch.zeros_like(probabilities[0])
    first, second = probabilities[0], torch.zeros_like(probabilities[0])
    for row in probabilities[1:]:  # two running maxima: a tenth of the time of topk along the classes
        second = torch.maximum(second, torch.minimum(first, row))
        first = torch.maximum(first, row)
    return 1 - (first - second)


def entropy(probabilities: torch.Tensor) -> torch.Tensor:
    """Shannon entropy over log C, so that 1 is uniform whatever C. 0 with one class. Cost O(nC)."""
    classes = len(probabilities)
    if classes == 1:
        return torch.zeros_like(probabilities[0])
    total: torch.Tensor = torch.special.entr(probabilities).sum(0) / math.log(classes)
    return total.clamp_max(1)  # rounding may leave it a few last digits above


SCORES: dict[str, Score] = {
    "entropy": entropy,
    "least_confidence": least_confidence,
    "margin": margin,
}
