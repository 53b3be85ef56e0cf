"""A kind of labels that raysal does not have, as one class: counts, Poisson with a rate exp(output)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from reference_update import BIAS_PRIOR, frame_reference

from raysal.errors import ConfigError, LabelError
from raysal.models.head import Head
from raysal.models.likelihood import LIKELIHOODS, Curvature, Likelihood
from raysal.models.likelihood.base import Column, Floats
from raysal.models.likelihood.tensors import NoAnswers, PredictedOutputs
from raysal.models.measures import Evaluation, judge_numbers
from raysal.models.online.update import retract, update
from raysal.models.targets import Answer, number_in
from raysal.models.trainers.base import TrainingData
from raysal.models.trainers.logistic import Logistic
from raysal.scoring.registry import SCORES


class Counts(NoAnswers, Likelihood):
    name = "counts"
    words = "counts"
    discrete = exclusive = quadratic = False
    usual_score = "epistemic_variance"
    strategies = "`coreset`"
    example = (("count",), "3")

    def names_in(self, text: str, where: str = "label") -> tuple[str, ...]:
        self.shares(text, where)
        return ("count",)

    def plain(self, text: str, where: str = "label") -> str:
        return str(int(self.shares(text, where)["count"]))

    def check_names(self, names: Sequence[str], where: str) -> None:
        if list(names) not in ([], ["count"]):
            raise ConfigError(where, "labels are counts")

    def output_names(self, classes: Sequence[str]) -> tuple[str, ...]:
        self.check_names(classes, "classes")
        return ("count",)

    def shares(self, answer: Answer, where: str) -> dict[str, float]:
        count = number_in(answer, where)
        if count < 0 or not count.is_integer():
            raise LabelError(where, f"{answer!r} is no count")
        return {"count": count}

    def responses(self, outputs: Floats) -> Floats:
        return np.exp(outputs)

    def losses(self, outputs: Floats, targets: Floats) -> Floats:
        return np.asarray((np.exp(outputs) - targets * outputs).sum(axis=1))

    def second_derivatives(self, responses: Floats) -> Floats:
        return responses

    def confidence_weights(self, responses: Floats) -> Floats:
        return np.asarray(responses.max(axis=1))

    def entropy(self, responses: Floats) -> None:
        return None

    def groups(self, targets: Floats) -> np.ndarray:
        return np.zeros(len(targets), np.int64)

    def texts(self, responses: Floats, classes: Sequence[str]) -> list[str]:
        return [str(round(value)) for value in responses[:, 0]]

    def columns(self, responses: Floats, variance: Floats, noise: float) -> dict[str, Column]:
        return {"rate": Column(responses[:, 0].astype(np.float32))}

    def judge(
        self, classes: Sequence[str], outputs: Floats, answers: Sequence[str], variance: Floats | None = None
    ) -> Evaluation:
        rate = self.responses(outputs)[:, 0]
        return judge_numbers(rate, np.array([number_in(answer) for answer in answers]), rate)

    def torch_responses(self, outputs: torch.Tensor) -> torch.Tensor:
        return outputs.exp()

    def torch_losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return outputs.exp(), outputs.exp() - targets * outputs

    def expected_residual(self, predicted: PredictedOutputs) -> torch.Tensor:
        return predicted.logits.double().exp().sqrt().sum(0)

    def predicted_effect(self, predicted: PredictedOutputs, pull: torch.Tensor) -> torch.Tensor:
        return pull.abs().sum(0) * self.expected_residual(predicted)

    def expected_count(self, predicted: PredictedOutputs) -> torch.Tensor | float:
        return 1.0


COUNTS = Counts()


@dataclass(frozen=True, kw_only=True)
class PoissonRegression(Logistic):
    likelihood: ClassVar[Likelihood] = COUNTS


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, list[str], np.ndarray]:
    """Features, counts, and the weights [d] they are made by."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(400, 3)), np.array([0.8, -0.5, 0.3])
    return x, [str(count) for count in rng.poisson(np.exp(x @ w + 0.7))], w


@pytest.mark.parametrize("structure", ["diagonal", "full", "kronecker", "shared"])
def test_it_is_fitted_updated_and_saved_as_the_others_are(structure, data, monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(LIKELIHOODS, "counts", COUNTS)  # type: ignore[arg-type]
    x, counts, w = data
    head = PoissonRegression(structure=structure, l2=1e-4).fit(
        TrainingData(features=x[:380], labels=counts[:380], classes=[])
    )
    np.testing.assert_allclose(head.mean[0], [*w, 0.7], atol=0.2)
    rows, targets = np.column_stack([x, np.ones(len(x))])[:380], np.array(counts[:380], float)
    frame = frame_reference(x[:380], np.ones(380), 1.0, 1.0)  # where the penalty is that of `Logistic`
    within = head.mean[0] @ np.linalg.inv(frame)
    slope = (np.exp(rows @ head.mean[0]) - targets) @ (rows @ frame.T) + [1e-4, 1e-4, 1e-4, BIAS_PRIOR] * within
    np.testing.assert_allclose(slope, 0, atol=0.01)
    np.testing.assert_allclose(head.probabilities(x)[:, 0], np.exp(x @ head.mean[0, :-1] + head.mean[0, -1]))
    later = update(head, x[380:], counts[380:], ledger_seq=1)
    assert (later.variance(x) <= head.variance(x) * (1 + 1e-9)).all()
    back = retract(later, x[380:], counts[380:], ledger_seq=2)
    np.testing.assert_allclose(back.variance(x), head.variance(x), rtol=1e-6)
    later.save(tmp_path / "head")
    assert Head.load(tmp_path / "head").likelihood is COUNTS
    judged = head.likelihood.judge(head.classes, head.logits(x), counts)
    assert judged.measures["r2"] > 0.3


def test_the_exact_structure_is_the_fisher_information(data) -> None:
    x, counts, _ = data
    head = PoissonRegression(structure="full").fit(TrainingData(features=x, labels=counts, classes=[]))
    rows = np.column_stack([x, np.ones(len(x))])
    rates = head.probabilities(x)[:, 0]
    frame = frame_reference(x, np.ones(len(x)), head.prior)
    away = np.linalg.inv(frame)
    fisher = (rows.T * rates) @ rows + head.prior * away @ away.T
    covariance = head.posterior.solve(np.eye(4)[:1])  # its first row, as there is one output
    np.testing.assert_allclose(covariance[0], np.linalg.inv(fisher)[0], rtol=1e-8)
    roots = Curvature(COUNTS, rates[:, None], np.ones(len(x))).hessian_roots()
    np.testing.assert_allclose((roots @ roots.transpose(0, 2, 1))[:, 0, 0], rates)


def test_what_is_no_count_is_named_and_what_needs_classes_is_refused(data) -> None:
    x, _, _ = data
    with pytest.raises(LabelError, match=r"row 1: '0.5' is no count"):
        PoissonRegression().fit(TrainingData(features=x[:2], labels=["1", "0.5"], classes=[]))
    with pytest.raises(ConfigError, match="the head predicts counts"):
        SCORES["entropy"].needs(COUNTS)
