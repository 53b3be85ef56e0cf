"""Rules that bring every row up to date after every pick, and draws by noisy scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import reference
import reference_dense as slow
from pools import make_pool, mixture
from programs import context_of, local, make_head, random_head
from scipy.stats import chi2

from raysal.errors import PoolError, UserError
from raysal.fleet import exclude, keep
from raysal.fleet.partition import Partition
from raysal.models.posterior import Shared
from raysal.numerics import one_thread
from raysal.rng import derive, item_uniform
from raysal.scoring.linear import Linear
from raysal.strategies import SELECTORS
from raysal.strategies.base import select
from raysal.strategies.coverage.lcmd import CENTRES
from raysal.strategies.engine import dense as every_row
from raysal.strategies.information.bait import bait_binary, information_rows, pool_fisher
from raysal.strategies.information.power import noisy_top

EVERY = ("bait", "falcun", "lcmd", "power_bald", "power_margin", "top_score")
N, DIM = 400, 11


@pytest.fixture(scope="module")
def rows():
    return mixture(N, DIM, seed=3)[0]


@pytest.fixture(scope="module")
def fleet(rows, tmp_path_factory):
    return local(make_pool(tmp_path_factory.mktemp("pool") / "pool", rows, chunk_rows=130), 3)


@pytest.fixture
def candidates(fleet):
    """Ids that may be picked: the pool but every 17th."""
    fleet.reset()
    fleet.each(exclude, np.arange(0, N, 17))
    return np.setdiff1d(np.arange(N), np.arange(0, N, 17))


def task(rows, *, labelled=17, head=None, key=5, covariance=None):
    head = random_head(DIM) if head is None else head
    if covariance is not None:
        head = replace(head, posterior=Shared(root=np.linalg.cholesky(covariance + 1e-300 * np.eye(DIM + 1))))
    return context_of(head=head, labelled=rows[:: max(labelled, 1)] if labelled else rows[:0], key=key)


# -- BAIT ----------------------------------------------------------------------------------------------------


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


# -- LCMD ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labelled", [0, 3, 40])
def test_lcmd_takes_the_farthest_item_of_the_heaviest_cluster(labelled, rows, fleet, candidates):
    given = task(rows, labelled=labelled)
    picks = select(fleet, SELECTORS["lcmd"](), given, 20)
    wanted, gaps = slow.lcmd(rows[candidates].astype(np.float64), given.labelled.vectors.astype(np.float64), 20)
    assert np.array_equal(picks.ids, candidates[wanted])
    np.testing.assert_allclose(picks.scores, gaps, rtol=1e-9)


@pytest.mark.parametrize("labelled", [0, 60])
def test_lcmd_in_the_space_of_gradients(labelled, rows, fleet, candidates):
    given = task(rows, labelled=labelled)
    picks = select(fleet, SELECTORS["lcmd"](space="gradients"), given, 15)
    dense = reference.gradient_embeddings(rows, given.head.weight, given.head.bias)
    known = dense[::labelled] if labelled else dense[:0]
    wanted, gaps = slow.lcmd(dense[candidates], known, 15)
    assert np.array_equal(picks.ids, candidates[wanted])
    np.testing.assert_allclose(picks.scores, gaps, rtol=1e-4)


@pytest.mark.parametrize("space", ["vectors", "gradients"])
def test_lcmd_over_more_centres_than_a_tile(space, rows, fleet, candidates):
    given = task(rows, labelled=2)
    assert len(given.labelled.vectors) > 2 * CENTRES
    picks = select(fleet, SELECTORS["lcmd"](space=space), given, 100)
    part = select(fleet, SELECTORS["lcmd"](space=space), given, 33)
    assert np.array_equal(part.ids, picks.ids[:33])
    assert np.array_equal(part.scores, picks.scores[:33])
    # Half of the pool is a centre already; the others must come first.
    assert (picks.ids % 2 == 1).all()
    assert (picks.scores > 0).all()


def test_lcmd_takes_copies_last(tmp_path):
    scale = np.logspace(-3, 2, 57)  # sums of such different squares are never exact
    x = np.tile(np.random.default_rng(0).normal(size=(20, 57)) * scale, (4, 1))
    fleet = local(make_pool(tmp_path / "pool", x, chunk_rows=33), 3)
    head = make_head(random_head(57, scale=0.02).weight / scale, np.zeros(5))
    for space in ("vectors", "gradients"):
        selector = SELECTORS["lcmd"](space=space)
        picks = select(fleet, selector, context_of(head=head, labelled=np.empty((0, 57), np.float32), key=1), 50)
        assert len(set((picks.ids[:20] % 20).tolist())) == 20
        assert set(picks.reasons[20:]) == {"only copies left, uniform"}
        assert len(set(picks.ids.tolist())) == 50


# -- FALCUN --------------------------------------------------------------------------------------------------


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


# -- power rules ---------------------------------------------------------------------------------------------


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


# -- all of them ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_a_vector_that_is_not_finite_is_named(name, rows, fleet, candidates, monkeypatch):
    whole = Partition._fill

    def spoilt(self, out, wanted):
        whole(self, out, wanted)
        out[np.flatnonzero(self.ids[wanted] == 77)] = np.nan

    monkeypatch.setattr(Partition, "_fill", spoilt)
    if name == "bait":  # reads the pool as a whole first, not by rows
        monkeypatch.setattr(Partition, "_stream", lambda self, buffer: self.blocks(np.arange(len(self)), len(buffer)))
    with pytest.raises(PoolError, match="item 77: its vector is not finite"):
        select(fleet, SELECTORS[name](), task(rows), 3)


@pytest.mark.parametrize("name", ["bait", "lcmd"])
def test_features_read_again_give_the_picks_of_features_held(name, rows, fleet, candidates, monkeypatch):
    held = select(fleet, SELECTORS[name](), task(rows), 10)
    monkeypatch.setattr(every_row, "HELD_BYTES", 0)
    again = select(fleet, SELECTORS[name](), task(rows), 10)
    assert np.array_equal(held.ids, again.ids)
    assert np.array_equal(held.scores, again.scores)
