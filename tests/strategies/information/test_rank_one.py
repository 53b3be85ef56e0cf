"""BAIT among items of rank one in the driver: inverses, the same bits in any order, and what it looks at."""

from __future__ import annotations

import numpy as np
import pytest
import reference_dense as slow
import torch

from raysal.strategies.information import rank_one
from raysal.strategies.information.rank_one import HISTORY, TOGETHER, RankOne


def problem(n, d, seed=0):
    """(rows [n, d], some of them equal, M, F)."""
    rng = np.random.default_rng(seed)
    v = rng.normal(size=(n, d)) * np.logspace(0, -1, d) * rng.uniform(0.2, 1, (n, 1))
    v[n // 2 :: 7] = v[n // 3]
    fisher = v.T @ v / n
    return v, np.linalg.inv(fisher + np.eye(d) * np.trace(fisher) / d), fisher


@pytest.mark.parametrize(("n", "d"), [(40, 3), (130, 24), (300, 49)])
def test_the_numbers_of_all_items_are_those_of_the_inverse(n, d):
    """Over more changes than are kept apart, most of them looked at ahead."""
    v, matrix, fisher = problem(n, d)
    items, precision = RankOne(v, matrix, fisher), np.linalg.inv(matrix)
    wanted = np.random.default_rng(1).random(n)
    order = np.random.default_rng(2).permutation(n)[: min(n, 2 * HISTORY + 3)]
    for sign in (1, -1):
        for place in order.tolist():
            items.change(place, sign, wanted)
            precision += sign * np.outer(v[place], v[place])
        now = np.linalg.inv(precision)
        np.testing.assert_allclose(items.variance, ((v @ now) * v).sum(1), rtol=1e-8)
        np.testing.assert_allclose(items.fall, ((v @ now @ fisher @ now) * v).sum(1), rtol=1e-8)
        np.testing.assert_allclose(items.matrix(), now, atol=1e-9 * np.abs(now).max())


@pytest.mark.parametrize("oversample", [1, 2])
def test_items_are_picked_and_dropped_as_written_out(oversample):
    v, matrix, fisher = problem(120, 20)
    v[60::7] += np.random.default_rng(3).normal(size=v[60::7].shape) / 50
    items = RankOne(v, matrix, fisher)
    found = items.most_telling(45 * oversample)
    places = found.places if oversample == 1 else found.places[items.only(found.places).without_least(45)]
    wanted, falls = slow.bait(v[:, None], np.linalg.inv(matrix), fisher, 45, oversample=oversample)
    assert places.tolist() == wanted
    if oversample == 1:
        np.testing.assert_allclose(found.falls, falls, rtol=1e-8)


def test_no_bit_depends_on_threads_or_on_the_place_of_an_item():
    v, matrix, fisher = problem(700, 50)
    order, before, found = np.random.default_rng(4).permutation(700), torch.get_num_threads(), []
    wanted = np.arange(700.0)
    try:
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            for rows in (np.arange(700), order):
                items = RankOne(v[rows], matrix, fisher)
                places = np.argsort(rows)
                for item in range(0, 600, 12):
                    items.change(int(places[item]), 1, wanted[rows])
                found.append((items.variance[places], items.fall[places], items.matrix()))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(np.array_equal(one, two) for one, two in zip(found[0], other, strict=True))
    assert len(set(found[0][0][350::7].tolist())) == len(set(map(bytes, v[350::7])))


def test_several_picks_come_of_one_reading_of_the_items(monkeypatch):
    """Of the real kind: at random, with no two alike. A reading for each pick would be 200."""
    rng = np.random.default_rng(5)
    v = rng.normal(size=(1500, 60)) * np.arange(1, 61) ** -0.3 * rng.uniform(0.1, 0.5, (1500, 1))
    fisher = v.T @ v / 1500
    items = RankOne(v, np.linalg.inv(fisher + np.eye(60) * np.trace(fisher) / 60), fisher)
    readings, look = [], RankOne._look_ahead
    monkeypatch.setattr(RankOne, "_look_ahead", lambda *args: (readings.append(1), look(*args)))
    items.most_telling(200)
    assert len(readings) < 200 / 2.5


def test_items_that_lower_nothing_come_in_the_order_given_for_them():
    v = np.zeros((9, 4))
    v[5], v[2] = 1, 2
    items = RankOne(v, np.eye(4), np.eye(4))
    spare = -np.array([9, 1, 2, 3, 8, 4, 7, 6, 5]) / 10
    assert items.most_telling(9, spare).places.tolist() == [2, 5, 1, 3, 8, 7, 6, 4, 0]


def test_fewer_items_than_are_looked_at_together():
    assert TOGETHER > 3
    v, matrix, fisher = problem(3, 5)
    assert sorted(RankOne(v, matrix, fisher).most_telling(3).places.tolist()) == [0, 1, 2]
    assert rank_one.LEAST_PIVOT > 0
