"""Labels that are numbers: the outputs themselves, with Gaussian noise around them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from raysal.errors import ConfigError
from raysal.models.likelihood.base import Column, Floats, Likelihood, checked_shares, total_of
from raysal.models.likelihood.tensors import NoAnswers, PredictedOutputs
from raysal.models.measures import Evaluation, judge_numbers
from raysal.models.targets import VALUE, Answer, number_in, plain_number

if TYPE_CHECKING:
    import torch

LENGTH_OF_NORMAL = math.sqrt(2 / math.pi)
"""E|x| of a standard normal x."""


class Identity(NoAnswers, Likelihood):
    """Numbers: a label is Gaussian around the output, and costs half the squared error."""

    name = "identity"
    words = "numbers"
    discrete = False
    exclusive = False
    quadratic = True
    usual_score = "epistemic_variance"
    strategies = "`bait`, `batch_bald`, `top_score` with the score `epistemic_variance`"
    example = ((VALUE,), "0")

    def names_in(self, text: str, where: str = "label") -> tuple[str, ...]:
        """`value`, if the text is a number."""
        number_in(text, where)
        return (VALUE,)

    def plain(self, text: str, where: str = "label") -> str:
        """The shortest text of the number."""
        return plain_number(text, where)

    def shown(self, text: str) -> str:
        """To six digits."""
        return f"{number_in(text):.6g}"

    def check_names(self, names: Sequence[str], where: str) -> None:
        """There are no classes."""
        if any(name != VALUE for name in names):
            raise ConfigError(where, f"{names[0]!r} is a class, and labels are numbers", "leave it out")

    def output_names(self, classes: Sequence[str]) -> tuple[str, ...]:
        """`value`."""
        self.check_names(sorted(classes), "classes")
        return (VALUE,)

    def shares(self, answer: Answer, where: str) -> dict[str, float]:
        """The number as the target of `value`; of several numbers their mean by shares."""
        if not isinstance(answer, Mapping):
            return {VALUE: number_in(answer, where)}
        shares = checked_shares(answer, where)
        total = total_of(shares, where)
        return {VALUE: sum(number_in(text, where) * share for text, share in shares.items()) / total}

    def targets(self, answers: Sequence[Answer], classes: Sequence[str]) -> Floats:
        """The numbers, for the first output, whatever its name."""
        found = np.zeros((len(answers), len(classes)))
        found[:, 0] = [self.shares(answer, f"row {row}")[VALUE] for row, answer in enumerate(answers)]
        return found

    def responses(self, outputs: Floats) -> Floats:
        """The numbers."""
        return outputs

    def losses(self, outputs: Floats, targets: Floats) -> Floats:
        """Half the squared error."""
        return np.asarray(0.5 * ((outputs - targets) ** 2).sum(axis=1))

    def second_derivatives(self, responses: Floats) -> Floats:
        """1."""
        return np.ones_like(responses)

    def confidence_weights(self, responses: Floats) -> Floats:
        """1: a number is never surer than another."""
        return np.ones(len(responses))

    def mean_field(self, outputs: Floats, variance: Floats, factor: float) -> Floats:
        """Numbers are their own mean."""
        del variance, factor
        return outputs

    def entropy(self, responses: Floats) -> None:
        """None: answers are not finitely many."""
        del responses

    def groups(self, targets: Floats) -> NDArray[np.int64]:
        """All alike."""
        return np.zeros(len(targets), np.int64)

    def texts(self, responses: Floats, classes: Sequence[str]) -> list[str]:
        """The number, with every digit."""
        del classes
        return [repr(float(value)) for value in responses[:, 0]]

    def columns(self, responses: Floats, variance: Floats, noise: float) -> dict[str, Column]:
        """The number, and the standard deviation of a label around it."""
        deviation = np.sqrt(variance[:, 0] + noise)
        return {
            "value": Column(responses[:, 0].astype(np.float32)),
            "standard_deviation": Column(deviation.astype(np.float32)),
        }

    def judge(
        self,
        classes: Sequence[str],
        outputs: Floats,
        answers: Sequence[str],
        variance: Floats | None = None,
        weights: Floats | None = None,
    ) -> Evaluation:
        """By squared error, explained variance and likelihood."""
        del classes
        spread = np.ones(len(outputs)) if variance is None else np.asarray(variance, np.float64)[:, 0]
        return judge_numbers(outputs[:, 0], np.array([number_in(answer) for answer in answers]), spread, weights)

    def torch_responses(self, outputs: torch.Tensor) -> torch.Tensor:
        """The numbers."""
        return outputs

    def torch_losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The numbers, and half of each squared error."""
        return outputs, 0.5 * (outputs - targets) ** 2

    def expected_residual(self, predicted: PredictedOutputs) -> torch.Tensor:
        """E|f - y| of a label y ~ N(f, noise + variance)."""
        return LENGTH_OF_NORMAL * (predicted.mean_variance + predicted.noise).sqrt()

    def predicted_effect(self, predicted: PredictedOutputs, pull: torch.Tensor) -> torch.Tensor:
        """‖pull‖ E|f - y| / noise: of one number, or of several that are off independently."""
        import torch

        length: torch.Tensor = torch.linalg.vector_norm(pull, dim=0)
        return length * self.expected_residual(predicted) / predicted.noise

    def expected_count(self, predicted: PredictedOutputs) -> float:
        """1."""
        del predicted
        return 1.0


IDENTITY = Identity()
