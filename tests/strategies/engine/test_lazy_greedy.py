"""The lazy engine: the picks of the eager loop however little it looks at, and its screen never hides a row."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import reference
import torch
from pools import make_pool, mixture
from programs import context_of, local, random_head
from scipy.stats import chi2
from tiers import deep_unless, one_of_each

from raysal.errors import PoolError
from raysal.fleet import exclude
from raysal.models.likelihood import SIGMOID
from raysal.numerics import EXACT_COLUMNS, EXACT_ROWS, one_thread
from raysal.rng import derive, item_order, item_uniform
from raysal.scoring.linear import Linear
from raysal.strategies import SELECTORS
from raysal.strategies.base import select
from raysal.strategies.engine import exact_states, partition_state
from raysal.strategies.engine import lazy_greedy as lazy
from raysal.strategies.engine.distances import COINCIDENT, Centres, WideRows, approximate_sq_norms, slack
from raysal.strategies.engine.feature_maps import (
    Gradients,
    Probabilities,
    Scaled,
    UnitVectors,
    Vectors,
    factors_of,
)
from raysal.strategies.engine.lazy_greedy import lazy_greedy
from raysal.strategies.engine.priorities import D2Race, FarthestLevel, FarthestPoint, bounds_of_levels

N, DIM = 900, 20


@pytest.fixture(scope="module")
def rows():
    x, _ = mixture(N, DIM, seed=3)
    x[::7] = x[3::7][: len(x[::7])]  # copies, some of them of outliers
    x[5] = x[800] = 20.0
    return x


@pytest.fixture(scope="module")
def pool(rows, tmp_path_factory):
    return make_pool(tmp_path_factory.mktemp("lazy") / "pool", rows, chunk_rows=100)


HEAD = Linear.of(random_head(DIM))
MAPS = {
    "vectors": (Vectors(), lambda x: x),
    "unit": (UnitVectors(), lambda x: x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)),
    "scaled": (Scaled(scale=np.linspace(0, 2, DIM, dtype=np.float32)), lambda x: x * np.linspace(0, 2, DIM)),
    "probabilities": (Probabilities(head=HEAD), lambda x: reference.probabilities(x, HEAD.weight, HEAD.bias)),
    "gradients": (Gradients(head=HEAD), lambda x: reference.gradient_embeddings(x, HEAD.weight, HEAD.bias)),
    "gradients of labels": (
        Gradients(head=HEAD._replace(likelihood=SIGMOID)),
        lambda x: reference.gradient_embeddings(x, HEAD.weight, HEAD.bias, "sigmoid"),
    ),
}
every_map = pytest.mark.parametrize("name", sorted(MAPS))


def run(fleet, rule, feature_map, k, *, centres=None, opening="lowest", key=11):
    vectors = np.empty((0, DIM), np.float32) if centres is None else centres
    known = factors_of(feature_map, vectors)
    return lazy_greedy(fleet, rule, feature_map, k, centres=known, opening=opening, key=key)


@pytest.mark.parametrize("epsilon", [0.001, 0.1, 0.5])
@pytest.mark.parametrize("partitions", [1, 3])
def test_levels_are_gone_through_in_the_order_of_hashes(epsilon, partitions, rows, pool):
    """The slow version: of all rows at the highest level, that of lowest hash; and what is promised of the radius."""
    rule = FarthestLevel(key=5, epsilon=epsilon)
    found = run(local(pool, partitions), rule, Vectors(), 300, centres=rows[10:15])
    x, bounds = rows.astype(np.float64), bounds_of_levels(epsilon)
    gaps = np.min([reference.sq_distance(x, x[row]) for row in range(10, 15)], 0)
    hashes = item_uniform(5, np.arange(N))
    for id, gap in zip(found.ids, found.sq_distances, strict=True):
        level = np.searchsorted(bounds, gaps, side="right")
        level[np.isneginf(gaps)] = -1
        (highest,) = (level == level.max()).nonzero()
        assert id == highest[hashes[highest].argmin()]
        np.testing.assert_allclose(gap, gaps[id], rtol=1e-9, atol=1e-9)
        assert gap == 0 or gap > (1 - epsilon) ** 2 * gaps.max() * (1 - 1e-9)
        gaps = np.minimum(gaps, reference.sq_distance(x, x[id]))
        gaps[id] = -np.inf
    assert len(set(found.ids)) == 300


@pytest.mark.parametrize(("name", "partitions"), one_of_each(product(sorted(MAPS), [3, 1])))
def test_k_center_in_every_feature_space_is_the_eager_loop(name, partitions, rows, pool):
    feature_map, dense = MAPS[name]
    found = run(local(pool, partitions), FarthestPoint(), feature_map, 80, centres=rows[10:15])
    full = dense(rows.astype(np.float64))
    _, gaps = reference.coreset(full, np.arange(N), full[10:15], 80, 0)
    # Float32 factors may tell equal distances of the slow version apart; the radii cannot differ.
    np.testing.assert_allclose(found.sq_distances, gaps, rtol=2e-4, atol=1e-6)
    assert len(set(found.ids)) == 80


@pytest.mark.parametrize("name", sorted(set(MAPS) - {"unit"}))  # of rows of length one, which is the largest?
def test_the_race_in_every_feature_space_is_the_eager_loop(name, rows, pool):
    feature_map, dense = MAPS[name]
    found = run(local(pool, 2), D2Race(key=11), feature_map, 60, opening="largest")
    full = dense(rows.astype(np.float64))
    ids = np.arange(N)
    wanted = reference.badge(full, ids, 60, 11)
    assert found.ids == wanted.tolist()


@pytest.mark.parametrize("rule", [FarthestPoint(), D2Race(key=5), FarthestLevel(key=5, epsilon=0.1)])
def test_how_much_is_sent_looked_at_and_kept_up_to_date_changes_no_pick(rule, pool, monkeypatch):
    usual = run(local(pool), rule, Vectors(), 100)
    assert usual.round_trips < 20
    for fewest, most, held in ((1, 1, 1), (7, 60, 90), (900, 900, 900)):
        monkeypatch.setattr(lazy, "ROWS_AT_FIRST", most)
        monkeypatch.setattr(lazy, "FEWEST_ROWS", fewest)
        monkeypatch.setattr(lazy, "MOST_ROWS", most)
        monkeypatch.setattr(lazy, "HELD_ROWS", held)
        monkeypatch.setattr(partition_state, "FIRST_ROWS", fewest)
        monkeypatch.setattr(exact_states, "ROWS_MADE_EXACT", 5 * most)
        monkeypatch.setattr(partition_state, "KEPT_BYTES", 0)
        other = run(local(pool, 3), rule, Vectors(), 100)
        assert other.ids == usual.ids
        assert other.sq_distances == usual.sq_distances


def test_a_plateau_of_equal_distances_is_taken_in_id_order(tmp_path):
    """Corners of a cube are as far from the origin as from one another's mirror: whole runs of exact ties."""
    corners = ((np.arange(1024)[:, None] >> np.arange(10)) & 1).astype(np.float32)
    fleet = local(make_pool(tmp_path / "pool", corners, chunk_rows=100), 3)
    found = run_cube(fleet, 120)
    wanted, gaps = reference.coreset(corners, np.arange(1024), corners[:1], 120, 0)
    assert found.ids == wanted.tolist()
    assert found.sq_distances == gaps.tolist()


