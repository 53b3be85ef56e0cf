"""Bayesian linear regression: the exact posterior, steps that are recursive least squares, noise by evidence."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from sklearn.datasets import load_diabetes

from raysal.errors import ConfigError, LabelError
from raysal.models.evidence import gather_evidence
from raysal.models.head import Head
from raysal.models.likelihood import IDENTITY
from raysal.models.online.update import retract, update
from raysal.models.trainers.base import TrainingData
from raysal.models.trainers.regression import Regression

TRAINING = {"classes": [], "encoder": "e", "version": 0, "ledger_seq": 0, "seed": 0}
FIXED = {"noise": 0.3, "prior": 2.0, "constant": 0.05}
FLAT = {"noise": 0.3, "prior": 2.0}
"""With no prior on the constant."""


def data(n: int, d: int = 4, seed: int = 0, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features [n, d], numbers and weights [n]."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) + 1
    m = rng.uniform(0.5, 3, n)
    return x, x @ rng.normal(size=d) + 7 + rng.normal(size=n) * noise / np.sqrt(m), m


def texts(y: np.ndarray) -> list[str]:
    return [repr(float(value)) for value in y]


def fit(x: np.ndarray, y: np.ndarray, m: np.ndarray | None = None, **fields: object) -> Head:
    return Regression(**fields).fit(TrainingData(features=x, labels=texts(y), weights=m, **TRAINING))  # type: ignore[arg-type]


def assert_same(a: Head, b: Head, rtol: float = 1e-9) -> None:
    np.testing.assert_allclose(a.mean, b.mean, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(np.linalg.inv(a.covariance), np.linalg.inv(b.covariance), rtol=rtol, atol=rtol)
    assert (a.noise, a.prior, a.labels_seen) == (b.noise, b.prior, b.labels_seen)


@pytest.mark.parametrize(("n", "d"), [(30, 4), (3, 9), (1, 1)])
@pytest.mark.parametrize("fixed", [FIXED, FLAT])
def test_the_posterior_is_the_exact_one(n: int, d: int, fixed: dict[str, float]) -> None:
    x, y, m = data(n, d)
    head = fit(x, y, m, **fixed)
    rows = np.column_stack([x, np.ones(n)])
    precision = np.diag([*[2.0] * d, fixed.get("constant", 0.0)]) + (rows.T * m / 0.3) @ rows
    np.testing.assert_allclose(np.linalg.inv(head.covariance), precision, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(head.mean[0], np.linalg.solve(precision, rows.T @ (m * y) / 0.3), rtol=1e-8, atol=1e-12)
    assert (head.likelihood.name, head.classes, head.noise, head.prior) == ("identity", ("value",), 0.3, 2.0)
    np.testing.assert_allclose(head.probabilities(x)[:, 0], rows @ head.mean[0], rtol=1e-12)


@settings(max_examples=40)
@given(
    st.integers(0, 10_000),
    st.integers(1, 6),
    st.lists(st.integers(0, 12), max_size=12),
    st.permutations(range(12)),
    st.sampled_from([1e-2, 1.0, 1e2]),
    st.sampled_from([FIXED, FLAT]),
)
def test_batched_one_by_one_in_any_order_and_refitted_are_the_same(seed, d, cuts, order, unit, fixed) -> None:
    x, y, m = data(20, d, seed)
    x, y, new = x * unit, y * unit, np.array(order) + 8
    first, whole = fit(x[:8], y[:8], m[:8], **fixed), fit(x, y, m, **fixed)
    at_once = update(first, x[8:], texts(y[8:]), m[8:], ledger_seq=1)
    split, places = first, [0, *sorted(cuts), 12]
    for low, high in pairwise(places):
        some = new[low:high]
        split = update(split, x[some], texts(y[some]), m[some], ledger_seq=1)
    assert_same(at_once, whole)
    assert_same(split, whole)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 6), st.sampled_from([FIXED, FLAT]))
def test_what_is_taken_back_or_corrected_leaves_no_trace(seed: int, corrected: int, fixed: dict[str, float]) -> None:
    x, y, m = data(20, 3, seed)
    wrong = y.copy()
    wrong[:corrected] += 9
    head = fit(x, wrong, m, **fixed)
    left = fit(x[corrected:], y[corrected:], m[corrected:], **fixed)
    back = retract(head, x[:corrected], texts(wrong[:corrected]), m[:corrected], ledger_seq=1)
    assert_same(back, left, 1e-7)
    removed = gather_evidence(x[:corrected], texts(wrong[:corrected]), m[:corrected], head.classes, IDENTITY)
    some = slice(0, corrected)
    again = update(head, x[some], texts(y[some]), m[some], ledger_seq=1, removed=removed, step=7.0, passes=3)
    assert_same(again, fit(x, y, m, **fixed), 1e-7)


def evidence_of(x: np.ndarray, y: np.ndarray, m: np.ndarray, noise: float, prior: float) -> float:
    """The log density of the labels' contrasts: with the weights integrated out, and blind to any constant."""
    contrasts = np.linalg.svd(np.ones((1, len(y))))[2][1:]
    covariance = contrasts @ (x @ x.T / prior + np.diag(noise / m)) @ contrasts.T
    return float(multivariate_normal(np.zeros(len(y) - 1), covariance).logpdf(contrasts @ y))


