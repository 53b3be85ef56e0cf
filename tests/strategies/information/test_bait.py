"""BAIT: the published loop over a pool, and inputs that leave little to choose by."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import reference_dense as slow
from every_row import DIM, N, task
from pools import make_pool, mixture
from programs import context_of, local, make_head, random_head
from scenes import scene

from raysal.errors import UserError
from raysal.fleet import keep
from raysal.rng import derive, item_uniform
from raysal.scoring.linear import Linear
from raysal.strategies import SELECTORS
from raysal.strategies.base import select
from raysal.strategies.information.bait import bait_binary, information_rows, pool_fisher

rows, fleet, candidates = scene(mixture(N, DIM, seed=3)[0])


def bait_problem(n=200, d=24, seed=0):
    rng = np.random.default_rng(seed)
    h = rng.normal(size=(n, d)) * np.logspace(0, -1, d)
    confidence = rng.uniform(0.3, 1, n)
    x = np.sqrt(confidence * (1 - confidence))[:, None] * h
    fisher = x.T @ x / n
    precision = np.trace(fisher) / d * np.eye(d) + x[:20].T @ x[:20]
    return h, confidence, x, fisher, precision


@pytest.mark.parametrize(("k", "backward"), [(1, 0), (150, 0), (30, 30), (5, 90)])
def test_rank_one_bait_is_the_published_loop(k, backward):
    h, confidence, x, fisher, precision = bait_problem()
    published = slow.bait_published(confidence, h, np.linalg.inv(precision), fisher, k, 1.0, backward)
    assert bait_binary(x, precision, fisher, k, backward=backward).tolist() == published


def test_the_published_scale_is_a_choice_of_precision():
    """Weights of b / (n + b) for a candidate and n / (n + b) for the mean of the labelled, lambda = 1."""
    h, confidence, x, fisher, _ = bait_problem(seed=4)
    n, b = 20, 12
    precision = np.eye(24) + x[:n].T @ x[:n] / n * n / (n + b)
    published = slow.bait_published(confidence, h, np.linalg.inv(precision), fisher, b, b / (n + b))
    assert bait_binary(x * np.sqrt(b / (n + b)), precision, fisher, b).tolist() == published


def bait_over_the_pool(rows, given):
    """(information rows, precision, mean Fisher matrix) as the card states them."""
    p = reference.probabilities(rows, given.head.weight, given.head.bias).max(1)
    x = np.sqrt(p * (1 - p))[:, None] * rows.astype(np.float64)
    fisher = x.T @ x / len(x)
    known = information_rows(given.head, given.labelled.vectors)
    return x, np.trace(fisher) / DIM * np.eye(DIM) + known.T @ known, fisher


@pytest.mark.parametrize("labelled", [0, 17])
def test_bait_over_a_pool_lowers_the_trace_most(labelled, rows, fleet, candidates):
    given = task(rows, labelled=labelled)
    picks = select(fleet, SELECTORS["bait"](), given, 80)
    x, precision, fisher = bait_over_the_pool(rows, given)
    wanted = bait_binary(x[candidates], precision, fisher, 80)
    assert np.array_equal(picks.ids, candidates[wanted])
    traces = slow.bait_traces(x, precision, fisher, picks.ids.tolist())
    np.testing.assert_allclose(picks.scores, -np.diff(traces), rtol=1e-3, atol=1e-9 * traces[0])


def test_bait_backward_drops_what_is_missed_least(rows, fleet, candidates):
    given = task(rows)
    picks = select(fleet, SELECTORS["bait"](backward=True), given, 15)
    x, precision, fisher = bait_over_the_pool(rows, given)
    wanted = bait_binary(x[candidates], precision, fisher, 15, backward=15)
    assert np.array_equal(picks.ids, candidates[wanted])
    whole = select(fleet, SELECTORS["bait"](backward=True), given, len(candidates) - 3)
    assert len(set(whole.ids.tolist())) == len(candidates) - 3


def test_the_fisher_matrix_of_the_pool_is_a_sum_in_any_order(rows, fleet, tmp_path):
    head = Linear.of(random_head(DIM))
    fleet.reset()
    p = reference.probabilities(rows, head.weight, head.bias).max(1)
    wanted = (rows.T.astype(np.float64) * (p * (1 - p))) @ rows / N
    found = pool_fisher(fleet, head)
    np.testing.assert_allclose(found, wanted, atol=1e-5 * wanted.max())
    turned = local(make_pool(tmp_path / "turned", rows[::-1], chunk_rows=37), 7)
    assert np.array_equal(pool_fisher(turned, head), found)


def test_bait_does_not_see_the_scale_of_the_features(rows, fleet, candidates, tmp_path):
    given = task(rows)
    picks = select(fleet, SELECTORS["bait"](), given, 40)
    head = given.head
    eight = local(make_pool(tmp_path / "pool", rows * 8))
    eight.each(keep, candidates)
    scaled = context_of(head=make_head(head.weight / 8, head.bias), labelled=given.labelled.vectors * 8, key=5)
    assert np.array_equal(select(eight, SELECTORS["bait"](), scaled, 40).ids, picks.ids)


def test_bait_of_a_sure_head_is_a_uniform_draw(rows, fleet, candidates):
    head = make_head(np.zeros((2, DIM)), np.array([1e6, 0.0]))
    picks = select(fleet, SELECTORS["bait"](), task(rows, head=head, key=8), 30)
    order = np.argsort(item_uniform(derive(8, "spare"), candidates))
    assert np.array_equal(picks.ids, candidates[order[:30]])
    assert set(picks.reasons) == {"no information left, uniform"}


def test_bait_names_what_cannot_be_picked_from():
    _, _, x, fisher, precision = bait_problem(n=20)
    with pytest.raises(UserError, match="k: 15 of 20 rows, and 6 to drop"):
        bait_binary(x, precision, fisher, 15, backward=6)
    x[7, 2] = np.nan
    with pytest.raises(UserError, match="item 7: its vector is not finite"):
        bait_binary(x, precision, fisher, 2)
