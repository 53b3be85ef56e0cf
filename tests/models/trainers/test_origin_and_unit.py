"""A law of every trainer: neither the origin nor the unit of the vectors changes what a head says, fitted or updated.

It holds to rounding, which grows with the distance from the origin: at a distance of 1,000 spreads, numbers of 16
digits have 13 left.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysal.config import Choice
from raysal.models.evidence import gather_evidence
from raysal.models.head import Head
from raysal.models.likelihood import IDENTITY, SIGMOID
from raysal.models.online.classes import add_classes
from raysal.models.online.influence import gain_of, influence_of
from raysal.models.online.refit import drift
from raysal.models.online.update import retract, update
from raysal.models.posterior import GAUSSIANS
from raysal.models.trainers import TRAINERS
from raysal.models.trainers.base import Context, Trainer, TrainingData

N, NEW, PROBES = 40, 6, 12
KINDS: dict[str, dict[str, Any]] = {
    **{f"logistic, {name}": {"name": "logistic", "structure": name} for name in GAUSSIANS},
    "logistic, categorical": {"name": "logistic", "curvature": "categorical"},
    "logistic, temperature": {"name": "logistic", "temperature": "cv"},
    "logistic, fixed": {"name": "logistic", "l2": 0.03},
    "logistic, standardised": {"name": "logistic", "standardise": True},
    **{f"multi_label, {name}": {"name": "multi_label", "structure": name} for name in GAUSSIANS},
    "multi_label, categorical": {"name": "multi_label", "curvature": "categorical"},
    "pseudo_labels": {"name": "pseudo_labels", "sample": 30, "guard": False},
    "pseudo_labels, guarded": {"name": "pseudo_labels", "sample": 30},
    "dmle": {"name": "dmle", "structure": "kronecker"},
    "dmle, soft_rank": {"name": "dmle", "acquisition": "soft_rank"},
    "dmle, steps": {"name": "dmle", "steps": 5, "rate": 1e-2},
    "bootstrap": {"name": "bootstrap", "members": 4},
    "mc_dropout": {"name": "mc_dropout", "members": 4},
    "regression": {"name": "regression"},
    "regression, given": {"name": "regression", "noise": 0.3},
    "custom": {"name": "custom:user_trainers:logistic_weights", "structure": "diagonal"},
}
"""Every trainer, with every structure of a posterior; `mlp` has a test of its own."""
every_kind = pytest.mark.parametrize("kind", KINDS)
moves = given(unit=st.floats(-6, 6), far=st.sampled_from([0.0, 1.0, 30.0, 1e3]), seed=st.integers(0, 30))


def trainer_of(kind: str) -> Trainer:
    return Choice(**KINDS[kind]).build("update.trainer", TRAINERS)


def test_no_trainer_is_left_out():
    assert {fields["name"].partition(":")[0] for fields in KINDS.values()} == {*TRAINERS} - {"mlp"}


class Case:
    """Vectors of labelled, new, unlabelled and other items, all moved and multiplied alike."""

    def __init__(self, kind: str, seed: int, unit: float = 0.0, far: float = 0.0) -> None:
        rng = np.random.default_rng(seed)
        which = rng.permutation(np.arange(N + NEW) % 3)
        centres = rng.normal(size=(3, 5))
        x = np.vstack([centres[which] + rng.normal(size=(N + NEW, 5)), rng.normal(size=(30 + PROBES, 5))])
        spread = np.sqrt(((x - x.mean(axis=0)) ** 2).sum() / len(x))
        away = rng.normal(size=5)
        x = (x + far * spread * away / np.linalg.norm(away)) * 10**unit
        self.x, self.new, self.sample, self.probes = np.split(x, np.cumsum([N, NEW, 30]))
        self.trainer = trainer_of(kind)
        labels = [f"c{k}" for k in which]
        if self.trainer.likelihood is SIGMOID:
            labels = [f"{name}|odd" if i % 2 else name for i, name in enumerate(labels)]
        if self.trainer.likelihood is IDENTITY:
            labels = [repr(float(k + rng.normal() / 3)) for k in which]
        self.labels, self.told = labels[:N], labels[N:]
        self.weights = rng.uniform(0.5, 2, size=N)
        self.rounds = np.arange(N) // 10 - 1

    def head(self) -> Head:
        context = Context(rounds=self.rounds, unlabelled=self.sample)
        names = sorted({part for label in self.labels for part in label.split("|")})
        data = TrainingData(
            features=self.x,
            labels=self.labels,
            weights=self.weights,
            classes=[] if self.trainer.likelihood is IDENTITY else names,
            seed=2,
            context=context,
        )
        return self.trainer.fit(data)

    def says(self, head: Head) -> list[np.ndarray]:
        """What a head says of the probes: numbers that have no unit of the vectors."""
        return [head.probabilities(self.probes), head.variance(self.probes)]


def same(here: list[np.ndarray], there: list[np.ndarray], tolerance: float) -> None:
    for a, b in zip(here, there, strict=True):
        np.testing.assert_allclose(b, a, rtol=tolerance, atol=tolerance * np.abs(a).max())


@settings(max_examples=2)
@moves
@every_kind
def test_a_fit_says_the_same(kind, unit, far, seed):
    before, after = Case(kind, seed), Case(kind, seed, unit, far)
    heads = before.head(), after.head()
    same(before.says(heads[0]), after.says(heads[1]), 1e-6)
    assert heads[1].temperature == pytest.approx(heads[0].temperature, rel=1e-6)


@settings(max_examples=2)
@moves
@every_kind
def test_updates_say_the_same(kind, unit, far, seed):
    cases = Case(kind, seed), Case(kind, seed, unit, far)
    if not cases[0].head().posterior.closed_form:
        return
    said = []
    for case in cases:
        head = case.head()
        told = update(head, case.new, case.told, ledger_seq=1)
        both, labels = np.vstack([case.x, case.new]), case.labels + case.told
        weights = np.append(case.weights, np.ones(NEW))
        seen = gather_evidence(both, labels, weights, head.classes, head.likelihood)
        polished = update(head, case.new, case.told, ledger_seq=1, passes=4, seen=seen)
        back = retract(told, case.new[:2], case.told[:2], ledger_seq=2)
        said.append([number for one in (told, polished, back) for number in case.says(one)])
        said[-1].append(np.array([drift(told), drift(polished)]))
        if head.likelihood.discrete:
            wide = update(add_classes(head, ["late"]), case.new[:2], ["late"] * 2, ledger_seq=1)
            said[-1] += case.says(wide)
    same(*said, 1e-6)


@settings(max_examples=3)
@moves
@pytest.mark.parametrize(
    "kind",
    ["logistic, shared", "logistic, standardised", "logistic, kronecker", "multi_label, categorical", "regression"],
)
def test_what_scores_read_of_a_head_is_the_same(kind, unit, far, seed):
    said = []
    for case in (Case(kind, seed), Case(kind, seed, unit, far)):
        head, rows = case.head(), np.column_stack([case.probes, np.ones(PROBES)])
        evidence = gather_evidence(case.x, case.labels, case.weights, head.classes, head.likelihood)
        noise = np.random.default_rng(seed).normal(size=(3, *head.mean.shape))
        draws = head.posterior.samples(head.mean, noise)
        said.append([rows @ influence_of(head, evidence).T])
        if kind != "logistic, kronecker":  # draws by eigenvectors, whose signs are anyone's
            said[-1].append(np.einsum("tcd,nd->tnc", draws, rows))
            said[-1].append(gain_of(head).of(rows))
    same(*said, 1e-6)


def test_a_hidden_layer_learns_the_same_wherever_the_vectors_lie():
    """To the rounding of float32, in which it is trained; a unit that is a power of two changes no bit."""
    case = Case("logistic, shared", 3)
    trainer = Choice(name="mlp", hidden=8, epochs=15, l2=0.1).build("update.trainer", TRAINERS)

    def probabilities(unit: float, far: float) -> np.ndarray:
        x, probes = ((one.astype(np.float32) + np.float32(far)) * np.float32(unit) for one in (case.x, case.probes))
        head = trainer.fit(TrainingData(features=x, labels=case.labels, classes=["c0", "c1", "c2"]))
        return head.probabilities(head.see(probes))

    plain = probabilities(1.0, 0.0)
    assert np.ptp(plain) > 0.3
    assert np.array_equal(probabilities(64.0, 0.0), plain)
    assert np.abs(probabilities(1.0, 8.0) - plain).max() < 0.02
