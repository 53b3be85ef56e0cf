from __future__ import annotations

import numpy as np
import pytest
from reference_update import BIAS_PRIOR, covariance_reference, frame_reference, logistic_reference
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LogisticRegression

from raysal.config import choice
from raysal.errors import ConfigError, LabelError
from raysal.models.head import Head
from raysal.models.trainers import TRAINERS, logistic
from raysal.models.trainers.base import Context, TrainingData
from raysal.models.trainers.logistic import GRID, Logistic, assign_folds


def blobs(n: int, d: int, classes: int, seed: int = 0, shift: float = 1.0) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    which = np.arange(n) % classes
    features = rng.normal(size=(classes, d))[which] + rng.normal(size=(n, d)) + shift
    return features, [f"c{k}" for k in which]


def fit(features, labels, weights=None, *, classes=None, seed=0, **fields) -> Head:
    names = sorted(set(labels)) if classes is None else classes
    return Logistic(**fields).fit(
        TrainingData(features=features, labels=labels, weights=weights, classes=names, encoder="e", seed=seed)
    )


@pytest.mark.parametrize(("n", "d", "classes"), [(40, 3, 3), (6, 9, 2), (12, 5, 4)])
@pytest.mark.parametrize("l2", [1e-3, 1e-1])
def test_agrees_with_newton_on_the_full_hessian(n: int, d: int, classes: int, l2: float) -> None:
    features, labels = blobs(n, d, classes)
    weights = np.random.default_rng(1).uniform(0.2, 3, size=n)
    head = fit(features, labels, weights, l2=l2, tol=1e-9)
    targets = [head.classes.index(label) for label in labels]
    weight, bias = logistic_reference(features, targets, weights, classes, l2)
    assert np.allclose(head.weight, weight, atol=1e-6)
    assert np.allclose(head.bias, bias, atol=1e-6)
    assert head.prior == l2
    expected = covariance_reference(features, weights, l2, frame_reference(features, weights, l2))
    assert np.allclose(head.covariance, expected, rtol=1e-9, atol=1e-10 * np.abs(expected).max())


def by_scikit_learn(features, labels, l2: float, bias_prior: float, standardised: bool = False) -> np.ndarray:
    """On features of the frame, beside a constant column of the size that gives it the prior, if it has one.

    Of two classes it has one vector of weights, the difference of ours, which costs half as much there.
    """
    frame = frame_reference(features, np.ones(len(features)), l2, bias_prior or 1.0, standardised=standardised)
    columns = (np.column_stack([features, np.ones(len(features))]) @ frame.T)[:, : None if bias_prior else -1]
    strength = (2 if len(set(labels)) == 2 else 1) / l2
    known = LogisticRegression(C=strength, fit_intercept=not bias_prior, tol=1e-10, max_iter=20_000)
    return known.fit(columns, labels).predict_proba(columns)


@pytest.mark.parametrize(("n", "d", "classes"), [(300, 20, 5), (60, 200, 3)])
@pytest.mark.parametrize("shift", [0.0, 20.0])
@pytest.mark.parametrize("l2", [1e-2, 1.0])
def test_agrees_with_scikit_learn(n: int, d: int, classes: int, shift: float, l2: float) -> None:
    features, labels = blobs(n, d, classes, shift=shift)
    probabilities = fit(features, labels, l2=l2).probabilities(features)
    assert np.abs(probabilities - by_scikit_learn(features, labels, l2, BIAS_PRIOR)).max() < 1e-4


