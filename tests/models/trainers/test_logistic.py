from __future__ import annotations

import numpy as np
import pytest
from reference_update import covariance_reference, logistic_reference
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from raysal.config import choice
from raysal.errors import ConfigError, LabelError
from raysal.models.head import Head
from raysal.models.trainers import TRAINERS
from raysal.models.trainers.base import TrainingData
from raysal.models.trainers.logistic import Logistic, assign_folds


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
    weight, bias, prior = logistic_reference(features, targets, weights, classes, l2)
    assert np.allclose(head.weight, weight, atol=1e-6)
    assert np.allclose(head.bias, bias, atol=1e-6)
    assert head.prior == pytest.approx(prior, rel=1e-12)
    expected = covariance_reference(features, weights, prior)
    assert np.allclose(head.covariance, expected, rtol=1e-9, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize(("n", "d", "classes"), [(300, 20, 5), (60, 200, 3)])
@pytest.mark.parametrize("shift", [0.0, 20.0])
def test_agrees_with_scikit_learn(n: int, d: int, classes: int, shift: float) -> None:
    features, labels = blobs(n, d, classes, shift=shift)
    head = fit(features, labels)
    # The same objective there: the bias as the weight of a constant column of the features' typical size.
    constant = np.full((n, 1), np.sqrt((features**2).mean()))
    known = LogisticRegression(C=1 / head.prior, fit_intercept=False, tol=1e-10, max_iter=20_000)
    known.fit(np.hstack([features, constant]), labels)
    assert tuple(known.classes_) == head.classes
    expected = known.predict_proba(np.hstack([features, constant]))
    assert np.abs(head.probabilities(features) - expected).max() < 1e-4


def test_real_digits_are_learnt_and_the_default_tolerance_is_enough() -> None:
    features, digits = load_digits(return_X_y=True)
    labels = [str(digit) for digit in digits]
    head = fit(features[:500], labels[:500])
    probabilities = head.probabilities(features[500:])
    assert (probabilities.argmax(axis=1) == digits[500:]).mean() > 0.88
    exact = fit(features[:500], labels[:500], tol=1e-10, max_iter=5000)
    assert np.abs(probabilities - exact.probabilities(features[500:])).max() < 1e-4


@pytest.mark.parametrize("unit", [1e-30, 1e-3, 1e4, 1e40])
@pytest.mark.parametrize("l2", [1e-2, "cv"])
def test_the_unit_of_the_features_does_not_matter(unit: float, l2) -> None:
    features, labels = blobs(60, 8, 3)
    expected = fit(features, labels, l2=l2, grid=(1e-3, 1e-1)).probabilities(features)
    got = fit(features * unit, labels, l2=l2, grid=(1e-3, 1e-1)).probabilities(features * unit)
    assert np.allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("curvature", ["gaussian", "categorical"])
def test_weight_two_is_the_same_item_twice(curvature: str) -> None:
    features, labels = blobs(30, 6, 3)
    doubled = fit(features, labels, np.where(np.arange(30) < 10, 2.0, 1.0), curvature=curvature, tol=1e-9)
    twice = fit(np.vstack([features, features[:10]]), labels + labels[:10], curvature=curvature, tol=1e-9)
    assert np.allclose(doubled.weight, twice.weight, atol=1e-6)
    assert np.allclose(doubled.bias, twice.bias, atol=1e-6)
    assert np.allclose(doubled.covariance, twice.covariance, rtol=1e-6)
    assert doubled.prior == pytest.approx(twice.prior, rel=1e-12)


def test_every_item_twice_changes_no_probability() -> None:
    features, labels = blobs(30, 6, 3)
    once, twice = fit(features, labels), fit(np.vstack([features] * 2), labels * 2)
    assert np.allclose(once.probabilities(features), twice.probabilities(features), atol=1e-5)
    assert twice.prior == pytest.approx(2 * once.prior, rel=1e-12)


def test_categorical_curvature_counts_sure_items_less() -> None:
    features, labels = blobs(30, 4, 3)
    head = fit(features, labels, curvature="categorical")
    top = head.probabilities(features).max(axis=1)
    expected = covariance_reference(features, top * (1 - top), head.prior)
    assert np.allclose(head.covariance, expected, rtol=1e-9)
    assert head.posterior.weighting == "categorical"


def test_one_class() -> None:
    features, _ = blobs(5, 4, 1)
    head = fit(features, ["only"] * 5)
    assert (head.probabilities(features) == 1).all()
    assert not head.weight.any()
    assert np.allclose(head.covariance, covariance_reference(features, np.ones(5), head.prior))


@pytest.mark.parametrize("l2", [1e-2, "cv"])
def test_a_class_without_labels_stays_finite_and_unlikely(l2) -> None:
    features, labels = blobs(40, 6, 3)
    head = fit(features, labels, classes=["zebra", "c2", "c0", "ant", "c1", "c1"], l2=l2)
    assert head.classes == ("ant", "c0", "c1", "c2", "zebra")
    probabilities = head.probabilities(features)
    assert probabilities[:, [0, 4]].max() < 1 / 5
    assert (probabilities > 0).all()
    assert np.array_equal(probabilities[:, 0], probabilities[:, 4]) or np.allclose(
        probabilities[:, 0], probabilities[:, 4], atol=1e-9
    )
    known = [label == head.classes[k] for label, k in zip(labels, probabilities.argmax(axis=1), strict=True)]
    assert np.mean(known) > 0.9


@pytest.mark.parametrize("features", [np.zeros((4, 3)), np.ones((4, 3)), np.full((4, 3), -7.0)])
def test_features_that_say_nothing_give_the_shares_of_the_classes(features) -> None:
    head = fit(features, ["a", "a", "a", "b"], l2=1e-6)
    assert np.allclose(head.probabilities(features), [0.75, 0.25], atol=1e-3)


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


def test_cross_validation_finds_the_strength_the_noise_asks_for() -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(80, 40))
    labels = [f"c{k}" for k in rng.integers(2, size=80)]
    assert choose(noise, labels) == 10.0  # nothing to learn: the strongest penalty holds out best
    clear = noise.copy()
    clear[:, :3] += np.array([8.0 if label == "c1" else -8.0 for label in labels])[:, None]
    assert choose(clear, labels) < 10.0


