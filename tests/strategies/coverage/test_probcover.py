"""ProbCover: the published loop, its radius and its clusters."""

from __future__ import annotations

import numpy as np
import pytest
from covering import by_hash, copies, run, task_of
from pools import mixture
from programs import random_head
from reference_coverage import (
    distances,
    farthest_first,
    probcover,
    purity,
    units,
)

from raysal.rng import derive
from raysal.scoring.similarity import unit_rows
from raysal.strategies.coverage.probcover import ProbCover, farthest_rows, pure_radius
from raysal.strategies.engine.kmeans import k_means


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
    ids = by_hash(np.setdiff1d(np.arange(150), known), derive(derive(3, "shortlist"), "ties"))
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
    rows, gaps = farthest_rows(x, x[:1], np.array([0]), 0)
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
