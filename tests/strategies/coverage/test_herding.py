"""Facility location, herding and ProbCover: the picks of the eager loops, and inputs that leave little to cover."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pools import make_pool, mixture
from programs import context_of, local, make_head, random_head
from reference_coverage import (
    calibration_error,
    distances,
    farthest_first,
    greedy_cover,
    herding,
    probcover,
    purity,
    uncertainty,
    units,
)

from raysal.context import RoundContext
from raysal.errors import ConfigError, UserError
from raysal.fleet import exclude, keep
from raysal.rng import derive, item_uniform
from raysal.scoring.linear import Linear
from raysal.scoring.similarity import unit_rows
from raysal.strategies import SELECTORS
from raysal.strategies.base import select
from raysal.strategies.coverage.herding import TEMPERATURES, MaxHerding, UHerding, logits_of, margins, smallest_distance
from raysal.strategies.coverage.herding import calibration_error as fast_calibration_error
from raysal.strategies.coverage.probcover import ProbCover, farthest, pure_radius
from raysal.strategies.engine import facility_location as facility
from raysal.strategies.engine.facility_location import Ball, Gaussian, coverage, facility_location
from raysal.strategies.engine.kmeans import k_means

NAMES = ("max_herding", "probcover", "u_herding")
every_rule = pytest.mark.parametrize("name", NAMES)


def half(x: np.ndarray) -> np.ndarray:
    """As a pool holds it."""
    return x.astype(np.float16).astype(np.float32)


def copies(n: int, dim: int, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """A mixture in which a fifth of the rows are copies of others."""
    x, names = mixture(n, dim, seed=seed)
    rng = np.random.default_rng(seed)
    x[rng.choice(n, n // 5, replace=False)] = x[rng.integers(n, size=n // 5)]
    return half(x), names


def task_of(x, names, known, *, head=None, key=3, classes=True) -> RoundContext:
    return context_of(
        head=head,
        labelled=half(x[known]),
        key=key,
        classes=[names[row] for row in known] if classes else (),
    )


def run(path, x, selector, task, k, *, out=(), partitions=2):
    fleet = local(make_pool(path / "pool", x), partitions)
    fleet.each(exclude, np.array(out, np.int64))
    return select(fleet, selector, task, k)


# -- the engine ----------------------------------------------------------------------------------------------


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
    monkeypatch.setattr(facility, "GROUND_ROWS", 128)
    tiled = facility_location(x, x, u, np.zeros(300), Gaussian(0.7), 25)
    for other in (among, shuffled, tiled):
        assert np.array_equal(alone.picks, other.picks)
        np.testing.assert_allclose(alone.gains, other.gains, rtol=1e-12)
    assert np.array_equal(alone.gains, among.gains)


def test_rows_that_can_gain_no_more_are_let_go_without_a_trace(monkeypatch):
    x = unit_rows(copies(400, 6)[0])
    whole = facility_location(x, x, np.ones(400), np.zeros(400), Ball(0.4), 400)
    monkeypatch.setattr(facility, "GROUND_ROWS", 16)
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


# -- herding -------------------------------------------------------------------------------------------------


def test_max_herding_is_the_published_greedy(tmp_path):
    x, names = copies(160, 7)
    known = list(range(0, 160, 13))
    ids = np.setdiff1d(np.arange(160), known)
    picks = run(tmp_path, x, MaxHerding(), task_of(x, names, known), 50, out=known)
    rows, gains = herding(x[ids], x[ids], x[known], np.ones(len(ids)), 1.0, 50)
    assert picks.ids.tolist() == ids[rows].tolist()
    np.testing.assert_allclose(picks.scores, gains, rtol=1e-8)


def test_u_herding_is_the_published_greedy_at_the_calibrated_temperature(tmp_path):
    x, names = copies(160, 7)
    known = list(range(0, 160, 9))
    head = make_head(random_head(7, seed=2, scale=2.0).weight, np.zeros(5))
    names = [head.classes[int(name)] if name.isdigit() else head.classes[i % 5] for i, name in enumerate(names)]
    logits = x.astype(np.float64) @ head.weight.T + head.bias
    classes = [head.classes.index(names[row]) for row in known]
    errors = [calibration_error(logits[known], classes, t) for t in np.arange(10, 200) / 10]
    temperature = (np.arange(10, 200) / 10)[int(np.argmin(errors))]
    assert temperature > 1
    gaps = distances(units(x[known]), units(x[known]))
    sigma = gaps[gaps > 1e-6].min()
    ids = np.setdiff1d(np.arange(160), known)
    picks = run(tmp_path, x, UHerding(), task_of(x, names, known, head=head), 50, out=known)
    u = uncertainty(logits[ids], temperature)
    rows, gains = herding(x[ids], x[ids], x[known], u, sigma, 50)
    assert picks.ids.tolist() == ids[rows].tolist()
    np.testing.assert_allclose(picks.scores, gains, rtol=1e-7)
    assert "not calibrated" not in picks.reasons[0]


@pytest.mark.parametrize("temperature", [1.0, 2.5, 19.9])
def test_calibration_error_and_margins_are_those_of_the_formula(temperature):
    rng = np.random.default_rng(0)
    logits, classes = rng.normal(size=(60, 4)) * 4, rng.integers(4, size=60)
    np.testing.assert_allclose(
        fast_calibration_error(logits, classes, temperature),
        calibration_error(logits, classes.tolist(), temperature),
        rtol=1e-12,
    )
    np.testing.assert_allclose(1 - margins(logits, temperature), uncertainty(logits, temperature), atol=1e-12)
    assert TEMPERATURES[[0, 1, -1]].tolist() == [1.0, 1.1, 19.9]


def test_logits_are_those_of_the_head():
    x, head = mixture(1500, 9)[0], random_head(9, 3)
    np.testing.assert_allclose(logits_of(x, Linear.of(head)), head.logits(x), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("classes", ["missing", "of no head", "some of no head"])
def test_u_herding_says_when_it_is_not_calibrated(classes, tmp_path):
    x, names = copies(60, 5)
    names = ["a stranger" if row % 2 or "some" not in classes else "class-1" for row in range(60)]
    task = task_of(x, names, list(range(10)), head=random_head(5), classes=classes != "missing")
    reasons = run(tmp_path, x, UHerding(), task, 5, out=range(10)).reasons
    assert all(("not calibrated" in reason) == ("some" not in classes) for reason in reasons)


def test_the_smallest_distance_is_between_rows_that_differ():
    x = unit_rows(np.array([[1, 0], [1, 0], [1, 0.01], [0, 1]], np.float32))
    assert smallest_distance(x) == pytest.approx(0.01, rel=1e-3)
    assert smallest_distance(x[:2]) == 1.0
    assert smallest_distance(x[:0]) == 1.0


@pytest.mark.parametrize(("limit", "ground"), [(40, 90), (90, 40)])
def test_candidates_and_ground_are_draws_of_one_hash(limit, ground, tmp_path):
    x, names = copies(200, 5)
    order = np.argsort(item_uniform(derive(3, "shortlist"), np.arange(200)))
    candidates, rows = np.sort(order[:limit]), np.sort(order[:ground])
    picks = run(tmp_path, x, MaxHerding(limit=limit, ground=ground), task_of(x, names, []), 12)
    wanted, gains = herding(x[candidates], x[rows], x[:0], np.ones(ground), 1.0, 12)
    assert picks.ids.tolist() == candidates[wanted].tolist()
    np.testing.assert_allclose(picks.scores, gains, rtol=1e-8)
    assert all(reason.endswith(f"(of {limit} drawn from 200)") for reason in picks.reasons)


def test_what_gains_nothing_comes_in_a_uniform_order(tmp_path):
    x = np.repeat(np.eye(3, dtype=np.float32), 6, axis=0)
    picks = run(tmp_path, x, MaxHerding(), task_of(x, [""] * 18, []), 18)
    assert sorted(picks.ids[:3].tolist()) == [0, 6, 12]
    rest = np.setdiff1d(np.arange(18), picks.ids[:3])
    assert picks.ids[3:].tolist() == rest[np.argsort(item_uniform(derive(3, "rest"), rest))].tolist()
    assert set(picks.reasons[3:]) == {"nothing left to gain, uniform"}
    assert picks.scores[3:].tolist() == [0.0] * 15


# -- ProbCover -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [0.8, 0.95, 1.0])
@pytest.mark.parametrize("sample", [200, 30])
def test_the_radius_is_the_largest_at_which_enough_balls_are_pure(wanted, sample):
    x = unit_rows(copies(200, 6)[0])
    assignment = k_means(x, 5, 1).assignment
    rows = np.sort(np.random.default_rng(0).choice(200, sample, replace=False))
    radius = pure_radius(x, assignment, rows, wanted)
    assert purity(x.astype(float), assignment, radius, rows.tolist()) >= wanted
    assert purity(x.astype(float), assignment, radius * (1 + 1e-8), rows.tolist()) < wanted


def test_one_cluster_has_balls_as_wide_as_the_sphere():
    x = unit_rows(mixture(20, 3)[0])
    assert pure_radius(x, np.zeros(20, np.int64), np.arange(20), 0.95) == pytest.approx(2)


@pytest.mark.parametrize("labels", [0, 8])
def test_probcover_is_the_published_loop_and_then_farthest_first(labels, tmp_path):
    x, names = copies(150, 6)
    known = list(range(0, 10 * labels, 10))
    ids = np.setdiff1d(np.arange(150), known)
    k = len(ids)
    picks = run(tmp_path, x, ProbCover(clusters=6), task_of(x, names, known), k, out=known)
    unit = units(x[ids])
    assignment = k_means(unit.astype(np.float32), 6, derive(3, "clusters")).assignment
    radii = np.where(assignment[:, None] != assignment, distances(unit, unit), 2).min(1)
    delta = np.sort(radii)[::-1][int(np.ceil(0.95 * k)) - 1] * (1 - 1e-9)
    rows, degrees = probcover(unit, units(x[known]), delta, k)
    n = len(rows)
    assert 3 < n < k
    assert picks.ids[:n].tolist() == ids[rows].tolist()
    assert picks.scores.tolist() == degrees + [0.0] * (k - n)
    assert all(f"within {delta:.3g}" in reason for reason in picks.reasons[:n])
    rest = farthest_first(unit, np.concatenate([units(x[known]), unit[rows]]), rows, k - n)
    assert picks.ids[n:].tolist() == ids[rest].tolist()
    assert all(reason.startswith("all covered, farthest") for reason in picks.reasons[n:])
    assert picks.reasons[-1] == "all covered, farthest: 0"


def test_farthest_of_nothing_is_nothing():
    x = unit_rows(mixture(20, 3)[0])
    rows, gaps = farthest(x, x[:1], np.array([0]), 0)
    assert len(rows) == len(gaps) == 0


@pytest.mark.parametrize(("clusters", "classes", "wanted"), [(None, 0, 10), (None, 1, 2), (None, 7, 7), (4, 7, 4)])
def test_clusters_are_those_asked_for_or_the_classes_of_the_head(clusters, classes, wanted, tmp_path, monkeypatch):
    from raysal.strategies.coverage import probcover as module

    asked = []
    monkeypatch.setattr(module, "k_means", lambda x, k, key: asked.append(k) or k_means(x, k, key))
    x, names = copies(60, 5)
    head = random_head(5, classes) if classes else None
    run(tmp_path, x, ProbCover(clusters=clusters), task_of(x, names, [], head=head), 3)
    assert asked == [wanted]


# -- all of them ---------------------------------------------------------------------------------------------


@every_rule
def test_a_smaller_batch_is_the_beginning_of_a_larger_one(name, tmp_path):
    x, names = copies(90, 5)
    task = task_of(x, names, [1, 2, 3], head=random_head(5))
    whole = run(tmp_path / "a", x, SELECTORS[name](), task, 87, out=[1, 2, 3])
    for k in (1, 20, 60):
        part = run(tmp_path / str(k), x, SELECTORS[name](), task, k, out=[1, 2, 3])
        assert np.array_equal(part.ids, whole.ids[:k])
        assert np.array_equal(part.scores, whole.scores[:k])
        assert part.reasons == whole.reasons[:k]


@every_rule
def test_a_batch_may_be_larger_than_the_limit(name, tmp_path):
    x, names = copies(90, 5)
    picks = run(tmp_path, x, SELECTORS[name](limit=10), task_of(x, names, [], head=random_head(5)), 40)
    assert len(set(picks.ids.tolist())) == 40


@every_rule
def test_zero_rows_and_constant_features(name, tmp_path):
    x = np.zeros((30, 4), np.float32)
    x[10:20, 0], x[20:, 1] = 1, 7
    task = task_of(x, [""] * 30, [0, 10], head=random_head(4))
    picks = run(tmp_path, x, SELECTORS[name](), task, 28, out=[0, 10])
    assert sorted(picks.ids.tolist()) == [i for i in range(30) if i not in (0, 10)]
    assert np.isfinite(picks.scores).all()


@every_rule
def test_a_labelled_vector_that_is_not_finite_is_named(name, tmp_path):
    x, names = copies(40, 5)
    task = task_of(x, names, [0], head=random_head(5))
    broken = context_of(head=task.head, labelled=np.array([[1] * 5, [np.nan] * 5], np.float32), key=0)
    with pytest.raises(UserError, match="labelled row 1"):
        run(tmp_path, x, SELECTORS[name](), broken, 3)


def test_u_herding_needs_a_head():
    assert not MaxHerding().needs_head
    assert not ProbCover().needs_head
    with pytest.raises(ConfigError, match="needs labels"):
        UHerding().select(None, context_of(head=None, labelled=np.empty((0, 3), np.float32), key=0), 2)


@pytest.mark.parametrize("name", ["max_herding", "u_herding"])
def test_what_was_narrowed_away_still_wants_to_be_covered(name, tmp_path):
    """Two clumps, the larger narrowed away but for one row: that row covers the most, and comes first."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(90, 8)) * 0.05 + np.where(np.arange(90)[:, None] < 60, 1, -1) * np.eye(8)[0]
    fleet = local(make_pool(tmp_path / "pool", x.astype(np.float32)), 2)
    fleet.each(keep, np.arange(59, 75))
    head = make_head(np.zeros((2, 8)), np.zeros(2))  # all equally uncertain
    picks = select(fleet, SELECTORS[name](), context_of(head=head, labelled=np.empty((0, 8), np.float32), key=1), 3)
    assert picks.ids[0] == 59
    assert ((picks.ids >= 59) & (picks.ids < 75)).all()
