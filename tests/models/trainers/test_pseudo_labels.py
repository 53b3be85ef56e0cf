from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from frames import matrix_of
from pools import make_pool, mixture
from reference_update import covariance_reference, frame_reference

from raysal.errors import ConfigError, LabelError
from raysal.models.evidence import gather_evidence
from raysal.models.head import Head
from raysal.models.online.update import update
from raysal.models.trainers.base import Context, TrainingData
from raysal.models.trainers.logistic import Logistic
from raysal.models.trainers.pseudo_labels import PseudoLabels, SelfTraining, thresholds
from raysal.rounds.session import Session

RECORD = {"encoder": "e", "version": 0, "ledger_seq": 0, "seed": 0}


def blobs(n: int, d: int = 6, classes: int = 4, seed: int = 0, apart: float = 1.2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, d)) * apart
    which = rng.integers(classes, size=n)
    return centres[which] + rng.normal(size=(n, d)), which


def names(which: np.ndarray) -> list[str]:
    return [f"c{k}" for k in which]


def fit(features, labels, unlabelled=None, weights=None, seed=0, **fields) -> Head:
    context = Context(unlabelled=unlabelled)
    record = {**RECORD, "seed": seed}
    return PseudoLabels(**fields).fit(
        TrainingData(
            features=features,
            labels=labels,
            weights=weights,
            classes=["c0", "c1", "c2", "c3"],
            context=context,
            **record,
        )
    )


def plain(features, labels, weights=None, **fields) -> Head:
    return Logistic(**fields).fit(
        TrainingData(features=features, labels=labels, weights=weights, classes=["c0", "c1", "c2", "c3"], **RECORD)
    )


def student(features, labels, sample, **fields) -> tuple[SelfTraining, np.ndarray]:
    """What makes pseudo-labels of a sample, and the weights by the labels alone, in the frame."""
    trainer = PseudoLabels(**fields)
    problem = trainer.problem(gather_evidence(features, labels, None, ["c0", "c1", "c2", "c3"]), seed=0)
    return SelfTraining(trainer, problem, problem.frame.features(sample)), trainer.solution(problem)


def accuracy(head: Head, features: np.ndarray, which: np.ndarray) -> float:
    return float((head.probabilities(features).argmax(axis=1) == which).mean())


def test_it_learns_from_items_without_a_label() -> None:
    """Over six draws of 16 labels it is right more often than without."""
    test, truth = blobs(2000, d=12, apart=0.8, seed=50)
    gains = []
    for seed in range(6):
        features, which = blobs(16, d=12, apart=0.8, seed=seed)
        sample, _ = blobs(500, d=12, apart=0.8, seed=100 + seed)
        taught = fit(features, names(which), sample, guard=False)
        gains.append(accuracy(taught, test, truth) - accuracy(plain(features, names(which)), test, truth))
    assert np.mean(gains) > 0.015
    assert min(gains) > 0


def test_it_is_the_fixed_point_of_its_guesses() -> None:
    """With rounds enough, no direction is downhill of the loss on the labels and on the weights' own guesses."""
    features, which = blobs(24)
    sample, _ = blobs(120, seed=7)
    head = fit(features, names(which), sample, guard=False, rounds=40, tol=1e-8)
    guesses = student(features, names(which), sample)[0].pseudo_labels(head.frame.inside(head.mean), 24.0)
    assert 20 < guesses.any(axis=1).sum() <= 120
    frame = frame_reference(features, np.ones(24), head.prior)
    rows = np.column_stack([features, np.ones(24)]) @ frame.T
    guessed = np.column_stack([sample, np.ones(120)]) @ frame.T
    slope = (head.probabilities(features) - np.eye(4)[which]).T @ rows
    slope += (head.probabilities(sample) * guesses.sum(axis=1)[:, None] - guesses).T @ guessed
    slope += head.prior * head.mean @ np.linalg.inv(frame)
    assert np.abs(slope).max() < 1e-5


def test_thresholds_follow_how_well_a_class_is_learnt() -> None:
    """By hand: six sure of class 0, three of class 1, none of 2, one item in doubt."""
    sure = np.array([[0.98, 0.01, 0.01]] * 6 + [[0.01, 0.98, 0.01]] * 3 + [[0.3, 0.3, 0.4]])
    bars = thresholds(sure, 0.95, 0.1)
    assert np.allclose(bars, [0.95, 0.95 * 0.5 / 1.5, 0.1])
    assert np.allclose(thresholds(sure, 0.95, 0.6), [0.95, 0.6, 0.6])
    # While most are in doubt, their number stands for the best class: all bars are low.
    doubtful = np.vstack([sure, [[0.3, 0.3, 0.4]] * 11])
    assert np.allclose(thresholds(doubtful, 0.95, 0.1), [0.95 * 0.5 / 1.5, 0.95 * 0.25 / 1.75, 0.1])


