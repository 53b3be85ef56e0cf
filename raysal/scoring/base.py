"""What a score is: from what a head predicts of an item to one number, higher where the item is more wanted.

The pass over the pool (`sweep`) and the strategies that go by a score compute it beside the data, block by block. They
fill one record, `Predicted`, with what the head says of n items. A score is one function of that record, declared with
the parts of it that it needs beside the logits:

    @score("samples")
    def name(predicted: Predicted) -> torch.Tensor: ...  # float32 [n]

For numbers (`Likelihood.quadratic`) a score may be the same function (`numbers=(...)`), another one (`for_numbers`), or
none. With several labels at once each label is a problem of two classes, and the score is the mean over them.

What every score keeps; the tests of laws and of scores hold each registered one to it:

- An item's number depends on that item's column alone, to the last bit. It does not depend on the items beside it, on
  blocks and partitions, or on threads (callers hold torch to one). So only use elementwise functions and reductions
  over classes and samples.
- It is a number, never NaN, wherever the logits are finite. Callers refuse NaN by the name of the item.
- It stays in the bounds that its docstring states, rounding included. Where they depend on the number of classes, it is
  divided by the largest value, so that thresholds and histograms (over [0, 1]) mean the same for any number.
- It agrees with its slow version in tests/helpers/reference.py.

Pitfalls:

- Tensors are [C, n], classes first: reductions then run along rows that lie together in memory.
- Tensors of `Predicted` are views of one buffer that all scores of a pass read. Do not write into them, and do not
  return one of them: return a copy.
- Take differences of numbers that cancel (entropies, variances) in float64, and return float32.
- There may be one class only: then log C is 0. A probability may be exactly 0 or 1: use `torch.special.entr`.
- A score of few different values has many ties. They go by a hash of the item (`raysal.rng.item_order`).

To add one: a function in `scores` (the best guess), `of_target` (the classes looked for), `epistemic` (uncertainty of
the head) or `model_change` (effect of a label), and one line in `registry`. The line enrols it in the strategies and
narrowers that take the name of a score, in configs, in the command line and in the tests, which ask for its slow
version. Its docstring states formula, bounds, cost and paper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, update_wrapper
from typing import Literal

import torch

from raysal.models.likelihood import Likelihood

Need = Literal["gain", "influence", "mean_variance", "norm", "previous", "samples", "target", "variance"]
"""A part of `Predicted` beside the logits; `mean_variance` and `norm` stand for `deviation` and `length`."""


@dataclass
class Predicted:
    """What a head says of n items. Logits are over the temperature; what no score needs is None.

    Lengths are kept as they are and not squared: float32 holds the length of any vector, but not its square.
    """

    likelihood: Likelihood
    logits: torch.Tensor
    """[C, n]"""
    samples: torch.Tensor | None = None
    """[T, C, n] logits of T samples of the posterior, the same samples for every item"""
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
    """[n] length of [z, 1], with z the features of the head's frame"""
    target: torch.Tensor | None = None
    """bool [C], which classes are looked for"""
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
        return needed(self.deviation).double() ** 2

    def measure_answers(self, measure: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """A number for the distribution over answers of each item.

        Args:
            measure: of distributions [A, ...] over A answers, to [...].

        Returns:
            float32 [n]: that of the distribution over classes; or with several labels the mean over the labels, each
            with its two answers.

        Raises:
            ConfigError: labels are numbers, so that there is no distribution over answers.
        """
        return mean_over_labels(measure(self.likelihood.distributions(self.probabilities)))

    def sampled_logits(self) -> Iterator[torch.Tensor]:
        """Logits of the answers by every sample of the posterior, one sample after the other.

        All samples at once would leave the cache.

        Returns:
            T tensors as of `Likelihood.answer_logits`.
        """
        return map(self.likelihood.answer_logits, needed(self.samples))


def needed(part: torch.Tensor | None) -> torch.Tensor:
    """A part of `Predicted` that a score said it needs.

    Args:
        part: a field of `Predicted`.

    Returns:
        The part.

    Raises:
        ValueError: it is None, as the score did not say so.
    """
    if part is None:
        raise ValueError("a score used what it did not say it needs")
    return part


def mean_over_labels(values: torch.Tensor) -> torch.Tensor:
    """float32 [n] of values [n], or the mean over labels of values [C, n]."""
    return (values if values.ndim == 1 else values.mean(0)).float()


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
        """Make a function the score where labels are numbers.

        Args:
            needs: the parts of `Predicted` that it needs there beside the logits.

        Returns:
            The decorator.
        """

        def decorate(of: Callable[[Predicted], torch.Tensor]) -> Score:
            self._numbers = Score(of, needs)
            return self._numbers

        return decorate

    def needs(self, likelihood: Likelihood) -> tuple[Need, ...]:
        """What it needs of a head beside the logits.

        Args:
            likelihood: that of the head.

        Returns:
            Parts of `Predicted`.

        Raises:
            ConfigError: it makes no sense for numbers.
        """
        return self._for(likelihood)._needs

    def __call__(self, predicted: Predicted) -> torch.Tensor:
        """The score of n items.

        Args:
            predicted: what a head says of them.

        Returns:
            float32 [n].

        Raises:
            ConfigError: it makes no sense for numbers.
        """
        return self._for(predicted.likelihood)._of(predicted)

    def _for(self, likelihood: Likelihood) -> Score:
        """The score for labels of this likelihood; a ConfigError where there is none."""
        if likelihood.discrete:
            return self
        if likelihood.quadratic and self._numbers is not None:
            return self._numbers
        raise likelihood.for_classes()


def score(
    *needs: Need, numbers: tuple[Need, ...] | None = None
) -> Callable[[Callable[[Predicted], torch.Tensor]], Score]:
    """Make a function a `Score`.

    Args:
        needs: the parts of `Predicted` that it needs beside the logits.
        numbers: those that it needs where labels are numbers; None where it makes no sense for numbers.

    Returns:
        The decorator.
    """

    def decorate(of: Callable[[Predicted], torch.Tensor]) -> Score:
        made = Score(of, needs)
        if numbers is not None:
            made.for_numbers(*numbers)(of)
        return made

    return decorate
