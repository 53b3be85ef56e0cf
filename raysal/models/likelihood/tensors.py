"""The part of a likelihood that runs beside the data, on tensors.

Most tensors are [C, n], outputs first. A reduction over the outputs then runs along numbers that lie side by side in
memory. Callers hold torch to one thread, since the bits must not depend on the number of threads
(`raysal.numerics.one_thread`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Protocol

from raysal.errors import ConfigError

if TYPE_CHECKING:
    import torch

LEAST = 1e-9
"""What a label counts for at least in a covariance that is weighted by confidence. No label is without effect."""


class PredictedOutputs(Protocol):
    """What a head says of n items, as far as an expectation over the unknown label needs it."""

    logits: torch.Tensor
    """[C, n] outputs over the temperature"""
    noise: float
    """variance of a label that is a number around its prediction"""
    temperature: float

    @property
    def mean_variance(self) -> torch.Tensor:
        """float64 [n], variance of an output over the squared temperature, mean over the outputs."""
        ...


def largest(responses: torch.Tensor) -> torch.Tensor:
    """Find the largest response of each item; ties go to the first.

    It is found by comparison with the maximum. That is several times faster than argmax along the outputs, which only a
    block with a tie needs.

    Args:
        responses: [C, n]

    Returns:
        Bool [C, n], with one True for each item.
    """
    import torch

    top = responses == responses.amax(0)
    if int(top.sum()) != top.shape[1]:
        top = torch.nn.functional.one_hot(responses.argmax(0), len(responses)).T.bool()
    return top


class OnTensors(ABC):
    """What a `Likelihood` does on tensors. A method imports torch when it is called."""

    words: ClassVar[str]
    """What a head predicts, in words for people."""
    usual_score: ClassVar[str]
    """The score of uncertainty that needs no more than a head."""

    @abstractmethod
    def torch_responses(self, outputs: torch.Tensor) -> torch.Tensor:
        """`Likelihood.responses` of outputs.

        Args:
            outputs: [C, n]

        Returns:
            The responses, [C, n].
        """

    @abstractmethod
    def torch_losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Responses, and the losses as terms.

        Args:
            outputs: [n, C]
            targets: [n, C]; where answers exclude each other, those of an item add up to 1.

        Returns:
            (The responses [n, C], terms [n, C] of which those of an item add up to `Likelihood.losses`).
        """

    def predicted(self, responses: torch.Tensor) -> torch.Tensor:
        """The answers that are predicted: the one of the largest response, or each label of probability above 1/2.

        Args:
            responses: [C, n]

        Returns:
            Bool [C, n]; ties go to the first answer.
        """
        return largest(responses)

    @abstractmethod
    def distributions(self, responses: torch.Tensor) -> torch.Tensor:
        """The probabilities of the answers.

        Args:
            responses: [C, n]

        Returns:
            [A, n] for the A answers, or [2, C, n] for no and yes to each label.

        Raises:
            ConfigError: there are not finitely many answers.
        """

    @abstractmethod
    def answer_logits(self, outputs: torch.Tensor) -> torch.Tensor:
        """The logits of the answers.

        Args:
            outputs: [..., C, n]

        Returns:
            Logits in the shape of `distributions`, after the same leading axes.

        Raises:
            ConfigError: there are not finitely many answers.
        """

    @abstractmethod
    def answer_probabilities(self, outputs: torch.Tensor) -> torch.Tensor:
        """The probabilities of the answers to each question.

        Answers to different questions are taken as independent. They are independent under every posterior but that of
        an ensemble. Information on them therefore adds up.

        Args:
            outputs: [..., C, n]

        Returns:
            [..., Q, A, n] for A answers to each of Q `questions`.

        Raises:
            ConfigError: there are not finitely many answers.
        """

    def questions(self, outputs: int) -> int:
        """How many questions a label of so many outputs answers: one in all where answers exclude each other."""
        return outputs

    @abstractmethod
    def torch_entropy(self, outputs: torch.Tensor) -> torch.Tensor:
        """`Likelihood.entropy` of outputs.

        Args:
            outputs: [n, C]

        Returns:
            Nats [n].

        Raises:
            ConfigError: there are not finitely many answers.
        """

    def discrepancy(self, moved: torch.Tensor) -> torch.Tensor:
        """Half the squared length of a change of the responses.

        Args:
            moved: [C, n]

        Returns:
            [n]; with several labels the mean over them, each with its two answers.
        """
        return (0.5 * moved * moved).sum(0)

    @abstractmethod
    def expected_residual(self, predicted: PredictedOutputs) -> torch.Tensor:
        """The expected length of response - answer, with the responses before the temperature.

        Args:
            predicted: what a head says of the items.

        Returns:
            float64 [n]; with several labels the mean over them.
        """

    @abstractmethod
    def predicted_effect(self, predicted: PredictedOutputs, pull: torch.Tensor) -> torch.Tensor:
        """The sum Σ_c pull_c (response_c - answer_c) for the predicted answer, by responses before the temperature.

        Of numbers it is the expected size of the sum: a number that is answered as predicted would have no effect.

        Args:
            predicted: what a head says of the items.
            pull: float64 [C, n]

        Returns:
            float64 [n]; with several labels the mean over them, for numbers in units of the noise.
        """

    @abstractmethod
    def expected_count(self, predicted: PredictedOutputs) -> torch.Tensor | float:
        """`Likelihood.confidence_weights` at the responses before the temperature.

        Args:
            predicted: what a head says of the items.

        Returns:
            float64 [n], at least 1e-9; or 1 for all items.
        """

    @abstractmethod
    def prediction_residual(self, outputs: torch.Tensor) -> torch.Tensor:
        """The predicted answer - response: minus the gradient of the loss, were the prediction true.

        It keeps its digits where the head is sure. It holds torch to one thread by itself, only where that matters.

        Args:
            outputs: [C, n]

        Returns:
            The residuals, [C, n].

        Raises:
            ConfigError: there are not finitely many answers.
        """

    @abstractmethod
    def change_rates(self, outputs: torch.Tensor, speeds: torch.Tensor) -> torch.Tensor:
        """How soon another answer is predicted when a growing multiple of some speeds is added to the outputs.

        Args:
            outputs: [C, n]
            speeds: [J, C, n], for J directions; they are overwritten.

        Returns:
            1 / the least multiple at which the prediction changes, [J, n]; 0 or less where it never changes.

        Raises:
            ConfigError: there are not finitely many answers.
        """

    def answer_weights(self, predicted: PredictedOutputs) -> tuple[torch.Tensor, torch.Tensor]:
        """The responses that are predicted, and those before the temperature.

        Args:
            predicted: what a head says of the items.

        Returns:
            Both float64 [C, n]; the same tensor where the temperature is 1.
        """
        outputs = predicted.logits.double()
        p = self.torch_responses(outputs)
        return p, p if predicted.temperature == 1 else self.torch_responses(outputs * predicted.temperature)

    def for_classes(self) -> ConfigError:
        """The error for what makes sense with finitely many answers only."""
        problem = f"this score is of classes, and the head predicts {self.words}"
        return ConfigError("score", problem, f"use {self.usual_score}")


class NoAnswers(OnTensors):
    """Labels without finitely many answers: what needs answers is refused."""

    def distributions(self, responses: torch.Tensor) -> torch.Tensor:
        """Refused."""
        del responses
        raise self.for_classes()

    def answer_logits(self, outputs: torch.Tensor) -> torch.Tensor:
        """Refused."""
        del outputs
        raise self.for_classes()

    def answer_probabilities(self, outputs: torch.Tensor) -> torch.Tensor:
        """Refused."""
        del outputs
        raise self.for_classes()

    def torch_entropy(self, outputs: torch.Tensor) -> torch.Tensor:
        """Refused."""
        del outputs
        raise self.for_classes()

    def prediction_residual(self, outputs: torch.Tensor) -> torch.Tensor:
        """Refused."""
        del outputs
        raise self.for_classes()

    def change_rates(self, outputs: torch.Tensor, speeds: torch.Tensor) -> torch.Tensor:
        """Refused."""
        del outputs, speeds
        raise self.for_classes()
