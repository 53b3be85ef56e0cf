"""FALCUN: the sequential draw in proportion to uncertainty and distance."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import reference_dense as slow
from every_row import DIM, N, task
from pools import make_pool, mixture
from programs import context_of, local, make_head, random_head
from scenes import scene
from scipy.stats import chi2

from raysal.numerics import one_thread
from raysal.rng import derive, item_uniform
from raysal.strategies import SELECTORS
from raysal.strategies.base import select

rows, fleet, candidates = scene(mixture(N, DIM, seed=3)[0])


@pytest.mark.parametrize("gamma", [0.5, 10.0])
def test_falcun_is_the_sequential_draw(gamma, rows, fleet, candidates):
    given = task(rows, key=9)
    picks = select(fleet, SELECTORS["falcun"](gamma=gamma), given, 60)
    p = reference.probabilities(rows[candidates], given.head.weight, given.head.bias)
    wanted, weights = slow.falcun(p, candidates, 60, gamma, 9)
    assert picks.ids.tolist() == wanted
    np.testing.assert_allclose(picks.scores, weights, atol=1e-5)
    part = select(fleet, SELECTORS["falcun"](gamma=gamma), given, 21)
    assert np.array_equal(part.ids, picks.ids[:21])


def test_falcun_draws_in_proportion_to_the_power(tmp_path):
    """Chi-square over 2,000 keys: an honest sampler exceeds the bound once in ten million tries."""
    x = np.random.default_rng(2).normal(size=(5, 4)).astype(np.float16)
    head = random_head(4, 3)
    fleet = local(make_pool(tmp_path / "pool", x))
    nothing = np.empty((0, 4), np.float32)
    p = np.sort(reference.probabilities(x, head.weight, head.bias), axis=1)
    u = 1 - (p[:, -1] - p[:, -2])
    weight = (u + (u - u.min()) / (u.max() - u.min())) ** 2
    with one_thread():
        tasks = (context_of(head=head, labelled=nothing, key=derive(key)) for key in range(2000))
        firsts = [int(select(fleet, SELECTORS["falcun"](gamma=2.0), given, 1).ids[0]) for given in tasks]
    expected = 2000 * weight / weight.sum()
    statistic = ((np.bincount(firsts, minlength=5) - expected) ** 2 / expected).sum()
    assert expected.min() > 5
    assert statistic < chi2.isf(1e-7, 4)


def test_falcun_of_a_sure_head_is_a_uniform_draw(rows, fleet, candidates):
    head = make_head(np.zeros((2, DIM)), np.array([1e6, 0.0]))
    picks = select(fleet, SELECTORS["falcun"](), task(rows, head=head), 30)
    assert len(set(picks.ids.tolist())) == 30
    assert set(picks.reasons) == {"sure of the rest, uniform"}
    assert picks.ids[0] == candidates[item_uniform(derive(5, 0), candidates).argmax()]
