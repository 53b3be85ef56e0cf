"""Labels of which an item may have several at once, or none: a sigmoid for each output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from raysal.errors import ConfigError, LabelError
from raysal.models.likelihood.base import Column, Floats, Likelihood, checked_shares, shannon
from raysal.models.likelihood.tensors import LEAST, PredictedOutputs
from raysal.models.measures import Evaluation, judge_labels
from raysal.models.targets import Answer, labels_in
from raysal.numerics import one_thread
from raysal.types import NONE, SEPARATOR

if TYPE_CHECKING:
    import torch

ROUNDING = 1e-9
"""By how much the shares of a label may add up to more than 1."""


def sigmoid(outputs: Floats) -> Floats:
    """1 / (1 + exp(-x)), without overflow."""
    small = np.exp(-np.abs(outputs))
    return np.asarray(np.where(outputs >= 0, 1.0, small) / (1.0 + small))


class Sigmoid(Likelihood):
    """Several labels at once: each has a probability p of its own, and costs -log p if present, else -log(1 - p)."""

    name = "sigmoid"
    words = "several labels at once"
    discrete = True
    exclusive = False
    quadratic = False
    usual_score = "entropy"
    strategies = "`badge`, `top_score` with the score `margin`"
    example = (("a", "b"), "a")

    def names_in(self, text: str, where: str = "label") -> tuple[str, ...]:
        """The labels, sorted; none for -."""
        return labels_in(text, where)

    def plain(self, text: str, where: str = "label") -> str:
        """The labels, sorted, with | between them."""
        return SEPARATOR.join(labels_in(text, where)) or NONE

    def check_names(self, names: Sequence[str], where: str) -> None:
        """A name is not -, and has no | in it and no space around it."""
        for name in names:
            if SEPARATOR in name or name.strip() in ("", NONE) or name != name.strip():
                problem = f"{name!r} cannot be one of several labels"
                raise ConfigError(where, problem, f"use a name without {SEPARATOR}, and not {NONE}")

    def shares(self, answer: Answer, where: str) -> dict[str, float]:
        """Each label with probability 1; or its probability, the sum of the shares of the texts that name it."""
        if isinstance(answer, str):
            return dict.fromkeys(labels_in(answer, where), 1.0)
        each: dict[str, float] = {}
        for text, share in checked_shares(answer, where).items():
            for name in labels_in(text, where):
                each[name] = each.get(name, 0.0) + share
        if max(each.values(), default=0.0) > 1 + ROUNDING:
            raise LabelError(where, f"probabilities {each} exceed 1", "give one in [0, 1] for each label")
        return {name: min(share, 1.0) for name, share in each.items()}

    def responses(self, outputs: Floats) -> Floats:
        """A probability for each label."""
        return sigmoid(outputs)

    def losses(self, outputs: Floats, targets: Floats) -> Floats:
        """The cross-entropies of the labels added up, in nats."""
        return np.asarray((np.logaddexp(0.0, outputs) - targets * outputs).sum(axis=1))

    def second_derivatives(self, responses: Floats) -> Floats:
        """The products p (1 - p)."""
        return responses * (1 - responses)

    def confidence_weights(self, responses: Floats) -> Floats:
        """The product p (1 - p) of the least sure label."""
        return np.asarray((responses * (1 - responses)).max(axis=1))

    def entropy(self, responses: Floats) -> Floats:
        """Summed over the labels."""
        return shannon(responses) + shannon(1 - responses)

    def groups(self, targets: Floats) -> NDArray[np.int64]:
        """A number for each set of labels."""
        return np.asarray(np.unique(targets, axis=0, return_inverse=True)[1].reshape(-1))

    def texts(self, responses: Floats, classes: Sequence[str]) -> list[str]:
        """The labels of probability above 1/2, sorted."""
        names = np.array(classes)
        return [SEPARATOR.join(sorted(names[row > 0.5].tolist())) or NONE for row in responses]

    def columns(self, responses: Floats, variance: Floats, noise: float) -> dict[str, Column]:
        """The labels of probability above 1/2, the most probable first, and their probabilities."""
        del variance, noise
        row, place = np.nonzero(responses > 0.5)
        order = np.lexsort((place, -responses[row, place], row))
        cuts = np.searchsorted(row, np.arange(len(responses) + 1)).astype(np.int32)
        row, place = row[order], place[order]
        return {
            "labels": Column(place, cuts),
            "label_probabilities": Column(responses[row, place].astype(np.float32), cuts),
        }

    def judge(
        self,
        classes: Sequence[str],
        outputs: Floats,
        answers: Sequence[str],
        variance: Floats | None = None,
        weights: Floats | None = None,
    ) -> Evaluation:
        """By F1, exact matches, accuracy of labels, likelihood and calibration."""
        del variance
        return judge_labels(classes, self.responses(outputs), [labels_in(answer) for answer in answers], weights)

    def torch_responses(self, outputs: torch.Tensor) -> torch.Tensor:
        """A probability for each label."""
        return outputs.sigmoid()

    def torch_losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A probability and a cross-entropy for each label."""
        import torch

        return outputs.sigmoid(), torch.nn.functional.softplus(outputs) - targets * outputs

    def predicted(self, responses: torch.Tensor) -> torch.Tensor:
        """The labels of probability above 1/2."""
        return responses > 0.5

    def distributions(self, responses: torch.Tensor) -> torch.Tensor:
        """Both answers to each label."""
        import torch

        return torch.stack([1 - responses, responses])

    def answer_logits(self, outputs: torch.Tensor) -> torch.Tensor:
        """0 for no, and the output for yes."""
        import torch

        return torch.stack([torch.zeros_like(outputs), outputs], -3)

    def answer_probabilities(self, outputs: torch.Tensor) -> torch.Tensor:
        """A question for each label, with two answers."""
        import torch

        return torch.stack([torch.sigmoid(-outputs), torch.sigmoid(outputs)], -2)

    def torch_entropy(self, outputs: torch.Tensor) -> torch.Tensor:
        """Summed over the labels."""
        import torch

        both = torch.cat([torch.sigmoid(outputs), torch.sigmoid(-outputs)], 1)
        return torch.as_tensor(torch.special.entr(both).sum(1))

    def discrepancy(self, moved: torch.Tensor) -> torch.Tensor:
        """The mean over the labels: 1 - p moves as far as p."""
        return (moved * moved).mean(0)

    def expected_residual(self, predicted: PredictedOutputs) -> torch.Tensor:
        """E|q - y| of a label y, mean over the labels."""
        return _expected_miss(*self.answer_weights(predicted)).mean(0)

    def predicted_effect(self, predicted: PredictedOutputs, pull: torch.Tensor) -> torch.Tensor:
        """The product pull (q - [q >= 1/2]), mean over the labels."""
        outputs = predicted.logits.double() * predicted.temperature
        return (self.prediction_residual(outputs) * pull).mean(0).neg_()

    def expected_count(self, predicted: PredictedOutputs) -> torch.Tensor:
        """The product q (1 - q) of the least sure label."""
        _, q = self.answer_weights(predicted)
        near = 0.5 + (q - 0.5).abs().amin(0)
        return (near * (1 - near)).clamp_min(LEAST)

    def prediction_residual(self, outputs: torch.Tensor) -> torch.Tensor:
        """[p >= 1/2] - p."""
        with one_thread():
            return (-outputs.abs()).sigmoid().copysign(outputs)

    def change_rates(self, outputs: torch.Tensor, speeds: torch.Tensor) -> torch.Tensor:
        """Until the first label changes sides."""
        import torch

        near = 1 / outputs.abs().clamp_min(torch.finfo(outputs.dtype).tiny)
        near[outputs >= 0] *= -1
        return speeds.mul_(near).amax(1)


def _expected_miss(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """E|q - y| of labels y that are 1 with probability p, else 0."""
    return p * (1 - q) + (1 - p) * q


SIGMOID = Sigmoid()