def test_no_class_floods_the_others() -> None:
    features, which = blobs(40, apart=3)
    sample, truth = blobs(900, seed=3, apart=3)
    sample = sample[(truth == 0) | (np.arange(900) < 100)]  # mostly the first class
    teacher, mean = student(features, names(which), sample, weight=2.0)
    guesses = teacher.pseudo_labels(mean, 40.0)
    count, total = (guesses > 0).sum(axis=0), guesses.sum(axis=0)
    assert count[0] > 1.5 * len(sample) / 4
    assert total[0] == pytest.approx(2.0 * 40 / 4)  # its fair share, and no more
    for c in (1, 2, 3):
        assert 0 < total[c] == pytest.approx(2.0 * 40 * count[c] / len(sample))
    assert len(np.unique(guesses[:, 0])) == 2  # scaled down alike


def test_pseudo_labels_are_no_evidence() -> None:
    """The posterior is that of the people's labels around the mean; nothing else is counted."""
    features, which = blobs(24)
    sample, _ = blobs(200, seed=7)
    for structure in ("shared", "diagonal"):
        fields = {"structure": structure, "curvature": "categorical"}
        head = fit(features, names(which), sample, guard=False, **fields)
        alone = plain(features, names(which), **fields)
        assert not np.allclose(head.mean, alone.mean, atol=1e-2)
        assert (head.prior, head.labels_seen, head.fitted_on) == (alone.prior, 24, 24)
        assert np.array_equal(matrix_of(head.frame, 6), matrix_of(alone.frame, 6))
        assert np.array_equal(head.linearised_at, head.mean)
        frame, p = frame_reference(features, np.ones(24), head.prior), head.probabilities(features)
        if structure == "shared":
            surest = p.max(axis=1)
            expected = covariance_reference(features, surest * (1 - surest), head.prior, frame)
            assert np.allclose(head.covariance, expected, rtol=1e-9)
        else:
            rows = np.column_stack([features, np.ones(24)]) @ frame.T
            assert np.allclose(head.posterior.precision, head.prior + (p * (1 - p)).T @ rows**2, rtol=1e-10)


def test_updates_go_on_from_it() -> None:
    features, which = blobs(24)
    sample, _ = blobs(200, seed=7)
    more, told = blobs(9, seed=8)
    head = fit(features, names(which), sample, guard=False)
    once = update(head, more, names(told), ledger_seq=1)
    steps = update(update(head, more[:4], names(told)[:4], ledger_seq=1), more[4:], names(told)[4:], ledger_seq=1)
    assert once.labels_seen == steps.labels_seen == 33
    assert np.allclose(once.covariance, steps.covariance, rtol=1e-9, atol=0)
    frame, everything = frame_reference(features, np.ones(24), head.prior), np.vstack([features, more])
    assert np.allclose(once.covariance, covariance_reference(everything, np.ones(33), head.prior, frame), rtol=1e-8)
    seen = gather_evidence(np.vstack([features, more]), names(np.append(which, told)), None, head.classes)
    polished = update(head, more, names(told), ledger_seq=1, passes=8, seen=seen)
    assert np.isfinite(polished.mean).all()
    assert not np.array_equal(polished.mean, head.mean)


def test_each_fit_makes_its_own() -> None:
    """What an earlier fit believed leaves no trace, and the order of the sample makes none but rounding."""
    features, which = blobs(24)
    sample, _ = blobs(200, seed=7)
    head = fit(features, names(which), sample, guard=False)
    other = fit(features, names(which), blobs(200, seed=9)[0], guard=False)
    context, classes = Context(unlabelled=sample, previous=other), list(head.classes)
    again = PseudoLabels(guard=False).fit(
        TrainingData(features=features, labels=names(which), classes=classes, context=context, **RECORD)
    )
    assert again.digest() == head.digest() != other.digest()
    backwards = fit(features, names(which), sample[::-1].copy(), guard=False)
    assert np.allclose(backwards.mean, head.mean, atol=1e-4)


def test_without_anything_to_guess_it_is_the_logistic_trainer() -> None:
    features, which = blobs(24)
    expected = plain(features, names(which)).digest()
    assert fit(features, names(which)).digest() == expected
    assert fit(features, names(which), np.empty((0, 6), np.float32)).digest() == expected
    sample, _ = blobs(50, seed=7)
    one = ["c1"] * 24
    assert fit(features, one, sample, guard=False).digest() == plain(features, one).digest()
    assert fit(features[:1], ["c1"], sample).digest() == plain(features[:1], ["c1"]).digest()
    # Sure of nothing: no item has a pseudo-label, and the labels alone are fitted.
    unsure = fit(features, names(which), sample * 0, guard=False, floor=1.0)
    assert np.allclose(unsure.mean, plain(features, names(which)).mean, atol=1e-4)


