"""The penalty by held-out labels, against a loop over penalties and folds whose fits are scikit-learn's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_update import BIAS_PRIOR, frame_reference
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LogisticRegression
from tiers import deep, one_of_each

from raysal.models import penalty
from raysal.models.evidence import Evidence, gather_evidence
from raysal.models.frame import Frame
from raysal.models.head import Head
from raysal.models.likelihood import SIGMOID, SOFTMAX
from raysal.models.optim.lbfgs import Design
from raysal.models.optim.quasi_newton import Objective
from raysal.models.penalty import Prior, choose_penalty, vertex
from raysal.models.trainers.base import Context, TrainingData
from raysal.models.trainers.logistic import GRID, Logistic, assign_folds
from raysal.models.trainers.multi_label import MultiLabel

Labelled = tuple[np.ndarray, list[str]]


def prior_cost(l2: float, decades: float) -> float:
    """What a penalty costs by the prior around 10^-0.25, in nats."""
    return 0.5 * ((math.log10(l2) + 0.25) / decades) ** 2


def slow_decades(targets: np.ndarray, weights: np.ndarray, several: bool = False) -> float:
    """The share of labels without the most common answer, a mean over labels where there are several; 0.2 at least."""
    counts = [sum(m * row[c] for row, m in zip(targets, weights, strict=True)) for c in range(targets.shape[1])]
    total = sum(weights)
    if several:
        return max(sum(min(count, total - count) for count in counts) / total / len(counts), 0.2)
    return max((total - max(counts)) / total, 0.2)


def prior_for(evidence: Evidence) -> Prior:
    """What the code under test makes of the labels of a class each; for tests that are about what comes after."""
    targets, weights = (torch.from_numpy(array) for array in (evidence.targets, evidence.weights))
    return Prior.of(SOFTMAX, targets, weights)


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


def wide_ones_say_it() -> Labelled:
    """Three wide features that tell classes apart, and twelve narrow ones that do not."""
    x, labels = blobs(45, 3, 3, apart=2.0)
    return np.hstack([3 * x, 0.3 * np.random.default_rng(4).normal(size=(45, 12))]), labels


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
    "wide ones say it": wide_ones_say_it,
    "tags": tags,
}
every_set = pytest.mark.parametrize("name", SETS)
every_set_weighted_or_not = pytest.mark.parametrize(("name", "weighted"), one_of_each(product(SETS, [False, True])))


@cache
def labelled(name: str, weighted: bool) -> tuple[np.ndarray, list[str], np.ndarray, Evidence]:
    """Features, labels and weights of a set, and the same as evidence."""
    x, labels = SETS[name]()
    weights = np.random.default_rng(3).uniform(0.2, 3, size=len(x)) if weighted else np.ones(len(x))
    likelihood = SIGMOID if name == "tags" else SOFTMAX
    return x, labels, weights, gather_evidence(x, labels, weights, names_of(labels), likelihood)


def fitted_head(x: np.ndarray, labels: list[str], weights=None, *, several: bool = False, **fields: Any) -> Head:
    trainer = (MultiLabel if several else Logistic)(**fields)
    return trainer.fit(TrainingData(features=x, labels=labels, weights=weights, classes=names_of(labels)))


def chosen(x: np.ndarray, labels: list[str], weights=None, *, several: bool = False, **fields: Any) -> float:
    """The penalty that the trainer chooses."""
    return fitted_head(x, labels, weights, several=several, **fields).prior


def fitted(columns: np.ndarray, answers: np.ndarray, weights: np.ndarray, strength: float) -> LogisticRegression:
    known = LogisticRegression(C=strength, fit_intercept=False, solver="newton-cg", tol=1e-8, max_iter=5000)
    return known.fit(columns, answers, sample_weight=weights)


@cache
def slow_scores(name: str, weighted: bool, tried: tuple[float, ...], standardised: bool = False) -> list[float]:
    """For each penalty the summed loss of every label under a fit without its fold, and what the prior costs.

    The frame is that of all labels; the bias is the weight of a column that gives it the prior 0.1.
    """
    x, _, weights, evidence = labelled(name, weighted)
    z = (np.column_stack([x, np.ones(len(x))]) @ frame_reference(x, weights, 1.0, 1.0, standardised=standardised).T)[
        :, :-1
    ]
    several, targets = name == "tags", evidence.targets
    decades = slow_decades(targets, weights, several)
    fold_of = assign_folds((SIGMOID if several else SOFTMAX).groups(targets), 5, seed=0)
    scores = []
    for l2 in tried:
        total = prior_cost(l2, decades)
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
            outputs = known.decision_function(out[0])
            if outputs.ndim == 1:
                outputs = np.column_stack([np.zeros(len(outputs)), outputs])
            said = outputs - np.logaddexp.reduce(outputs, axis=1)[:, None]  # scikit-learn's own may be log 0
            total -= out[1] @ said[np.arange(len(said)), np.searchsorted(known.classes_, named[held])]
        scores.append(float(total))
    return scores


def slow_choice(name: str, weighted: bool) -> tuple[float, bool]:
    """The penalty, and whether features are standardised: if they are unlike, and a score is lower by a nat so."""
    x, _, weights, _ = labelled(name, weighted)
    penalty, score = slow_walk(name, weighted, False)
    variances = [weights @ (column - weights @ column / weights.sum()) ** 2 for column in x.T]
    equal = sum(variances) ** 2 / sum(one**2 for one in variances)
    if equal >= 0.5 * sum(one > 1e-20 * max(variances) for one in variances):
        return penalty, False
    other, lower = slow_walk(name, weighted, True)
    return (other, True) if lower < score - 1 else (penalty, False)


def slow_walk(name: str, weighted: bool, standardised: bool) -> tuple[float, float]:
    """Where a walk downhill from the usual one ends: of the parabola there the vertex, and the score that was tried."""
    tried = tuple(sorted(GRID))
    scores = slow_scores(name, weighted, tried, standardised)
    best = min(range(len(tried)), key=lambda place: abs(math.log10(tried[place]) + 0.25))
    for step in (-1, 1):
        while 0 <= best + step < len(tried) and scores[best + step] < scores[best]:
            best += step
    assert 0 < best < len(tried) - 1
    around = slice(best - 1, best + 2)
    a, b, _ = np.polyfit(np.log10(tried[around]), scores[around], 2)
    return float(10 ** (-b / (2 * a))), scores[best]


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits of the choice that are as exact as those of the head, on all coordinates."""
    monkeypatch.setattr(penalty, "COARSE", 1e-9)
    monkeypatch.setattr(penalty, "STEPS", 5000)
    monkeypatch.setattr(penalty, "COORDINATES", 10**6)


