"""Steps over everything seen: what guides them, and how near a few of them come to a new fit."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from raysal.models.evidence import Evidence, gather_evidence
from raysal.models.head import Head
from raysal.models.likelihood import LIKELIHOODS
from raysal.models.online.mean import inside, objective_of
from raysal.models.online.update import update
from raysal.models.optim.lbfgs import Design
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


def around(scale: float, away: float) -> tuple[np.ndarray, list[str]]:
    """The digits in another unit, and moved by `away` lengths."""
    x, y = digits(1.0)
    move = np.random.default_rng(2).normal(size=64)
    return scale * (x + away * move / np.linalg.norm(move)), y


@pytest.mark.parametrize("structure", STRUCTURES[:3])
@pytest.mark.parametrize(("scale", "away"), [(1e-3, 0.0), (1.0, 0.0), (1.0, 30.0), (1e3, 3.0)])
def test_eight_steps_take_most_of_the_way_to_the_minimum_wherever_the_vectors_lie(structure, scale, away):
    x, y = around(scale, away)
    head = fit(x[:100], y[:100], structure=structure)
    seen = gather_evidence(x, y, None, head.classes)
    objective = objective_of(head, seen)
    moved = update(head, x[100:], y[100:], ledger_seq=1, passes=8, seen=seen)
    solved = Design(objective.evidence).solve(head.prior, objective.evidence.constant, max_iter=2000, tol=1e-9)
    before, after, least = (
        objective.value(mean, objective.evidence.rows @ mean.T)
        for mean in (inside(head, head.mean), inside(head, moved.mean), solved)
    )
    assert (before - after) / (before - least) > 0.95


@pytest.mark.parametrize("structure", STRUCTURES[:3])
def test_a_few_steps_are_the_same_in_any_unit_and_from_any_origin(structure):
    found = []
    for scale, away in ((1.0, 0.0), (1e-3, 0.0), (1e3, 0.0), (1.0, 30.0), (1e3, 30.0)):
        x, y = around(scale, away)
        head = fit(x[:100], y[:100], structure=structure)
        moved = update(head, x[100:], y[100:], ledger_seq=1, passes=3, seen=gather_evidence(x, y, None, head.classes))
        found.append(moved.probabilities(x))
    for probabilities in found:
        assert np.abs(probabilities - found[0]).max() < 1e-9


@pytest.mark.parametrize("link", ["softmax", "sigmoid", "identity"])
def test_the_second_derivative_is_the_second_difference_of_the_value(link):
    rng = np.random.default_rng(0)
    targets = rng.uniform(size=(20, 3))
    targets /= targets.sum(axis=1, keepdims=True)
    evidence = Evidence(features=rng.normal(size=(20, 4)), targets=targets, weights=rng.uniform(0.1, 3, size=20))
    objective = Objective(LIKELIHOODS[link], evidence, 0.7)
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
    objective = Objective(LIKELIHOODS[link], evidence, 0.5)
    once, longer = (
        descend(objective, np.zeros((3, 5)), lambda gradient, size=size: size * gradient, 4) for size in (1.0, 1e6)
    )
    assert np.abs(once - longer).max() < 1e-9 * np.abs(once).max()
