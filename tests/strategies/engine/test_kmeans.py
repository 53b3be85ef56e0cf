"""k-means and what it is made of, against written-out versions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pools import mixture

from raysal.errors import PoolError
from raysal.numerics import one_thread
from raysal.rng import derive, generator
from raysal.scoring.row_values import refuse_broken
from raysal.strategies.coverage.typiclust import typicality_of
from raysal.strategies.engine import kmeans as clusters_module
from raysal.strategies.engine.kmeans import _Problem, k_means, nearest_to_centroids, round_robin


def objective(x, clusters, weights):
    return float((weights[:, None] * (x - clusters.centroids[clusters.assignment]) ** 2).sum())


@pytest.mark.parametrize("weighted", [False, True])
def test_k_means_is_as_good_as_the_usual_one(weighted):
    from sklearn.cluster import KMeans

    x, _ = mixture(2500, 12, classes=30)
    weights = np.random.default_rng(1).uniform(0, 3, len(x)) if weighted else np.ones(len(x))
    ours = [objective(x, k_means(x, 40, key, weights=weights), weights) for key in range(4)]
    theirs = [KMeans(40, n_init=1, random_state=s).fit(x, sample_weight=weights).inertia_ for s in range(4)]
    assert np.mean(ours) < 1.03 * np.mean(theirs)


def test_rows_are_with_the_nearest_centroid_which_is_their_weighted_mean():
    x, _ = mixture(400, 5)
    weights = np.random.default_rng(2).uniform(0.1, 3, len(x))
    found = k_means(x, 9, 3, weights=weights, iterations=500)
    for c in range(9):
        own = found.assignment == c
        np.testing.assert_allclose(found.centroids[c], np.average(x[own], 0, weights[own]), atol=1e-6)
        assert found.mass[c] == pytest.approx(weights[own].sum())
    gaps = ((x[:, None] - found.centroids) ** 2).sum(2)
    best = gaps.min(1)  # it stops while the objective still falls a little
    assert (gaps[np.arange(len(x)), found.assignment] <= best * 1.05).mean() > 0.98


def test_the_number_of_threads_changes_no_bit(monkeypatch):
    monkeypatch.setattr(clusters_module, "ONE_THREAD_MULTIPLICATIONS", 0)
    x, _ = mixture(1500, 70)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append((k_means(x, 300, 5, iterations=3), typicality_of(x)))
    finally:
        torch.set_num_threads(before)
    for clusters, typicality in found[1:]:
        assert np.array_equal(clusters.assignment, found[0][0].assignment)
        assert np.array_equal(clusters.centroids, found[0][0].centroids)
        assert np.array_equal(typicality, found[0][1])


NEARLY_EQUAL = np.ones((30, 3), np.float32)


NEARLY_EQUAL[:, 0] += np.arange(30, dtype=np.float32) * 1.2e-7


@pytest.mark.parametrize("k", [1, 2, 3, 40])
@pytest.mark.parametrize("weights", [None, np.zeros, np.arange])
@pytest.mark.parametrize(
    "x", [np.ones((5, 3)), np.zeros((5, 3)), np.ones((1, 2)), np.array([[0.0], [-0.0], [1], [1], [2]]), NEARLY_EQUAL]
)
def test_equal_rows_share_a_cluster_and_no_cluster_is_empty(x, weights, k):
    found = k_means(x, k, 1, weights=None if weights is None else weights(len(x)).astype(float))
    distinct = np.unique(x.astype(np.float32), axis=0)
    assert len(found) == min(k, len(distinct))
    assert found.sizes.min() > 0
    assert np.isfinite(found.centroids).all()
    for row in distinct:
        assert len(set(found.assignment[(x.astype(np.float32) == row).all(1)].tolist())) == 1
    rows = nearest_to_centroids(x, found, min(k, len(x)))
    assert len(set(rows.tolist())) == min(k, len(x))


def test_seeds_are_drawn_by_squared_distance_although_many_are_drawn_at_once():
    """Chi-square over the unordered pairs after the first seed."""
    from scipy.stats import chi2

    x = np.random.default_rng(4).normal(size=(5, 3)).astype(np.float32)
    mass = np.array([1.0, 2.0, 1.0, 0.5, 3.0])
    problem = _Problem(x, mass)
    gaps = ((x[:, None].astype(np.float64) - x) ** 2).sum(2)
    tries, seen, wanted = 1500, np.zeros((5, 5, 5)), np.zeros((5, 5, 5))
    for a in range(5):
        second = mass * gaps[a] / (mass * gaps[a]).sum()
        for b in set(range(5)) - {a}:
            third = mass * np.minimum(gaps[a], gaps[b])
            wanted[a, b] = mass[a] / mass.sum() * second[b] * third / third.sum()
    with one_thread():  # five rows are not worth two
        for key in range(tries):
            seen[tuple(problem.seeds(3, generator(derive(key))))] += 1
    able = wanted > 0
    assert seen[~able].sum() == 0
    likely = wanted * tries > 5
    rest = able & ~likely
    statistic = ((seen - tries * wanted)[likely] ** 2 / (tries * wanted[likely])).sum()
    statistic += (seen[rest].sum() - tries * wanted[rest].sum()) ** 2 / (tries * wanted[rest].sum())
    assert statistic < chi2.isf(1e-7, int(likely.sum()))


def test_the_row_nearest_to_each_centroid_heaviest_cluster_first():
    x, _ = mixture(300, 4)
    found = k_means(x, 7, 2)
    rows = nearest_to_centroids(x, found, 7)
    assert (np.diff(found.sizes[found.assignment[rows]]) <= 0).all()
    for row in rows.tolist():
        own = np.flatnonzero(found.assignment == found.assignment[row])
        gaps = ((x[own] - found.centroids[found.assignment[row]]) ** 2).sum(1)
        assert row == own[gaps.argmin()]
    more = nearest_to_centroids(x, found, 300)
    assert more[:7].tolist() == rows.tolist()
    assert sorted(more.tolist()) == list(range(300))


def test_queues_give_in_turn():
    assert round_robin([np.array([3, 1]), np.array([2]), np.array([7, 8, 9])], 5).tolist() == [3, 2, 7, 1, 8]


def test_a_vector_that_is_not_finite_is_named():
    with pytest.raises(PoolError, match=r"item 7: .*finite"):
        refuse_broken(np.array([3, 7, 9]), np.array([True, False, False]))
