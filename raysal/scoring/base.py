"""What a head says of items, in the form scores take it, and what a score is: from that to one number, higher = more
wanted.

Probabilities come as [C, n], classes first: reductions then run along rows that lie together in memory. With several
labels at once each label is a problem of two classes, and a score is the mean over them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, update_wrapper
from typing import Literal

import torch

from raysal.errors import ConfigError
from raysal.models.likelihood import Link
from raysal.scoring.linear import respond

Need = Literal["draws", "gain", "influence", "mean_variance", "norm", "previous", "variance"]


@dataclass
class Predicted:
    """What a head says of n items. Logits are over the temperature; what no score needs is None.

    Lengths are kept as such and not squared: float32 holds them of any vector, their squares not.
    """

    link: Link
    logits: torch.Tensor
    """[C, n]"""
    draws: torch.Tensor | None = None
    """[T, C, n] logits of posterior draws, the same draws for every item"""
    previous: torch.Tensor | None = None
    """[C, n] logits of the last round's head"""
    variance: torch.Tensor | None = None
    """[C, n] or [1, n] posterior variance of the logits"""
    deviation: torch.Tensor | None = None
    """[n] root of that variance's mean over the outputs"""
    gain: torch.Tensor | None = None
    """[n] length of Σ h̃"""
    influence: torch.Tensor | None = None
    """[C, n] products of h̃ with the rows of `influence_of`"""
    length: torch.Tensor | None = None
    """[n] length of h̃, the constant feature included"""
    noise: float = 1.0
    """variance of a label that is a number"""
    temperature: float = 1.0
    by_confidence: bool = False
    """whether the covariance counts a label by the confidence of its prediction (`Weighting`), and not as 1"""

    @cached_property
    def probabilities(self) -> torch.Tensor:
        """[C, n]; numbers where labels are numbers."""
        return respond(self.logits, self.link)

    @cached_property
    def mean_variance(self) -> torch.Tensor:
        """float64 [n], the posterior variance of an output over the squared temperature, mean over the outputs."""
        return given(self.deviation).double() ** 2

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
            raise not_of_numbers()
        return torch.stack([1 - p, p])

    def answers(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits of the answers there are, of logits [C, n]: themselves, or [2, C, n] of both answers to each label.

        Raises:
            ConfigError: labels are numbers.
        """
        if self.link == "softmax":
            return logits
        if self.link != "sigmoid":
            raise not_of_numbers()
        return torch.stack([torch.zeros_like(logits), logits])

    def drawn(self) -> Iterator[torch.Tensor]:
        """`answers` by every posterior draw, one after the other: all at once would leave the cache."""
        return map(self.answers, given(self.draws))


def given(part: torch.Tensor | None) -> torch.Tensor:
    """A part of `Predicted` that a score said it needs."""
    if part is None:
        raise ValueError("a score used what it did not say it needs")
    return part


def not_of_numbers() -> ConfigError:
    return ConfigError("score", "this score is of classes, and the head predicts numbers", "use epistemic_variance")


class Score:
    """A function of `Predicted`, and what it needs of it beyond logits: for classes or labels, and for numbers."""

    def __init__(
        self, of: Callable[[Predicted], torch.Tensor], classes: tuple[Need, ...], numbers: tuple[Need, ...] | None
    ) -> None:
        update_wrapper(self, of)
        self._of = of
        self._classes, self._numbers = classes, numbers

    def needs(self, link: Link) -> tuple[Need, ...]:
        """What it needs of a head with this link.

        Raises:
            ConfigError: it makes no sense for numbers.
        """
        if link != "identity":
            return self._classes
        if self._numbers is None:
            raise not_of_numbers()
        return self._numbers

    def __call__(self, predicted: Predicted) -> torch.Tensor:
        return self._of(predicted)


def score(
    *classes: Need, numbers: tuple[Need, ...] | None = None
) -> Callable[[Callable[[Predicted], torch.Tensor]], Score]:
    """Makes a function a `Score` that needs these parts of `Predicted`; `numbers` where labels are numbers, if the
    score makes sense for them."""
    return lambda of: Score(of, classes, numbers)
