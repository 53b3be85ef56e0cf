"""Draws by noisy scores: power_margin and power_bald."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import reference_dense as slow
from every_row import DIM, N, task
from pools import make_pool, mixture
from programs import local
from scenes import scene

from raysal.rng import item_uniform
from raysal.strategies import SELECTORS
from raysal.strategies.base import select
from raysal.strategies.information.power import noisy_top

rows, fleet, candidates = scene(mixture(N, DIM, seed=3)[0])


@pytest.mark.parametrize("beta", [0.0, 1.0, 8.0])
def test_power_margin_adds_gumbel_noise_to_the_log(beta, rows, fleet, candidates):
    given = task(rows)
    picks = select(fleet, SELECTORS["power_margin"](beta=beta), given, 80)
    p = reference.probabilities(rows[candidates], given.head.weight, given.head.bias)
    assert np.array_equal(picks.ids, slow.power(reference.score("margin", p), candidates, beta, 5, 80))


def posterior(seed=0):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(DIM + 1, DIM + 1)) * np.logspace(0, -1, DIM + 1)
    return root @ root.T / 10


def test_power_bald_scores_mutual_information(rows, fleet, candidates):
    given = task(rows, covariance=posterior())
    picks = select(fleet, SELECTORS["power_bald"](draws=7), given, 60)
    information = slow.mutual_information(rows[candidates], given.head.mean, given.head.posterior.root, 7, 5)
    assert np.array_equal(picks.ids, slow.power(information, candidates, 1.0, 5, 60))
    noise = -np.log(-np.log(item_uniform(5, picks.ids)))
    found = np.exp(picks.scores - noise)
    np.testing.assert_allclose(found, information[np.searchsorted(candidates, picks.ids)], rtol=1e-9)


def test_what_the_posterior_is_sure_of_comes_last(rows, tmp_path):
    """A covariance of zero but for one feature, which half of the rows have not."""
    covariance = np.zeros((DIM + 1, DIM + 1))
    covariance[0, 0] = 1.0
    x = rows.copy()
    x[::2, 0] = 0
    fleet = local(make_pool(tmp_path / "pool", x), 2)
    picks = select(fleet, SELECTORS["power_bald"](), task(x, covariance=covariance), 300)
    assert (picks.ids[:200] % 2 == 1).all()
    assert set(picks.reasons[:200]) == {"drawn by information"}
    rest = np.arange(0, N, 2)
    assert np.array_equal(picks.ids[200:], rest[np.argsort(item_uniform(5, rest))[:100]])
    assert set(picks.reasons[200:]) == {"no information left, uniform"}
    assert picks.scores[200:].tolist() == [0.0] * 100


def test_a_score_of_zero_never_comes_before_one_above():
    ids = np.arange(1000)
    scores = np.where(ids % 10 == 0, 1e-300, 0.0)
    (first, values), (last, _) = noisy_top(scores, ids, 3.0, 1, 200)
    assert sorted(first.tolist()) == list(range(0, 1000, 10))
    assert np.isfinite(values).all()
    rest = ids[ids % 10 > 0]
    assert np.array_equal(last, rest[np.argsort(item_uniform(1, rest))[:200]])
