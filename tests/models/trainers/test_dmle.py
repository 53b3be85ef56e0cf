from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from frames import matrix_of
from reference_update import BIAS_PRIOR, frame_reference

from raysal.config import choice
from raysal.errors import ConfigError, LabelError
from raysal.models.evidence import gather_evidence
from raysal.models.frame import Frame
from raysal.models.head import Head
from raysal.models.online.update import update
from raysal.models.trainers import TRAINERS
from raysal.models.trainers.base import Context, TrainingData
from raysal.models.trainers.dmle import SCORE_OF, CorrectedLoss, DependencyAware
from raysal.models.trainers.logistic import Logistic
from raysal.models.trainers.pseudo_labels import summed_loss

RECORD = {"encoder": "e", "version": 0, "ledger_seq": 0, "seed": 0}
CLASSES = ["c0", "c1", "c2"]


def data(n: int = 36, d: int = 4, seed: int = 1) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Features, labels, and the rounds that asked for them: the first six were nobody's choice."""
    rng = np.random.default_rng(seed)
    which = np.arange(n) % 3
    features = rng.normal(size=(3, d))[which] + rng.normal(size=(n, d)) + 0.5
    return features, [CLASSES[k] for k in which], np.maximum(np.arange(n) // 6 - 1, -1)


def fit(features, labels, weights=None, rounds=None, unlabelled=None, previous=None, **fields) -> Head:
    context = Context(rounds=rounds, unlabelled=unlabelled, previous=previous)
    # A penalty of its own: which labels judge it depends on the rounds, too.
    return DependencyAware(**{"l2": 0.1, **fields}).fit(
        TrainingData(features=features, labels=labels, weights=weights, classes=CLASSES, context=context, **RECORD)
    )


CENTRE, SIZE, KAPPA = np.array([0.7, -0.2, 1.1, 0.4]), np.array([2.3, 0.8, 4.1, 1.7]), 0.4
"""A frame for the labels of `data`, of which none of its numbers is special."""


def objective_of(weights=None, unlabelled=None, **fields) -> CorrectedLoss:
    features, labels, rounds = data()
    frame = Frame(centre=CENTRE, size=SIZE, constant=KAPPA)
    evidence = frame.evidence(gather_evidence(features, labels, weights, CLASSES))
    others = None if unlabelled is None else frame.features(unlabelled)
    return DependencyAware(**fields).objective(evidence, rounds, 0.7, others)


def value_of(objective: CorrectedLoss, mean: np.ndarray) -> float:
    return objective.value(mean, objective.evidence.rows @ mean.T)


def gradient_of(objective: CorrectedLoss, mean: np.ndarray) -> np.ndarray:
    rows = objective.evidence.rows
    return objective.gradient(mean, rows @ mean.T, rows)


def slow_score(score: str, p: np.ndarray) -> float:
    if score == "entropy":
        return -sum(x * math.log(x) for x in p)
    low, high = sorted(p)[-2:]
    return 1 - high if score == "least_confidence" else 1 - (high - low)


def slow_value(mean, features, labels, rounds, weights, others, prior, acquisition, score, beta, softness) -> float:
    """The objective in loops, as the paper's formulas have it, of weights over features of the frame."""

    def predicted(h):
        raised = [math.exp(float(row[:-1] @ ((h - CENTRE) / SIZE) + row[-1] * KAPPA)) for row in mean]
        return np.array(raised) / sum(raised)

    total = 0.5 * prior * (mean**2).sum()
    scores = [slow_score(score, predicted(h)) for h in features]
    for i, (h, label, round, m) in enumerate(zip(features, labels, rounds, weights, strict=True)):
        total -= m * math.log(predicted(h)[CLASSES.index(label)])
        if round < 0:
            continue
        if acquisition == "softmax":
            total -= beta * m * scores[i]
        elif acquisition == "power":
            total -= beta * m * math.log(scores[i])
        else:
            rivals = [scores[j] for j in range(len(scores)) if j != i and rounds[j] >= round]
            rivals += [slow_score(score, predicted(h)) for h in others]
            rank = 1 + sum(1 / (1 + math.exp(-(rival - scores[i]) / softness)) for rival in rivals)
            total += beta * m * math.log(rank)
    return total


CASES = [(a, s) for a in ("softmax", "power", "soft_rank") for s in SCORE_OF]


@pytest.mark.parametrize(("acquisition", "score"), CASES)
def test_the_objective_is_the_formula_and_its_gradient_is_its_slope(acquisition: str, score: str) -> None:
    rng = np.random.default_rng(4)
    weights, others = rng.uniform(0.3, 3, 36), rng.normal(size=(5, 4)).astype(np.float32)
    fields = {"acquisition": acquisition, "score": score, "beta": 1.7, "softness": 0.2}
    objective = objective_of(weights, others, **fields)
    mean = rng.normal(size=(3, 5))
    features, labels, rounds = data()
    expected = slow_value(mean, features, labels, rounds, weights, others, 0.7, acquisition, score, 1.7, 0.2)
    assert value_of(objective, mean) == pytest.approx(expected, rel=1e-11)
    slope = gradient_of(objective, mean)
    for place in np.ndindex(*mean.shape):
        step = np.zeros_like(mean)
        step[place] = 1e-6
        difference = (value_of(objective, mean + step) - value_of(objective, mean - step)) / 2e-6
        assert slope[place] == pytest.approx(difference, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("score", sorted(SCORE_OF))
def test_scores_lose_no_digits_where_the_head_is_sure(score: str) -> None:
    """One in e^60 left over: 1 - p would be 0 there."""
    outputs = np.array([[0.0, 60.0, -5.0]])
    scores, slopes = SCORE_OF[score](outputs)
    rest = math.exp(-60) + math.exp(-65)
    if score == "entropy":
        assert scores[0] == pytest.approx(rest + 60 * math.exp(-60) + 65 * math.exp(-65), rel=1e-12)
    elif score == "least_confidence":
        assert scores[0] == pytest.approx(rest, rel=1e-12)
    else:
        assert scores[0] == pytest.approx(rest + math.exp(-60), rel=1e-12)
    assert np.isfinite(slopes).all()


@pytest.mark.parametrize(("acquisition", "score"), CASES)
def test_it_ends_where_the_objective_is_flat_and_below_the_logistic_solution(acquisition: str, score: str) -> None:
    features, labels, rounds = data()
    fields = {"acquisition": acquisition, "score": score, "l2": 0.05}
    head = fit(features, labels, rounds=rounds, **fields)
    plain = Logistic(l2=0.05).fit(TrainingData(features=features, labels=labels, classes=CLASSES, **RECORD))
    assert head.prior == plain.prior == 0.05
    assert np.array_equal(matrix_of(head.frame, 4), matrix_of(plain.frame, 4))
    evidence = head.frame.evidence(gather_evidence(features, labels, None, CLASSES))
    objective = DependencyAware(**fields).objective(evidence, rounds, head.prior)
    found, before = (head.frame.inside(one.mean) for one in (head, plain))
    assert value_of(objective, found) < value_of(objective, before) - 1e-4
    # Margins and confidence have edges, where the slope jumps and the search may end: there no neighbour is lower by
    # more than a 10,000th of what was won, and that is all.
    left = 1e-4 * (value_of(objective, before) - value_of(objective, found))
    if score == "entropy":
        assert np.abs(gradient_of(objective, found)).max() < 1e-3 * np.abs(gradient_of(objective, before)).max()
        left = 1e-6
    for near in np.random.default_rng(0).normal(size=(20, *found.shape)) * 1e-3:
        assert value_of(objective, found + near) > value_of(objective, found) - left


@pytest.mark.parametrize("acquisition", ["softmax", "power", "soft_rank"])
@pytest.mark.parametrize("beta", [1e3, 1e6])
def test_no_beta_makes_it_run_away(acquisition: str, beta: float) -> None:
    """The scores are bounded, and so is what asking for them can win; the labels are not forgotten over it."""
    features, labels, rounds = data()
    head = fit(features * 100, labels, rounds=rounds, acquisition=acquisition, beta=beta)
    plain = Logistic(l2=0.1).fit(TrainingData(features=features * 100, labels=labels, classes=CLASSES, **RECORD))
    evidence = gather_evidence(features * 100, labels, None, CLASSES)
    assert summed_loss(head.mean, evidence) <= 36 * math.log(3) * (1 + 1e-12)
    if acquisition == "soft_rank":
        assert head.digest() == plain.digest()
    else:
        assert np.linalg.norm(head.mean) < np.linalg.norm(plain.mean)
        assert head.probabilities(features[rounds >= 0] * 100).max() < 0.5


def test_a_label_nobody_asked_for_is_a_plain_one() -> None:
    features, labels, rounds = data()
    plain = Logistic(l2=0.1).fit(TrainingData(features=features, labels=labels, classes=CLASSES, **RECORD))
    for same in (
        fit(features, labels),
        fit(features, labels, rounds=np.full(36, -1)),
        fit(features, labels, rounds=rounds, beta=0.0),
    ):
        assert same.digest() == plain.digest()
    asked = fit(features, labels, rounds=rounds)
    assert asked.digest() != plain.digest()
    assert asked.digest() != fit(features, labels, rounds=np.zeros(36, np.int64)).digest()
    # The first six rows weigh next to nothing, so that which of them were asked for makes no difference.
    light = np.append(np.full(6, 1e-12), np.ones(30))
    a, b = (fit(features, labels, light, rounds=r) for r in (rounds, np.maximum(rounds, 0)))
    assert np.allclose(a.mean, b.mean, atol=1e-6)


def test_an_item_of_weight_two_is_the_item_twice() -> None:
    features, labels, rounds = data()
    twice = np.append(np.arange(36), [3, 20])
    weights = np.ones(36)
    weights[[3, 20]] = 2
    one = fit(features, labels, weights, rounds=rounds, l2=0.3, tol=1e-8)
    two = fit(features[twice], [labels[i] for i in twice], rounds=rounds[twice], l2=0.3, tol=1e-8)
    assert np.allclose(one.mean, two.mean, atol=1e-5)


def test_the_later_rank_among_fewer() -> None:
    """Of three labels of rounds 0, 1 and 1 the first competes with both others, they only with each other."""
    features = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]])
    evidence = gather_evidence(features, ["c0", "c1", "c0"], None, ["c0", "c1"])
    trainer = DependencyAware(acquisition="soft_rank", softness=1e-4)  # sharp: true ranks
    objective = trainer.objective(evidence, np.array([0, 1, 1]), 1.0)
    mean = np.array([[0.3, 0.1, 0.0], [-0.3, -0.1, 0.0]])  # entropies fall from the first to the last
    correction, _ = objective._correction(SCORE_OF["entropy"](evidence.rows @ mean.T)[0])
    assert correction == pytest.approx(math.log(1) + math.log(1) + math.log(2))
    correction, _ = objective._correction(SCORE_OF["entropy"](evidence.rows[::-1] @ mean.T)[0])
    assert correction == pytest.approx(math.log(3) + math.log(2) + math.log(1))