@every_set_weighted_or_not
@deep
def test_with_exact_fits_it_is_the_choice_of_the_loop(name, weighted, exact):
    x, labels, weights, _ = labelled(name, weighted)
    got = fitted_head(x, labels, weights, several=name == "tags")
    wanted, standardised = slow_choice(name, weighted)
    assert got.prior == pytest.approx(wanted, rel=2e-3)
    assert (np.ptp(got.frame.size) > 0) == standardised


def test_among_the_sets_are_some_whose_features_are_standardised_and_some_that_are_unlike_and_are_not():
    standardised = {name for name in SETS if slow_choice(name, False)[1]}
    assert standardised == {"breast cancer"}
    unlike = {name for name in SETS if not Frame.isotropic(labelled(name, False)[3]).alike(labelled(name, False)[3])}
    assert unlike == standardised | {"wide ones say it"}


@every_set_weighted_or_not
def test_coarse_fits_choose_nearly_the_same_and_lose_next_to_nothing(name, weighted):
    x, labels, weights, _ = labelled(name, weighted)
    got = fitted_head(x, labels, weights, several=name == "tags")
    wanted, standardised = slow_choice(name, weighted)
    assert (np.ptp(got.frame.size) > 0) == standardised
    # Few labels of ten classes: the prior is wide, the weak penalties alike, and the fits of some end early.
    least, most, loss = (0.5, 1.5, 6e-3) if name == "digits" else (0.75, 1.35, 1e-3)
    assert least < got.prior / wanted < most
    scores = slow_scores(name, weighted, (got.prior, wanted), standardised)
    assert scores[0] - scores[1] < loss * weights.sum()  # nats


def problem_of(x: np.ndarray, labels: list[str]) -> tuple[Design, np.ndarray]:
    """The labels in their frame, and the fold of each."""
    evidence = gather_evidence(x, labels, None, names_of(labels))
    return Design(Frame.isotropic(evidence).evidence(evidence)), assign_folds(
        SOFTMAX.groups(evidence.targets), 5, seed=0
    )


