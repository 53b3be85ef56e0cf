"""Facility location: the picks of the eager loop, for any threads and tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from covering import copies
from pools import mixture
from reference_coverage import (
    distances,
    greedy_cover,
)

from raysal.scoring.similarity import unit_rows
from raysal.strategies.engine import facility_location as facility
from raysal.strategies.engine.facility_location import Ball, Gaussian, coverage, facility_location


@pytest.mark.parametrize("sigma", [1.0, 0.3, 0.01])
@pytest.mark.parametrize("same", [True, False])
def test_lazy_picks_are_eager_picks(sigma, same):
    x = unit_rows(copies(200, 9)[0])
    ground = x if same else unit_rows(copies(150, 9, seed=1)[0])
    rng = np.random.default_rng(0)
    weights, covered = rng.random(len(ground)), rng.random(len(ground)) * 0.3
    found = facility_location(x, ground, weights, covered, Gaussian(sigma), 70)
    kernel = np.exp(-((distances(x.astype(float), ground.astype(float)) / sigma) ** 2))
    picks, gains = greedy_cover(kernel, weights, covered, 70)
    n = len(picks)
    assert found.picks[:n].tolist() == picks
    np.testing.assert_allclose(found.gains[:n], gains, rtol=1e-8, atol=1e-12)
    assert (found.gains[n:] < 1e-8).all()
    np.testing.assert_allclose(found.covered, np.maximum(covered, kernel[found.picks].max(0, initial=0)), atol=1e-9)


@pytest.mark.parametrize("threads", [2, 3])
def test_gains_are_the_same_for_any_threads_and_tiles_of_ground(threads, monkeypatch):
    x = unit_rows(copies(300, 21)[0])
    u = np.random.default_rng(1).random(300)
    alone = facility_location(x, x, u, np.zeros(300), Gaussian(0.7), 25)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        among = facility_location(x, x, u, np.zeros(300), Gaussian(0.7), 25)
    finally:
        torch.set_num_threads(before)
    turned = np.random.default_rng(2).permutation(300)
    shuffled = facility_location(x, x[turned], u[turned], np.zeros(300), Gaussian(0.7), 25)
    monkeypatch.setattr(facility, "ROWS_PER_TILE", 128)
    tiled = facility_location(x, x, u, np.zeros(300), Gaussian(0.7), 25)
    for other in (among, shuffled, tiled):
        assert np.array_equal(alone.picks, other.picks)
        np.testing.assert_allclose(alone.gains, other.gains, rtol=1e-12)
    assert np.array_equal(alone.gains, among.gains)


def test_rows_that_can_gain_no_more_are_let_go_without_a_trace(monkeypatch):
    x = unit_rows(copies(400, 6)[0])
    whole = facility_location(x, x, np.ones(400), np.zeros(400), Ball(0.4), 400)
    monkeypatch.setattr(facility, "ROWS_PER_TILE", 16)
    cut = facility_location(x, x, np.ones(400), np.zeros(400), Ball(0.4), 400)
    assert np.array_equal(whole.picks, cut.picks)
    assert np.array_equal(whole.gains, cut.gains)
    assert cut.covered.tolist() == [1.0] * 400
    assert whole.gains.sum() == 400


def test_lazy_looks_at_fewer_gains_than_eager():
    x = unit_rows(mixture(1500, 8)[0])
    found = facility_location(x, x, np.ones(1500), np.zeros(1500), Gaussian(1.0), 40)
    assert 1500 < found.evaluations < 0.2 * 1500 * 40


def test_nothing_is_picked_that_gains_nothing():
    x = unit_rows(np.ones((9, 4), np.float32))
    assert facility_location(x, x, np.ones(9), np.zeros(9), Gaussian(1.0), 5).picks.tolist() == [0]
    assert facility_location(x, x, np.zeros(9), np.zeros(9), Gaussian(1.0), 5).picks.tolist() == []
    assert facility_location(x, x, np.ones(9), np.ones(9), Gaussian(1.0), 5).picks.tolist() == []


def test_coverage_is_the_nearest_centre():
    x, centres = unit_rows(mixture(300, 5)[0]), unit_rows(mixture(70, 5, seed=1)[0])
    wanted = np.exp(-(distances(x.astype(float), centres.astype(float)) ** 2)).max(1)
    np.testing.assert_allclose(coverage(x, centres, Gaussian(1.0)), wanted, rtol=1e-12)
    assert coverage(x, centres[:0], Gaussian(1.0)).tolist() == [0.0] * 300
