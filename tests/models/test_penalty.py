"""The penalty by held-out labels, against a loop over penalties and folds whose fits are scikit-learn's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_update import BIAS_PRIOR
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LogisticRegression

from raysal.models import penalty
from raysal.models.evidence import Evidence, gather_evidence
from raysal.models.frame import Frame
from raysal.models.likelihood import SIGMOID, SOFTMAX
from raysal.models.optim.lbfgs import Design
from raysal.models.optim.quasi_newton import Objective
from raysal.models.penalty import Prior, choose_penalty, vertex
from raysal.models.trainers.base import Context, TrainingData
from raysal.models.trainers.logistic import GRID, Logistic, assign_folds
from raysal.models.trainers.multi_label import MultiLabel

Labelled = tuple[np.ndarray, list[str]]


def prior_cost(l2: float, outputs: int, several: bool = False) -> float:
    """What a penalty costs before any label, in nats: around 10^-0.25 for two answers, 10^-0.5 and wider for more."""
    middle, decades = (-0.5, 0.5) if outputs > 2 and not several else (-0.25, 0.2)
    return 0.5 * ((math.log10(l2) - middle) / decades) ** 2


def names_of(labels: list[str]) -> list[str]:
    return sorted({part for label in labels for part in label.split("|")} - {"-"})


def blobs(n: int, d: int, classes: int, seed: int = 0, apart: float = 1.0) -> Labelled:
    rng = np.random.default_rng(seed)
    which = np.arange(n) % classes
    return apart * rng.normal(size=(classes, d))[which] + rng.normal(size=(n, d)) + 2, [f"c{k}" for k in which]


def some_of(loaded: Any, n: int, seed: int = 0) -> Labelled:
    """n items of a set, at least two of every class among them."""
    x, y = loaded
    order = np.random.default_rng(seed).permutation(len(x))
    first = np.concatenate([order[y[order] == c][:2] for c in np.unique(y)])
    rows = np.append(first, np.setdiff1d(order, first, assume_unique=True)[: n - len(first)])
    return x[rows], [str(label) for label in y[rows]]


def rare(n: int = 120, positives: int = 6) -> Labelled:
    """Unit vectors, few of them of the class that is sought."""
    x, _ = blobs(n, 20, 1)
    x[:positives, :3] += 2
    return x / np.linalg.norm(x, axis=1, keepdims=True), ["rare"] * positives + ["usual"] * (n - positives)


def tags() -> Labelled:
    """Several labels, or none, for each item."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(50, 6)) + 1
    has = x @ rng.normal(size=(6, 3)) + rng.normal(size=(50, 3)) > 1
    return x, ["|".join(np.array(["a", "b", "c"])[row]) or "-" for row in has]


SETS = {
    "blobs": lambda: blobs(45, 10, 3, seed=5),
    "apart": lambda: blobs(40, 6, 4, apart=5.0),
    "fewer items than features": lambda: blobs(30, 60, 3),
    "digits": lambda: some_of(load_digits(return_X_y=True), 60),
    "more digits": lambda: some_of(load_digits(return_X_y=True), 100, seed=2),
    "breast cancer": lambda: some_of(load_breast_cancer(return_X_y=True), 80),
    "rare": rare,
    "tags": tags,
}
every_set = pytest.mark.parametrize("name", SETS)
weighted_or_not = pytest.mark.parametrize("weighted", [False, True])


@cache
def labelled(name: str, weighted: bool) -> tuple[np.ndarray, list[str], np.ndarray, Evidence]:
    """Features, labels and weights of a set, and the same as evidence."""
    x, labels = SETS[name]()
    weights = np.random.default_rng(3).uniform(0.2, 3, size=len(x)) if weighted else np.ones(len(x))
    likelihood = SIGMOID if name == "tags" else SOFTMAX
    return x, labels, weights, gather_evidence(x, labels, weights, names_of(labels), likelihood)


def chosen(x: np.ndarray, labels: list[str], weights=None, *, several: bool = False, **fields: Any) -> float:
    """The penalty that the trainer chooses."""
    trainer = (MultiLabel if several else Logistic)(**fields)
    data = TrainingData(features=x, labels=labels, weights=weights, classes=names_of(labels))
    return trainer.fit(data).prior


def fitted(columns: np.ndarray, answers: np.ndarray, weights: np.ndarray, strength: float) -> LogisticRegression:
    known = LogisticRegression(C=strength, fit_intercept=False, solver="newton-cg", tol=1e-8, max_iter=5000)
    return known.fit(columns, answers, sample_weight=weights)