@pytest.mark.parametrize(("n", "d", "seed"), [(40, 4, 0), (25, 40, 1), (12, 11, 2)])
@pytest.mark.parametrize("fixed", [{}, {"noise": 0.4}, {"prior": 0.7}])
def test_no_other_noise_or_prior_makes_the_labels_likelier(n: int, d: int, seed: int, fixed: dict[str, float]) -> None:
    x, y, m = data(n, d, seed)
    head = fit(x, y, m, **fixed)
    assert {"noise": head.noise, "prior": head.prior, **fixed} == {"noise": head.noise, "prior": head.prior}
    best = evidence_of(x, y, m, head.noise, head.prior)
    for factor in (1e-3, 0.1, 0.7, 0.97, 1.03, 1.4, 10, 1e3):
        for noise, prior in ((factor, 1), (1, factor), (factor, factor), (factor, 1 / factor)):
            if ("noise" in fixed and noise != 1) or ("prior" in fixed and prior != 1):
                continue
            assert evidence_of(x, y, m, head.noise * noise, head.prior * prior) < best


def test_the_noise_is_found_where_there_is_enough_to_see_it() -> None:
    x, y, m = data(4_000, 6, noise=0.5)
    assert fit(x, y, m).noise == pytest.approx(0.25, rel=0.06)


@pytest.mark.parametrize("unit", [1e-3, 1e3])
@pytest.mark.parametrize("shift", [0.0, 300.0])
def test_neither_units_nor_origins_of_labels_and_features_change_anything(unit: float, shift: float) -> None:
    x, y, m = data(30)
    expected = fit(x, y, m)
    moved = (x + shift) * unit
    features, labels = fit(moved, y, m), fit(x, (y + shift) * unit, m)
    np.testing.assert_allclose(features.probabilities(moved), expected.probabilities(x), rtol=1e-6)
    np.testing.assert_allclose(features.variance(moved), expected.variance(x), rtol=1e-5)
    np.testing.assert_allclose(labels.probabilities(x), unit * (expected.probabilities(x) + shift), rtol=1e-6)
    np.testing.assert_allclose(labels.variance(x), unit**2 * expected.variance(x), rtol=1e-5)


def test_weights_that_are_held_to_zero_leave_the_mean_of_the_labels() -> None:
    x, y, m = data(30)
    head = fit(x + 50, y, m, prior=1e9, noise=0.3)
    np.testing.assert_allclose(head.probabilities(x + 50)[:, 0], (m @ y) / m.sum(), rtol=1e-6)


def test_it_predicts_real_numbers_and_knows_how_well() -> None:
    x, y = load_diabetes(return_X_y=True)
    head = fit(x[:300], y[:300])
    predicted, variance = head.probabilities(x[300:])[:, 0], head.variance(x[300:])[:, 0] + head.noise
    assert 1 - np.mean((predicted - y[300:]) ** 2) / np.var(y[300:]) > 0.4
    assert np.mean((predicted - y[300:]) ** 2 / variance) == pytest.approx(1, abs=0.2)


def test_little_to_learn_from_is_no_error() -> None:
    x, y, _ = data(5, 3)
    for some, labels in ((x[:1], y[:1]), (x, np.full(5, -3.0)), (x, np.zeros(5)), (x[[0] * 5], y), (x * 0, y)):
        head = fit(some, labels)
        assert head.noise > 0
        assert np.isfinite(head.variance(x)).all()
        assert abs(head.probabilities(some)[:, 0].mean() - labels.mean()) < 0.2 * (abs(labels).mean() + 0.1)
    exact = fit(np.arange(9.0)[:, None], 3 * np.arange(9.0) + 1)
    np.testing.assert_allclose(exact.probabilities(np.array([[20.0]])), 61, rtol=1e-3)


def test_shares_of_numbers_count_by_their_mean() -> None:
    found = gather_evidence(np.zeros((2, 1)), [{"3": 0.75, "5": 0.25}, " 1e3 "], None, ("value",), IDENTITY)
    assert found.targets[:, 0].tolist() == [3.5, 1000.0]


@pytest.mark.parametrize("label", ["tall", "nan", "inf", "1e99", "", "1,5", "3|4"])
def test_what_is_no_number_is_named(label: str) -> None:
    with pytest.raises(LabelError, match=r"row 1: label .* is not a number"):
        Regression().fit(TrainingData(features=np.ones((2, 2)), labels=["1", label], **TRAINING))


@pytest.mark.parametrize("field", [{"noise": 0.0}, {"prior": -1}, {"constant": float("nan")}, {"noise": "guess"}])
def test_bad_fields_are_named(field: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"update.trainer.{next(iter(field))}"):
        Regression(**field)  # type: ignore[arg-type]


def test_numbers_have_no_classes() -> None:
    with pytest.raises(ConfigError, match="'cat' is a class, and labels are numbers"):
        Regression().fit(TrainingData(features=np.ones((2, 2)), labels=["1", "2"], **{**TRAINING, "classes": ["cat"]}))
