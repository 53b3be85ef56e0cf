"""Labels that are one class of several: a softmax over the outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from raysal.models.likelihood.base import Column, Floats, Likelihood, checked_shares, shannon, total_of
from raysal.models.likelihood.tensors import LEAST, PredictedOutputs, largest
from raysal.models.measures import Evaluation, judge_classes
from raysal.models.targets import Answer
from raysal.numerics import one_thread

if TYPE_CHECKING:
    import torch


def softmax(outputs: Floats) -> Floats:
    """Softmax over the last axis."""
    raised = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def class_residuals(probabilities: torch.Tensor) -> torch.Tensor:
    """The residual e_argmax - p of class probabilities p.

    The predicted class gets the sum of the other probabilities. 1 - p would lose all digits where the head is sure.

    Args:
        probabilities: [C, n]

    Returns:
        The residuals, [C, n]; ties go to the first class.
    """
    import torch

    top = largest(probabilities)
    others = probabilities.masked_fill(top, 0.0)
    rest = others.sum(0, keepdim=True)
    return torch.where(top, rest, others.neg_())


class Softmax(Likelihood):
    """One class of several: the probabilities p of the classes of an item add up to 1, and a label costs -log p."""

    name = "softmax"
    words = "one class of several"
    discrete = True
    exclusive = True
    quadratic = False
    usual_score = "entropy"
    strategies = "any"
    example = (("a", "b"), "a")

    def names_in(self, text: str, where: str = "label") -> tuple[str, ...]:
        """The class: any text is a name."""
        del where
        return (text,)

    def plain(self, text: str, where: str = "label") -> str:
        """The text as it is."""
        del where
        return text

    def check_names(self, names: Sequence[str], where: str) -> None:
        """Any name will do."""

    def shares(self, answer: Answer, where: str) -> dict[str, float]:
        """The class with share 1, or shares over their sum."""
        if isinstance(answer, str):
            return {answer: 1.0}
        shares = checked_shares(answer, where)
        total = total_of(shares, where)
        return {name: share / total for name, share in shares.items() if share > 0}

    def responses(self, outputs: Floats) -> Floats:
        """Class probabilities."""
        return softmax(outputs)

    def losses(self, outputs: Floats, targets: Floats) -> Floats:
        """The cross-entropy, in nats."""
        top = outputs.max(axis=1)
        log_sum = top + np.log(np.exp(outputs - top[:, None]).sum(axis=1))
        # Only what a target has a share in: infinity times zero is not a number.
        named = np.where(targets > 0, targets * outputs, 0.0).sum(axis=1)
        return np.asarray(log_sum * targets.sum(axis=1) - named)

    def target_mass(self, targets: Floats) -> Floats:
        """The sum of an item's shares."""
        return np.asarray(targets.sum(axis=1, keepdims=True))

    def second_derivatives(self, responses: Floats) -> Floats:
        """The products p (1 - p)."""
        return responses * (1 - responses)

    def curvature_terms(self, responses: Floats, along: Floats) -> Floats:
        """The terms p_c (along_c - mean of along under p)²."""
        middle = (responses * along).sum(axis=1)
        return np.asarray(responses * (along - middle[:, None]) ** 2)

    def hessian_roots(self, responses: Floats, weights: Floats) -> Floats:
        """Roots of diag(p) - p pᵀ."""
        root = np.sqrt(responses)
        matrices = root[:, :, None] * np.eye(responses.shape[1]) - responses[:, :, None] * root[:, None, :]
        return np.asarray(matrices * np.sqrt(weights)[:, None, None])

    def hessian_sum(self, responses: Floats, weights: Floats) -> Floats:
        """The sum of diag(p) - p pᵀ."""
        return np.asarray(np.diag(weights @ responses) - (responses.T * weights) @ responses)

    def confidence_weights(self, responses: Floats) -> Floats:
        """The product p (1 - p) of the most probable class."""
        p = responses.max(axis=1)
        return np.asarray(p * (1 - p))

    def with_joined(self, responses: Floats, odds: Floats) -> Floats:
        """All probabilities over their new sum."""
        total = 1.0 + odds.sum(axis=1, keepdims=True)  # exactly 1 for items that name no joined class
        return np.hstack([responses / total, odds / total])

    def centred(self, outputs: Floats) -> Floats:
        """Outputs less their mean over the classes, which changes no probability."""
        return np.asarray(outputs - outputs.mean(axis=1, keepdims=True))

    def entropy(self, responses: Floats) -> Floats:
        """Of the class."""
        return shannon(responses)

    def groups(self, targets: Floats) -> NDArray[np.int64]:
        """The class of the largest share."""
        return np.asarray(targets.argmax(axis=1))

    def texts(self, responses: Floats, classes: Sequence[str]) -> list[str]:
        """The most probable class."""
        return [classes[place] for place in responses.argmax(axis=1)]

    def columns(self, responses: Floats, variance: Floats, noise: float) -> dict[str, Column]:
        """The most probable class, and its probability."""
        del variance, noise
        best = responses.argmax(axis=1)
        return {
            "class": Column(best),
            "probability": Column(responses[np.arange(len(best)), best].astype(np.float32)),
        }

    def judge(
        self,
        classes: Sequence[str],
        outputs: Floats,
        answers: Sequence[str],
        variance: Floats | None = None,
        weights: Floats | None = None,
    ) -> Evaluation:
        """By accuracy, likelihood and calibration."""
        del variance
        return judge_classes(classes, self.responses(outputs), answers, weights)

    def torch_responses(self, outputs: torch.Tensor) -> torch.Tensor:
        """Class probabilities."""
        return outputs.softmax(0)

    def torch_losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Class probabilities, and the cross-entropy's term for each."""
        log_probabilities = outputs - outputs.logsumexp(dim=1, keepdim=True)
        return log_probabilities.exp(), -targets * log_probabilities

    def distributions(self, responses: torch.Tensor) -> torch.Tensor:
        """The responses."""
        return responses

    def answer_logits(self, outputs: torch.Tensor) -> torch.Tensor:
        """The outputs."""
        return outputs

    def answer_probabilities(self, outputs: torch.Tensor) -> torch.Tensor:
        """One question, with an answer for each class."""
        return outputs.softmax(-2).unsqueeze(-3)

    def questions(self, outputs: int) -> int:
        """One."""
        del outputs
        return 1

    def torch_entropy(self, outputs: torch.Tensor) -> torch.Tensor:
        """Of the class."""
        import torch

        return torch.as_tensor(torch.special.entr(outputs.softmax(1)).sum(1))

    def expected_residual(self, predicted: PredictedOutputs) -> torch.Tensor:
        """Σ_y p_y ‖q - e_y‖."""
        p, q = self.answer_weights(predicted)
        square = q * q
        others = (square.sum(0) - square).clamp_min(0)
        return (p * ((1 - q) ** 2 + others).sqrt()).sum(0)

    def predicted_effect(self, predicted: PredictedOutputs, pull: torch.Tensor) -> torch.Tensor:
        """⟨pull, q - e_argmax⟩."""
        _, q = self.answer_weights(predicted)
        return (class_residuals(q) * pull).sum(0).neg_()

    def expected_count(self, predicted: PredictedOutputs) -> torch.Tensor:
        """The product q (1 - q) of the most probable class."""
        _, q = self.answer_weights(predicted)
        top = q.amax(0)
        return (top * (1 - top)).clamp_min(LEAST)

    def prediction_residual(self, outputs: torch.Tensor) -> torch.Tensor:
        """The residual e_argmax - p."""
        with one_thread():  # the softmax alone: sums over few classes have the same bits on all threads, and cost more
            p = self.torch_responses(outputs)
        return class_residuals(p)

    def change_rates(self, outputs: torch.Tensor, speeds: torch.Tensor) -> torch.Tensor:
        """Until the largest output is overtaken."""
        import torch

        top, predicted = outputs.max(0)
        near = 1 / (top - outputs).clamp_min(torch.finfo(outputs.dtype).tiny)
        near.scatter_(0, predicted[None], 0.0)
        speeds -= speeds.gather(1, predicted.expand(len(speeds), 1, -1))
        return speeds.mul_(near).amax(1)


SOFTMAX = Softmax()