def chosen_of(design: Design, fold_of: np.ndarray, prior: Prior, tried: Sequence[float] = GRID) -> float:
    return choose_penalty(design, fold_of, tried, BIAS_PRIOR, SOFTMAX, prior).penalty


@pytest.mark.parametrize("lonely", [1, 2])
def test_classes_that_some_fits_have_no_label_of_cost_what_such_fits_say_of_them(lonely, exact):
    """Against one fit for every fold and penalty: scikit-learn knows no class without labels."""
    x, labels = blobs(30, 6, 2)
    labels = ["alone"] + ["rare"] * lonely + labels[1 + lonely :]
    design, fold_of = problem_of(x, labels)
    evidence = gather_evidence(x, labels, None, names_of(labels))
    inside = Frame.isotropic(evidence).evidence(evidence)
    tried = tuple(sorted(GRID)[3:9])
    scores = []
    for l2 in tried:
        total, constant = prior_cost(l2, 0.3), math.sqrt(l2 / BIAS_PRIOR)
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
    assert chosen_of(design, fold_of, Prior(0.3), tried) == pytest.approx(10 ** (-b / (2 * a)), rel=1e-3)


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


def with_a_prior_of(decades: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Prior, "of", lambda *labels: Prior(decades))


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
    with_a_prior_of(1e6, monkeypatch)
    assert max(distances()) > 3  # six labels say anything


@settings(max_examples=60)
@given(data=st.data(), classes=st.integers(1, 6), n=st.integers(1, 30), several=st.booleans())
def test_the_prior_is_as_wide_as_answers_are_even(data, classes, n, several):
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    shares = rng.dirichlet(np.full(classes, 0.3))
    if several:
        targets = (rng.random((n, classes)) < shares * data.draw(st.sampled_from([0.5, 1.0, 3.0]))).astype(float)
    else:
        targets = np.eye(classes)[rng.choice(classes, p=shares, size=n)]
    if data.draw(st.booleans()):  # votes, which are shares of answers
        targets = 0.7 * targets + 0.3 * targets[::-1]
    weights = rng.uniform(0.1, 5, size=n)
    prior = Prior.of(SIGMOID if several else SOFTMAX, torch.from_numpy(targets), torch.from_numpy(weights))
    assert prior.decades == pytest.approx(slow_decades(targets, weights, several), rel=1e-12)
    assert prior.usual == 10**-0.25
    assert 0.2 <= prior.decades <= 1
    for l2 in GRID:
        assert prior.cost(math.log10(l2)) == pytest.approx(prior_cost(l2, prior.decades), rel=1e-12)


@pytest.mark.parametrize(
    ("counts", "decades"),
    [([50, 50], 0.5), ([90, 10], 0.2), ([70, 30], 0.3), ([10] * 10, 0.9), ([600, 200, 200], 0.4), ([7], 0.2)],
)
def test_the_width_of_the_prior_is_the_share_of_the_less_common_answers(counts, decades):
    targets = torch.from_numpy(np.repeat(np.eye(len(counts)), counts, axis=0))
    ones, weights = torch.ones(sum(counts), dtype=torch.float64), torch.tensor(counts, dtype=torch.float64)
    assert Prior.of(SOFTMAX, targets, ones).decades == pytest.approx(decades, rel=1e-9)
    # And so it is of one label each, of these weights.
    one_each = torch.eye(len(counts), dtype=torch.float64)
    assert Prior.of(SOFTMAX, one_each, weights).decades == pytest.approx(decades, rel=1e-9)


@pytest.mark.parametrize(
    ("named", "decades"),
    [([50, 50], 0.5), ([50, 10], 0.3), ([90, 50], 0.3), ([100, 100], 0.2), ([0, 0], 0.2), ([60, 60, 0], 0.8 / 3)],
)
def test_with_several_labels_it_is_the_mean_of_the_smaller_shares(named, decades):
    """So many of 100 items have each label: none and all say equally little."""
    targets = torch.from_numpy((np.arange(100)[:, None] < named).astype(float))
    prior = Prior.of(SIGMOID, targets, torch.ones(100, dtype=torch.float64))
    assert prior.decades == pytest.approx(decades, rel=1e-9)