@cache
def slow_scores(name: str, weighted: bool, tried: tuple[float, ...]) -> list[float]:
    """For each penalty the summed loss of every label under a fit without its fold, and what the prior costs.

    Features are centred and scaled by all labels; the bias is the weight of a column that gives it the prior 0.1.
    """
    x, _, weights, evidence = labelled(name, weighted)
    shares = weights / weights.sum()
    z = x - shares @ x
    z = z / math.sqrt(float(shares @ (z**2).sum(axis=1)))
    several, targets = name == "tags", evidence.targets
    fold_of = assign_folds((SIGMOID if several else SOFTMAX).groups(targets), 5, seed=0)
    scores = []
    for l2 in tried:
        total = prior_cost(l2, targets.shape[1], several)
        columns = np.column_stack([z, np.full(len(z), math.sqrt(l2 / BIAS_PRIOR))])
        for fold in range(5):
            held = fold_of == fold
            kept, out = (columns[~held], weights[~held]), (columns[held], weights[held])
            if several:
                for answers in targets.T:
                    outputs = fitted(kept[0], answers[~held], kept[1], 1 / l2).decision_function(out[0])
                    total += out[1] @ (np.logaddexp(0.0, outputs) - answers[held] * outputs)
                continue
            # Of two classes scikit-learn has one vector of weights, the difference, which costs half as much.
            named = targets.argmax(axis=1)
            known = fitted(kept[0], named[~held], kept[1], (2 if targets.shape[1] == 2 else 1) / l2)
            said = known.predict_log_proba(out[0])
            total -= out[1] @ said[np.arange(len(said)), np.searchsorted(known.classes_, named[held])]
        scores.append(float(total))
    return scores


