"""Confident learning: in chunks it is what the definition says, item by item."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from raysal.curation.labels.base import Checker, How, Score, Suspects, checked, whole_rows
from raysal.curation.labels.confident import LEADING, OneOfSeveral, transitions_of
from raysal.curation.labels.several import ALPHA, SeveralLabels
from raysal.errors import PoolError

Found = dict[int, tuple[int, float]]


def classes(seed: int, n: int = 400, c: int = 4, noise: float = 0.15) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Probabilities that know the true classes fairly well, and labels of which some are wrong."""
    rng = np.random.default_rng(seed)
    true = rng.choice(c, n, p=np.arange(1, c + 1) / np.arange(1, c + 1).sum())
    outputs = 2.5 * np.eye(c)[true] + rng.standard_normal((n, c))
    p = np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True)
    given = np.where(rng.random(n) < noise, (true + rng.integers(1, c, n)) % c, true)
    return p.astype(np.float32), given


def several(seed: int, n: int = 300, c: int = 5) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    true = rng.random((n, c)) < np.linspace(0.1, 0.6, c)
    p = 1 / (1 + np.exp(-(4 * true - 2 + 1.2 * rng.standard_normal((n, c)))))
    return p.astype(np.float32), true ^ (rng.random((n, c)) < 0.07)


def in_chunks(
    checker: Checker, p: NDArray[np.float32], given: NDArray[Any], cuts: list[int], how: How, score: Score,
    share: float = 0.1,
) -> tuple[Any, Suspects]:  # fmt: skip
    """What the passes say, of items in these chunks."""
    pieces = [slice(low, high) for low, high in pairwise([0, *cuts, len(p)])]
    ids = np.arange(len(p)) * 3
    tally = np.add.reduce([checker.tally(p[own], given[own]) for own in pieces])
    thresholds = checker.thresholds(tally)
    joint = np.add.reduce([checker.joint(p[own], given[own], thresholds) for own in pieces])
    estimate = checker.estimate(tally, joint)
    limits = np.array([math.ceil(share * len(p))]) if how == "lowest" else estimate.limits[how]
    found = [
        checker.suspects(ids[own], p[own], given[own], thresholds, estimate, how, score).first_of_groups(limits)
        for own in pieces
    ]
    return estimate, Suspects.joined(found).first_of_groups(limits)


def said(found: Suspects) -> Found:
    assert len(np.unique(found.ids)) == len(found.ids)
    return {int(i): (int(o), float(s)) for i, o, s in zip(found.ids, found.output, found.score, strict=True)}


def slow_joint(p: NDArray[np.float32], given: NDArray[Any]) -> NDArray[np.float64]:
    """The calibrated confident joint by its definition."""
    n, c = p.shape
    thresholds = [np.mean([float(p[i, k]) for i in range(n) if given[i] == k]) for k in range(c)]
    counts = np.zeros((c, c))
    for i in range(n):
        reached = [k for k in range(c) if p[i, k] >= thresholds[k] - 1e-6]
        if reached:
            counts[given[i], max(reached, key=lambda k: (p[i, k], -k))] += 1
    for k in range(c):
        counts[k, k] = max(counts[k, k], 1)
        counts[k] *= sum(given == k) / counts[k].sum()
    return counts


def slow_transitions(p: NDArray[np.float32], given: NDArray[Any]) -> NDArray[np.float64]:
    """The weights of the score, where the probabilities of leading items are all different."""
    n, c = p.shape
    found = np.zeros((c, c))
    for k in range(c):
        predicted = sorted((i for i in range(n) if p[i].argmax() == k), key=lambda i: -p[i, k])
        wanted = max(math.ceil(LEADING * len(predicted)), 20)
        # Items come in bins of their probability; a bin leads as a whole.
        from raysal.curation.labels.confident import EDGES

        bins = [int((p[i, k] >= EDGES).sum()) for i in predicted]
        leading = [i for i, own in zip(predicted, bins, strict=True) if own >= bins[min(wanted, len(bins)) - 1]]
        counts = np.array([sum(given[i] == j for i in leading) for j in range(c)], float)
        right = (counts[k] + 1) / (counts.sum() + 2)
        off = np.sqrt(counts + 1 / c)
        off[k] = 0
        found[:, k] = off / off.sum() * (1 - right)
        found[k, k] = right
    return found


