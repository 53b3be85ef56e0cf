"""Temperature and calibration error, against their definitions written out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_update import frame_reference, minimum_reference

from raysal.errors import ConfigError, UserError
from raysal.models.calibration import COLDEST, HOTTEST, fit_temperature
from raysal.models.evidence import gather_evidence
from raysal.models.head import Head
from raysal.models.likelihood import IDENTITY, LIKELIHOODS, SOFTMAX, softmax
from raysal.models.measures import expected_calibration_error
from raysal.models.trainers.base import Context, TrainingData
from raysal.models.trainers.dmle import DependencyAware
from raysal.models.trainers.logistic import Logistic, assign_folds
from raysal.models.trainers.multi_label import MultiLabel
from raysal.models.trainers.pseudo_labels import PseudoLabels


def sampled(n: int, classes: int, seed: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Outputs, and labels drawn from their softmax at a temperature: that is the one to find."""
    rng = np.random.default_rng(seed)
    f = rng.normal(size=(n, classes)) * 3
    p = softmax(f / temperature).cumsum(axis=1)
    return f, np.eye(classes)[(rng.random((n, 1)) > p).sum(axis=1).clip(max=classes - 1)]


@settings(max_examples=25)
@given(st.integers(2, 5), st.integers(0, 10**6), st.floats(0.2, 8), st.sampled_from(["softmax", "sigmoid"]))
def test_no_other_temperature_costs_less(classes, seed, temperature, link):
    f, t = sampled(40, classes, seed, temperature)
    m = np.random.default_rng(seed).uniform(0.1, 3, size=40)
    found = fit_temperature(f, t, m, LIKELIHOODS[link])
    least = LIKELIHOODS[link].total_loss(f / found, t, m)
    for other in np.geomspace(COLDEST, HOTTEST, 200):
        assert least <= LIKELIHOODS[link].total_loss(f / other, t, m) * (1 + 1e-9)


def test_the_temperature_that_made_the_labels_is_found():
    f, t = sampled(20_000, 4, 0, 2.5)
    assert fit_temperature(f, t) == pytest.approx(2.5, rel=0.05)
    assert fit_temperature(f + 100, t) == pytest.approx(fit_temperature(f, t), rel=1e-6)


def test_where_there_is_no_best_one_it_stays_within_bounds():
    f = np.array([[2.0, -2.0], [-1.0, 1.0]])
    assert fit_temperature(f, np.eye(2)) == COLDEST
    assert fit_temperature(f, np.eye(2)[::-1]) == HOTTEST
    assert fit_temperature(1e6 * f, np.eye(2)) == COLDEST


def test_where_nothing_depends_on_it_it_is_one():
    assert fit_temperature(np.empty((0, 3)), np.empty((0, 3))) == 1.0
    assert fit_temperature(np.full((2, 2), 7.0), np.eye(2)) == 1.0
    assert fit_temperature(np.ones((2, 1)), np.zeros((2, 1)), likelihood=IDENTITY) == 1.0
    with pytest.raises(UserError, match="not finite"):
        fit_temperature(np.full((2, 2), np.nan), np.eye(2))


def calibration_reference(p: np.ndarray, right: np.ndarray, bins: int) -> float:
    total = 0.0
    for b in range(bins):
        inside = (p > b / bins) & (p <= (b + 1) / bins) if b else p <= 1 / bins
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - p[inside].mean())
    return total


@settings(max_examples=40)
@given(st.integers(1, 200), st.integers(1, 30), st.integers(0, 10**6))
def test_the_calibration_error_is_its_definition(n, bins, seed):
    rng = np.random.default_rng(seed)
    p, right = rng.random(n), rng.random(n) < 0.5
    assert expected_calibration_error(p, right, bins) == pytest.approx(calibration_reference(p, right, bins))


def test_edges_belong_to_the_lower_bin_and_weights_count():
    assert expected_calibration_error(np.array([0.5, 0.6]), np.array([1, 0]), 2) == pytest.approx((0.5 + 0.6) / 2)
    assert expected_calibration_error(np.array([0.4, 0.5]), np.array([1, 0]), 2) == pytest.approx(0.05)
    assert expected_calibration_error(np.array([0.0, 1.0]), np.array([0, 1]), 15) == 0
    for bins in range(2, 40):  # also where the edge is no number that 1 / bins gives by adding up
        for edge in np.arange(1, bins) / bins:
            below, above = np.nextafter(edge, 0), np.nextafter(edge, 1)
            alike, apart = (
                expected_calibration_error(np.array(p), np.array([1, 0]), bins) for p in ([below, edge], [above, edge])
            )
            assert alike == pytest.approx(abs(1 - 2 * edge) / 2)
            assert apart == pytest.approx(0.5)
    doubled = expected_calibration_error(np.array([0.9, 0.9, 0.3]), np.array([1, 1, 0]))
    weighed = expected_calibration_error(np.array([0.9, 0.3]), np.array([1, 0]), weights=np.array([2.0, 1.0]))
    assert weighed == pytest.approx(doubled)


def test_the_right_temperature_calibrates():
    f, t = sampled(20_000, 3, 1, 3.0)
    right = f.argmax(axis=1) == t.argmax(axis=1)
    errors = [
        expected_calibration_error(SOFTMAX.responses(f / temperature).max(axis=1), right)
        for temperature in (1.0, fit_temperature(f, t))
    ]
    assert errors[0] > 0.1
    assert errors[1] < 0.02


