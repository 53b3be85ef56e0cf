"""Guesses of the nearest centre: good ones save, and none, however bad, changes a pick or costs more than a share."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from pools import make_pool, mixture
from programs import local
from tiers import one_of_each

from raysal.numerics import EXACT_COLUMNS
from raysal.strategies.engine import guesses, partition_state
from raysal.strategies.engine import lazy_greedy as lazy
from raysal.strategies.engine.distances import Centres, WideRows
from raysal.strategies.engine.feature_maps import UnitVectors, Vectors, factors_of
from raysal.strategies.engine.guesses import COLUMNS, GROUP, RoundedCentres
from raysal.strategies.engine.lazy_greedy import lazy_greedy
from raysal.strategies.engine.priorities import FarthestPoint

N, DIM = 3000, 64


@pytest.fixture
def guess(monkeypatch):
    """Guessing from the first centre on, whatever this machine gains by it."""

    def switch(on):
        monkeypatch.setattr(guesses, "WORTHWHILE", 0)
        monkeypatch.setattr(guesses, "integers_pay", lambda: on)

    switch(True)
    return switch


def clusters(sizes, spread, seed=0):
    """Few groups of rows far from one another, each of them tight."""
    rng = np.random.default_rng(seed)
    where = rng.choice([-1.0, 1.0], size=(4, DIM)) * sizes
    return where[rng.integers(4, size=N)] + rng.normal(size=(N, DIM)) * spread


DATA = {
    "mixture": lambda: mixture(N, DIM, seed=1)[0],
    "far from zero": lambda: mixture(N, DIM, seed=1)[0] + 100,
    "huge": lambda: np.random.default_rng(1).normal(size=(N, DIM)) * 8000,
    "tiny": lambda: np.random.default_rng(2).normal(size=(N, DIM)) * 1e-7,  # subnormal in float16
    "tight groups": lambda: clusters(100, 0.5),
    "copies": lambda: np.repeat(np.random.default_rng(3).normal(size=(N // 6, DIM)), 6, 0),
    "one column": lambda: np.eye(1, DIM) * np.random.default_rng(4).normal(size=(N, 1)),
    "all the same": lambda: np.ones((N, DIM)),
    "outliers": lambda: np.random.default_rng(5).normal(size=(N, DIM)) ** 7,
}


def pick(fleet, k, feature_map=None, known=None):
    feature_map = feature_map or Vectors()
    centres = factors_of(feature_map, np.empty((0, DIM), np.float32) if known is None else known)
    return lazy_greedy(fleet, FarthestPoint(), feature_map, k, centres=centres, opening="lowest", key=3)


@pytest.mark.parametrize(("name", "feature_map"), one_of_each(product(sorted(DATA), [Vectors(), UnitVectors()])))
def test_guesses_change_no_pick(name, feature_map, guess, monkeypatch, tmp_path):
    monkeypatch.setattr(lazy, "MOST_ROWS", 300)  # more round trips
    x = DATA[name]().clip(-6e4, 6e4).astype(np.float32)
    pool = make_pool(tmp_path / "pool", x, chunk_rows=700)
    found = {(on, p): (guess(on), pick(local(pool, p), 250, feature_map, x[:70]))[1] for on in (0, 1) for p in (1, 3)}
    for run in found.values():
        assert run.ids == found[0, 1].ids
        assert run.sq_distances == found[0, 1].sq_distances
    assert found[0, 1].pairs_guessed == 0 < found[1, 1].pairs_guessed


@pytest.mark.parametrize("kept", [0, partition_state.KEPT_BYTES])
@pytest.mark.parametrize("bad", ["always the first", "drawn", "good, then drawn"])
def test_a_guess_may_be_as_bad_as_can_be(bad, kept, guess, monkeypatch, tmp_path):
    """Picks stay, and the law of cost holds: guesses end, and then every pair is bounded once."""
    x = np.random.default_rng(6).normal(size=(N, DIM)).astype(np.float32)
    fleet = local(make_pool(tmp_path / "pool", x, chunk_rows=700))
    guess(False)
    k, usual = 400, pick(fleet, 400)
    fleet.reset()
    guess(True)
    honest, rng = RoundedCentres.nearest, np.random.default_rng(0)

    def nearest(self, first, rows):
        if bad == "always the first":
            return torch.full((len(rows),), first)
        if bad == "good, then drawn" and self.count < 200:
            return honest(self, first, rows)
        return torch.from_numpy(rng.integers(first, self.count, len(rows)))

    monkeypatch.setattr(RoundedCentres, "nearest", nearest)
    monkeypatch.setattr(lazy, "MOST_ROWS", 100)
    monkeypatch.setattr(lazy, "ROWS_AT_FIRST", 100)
    monkeypatch.setattr(partition_state, "KEPT_BYTES", kept)
    found = pick(fleet, k)
    assert found.ids == usual.ids
    assert found.sq_distances == usual.sq_distances
    assert 0 < found.pairs_guessed < N * k / 2  # they end
    assert found.pairs - found.pairs_again <= N * k
    sent_and_wasted = (found.rows_sent + 100) * k + found.pairs_guessed / guesses.WASTE
    assert found.pairs_again <= sent_and_wasted


def test_good_guesses_save_nearly_all_of_the_product(guess, tmp_path):
    """Also where no row can be passed over: only rows that are sent are bounded in single precision."""
    n, k = 20_000, 600
    x = np.random.default_rng(2).normal(size=(n, DIM)).astype(np.float32)
    fleet = local(make_pool(tmp_path / "pool", x, chunk_rows=n))
    found = pick(fleet, k)
    assert found.pairs_guessed <= n * k
    assert found.pairs - found.pairs_again < 0.01 * n * k
    assert found.pairs_again <= 1.05 * found.rows_sent * k
    guess(False)
    fleet.reset()
    without = pick(fleet, k)
    assert without.ids == found.ids
    assert found.pairs < 0.6 * without.pairs


def rounded(x, count):
    return RoundedCentres.of(torch.from_numpy(x[:count]))


@pytest.mark.parametrize("first", [0, 5, COLUMNS, 2 * COLUMNS + GROUP + 1])
def test_the_guess_is_mostly_the_nearest_centre_wherever_the_list_begins(first):
    x = np.random.default_rng(7).normal(size=(1500, DIM)).astype(np.float32) * np.linspace(0.1, 2, DIM, dtype="f4") + 30
    count = 2 * COLUMNS + GROUP + 2
    which = rounded(x, count).nearest(first, torch.from_numpy(x[count:])).numpy()
    gaps = ((x[count:, None].astype(np.float64) - x[None, first:count]) ** 2).sum(2)
    guessed = gaps[np.arange(len(gaps)), which - first]
    assert ((which >= first) & (which < count)).all()
    assert (which == first + gaps.argmin(1)).mean() > 0.9
    assert (guessed / gaps.min(1)).mean() < 1.003


@pytest.mark.parametrize("width", [1024, 4096])
def test_sums_of_many_large_products_do_not_overflow(width):
    """Rows of -1 and 1: all their integers are the largest. Each row has a centre equal to it but for few signs, and
    others on the far side of zero."""
    rng = np.random.default_rng(8)
    x = np.sign(rng.random((300, width)) - 0.25).astype(np.float32)
    x[::2] *= -1
    near = x * np.where(rng.random(x.shape) < 0.1, -1, 1).astype(np.float32)
    assert rounded(x, 300).nearest(0, torch.from_numpy(near)).tolist() == list(range(300))


@pytest.mark.parametrize("name", sorted(DATA))
def test_the_distance_to_any_centre_is_bounded_from_above(name):
    x = DATA[name]().clip(-6e4, 6e4).astype(np.float16).astype(np.float32)
    rows, count = (torch.from_numpy(x),), 2 * EXACT_COLUMNS + 7
    centres = Centres((DIM,), torch.device("cpu"))
    centres.extend((x[:count],), np.zeros(count))
    exact = torch.cat([centres.sq_distances(tile, WideRows.of(rows)) for tile in range(3)])
    for which in (torch.arange(N) % count, exact.argmin(0)):
        bound = centres.bound_of(which, rows)
        assert bool((bound >= exact.gather(0, which[None])[0]).all())


def test_machines_are_asked_once_and_whatever_they_say_is_an_answer(monkeypatch):
    guesses.integers_pay.cache_clear()
    assert guesses.integers_pay() in (True, False)
    monkeypatch.delattr(torch, "_int_mm")
    assert guesses.integers_pay.__wrapped__() is False
