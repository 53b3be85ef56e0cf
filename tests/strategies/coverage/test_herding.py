"""Herding: the published greedy rules; what herding and ProbCover share, with little to cover."""

from __future__ import annotations

import numpy as np
import pytest
from covering import by_hash, copies, run, task_of
from pools import make_pool, mixture
from programs import context_of, local, make_head, random_head
from reference_coverage import (
    calibration_error,
    distances,
    herding,
    uncertainty,
    units,
)

from raysal.errors import ConfigError, UserError
from raysal.fleet import keep
from raysal.models.measures import expected_calibration_error
from raysal.rng import derive, item_uniform
from raysal.scoring.linear import Linear
from raysal.scoring.similarity import unit_rows
from raysal.strategies import SELECTORS
from raysal.strategies.base import select
from raysal.strategies.coverage.herding import (
    TEMPERATURES,
    MaxHerding,
    UHerding,
    confidences,
    logits_of,
    margins,
    smallest_distance,
)
from raysal.strategies.coverage.probcover import ProbCover

NAMES = ("max_herding", "probcover", "u_herding")
every_rule = pytest.mark.parametrize("name", NAMES)


def test_max_herding_is_the_published_greedy(tmp_path):
    x, names = copies(160, 7)
    known = list(range(0, 160, 13))
    ids = by_hash(np.setdiff1d(np.arange(160), known), derive(3, "ties"))
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
    ids = by_hash(np.setdiff1d(np.arange(160), known), derive(3, "ties"))
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
    right = logits.argmax(1) == classes
    np.testing.assert_allclose(
        expected_calibration_error(confidences(logits, temperature), right),
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
    candidates, rows = by_hash(order[:limit], derive(3, "ties")), np.sort(order[:ground])
    picks = run(tmp_path, x, MaxHerding(max_candidates=limit, max_represented=ground), task_of(x, names, []), 12)
    wanted, gains = herding(x[candidates], x[rows], x[:0], np.ones(ground), 1.0, 12)
    assert picks.ids.tolist() == candidates[wanted].tolist()
    np.testing.assert_allclose(picks.scores, gains, rtol=1e-8)
    assert all(reason.endswith(f"(of {limit} drawn from 200)") for reason in picks.reasons)


def test_what_gains_nothing_comes_in_a_uniform_order(tmp_path):
    x = np.repeat(np.eye(3, dtype=np.float32), 6, axis=0)
    picks = run(tmp_path, x, MaxHerding(), task_of(x, [""] * 18, []), 18)
    first = by_hash(np.arange(18), derive(3, "ties"))
    assert sorted(picks.ids[:3] // 6) == [0, 1, 2]
    assert all(id == next(i for i in first if i // 6 == id // 6) for id in picks.ids[:3])
    rest = np.setdiff1d(np.arange(18), picks.ids[:3])
    assert picks.ids[3:].tolist() == rest[np.argsort(item_uniform(derive(3, "rest"), rest))].tolist()
    assert set(picks.reasons[3:]) == {"nothing left to gain, uniform"}
    assert picks.scores[3:].tolist() == [0.0] * 15


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
    picks = run(tmp_path, x, SELECTORS[name](max_candidates=10), task_of(x, names, [], head=random_head(5)), 40)
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
