"""TypiClust: the most typical row of each cluster, as written out."""

from __future__ import annotations

import numpy as np
import pytest
import reference_clusters as reference
from pools import make_pool, mixture
from programs import context_of, local

from raysal.fleet import exclude
from raysal.rng import derive, item_order, item_uniform
from raysal.scoring.similarity import unit_rows
from raysal.strategies import SELECTORS
from raysal.strategies.base import select
from raysal.strategies.coverage.typiclust import Neighbourhood, cluster, most_typical, typicality_of
from raysal.strategies.engine.kmeans import Clusters, k_means


@pytest.mark.parametrize("n", [2, 3, 9, 60])
def test_typicality_is_as_written_out(n):
    x = unit_rows(mixture(n, 6)[0])
    np.testing.assert_allclose(typicality_of(x), reference.typicality(x.astype(np.float64)), rtol=1e-9)


def test_typicality_beyond_a_tile_and_of_copies():
    x = unit_rows(mixture(1100, 6)[0])
    x[7] = x[1050]
    gaps = np.sqrt(((x[:, None].astype(np.float64) - x) ** 2).sum(2))
    np.fill_diagonal(gaps, np.inf)
    np.testing.assert_allclose(typicality_of(x), 1 / (np.sort(gaps, 1)[:, :20].mean(1) + 1e-5), rtol=1e-6)
    assert typicality_of(np.ones((6, 3), np.float32)).tolist() == pytest.approx([1e5] * 6)


