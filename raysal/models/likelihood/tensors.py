"""The part of a likelihood that runs beside the data, on tensors.

Most tensors are [C, n], outputs first: reductions then run along rows that lie together in memory. Callers hold torch
to one thread where bits must not depend on the number of threads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Protocol

from raysal.errors import ConfigError

if TYPE_CHECKING:
    import torch

LEAST = 1e-9
"""What a label counts at least in a covariance weighted by confidence, so that none is without any effect."""


class Belief(Protocol):
    """What a head says of n items, as far as expectations over the unknown label need it."""

    logits: torch.Tensor
    """[C, n] outputs over the temperature"""
    noise: float
    """variance of a label that is a number around its prediction"""
    temperature: float

    @property
    def mean_variance(self) -> torch.Tensor:
        """float64 [n], the variance of an output over the squared temperature, mean over the outputs."""
        ...


class OnTensors(ABC):
    """What a `Likelihood` does on tensors. torch is imported when it is called."""

    words: ClassVar[str]
    """What a head predicts, for people."""
    usual_score: ClassVar[str]
    """The score of uncertainty that needs nothing but a head."""

    @abstractmethod
    def torch_responses(self, outputs: torch.Tensor) -> torch.Tensor:
        """`responses` [C, n] of outputs [C, n]."""

    @abstractmethod
    def torch_losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(Responses [n, C], terms [n, C] that add up to `losses`) of outputs and targets [n, C]. Where answers exclude
        each other, targets of an item add up to 1."""

    def predicted(self, responses: torch.Tensor) -> torch.Tensor:
        """Bool [C, n], the answers that are predicted: the largest response, ties to the first.

        By comparing with the maximum, which is several times faster than argmax along the outputs; only a block with a
        tie needs that.
        """
        import torch

        top = responses == responses.amax(0)
        if int(top.sum()) != top.shape[1]:
            top = torch.nn.functional.one_hot(responses.argmax(0), len(responses)).T.bool()
        return top

    def distributions(self, responses: torch.Tensor) -> torch.Tensor:
        """Probabilities [A, n] of the A answers, or [2, C, n] of both answers to each label; of responses [C, n].

        Raises:
            ConfigError: answers are not finitely many.
        """
        del responses
        raise self.for_classes()

    def answer_logits(self, outputs: torch.Tensor) -> torch.Tensor:
        """Logits of the answers, shaped as `distributions`, of outputs [C, n].

        Raises:
            ConfigError: answers are not finitely many.
        """
        del outputs
        raise self.for_classes()

    def answer_probabilities(self, outputs: torch.Tensor) -> torch.Tensor:
        """Probabilities [..., Q, A, n] of the A answers to each of Q `questions`, of outputs [..., C, n]. Answers to
        different questions are taken as independent, which they are under every posterior but an ensemble's, so that
        information on them adds up.

        Raises:
            ConfigError: answers are not finitely many.
        """
        del outputs
        raise self.for_classes()

    def questions(self, outputs: int) -> int:
        """How many questions a label answers, of so many outputs: one for all where answers exclude each other."""
        return outputs

    def torch_entropy(self, outputs: torch.Tensor) -> torch.Tensor:
        """`entropy` [n] of outputs [n, C].

        Raises:
            ConfigError: answers are not finitely many.
        """
        del outputs
        raise self.for_classes()

    def discrepancy(self, moved: torch.Tensor) -> torch.Tensor:
        """Half the squared length [n] of a change of responses [C, n]; with several labels the mean over them, each
        with its two answers."""
        return (0.5 * moved * moved).sum(0)

    @abstractmethod
    def expected_residual(self, belief: Belief) -> torch.Tensor:
        """float64 [n], the expected length of response - answer, the responses being those before the temperature; with
        several labels, the mean over them."""

    @abstractmethod
    def expected_effect(self, belief: Belief, pull: torch.Tensor) -> torch.Tensor:
        """float64 [n], the expected size of Σ_c pull_c (response_c - answer_c) for `pull` float64 [C, n]; with several
        labels, the mean over them; for numbers in units of the noise."""

    @abstractmethod
    def expected_count(self, belief: Belief) -> torch.Tensor | float:
        """`confidence_weights` [n] at what a head believes, at least 1e-9; or 1 for all."""

    def prediction_residual(self, outputs: torch.Tensor) -> torch.Tensor:
        """The predicted answer - response [C, n], of outputs [C, n]: the gradient of the loss, were the prediction
        true. To the last digit where the head is sure.

        Raises:
            ConfigError: answers are not finitely many.
        """
        del outputs
        raise self.for_classes()

    def change_rates(self, outputs: torch.Tensor, speeds: torch.Tensor) -> torch.Tensor:
        """How soon another answer is predicted from outputs [C, n] that grow by `speeds` [J, C, n] times a size.

        Args:
            outputs: [C, n]
            speeds: [J, C, n], which are overwritten.

        Returns:
            1 / the least size at which the prediction changes, [J, n]; 0 or less where it never does.

        Raises:
            ConfigError: answers are not finitely many.
        """
        del outputs, speeds
        raise self.for_classes()

    def believed(self, belief: Belief) -> tuple[torch.Tensor, torch.Tensor]:
        """Responses as predicted, and those before the temperature: float64 [C, n]."""
        outputs = belief.logits.double()
        p = self.torch_responses(outputs)
        return p, p if belief.temperature == 1 else self.torch_responses(outputs * belief.temperature)

    def for_classes(self) -> ConfigError:
        """The error of what makes sense for finitely many answers only."""
        problem = f"this score is of classes, and the head predicts {self.words}"
        return ConfigError("score", problem, f"use {self.usual_score}")
