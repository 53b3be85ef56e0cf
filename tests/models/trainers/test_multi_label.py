"""Several labels at once: the solution and its posteriors against slow ones, and evidence counted once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_update import BIAS_PRIOR, frame_reference

from raysal.errors import ConfigError, LabelError
from raysal.models.evidence import gather_evidence
from raysal.models.likelihood import SIGMOID, sigmoid
from raysal.models.online.update import retract, update
from raysal.models.trainers.base import TrainingData
from raysal.models.trainers.multi_label import MultiLabel

NAMES = ("a", "b", "c")
TRAINING = {"classes": NAMES, "encoder": "e", "version": 0, "ledger_seq": 0, "seed": 0}


def data(n: int, d: int = 5, seed: int = 0) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Features [n, d], labels as text, and the same as numbers [n, 3]."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) + 0.5
    y = rng.random((n, 3)) < sigmoid(2 * x @ rng.normal(size=(d, 3)) - 1)
    return x, ["|".join(np.array(NAMES)[row]) or "-" for row in y], y.astype(float)


def one_label(x: np.ndarray, y: np.ndarray, m: np.ndarray, l2: float) -> np.ndarray:
    """[w, b] of one logistic regression by Newton's method on its own, on the features of the frame."""
    frame = frame_reference(x, m, 1.0, 1.0)
    penalty = np.append(np.full(x.shape[1], l2), BIAS_PRIOR)
    rows, w = np.column_stack([x, np.ones(len(x))]) @ frame.T, np.zeros(x.shape[1] + 1)
    for _ in range(60):
        p = sigmoid(rows @ w)
        gradient = rows.T @ (m * (p - y)) + penalty * w
        w = w - np.linalg.solve((rows.T * (m * p * (1 - p))) @ rows + np.diag(penalty), gradient)
    assert np.abs(gradient).max() < 1e-9
    return w @ frame


@pytest.mark.parametrize(("n", "d", "l2"), [(60, 5, 1e-2), (8, 12, 1e-1), (40, 3, 1e-3)])
def test_every_label_is_a_logistic_regression_by_itself(n: int, d: int, l2: float) -> None:
    x, labels, y = data(n, d)
    m = np.random.default_rng(1).uniform(0.5, 2, n)
    head = MultiLabel(l2=l2, tol=1e-9).fit(TrainingData(features=x, labels=labels, weights=m, **TRAINING))
    assert (head.likelihood.name, head.classes) == ("sigmoid", NAMES)
    for c in range(3):
        np.testing.assert_allclose(head.mean[c], one_label(x, y[:, c], m, l2), atol=1e-6)
    np.testing.assert_allclose(head.probabilities(x), sigmoid(x @ head.weight.T + head.bias))


def test_neither_unit_nor_origin_changes_a_probability_and_weight_two_is_the_item_twice() -> None:
    x, labels, _ = data(50)
    expected = MultiLabel().fit(TrainingData(features=x, labels=labels, **TRAINING)).probabilities(x)
    assert np.ptp(expected) > 0.5
    for unit, shift in ((1e-3, 0.0), (1e4, 0.0), (1.0, 100.0), (1e3, -7.0)):
        moved = (x + shift) * unit
        found = MultiLabel().fit(TrainingData(features=moved, labels=labels, **TRAINING)).probabilities(moved)
        np.testing.assert_allclose(found, expected, atol=1e-9)
    trainer, weights = MultiLabel(l2=0.1, tol=1e-9), np.where(np.arange(50) < 9, 2.0, 1.0)
    twice = trainer.fit(TrainingData(features=np.vstack([x, x[:9]]), labels=labels + labels[:9], **TRAINING))
    doubled = trainer.fit(TrainingData(features=x, labels=labels, weights=weights, **TRAINING))
    np.testing.assert_allclose(twice.probabilities(x), doubled.probabilities(x), atol=1e-7)


@pytest.mark.parametrize("structure", ["shared", "categorical", "diagonal", "kronecker", "full"])
def test_the_posterior_is_that_of_its_structure(structure: str) -> None:
    x, labels, _ = data(40)
    weighting = "categorical" if structure == "categorical" else "gaussian"
    trainer = MultiLabel(structure="shared" if structure == "categorical" else structure, curvature=weighting)
    head = trainer.fit(TrainingData(features=x, labels=labels, **TRAINING))
    # Rows and prior are those of the frame; a variance is the same number inside and outside.
    rows = np.column_stack([x, np.ones(40)]) @ frame_reference(x, np.ones(40), head.prior).T
    p = head.probabilities(x)
    slopes, prior = p * (1 - p), head.prior * np.eye(6)
    if structure == "full":  # a block for every label
        exact = [np.linalg.inv((rows.T * slopes[:, c]) @ rows + prior) for c in range(3)]
        expected = np.stack([((rows @ sigma) * rows).sum(1) for sigma in exact], 1)
    elif structure == "diagonal":
        expected = rows**2 @ (1 / (slopes.T @ rows**2 + head.prior)).T
    elif structure == "kronecker":
        expected = np.stack(
            [((rows @ np.linalg.inv(slopes[:, c].sum() * rows.T @ rows / 40 + prior)) * rows).sum(1) for c in range(3)],
            1,
        )
    else:
        m = np.ones(40) if structure == "shared" else slopes.max(1)
        expected = ((rows @ np.linalg.inv((rows.T * m) @ rows + prior)) * rows).sum(1)[:, None]
    np.testing.assert_allclose(head.variance(x), expected, rtol=1e-9)


