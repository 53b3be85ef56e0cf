"""Every novelty: its slow version, scikit-learn's, and what `raysal.scoring.novelty.base` says that each one keeps."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import reference
import reference_novelty
import torch
from cases import Case, make_case
from pools import make_pool, mixture
from programs import local, random_head
from scipy.stats import spearmanr
from sklearn.ensemble import IsolationForest as SklearnForest
from sklearn.neighbors import LocalOutlierFactor
from tiers import deep

from raysal.errors import PoolError
from raysal.features import HiddenLayer
from raysal.fleet import Fleet, LocalFleet, Partition, exclude, plan_partitions, use_features
from raysal.narrowing.novelty import Novelty as MostNovel
from raysal.pool import Pool
from raysal.rng import derive
from raysal.scoring.novelty.base import FittedNovelty, most_novel, novelty_of
from raysal.scoring.novelty.density import LocalDensity
from raysal.scoring.novelty.forest import FittedForest, Forest, IsolationForest, grow, mean_depth
from raysal.scoring.novelty.gaussian import Mahalanobis
from raysal.scoring.novelty.neighbours import NearestNeighbours
from raysal.scoring.novelty.registry import NOVELTIES
from raysal.scoring.top_k import BestItems, best_of_parts
from raysal.strategies.novelty import Novelty
from raysal.types import Metric

KEY = 3
SMALL: dict[str, dict[str, Any]] = {
    "isolation_forest": {"trees": 20, "items": 60, "sample": 200},
    "knn": {"sample": 90},
    "local_density": {"sample": 90, "k": 7},
}
"""Settings with which a sample is a sample on a pool of some hundred rows."""
every_novelty = pytest.mark.parametrize("name", sorted(NOVELTIES))
every_metric = pytest.mark.parametrize("metric", ["cosine", "l2"])


def built(name: str) -> Any:
    return NOVELTIES[name](**SMALL.get(name, {}))


def all_scores(fleet: Fleet, fitted: FittedNovelty, m: int = 10**6, ties: int | None = None) -> BestItems:
    return best_of_parts(fleet.each(most_novel, fitted, m, ties), m, ties=ties)


def by_id(best: BestItems) -> np.ndarray:
    return best[1][np.argsort(best[0])]


def same(a: BestItems, b: BestItems) -> bool:
    return np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1])


def in_memory(x: np.ndarray, metric: Metric = "l2") -> LocalFleet:
    return LocalFleet.of(Partition.of_items(np.arange(len(x)), x.astype(np.float16), metric))


@pytest.fixture(scope="module")
def main_case() -> Case:
    return make_case(720, 33)


@pytest.fixture(scope="module")
def pools(main_case: Case, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Pool]:
    root = tmp_path_factory.mktemp("novelty")
    return {
        (metric, rows): make_pool(root / f"{metric}{rows}", main_case.x, chunk_rows=rows, metric=metric)
        for metric in ("cosine", "l2")
        for rows in (64, 720)
    }


@every_metric
@every_novelty
def test_every_novelty_is_its_slow_version(name, metric, pools, main_case):
    """And the best of all partitions, merged, are a full sort of it, of what is available."""
    fleet = local(pools[metric, 64], 3)
    available = np.setdiff1d(np.arange(720), main_case.excluded)
    fleet.each(exclude, np.array(main_case.excluded))
    fitted = built(name).fit(fleet, KEY)
    x = main_case.x[available].astype(np.float16)
    slow = reference_novelty.novelty(name, x, available, KEY, metric, built(name), fitted)
    ids, scores = all_scores(fleet, fitted)
    assert np.array_equal(np.sort(ids), available)
    np.testing.assert_allclose(scores[np.argsort(ids)], slow, atol=1e-4)
    fast = scores[np.argsort(ids)]
    best = all_scores(fleet, fitted, 50, ties=5)
    assert np.array_equal(best[0], reference.ranked(fast, available, 50, 5))
    assert fitted.words


@every_metric
@every_novelty
def test_a_novelty_depends_neither_on_partitions_nor_on_chunks_nor_on_threads(name, metric, pools):
    outcomes, before = [], torch.get_num_threads()
    try:
        for rows, partitions, threads in ((720, 1, 1), (64, 2, 2), (64, 5, 3)):
            torch.set_num_threads(threads)
            fleet = local(pools[metric, rows], partitions)
            fitted = built(name).fit(fleet, KEY)
            outcomes.append((fitted.words, all_scores(fleet, fitted, ties=9)))
            some = [novelty_of(part, fitted, np.arange(0, 720, 7)) for part in fleet.each(lambda partition: partition)]
            whole = dict(zip(*(column.tolist() for column in outcomes[-1][1]), strict=True))
            for ids, scores in some:  # rows alone have the bits that they have among others
                assert scores.tolist() == [whole[id] for id in ids.tolist()]
    finally:
        torch.set_num_threads(before)
    assert all(words == outcomes[0][0] and same(best, outcomes[0][1]) for words, best in outcomes)


@deep
def test_every_novelty_on_ray_is_that_in_this_process(pools, ray_session):
    from raysal.fleet.ray_fleet import RayFleet

    here = local(pools["cosine", 64], 2)
    with RayFleet(plan_partitions(pools["cosine", 64], 2, threads=1)) as there:
        for name in sorted(NOVELTIES):
            fitted = built(name).fit(there, KEY)
            assert same(all_scores(there, fitted), all_scores(here, built(name).fit(here, KEY))), name


@every_novelty
def test_what_is_excluded_changes_no_novelty(name, main_case, tmp_path):
    """Neither what is held out nor what is labelled is known to it."""
    other = main_case.x.copy()
    other[list(main_case.excluded)] = 9.0
    found = []
    for place, x in (("a", main_case.x), ("b", other)):
        fleet = local(make_pool(tmp_path / place, x), 2)
        fleet.each(exclude, np.array(main_case.excluded))
        found.append(all_scores(fleet, built(name).fit(fleet, KEY)))
    assert same(*found)


@every_novelty
def test_novelty_looks_below_a_hidden_layer(name, pools):
    layer = HiddenLayer(weight=random_head(33, 9).weight, bias=np.zeros(9))
    fleet = local(pools["cosine", 64], 2)
    plain = all_scores(fleet, built(name).fit(fleet, KEY))
    fleet.each(use_features, layer)
    assert same(all_scores(fleet, built(name).fit(fleet, KEY)), plain)


@every_novelty
@pytest.mark.parametrize("change", ["shifted", "eightfold", "threefold"])
def test_neither_origin_nor_unit_of_the_vectors_changes_a_novelty(name, change, tmp_path):
    """Where distances are Euclidean: of numbers that float16 holds before and after."""
    x = np.round(mixture(300, 6, seed=3)[0] * 16) / 16
    shift = np.array([3, -5, 2, 7, -4, 6])
    changed = {"shifted": x + shift, "eightfold": 8 * x, "threefold": 3 * x}[change]
    assert np.array_equal(changed, changed.astype(np.float16))
    before, after = (by_id(all_scores(fleet := in_memory(rows), built(name).fit(fleet, KEY))) for rows in (x, changed))
    np.testing.assert_allclose(before, after, rtol=1e-5)


DEGENERATE = {
    "copies": np.ones((30, 4)),
    "zeros": np.zeros((30, 4)),
    "one row": np.ones((1, 4)),
    "two rows": np.eye(4)[:2],
    "no row": np.ones((0, 4)),
    "mostly copies": np.vstack([np.ones((40, 4)), np.random.default_rng(0).normal(size=(5, 4))]),
    "one column": np.linspace(1, 2, 20)[:, None],
    "constant columns": np.column_stack([np.random.default_rng(1).normal(size=50), np.ones((50, 20))]),
    "wide": np.random.default_rng(2).normal(size=(5, 300)),
    "extreme": np.random.default_rng(3).choice([60000.0, -60000.0, 6e-8], size=(40, 16)),
}


@every_metric
@every_novelty
@pytest.mark.parametrize("rows", sorted(DEGENERATE))
def test_a_novelty_is_a_number_from_0_to_1(rows, name, metric):
    x = DEGENERATE[rows]
    fleet = in_memory(x, metric)
    fitted = NOVELTIES[name]().fit(fleet, KEY)
    scores = all_scores(fleet, fitted)[1]
    assert len(scores) == len(x)
    assert scores.dtype == np.float32
    assert ((scores >= 0) & (scores <= 1)).all()
    if rows in ("copies", "zeros"):
        assert len(set(scores.tolist())) == 1


@every_novelty
def test_an_ordinary_item_is_about_a_half_and_what_is_far_away_comes_first(name):
    x = np.random.default_rng(0).normal(size=(2000, 8)) / 8
    x[[3, 777, 1500]] = 3 * np.eye(8)[:3] - 2
    fleet = in_memory(x)
    ids, scores = all_scores(fleet, NOVELTIES[name]().fit(fleet, KEY))
    assert set(ids[:3].tolist()) == {3, 777, 1500}
    assert 0.35 < np.median(scores) < 0.6
    assert scores[2] > scores[3] + 0.02


@every_novelty
def test_a_vector_that_is_not_finite_is_refused_by_name(name):
    x = np.random.default_rng(0).normal(size=(40, 4))
    good = in_memory(x)
    fitted = NOVELTIES[name]().fit(good, KEY)
    for bad in (np.nan, np.inf):
        x[17, 2] = bad
        broken = in_memory(x)
        with pytest.raises(PoolError, match="item 17: its vector is not finite"):
            broken.each(most_novel, fitted, 3, None)
        with pytest.raises(PoolError, match="item 17: its vector is not finite"):
            NOVELTIES[name]().fit(broken, KEY)


@pytest.mark.parametrize("name", ["knn", "local_density"])
def test_no_item_is_its_own_neighbour(name):
    """Far items that are in the sample are as novel as far ones that are not."""
    x = np.random.default_rng(0).normal(size=(400, 5)) / 4
    x[::40] += 4 * np.random.default_rng(1).normal(size=(10, 5))
    fleet = in_memory(x)
    fitted = NOVELTIES[name](k=1, sample=200).fit(fleet, KEY)
    inside = np.isin(np.arange(0, 400, 40), fitted.reference.ids)
    assert 0 < inside.sum() < 10
    assert (by_id(all_scores(fleet, fitted))[::40] > 0.6).all()


def test_with_the_whole_pool_the_distance_is_exact_and_it_says_so(pools):
    fleet = local(pools["l2", 64], 2)
    exact = NearestNeighbours(sample=720).fit(fleet, KEY)
    assert same(all_scores(fleet, exact), all_scores(fleet, NearestNeighbours(sample=10**6).fit(fleet, KEY + 1)))
    assert exact.words == "distance to the last of the 5 nearest among all 720"
    assert "a sample of 90 of 720" in built("knn").fit(fleet, KEY).words
    assert "all 720" in Mahalanobis().fit(fleet, KEY).words


def test_the_local_outlier_factor_is_that_of_scikit_learn(pools, main_case):
    fleet = local(pools["l2", 64], 2)
    x = main_case.x.astype(np.float16).astype(np.float64)
    scores = by_id(all_scores(fleet, LocalDensity(k=20, sample=720).fit(fleet, KEY))).astype(np.float64)
    wanted = -LocalOutlierFactor(n_neighbors=20).fit(x).negative_outlier_factor_
    np.testing.assert_allclose(scores / (1 - scores), wanted, rtol=1e-4)


def test_the_distance_is_that_of_scikit_learn(pools, main_case):
    from sklearn.neighbors import NearestNeighbors

    fleet = local(pools["l2", 64], 2)
    x = main_case.x.astype(np.float16).astype(np.float64)
    scores = by_id(all_scores(fleet, NearestNeighbours(k=5, sample=720).fit(fleet, KEY))).astype(np.float64)
    distance = NearestNeighbors(n_neighbors=6).fit(x).kneighbors(x)[0][:, -1]
    np.testing.assert_allclose(scores, distance / (distance + distance.mean()), rtol=1e-5)


def grafted(forest: SklearnForest, items: int) -> Forest:
    """The trees of scikit-learn in our layout."""
    height = math.ceil(math.log2(items))
    features = np.zeros((len(forest.estimators_), 2**height - 1), np.int32)
    thresholds = np.full(features.shape, np.inf, np.float32)
    lengths = np.zeros((len(features), 2**height), np.float32)
    for place, estimator in enumerate(forest.estimators_):
        tree = estimator.tree_
        left = [(0, 0, 0)]
        while left:
            ours, theirs, depth = left.pop()
            if tree.children_left[theirs] < 0:
                leaf = ((ours + 1) << (height - depth)) - 2**height
                lengths[place, leaf] = depth + mean_depth(int(tree.n_node_samples[theirs]))
                continue
            features[place, ours], thresholds[place, ours] = tree.feature[theirs], tree.threshold[theirs]
            left += [
                (2 * ours + 1, tree.children_left[theirs], depth + 1),
                (2 * ours + 2, tree.children_right[theirs], depth + 1),
            ]
    return Forest(features, thresholds, lengths, mean_depth(items))


def test_the_trees_of_scikit_learn_give_the_scores_of_scikit_learn(main_case):
    x = main_case.x.astype(np.float16).astype(np.float32)
    theirs = SklearnForest(n_estimators=50, max_samples=128, random_state=0).fit(x)
    fitted = FittedForest(forest=grafted(theirs, 128), of="")
    scores = by_id(all_scores(in_memory(x), fitted))
    np.testing.assert_allclose(scores, -theirs.score_samples(x), atol=2e-6)


def test_what_is_at_a_cut_goes_left_as_in_scikit_learn():
    forest = Forest(np.zeros((1, 1), np.int32), np.array([[0.5]], np.float32), np.array([[1, 3]], np.float32), 1.0)
    scores = by_id(all_scores(in_memory(np.array([[0.25], [0.5], [0.75]])), FittedForest(forest=forest, of="")))
    assert scores.tolist() == [0.5, 0.5, 0.125]


def test_our_trees_rank_as_those_of_scikit_learn(main_case):
    """Two forests of many trees agree as closely as two of scikit-learn's do."""
    x = main_case.x.astype(np.float16).astype(np.float32)
    theirs = [SklearnForest(n_estimators=300, random_state=seed).fit(x).score_samples(x) for seed in (0, 1)]
    fleet = in_memory(x)
    ours = -by_id(all_scores(fleet, IsolationForest(trees=300).fit(fleet, KEY)))
    among_theirs = spearmanr(*theirs).statistic
    assert spearmanr(ours, theirs[0]).statistic > among_theirs - 0.02
    assert abs(np.mean(ours) - np.mean(theirs[0])) < 0.01


