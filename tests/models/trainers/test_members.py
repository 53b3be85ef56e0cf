"""Heads whose posterior is a handful of members: the bootstrap ensemble and the dropout head."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from raysal.config import UpdateConfig
from raysal.errors import ConfigError
from raysal.models.evidence import gather_evidence
from raysal.models.likelihood import softmax
from raysal.models.online.refit import reason_to_refit
from raysal.models.online.update import update
from raysal.models.trainers.base import TrainingData
from raysal.models.trainers.bootstrap import Bootstrap, resampled_counts
from raysal.models.trainers.mc_dropout import McDropout, masks
from raysal.scoring.inputs import score_inputs


def data(n: int = 40, d: int = 4, classes: int = 3) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(5)
    which = np.arange(n) % classes
    return rng.normal(size=(classes, d))[which] + rng.normal(size=(n, d)), [f"c{k}" for k in which]


def fitted(trainer, features, labels, weights=None, seed: int = 1):
    names = sorted({name for label in labels for name in ([label] if isinstance(label, str) else label)})
    return trainer.fit(
        TrainingData(features=features, labels=labels, weights=weights, classes=names, encoder="e", seed=seed)
    )


def minimum(features, targets, m, prior: float, square: float) -> np.ndarray:
    """Weights [C, d + 1] that minimise the summed cross-entropy under the prior, by a general solver."""
    rows, classes = np.column_stack([features, np.ones(len(features))]), targets.shape[1]
    penalty = np.append(np.full(features.shape[1], prior), prior / square)

    def value(flat):
        w = flat.reshape(classes, -1)
        p = softmax(rows @ w.T)
        loss = -(m[:, None] * targets * np.log(p)).sum() + 0.5 * (penalty * w**2).sum()
        return loss, (((p - targets) * m[:, None]).T @ rows + penalty * w).ravel()

    start = np.zeros(classes * rows.shape[1])
    return minimize(value, start, jac=True, tol=1e-14, options={"gtol": 1e-8}).x.reshape(classes, -1)


@pytest.mark.parametrize("how", ["poisson", "multinomial"])
def test_a_member_is_the_fit_to_its_resample_under_the_prior_of_all_labels(how):
    features, labels = data()
    weights = np.random.default_rng(0).uniform(0.5, 2, size=40)
    head = fitted(Bootstrap(members=3, resample=how, tol=1e-9), features, labels, weights)
    targets = gather_evidence(features, labels, weights, head.classes).targets
    square = (weights @ (features**2).mean(1)) / weights.sum()
    assert head.prior == pytest.approx(1e-2 * weights.sum() * square)
    for member, count in zip(head.posterior.weights, resampled_counts(targets, 3, how, 1), strict=True):
        np.testing.assert_allclose(member, minimum(features, targets, weights * count, head.prior, square), atol=1e-5)
    np.testing.assert_allclose(head.mean, head.posterior.weights.mean(0), atol=1e-12)


def test_resamples_are_of_mean_one_and_leave_no_class_out():
    targets = np.eye(3)[[0] * 30 + [1] * 6 + [2]]
    targets[0] = 0.4, 0.6, 0.0
    for how in ("poisson", "multinomial"):
        counts = resampled_counts(targets, 4000, how, 3)
        assert (counts @ targets > 0).all()
        np.testing.assert_allclose(counts[:, :30].mean(0), 1, atol=0.1)
        assert len(np.unique(counts[:, :30], axis=0)) > 3900
        if how == "multinomial":
            assert (counts[:, 1:30].sum(1) == 29).all()
            assert (counts[:, 36] == 1).all()
    soft = np.array([[0.9, 0.1], [1.0, 0.0], [1.0, 0.0]])  # a class that is nobody's likeliest
    assert (resampled_counts(soft, 200, "multinomial", 0) @ soft > 0).all()


def test_members_of_a_bootstrap_agree_the_more_labels_there_are_and_masks_do_not():
    features, labels = data(1000)
    for trainer, least, most in ((Bootstrap(members=24), 0.0, 0.2), (McDropout(), 0.3, np.inf)):
        few, many = (fitted(trainer, features[:n], labels[:n]).variance(features).mean() for n in (40, 1000))
        assert least < many / few < most


def test_dropout_minimises_the_loss_over_masked_copies_and_members_are_the_masked_mean():
    features, labels = data()
    head = fitted(McDropout(rate=0.4, members=200, copies=500, tol=1e-9), features, labels)
    other = fitted(McDropout(rate=0.4, members=200, copies=500, tol=1e-9), features, labels, seed=2)
    assert np.abs(head.mean - other.mean).max() < 0.1 * np.abs(head.mean).max()  # both are near the expected loss's
    targets = gather_evidence(features, labels, None, head.classes).targets
    kept = np.random.default_rng(9).random((40 * 500, 4)) >= 0.4
    square = (features**2).mean()
    slow = minimum(
        np.repeat(features, 500, axis=0) * kept / 0.6,
        np.repeat(targets, 500, axis=0),
        np.full(40 * 500, 1 / 500),
        head.prior,
        square,
    )
    assert np.abs(head.mean - slow).max() < 0.1 * np.abs(slow).max()
    members = head.posterior.weights
    ratio = members[:, :, :-1] / head.mean[:, :-1]
    assert np.allclose(ratio, ratio[:, :1])  # one mask for all classes
    assert set(np.unique(ratio.round(12))) == {0.0, round(1 / 0.6, 12)}
    assert np.array_equal(members[:, :, -1], np.tile(head.mean[:, -1], (200, 1)))
    np.testing.assert_allclose(ratio.mean((0, 1)), 1, atol=0.2)


def test_masks_are_those_of_the_seed_whatever_the_labels():
    features, labels = data()
    trainer = McDropout(members=8, copies=2)
    few, all_of, other = (
        fitted(trainer, features[:n], labels[:n], seed=seed).posterior.weights != 0
        for n, seed in ((20, 1), (40, 1), (40, 2))
    )
    assert np.array_equal(few, all_of)
    assert not np.array_equal(all_of, other)
    assert (masks(3, 5, 0.5, 1) == masks(4, 5, 0.5, 1)[:3]).all()


@pytest.mark.parametrize("trainer", [Bootstrap(members=6), McDropout(members=6)])
def test_scores_draw_the_members_and_new_labels_mean_a_new_fit(trainer):
    features, labels = data()
    head = fitted(trainer, features, labels)
    inputs = score_inputs(head, needs=("samples", "variance"), draws=4, key=3)
    assert np.array_equal(inputs.samples, head.posterior.weights[:4])
    outputs = np.einsum("tcd,nd->tnc", head.posterior.weights, np.column_stack([features, np.ones(40)]))
    np.testing.assert_allclose(head.variance(features), outputs.var(0, ddof=1), atol=1e-9)
    assert reason_to_refit(head, 1, False, 1, UpdateConfig(mode="laplace")) == "an ensemble has no closed-form step"
    with pytest.raises(ConfigError, match="ensemble"):
        update(head, features[:1], labels[:1], ledger_seq=1)


@pytest.mark.parametrize(
    ("kind", "fields", "named"),
    [
        (Bootstrap, {"members": 1}, "members"),
        (Bootstrap, {"resample": "jackknife"}, "resample"),
        (Bootstrap, {"l2": -1.0}, "l2"),
        (McDropout, {"rate": 1.0}, "rate"),
        (McDropout, {"rate": 0.0}, "rate"),
        (McDropout, {"members": 1}, "members"),
        (McDropout, {"copies": 0}, "copies"),
        (McDropout, {"tol": 0.0}, "tol"),
    ],
)
def test_fields_out_of_range_are_named(kind, fields, named):
    with pytest.raises(ConfigError, match=rf"update\.trainer\.{named}"):
        kind(**fields)