@pytest.mark.parametrize("m", [2, 30, 700, 1100])
def test_the_most_typical_row_is_found_although_few_are_measured(m):
    """Turn after turn, as the rows that are left become fewer."""
    x = unit_rows(mixture(m, 6, seed=m)[0])
    x[m // 2] = x[0]
    left, bounded, whole = np.ones(m, bool), Neighbourhood(x), Neighbourhood(x)
    measured = 0
    for _ in range(min(m, 25)):
        best, every = bounded.typicality(left, best=True), whole.typicality(left)
        assert best.max() == every.max()
        assert np.array_equal(np.flatnonzero(best == best.max()), np.flatnonzero(every == every.max()))
        measured = max(measured, int(np.isfinite(bounded.mean_distance).sum()))
        left[int(best.argmax())] = False
    assert m < 100 or measured < m / 3


def test_typicality_by_hand():
    """Five numbers in a line, two neighbours each. By the mean distance, as in the paper, the copies at 0 are the most
    typical: (0 + 2.1) / 2. By its squares, as in the authors' code, 3.1 would be: 4.41 / 2 against 2.44 / 2."""
    line = np.array([[0.0], [0.0], [2.1], [3.1], [4.3]], np.float32)
    wanted = 1 / (np.array([1.05, 1.05, 1.55, 1.1, 1.7]) + 1e-5)
    np.testing.assert_allclose(typicality_of(line), wanted, rtol=1e-6)
    chosen = most_typical(line, all_in_one(line), 5, np.array([0.5, 0.4, 0.1, 0.2, 0.3]))
    # Without the second 0, the first is far from its neighbours 2.1 and 3.1; of the last two all is equal but the tie.
    assert chosen.rows.tolist() == [1, 3, 2, 4, 0]
    np.testing.assert_allclose(chosen.typicality, [1 / 1.05001, 1 / 1.10001, 1 / 2.10001, 1 / 4.30001, 0.0], rtol=1e-5)


def all_in_one(x):
    mean = x.mean(0, keepdims=True).astype(np.float64)
    return Clusters(assignment=np.zeros(len(x), np.int64), centroids=mean, mass=np.array([float(len(x))]))


@pytest.mark.parametrize("k", [1, 9, 60, 200])
@pytest.mark.parametrize("known", [0, 30])
def test_typiclust_is_as_written_out(k, known):
    x = unit_rows(mixture(200 + known, 5, seed=k)[0])
    x[3:200:9] = x[4:200:9]  # copies: ties
    clusters = k_means(x, 31, k)
    ties = np.random.default_rng(k).random(200)
    chosen = most_typical(x[:200], clusters, k, ties)
    assert chosen.rows.tolist() == reference.typiclust(x[:200].astype(np.float64), clusters.assignment, k, ties)


@pytest.mark.parametrize("count", [1, 2])
def test_a_large_cluster_has_turn_after_turn(count):
    x = unit_rows(mixture(1100, 6)[0])
    ties = np.random.default_rng(0).random(1100)
    clusters = k_means(x, count, 1)
    chosen = most_typical(x, clusters, 6, ties)
    left = [row.tolist() for row in clusters.members()]
    for place, row in enumerate(chosen.rows.tolist()):
        own = left[clusters.assignment[row]]
        gaps = np.sqrt(((x[own][:, None].astype(np.float64) - x[own]) ** 2).sum(2))
        np.fill_diagonal(gaps, np.inf)
        best = 1 / (np.sort(gaps, 1)[:, :20].mean(1) + 1e-5)
        assert own[int(best.argmax())] == row
        assert chosen.typicality[place] == pytest.approx(best.max())
        own.remove(row)


@pytest.mark.parametrize(
    ("n", "labelled", "k", "fields", "clusters"),
    [(300, 0, 10, {}, 10), (300, 3, 10, {}, 13), (300, 40, 10, {"max_clusters": 20}, 20), (3500, 1000, 100, {}, 500)],
)
def test_there_are_as_many_clusters_as_published(n, labelled, k, fields, clusters, tmp_path):
    x = mixture(n, 5)[0].astype(np.float16).astype(np.float32)
    fleet = local(make_pool(tmp_path / "pool", x), 2)
    known, left = np.arange(labelled), np.arange(labelled, n)
    fleet.each(exclude, known)
    picks = select(fleet, SELECTORS["typiclust"](**fields), task(5, head=None, labelled=x[known]), k)
    left = left[np.argsort(item_order(derive(derive(3, "sample"), "ties"), left))]  # as rows come to the driver
    found = k_means(unit_rows(x[[*left, *known]]), clusters, derive(3, "clusters"))
    assert len(found) == clusters
    ties = item_uniform(derive(3, "ties"), left)
    wanted = reference.typiclust(unit_rows(x[left]).astype(np.float64), found.assignment, k, ties)
    assert picks.ids.tolist() == left[wanted].tolist()


def test_equal_items_are_taken_by_their_hash_and_not_by_the_order_of_files(tmp_path):
    fleet = local(make_pool(tmp_path / "pool", np.ones((60, 3))), 2)
    picks = select(fleet, SELECTORS["typiclust"](), task(3, head=None), 7)
    assert picks.ids.tolist() == np.argsort(item_uniform(derive(3, "ties"), np.arange(60)))[:7].tolist()


def test_typiclust_leaves_clusters_with_labels_for_later(tmp_path):
    rng = np.random.default_rng(0)
    centres = np.eye(6) * 4
    x = np.repeat(centres, 30, 0) + rng.normal(size=(180, 6)) * 0.05
    fleet = local(make_pool(tmp_path / "pool", x), 2)
    known = np.arange(0, 180, 30)[:3]
    fleet.each(exclude, known)
    picks = select(fleet, SELECTORS["typiclust"](), task(6, head=None, labelled=x[known].astype(np.float32)), 3)
    assert sorted((picks.ids // 30).tolist()) == [3, 4, 5]
    assert all("0 labelled" in reason for reason in picks.reasons)


def test_typiclust_avoids_small_clusters_and_bounds_their_number():
    x = unit_rows(np.concatenate([mixture(60, 4)[0], 50 * np.eye(4)[:2]]).astype(np.float32))
    ties, nothing = np.arange(62) / 62, np.empty((0, 4), np.float32)
    chosen = most_typical(x, cluster(x, nothing, 6, 1), 6, ties)
    assert (chosen.sizes > 5).all()
    assert len(cluster(x, nothing, 62, 1)) == 12
    every = most_typical(x, cluster(x, nothing, 62, 1), 62, ties)
    assert sorted(every.rows.tolist()) == list(range(62))


def task(dim, *, head, labelled=None, classes=(), key=3):
    vectors = np.empty((0, dim), np.float32) if labelled is None else labelled
    return context_of(head=head, labelled=vectors, classes=classes, key=key)
