"""What every likelihood keeps: its derivatives, its tensors, its texts. A new kind joins by its line in LIKELIHOODS."""

from __future__ import annotations

import copy
import inspect
import pickle

import numpy as np
import pytest
import torch

from raysal.errors import ConfigError, UnknownName
from raysal.models.likelihood import LIKELIHOODS, SIGMOID, SOFTMAX, Curvature, Likelihood, likelihood_of
from raysal.scoring.base import Predicted
from raysal.scoring.registry import SCORES

N, C = 7, 4
STEP = 1e-4

every_likelihood = pytest.mark.parametrize("likelihood", LIKELIHOODS.values(), ids=repr)
every_discrete = pytest.mark.parametrize("likelihood", [one for one in LIKELIHOODS.values() if one.discrete], ids=repr)


def some(likelihood: Likelihood, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outputs, targets and weights, of labels that are not certain."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(N, C)) * 2, likelihood.responses(rng.normal(size=(N, C))), rng.uniform(0.2, 3, N)


def hessians(likelihood: Likelihood, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Second differences of the loss [n, C, C]."""
    units = np.eye(C) * STEP
    found = np.empty((N, C, C))
    for i, a in enumerate(units):
        for j, b in enumerate(units):
            corners = [(a + b, 1), (a - b, -1), (b - a, -1), (-a - b, 1)]
            found[:, i, j] = sum(sign * likelihood.losses(outputs + move, targets) for move, sign in corners)
    return found / (4 * STEP**2)


# -- losses -----------------------------------------------------------------------------------------------------------


@every_likelihood
def test_the_gradient_of_the_loss_is_response_minus_target(likelihood: Likelihood) -> None:
    outputs, targets, weights = some(likelihood)
    for place, move in enumerate(np.eye(C) * STEP):
        slope = (likelihood.losses(outputs + move, targets) - likelihood.losses(outputs - move, targets)) / (2 * STEP)
        np.testing.assert_allclose(slope, (likelihood.responses(outputs) - targets)[:, place], atol=1e-6)
    assert likelihood.total_loss(outputs, targets, weights) == pytest.approx(
        likelihood.losses(outputs, targets) @ weights
    )


@every_likelihood
def test_the_curvature_is_that_of_the_loss(likelihood: Likelihood) -> None:
    outputs, targets, weights = some(likelihood)
    p, exact = likelihood.responses(outputs), hessians(likelihood, outputs, targets)
    curvature = Curvature(likelihood, p, weights)
    np.testing.assert_allclose(curvature.diagonal(), weights[:, None] * np.einsum("ncc->nc", exact), atol=1e-5)
    roots = curvature.hessian_roots()
    np.testing.assert_allclose(roots @ roots.transpose(0, 2, 1), weights[:, None, None] * exact, atol=1e-5)
    np.testing.assert_allclose(curvature.hessian_sum(), (weights[:, None, None] * exact).sum(axis=0), atol=1e-4)
    along = np.random.default_rng(1).normal(size=(N, C))
    terms = likelihood.curvature_terms(p, along).sum(axis=1)
    np.testing.assert_allclose(terms, np.einsum("nc,ncd,nd->n", along, exact, along), atol=1e-4)
    assert (curvature.counts("gaussian") == weights).all()
    largest = np.linalg.eigvalsh(exact)[:, -1]
    assert (curvature.counts("categorical") <= weights * (1 + 1e-9)).all()
    assert (largest <= 1 + 1e-5).all()  # what `gaussian` counts a label as bounds it from above


@every_likelihood
def test_a_loss_is_finite_far_from_the_target(likelihood: Likelihood) -> None:
    outputs = np.array([[800.0, -800.0, 0.0, 1.0]])
    for target in np.eye(C):
        loss = likelihood.losses(outputs, target[None])
        assert np.isfinite(loss).all()
        assert (loss >= 0).all()


# -- beside the data --------------------------------------------------------------------------------------------------


@every_likelihood
def test_tensors_say_what_arrays_say(likelihood: Likelihood) -> None:
    outputs, targets, _ = some(likelihood)
    tensor = torch.from_numpy(outputs)
    p = likelihood.responses(outputs)
    np.testing.assert_allclose(likelihood.torch_responses(tensor.T.contiguous()).T.numpy(), p, rtol=1e-12)
    responses, terms = likelihood.torch_losses(tensor, torch.from_numpy(targets))
    np.testing.assert_allclose(responses.numpy(), p, rtol=1e-12)
    np.testing.assert_allclose(terms.sum(1).numpy(), likelihood.losses(outputs, targets), rtol=1e-12)
    named = likelihood.predicted(torch.from_numpy(p.T)).T.numpy()
    names = [str(c) for c in range(C)]
    if likelihood.discrete:
        texts = likelihood.texts(p, names)
        assert [likelihood.names_in(text) for text in texts] == [tuple(np.array(names)[row].tolist()) for row in named]


@every_discrete
def test_answers_are_distributions(likelihood: Likelihood) -> None:
    outputs = torch.from_numpy(some(likelihood)[0].T.copy())
    p = likelihood.torch_responses(outputs)
    answers = likelihood.distributions(p)
    torch.testing.assert_close(answers.sum(0), torch.ones_like(answers[0]))
    torch.testing.assert_close(torch.softmax(likelihood.answer_logits(outputs), 0), answers)
    asked = likelihood.answer_probabilities(outputs)
    assert asked.shape[0] == likelihood.questions(C)
    torch.testing.assert_close(asked.sum(1), torch.ones_like(asked[:, 0]))
    entropy = torch.special.entr(asked).sum((0, 1)).numpy()
    np.testing.assert_allclose(likelihood.torch_entropy(outputs.T).numpy(), entropy, rtol=1e-12)
    np.testing.assert_allclose(likelihood.entropy(p.T.numpy()), entropy, rtol=1e-12)
    residual = likelihood.prediction_residual(outputs)
    torch.testing.assert_close(residual, likelihood.predicted(p).double() - p)


@every_discrete
def test_a_prediction_changes_at_the_size_that_is_said(likelihood: Likelihood) -> None:
    rng = np.random.default_rng(3)
    outputs, speeds = torch.from_numpy(rng.normal(size=(C, N))), torch.from_numpy(rng.normal(size=(5, C, N)))
    rates = likelihood.change_rates(outputs, speeds.clone())
    before = likelihood.predicted(likelihood.torch_responses(outputs))
    for speed, rate in zip(speeds, rates, strict=True):
        changes = rate > 0
        size = 1 / rate.clamp_min(1e-9)
        for factor, wanted in ((1 - 1e-6, torch.zeros_like(changes)), (1 + 1e-6, changes)):
            after = likelihood.predicted(likelihood.torch_responses(outputs + factor * size * speed))
            assert ((after != before).any(0)[changes] == wanted[changes]).all()
        far = likelihood.predicted(likelihood.torch_responses(outputs + 1e3 * speed))
        assert ((far == before).all(0)[~changes]).all()


@every_likelihood
def test_expectations_are_over_the_answers(likelihood: Likelihood) -> None:
    outputs, _, _ = some(likelihood)
    rng = np.random.default_rng(4)
    predicted = Predicted(likelihood=likelihood, logits=torch.from_numpy(outputs.T), temperature=1.7, noise=0.6)
    predicted.deviation = torch.from_numpy(rng.uniform(0.1, 1, N))
    q = likelihood.responses(outputs * 1.7)
    counts = likelihood.expected_count(predicted)
    np.testing.assert_allclose(counts, np.maximum(likelihood.confidence_weights(q), 1e-9), rtol=1e-12)

    def size(residuals: np.ndarray) -> np.ndarray:
        return np.linalg.norm(residuals, axis=1) if likelihood.exclusive else np.abs(residuals).mean(axis=1)

    length = sampled_mean(likelihood, outputs, q, predicted, size)
    np.testing.assert_allclose(likelihood.expected_residual(predicted), length, rtol=0.02)
    # What the predicted answer would do: of numbers, which have no other answer than the prediction, the size of it.
    pull = rng.normal(size=(N, C))
    if likelihood.quadratic:
        effect = length * np.linalg.norm(pull, axis=1) / 0.6
    elif likelihood.exclusive:
        effect = (pull * (q - np.eye(C)[q.argmax(axis=1)])).sum(axis=1)
    else:
        effect = (pull * (q - (q > 0.5))).mean(axis=1)
    found = likelihood.predicted_effect(predicted, torch.from_numpy(pull.T.copy()))
    np.testing.assert_allclose(found, effect, rtol=0.02 if likelihood.quadratic else 1e-12, atol=1e-15)


def sampled_mean(likelihood: Likelihood, outputs, q, predicted, value, count: int = 40_000) -> np.ndarray:
    """The mean of `value` of residuals [n, C], over answers sampled as the head believes in them."""
    rng = np.random.default_rng(5)
    p = likelihood.responses(outputs)
    total = np.zeros(N)
    for _ in range(count):
        if likelihood.quadratic:
            answers = outputs + np.sqrt(predicted.mean_variance.numpy() + predicted.noise)[:, None] * rng.normal(
                size=(N, C)
            )
            total += value(outputs - answers)
            continue
        draw = rng.random((N, 1 if likelihood.exclusive else C))
        answers = np.eye(C)[(draw > p.cumsum(axis=1)).sum(axis=1)] if likelihood.exclusive else draw < p
        total += value(q - answers)
    return total / count


# -- names and texts --------------------------------------------------------------------------------------------------


@every_likelihood
def test_an_example_is_a_label_of_its_kind(likelihood: Likelihood) -> None:
    names, text = likelihood.example
    assert likelihood.output_names(names) == names
    assert set(likelihood.names_in(text)) <= set(names)
    assert likelihood.plain(text) == text
    assert likelihood.shown(text) == text
    targets = likelihood.targets([text, {text: 0.5}], names)
    assert targets.shape == (2, len(names))
    judged = likelihood.judge(names, targets, [text, text])
    assert judged.items == 2
    assert judged.metric in judged.measures


@every_likelihood
def test_columns_have_an_entry_for_each_item(likelihood: Likelihood) -> None:
    p = likelihood.responses(some(likelihood)[0])
    for column in likelihood.columns(p, np.zeros((N, 1)), 1.0).values():
        assert len(column.values if column.cuts is None else column.cuts[1:]) == N


@every_likelihood
def test_groups_are_for_folds(likelihood: Likelihood) -> None:
    targets = likelihood.targets([likelihood.example[1]] * 3, likelihood.example[0])
    assert likelihood.groups(targets).tolist() == [likelihood.groups(targets)[0]] * 3


@every_likelihood
def test_a_copy_and_a_pickle_are_the_one_object(likelihood: Likelihood) -> None:
    assert likelihood_of(likelihood.name) is likelihood
    assert copy.deepcopy(likelihood) is likelihood
    assert pickle.loads(pickle.dumps(likelihood)) is likelihood
    assert len(pickle.dumps(likelihood)) < 100  # its name, not its code
    assert not inspect.isabstract(type(likelihood))


def test_an_unknown_name_is_named() -> None:
    with pytest.raises(UnknownName, match="'probit'; use one of: identity, sigmoid, softmax"):
        likelihood_of("probit")


@every_likelihood
def test_the_usual_score_needs_nothing_but_a_head(likelihood: Likelihood) -> None:
    assert set(SCORES[likelihood.usual_score].needs(likelihood)) <= {"mean_variance"}
    if not likelihood.discrete:
        with pytest.raises(ConfigError, match=f"the head predicts {likelihood.words}; use {likelihood.usual_score}"):
            SCORES["entropy"].needs(likelihood)


def test_a_joined_class_takes_its_share_from_the_others_where_they_exclude_it() -> None:
    p, odds = np.array([[0.5, 0.5]]), np.array([[0.25]])
    np.testing.assert_allclose(SOFTMAX.with_joined(p, odds), [[0.4, 0.4, 0.2]])
    np.testing.assert_allclose(SIGMOID.with_joined(p, odds), [[0.5, 0.5, 0.2]])