def choose(features, labels) -> float:
    grid = (10.0, 1e-5, 1e-1)
    head = fit(features, labels, l2="cv", grid=grid)
    return min(grid, key=lambda l2: abs(l2 - head.prior / (len(labels) * (features**2).mean())))


def test_cross_validation_agrees_with_a_loop_over_folds() -> None:
    features, labels = blobs(45, 10, 3, seed=5)
    grid, targets = (1e-4, 1e-2, 1.0), np.arange(45) % 3
    fold_of = assign_folds(targets, 5, seed=11)
    square = (features**2).mean()
    losses = {}
    for l2 in grid:
        losses[l2] = 0.0
        for fold in range(5):
            kept, held = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
            # The mean square is that of all the items; the one of the fold is taken out again.
            own = l2 * square / (features[kept] ** 2).mean()
            scaled = LogisticRegression(
                C=1 / (own * len(kept) * (features[kept] ** 2).mean()),
                fit_intercept=False,
                tol=1e-8,
                max_iter=9999,
            ).fit(np.hstack([features[kept], np.full((len(kept), 1), np.sqrt(square))]), targets[kept])
            p = scaled.predict_proba(np.hstack([features[held], np.full((len(held), 1), np.sqrt(square))]))
            losses[l2] -= np.log(p[np.arange(len(held)), targets[held]]).sum()
    head = fit(features, labels, l2="cv", grid=grid, seed=11)
    assert head.prior == pytest.approx(min(losses, key=losses.__getitem__) * 45 * square, rel=1e-9)


def test_folds_are_even_within_each_class_and_depend_on_the_seed_alone() -> None:
    targets = np.random.default_rng(0).choice(4, p=[0.6, 0.3, 0.08, 0.02], size=101)
    fold_of = assign_folds(targets, 5, seed=3)
    assert np.array_equal(fold_of, assign_folds(targets, 5, seed=3))
    assert not np.array_equal(fold_of, assign_folds(targets, 5, seed=4))
    for members in [np.arange(101), *(np.flatnonzero(targets == c) for c in range(4))]:
        sizes = np.bincount(fold_of[members], minlength=5)
        assert sizes.max() - sizes.min() <= 1
    assert sorted(assign_folds(np.array([0, 1, 1]), 5, seed=0)) == [0, 1, 2]


@pytest.mark.parametrize("lonely", [1, 2])
def test_cross_validation_with_classes_smaller_than_the_folds(lonely: int) -> None:
    features, labels = blobs(20, 5, 2)
    head = fit(features, ["rare"] * lonely + labels[lonely:], l2="cv")
    assert np.isfinite(head.weight).all()
    assert set(head.classes) == {"rare", "c0", "c1"}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"l2": 0.0}, "update.trainer.l2"),
        ({"l2": float("nan")}, "update.trainer.l2"),
        ({"l2": "auto"}, "update.trainer.l2"),
        ({"grid": ()}, "update.trainer.grid"),
        ({"grid": (1.0, -1.0)}, "update.trainer.grid"),
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