def test_the_guard_keeps_out_what_misleads() -> None:
    """Unlabelled items in two clumps, apart along the feature that has nothing to do with the classes."""
    rng = np.random.default_rng(0)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        true = rng.integers(2, size=n)
        return np.column_stack([true * 1.6 - 0.8 + rng.normal(size=n) * 0.8, rng.normal(size=n) * 4]), true

    (features, true), (test, truth) = draw(80), draw(2000)
    side = rng.integers(2, size=400) * 2 - 1
    sample = np.column_stack([side * 0.8, side * 8]) + rng.normal(size=(400, 2)) * 0.3
    labels = names(true)
    misled, guarded = (fit(features, labels, sample, guard=guard, weight=20.0) for guard in (False, True))
    alone = plain(features, labels)
    assert accuracy(misled, test, truth) < accuracy(alone, test, truth) - 0.03
    assert guarded.digest() == alone.digest()
    # And it lets in what helps.
    features, which = blobs(60)
    helped = fit(features, names(which), blobs(500, seed=7)[0])
    assert helped.digest() == fit(features, names(which), blobs(500, seed=7)[0], guard=False).digest()


def test_it_is_a_function_of_its_arguments() -> None:
    features, which = blobs(24)
    sample, _ = blobs(80, seed=7)
    before = sample.copy()
    heads = [fit(features, names(which), sample, weights=w) for w in (None, None, np.ones(24))]
    assert len({head.digest() for head in heads}) == 1
    assert np.array_equal(sample, before)
    # Neither the unit nor the origin of the features changes anything else.
    taught = fit(features, names(which), sample, guard=False)
    for unit, shift in ((1000.0, 0.0), (1.0, 30.0), (0.01, -5.0)):
        moved, others = (features + shift) * unit, (sample + shift) * unit
        again = fit(moved, names(which), others, guard=False)
        assert np.allclose(again.probabilities(others), taught.probabilities(sample), atol=1e-7)
    # Weight two is the item twice.
    doubled = fit(features, names(which), sample, weights=np.full(24, 2.0), guard=False, l2=0.3, tol=1e-8)
    twice = fit(np.vstack([features] * 2), names(which) * 2, sample, guard=False, l2=0.3, tol=1e-8)
    assert np.allclose(doubled.mean, twice.mean, atol=1e-5)


@pytest.mark.parametrize(
    "trainer", [{"name": "pseudo_labels", "sample": 60}, {"name": "dmle", "acquisition": "soft_rank"}]
)
def test_rounds_with_a_sample_are_the_same_for_any_partitions(tmp_path: Path, trainer: dict[str, object]) -> None:
    vectors, labels = mixture(240, 6)
    pool = make_pool(tmp_path / "pool", vectors, chunk_rows=40, labels=labels)
    truth = {f"item-{i:06d}": label for i, label in enumerate(labels)}
    heads = []
    for partitions in (1, 4):
        fields = {
            "fleet": {"backend": "local", "partitions": partitions},
            "update": {"mode": "laplace", "trainer": trainer},
        }
        with Session(
            tmp_path / f"run-{partitions}", pool=pool, select="top_score", start="random", **fields
        ) as session:
            for k in (12, 12, 3):  # fitted, fitted as a class appeared or for the share, updated
                session.tell({key: truth[key] for key in session.query(k).table["key"].to_pylist()})
            session.query(1)
            rounds = [session.run.record(number) for number in range(session.rounds)]
        heads.append([(record["head_digest"], record["decision"]) for record in rounds])
    assert heads[0] == heads[1]
    decisions = [decision for _, decision in heads[0]]
    assert decisions[1].startswith("fitted")
    assert decisions[-1].startswith("updated")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cutoff", 0.0),
        ("cutoff", 1.1),
        ("floor", math.nan),
        ("weight", 0.0),
        ("weight", math.inf),
        ("sample", -1),
        ("rounds", 0),
        ("l2", 0.0),
    ],
)
def test_fields_are_checked(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"update.trainer.{field}"):
        PseudoLabels(**{field: value})
    assert replace(PseudoLabels(), sample=0).sample == 0


def test_unlabelled_items_that_cannot_be_used_are_named() -> None:
    features, which = blobs(24)
    sample, _ = blobs(5)
    sample[3, 1] = np.inf
    with pytest.raises(LabelError, match="unlabelled row 3: feature 1 is inf"):
        fit(features, names(which), sample)
    with pytest.raises(LabelError, match="unlabelled: vectors of 5 numbers; the labelled have 6"):
        fit(features, names(which), np.zeros((3, 5)))