def slow_choice(name: str, weighted: bool) -> float:
    """Where a walk downhill from the usual one ends, and of the parabola through the three scores there the vertex."""
    tried = tuple(sorted(GRID))
    scores, outputs = slow_scores(name, weighted, tried), labelled(name, weighted)[3].targets.shape[1]
    best = min(range(len(tried)), key=lambda place: prior_cost(tried[place], outputs, name == "tags"))
    for step in (-1, 1):
        while 0 <= best + step < len(tried) and scores[best + step] < scores[best]:
            best += step
    assert 0 < best < len(tried) - 1
    around = slice(best - 1, best + 2)
    a, b, _ = np.polyfit(np.log10(tried[around]), scores[around], 2)
    return float(10 ** (-b / (2 * a)))


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits of the choice that are as exact as those of the head, on all coordinates."""
    monkeypatch.setattr(penalty, "COARSE", 1e-9)
    monkeypatch.setattr(penalty, "STEPS", 5000)
    monkeypatch.setattr(penalty, "COORDINATES", 10**6)


@every_set
@weighted_or_not
def test_with_exact_fits_it_is_the_choice_of_the_loop(name, weighted, exact):
    x, labels, weights, _ = labelled(name, weighted)
    got = chosen(x, labels, weights, several=name == "tags")
    assert got == pytest.approx(slow_choice(name, weighted), rel=2e-3)


@every_set
@weighted_or_not
def test_coarse_fits_choose_nearly_the_same_and_lose_next_to_nothing(name, weighted):
    x, labels, weights, _ = labelled(name, weighted)
    got, wanted = chosen(x, labels, weights, several=name == "tags"), slow_choice(name, weighted)
    assert 0.75 < got / wanted < 1.35
    scores = slow_scores(name, weighted, (got, wanted))
    assert scores[0] - scores[1] < 1e-3 * weights.sum()  # nats


def problem_of(x: np.ndarray, labels: list[str]) -> tuple[Design, np.ndarray]:
    """The labels in their frame, and the fold of each."""
    evidence = gather_evidence(x, labels, None, names_of(labels))
    return Design(Frame.of(evidence).evidence(evidence)), assign_folds(SOFTMAX.groups(evidence.targets), 5, seed=0)


def chosen_of(design: Design, fold_of: np.ndarray, tried: Sequence[float] = GRID) -> float:
    return choose_penalty(design, fold_of, tried, BIAS_PRIOR, SOFTMAX).penalty


@pytest.mark.parametrize("lonely", [1, 2])
def test_classes_that_some_fits_have_no_label_of_cost_what_such_fits_say_of_them(lonely, exact):
    """Against one fit for every fold and penalty: scikit-learn knows no class without labels."""
    x, labels = blobs(30, 6, 2)
    labels = ["alone"] + ["rare"] * lonely + labels[1 + lonely :]
    design, fold_of = problem_of(x, labels)
    evidence = gather_evidence(x, labels, None, names_of(labels))
    inside = Frame.of(evidence).evidence(evidence)
    tried = tuple(sorted(GRID)[3:9])
    scores = []
    for l2 in tried:
        total, constant = prior_cost(l2, 4), math.sqrt(l2 / BIAS_PRIOR)
        for fold in range(5):
            held = fold_of == fold
            weights = np.where(held, 0.0, 1.0)
            found = design.solve(l2, constant, max_iter=5000, tol=1e-10, weights=weights)
            outputs = np.column_stack([inside.features, np.full(30, constant)])[held] @ found.T
            total += SOFTMAX.total_loss(outputs, evidence.targets[held], np.ones(int(held.sum())))
        scores.append(total)
    best = int(np.argmin(scores))
    assert 0 < best < len(tried) - 1
    a, b, _ = np.polyfit(np.log10(tried[best - 1 : best + 2]), scores[best - 1 : best + 2], 2)
    assert chosen_of(design, fold_of, tried) == pytest.approx(10 ** (-b / (2 * a)), rel=1e-3)


# -- what does not change it ------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    name=st.sampled_from(["blobs", "fewer items than features", "digits", "rare", "tags"]),
    unit=st.floats(-6, 6),
    far=st.sampled_from([0.0, 1.0, 30.0, 1e3]),
    seed=st.integers(0, 99),
)
def test_neither_origin_nor_unit_changes_it(name, unit, far, seed):
    x, labels, _, _ = labelled(name, False)
    spread = math.sqrt(((x - x.mean(axis=0)) ** 2).sum() / len(x))
    away = np.random.default_rng(seed).normal(size=x.shape[1])
    moved = (x + far * spread * away / np.linalg.norm(away)) * 10**unit
    several = name == "tags"
    assert chosen(moved, labels, several=several) == pytest.approx(chosen(x, labels, several=several), rel=1e-7)


@pytest.mark.parametrize("name", ["blobs", "digits", "rare"])
def test_the_order_of_the_penalties_does_not_matter_nor_one_that_is_named_twice(name):
    x, labels, _, _ = labelled(name, False)
    wanted = chosen(x, labels)
    for grid in (GRID[::-1], tuple(np.random.default_rng(0).permutation(GRID).tolist()), GRID + GRID[3:6]):
        assert chosen(x, labels, grid=grid) == wanted


@pytest.mark.parametrize("name", ["blobs", "digits", "tags"])
@pytest.mark.parametrize("at_once", [1, 3])
def test_how_many_folds_are_fitted_at_once_does_not_matter(name, at_once, exact, monkeypatch):
    x, labels, _, evidence = labelled(name, False)
    several = name == "tags"
    wanted = chosen(x, labels, several=several)
    monkeypatch.setattr(penalty, "LARGEST", at_once * evidence.targets.size)
    assert chosen(x, labels, several=several) == pytest.approx(wanted, rel=1e-4)


def test_the_head_is_that_of_the_penalty_wherever_its_fit_began():
    x, labels, _, _ = labelled("digits", False)
    data = TrainingData(features=x, labels=labels, classes=names_of(labels))
    found = Logistic(tol=1e-9, max_iter=5000).fit(data)
    given_it = Logistic(tol=1e-9, max_iter=5000, l2=found.prior).fit(data)
    assert np.abs(found.probabilities(x) - given_it.probabilities(x)).max() < 1e-6


@pytest.mark.parametrize("name", ["digits", "rare", "fewer items than features"])
def test_the_fit_of_all_labels_begins_near_its_end(name):
    """At the mean of the folds, which each lack a fifth of the labels."""
    _, _, _, evidence = labelled(name, False)
    trainer = Logistic(tol=1e-9, max_iter=5000)
    problem = trainer.problem(evidence, seed=0)
    objective, rows = Objective(SOFTMAX, problem.evidence, problem.prior), problem.evidence.rows
    zero, start, end = (
        objective.value(weights, rows @ weights.T)
        for weights in (np.zeros_like(problem.start), problem.start, trainer.solution(problem))
    )
    assert end <= start < end + 0.1 * (zero - end)


# -- what does --------------------------------------------------------------------------------------------------------


def test_few_labels_leave_it_near_the_usual_one(monkeypatch):
    def distances() -> list[float]:
        """In decades, of six labels that have nothing to do with the features."""
        found = []
        for seed in range(6):
            rng = np.random.default_rng(seed)
            labels = [f"c{k}" for k in rng.permutation(np.arange(6) % 2)]
            found.append(abs(math.log10(chosen(rng.normal(size=(6, 5)), labels)) + 0.25))
        return found

    assert max(distances()) < 0.5
    monkeypatch.setattr(penalty, "TWO_ANSWERS", Prior(1.0, 1e6))
    assert max(distances()) > 3  # six labels say anything


def test_many_labels_overrule_it_and_noise_asks_for_a_stronger_one_than_a_clear_case():
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(200, 40))
    labels = [f"c{k}" for k in rng.integers(2, size=200)]
    clear = noise.copy()
    clear[:, :3] += np.array([3.0 if label == "c1" else -3.0 for label in labels])[:, None]
    assert chosen(noise, labels) > 0.7
    assert chosen(clear, labels) < 0.4


def test_labels_of_one_class_leave_the_penalty_that_is_nearest_to_the_usual_one():
    x = np.random.default_rng(0).normal(size=(12, 3))
    for several, label in ((False, "only"), (True, "-"), (True, "a|b")):
        fit = {"several": several}
        if label == "-":
            data = TrainingData(features=x, labels=["-"] * 12, classes=["a", "b"])
            assert MultiLabel().fit(data).prior == 1.0
            continue
        assert chosen(x, [label] * 12, **fit) == 1.0
        assert chosen(x, [label] * 12, grid=(10.0, 0.2, 1e-4), **fit) == 0.2
        assert chosen(x[:1], [label], **fit) == 1.0


def test_of_two_answers_labels_that_a_later_round_asked_for_train_and_do_not_judge(exact):
    """They may say anything of the penalty: here they are names at random."""
    x, labels = blobs(45, 10, 2, seed=5)
    rng = np.random.default_rng(0)
    more, names = rng.normal(size=(40, 10)) + 2, [f"c{k}" for k in rng.integers(2, size=40)]
    rounds = np.repeat([-1, 0, 1, 4], [5, 40, 30, 10])

    def prior(asked: np.ndarray | None) -> float:
        data = TrainingData(
            features=np.vstack([x, more]),
            labels=labels + names,
            classes=names_of(labels),
            context=Context(rounds=asked),
        )
        return Logistic().fit(data).prior

    everything = np.vstack([x, more])
    evidence = gather_evidence(everything, labels + names, None, names_of(labels))
    inside = Frame.of(evidence).evidence(evidence)
    fold_of = np.append(assign_folds(evidence.targets[:45].argmax(axis=1), 5, seed=0), np.full(40, -1))
    wanted = choose_penalty(Design(inside), fold_of, GRID, BIAS_PRIOR, SOFTMAX).penalty
    assert prior(rounds) == pytest.approx(wanted, rel=1e-9)
    assert prior(None) == prior(
        np.full(85, 7)
    )  # the first round there is judges, where nobody told labels of their own
    assert prior(rounds) != pytest.approx(prior(None), rel=0.05)


def test_with_many_labels_fewer_folds_judge_and_stand_for_all(exact):
    """With 400 labels three of the five folds judge: 200 labels are enough."""
    x, y = load_digits(return_X_y=True)
    some, names = x[:400], [str(label) for label in y[:400]]
    evidence = gather_evidence(some, names, None, names_of(names))
    inside = Frame.of(evidence).evidence(evidence)
    fold_of = assign_folds(evidence.targets.argmax(axis=1), 5, seed=0)
    fold_of[fold_of >= 3] = -1
    wanted = choose_penalty(Design(inside), fold_of, GRID, BIAS_PRIOR, SOFTMAX, share=3 / 5).penalty
    assert chosen(some, names) == pytest.approx(wanted, rel=1e-9)


@settings(max_examples=30)
@given(
    grid=st.lists(st.floats(1e-5, 1e3), min_size=1, max_size=5),
    n=st.integers(2, 14),
    seed=st.integers(0, 99),
)
def test_it_is_within_those_that_were_tried(grid, n, seed):
    rng = np.random.default_rng(seed)
    labels = [f"c{k}" for k in np.arange(n) % 3]
    got = chosen(rng.normal(size=(n, 4)), labels, grid=tuple(grid))
    assert min(grid) <= got <= max(grid)


@pytest.mark.parametrize("n", [2, 3, 4, 6])
def test_fewer_items_than_folds_are_no_trouble(n):
    x = np.random.default_rng(0).normal(size=(n, 3))
    assert GRID[-1] <= chosen(x, [f"c{k}" for k in range(n)]) <= GRID[0]
    assert GRID[-1] <= chosen(x, ["a", "b"] + ["a"] * (n - 2)) <= GRID[0]


@settings(max_examples=50)
@given(
    places=st.lists(st.floats(-5, 5), min_size=3, max_size=3, unique=True),
    at=st.floats(0.01, 0.99),
    bend=st.floats(1e-3, 1e3),
)
def test_the_vertex_is_that_of_the_parabola(places, at, bend):
    left, middle, right = sorted(places)
    if min(middle - left, right - middle) < 1e-2:
        return
    least = (left + middle) / 2 + at * ((middle + right) / 2 - (left + middle) / 2)  # then the middle one is lowest
    scores = [7 + bend * (place - least) ** 2 for place in (left, middle, right)]
    assert vertex(np.array([left, middle, right]), scores) == pytest.approx(least, abs=1e-6)
    assert vertex(np.array([left, middle, right]), [1.0, 1.0, 1.0]) == middle
