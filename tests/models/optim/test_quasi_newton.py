"""Steps over everything seen: what guides them, and how near a few of them come to a new fit."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from raysal.models.evidence import Evidence, gather_evidence
from raysal.models.head import Head
from raysal.models.likelihood import LIKELIHOODS
from raysal.models.online.mean import objective_of, with_bias_prior
from raysal.models.online.update import update
from raysal.models.optim.quasi_newton import Objective, descend
from raysal.models.trainers.base import TrainingData
from raysal.models.trainers.logistic import Logistic

STRUCTURES = ("shared", "diagonal", "kronecker", "full")


def digits(scale: float) -> tuple[np.ndarray, list[str]]:
    """Vectors of length `scale`, which have much in common, as an encoder of texts makes them."""
    x, y = load_digits(return_X_y=True)
    rows = np.random.default_rng(1).permutation(len(x))[:150]
    return scale * x[rows] / np.linalg.norm(x[rows], axis=1, keepdims=True), [str(digit) for digit in y[rows]]


def fit(x: np.ndarray, y: list[str], **fields: str) -> Head:
    return Logistic(**fields).fit(TrainingData(features=x, labels=y, classes=sorted(set(y))))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_eight_steps_take_most_of_the_way_to_a_new_fit_in_any_unit(scale):
    x, y = digits(scale)
    head, refit = fit(x[:100], y[:100]), fit(x, y)
    seen = gather_evidence(x, y, None, head.classes)
    objective, rows = objective_of(head, seen), seen.rows
    moved = update(head, x[100:], y[100:], ledger_seq=1, passes=8, seen=seen)
    before, after, least = (objective.value(mean, rows @ mean.T) for mean in (head.mean, moved.mean, refit.mean))
    assert (before - after) / (before - least) > 0.95


@pytest.mark.parametrize("structure", STRUCTURES[:3])
def test_a_few_steps_are_the_same_in_any_unit(structure):
    means = []
    for scale in (1e-3, 1.0, 1e3):
        x, y = digits(scale)
        head = fit(x[:100], y[:100], structure=structure)
        moved = update(head, x[100:], y[100:], ledger_seq=1, passes=3, seen=gather_evidence(x, y, None, head.classes))
        means.append(np.column_stack([moved.weight * scale, moved.bias]))
    for mean in means:
        assert np.abs(mean - means[0]).max() < 1e-3 * np.abs(means[0]).max()


@pytest.mark.parametrize("link", ["softmax", "sigmoid", "identity"])
def test_the_second_derivative_is_the_second_difference_of_the_value(link):
    rng = np.random.default_rng(0)
    targets = rng.uniform(size=(20, 3))
    targets /= targets.sum(axis=1, keepdims=True)
    evidence = Evidence(features=rng.normal(size=(20, 4)), targets=targets, weights=rng.uniform(0.1, 3, size=20))
    objective = Objective(LIKELIHOODS[link], evidence, rng.uniform(0.1, 2, size=5))
    weights, direction, small = rng.normal(size=(3, 5)), rng.normal(size=(3, 5)), 1e-3
    low, middle, high = (
        objective.value(mean, evidence.rows @ mean.T)
        for mean in (weights - small * direction, weights, weights + small * direction)
    )
    wanted = (low - 2 * middle + high) / small**2
    got = objective.second_derivative(direction, evidence.rows @ weights.T, evidence.rows @ direction.T)
    assert got == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("link", ["softmax", "sigmoid", "identity"])
def test_the_scale_of_what_guides_the_steps_does_not_matter(link):
    rng = np.random.default_rng(0)
    targets = np.eye(3)[rng.integers(3, size=40)]
    evidence = Evidence(features=rng.normal(size=(40, 4)), targets=targets, weights=np.ones(40))
    objective = Objective(LIKELIHOODS[link], evidence, np.full(5, 0.5))
    once, longer = (
        descend(objective, np.zeros((3, 5)), lambda gradient, size=size: size * gradient, 4) for size in (1.0, 1e6)
    )
    assert np.abs(once - longer).max() < 1e-9 * np.abs(once).max()


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("more", [7.0, 0.0, -0.99])
def test_the_precision_of_every_bias_is_what_it_is_told(structure, more):
    """Against the covariance of all weights at once, inverted twice; `more` below 0 in units of the prior."""
    x, y = digits(1.0)
    head = fit(x[:, 20:28], [str(int(label) % 3) for label in y], structure=structure)
    posterior, more = head.posterior.updatable(), more if more >= 0 else more * head.prior
    units = np.eye(27).reshape(27, 3, 9)
    covariance = np.array([posterior.solve(unit).ravel() for unit in units])
    at_biases = np.kron(np.eye(3), np.diag(np.eye(9)[-1]))
    wanted = np.linalg.inv(np.linalg.inv(covariance) + more * at_biases)
    got = np.array([with_bias_prior(posterior, more, (3, 9))(unit).ravel() for unit in units])
    assert np.abs(got - wanted).max() < 1e-8 * np.abs(wanted).max()