def test_it_wants_a_sample_only_to_rank_among() -> None:
    assert DependencyAware().sample == DependencyAware(acquisition="power").sample == 0
    assert DependencyAware(acquisition="soft_rank", others=77).sample == 77
    features, labels, rounds = data()
    others = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    alone, among = (fit(features, labels, rounds=rounds, unlabelled=u, acquisition="soft_rank") for u in (None, others))
    assert alone.digest() != among.digest()
    assert among.labels_seen == among.fitted_on == 36
    assert np.array_equal(alone.covariance, among.covariance)


def test_the_posterior_holds_the_labels_and_updates_go_on() -> None:
    features, labels, rounds = data()
    more, told, _ = data(45)
    head = fit(features, labels, rounds=rounds, structure="diagonal")
    rows = np.column_stack([features, np.ones(36)]) @ frame_reference(features, np.ones(36), head.prior).T
    p = head.probabilities(features)
    assert np.allclose(head.posterior.precision, head.prior + (p * (1 - p)).T @ rows**2, rtol=1e-10)
    assert np.array_equal(head.linearised_at, head.mean)
    once = update(head, more[36:], told[36:], ledger_seq=1)
    steps = update(update(head, more[36:40], told[36:40], ledger_seq=1), more[40:], told[40:], ledger_seq=1)
    assert np.allclose(once.posterior.precision, steps.posterior.precision, rtol=1e-12)


