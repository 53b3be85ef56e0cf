"""Estimates of drawn items have the truth as their expectation, by every sequence of draws; intervals hold it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import numpy as np
import pytest
from tiers import deep_unless

from raysal.models.active_testing import Sample
from raysal.models.intervals import ratio_interval, wilson
from raysal.models.ranking_measures import mean_and_interval

G = np.array([1.0, 4.0, 2.0, 0.5, 3.0])
VALUES = np.array([1.0, 0.0, 0.25, 1.0, 0.5])
BASE = np.array([1.0, 0.5, 1.0, 1.0, 0.75])


def sequences(draws: int, told_after: dict[int, int]) -> Iterator[tuple[float, list[int], Sample]]:
    """Every way to draw that many of five items: its probability, the items in order, and the sample.

    After the draw of a given number the lowest items that nobody knows are told: by whom, depends on what was drawn.
    """
    for order in permutations(range(5), draws):
        known: list[int] = []
        columns: list[tuple[int, float, float]] = []
        chance = 1.0
        for number in range(draws + 1):
            for _ in range(told_after.get(number, 0)):
                columns.append((5 - len(known), np.nan, np.nan))
                known.append(min(set(range(5)) - set(known)))
            if number == draws:
                break
            if order[number] in known:
                chance = 0.0
                break
            left = sorted(set(range(5)) - set(known))
            q = G[order[number]] / G[left].sum()
            columns.append((len(left), q, G[left].min() / G[left].sum()))
            known.append(order[number])
            chance *= q
        if chance:
            left_of, q_of, least = (np.array(column) for column in zip(*columns, strict=True))
            yield chance, known, Sample(population=5, remaining=left_of, probability=q_of, least=least)


@pytest.mark.parametrize("told_after", [{}, {0: 1}, {1: 1}, {0: 1, 2: 1}, {1: 2}])
@pytest.mark.parametrize("draws", [1, 2, 3])
def test_means_are_unbiased_over_every_sequence_of_draws(draws: int, told_after: dict[int, int]) -> None:
    """Accuracy, prevalence, and numerator and denominator of every ratio are such means."""
    told_after = {number: count for number, count in told_after.items() if number < draws}
    found = list(sequences(draws, told_after))
    assert sum(chance for chance, _, _ in found) == pytest.approx(1)
    for values in (VALUES, BASE, (VALUES == 1).astype(float)):
        expected = sum(chance * float(sample.weights() @ values[items]) for chance, items, sample in found)
        assert expected == pytest.approx(values.mean())


def test_an_estimate_that_forgets_the_probabilities_is_biased() -> None:
    """So the test above can fail."""
    plain = sum(chance * VALUES[items].mean() for chance, items, _ in sequences(2, {}))
    assert abs(plain - VALUES.mean()) > 0.05


def test_weights_are_those_of_the_paper() -> None:
    """R_LURE: v_m = 1 + (N - M) / (N - m) (1 / ((N - m + 1) q_m) - 1), over M."""
    for _, _, sample in sequences(3, {}):
        m = np.arange(1, 4)
        v = 1 + (5 - 3) / (5 - m) * (1 / ((5 - m + 1) * sample.probability) - 1)
        assert sample.weights() == pytest.approx(v / 3)


@pytest.mark.parametrize("n", [1, 7, 20])
def test_uniform_draws_are_a_plain_mean_and_all_items_are_the_truth(n: int) -> None:
    assert Sample.uniform(n, 20).weights() == pytest.approx(np.full(n, 1 / n))


@pytest.mark.parametrize("draws", [4, 5])
def test_once_nothing_is_unknown_the_estimate_is_the_truth(draws: int) -> None:
    told = {} if draws == 5 else {draws - 1: 1}
    for _, items, sample in sequences(draws, told):
        if len(items) == 5:
            assert sample.weights() @ VALUES[items] == pytest.approx(VALUES.mean())


def test_told_items_count_for_themselves_and_no_other() -> None:
    told = Sample(
        population=100,
        remaining=np.array([100, 99, 98]),
        probability=np.array([np.nan, np.nan, 1 / 98]),
        least=np.array([np.nan, np.nan, 1 / 98]),
    )
    assert told.weights() == pytest.approx([0.01, 0.01, 0.98])


def test_an_item_without_an_answer_is_as_if_the_population_had_it_not() -> None:
    sample = Sample.uniform(10, 50)
    answered = np.arange(10) != 3
    value = (np.arange(10) < 5) * answered
    assert sample.mean(value.astype(float), answered) == pytest.approx(4 / 9)
    assert np.isnan(sample.mean(np.zeros(10), np.zeros(10, bool)))
    assert mean_and_interval(value.astype(float), answered, None)[0] == pytest.approx(4 / 9)


def draw(rng: np.random.Generator, matters: np.ndarray, n: int) -> tuple[np.ndarray, Sample]:
    """Half uniform, half by what matters, as `raysal.rounds.testing` has it, in floating point."""
    count = len(matters)
    g = matters.sum() + count * matters
    order = np.argsort(-(np.log(g) + rng.gumbel(size=count)), kind="stable")[:n]
    whole = g.sum() - np.concatenate([[0.0], g[order].cumsum()[:-1]])
    left = count - np.arange(n)
    return order, Sample(population=count, remaining=left, probability=g[order] / whole, least=g.min() / whole)


@pytest.mark.parametrize(
    ("share", "n", "skips"), deep_unless([(0.02, 40, 0.0)], [(0.02, 40, 0.0), (0.3, 60, 0.2), (0.01, 200, 0.1)])
)
def test_intervals_hold_the_truth_of_the_population_and_of_the_pool(share: float, n: int, skips: float) -> None:
    """In 95 % of the cases at least; they say little by little draws, and never rule out what could be."""
    rng = np.random.default_rng(3)
    score, answers = rng.normal(size=8000), rng.random(8000) >= skips
    wanted = rng.random(8000) < share
    chance = 1 / (1 + np.exp(-(3 * (score + 1.5 * wanted) + np.log(share))))
    held = {"population": 0, "pool": 0}
    for _ in range(100):
        some = rng.choice(8000, 2000, replace=False)
        order, sample = draw(rng, np.sqrt(chance[some]), n)
        own, can = wanted[some], answers[some]
        value, base = (own * can)[order].astype(float), can[order].astype(float)
        low, high = ratio_interval(sample, value, base, whole=True)
        held["population"] += low <= own[can].mean() <= high
        low, high = mean_and_interval(value, can[order], sample)[1]
        held["pool"] += low <= wanted[answers].mean() <= high
    assert min(held.values()) >= 93, held


def test_intervals_narrow_and_end_at_the_truth() -> None:
    rng = np.random.default_rng(0)
    wanted = (np.arange(60) < 6).astype(float)
    order, sample = draw(rng, np.full(60, 0.5), 60)
    widths = []
    for n in (5, 20, 40, 60):
        some = Sample(
            population=60,
            remaining=sample.remaining[:n],
            probability=sample.probability[:n],
            least=sample.least[:n],
        )
        low, high = ratio_interval(some, wanted[order[:n]], np.ones(n), whole=True)
        assert low <= 0.1 <= high
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.05
    ratio = ratio_interval(sample, wanted[order] * (order < 12), (order < 12).astype(float), whole=False)
    assert ratio[0] <= 0.5 <= ratio[1]


def test_wilson_is_that_of_the_textbook() -> None:
    """Values of Newcombe (1998), methods 3 and 4: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    for hits, n, plain, counted in (
        (81, 263, (0.2553, 0.3662), (0.2535, 0.3682)),
        (15, 148, (0.0624, 0.1605), (0.0598, 0.1644)),
        (0, 20, (0.0, 0.1611), (0.0, 0.2005)),
        (1, 29, (0.0061, 0.1718), (0.0018, 0.1963)),
    ):
        assert wilson(hits / n, n) == pytest.approx(plain, abs=1e-4)
        assert wilson(hits / n, n, counted=True) == pytest.approx(counted, abs=1e-4)
        assert wilson(1 - hits / n, n, counted=True) == pytest.approx((1 - counted[1], 1 - counted[0]), abs=1e-4)
    assert wilson(0.0, 0) == (0.0, 1.0)
    wide, narrow = wilson(0.5, 5, few=5), wilson(0.5, 5)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
