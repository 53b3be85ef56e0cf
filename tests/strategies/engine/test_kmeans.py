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
from raysal.strategies.engine import distinct as distinct_module
from raysal.strategies.engine import kmeans as clusters_module
from raysal.strategies.engine.distinct import distinct_rows
from raysal.strategies.engine.kmeans import _Problem, k_means
from raysal.strategies.engine.representatives import nearest_to_centroids, round_robin


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


def test_the_number_of_threads_changes_no_bit():
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


@pytest.mark.parametrize("k", [3, 60, 400])
@pytest.mark.parametrize(("weighted", "outlier"), [(False, 0), (True, 0), (False, 3e4)])
def test_rows_that_are_left_out_would_have_stayed(k, weighted, outlier, monkeypatch):
    """The same bits as a look at every row in every iteration, and fewer rows looked at; also where clusters empty.

    Beside an outlier far away the products of all others lose digits, and bounds have to allow for that.
    """
    x = mixture(1500, 20, classes=40)[0]
    x[::5] = x[1]
    x[7] += outlier
    weights = np.random.default_rng(1).uniform(0, 3, len(x)) if weighted else None
    looked, look = [], clusters_module._Nearest._look

    def counted(self, centres, rows):
        looked.append(self.problem.n if rows is None else len(rows))
        look(self, centres, rows)

    monkeypatch.setattr(clusters_module._Nearest, "_look", counted)
    found = k_means(x, k, 4, weights=weights, iterations=60)
    some, everything = sum(looked), looked[0] * len(looked)
    monkeypatch.setattr(clusters_module, "BOUND_NUMBERS", 0)
    every = k_means(x, k, 4, weights=weights, iterations=60)
    assert np.array_equal(found.assignment, every.assignment)
    assert np.array_equal(found.centroids, every.centroids)
    assert outlier or some < 0.7 * everything


@pytest.mark.parametrize(
    ("n", "d", "k", "seed"), [(60, 2, 20, 7), (300, 2, 50, 51), (60, 5, 20, 2), (300, 5, 20, 30), (300, 5, 50, 1)]
)
def test_iterations_are_as_written_out_also_where_a_cluster_empties(n, d, k, seed, monkeypatch):
    """From the first rows, so that clusters empty in the first four."""
    x = np.random.default_rng(seed).standard_t(2, size=(n, d)).astype(np.float32)
    monkeypatch.setattr(_Problem, "seeds", lambda self, k, rng: np.arange(k))
    found = k_means(x, k, 0, iterations=60)
    centres, before, previous, emptied = x[:k].astype(np.float64), np.inf, np.full(n, -1), 0
    for _ in range(60):
        gaps = ((x[:, None] - centres) ** 2).sum(2)
        assignment = gaps.argmin(1)
        for empty in sorted(set(range(k)) - set(assignment.tolist())):
            emptied += 1
            sizes = np.bincount(assignment, minlength=k)
            far = max((row for row in range(n) if sizes[assignment[row]] > 1), key=lambda row: gaps[row].min())
            assignment[far] = empty
        if np.array_equal(assignment, previous):
            break
        centres = np.stack([x[assignment == c].mean(0, dtype=np.float64) for c in range(k)])
        objective = gaps.min(1).sum()
        if before - objective < 1e-4 * before < np.inf:
            break
        before, previous = objective, assignment
    assert np.array_equal(found.assignment, assignment)
    np.testing.assert_allclose(found.centroids, centres, rtol=1e-5, atol=1e-6)
    assert bool(emptied) == (seed != 1)


def test_distinct_rows_are_found_by_hashes_and_by_bytes_where_hashes_meet(monkeypatch):
    x = np.random.default_rng(0).integers(0, 3, (400, 4)).astype(np.float32)
    kept, first = np.unique(x, axis=0, return_index=True)
    for sum_of in (np.matmul, lambda bits, odd: np.zeros(len(bits), np.uint64)):
        monkeypatch.setattr(distinct_module, "hashes_of", sum_of)
        rows, which = distinct_rows(x)
        assert rows.tolist() == sorted(first.tolist())
        assert np.array_equal(x[rows][which], x)
        assert len(rows) == len(kept)


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
    problem = _Problem(x, mass, 1)
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