def test_ten_steps_of_adam_are_those_of_torch_from_the_previous_head() -> None:
    """Over the features of the frame, made to have a mean variance of 1, with a bias; the penalty is the frame's."""
    import torch

    features, labels, rounds = data()
    start = np.random.default_rng(2).normal(size=(3, 5)) * 0.3
    previous = Head.of_weights(start[:, :-1], start[:, -1], classes=CLASSES)
    head = fit(features, labels, rounds=rounds, previous=previous, steps=10, rate=1e-2)
    centre = features.mean(axis=0)
    deviation = 1 / np.diag(frame_reference(features, np.ones(36), 1.0, 1.0))[:4] / 2
    assert (((features - centre) / deviation) ** 2).mean() == pytest.approx(1)
    into = np.column_stack([start[:, :-1] * deviation, start[:, -1] + start[:, :-1] @ centre])
    weights = torch.tensor(into, requires_grad=True)
    adam = torch.optim.Adam([weights], lr=1e-2)
    rows = torch.from_numpy(np.column_stack([(features - centre) / deviation, np.ones(36)]))
    targets = torch.from_numpy(np.eye(3)[[CLASSES.index(label) for label in labels]])
    asked = torch.from_numpy((rounds >= 0).astype(float))
    # Of features of total variance 1, weights are √d as large: their penalty is d times as much here.
    penalty = torch.tensor([*[head.prior * 4] * 4, BIAS_PRIOR])
    for _ in range(10):
        log_p = torch.log_softmax(rows @ weights.T, 1)
        entropy = -(log_p.exp() * log_p).sum(1)
        loss = (-(targets * log_p).sum(1) - asked * entropy).sum() + 0.5 * (penalty * weights**2).sum()
        adam.zero_grad()
        (loss / 36).backward()
        adam.step()
    found = weights.detach().numpy()
    weight = found[:, :-1] / deviation
    assert np.allclose(head.weight, weight, rtol=1e-5)
    assert np.allclose(head.bias, found[:, -1] - weight @ centre, rtol=1e-5, atol=1e-7)
    # A head of other classes is no start: then it is the logistic solution.
    other = Head.of_weights(start[:, :-1], start[:, -1], classes=["x", "y", "z"])
    plain = Logistic(l2=0.1).fit(TrainingData(features=features, labels=labels, classes=CLASSES, **RECORD))
    moved = [fit(features, labels, rounds=rounds, previous=p, steps=1, rate=1e-2) for p in (other, None)]
    apart = moved[0].mean - plain.mean
    assert (np.abs(apart[:, :-1]) * deviation).max() <= 1e-2 * (1 + 1e-6)
    assert np.abs(apart[:, -1] + apart[:, :-1] @ centre).max() <= 1e-2 * (1 + 1e-6)
    assert moved[0].digest() == moved[1].digest()