def run_cube(fleet, k):
    known = factors_of(Vectors(), np.zeros((1, 10), np.float32))
    return lazy_greedy(fleet, FarthestPoint(), Vectors(), k, centres=known, opening="lowest", key=0)


@every_map
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_the_screen_never_hides_a_row_that_a_centre_could_lower(name, offset, rows):
    """Its bounds hold for groups of centres wherever they begin, also where distances are small beside the norms."""
    feature_map, _ = MAPS[name]
    shifted = (rows + offset).astype(np.float16).astype(np.float32)
    factors = factors_of(feature_map, shifted)
    centres = Centres(tuple(f.shape[1] for f in factors), torch.device("cpu"))
    count = 2 * EXACT_COLUMNS + 9
    centres.extend(tuple(f[:count] for f in factors), np.zeros(count))
    x = tuple(torch.from_numpy(f) for f in factors)
    norms = approximate_sq_norms(centres.about_origin(x))
    exact = torch.cat([centres.sq_distances(tile, WideRows.of(x)) for tile in range(3)])
    for first in (0, 7, count - 1):
        lower, upper = centres.screen(first, count, x)
        nearest = torch.stack([group.amin(0) for group in exact[first:count].split(EXACT_COLUMNS)])
        assert bool((lower <= nearest).all())
        assert bool((nearest <= upper).all())
        widest = 2.1 * slack(x) * (norms + norms.max()) + 20 * COINCIDENT * centres.sq_norms.max()
        assert bool((upper - lower <= widest).all())


def many(row, n):
    return WideRows.of(tuple(torch.from_numpy(np.repeat(factor, n, 0)) for factor in row))


