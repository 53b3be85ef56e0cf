"""Predictive probabilities: against quadrature, against a Dirichlet's own Gaussian, and at both ends of variance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysal.errors import ConfigError
from raysal.models.likelihood import IDENTITY, LIKELIHOODS, SIGMOID, SOFTMAX
from raysal.models.predictive import (
    bridged,
    laplace_bridge,
    mean_field,
    monte_carlo,
    predictive_responses,
    sampled_predictions,
)


def outputs_of(n: int, classes: int, seed: int, scale: float = 2.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, classes)) * scale


def dirichlets(classes: int, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Concentrations, and the mean and variance of each output of their Gaussians, term by term (MacKay, 1998)."""
    alpha = np.random.default_rng(classes).uniform(0.5, 2, size=(4, classes)) * scale
    mean, variance = np.zeros_like(alpha), np.zeros_like(alpha)
    for i, row in enumerate(alpha):
        for k, a in enumerate(row):
            mean[i, k] = np.log(a) - sum(np.log(b) for b in row) / classes
            variance[i, k] = (1 - 2 / classes) / a + sum(1 / b for b in row) / classes**2
    return alpha, mean, variance


def bridge_reference(outputs: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """The bridge with the whole covariance matrix: a Gaussian on the condition that its outputs add up to 0."""
    found = []
    for f, v in zip(outputs, variance, strict=True):
        classes, sigma, one = len(f), np.diag(v), np.ones(len(f))
        gain = sigma @ one / (one @ sigma @ one)
        mean, left = f - gain * f.sum(), sigma - np.outer(gain, one @ sigma)
        alpha = [
            (1 - 2 / classes + np.exp(mean[k]) * np.exp(-mean).sum() / classes**2) / left[k, k] for k in range(classes)
        ]
        found.append(np.array(alpha) / sum(alpha))
    return np.array(found)


@settings(max_examples=40)
@given(st.integers(1, 7), st.integers(0, 10**6), st.floats(0, 1e6), st.floats(0.01, 300))
def test_probabilities_add_up_to_one(classes, seed, size, scale):
    f = outputs_of(5, classes, seed, scale)
    v = np.random.default_rng(seed).uniform(0, size, size=f.shape)
    noise = np.random.default_rng(1).normal(size=(3, classes))
    for found in (mean_field(f, v), laplace_bridge(f, v), monte_carlo(f, v, noise), mean_field(f, v[:, :1])):
        assert found.shape == f.shape
        assert (found >= 0).all()
        np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)


@pytest.mark.parametrize("link", ["softmax", "sigmoid", "identity"])
def test_without_variance_nothing_changes_and_without_end_nothing_is_known(link):
    f = outputs_of(6, 4, 0)
    noise = np.random.default_rng(0).normal(size=(5, 4))
    none, much = np.zeros((6, 1)), np.full((6, 4), 1e12)
    for found in (
        mean_field(f, none, likelihood=LIKELIHOODS[link]),
        monte_carlo(f, none, noise, LIKELIHOODS[link]),
        predictive_responses("map", LIKELIHOODS[link], f, much),
    ):
        np.testing.assert_allclose(found, LIKELIHOODS[link].responses(f), rtol=1e-12)
    if link != "identity":
        nothing_known = 0.25 if link == "softmax" else 0.5
        np.testing.assert_allclose(mean_field(f, much, likelihood=LIKELIHOODS[link]), nothing_known, atol=1e-5)
    else:
        np.testing.assert_array_equal(mean_field(f, much, likelihood=LIKELIHOODS[link]), f)


def test_two_classes_agree_with_quadrature():
    """The difference of two outputs is one Gaussian, over which a sigmoid can be integrated."""
    f = np.array([[2.0, -1.0], [0.3, 0.1], [-4.0, 1.0]])
    v = np.array([[1.0, 3.0], [0.2, 0.1], [9.0, 4.0]])
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    gap = (f[:, 0] - f[:, 1])[:, None] + np.sqrt(v.sum(axis=1))[:, None] * nodes
    exact = (weights / weights.sum() / (1 + np.exp(-gap))).sum(axis=1)
    errors = []
    for draws in (100, 10_000):
        noise = np.random.default_rng(3).normal(size=(draws, 3, 2))
        errors.append(np.abs(monte_carlo(f, v, noise)[:, 0] - exact).max())
    assert errors[1] < 0.01
    assert errors[1] < errors[0]


def test_a_label_of_its_own_is_within_two_percent_of_quadrature():
    f = np.linspace(-20, 20, 81)[:, None]
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    for v in (0.1, 1.0, 10.0, 100.0):
        exact = (weights / weights.sum() / (1 + np.exp(-(f + np.sqrt(v) * nodes)))).sum(axis=1)
        np.testing.assert_allclose(mean_field(f, np.full_like(f, v), likelihood=SIGMOID)[:, 0], exact, atol=0.02)


def test_draws_of_weights_are_averaged_one_at_a_time():
    rng = np.random.default_rng(0)
    rows, draws = rng.normal(size=(9, 4)), rng.normal(size=(6, 3, 4))
    every = np.stack([SOFTMAX.responses(rows @ one.T) for one in draws])
    np.testing.assert_allclose(sampled_predictions(rows, iter(draws)), every.mean(axis=0), rtol=1e-12)
    with pytest.raises(ConfigError, match="none to average"):
        sampled_predictions(rows, [])


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_bridge_takes_a_dirichlet_to_itself(classes):
    alpha, mean, variance = dirichlets(classes, 5.0)
    found = bridged(mean, variance)
    np.testing.assert_allclose(found / found.sum(1, keepdims=True), alpha / alpha.sum(1, keepdims=True), rtol=1e-10)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_bridge_agrees_with_the_slow_version_and_with_draws(classes):
    _, mean, variance = dirichlets(classes, 20.0)
    wide = variance * classes / (classes - 1)
    for _ in range(500):  # towards variances of which the condition leaves these
        wide = wide * np.sqrt(variance / (wide - wide**2 / wide.sum(axis=1, keepdims=True)))
    found = laplace_bridge(mean, wide)
    np.testing.assert_allclose(found, bridge_reference(mean, wide), rtol=1e-10)
    noise = np.random.default_rng(0).normal(size=(4000, 4, classes))
    np.testing.assert_allclose(found, monte_carlo(mean, wide, noise), atol=0.02)
    shifted = laplace_bridge(mean + 3 * wide, wide)
    np.testing.assert_allclose(shifted, found, rtol=1e-9)  # what the condition takes away


def test_the_bridge_does_not_see_a_variance_that_classes_share():
    f = outputs_of(3, 4, 0)
    np.testing.assert_allclose(laplace_bridge(f, np.full((3, 1), 1e-9)), laplace_bridge(f, np.full((3, 1), 9.0)))


def test_numbers_have_the_variance_of_the_output_and_of_the_label():
    columns = IDENTITY.columns(np.array([[7.0]]), np.array([[0.5]]), 2.0)
    np.testing.assert_allclose(columns["standard_deviation"].values, 2.5**0.5)


def test_what_a_predictive_cannot_do_is_an_error():
    f = outputs_of(2, 3, 0)
    with pytest.raises(ConfigError, match="one class of several"):
        predictive_responses("laplace_bridge", SIGMOID, f, f**2)
    with pytest.raises(ConfigError, match="needs draws"):
        predictive_responses("monte_carlo", SOFTMAX, f, f**2)
    with pytest.raises(ConfigError, match="use one of: laplace_bridge, map"):
        predictive_responses("vb", SOFTMAX, f, f**2)  # type: ignore[arg-type]