def test_bad_input_is_named_and_nothing_is_not_a_number():
    with pytest.raises(UserError, match=r"outside \[0, 1\]"):
        expected_calibration_error(np.array([1.5]), np.array([1]))
    with pytest.raises(UserError, match="below 1"):
        expected_calibration_error(np.array([0.5]), np.array([1]), 0)
    assert np.isnan(expected_calibration_error(np.empty(0), np.empty(0)))


def overlapping(n: int, classes: int = 3, several: bool = False) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(0)
    which = rng.integers(classes, size=n)
    x = np.eye(classes, 8)[which] + rng.normal(size=(n, 8))
    names = [f"c{k}" for k in which]
    return x, [f"{name}|d" if several and i % 2 else name for i, name in enumerate(names)]


def fit(trainer: Logistic, n: int, several: bool = False, classes: int = 3) -> Head:
    x, labels = overlapping(n, classes, several)
    names = ["c0", "c1", "c2", *(["d"] if several else [])]
    return trainer.fit(TrainingData(features=x, labels=labels, classes=names, encoder="e", seed=3))


@pytest.mark.parametrize("trainer", [Logistic, MultiLabel])
def test_a_fitted_temperature_is_that_of_the_folds_and_nothing_else_changes(trainer):
    several = trainer is MultiLabel
    plain, found = fit(trainer(l2=1e-4), 60, several), fit(trainer(l2=1e-4, temperature="cv"), 60, several)
    np.testing.assert_array_equal(plain.mean, found.mean)
    assert plain.temperature == 1
    assert found.temperature > 1.1  # so weak a penalty makes a head too sure of itself
    x, labels = overlapping(60, several=several)
    evidence = gather_evidence(x, labels, None, found.classes, found.likelihood)
    fold_of = assign_folds(trainer.likelihood.groups(evidence.targets), 5, 3)
    outputs, frame = np.zeros_like(evidence.targets), frame_reference(x, np.ones(60), 1.0, 1.0)
    for fold in range(5):
        kept = fold_of != fold
        mean = minimum_reference(
            x[kept], evidence.targets[kept], np.ones(kept.sum()), 1e-4, frame, found.likelihood.name
        )
        outputs[~kept] = x[~kept] @ mean[:, :-1].T + mean[:, -1]
    assert found.temperature == pytest.approx(
        fit_temperature(outputs, evidence.targets, None, found.likelihood), rel=0.02
    )


def test_too_few_labels_or_one_class_leave_the_temperature_at_one():
    assert fit(Logistic(temperature="cv"), 9).temperature == 1
    assert fit(Logistic(temperature="cv"), 40, classes=1).temperature == 1
    assert fit(Logistic(temperature=2.0), 9).temperature == 2
    with pytest.raises(ConfigError, match=r"update\.trainer\.temperature"):
        Logistic(temperature=0.0)


@pytest.mark.parametrize(
    "trainer",
    [
        DependencyAware(l2=1e-3, beta=2.0, temperature="cv"),
        DependencyAware(l2=1e-3, acquisition="soft_rank", temperature="cv"),
        PseudoLabels(l2=1e-3, guard=False, temperature="cv"),
        PseudoLabels(l2=3.0, cutoff=0.6, temperature="cv"),
    ],
)
def test_the_temperature_is_that_of_the_fit_that_was_made(trainer):
    """Trainers that go on from the logistic solution are calibrated by held-out fits of their own.

    The frame of those fits is that of all labels; here each has its own, which is nearly the same.
    """
    x, labels = overlapping(60)
    sample = overlapping(100)[0]
    rounds = np.arange(60) // 10 - 1
    record = {"classes": ["c0", "c1", "c2"], "encoder": "e", "version": 0, "ledger_seq": 0, "seed": 3}
    found = trainer.fit(
        TrainingData(features=x, labels=labels, context=Context(rounds=rounds, unlabelled=sample), **record)
    )
    logistic = Logistic(l2=trainer.l2, temperature="cv").fit(TrainingData(features=x, labels=labels, **record))
    assert not np.allclose(found.mean, logistic.mean)  # the guard, where there is one, let it in
    single = replace(trainer, temperature=1.0, **({"guard": False} if isinstance(trainer, PseudoLabels) else {}))
    evidence = gather_evidence(x, labels, None, found.classes)
    fold_of = assign_folds(evidence.targets.argmax(axis=1), 5, 3)
    outputs = np.zeros_like(evidence.targets)
    for fold in range(5):
        kept = fold_of != fold
        head = single.fit(
            TrainingData(
                features=x[kept],
                labels=[labels[i] for i in np.flatnonzero(kept)],
                context=Context(rounds=rounds[kept], unlabelled=sample),
                **record,
            )
        )
        outputs[~kept] = head.logits(x[~kept])
    wanted = fit_temperature(outputs, evidence.targets)
    assert found.temperature == pytest.approx(wanted, rel=0.04)
    assert abs(logistic.temperature / wanted - 1) > 0.1


def test_steps_from_a_head_that_has_seen_all_labels_cannot_be_calibrated():
    with pytest.raises(ConfigError, match=r"update\.trainer\.temperature: cv does not go with steps"):
        DependencyAware(steps=10, temperature="cv")
    assert DependencyAware(steps=10, temperature=2.0).temperature == 2
