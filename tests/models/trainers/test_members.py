"""Heads whose posterior is a handful of members: the bootstrap ensemble and the dropout head."""

from __future__ import annotations

import numpy as np
import pytest
from reference_update import frame_reference, minimum_reference

from raysal.config import UpdateConfig
from raysal.errors import ConfigError
from raysal.models.evidence import gather_evidence
from raysal.models.online.refit import reason_to_refit
from raysal.models.online.update import update
from raysal.models.trainers.base import TrainingData
from raysal.models.trainers.bootstrap import Bootstrap, resampled_counts
from raysal.models.trainers.logistic import Logistic
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


@pytest.mark.parametrize("how", ["poisson", "multinomial"])
@pytest.mark.parametrize("l2", [0.05, "cv"])
def test_a_member_is_the_fit_to_its_resample_in_the_frame_and_with_the_penalty_of_all_labels(how, l2):
    features, labels = data()
    weights = np.random.default_rng(0).uniform(0.5, 2, size=40)
    head = fitted(Bootstrap(members=3, resample=how, l2=l2, tol=1e-9), features, labels, weights)
    targets = gather_evidence(features, labels, weights, head.classes).targets
    whole = fitted(Logistic(l2=l2), features, labels, weights)
    assert head.prior == whole.prior
    frame = frame_reference(features, weights, 1.0, 1.0)
    for member, count in zip(head.posterior.weights, resampled_counts(targets, 3, how, 1), strict=True):
        slow = minimum_reference(features, targets, weights * count, head.prior, frame)
        np.testing.assert_allclose(member, slow, atol=1e-5)
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
    for trainer, least, most in ((Bootstrap(members=24, l2=0.01), 0.0, 0.2), (McDropout(), 0.3, np.inf)):
        few, many = (fitted(trainer, features[:n], labels[:n]).variance(features).mean() for n in (40, 1000))
        assert least < many / few < most


def test_dropout_minimises_the_loss_over_masked_copies_and_members_are_the_masked_mean():
    features, labels = data()
    trainer = McDropout(rate=0.4, members=200, copies=500, tol=1e-9)
    head, other = fitted(trainer, features + 3, labels), fitted(trainer, features + 3, labels, seed=2)
    frame = frame_reference(features + 3, np.ones(40), 1.0, 1.0)
    away = np.linalg.inv(frame)
    within, members = head.mean @ away, head.posterior.weights @ away
    assert np.abs(within - other.mean @ away).max() < 0.1 * np.abs(within).max()  # near the expected loss's, both
    targets = gather_evidence(features, labels, None, head.classes).targets
    kept = np.random.default_rng(9).random((40 * 500, 4)) >= 0.4
    centred = (features - features.mean(axis=0)) * np.diag(frame)[:4]
    slow = minimum_reference(
        np.repeat(centred, 500, axis=0) * kept / 0.6,
        np.repeat(targets, 500, axis=0),
        np.full(40 * 500, 1 / 500),
        trainer.l2,
        np.eye(5),
    )
    assert np.abs(within - slow).max() < 0.1 * np.abs(slow).max()
    ratio = members[:, :, :-1] / within[:, :-1]
    assert np.allclose(ratio, ratio[:, :1])  # one mask for all classes
    assert set(np.unique(ratio.round(9))) == {0.0, round(1 / 0.6, 9)}
    assert np.allclose(members[:, :, -1], within[:, -1], rtol=1e-9)
    np.testing.assert_allclose(ratio.mean((0, 1)), 1, atol=0.2)
    # What a mask drops is at the mean of the labelled items: there all members say the same.
    middle = (features + 3).mean(axis=0)[None]
    assert head.variance(middle).max() < 1e-12 * head.variance(features + 3).mean()


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