def slow_quality(p: NDArray[np.float32], given: int, score: Score, weights: NDArray[np.float64]) -> float:
    q = [float(x) for x in p]
    if score == "self_confidence":
        return q[given]
    if score == "normalized_margin":
        return (q[given] - max(x for k, x in enumerate(q) if k != given) + 1) / 2
    if score == "entropy":
        weighted = max(-sum(x * math.log(x) for x in q if x) / math.log(len(q)), 1e-6) / max(q[given], 1e-6)
        return math.log(weighted + 1) / weighted
    return q[given] * weights[given, given] / sum(x * weights[given, k] for k, x in enumerate(q))


@pytest.mark.parametrize("how", ["noise_rate", "class", "confident", "lowest"])
@pytest.mark.parametrize("score", OneOfSeveral.scores)
def test_suspects_of_one_class_are_those_of_the_definition(how: How, score: Score) -> None:
    p, given = classes(3)
    n, c = p.shape
    estimate, found = in_chunks(OneOfSeveral(c), p, given, [70, 71, 250], how, score)
    joint, weights = slow_joint(p, given), slow_transitions(p, given)
    assert estimate.wrong == pytest.approx(joint.sum(1) - np.diag(joint))
    assert estimate.error_rate == pytest.approx(1 - np.trace(joint) / n)
    quality = [slow_quality(p[i], given[i], score, weights) for i in range(n)]
    whole = whole_rows(joint, np.bincount(given))
    wanted: dict[int, int] = {}
    if how == "lowest":
        for i in sorted(range(n), key=lambda i: (np.float32(quality[i]), i))[: math.ceil(0.1 * n)]:
            wanted[i] = max((k for k in range(c) if k != given[i]), key=lambda k: (p[i, k], -k))
    elif how == "confident":
        thresholds = [np.mean([float(p[i, k]) for i in range(n) if given[i] == k]) for k in range(c)]
        for i in range(n):
            reached = [k for k in range(c) if p[i, k] >= thresholds[k] - 1e-6]
            if reached and (best := max(reached, key=lambda k: (p[i, k], -k))) != given[i]:
                wanted[i] = best
    else:
        for own in range(c):
            of_class = [i for i in range(n) if given[i] == own and p[i].argmax() != own]
            for true in range(c) if how == "noise_rate" else [own]:
                some = [i for i in of_class if how == "class" or p[i].argmax() == true]
                most = whole[own, true] if how == "noise_rate" else whole[own].sum() - whole[own, own]
                order = (
                    (lambda i: p[i].max() - p[i, given[i]])
                    if how == "noise_rate"
                    else (lambda i: -np.float32(quality[i]))
                )
                wanted |= {i: int(p[i].argmax()) for i in sorted(some, key=lambda i: (-order(i), i))[: int(most)]}
    assert {i // 3: output for i, (output, _) in said(found).items()} == wanted
    assert len(wanted) > 10
    assert said(found) == {
        3 * i: (output, pytest.approx(quality[i], abs=2e-6, rel=1e-4)) for i, output in wanted.items()
    }


def slow_several(
    p: NDArray[np.float32], given: NDArray[np.bool_], how: How
) -> tuple[float, dict[int, set[int]], list[float]]:
    """The error rate, the doubted labels of each suspect, and the scores of all items."""
    n, c = p.shape
    doubted: dict[int, set[int]] = {}
    errors = 0.0
    for k in range(c):
        two = np.stack([1 - p[:, k], p[:, k]], 1)
        joint = slow_joint(two, given[:, k].astype(int))
        errors += joint[0, 1] + joint[1, 0]
        whole = whole_rows(joint, np.bincount(given[:, k], minlength=2))
        for own in (0, 1):
            wrong = [i for i in range(n) if given[i, k] == bool(own) and two[i, own] < 0.5]
            for i in sorted(wrong, key=lambda i: (two[i, own], i))[: int(whole[own, 1 - own])]:
                doubted.setdefault(i, set()).add(k)
    scores = []
    for i in range(n):
        ranked = sorted((float(p[i, k]) if given[i, k] else 1 - float(p[i, k]) for k in range(c)), reverse=True)
        score = ranked[0]
        for value in ranked[1:]:
            score = ALPHA * value + (1 - ALPHA) * score
        scores.append(score)
    if how == "lowest":
        doubted = {i: set() for i in sorted(range(n), key=lambda i: (np.float32(scores[i]), i))[: math.ceil(0.1 * n)]}
    return errors / (n * c), doubted, scores


@pytest.mark.parametrize("how", ["noise_rate", "lowest"])
def test_suspects_of_several_labels_are_those_of_the_definition(how: How) -> None:
    p, given = several(5)
    estimate, found = in_chunks(SeveralLabels(p.shape[1]), p, given, [10, 200], how, "self_confidence")
    rate, doubted, scores = slow_several(p, given, how)
    assert estimate.error_rate == pytest.approx(rate)
    by_item: dict[int, set[int]] = {}
    for item, output, score in zip((found.ids // 3).tolist(), found.output.tolist(), found.score.tolist(), strict=True):
        by_item.setdefault(item, set()).add(output)
        assert score == pytest.approx(scores[item], abs=1e-6)
    if how == "lowest":
        assert set(by_item) == set(doubted)
        for i, (worst,) in by_item.items():
            own = np.where(given[i], p[i], 1 - p[i])
            assert own[worst] == own.min()
    else:
        assert by_item == doubted
        assert len(doubted) > 20


@pytest.mark.parametrize("kind", [OneOfSeveral, SeveralLabels])
@pytest.mark.parametrize("how", ["noise_rate", "class", "confident", "lowest"])
def test_chunks_and_order_change_no_bit(kind: type[Checker], how: How) -> None:
    p, given = classes(7) if kind is OneOfSeveral else several(7)
    p[40:60] = p[40]  # ties
    checker = kind(p.shape[1])
    whole, one = in_chunks(checker, p, given, [], how, checker.scores[0])
    for cuts in ([1, 2, 399 if len(p) == 400 else 299], [100, 200], list(range(1, len(p), 7))):
        estimate, found = in_chunks(checker, p, given, cuts, how, checker.scores[0])
        assert estimate.error_rate == whole.error_rate
        for a, b in zip(found, one, strict=True):
            np.testing.assert_array_equal(a, b)


def test_right_labels_give_few_suspects() -> None:
    p, _ = classes(11, n=2000, noise=0)
    sure = p.argmax(1)
    for how in ("noise_rate", "class", "confident"):
        _, found = in_chunks(OneOfSeveral(4), p, sure, [500], how, "transitions")  # type: ignore[arg-type]
        assert len(found.ids) == 0


def test_a_class_that_nothing_is_and_a_class_that_all_are() -> None:
    p, given = classes(13)
    for labels in (np.where(given == 2, 1, given), np.zeros_like(given)):
        estimate, found = in_chunks(OneOfSeveral(4), p, labels, [50], "noise_rate", "transitions")
        assert np.isfinite(estimate.wrong).all()
        assert np.isfinite(found.score).all()
        assert ((found.score >= 0) & (found.score <= 1)).all()
    estimate, found = in_chunks(OneOfSeveral(4), p[:0], given[:0], [], "noise_rate", "transitions")
    assert (estimate.error_rate, len(found.ids)) == (0.0, 0)


def test_what_others_of_a_class_are_called_wrongly_is_doubted_first() -> None:
    """Two items look alike to the head; one has the label that its likeliest class is often given wrongly."""
    leading = np.array([[95, 2, 1], [5, 90, 0], [0, 8, 99]])
    weights = transitions_of(leading)
    assert weights.sum(0) == pytest.approx(np.ones(3))
    checker, p = OneOfSeveral(3), np.array([[0.8, 0.1, 0.1]] * 2, np.float32)
    estimate, _ = in_chunks(checker, *classes(1, c=3), [], "noise_rate", "transitions")
    estimate = type(estimate)(**{**vars(estimate), "transitions": weights})
    often, seldom = checker.quality(p, np.array([1, 2]), estimate, "transitions")
    assert often < seldom
    same = checker.quality(p, np.array([1, 2]), estimate, "self_confidence")
    assert same[0] == same[1]


def test_probabilities_that_are_not_numbers_are_named() -> None:
    p, _ = classes(1)
    p[7, 2] = np.nan
    with pytest.raises(PoolError, match="item 21"):
        checked(p, np.arange(len(p)) * 3)


def test_rows_are_rounded_to_their_totals() -> None:
    rng = np.random.default_rng(0)
    totals = rng.integers(0, 50, 30)
    shares = rng.dirichlet(np.ones(6), 30)
    whole = whole_rows(shares * totals[:, None], totals)
    np.testing.assert_array_equal(whole.sum(1), totals)
    assert (np.abs(whole - shares * totals[:, None]) < 1).all()
