"""Measures of a ranking are those of scikit-learn, weighted or not, and their intervals hold the truth."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from tiers import deep_unless

from raysal.models.active_testing import Sample
from raysal.models.ranking_measures import (
    auroc,
    average_precision,
    membership,
    ranked_auroc,
    ranked_average_precision,
    ranking_measures,
    top_of_ranking,
)


@settings(max_examples=30)
@given(st.integers(2, 60), st.integers(0, 2), st.integers(0, 10**6))
def test_areas_are_those_of_scikit_learn(n: int, digits: int, seed: int) -> None:
    """With ties, and with weights."""
    rng = np.random.default_rng(seed)
    scores, wanted, weights = rng.normal(size=n).round(digits), rng.random(n) < 0.4, rng.random(n) + 0.01
    wanted[:2] = True, False
    for w in (None, weights):
        assert auroc(scores, wanted, w) == pytest.approx(metrics.roc_auc_score(wanted, scores, sample_weight=w))
        area = metrics.average_precision_score(wanted, scores, sample_weight=w)
        assert average_precision(scores, wanted, w) == pytest.approx(area)


def test_what_is_not_defined_is_left_out() -> None:
    scores = np.arange(3.0)
    assert np.isnan(auroc(scores, np.ones(3, bool)))
    assert np.isnan(average_precision(scores, np.zeros(3, bool)))
    nothing, _ = ranking_measures(scores, np.zeros(3, bool), scores, 2)
    assert nothing == {"prevalence": 0.0, "precision_at_k": 0.0, "precision_in_top": 0.0}
    assert ranking_measures(np.empty(0), np.empty(0, bool), np.empty(0), 2) == ({}, {})
    unanswered, _ = ranking_measures(scores, np.zeros(3, bool), scores, 2, answered=np.zeros(3, bool))
    assert unanswered == {}


@pytest.mark.parametrize("of", [ranked_auroc, ranked_average_precision])
def test_slopes_are_those_of_small_changes_of_the_weights(of: object) -> None:
    rng = np.random.default_rng(1)
    scores, wanted, weights = rng.normal(size=30).round(1), rng.random(30) < 0.3, rng.random(30) + 0.1
    found = of(scores, wanted, weights)
    for row in range(30):
        more = weights.copy()
        more[row] += 1e-6
        assert (of(scores, wanted, more).value - found.value) / 1e-6 == pytest.approx(found.slope[row], abs=1e-4)
    assert weights @ found.slope == pytest.approx(0, abs=1e-12)


def test_the_first_items_are_those_of_all_orders_of_equal_scores_on_average() -> None:
    scores, wanted = np.array([3.0, 2.0, 2.0, 2.0, 1.0]), np.array([True, True, False, False, True])
    orders = [order for order in permutations(range(5)) if (np.diff(scores[list(order)]) <= 0).all()]
    for k in range(1, 6):
        hits = np.mean([wanted[list(order[:k])].sum() for order in orders])
        top = top_of_ranking(scores, wanted, k)
        assert top == pytest.approx((hits / k, hits / 3, hits / min(k, 3)))
        assert membership(scores, scores, k).sum() == pytest.approx(k)


def test_what_is_attained_does_not_fall_as_found_items_leave() -> None:
    """Of ten, eight were found and left; both that are left come first: nothing better was possible."""
    scores, wanted = np.arange(50.0), np.arange(50) >= 48
    top = top_of_ranking(scores, wanted, 10)
    assert (top.precision, top.recall, top.attained) == (0.2, 1.0, 1.0)
    assert top.attained == top.precision / min(1, 2 / 10) == top.recall / min(1, 10 / 2)
    assert top_of_ranking(scores, wanted, 1).attained == 1.0
    assert top_of_ranking(scores, wanted, 500).precision == 2 / 50
    assert np.isnan(top_of_ranking(scores, np.zeros(50, bool), 5).attained)


def test_a_sample_that_is_all_of_a_population_has_its_measures() -> None:
    rng = np.random.default_rng(2)
    scores, wanted = rng.normal(size=300), rng.random(300) < 0.2
    plain, _ = ranking_measures(scores, wanted, scores, 25)
    order = rng.permutation(300)
    sample = Sample.uniform(300, 300)
    drawn, _ = ranking_measures(scores[order], wanted[order], scores, 25, sample=sample)
    assert drawn == pytest.approx(plain)
    top = top_of_ranking(scores, wanted, 25)
    assert (plain["precision_at_k"], plain["recall_at_k"], plain["attained_at_k"]) == pytest.approx(tuple(top))
    assert plain["prevalence"] == pytest.approx(wanted.mean())


@pytest.mark.parametrize(
    ("share", "n", "by_weight"),
    deep_unless([(0.05, 100, True)], [(0.05, 100, True), (0.02, 60, True), (0.1, 150, False)]),
)
def test_intervals_hold_the_truth_of_the_pool(share: float, n: int, by_weight: bool) -> None:
    """Each in 95 % of the cases or so, for a head that is right about its probabilities; estimates are near."""
    rng = np.random.default_rng(5)
    wanted = rng.random(10_000) < share
    scores = rng.normal(size=10_000) + 2 * wanted
    chance = 1 / (1 + np.exp(-(2 * scores + np.log(share / (1 - share)) - 2)))
    top = top_of_ranking(scores, wanted, 100)
    truth = {"auroc": auroc(scores, wanted), "auprc": average_precision(scores, wanted), "prevalence": wanted.mean()}
    truth |= {"precision_in_top": top.precision, "recall_in_top": top.recall, "attained_in_top": top.attained}
    held, estimates = {name: [] for name in truth}, {name: [] for name in truth}
    for _ in range(120):
        some = rng.choice(10_000, 3000, replace=False)
        matters = np.sqrt(chance[some]) if by_weight else np.ones(3000)
        g = matters.sum() + 3000 * matters
        order = np.argsort(-(np.log(g) + rng.gumbel(size=3000)))[:n]
        whole = g.sum() - np.concatenate([[0.0], g[order].cumsum()[:-1]])
        sample = Sample(
            population=3000, remaining=3000 - np.arange(n), probability=g[order] / whole, least=g.min() / whole
        )
        own = some[order]
        measures, intervals = ranking_measures(scores[own], wanted[own], scores[some], 25, sample=sample)
        for name in truth:
            if name in measures:
                estimates[name].append(measures[name])
                held[name].append(intervals[name][0] <= truth[name] <= intervals[name][1])
    for name, value in truth.items():
        assert np.mean(held[name]) >= 0.92, (name, np.mean(held[name]))
        spread = np.std(estimates[name])
        assert abs(np.mean(estimates[name]) - value) < 0.8 * spread, name  # areas of few positives are a bit high
    assert abs(np.mean(estimates["prevalence"]) - truth["prevalence"]) < 4 * np.std(estimates["prevalence"]) / 120**0.5
