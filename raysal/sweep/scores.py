"""Scores: from what a head predicts of an item to one number, higher = more wanted. Pure functions.

Probabilities come as [C, n], classes first: reductions then run along rows that lie together in memory. With several
labels at once each label is a problem of two classes, and a score is the mean over them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, update_wrapper
from typing import Literal

import torch

from raysal.errors import ConfigError
from raysal.sweep.linear import respond
from raysal.update import Link

Need = Literal["draws", "gain", "influence", "norm", "previous", "variance"]


@dataclass
class Predicted:
    """What a head says of n items. Logits are over the temperature; what no score needs is None."""

    link: Link
    logits: torch.Tensor
    """[C, n]"""
    draws: torch.Tensor | None = None
    """[T, C, n] logits of posterior draws, the same draws for every item"""
    previous: torch.Tensor | None = None
    """[C, n] logits of the last round's head"""
    variance: torch.Tensor | None = None
    """[C, n] or [1, n] posterior variance of the logits"""
    sq_gain: torch.Tensor | None = None
    """[1, n] squared length of Σ h̃"""
    influence: torch.Tensor | None = None
    """[C, n] products of h̃ with the rows of `influence_of`"""
    sq_norm: torch.Tensor | None = None
    """[n] squared length of h̃, the constant feature included"""
    noise: float = 1.0
    """variance of a label that is a number"""

    @cached_property
    def probabilities(self) -> torch.Tensor:
        """[C, n]; numbers where labels are numbers."""
        return respond(self.logits, self.link)

    def over(self, of: Callable[[torch.Tensor], torch.Tensor], logits: torch.Tensor | None = None) -> torch.Tensor:
        """[n], what `of` makes of distributions [C, ...]: of the one over classes, or the mean over labels, each with
        its two answers. `logits` [C, n] are those of the head unless given.

        Raises:
            ConfigError: labels are numbers, so that there is no distribution over answers.
        """
        p = self.probabilities if logits is None else respond(logits, self.link)
        if self.link == "softmax":
            return of(p)
        return of(self.both(p)).mean(0)

    def both(self, p: torch.Tensor) -> torch.Tensor:
        """[2, C, n], the probabilities of both answers to each label.

        Raises:
            ConfigError: labels are numbers.
        """
        if self.link != "sigmoid":
            raise ConfigError("score", "this score is of classes, and the head predicts numbers", "epistemic_variance")
        return torch.stack([1 - p, p])


class Score:
    """A function of `Predicted`, and what it needs of it beyond logits."""

    def __init__(self, of: Callable[[Predicted], torch.Tensor], needs: tuple[Need, ...]) -> None:
        update_wrapper(self, of)
        self._of = of
        self.needs = needs

    def __call__(self, predicted: Predicted) -> torch.Tensor:
        return self._of(predicted)


def score(*needs: Need) -> Callable[[Callable[[Predicted], torch.Tensor]], Score]:
    """Makes a function a `Score` that needs these parts of `Predicted`."""
    return lambda of: Score(of, needs)


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


SCORES: dict[str, Score] = {
    "entropy": entropy,
    "least_confidence": least_confidence,
    "margin": margin,
}