@settings(max_examples=15)
@given(st.integers(0, 1000), st.sampled_from(["shared", "diagonal", "full"]), st.lists(st.integers(0, 7), max_size=3))
def test_no_split_of_the_labels_changes_the_posterior_and_they_can_be_taken_back(seed, structure, cuts) -> None:
    x, labels, _ = data(28, seed=seed)
    head = MultiLabel(structure=structure, curvature="categorical").fit(
        TrainingData(features=x[:20], labels=labels[:20], **TRAINING)
    )
    at_once = update(head, x[20:], labels[20:], ledger_seq=1)
    split, places = head, [20, *sorted(20 + cut for cut in cuts), 28]
    for low, high in pairwise(places):
        split = update(split, x[low:high], labels[low:high], ledger_seq=1)
    np.testing.assert_allclose(split.variance(x), at_once.variance(x), rtol=1e-9)
    assert split.labels_seen == 28
    back = retract(at_once, x[20:], labels[20:], ledger_seq=2)
    np.testing.assert_allclose(back.variance(x), head.variance(x), rtol=1e-7)


def test_a_label_moves_only_itself_in_the_mean_and_helps() -> None:
    x, labels, y = data(400, seed=3)
    head = MultiLabel().fit(TrainingData(features=x[:30], labels=labels[:30], **TRAINING))
    evidence = gather_evidence(x[:230], labels[:230], None, NAMES, SIGMOID)
    moved = update(head, x[30:230], labels[30:230], ledger_seq=1, passes=8, seen=evidence)
    fitted = MultiLabel().fit(TrainingData(features=x[:230], labels=labels[:230], **TRAINING))
    right = [float(((one.probabilities(x[230:]) > 0.5) == (y[230:] > 0.5)).mean()) for one in (head, moved, fitted)]
    assert right[1] > right[0]
    assert right[1] > right[2] - 0.01
    # p - t is zero in what is known for certain, so its weights stay where they are
    certain = head.probabilities(x[30:31])[0]
    share = {"a": 1.0, "b": float(certain[1]), "c": float(certain[2])}
    one = update(head, x[30:31], [share], ledger_seq=1)
    assert np.abs(one.mean[0] - head.mean[0]).max() > 1e-6
    np.testing.assert_allclose(one.mean[1:], head.mean[1:], atol=1e-12)


def test_labels_without_items_and_items_without_labels() -> None:
    x, labels, _ = data(30)
    head = MultiLabel().fit(TrainingData(features=x, labels=["-"] * 30, **{**TRAINING, "classes": (*NAMES, "later")}))
    assert np.isfinite(head.mean).all()
    assert (head.probabilities(x) < 0.2).all()
    head = MultiLabel(l2="cv", grid=(1e-2, 1.0)).fit(TrainingData(features=x, labels=labels, **TRAINING))
    assert head.prior > 0


def test_folds_share_out_every_set_of_labels() -> None:
    y = np.repeat([[1.0, 1, 0], [0, 0, 0], [1, 0, 0], [0, 1, 1]], [8, 4, 4, 4], axis=0)
    groups = SIGMOID.groups(y)
    assert [len(set(groups[low:high])) for low, high in ((0, 8), (8, 12), (12, 16), (16, 20))] == [1] * 4
    assert len(set(groups)) == 4


@pytest.mark.parametrize(
    ("label", "named"),
    [
        ("a|d", "row 2: label 'd' is not one of the classes"),
        ("a||b", "row 2: 'a||b' has an empty part"),
        ("a|a", "row 2: 'a|a' names 'a' twice"),
        ("a|-", "row 2: 'a|-' says none beside others"),
        ({"a": 0.7, "a|b": 0.7}, "row 2: probabilities .* exceed 1"),
        ({"a": -0.1}, "row 2: shares .* not a number of at least 0"),
    ],
)
def test_a_bad_label_is_named(label, named: str) -> None:
    x, labels, _ = data(6)
    with pytest.raises(LabelError, match=named.replace("|", r"\|")):
        MultiLabel().fit(TrainingData(features=x, labels=[*labels[:2], label, *labels[3:]], **TRAINING))


@pytest.mark.parametrize("name", ["a|b", "-", "", " a"])
def test_a_name_that_no_label_could_have_is_refused(name: str) -> None:
    x, labels, _ = data(6)
    with pytest.raises(ConfigError, match="cannot be one of several labels"):
        MultiLabel().fit(TrainingData(features=x, labels=labels, **{**TRAINING, "classes": (*NAMES, name)}))


def test_votes_of_annotators_are_shares_of_their_answers() -> None:
    x, _, _ = data(2)
    votes = gather_evidence(x, [{"a|b": 0.5, "a": 0.25, "-": 0.25}, " b | a "], None, NAMES, SIGMOID)
    np.testing.assert_allclose(votes.targets, [[0.75, 0.5, 0], [1, 1, 0]])