@pytest.mark.parametrize(("widths", "threads"), one_of_each(product([(48,), (272, 16)], [1, 2, 3])))
def test_a_pair_has_the_same_distance_wherever_it_stands(widths, threads):
    """One row at every place of a product, and one centre: kernels for what is left over at an edge round otherwise."""
    rng = np.random.default_rng(1)
    row = [rng.normal(size=(1, w)).astype(np.float32) for w in widths]
    centre = [(r + rng.normal(size=r.shape) * 1e-3).astype(np.float32) for r in row]  # near: the last bits show
    centres = Centres(widths, torch.device("cpu"))
    centres.extend(tuple(np.repeat(c, 2 * EXACT_COLUMNS + 5, 0) for c in centre), np.zeros(2 * EXACT_COLUMNS + 5))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        seen = {
            float(value)
            for n in (1, 7, EXACT_ROWS - 1, EXACT_ROWS, 2 * EXACT_ROWS + 3)
            for tile in range(3)
            for value in centres.sq_distances(
                tile, WideRows.of(tuple(torch.from_numpy(np.repeat(r, n, 0)) for r in row))
            ).ravel()
        }
    finally:
        torch.set_num_threads(before)
    assert len(seen - {float("inf")}) == 1


@pytest.mark.parametrize("name", ["coreset", "kmeans_plus_plus"])
@pytest.mark.parametrize("seed", range(3))
def test_of_copies_that_of_lowest_hash_is_picked_also_where_sums_are_rounded(name, seed, tmp_path):
    base = np.random.default_rng(seed).normal(size=(300, 33)).astype(np.float16).astype(np.float32)
    x = base[np.random.default_rng(seed + 9).permutation(np.repeat(np.arange(300), 4))]
    pool = make_pool(tmp_path / "pool", x, chunk_rows=500)
    task = context_of(head=None, labelled=np.empty((0, 33), np.float32), key=2)
    picks = [select(local(pool, p), SELECTORS[name](unit=True), task, 240) for p in (1, 3)]
    assert picks[0].ids.tolist() == picks[1].ids.tolist()
    assert picks[0].scores.tolist() == picks[1].scores.tolist()
    if name == "coreset":  # after the first, which is drawn
        order = np.argsort(item_order(derive(2, "ties"), np.arange(len(x))))
        lowest = {tuple(x[place].tolist()): place for place in order[::-1].tolist()}
        assert all(lowest[tuple(x[id].tolist())] == id for id in picks[0].ids[1:].tolist())


def test_distances_are_those_of_the_dense_features_and_zero_for_copies(rows):
    factors = factors_of(Gradients(head=HEAD), rows)
    centres = Centres(tuple(f.shape[1] for f in factors), torch.device("cpu"))
    centres.extend(tuple(f[:70] for f in factors), np.zeros(70))
    x = tuple(torch.from_numpy(f) for f in factors)
    dense = np.einsum("nd,nc->ndc", *(f.astype(np.float64) for f in factors)).reshape(N, -1)
    found = torch.cat([centres.sq_distances(tile, WideRows.of(x)) for tile in range(2)]).numpy()
    for centre in range(70):
        exact = reference.sq_distance(dense, dense[centre])
        np.testing.assert_allclose(found[centre], exact, rtol=1e-9, atol=COINCIDENT * float((dense**2).sum(1).max()))
        assert found[centre, centre] == 0.0
    assert np.isinf(found[70:]).all()


@pytest.mark.parametrize("partitions", [1, 4])
def test_k_means_plus_plus_covers_from_the_labelled_items(partitions, rows, pool):
    fleet = local(pool, partitions)
    fleet.each(exclude, np.arange(40))
    task = context_of(head=None, labelled=rows[:40], key=9)
    picks = select(fleet, SELECTORS["kmeans_plus_plus"](), task, 50)
    ids = np.arange(40, N)
    left, rate = -np.log(item_uniform(9, ids)), np.full(len(ids), np.inf)
    for row in rows[:40]:
        rate = np.minimum(rate, reference.sq_distance(rows[ids], row))
    wanted = []
    for _ in range(50):
        with np.errstate(divide="ignore", invalid="ignore"):
            arrival = np.where(rate > 0, left / rate, np.inf)
        arrival[wanted] = np.inf
        best = int(arrival.argmin())
        left = left - rate * arrival[best]
        wanted.append(best)
        rate = np.minimum(rate, reference.sq_distance(rows[ids], rows[ids[best]]))
    assert picks.ids.tolist() == ids[wanted].tolist()


@pytest.mark.parametrize("tries", deep_unless([200], [200, 3000]))
def test_k_means_plus_plus_without_labels_is_sequential_d2_sampling(tries, tmp_path):
    """Chi-square over the ordered first two picks of three items: an honest sampler exceeds the bound once in ten
    million tries. Few items, so that what the first draw says about the others would show."""
    x = np.array([[0.0], [1.0], [3.0]], np.float32)
    fleet = local(make_pool(tmp_path / "pool", x))
    gaps = (x - x.T) ** 2
    probability = {(a, b): gaps[a, b] / gaps[a].sum() / 3 for a in range(3) for b in range(3) if a != b}
    seen = dict.fromkeys(probability, 0)
    with one_thread():
        for number in range(tries):
            task = context_of(head=None, labelled=x[:0], key=derive(number))
            seen[tuple(select(fleet, SELECTORS["kmeans_plus_plus"](), task, 2).ids.tolist())] += 1
    statistic = sum((seen[s] - tries * p) ** 2 / (tries * p) for s, p in probability.items())
    assert statistic < chi2.isf(1e-7, len(probability) - 1)