@pytest.mark.parametrize("positives", [3, 10])
def test_a_rare_class_has_the_intercept_that_it_asks_for(positives: int) -> None:
    """On unit vectors, where the right one is far below 0. The prior on the bias outweighs a tenth of a label."""
    rng = np.random.default_rng(positives)
    which = np.arange(400) < positives
    x = rng.normal(size=(400, 30)) + 2.0 + which[:, None] * np.linspace(0, 1, 30)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    labels = np.where(which, "rare", "usual").tolist()
    head = fit(x, labels, l2=0.1)
    probabilities = head.probabilities(x)
    free = by_scikit_learn(x, labels, 0.1, 0.0)
    assert np.abs(probabilities - free).max() < 0.03
    # With a free intercept the probabilities of a class add up to its labels; here, and for each bias b, to 0.1 b less.
    assert free[:, 0].sum() == pytest.approx(positives, rel=1e-6)
    bias = head.frame.inside(head.mean)[0, -1] * head.frame.constant
    assert bias < -1
    assert probabilities[:, 0].sum() == pytest.approx(positives - BIAS_PRIOR * bias, rel=1e-4)


def digits_of(seed: int) -> tuple[np.ndarray, list[str]]:
    """Digits in any order; the columns that vary have a standard deviation of 1."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    deviations = x.std(axis=0)
    return (x / np.where(deviations > 0, deviations, 1))[order], [str(digit) for digit in y[order]]


def parted_by_a_plane(seed: int) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(500, 12))
    return x, [f"c{int(side)}" for side in x @ rng.normal(size=12) + 0.5 * rng.normal(size=500) > 0]


@pytest.mark.parametrize(
    ("set_of", "column"), [(lambda seed: blobs(500, 12, 3, seed), 0), (parted_by_a_plane, 0), (digits_of, 20)]
)
def test_a_column_in_a_unit_10_000_times_as_small_does_not_hide_the_others(set_of, column) -> None:
    """With 120 labels other items are predicted nearly as before. With one size for all features they are not."""

    def right(x: np.ndarray, labels: list[str], standardise: bool | str) -> float:
        head = fit(x[:120], labels[:120], standardise=standardise)
        predicted = head.probabilities(x[120:]).argmax(axis=1)
        return float(np.mean([head.classes[k] == label for k, label in zip(predicted, labels[120:], strict=True)]))

    lost = []
    for seed in range(3):
        x, labels = set_of(seed)
        other = x * np.where(np.arange(x.shape[1]) == column, 1e4, 1.0)
        lost.append([right(x, labels, way) - right(other, labels, way) for way in ("cv", True, False)])
    assert max(chosen for chosen, _, _ in lost) < 0.03
    assert max(standardised for _, standardised, _ in lost) < 0.03
    assert min(isotropic for _, _, isotropic in lost) > 0.15


def is_standardised(head: Head) -> bool:
    return bool(np.ptp(head.frame.size) > 0)


@pytest.mark.parametrize("l2", ["cv", 0.1])
def test_features_are_standardised_where_they_are_unlike_and_held_out_labels_gain_by_it(l2, monkeypatch) -> None:
    x, labels = parted_by_a_plane(0)
    x, labels = x[:120], labels[:120]
    wide = x * np.where(np.arange(12) == 0, 100, 1)
    assert is_standardised(fit(wide, labels, l2=l2))
    assert not is_standardised(fit(x, labels, l2=l2))
    # Labels that have nothing to do with the features gain nothing.
    assert not is_standardised(fit(wide, np.random.default_rng(1).permutation(labels).tolist(), l2=l2))
    with monkeypatch.context() as patch:
        patch.setattr(logistic, "GAIN", 1e6)
        assert not is_standardised(fit(wide, labels, l2=l2))
        patch.setattr(logistic, "GAIN", -1e6)
        assert is_standardised(fit(wide, labels, l2=l2))
        assert not is_standardised(fit(x, labels, l2=l2))  # alike: it is not tried
    for features in (x, wide):
        assert is_standardised(fit(features, labels, l2=l2, standardise=True))
        assert not is_standardised(fit(features, labels, l2=l2, standardise=False))


@pytest.mark.parametrize("standardise", [False, True])
def test_a_fit_in_either_frame_agrees_with_scikit_learn(standardise: bool) -> None:
    features, labels = blobs(80, 5, 3)
    features = features * [1, 30, 0.2, 1, 4]
    probabilities = fit(features, labels, l2=0.1, standardise=standardise).probabilities(features)
    known = by_scikit_learn(features, labels, 0.1, BIAS_PRIOR, standardise)
    assert np.abs(probabilities - known).max() < 1e-4
    other = by_scikit_learn(features, labels, 0.1, BIAS_PRIOR, not standardise)
    assert np.abs(probabilities - other).max() > 0.05


def test_real_digits_are_learnt_and_the_default_tolerance_is_enough() -> None:
    features, digits = load_digits(return_X_y=True)
    labels = [str(digit) for digit in digits]
    head = fit(features[:500], labels[:500])
    probabilities = head.probabilities(features[500:])
    assert (probabilities.argmax(axis=1) == digits[500:]).mean() > 0.91
    exact = fit(features[:500], labels[:500], l2=head.prior, tol=1e-10, max_iter=5000)
    errors = np.abs(probabilities - exact.probabilities(features[500:]))
    assert np.quantile(errors, 0.99) < 1e-4
    assert errors.max() < 1e-3


@pytest.mark.parametrize("unit", [1e-30, 1e-3, 1e4, 1e40])
@pytest.mark.parametrize("l2", [1e-2, "cv"])
def test_the_unit_of_the_features_does_not_matter(unit: float, l2) -> None:
    features, labels = blobs(60, 8, 3)
    expected, got = fit(features, labels, l2=l2), fit(features * unit, labels, l2=l2)
    assert got.prior == pytest.approx(expected.prior, rel=1e-9)
    assert np.allclose(got.probabilities(features * unit), expected.probabilities(features), atol=1e-9)


@pytest.mark.parametrize("curvature", ["gaussian", "categorical"])
def test_weight_two_is_the_same_item_twice(curvature: str) -> None:
    features, labels = blobs(30, 6, 3)
    fields = {"l2": 0.05, "curvature": curvature, "tol": 1e-9}
    doubled = fit(features, labels, np.where(np.arange(30) < 10, 2.0, 1.0), **fields)
    twice = fit(np.vstack([features, features[:10]]), labels + labels[:10], **fields)
    assert np.allclose(doubled.weight, twice.weight, atol=1e-6)
    assert np.allclose(doubled.bias, twice.bias, atol=1e-6)
    assert np.allclose(doubled.covariance, twice.covariance, rtol=1e-6)


def test_the_penalty_does_not_grow_with_the_labels() -> None:
    """Twice the labels outweigh the same prior: a head of twice the evidence is surer of what it says."""
    features, labels = blobs(30, 6, 3)
    once, twice = fit(features, labels, l2=0.1), fit(np.vstack([features] * 2), labels * 2, l2=0.1)
    assert once.prior == twice.prior == 0.1
    sure, surer = (head.probabilities(features).max(axis=1).mean() for head in (once, twice))
    assert surer > sure + 0.01
    half = fit(features, labels, l2=0.05)  # which is the same but for the prior on the bias
    assert np.allclose(half.probabilities(features), twice.probabilities(features), atol=1e-2)


def test_categorical_curvature_counts_sure_items_less() -> None:
    features, labels = blobs(30, 4, 3)
    head = fit(features, labels, curvature="categorical")
    top = head.probabilities(features).max(axis=1)
    frame = frame_reference(features, np.ones(30), head.prior)
    expected = covariance_reference(features, top * (1 - top), head.prior, frame)
    assert np.allclose(head.covariance, expected, rtol=1e-9)
    assert head.posterior.weighting == "categorical"


def test_one_class() -> None:
    features, _ = blobs(5, 4, 1)
    head = fit(features, ["only"] * 5)
    assert (head.probabilities(features) == 1).all()
    assert not head.weight.any()
    assert head.prior == 1.0  # next to the usual one: labels of one class say nothing of it
    frame = frame_reference(features, np.ones(5), head.prior)
    assert np.allclose(head.covariance, covariance_reference(features, np.ones(5), head.prior, frame))


@pytest.mark.parametrize("l2", [1e-2, "cv"])
def test_a_class_without_labels_stays_finite_and_unlikely(l2) -> None:
    features, labels = blobs(40, 6, 3)
    head = fit(features, labels, classes=["zebra", "c2", "c0", "ant", "c1", "c1"], l2=l2)
    assert head.classes == ("ant", "c0", "c1", "c2", "zebra")
    probabilities = head.probabilities(features)
    assert 0.02 / 40 < probabilities[:, [0, 4]].mean() < 1 / 40  # as if there were some part of a label
    assert (probabilities > 0).all()
    assert np.array_equal(probabilities[:, 0], probabilities[:, 4]) or np.allclose(
        probabilities[:, 0], probabilities[:, 4], atol=1e-9
    )
    known = [label == head.classes[k] for label, k in zip(labels, probabilities.argmax(axis=1), strict=True)]
    assert np.mean(known) > 0.9


@pytest.mark.parametrize("features", [np.zeros((4, 3)), np.ones((4, 3)), np.full((4, 3), -7.0)])
def test_features_that_say_nothing_give_the_shares_of_the_classes(features) -> None:
    head = fit(features, ["a", "a", "a", "b"])
    assert np.allclose(head.probabilities(features), [0.75, 0.25], atol=0.02)
    # Where the slope of the loss is that of the prior on the bias.
    outputs = head.logits(features)[0]
    assert np.allclose(4 * (np.array([0.75, 0.25]) - head.probabilities(features)[0]), BIAS_PRIOR * outputs, atol=1e-5)


def test_one_item_and_one_feature() -> None:
    head = fit(np.array([[2.0]]), ["a"], l2="cv")
    assert (head.probabilities(np.array([[5.0]])) == 1).all()
    assert fit(np.array([[2.0], [3.0]]), ["a", "b"], l2="cv").weight.shape == (2, 1)


def test_the_same_call_gives_the_same_bits_and_float16_is_taken_exactly() -> None:
    features, labels = blobs(50, 12, 4)
    half = features.astype(np.float16)
    assert fit(half, labels).digest() == fit(half.astype(np.float64), labels).digest()
    assert fit(features, labels, l2="cv").digest() == fit(features, labels, l2="cv").digest()


def test_the_number_of_threads_changes_no_bit_and_is_put_back() -> None:
    import torch

    features, labels = blobs(300, 500, 10)
    before = torch.get_num_threads()
    digests = set()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            digests.add(fit(features, labels).digest())
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert len(digests) == 1


def test_the_records_are_passed_through() -> None:
    features, labels = blobs(9, 4, 3)
    head = Logistic().fit(
        TrainingData(
            features=features,
            labels=labels,
            classes=["c2", "c1", "c0"],
            encoder="abc",
            version=7,
            ledger_seq=2**40,
            seed=1,
        )
    )
    assert (head.encoder, head.version, head.ledger_seq) == ("abc", 7, 2**40)
    assert (head.labels_seen, head.fitted_on, head.dim) == (9, 9, 4)
    assert head.classes == ("c0", "c1", "c2")


def test_folds_are_even_within_each_class_and_depend_on_the_seed_alone() -> None:
    targets = np.random.default_rng(0).choice(4, p=[0.6, 0.3, 0.08, 0.02], size=101)
    fold_of = assign_folds(targets, 5, seed=3)
    assert np.array_equal(fold_of, assign_folds(targets, 5, seed=3))
    assert not np.array_equal(fold_of, assign_folds(targets, 5, seed=4))
    for members in [np.arange(101), *(np.flatnonzero(targets == c) for c in range(4))]:
        sizes = np.bincount(fold_of[members], minlength=5)
        assert sizes.max() - sizes.min() <= 1
    assert sorted(assign_folds(np.array([0, 1, 1]), 5, seed=0)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"l2": 0.0}, "update.trainer.l2"),
        ({"l2": float("nan")}, "update.trainer.l2"),
        ({"standardise": "yes"}, "update.trainer.standardise"),
        ({"standardise": None}, "update.trainer.standardise"),
        ({"grid": ()}, "update.trainer.grid"),
        ({"grid": (1.0, -1.0)}, "update.trainer.grid"),
        ({"l2": "auto"}, "update.trainer.l2: .*use cv or a number"),
        ({"folds": 1}, "update.trainer.folds"),
        ({"max_iter": 0}, "update.trainer.max_iter"),
        ({"tol": float("inf")}, "update.trainer.tol"),
        ({"curvature": "full"}, "update.trainer.curvature"),
    ],
)
def test_a_field_out_of_range_is_named(fields, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Logistic(**fields)


def test_it_is_built_from_config() -> None:
    built = choice({"name": "logistic", "l2": "cv", "grid": [0.1, 1]}).build("update.trainer", TRAINERS)
    assert built == Logistic(l2="cv", grid=(0.1, 1.0))
    assert choice({"name": "logistic", "l2": 0.5}).build("update.trainer", TRAINERS) == Logistic(l2=0.5)
    for wrong in ({"l2": "auto"}, {"l2": -1}, {"curvature": "full"}, {"folds": 1}, {"l1": 1}):
        with pytest.raises(ConfigError, match=f"update.trainer.{next(iter(wrong))}"):
            choice({"name": "logistic", **wrong}).build("update.trainer", TRAINERS)


def test_a_penalty_too_weak_to_invert_is_an_error_about_the_penalty() -> None:
    features, labels = blobs(6, 400, 2)
    with pytest.raises(ConfigError, match=r"update\.trainer\.l2"):
        fit(features, labels, l2=1e-25)


def test_importing_the_stage_does_not_import_torch() -> None:
    import subprocess
    import sys

    code = "import raysal.models.head, raysal.models.trainers, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_largest_accepted_features_still_fit() -> None:
    features, labels = blobs(10, 4, 2)
    features[3] *= 1e59
    assert np.isfinite(fit(features, labels).covariance).all()
    with pytest.raises(LabelError, match="row 3"):
        fit(features * 1e5, labels)


def test_few_labels_of_a_first_round_do_not_keep_features_from_being_standardised():
    """They are too few to judge the penalty; all labels judge the frame."""
    x, answers = load_breast_cancer(return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(x))[:100]
    data = TrainingData(
        features=x[rows],
        labels=[str(answer) for answer in answers[rows]],
        classes=["0", "1"],
        context=Context(rounds=np.append(np.zeros(10, int), np.arange(90) // 9 + 1)),
    )
    head = Logistic().fit(data)
    assert is_standardised(head)
    assert head.prior == pytest.approx(min(GRID, key=lambda l2: abs(np.log10(l2) + 0.25)))


def test_configs_of_older_versions_give_penalties_to_try_beside_a_number():
    """They wrote every field out. The penalties do nothing then."""
    built = choice({"name": "logistic", "l2": 0.01, "grid": [1e-4, 1e-2, 1]}).build("update.trainer", TRAINERS)
    assert built == Logistic(l2=0.01, grid=(1e-4, 1e-2, 1.0))


@pytest.mark.parametrize("value", ["yes", "true", 1, 0.5])
@pytest.mark.parametrize("name", ["logistic", "multi_label", "bootstrap"])
def test_standardise_is_true_false_or_cv(name, value):
    with pytest.raises(ConfigError, match="standardise"):
        choice({"name": name, "standardise": value}).build("update.trainer", TRAINERS)
    for right in (True, False, "cv"):
        assert choice({"name": name, "standardise": right}).build("update.trainer", TRAINERS).standardise == right