def test_a_larger_beta_leaves_it_less_sure_of_what_it_asked_for() -> None:
    features, labels, rounds = data()
    heads = [fit(features, labels, rounds=rounds, beta=beta) for beta in (0.0, 0.5, 1.0, 2.0, 8.0)]
    doubts = [SCORE_OF["entropy"](head.logits(features[rounds >= 0]))[0].sum() for head in heads]
    assert all(less < more for less, more in pairwise(doubts))


@pytest.mark.parametrize(
    ("field", "value"),
    [("beta", -1.0), ("beta", math.nan), ("softness", 0.0), ("rate", math.inf), ("others", -1), ("steps", -1)],
)
def test_fields_are_checked(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"update.trainer.{field}"):
        DependencyAware(**{field: value})


def test_unknown_names_and_bad_rounds_are_named() -> None:
    for field in ("acquisition", "score"):
        with pytest.raises(ConfigError, match=f"update.trainer.{field}"):
            choice({"name": "dmle", field: "x"}).build("update.trainer", TRAINERS)
        with pytest.raises(ConfigError, match=f"update.trainer.{field}.*use one of"):
            DependencyAware(**{field: "x"})
    features, labels, rounds = data()
    with pytest.raises(LabelError, match="rounds"):
        fit(features, labels, rounds=rounds[:-1])
    others = np.zeros((3, 4))
    others[1, 2] = np.nan
    with pytest.raises(LabelError, match="unlabelled row 1: feature 2 is nan"):
        fit(features, labels, rounds=rounds, unlabelled=others, acquisition="soft_rank")
    with pytest.raises(LabelError, match="unlabelled: vectors of 5 numbers"):
        fit(features, labels, rounds=rounds, unlabelled=np.zeros((3, 5)), acquisition="soft_rank")
