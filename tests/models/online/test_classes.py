"""A class that joins between fits: the evidence of no label depends on when, and any is taken back exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysal.config import UpdateConfig
from raysal.models.evidence import Evidence, gather_evidence
from raysal.models.head import Head
from raysal.models.online.classes import add_classes
from raysal.models.online.refit import drift, reason_to_reject
from raysal.models.online.update import curvature_at, retract, update
from raysal.models.trainers.base import TrainingData
from raysal.models.trainers.logistic import Logistic
from raysal.models.trainers.multi_label import MultiLabel

NAMES = ("c0", "c1", "c2")
STRUCTURES = ("shared", "diagonal", "kronecker", "full")


def blobs(n: int, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    which = rng.integers(3, size=n)
    centres = np.random.default_rng(99).normal(size=(3, 4))
    return centres[which] + rng.normal(size=(n, 4)) + 0.5, [NAMES[k] for k in which]


def close(a: np.ndarray, b: np.ndarray, tolerance: float = 1e-9) -> bool:
    return bool(np.abs(a - b).max() <= tolerance * np.abs(b).max())


KINDS = {
    **{name: Logistic(structure=name) for name in STRUCTURES},
    "categorical": Logistic(curvature="categorical"),
    **{f"{name}, labels": MultiLabel(structure=name) for name in STRUCTURES},
    "categorical, labels": MultiLabel(curvature="categorical"),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def of_kind(kind: str, n: int = 20, classes: tuple[str, ...] = NAMES) -> Head:
    x, y = blobs(n)
    told = [name if name in classes else classes[0] for name in y]
    return KINDS[kind].fit(TrainingData(features=x, labels=told, classes=classes, encoder="e"))


def answers_of(kind: str, n: int, known: list[str], rng: np.random.Generator) -> list:
    """Any answers there can be about these classes."""
    named = [list(rng.choice(known, size=min(len(known), 1 + rng.integers(2)), replace=False)) for _ in range(n)]
    several = ["|".join(names) if rng.random() < 0.8 else "-" for names in named]
    soft = [{name: rng.uniform(0.1, 1) for name in names} for names in named]
    return (
        several
        if "labels" in kind
        else [names[0] if rng.random() < 0.5 else s for names, s in zip(named, soft, strict=True)]
    )


@settings(max_examples=8)
@given(data=st.data(), seed=st.integers(0, 99), first=st.integers(1, 3))
@every_kind
def test_labels_come_and_go_across_classes_that_join_as_if_never_absorbed(kind, data, seed, first):
    """Whatever the order, and whichever labels go again: evidence is that of those that stay, taken at once."""
    rng = np.random.default_rng(seed)
    start = of_kind(kind, classes=NAMES[:first])
    head, kept, known = start, [], list(start.classes)
    for act in data.draw(st.lists(st.sampled_from(["add", "join", "take"]), min_size=3, max_size=9)):
        if act == "join":
            head = add_classes(head, [f"new{len(head.classes)}"])
            known = list(head.classes)
        elif act == "add":
            n = int(rng.integers(1, 4))
            told, x, m = answers_of(kind, n, known, rng), rng.normal(size=(n, 4)), rng.uniform(0.2, 3, size=n)
            head = update(head, x, told, m, ledger_seq=1)
            kept += zip(x, told, m, strict=True)
        elif kept:
            x, told, m = kept.pop(int(rng.integers(len(kept))))
            head = retract(head, x[None], [told], np.array([m]), ledger_seq=1)
    never = add_classes(start, [name for name in known if name not in start.classes])
    if kept:
        never = update(never, *as_batch(kept), ledger_seq=1)
    assert head.classes == never.classes
    assert np.array_equal(head.linearised_at, start.mean)
    assert head.labels_seen == never.labels_seen
    assert same_whole(head, never)
    # And all the way back, in another order.
    for i in rng.permutation(len(kept)):
        x, told, m = kept[i]
        head = retract(head, x[None], [told], np.array([m]), ledger_seq=1)
    assert same_whole(head, add_classes(start, known))


def as_batch(labels: list) -> tuple[np.ndarray, list, np.ndarray]:
    x, told, m = zip(*labels, strict=True)
    return np.array(x), list(told), np.array(m)


def same_whole(a: Head, b: Head, tolerance: float = 1e-9) -> bool:
    """One covariance, in every direction."""
    units = np.eye(a.mean.size).reshape(-1, *a.mean.shape)
    return close(*(np.array([head.posterior.solve(unit) for unit in units]) for head in (a, b)), tolerance)


@every_kind
def test_labels_of_the_fit_are_taken_back_after_classes_have_joined(kind):
    x, y = blobs(20)
    head, gone = of_kind(kind), [3, 11, 4]
    new = (x[:4] + 3, ["late", "c1", "later", "late"])
    late = update(add_classes(head, ["late", "later"]), *new, ledger_seq=1)
    told = [y[i] for i in gone]
    never = update(add_classes(retract(head, x[gone], told, ledger_seq=1), ["late", "later"]), *new, ledger_seq=1)
    assert same_whole(retract(late, x[gone], told, ledger_seq=2), never)


@pytest.mark.parametrize("kind", ["shared", "shared, labels"])
def test_evidence_of_a_class_that_joined_is_taken_at_one_label_of_it_beside_those_of_the_fit(kind):
    head, x = of_kind(kind), blobs(2, seed=3)[0]
    wide = add_classes(head, ["late", "later"])
    p = curvature_at(wide, evidence_of(wide, x, ["late", "c1"])).responses
    before = curvature_at(head, evidence_of(head, x, ["c0", "c1"])).responses
    assert close(p[0, 3], np.array(1 / 22))  # 20 labels were fitted
    assert close(p[0, :3], before[0] * (1 if "labels" in kind else 21 / 22))
    assert np.array_equal(p[1, :3], before[1])
    assert p[0, 4] == p[1, 3] == p[1, 4] == 0


def evidence_of(head: Head, x: np.ndarray, y: list) -> Evidence:
    return gather_evidence(x, y, None, head.classes, head.likelihood)


@every_kind
def test_a_label_of_a_class_that_joined_makes_its_output_surer_and_another_does_not(kind):
    head, x = add_classes(of_kind(kind), ["late", "later"]), blobs(1, seed=3)[0]
    outputs = head.posterior.variance().combine.shape[0]
    if outputs == 1:  # one variance for all
        return
    named, other = (update(head, x, [name], ledger_seq=1).variance(x)[0] for name in ("late", "c0"))
    before = head.variance(x)[0]
    assert named[3] < 0.99 * before[3]
    assert named[4] == pytest.approx(before[4], rel=1e-12) == pytest.approx(other[4], rel=1e-12)
    assert other[3] == pytest.approx(before[3], rel=1e-12)


def test_a_class_that_joined_is_no_drift_and_no_reason_to_distrust_until_it_is_worse_than_it_was():
    (x, y), config = blobs(30), UpdateConfig(mode="laplace", retrain_drift=1.5)
    far = np.random.default_rng(1).normal(size=(6, 4)) + 5
    head = Logistic().fit(TrainingData(features=x, labels=y, classes=NAMES, encoder="e"))
    wide = add_classes(head, ["later"])
    assert drift(wide) == 0
    seen = evidence_of(wide, np.vstack([x, far]), y + ["later"] * 6)
    assert reason_to_reject(wide, seen, config) is None
    moved = update(wide, far, ["later"] * 6, ledger_seq=1, passes=8, seen=seen)
    assert drift(moved) > 0
    assert reason_to_reject(moved, seen, config) is None
    wrong = replace(wide, mean=np.vstack([wide.mean[:3], -10 * np.ones((1, 5))]))
    assert drift(wrong) == 0
    assert "penalised loss" in (reason_to_reject(wrong, seen, config) or "")
