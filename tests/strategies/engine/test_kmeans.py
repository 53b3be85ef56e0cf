"""k-means and the rules on it against written-out versions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import reference_clusters as reference
import torch
from pools import make_pool, mixture
from programs import context_of, local, make_head, random_head

from raysal.errors import PoolError
from raysal.fleet import exclude
from raysal.models.likelihood import LIKELIHOODS
from raysal.numerics import one_thread
from raysal.rng import derive, generator, item_uniform
from raysal.scoring.linear import Linear
from raysal.scoring.similarity import unit_rows
from raysal.strategies import SELECTORS
from raysal.strategies.base import refuse_broken, select
from raysal.strategies.coverage.clue import entropies
from raysal.strategies.coverage.typiclust import most_typical, typical_rows, typicality_of
from raysal.strategies.engine import kmeans as clusters_module
from raysal.strategies.engine.kmeans import _Problem, in_turn, k_means, nearest_to_centroids
from raysal.strategies.uncertainty.perturbation import class_means, feature_bits

# -- k-means -------------------------------------------------------------------------------------------------


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
    monkeypatch.setattr(clusters_module, "THREADS_PAY", 0)
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
    assert in_turn([np.array([3, 1]), np.array([2]), np.array([7, 8, 9])], 5).tolist() == [3, 2, 7, 1, 8]


# -- TypiClust -----------------------------------------------------------------------------------------------


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


# -- CLUE ----------------------------------------------------------------------------------------------------


def task(dim, *, head, labelled=None, classes=(), key=3):
    vectors = np.empty((0, dim), np.float32) if labelled is None else labelled
    return context_of(head=head, labelled=vectors, classes=classes, key=key)


def half(x):
    return x.astype(np.float16).astype(np.float32)


@pytest.mark.parametrize(("temperature", "link"), [(0.1, "softmax"), (1.0, "softmax"), (0.7, "sigmoid")])
def test_clue_picks_the_middles_of_entropy_weighted_clusters(temperature, link, tmp_path):
    x = half(mixture(300, 7)[0])
    head = replace(random_head(7), likelihood=LIKELIHOODS[link])
    logits = (x @ head.weight.T + head.bias) / temperature
    if link == "sigmoid":
        weights = np.array(
            [sum(reference.entropy(np.array([p, 1 - p])) for p in row) for row in 1 / (1 + np.exp(-logits))]
        )
    else:
        weights = np.array([reference.entropy(p) for p in reference.softmax(logits)])
    np.testing.assert_allclose(entropies(x, Linear.of(head), temperature), weights, rtol=1e-6, atol=1e-9)
    picks = select(
        local(make_pool(tmp_path / "pool", x), 3), SELECTORS["clue"](temperature=temperature), task(7, head=head), 8
    )
    clusters = k_means(x, 8, derive(3, "clusters"), weights=entropies(x, Linear.of(head), temperature))
    wanted = {}
    for c in range(8):
        own = np.flatnonzero(clusters.assignment == c)
        mean = np.average(x[own].astype(np.float64), 0, weights[own])
        wanted[int(own[((x[own] - mean) ** 2).sum(1).argmin()])] = weights[own].sum() / weights.sum()
    assert set(picks.ids.tolist()) == set(wanted)
    np.testing.assert_allclose(picks.scores, sorted(wanted.values(), reverse=True), rtol=1e-6)


def test_clue_without_uncertainty_says_so(tmp_path):
    head = make_head(np.zeros((2, 4)), np.array([1e6, 0.0]))
    picks = select(local(make_pool(tmp_path / "pool", mixture(40, 4)[0])), SELECTORS["clue"](), task(4, head=head), 5)
    assert all("no uncertainty is left" in reason for reason in picks.reasons)


# -- DropQuery and ALFA-Mix ----------------------------------------------------------------------------------


def flags_of(fleet):
    return np.concatenate(fleet.each(lambda part: part.state["flags"][0]))


@pytest.mark.parametrize(("passes", "dropout"), [(3, 0.75), (4, 0.3), (1, 0.5)])
def test_dropquery_flags_as_written_out(passes, dropout, tmp_path):
    x = half(mixture(150, 9)[0])
    head = random_head(9)
    fleet = local(make_pool(tmp_path / "pool", x, chunk_rows=40), 3)
    selector = SELECTORS["drop_query"](passes=passes, dropout=dropout)
    picks = select(fleet, selector, task(9, head=head), 2)
    wanted = reference.mismatches(x, np.arange(150), head.weight, head.bias, derive(3, "dropout", 0), passes, dropout)
    assert np.array_equal(flags_of(fleet), wanted)
    assert 0 < (wanted > 0).mean() < 1
    least = max(passes // 2 + 1, 1)
    while least > 1 and (wanted >= least).sum() < 50:
        least -= 1
    assert (wanted[picks.ids] >= least).all()
    assert all(f"by {least} of {passes}" in reason for reason in picks.reasons)


def test_dropout_hides_its_share_of_the_features():
    bits = feature_bits(5, np.arange(4000), 48, torch.device("cpu")).numpy()
    lanes = np.stack([(bits >> shift) & 0xFFFF for shift in (0, 16, 32, 48)]) / 65536
    assert abs(lanes.mean() - 0.5) < 0.001
    assert abs((lanes < 0.75).mean() - 0.75) < 0.001
    assert abs(np.corrcoef(lanes.reshape(4, -1)) - np.eye(4)).max() < 0.01
    assert abs(np.corrcoef(lanes[0].T) - np.eye(48)).max() < 0.08


def test_more_than_four_passes_draw_more_bits(tmp_path):
    fleet = local(make_pool(tmp_path / "pool", mixture(60, 9)[0]))
    select(fleet, SELECTORS["drop_query"](passes=6), task(9, head=random_head(9)), 2)
    assert flags_of(fleet).max() > 4


@pytest.mark.parametrize("epsilon", [0.05, 0.2, 1.0, 5.0])
def test_alfa_mix_flags_what_the_published_interpolation_flips(epsilon, tmp_path):
    x, names = mixture(200, 9)
    x, head = half(x), random_head(9)
    known = np.array([row for row in range(40) if names[row] != names[0]])  # one class has no labels
    fleet = local(make_pool(tmp_path / "pool", x, chunk_rows=40), 3)
    classes = [names[row] for row in known]
    select(fleet, SELECTORS["alfa_mix"](epsilon=epsilon), task(9, head=head, labelled=x[known], classes=classes), 4)
    anchors = [x[known][np.array(classes) == name].astype(np.float64).mean(0) for name in sorted(set(classes))]
    assert len(anchors) == len(set(names)) - 1
    np.testing.assert_allclose(class_means(x[known], classes), anchors)
    wanted = reference.alfa_flags(x, head.weight, head.bias, anchors, epsilon)
    assert np.array_equal(flags_of(fleet).astype(bool), wanted)
    assert wanted.any()


def test_alfa_mix_takes_what_flips_next_where_too_few_flip(tmp_path):
    x, names = mixture(120, 6)
    x, head = half(x), random_head(6)
    fleet = local(make_pool(tmp_path / "pool", x), 2)
    this = task(6, head=head, labelled=x[:30], classes=names[:30])
    few = select(fleet, SELECTORS["alfa_mix"](epsilon=1e-3), this, 20)
    assert any("next to flip" in reason for reason in few.reasons)
    epsilon = 1e-3
    anchors = class_means(x[:30], names[:30])
    while (wanted := reference.alfa_flags(x, head.weight, head.bias, anchors, epsilon)).sum() < 20:
        epsilon *= 1.1
    assert set(few.ids.tolist()) <= set(np.flatnonzero(wanted).tolist())


@pytest.mark.parametrize("name", ["alfa_mix", "drop_query"])
def test_without_a_flag_the_batch_is_a_uniform_draw_and_says_so(name, tmp_path):
    head = make_head(np.zeros((2, 4)), np.array([1.0, 0.0]))
    fleet = local(make_pool(tmp_path / "pool", mixture(40, 4)[0]), 2)
    picks = select(fleet, SELECTORS[name](), task(4, head=head), 6)
    hashes = item_uniform(derive(3, "spare"), np.arange(40))
    assert picks.ids.tolist() == np.argsort(hashes)[:6].tolist()
    assert all(reason.startswith("not flagged; uniform") for reason in picks.reasons)


def test_with_one_class_nothing_flips_next(tmp_path):
    x, names = mixture(40, 4)
    this = task(4, head=make_head(np.ones((1, 4)), np.zeros(1)), labelled=half(x[:5]), classes=names[:5])
    picks = select(local(make_pool(tmp_path / "pool", x), 2), SELECTORS["alfa_mix"](), this, 6)
    assert all(reason.startswith("not flagged; uniform") for reason in picks.reasons)


@pytest.mark.parametrize("name", ["alfa_mix", "drop_query", "clue", "typiclust"])
def test_a_limit_bounds_what_is_gathered(name, tmp_path):
    x, names = mixture(600, 6)
    limit = {"sample": 30} if name == "typiclust" else {"limit": 30}
    this = task(6, head=random_head(6, scale=0.05), labelled=half(x[:50]), classes=names[:50])
    pool = make_pool(tmp_path / "pool", x)
    picks, again = (select(local(pool, count), SELECTORS[name](**limit), this, 4) for count in (1, 3))
    assert picks.ids.tolist() == again.ids.tolist()
    assert all("30 drawn from" in reason for reason in picks.reasons)


def test_a_vector_that_is_not_finite_is_named():
    with pytest.raises(PoolError, match=r"item 7: .*finite"):
        refuse_broken(np.array([3, 7, 9]), np.array([True, False, False]))