def test_trees_cut_the_items_that_they_are_grown_from_apart():
    """Each leaf counts the items that reach it; a cut has items on both sides; copies are never cut apart."""
    x = mixture(300, 6)[0].astype(np.float32)
    x[::3] = x[0]
    forest = grow(x, 5, 64, KEY)
    assert forest.height == 6
    for tree in range(5):
        features, thresholds = forest.features[tree], forest.thresholds[tree]
        split = np.flatnonzero(np.isfinite(thresholds))
        assert len(split) > 10
        for node in split[split > 0]:
            assert np.isfinite(thresholds[(node - 1) // 2])
        for node in split:
            own = x[:, features[node]]
            assert own.min() <= thresholds[node] < own.max()
    again = grow(x, 5, 64, KEY)
    assert all(np.array_equal(one, other) for one, other in zip(forest[:3], again[:3], strict=True))
    assert not np.array_equal(forest.thresholds, grow(x, 5, 64, KEY + 1).thresholds)
    assert np.isinf(grow(np.ones((20, 3), np.float32), 2, 16, KEY).thresholds).all()


def test_moments_are_those_of_numpy(main_case):
    """Mean and covariance, up to the grid, for columns of very different units and far origins."""
    x = (main_case.x * np.logspace(0, 3, 33) + 10).astype(np.float16).astype(np.float64)
    fleet = in_memory(x)
    gaussians = Mahalanobis().fit(fleet, KEY).gaussians
    np.testing.assert_allclose(gaussians.centre, x.mean(0), rtol=1e-4)
    whitener = gaussians.whitener.astype(np.float64)
    shrunk, sample = np.linalg.inv(whitener @ whitener.T), np.cov(x.T)
    deviation = np.sqrt(sample.diagonal())
    shrunk, sample = (one / np.outer(deviation, deviation) for one in (shrunk, sample))
    share = 1 - shrunk[0, 1] / sample[0, 1]
    assert 0 < share < 0.1
    np.testing.assert_allclose(shrunk, (1 - share) * sample + share * np.eye(33), atol=1e-4)


def test_novelty_is_spelled_in_three_ways():
    from raysal.config import choice
    from raysal.narrowing import NARROWERS
    from raysal.strategies import SELECTORS

    for registry, cls in ((SELECTORS, Novelty), (NARROWERS, MostNovel)):
        short, long, python = (
            choice("novelty:local_density").build("x", registry),
            choice({"name": "novelty", "by": {"name": "local_density", "k": 20}}).build("x", registry),
            choice({"name": "novelty", "by": "local_density"}).build("x", registry),
        )
        assert isinstance(short, cls)
        assert short == python
        assert long.by.part == short.by.part == LocalDensity()
        assert choice("novelty").build("x", registry).by.part == NearestNeighbours()


def test_the_most_novel_items_are_picked_and_kept(main_case, tmp_path):
    """The strategy and the narrower are the sort of the scores, fitted with the key of their stage."""
    pool = main_case.pool(tmp_path / "pool", 64)
    fleet = local(pool, 3)
    for name in sorted(NOVELTIES):
        by: Any = replace(Novelty().by, name=name, part=built(name))
        outcome = main_case.run(fleet, Novelty(by=by), MostNovel(by=by, size=60))
        own = local(pool, 2)
        own.each(exclude, np.setdiff1d(np.arange(720), main_case.offered))
        fitted = built(name).fit(own, derive(7, "novelty"))
        kept = all_scores(own, fitted, 60, ties=derive(7, "ties"))[0]
        assert np.array_equal(outcome.candidates.ids, kept)
        assert outcome.candidates.rule == f"60 most novel of {len(main_case.offered)} by {fitted.words}"
        fitted = built(name).fit(own, derive(8, "novelty"))
        scores = dict(zip(*(column.tolist() for column in all_scores(own, fitted)), strict=True))
        wanted = reference.ranked(np.array([scores[id] for id in sorted(kept)]), np.sort(kept), 12, derive(8, "ties"))
        assert np.array_equal(outcome.picks.ids, wanted)
        assert outcome.picks.scores.tolist() == [scores[id] for id in wanted.tolist()]
        assert outcome.picks.reasons[0].startswith("novelty 0.")
