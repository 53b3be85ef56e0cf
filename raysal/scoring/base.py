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

from raysal.models.likelihood import Likelihood

Need = Literal["draws", "gain", "influence", "mean_variance", "norm", "previous", "variance"]


@dataclass
class Predicted:
    """What a head says of n items. Logits are over the temperature; what no score needs is None.

    Lengths are kept as such and not squared: float32 holds them of any vector, their squares not.
    """

    likelihood: Likelihood
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
        return self.likelihood.torch_responses(self.logits)

    @cached_property
    def mean_variance(self) -> torch.Tensor:
        """float64 [n], the posterior variance of an output over the squared temperature, mean over the outputs."""
        return given(self.deviation).double() ** 2

    def over(self, of: Callable[[torch.Tensor], torch.Tensor], logits: torch.Tensor | None = None) -> torch.Tensor:
        """[n], what `of` makes of distributions [A, ...]: of the one over classes, or the mean over labels, each with
        its two answers. `logits` [C, n] are those of the head unless given.

        Raises:
            ConfigError: labels are numbers, so that there is no distribution over answers.
        """
        p = self.probabilities if logits is None else self.likelihood.torch_responses(logits)
        values = of(self.likelihood.distributions(p))
        return values if values.ndim == 1 else values.mean(0)

    def drawn(self) -> Iterator[torch.Tensor]:
        """Logits of the answers, as `Likelihood.answer_logits`, by every posterior draw, one after the other: all at
        once would leave the cache."""
        return map(self.likelihood.answer_logits, given(self.draws))


def given(part: torch.Tensor | None) -> torch.Tensor:
    """A part of `Predicted` that a score said it needs."""
    if part is None:
        raise ValueError("a score used what it did not say it needs")
    return part


class Score:
    """A function of `Predicted`, and what it needs of it beyond logits.

    A score of classes and several labels may be another function of numbers (`for_numbers`), or none.
    """

    def __init__(self, of: Callable[[Predicted], torch.Tensor], needs: tuple[Need, ...]) -> None:
        update_wrapper(self, of)
        self._of = of
        self._needs = needs
        self._numbers: Score | None = None

    def for_numbers(self, *needs: Need) -> Callable[[Callable[[Predicted], torch.Tensor]], Score]:
        """Makes a function, which needs these parts of `Predicted`, the score where labels are numbers."""

        def decorate(of: Callable[[Predicted], torch.Tensor]) -> Score:
            self._numbers = Score(of, needs)
            return self._numbers

        return decorate

    def needs(self, likelihood: Likelihood) -> tuple[Need, ...]:
        """What it needs of a head with this likelihood.

        Raises:
            ConfigError: it makes no sense for numbers.
        """
        return self._for(likelihood)._needs

    def __call__(self, predicted: Predicted) -> torch.Tensor:
        return self._for(predicted.likelihood)._of(predicted)

    def _for(self, likelihood: Likelihood) -> Score:
        """The score of labels of this likelihood.

        Raises:
            ConfigError: there is none.
        """
        if likelihood.discrete:
            return self
        if likelihood.quadratic and self._numbers is not None:
            return self._numbers
        raise likelihood.for_classes()


def score(
    *needs: Need, numbers: tuple[Need, ...] | None = None
) -> Callable[[Callable[[Predicted], torch.Tensor]], Score]:
    """Makes a function a `Score` that needs these parts of `Predicted`.

    With `numbers`, it is the score where labels are numbers, too, and needs those parts there.
    """

    def decorate(of: Callable[[Predicted], torch.Tensor]) -> Score:
        made = Score(of, needs)
        if numbers is not None:
            made.for_numbers(*numbers)(of)
        return made

    return decorate