def test_the_trainer_takes_the_prior_of_the_labels_and_their_weights(monkeypatch):
    """Five labels of each of two answers are even, unless those of the one weigh nine times as much."""
    x, labels = np.random.default_rng(1).normal(size=(10, 4)), ["a"] * 5 + ["b"] * 5
    for several in (False, True):
        for weights, decades in ((None, 0.5), (np.repeat([9.0, 1.0], 5), 0.2)):
            plain = chosen(x, labels, weights, several=several)
            with monkeypatch.context() as patch:
                with_a_prior_of(decades, patch)
                assert chosen(x, labels, weights, several=several) == plain
                with_a_prior_of(0.35, patch)
                assert chosen(x, labels, weights, several=several) != plain


def test_a_rare_class_keeps_the_penalty_near_the_usual_one(monkeypatch):
    """300 labels, 8 of them of the class, which is easy: the held-out loss would have the penalty weak."""
    found = []
    for seed in range(3):
        x = np.random.default_rng(seed).normal(size=(300, 20))
        x[:8, :4] += 2.5
        labels = ["rare"] * 8 + ["usual"] * 292
        with monkeypatch.context() as patch:
            near = chosen(x, labels)
            with_a_prior_of(0.5, patch)
            found.append((near, chosen(x, labels)))
    assert min(near for near, _ in found) > 0.25
    assert max(far for _, far in found) < 0.15


def test_300_labels_of_two_even_answers_move_it_by_decades(monkeypatch):
    """Up where features say nothing, and down where a plane parts the answers."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        x, noise = rng.normal(size=(300, 8)), rng.normal(size=(300, 20))
        parted = [f"c{int(side)}" for side in x @ rng.normal(size=8) > 0]
        weak, strong = chosen(x, parted), chosen(noise, parted)
        assert weak < 0.02
        assert strong > 100 * weak
        with monkeypatch.context() as patch:
            with_a_prior_of(0.2, patch)
            assert chosen(x, parted) > 0.05


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
    inside = Frame.isotropic(evidence).evidence(evidence)
    fold_of = np.append(assign_folds(evidence.targets[:45].argmax(axis=1), 5, seed=0), np.full(40, -1))
    wanted = chosen_of(Design(inside), fold_of, prior_for(evidence.take(np.arange(45))))
    assert prior(rounds) == pytest.approx(wanted, rel=1e-9)
    assert prior(None) == prior(
        np.full(85, 7)
    )  # the first round there is judges, where nobody told labels of their own
    assert prior(rounds) != pytest.approx(prior(None), rel=0.05)


def test_the_prior_is_that_of_the_labels_that_judge(exact):
    """Those of the first round, nearly all of one answer, and not those that a later round asked for."""
    x, labels = blobs(90, 10, 2, seed=5)
    order = np.argsort(labels, kind="stable")
    judges, later = np.append(order[:38], order[45:52]), np.append(order[38:45], order[52:])
    rows, first = np.append(judges, later), np.arange(45)
    x, labels = x[rows], [labels[row] for row in rows]
    data = TrainingData(
        features=x, labels=labels, classes=names_of(labels), context=Context(rounds=np.repeat([0, 1], 45))
    )
    evidence = gather_evidence(x, labels, None, names_of(labels))
    own, fold_of = prior_for(evidence.take(first)), np.full(90, -1)
    fold_of[:45] = assign_folds(evidence.targets[first].argmax(axis=1), 5, seed=0)
    assert (own.decades, prior_for(evidence).decades) == (0.2, 0.5)
    design = Design(Frame.isotropic(evidence).evidence(evidence))
    got = Logistic().fit(data).prior
    assert got == pytest.approx(chosen_of(design, fold_of, own), rel=1e-9)
    assert got != pytest.approx(chosen_of(design, fold_of, prior_for(evidence)), rel=0.05)


def test_with_many_labels_fewer_folds_judge_and_stand_for_all(exact):
    """With 400 labels three of the five folds judge: 200 labels are enough."""
    x, y = load_digits(return_X_y=True)
    some, names = x[:400], [str(label) for label in y[:400]]
    evidence = gather_evidence(some, names, None, names_of(names))
    inside = Frame.isotropic(evidence).evidence(evidence)
    fold_of = assign_folds(evidence.targets.argmax(axis=1), 5, seed=0)
    fold_of[fold_of >= 3] = -1
    prior = prior_for(evidence)
    wanted = choose_penalty(Design(inside), fold_of, GRID, BIAS_PRIOR, SOFTMAX, prior, share=3 / 5).penalty
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
