"""TypiClust: the most typical row of each cluster, as written out."""

from __future__ import annotations

import numpy as np
import pytest
import reference_clusters as reference
from pools import make_pool, mixture
from programs import context_of, local

from raysal.fleet import exclude
from raysal.scoring.similarity import unit_rows
from raysal.strategies import SELECTORS
from raysal.strategies.base import select
from raysal.strategies.coverage.typiclust import most_typical, typical_rows, typicality_of
from raysal.strategies.engine.kmeans import k_means


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


@pytest.mark.parametrize("k", [1, 9, 60, 200])
@pytest.mark.parametrize("known", [0, 30])
def test_typiclust_is_as_written_out(k, known):
    x = unit_rows(mixture(200 + known, 5, seed=k)[0])
    clusters = k_means(x, 31, k)
    chosen = most_typical(x[:200], clusters, k)
    assert chosen.rows.tolist() == reference.typiclust(x[:200].astype(np.float64), clusters.assignment, k)


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
    chosen = typical_rows(x, np.empty((0, 4), np.float32), 6, 1)
    assert (chosen.sizes > 5).all()
    every = typical_rows(x, np.empty((0, 4), np.float32), 62, 1)
    assert sorted(every.rows.tolist()) == list(range(62))


def task(dim, *, head, labelled=None, classes=(), key=3):
    vectors = np.empty((0, dim), np.float32) if labelled is None else labelled
    return context_of(head=head, labelled=vectors, classes=classes, key=key)
