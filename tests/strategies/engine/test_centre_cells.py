"""Cells of centres: their bounds hide no centre, their guesses change no pick, and nearest centres are the nearest."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from pools import make_pool, mixture
from programs import local
from tiers import one_of_each

from raysal.numerics import EXACT_COLUMNS, ceil_div
from raysal.strategies.engine import centre_cells, guesses
from raysal.strategies.engine import lazy_greedy as lazy
from raysal.strategies.engine.centre_cells import CentreCells
from raysal.strategies.engine.distances import Centres, WideRows
from raysal.strategies.engine.feature_maps import UnitVectors, Vectors, factors_of
from raysal.strategies.engine.lazy_greedy import lazy_greedy
from raysal.strategies.engine.nearest_centres import nearest_centres
from raysal.strategies.engine.priorities import FarthestLevel, FarthestPoint

N, DIM, COUNT = 900, 48, 300
RNG = np.random.default_rng


def tight(n):
    rng = RNG(7)
    return rng.choice([-100.0, 100.0], size=(4, DIM))[rng.integers(4, size=n)] + 0.5 * rng.normal(size=(n, DIM))


DATA = {
    "mixture": mixture(N, DIM, seed=1)[0],
    "far from zero": mixture(N, DIM, seed=1)[0] + 100,
    "huge": RNG(1).normal(size=(N, DIM)) * 8000,
    "tiny": RNG(2).normal(size=(N, DIM)) * 1e-7,  # subnormal in float16
    "tight groups": tight(N),
    "copies": np.repeat(RNG(3).normal(size=(N // 6, DIM)), 6, 0)[RNG(0).permutation(N)],
    "one column": np.eye(1, DIM) * RNG(4).normal(size=(N, 1)),
    "all the same": np.ones((N, DIM)),
    "outliers": RNG(5).normal(size=(N, DIM)) ** 7,
}
ALWAYS = -(10**6)
"""Of `GATHERED`: planes are taken whatever they leave."""
every_pool = pytest.mark.parametrize("name", sorted(DATA))


def rows_of(name):
    return DATA[name].clip(-6e4, 6e4).astype(np.float16).astype(np.float32)


def centres_of(x, counts):
    centres = Centres((DIM,), torch.device("cpu"))
    centres.extend((x[: counts[0]],), np.zeros(counts[0]))
    cells = CentreCells(centres)
    for before, count in pairwise(counts):
        centres.extend((x[before:count],), np.zeros(count - before))
        cells.extend(centres)
    return centres, cells


def exact_of(centres, x):
    rows = WideRows.of((torch.from_numpy(x),))
    return torch.cat([centres.sq_distances(tile, rows) for tile in range(ceil_div(centres.count, EXACT_COLUMNS))])


@every_pool
@pytest.mark.parametrize("cells", [1, 13, 256])
def test_no_centre_within_a_bound_is_hidden(name, cells, monkeypatch):
    monkeypatch.setattr(centre_cells, "CELLS", cells)
    monkeypatch.setattr(centre_cells, "GATHERED", ALWAYS)
    x = rows_of(name)
    centres, of = centres_of(x, (20, 150, COUNT))
    exact = exact_of(centres, x)
    ordered = exact[:COUNT].sort(0).values
    for bound in (ordered[0], ordered[5], ordered[0] * torch.from_numpy(RNG(0).uniform(1, 3, N))):
        able = torch.zeros(exact.shape[0] // EXACT_COLUMNS, N, dtype=torch.bool)
        found = of.able_tiles(centres, torch.from_numpy(x), bound)
        assert (np.diff(found[0].numpy()) >= 0).all()
        able[found[0], found[1]] = True
        near = (exact <= bound).view(-1, EXACT_COLUMNS, N).any(1)
        assert bool(able[near].all())
        assert len(torch.unique(found, dim=1)[0]) == found.shape[1]


def test_planes_rule_out_most_centres_where_rows_lie_in_groups(monkeypatch):
    rng, products, compute = RNG(7), [], CentreCells._closeness

    def counted(self, centres, rows, which):
        products.append(len(rows) * len(which))
        return compute(self, centres, rows, which)

    monkeypatch.setattr(CentreCells, "_closeness", counted)
    monkeypatch.setattr(centre_cells, "GATHERED", ALWAYS)
    x = (rng.normal(size=(20, DIM))[rng.integers(20, size=N)] + 0.1 * rng.normal(size=(N, DIM))).astype(np.float32)
    centres, cells = centres_of(x, (COUNT,))
    found = cells.able_tiles(centres, torch.from_numpy(x), exact_of(centres, x)[:COUNT].amin(0))
    assert sum(products) < 0.2 * N * COUNT
    assert found.shape[1] < 1.1 * N


def test_where_planes_leave_most_cells_all_centres_are_to_be_looked_at(monkeypatch):
    """Rows without groups, and bounds that reach far: to gather each row for each cell would cost more."""
    x = RNG(8).normal(size=(N, DIM)).astype(np.float32)
    centres, cells = centres_of(x, (COUNT,))
    monkeypatch.setattr(CentreCells, "_closeness", None)  # no product is taken
    far = torch.full((N,), 1e4, dtype=torch.float64)
    monkeypatch.setattr(centre_cells, "GATHERED", 0)
    assert cells.able_tiles(centres, torch.from_numpy(x), far) is None
    monkeypatch.setattr(centre_cells, "GATHERED", 10**6)
    assert cells.able_tiles(centres, torch.from_numpy(x), exact_of(centres, x)[:COUNT].amin(0)) is None


@every_pool
@pytest.mark.parametrize("first", [0, 7, COUNT - 1])
def test_a_guess_is_one_of_the_centres_and_mostly_the_nearest(name, first):
    x = rows_of(name)
    centres, cells = centres_of(x, (50, COUNT))
    which = cells.guess_nearest(centres, first, torch.from_numpy(x)).numpy()
    assert ((which >= first) & (which < COUNT)).all()
    exact = exact_of(centres, x)[first:COUNT].numpy()
    if name == "mixture":
        assert (which == first + exact.argmin(0)).mean() > 0.6


@pytest.fixture
def small(monkeypatch):
    """Cells from a few centres on, and more round trips."""
    monkeypatch.setattr(guesses, "WORTHWHILE", 0)
    monkeypatch.setattr(guesses, "integers_pay", lambda: False)
    monkeypatch.setattr(lazy, "MOST_ROWS", 60)
    monkeypatch.setattr(lazy, "ROWS_AT_FIRST", 60)

    def switch(on):
        for name in ("FEWEST_CENTRES", "FEWEST_MISSED"):
            monkeypatch.setattr(guesses, name, 10 if on else 10**9)

    return switch


@pytest.mark.parametrize(
    ("name", "feature_map", "rule"),
    one_of_each(
        product(sorted(DATA), [Vectors(), UnitVectors()], [FarthestPoint(), FarthestLevel(key=3, epsilon=0.1)])
    ),
)
def test_cells_change_neither_picks_nor_nearest_centres(name, feature_map, rule, small, tmp_path):
    x = rows_of(name)
    pool = make_pool(tmp_path / "pool", x, chunk_rows=200)
    known = factors_of(feature_map, x[:30])
    every = (factors_of(feature_map, x)[0],)
    seen = []
    for on, partitions in ((False, 1), (True, 1), (True, 3)):
        small(on)
        fleet = local(pool, partitions)
        found = lazy_greedy(fleet, rule, feature_map, 90, centres=known, opening="lowest", key=3)
        assert (found.pairs_guessed > 0) == on
        parts = fleet.each(nearest_centres, found.unsent)
        nearest = [
            np.concatenate([getattr(part, field) for part in parts]) for field in ("ids", "centre", "sq_distance")
        ]
        seen.append((found.ids, found.sq_distances, *(part.tolist() for part in nearest)))
    assert seen[1] == seen[0]
    assert seen[2] == seen[0]
    ids, centre, sq_distance = nearest
    assert sorted([*ids, *found.ids]) == list(range(N))
    centres = Centres((DIM,), torch.device("cpu"))
    centres.extend((np.concatenate([known[0], every[0][found.ids]]),), np.zeros(120))
    exact = exact_of(centres, every[0][ids])[:120].numpy()
    assert centre.tolist() == exact.argmin(0).tolist()
    assert sq_distance.tolist() == exact.min(0).tolist()