def test_pcoreset_is_k_center_over_probabilities(rows, pool):
    fleet = local(pool, 3)
    fleet.each(exclude, np.arange(30))
    task = context_of(head=random_head(DIM), labelled=rows[:30], key=1)
    picks = select(fleet, SELECTORS["pcoreset"](), task, 40)
    p = reference.probabilities(rows, HEAD.weight, HEAD.bias)
    _, gaps = reference.coreset(p[30:], np.arange(30, N), p[:30], 40, 1)
    np.testing.assert_allclose(picks.scores, gaps, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("partitions", [1, 3])
def test_a_feature_that_is_no_number_is_an_error_that_names_its_item(partitions, tmp_path):
    x, _ = mixture(50, DIM)
    x[:, 4] = 0
    x[37, 4] = 100.0
    fleet = local(make_pool(tmp_path / "pool", x), partitions)
    too_large = Scaled(scale=np.where(np.arange(DIM) == 4, 1e38, 1.0).astype(np.float32))
    with pytest.raises(PoolError, match="item 37: its features are not finite"):
        run(fleet, FarthestPoint(), too_large, 5)


@pytest.mark.parametrize("rule", [FarthestPoint(), D2Race(key=5), FarthestLevel(key=5, epsilon=0.1)])
def test_a_pick_changes_states_as_a_centre_does_to_the_last_bit(rule):
    rng = np.random.default_rng(0)
    gaps = rng.lognormal(size=(30, 200)) * rng.choice([0, 1, 1e-12, 1e12], size=(30, 200), p=[0.02, 0.8, 0.09, 0.09])
    times = np.sort(rng.lognormal(-3, 2, 30)) if rule.depends_on_order else np.zeros(30)
    slow = rule.begin(np.arange(200), torch.from_numpy(gaps[0]))
    fast = slow.numpy().copy()
    for gap, time in zip(gaps[1:], times[1:], strict=True):
        rule.apply_centres(slow, torch.from_numpy(gap[None]), torch.tensor([time]))
        rule.apply_pick(fast, gap, float(time))
        np.testing.assert_array_equal(fast, slow.numpy())


def test_few_rows_are_looked_at(tmp_path):
    """What laziness is for: of all pairs of a row and a pick, a race looks at few."""
    x, _ = mixture(20_000, 64, classes=20)
    fleet = local(make_pool(tmp_path / "pool", x, chunk_rows=20_000))
    known = factors_of(Vectors(), x[:20])
    found = lazy_greedy(fleet, D2Race(key=3), Vectors(), 200, centres=known, opening="lowest", key=3)
    assert found.pairs < 0.35 * 20_000 * 220
    assert found.round_trips < 10


HARD = {
    "in a ball": lambda rng: rng.normal(size=(12_000, 64)),
    "on a sphere": lambda rng: unit(rng.normal(size=(12_000, 64))),
    "copies": lambda rng: rng.permutation(np.repeat(rng.normal(size=(1_000, 64)), 12, 0)),
    "near copies": lambda rng: (
        rng.permutation(np.repeat(rng.normal(size=(120, 64)), 100, 0)) + 0.01 * rng.normal(size=(12_000, 64))
    ),
    "far from zero": lambda rng: 1000 + rng.choice([-1, 0, 1], size=(12_000, 64)),
}
"""Pools on which hardly anything can be pruned."""


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("where", "rule", "k"),
    one_of_each(product(sorted(HARD), [FarthestPoint(), D2Race(key=3), FarthestLevel(key=3, epsilon=0.1)], [200, 900])),
)
def test_laziness_may_only_save(rule, where, k, tmp_path, monkeypatch):
    """The law of cost: pairs are bounded once, and some once more to make rows exact; double precision is no more."""
    exact, compute = [], Centres.sq_distances

    def counted(self, tile, rows):
        exact.append(EXACT_COLUMNS * rows.count)
        return compute(self, tile, rows)

    monkeypatch.setattr(Centres, "sq_distances", counted)
    x = HARD[where](np.random.default_rng(2)).astype(np.float32)
    found = run(local(make_pool(tmp_path / "pool", x, chunk_rows=12_000)), rule, Vectors(), k)
    every = 12_000 * k
    assert found.pairs - found.pairs_again <= every
    assert found.pairs <= 1.1 * every
    assert sum(exact) <= (1.5 if where == "near copies" else 1) * every
