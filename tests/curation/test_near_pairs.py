"""Near pairs: none is lost, whatever the units, the cells and the metric; copies of a vector are found beside them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from near_rows import METRICS, rows_with_neighbours
from numpy.typing import NDArray

from raysal.curation.near.cells import Cells
from raysal.curation.near.independent_set import first_independent_set
from raysal.curation.near.pairs import Pairs, near_pairs_of
from raysal.curation.near.unit import Unit, compared_rows, radius_of
from raysal.types import Metric


@pytest.fixture(autouse=True)
def _bounds_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where most cells are reached."""
    monkeypatch.setattr("raysal.curation.near.cells.MOST_REACHED", 1.0)


def every_pair(vectors: NDArray[np.float16], threshold: float, metric: Metric) -> dict[tuple[int, int], float]:
    """All near pairs by comparing all, in double precision. Equal vectors are pairs, also zero ones."""
    x = vectors.astype(np.float64)
    found = {}
    for i in range(len(x)):
        for j in range(i + 1, len(x)):
            if metric == "cosine":
                norms = np.linalg.norm(x[i]), np.linalg.norm(x[j])
                value = float(x[i] @ x[j] / (norms[0] * norms[1])) if min(norms) > 0 else 0.0
            else:
                value = -float(((x[i] - x[j]) ** 2).sum())
            if value >= threshold or (vectors[i] == vectors[j]).all():
                found[i, j] = value
    return found


def spread_over_copies(pairs: Pairs, copies: NDArray[np.int64], n: int) -> set[tuple[int, int]]:
    """Pairs of items, from pairs of distinct vectors and from who has the vector of whom."""
    own = np.arange(n)
    own[copies[:, 0]] = copies[:, 1]
    having: dict[int, list[int]] = {}
    for item, first in enumerate(own.tolist()):
        having.setdefault(first, []).append(item)
    edges = [(a, b) for a, b in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)]
    edges += [(first, first) for first, items in having.items() if len(items) > 1]
    return {(min(i, j), max(i, j)) for a, b in edges for i in having[a] for j in having[b] if i != j}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("count", [1, 4, 30])
@pytest.mark.parametrize("offset", [0.0, 50.0])
def test_no_pair_is_lost_and_none_is_made_up(metric: Metric, count: int, offset: float) -> None:
    vectors = rows_with_neighbours(0, 120, 24, offset)
    threshold = {"cosine": 0.98 if not offset else 0.99995, "l2": -8.0}[metric]
    cells = Cells.of(compared_rows(vectors, metric), count, 1)
    unit = Unit.of(np.arange(120), vectors, metric, cells, radius_of(threshold, metric))
    pairs = near_pairs_of(unit, unit, threshold, metric)
    wanted = every_pair(vectors, threshold, metric)
    assert spread_over_copies(pairs, unit.copies, 120) == set(wanted)
    assert 0.05 * 120 < len(wanted) < 0.5 * 120 * 119 / 2
    for a, b, value in zip(*pairs, strict=True):
        assert value == pytest.approx(wanted[a, b], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_units_of_any_size_give_the_same_pairs(metric: Metric) -> None:
    vectors, ids = rows_with_neighbours(3, 150, 16), np.arange(150) * 7 + 3
    threshold = {"cosine": 0.97, "l2": -4.0}[metric]
    cells = Cells.of(compared_rows(vectors, metric), 9, 1)

    def found(cuts: list[int]) -> tuple[Pairs, NDArray[np.int64]]:
        bounds = [0, *cuts, 150]
        units = [
            Unit.of(ids[low:high], vectors[low:high], metric, cells, radius_of(threshold, metric))
            for low, high in itertools.pairwise(bounds)
        ]
        pieces = [near_pairs_of(a, b, threshold, metric) for i, a in enumerate(units) for b in units[i:]]
        return Pairs.joined(pieces).in_order(), np.concatenate([unit.copies for unit in units])

    whole, copies = found([])
    distinct = ~np.isin(ids, copies[:, 0])
    for cuts in ([70], [1, 2, 100], [40, 41, 80, 149]):
        pairs, _ = found(cuts)
        kept = np.isin(pairs.first, ids[distinct]) & np.isin(pairs.second, ids[distinct])
        for mine, theirs in zip(whole, pairs, strict=True):
            assert np.array_equal(mine, theirs[kept])  # to the bit; the rest are copies that lie in two units


@pytest.mark.parametrize("metric", METRICS)
def test_units_whose_rows_reach_all_cells_give_the_same_pairs(metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside one another, and beside units with lists of what is reached."""
    vectors, ids, cuts = rows_with_neighbours(3, 150, 16)[::-1].copy(), np.arange(150), (0, 60, 150)
    threshold = {"cosine": 0.9, "l2": -4.0}[metric]
    cells = Cells.of(compared_rows(vectors, metric), 9, 1)

    def unit(low: int, high: int, most: float) -> Unit:
        monkeypatch.setattr("raysal.curation.near.cells.MOST_REACHED", most)
        return Unit.of(ids[low:high], vectors[low:high], metric, cells, radius_of(threshold, metric))

    listed, dense = ([unit(*ends, most) for ends in itertools.pairwise(cuts)] for most in (1.0, 0.0))
    assert all(one.reach is not None for one in listed)
    assert all(one.reach is None for one in dense)
    for u, v in ((0, 0), (0, 1)):
        wanted = near_pairs_of(listed[u], listed[v], threshold, metric)
        for a, b in ((dense[u], dense[v]), *([(dense[u], listed[v]), (listed[u], dense[v])] if u < v else ())):
            found = near_pairs_of(a, b, threshold, metric)
            assert len(found.first) > 5
            assert all(np.array_equal(mine, theirs) for mine, theirs in zip(found, wanted, strict=True))


@pytest.mark.parametrize("cuts", [(), (90,), (70, 130)])
def test_no_pair_across_the_borders_of_cells_is_lost(cuts: tuple[int, ...]) -> None:
    """Points that fill a square, with cells smaller than the radius: where the bounds are as tight as they get."""
    vectors = np.random.default_rng(1).uniform(size=(200, 2)).astype(np.float16)
    threshold, bounds = -(0.15**2), [0, *cuts, 200]
    cells = Cells.of(compared_rows(vectors, "l2"), 25, 1)
    units = [
        Unit.of(np.arange(low, high), vectors[low:high], "l2", cells, radius_of(threshold, "l2"))
        for low, high in itertools.pairwise(bounds)
    ]
    assert all(unit.reach is not None and len(unit.reach.rows) < 0.6 * len(unit) * len(cells) for unit in units)
    pieces = [near_pairs_of(a, b, threshold, "l2") for i, a in enumerate(units) for b in units[i:]]
    pairs, copies = Pairs.joined(pieces), np.concatenate([unit.copies for unit in units])
    assert len(copies) == 0
    assert set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == set(
        every_pair(vectors, threshold, "l2")
    )


def test_a_pair_at_the_threshold_is_found() -> None:
    """Bounds in single precision would lose it: the similarity is the threshold itself, to the bit."""
    vectors = rows_with_neighbours(5, 90, 32)
    wanted = every_pair(vectors, 0.9, "cosine")
    cells = Cells.of(compared_rows(vectors, "cosine"), 8, 1)
    unit = Unit.of(np.arange(90), vectors, "cosine", cells, radius_of(0.9, "cosine"))
    every = near_pairs_of(unit, unit, 0.9, "cosine")
    assert len(every.first) > 10
    for value in np.unique(every.similarity):
        pairs = near_pairs_of(unit, unit, float(value), "cosine")
        assert np.array_equal(pairs.similarity, every.similarity[every.similarity >= value])
    assert set(wanted) >= set(zip(every.first.tolist(), every.second.tolist(), strict=True))


@pytest.mark.parametrize("metric", METRICS)
def test_one_direction_is_near_at_any_length_at_a_cosine_of_one(metric: Metric) -> None:
    """Rounding of 3 x and x differs; by the distance they are far apart."""
    rows = np.random.default_rng(0).integers(1, 60, size=(40, 24))
    vectors = np.concatenate([rows, 3 * rows]).astype(np.float16)
    threshold = {"cosine": 1.0, "l2": 0.0}[metric]
    cells = Cells.of(compared_rows(vectors, metric), 8, 1)
    unit = Unit.of(np.arange(80), vectors, metric, cells, radius_of(threshold, metric))
    pairs = near_pairs_of(unit, unit, threshold, metric)
    assert list(zip(pairs.first, pairs.second, strict=True)) == [(i, i + 40) for i in range(40) if metric == "cosine"]


def test_most_pairs_are_not_compared() -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((40, 32))
    vectors = (centres[rng.integers(40, size=2000)] + 0.1 * rng.standard_normal((2000, 32))).astype(np.float16)
    cells = Cells.of(compared_rows(vectors, "cosine"), 40, 1)
    unit = Unit.of(np.arange(2000), vectors, "cosine", cells, radius_of(0.99, "cosine"))
    assert unit.reach is not None
    assert len(unit.reach.rows) < 0.1 * len(unit) * len(cells)


@given(st.integers(1, 12), st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=40))
@settings(max_examples=60, deadline=None)
def test_the_first_independent_set_is_what_going_through_in_order_keeps(n: int, edges: list[tuple[int, int]]) -> None:
    edges = [(a % n, b % n) for a, b in edges if a % n != b % n]
    kept: list[int] = []
    for node in range(n):
        if not any({a, b} == {node, other} for a, b in edges for other in kept):
            kept.append(node)
    ends = np.array(edges, np.int64).reshape(-1, 2)
    found = first_independent_set(n, ends[:, 0], ends[:, 1])
    assert np.flatnonzero(found).tolist() == kept


@pytest.mark.parametrize("n", [*range(1, 41), 10_001])
def test_a_long_chain_is_decided(n: int) -> None:
    """Frames of a film: each is near the next, so that each waits for the one before."""
    found = first_independent_set(n, np.arange(n - 1), np.arange(1, n))
    assert np.array_equal(found, np.arange(n) % 2 == 0)


def test_a_row_on_the_plane_between_cells_is_within_reach_in_spite_of_rounding() -> None:
    """Far from zero, where products in single precision lose most: what `placed` allows for rounding is needed."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        towards = rng.standard_normal(8)
        towards /= np.linalg.norm(towards)
        middle = 30 * rng.standard_normal(8)
        centroids = np.stack([middle - towards, middle + towards]).astype(np.float32)
        across = rng.standard_normal(8)
        beyond = middle + across - across @ towards * towards  # on the plane, up to its own rounding
        rows = np.stack([beyond, beyond - 0.25 * towards, beyond + 0.25 * towards]).astype(np.float32)
        cells = Cells(centroids, np.zeros(8, np.float32), np.eye(8, dtype=np.float32), 8)
        distances = np.linalg.norm(rows.astype(np.float64) - rows[0], axis=1)
        cell, reached = cells.placed(torch.from_numpy(rows), float(distances.max()))
        assert reached is not None
        pairs = set(zip(reached.row.tolist(), reached.cell.tolist(), strict=True))
        assert {(row, int(cell[0])) for row in range(3)} <= pairs


def test_turned_rows_are_no_farther_off_than_is_said() -> None:
    rng = np.random.default_rng(0)
    for dim in (3, 40):
        axes = np.linalg.qr(rng.standard_normal((dim, dim)))[0].astype(np.float32)
        cells = Cells(np.zeros((1, dim), np.float32), np.full(dim, 0.5, np.float32), axes, dim)
        rows = (100 * rng.standard_normal((400, dim))).astype(np.float16).astype(np.float32)
        rows[1::2] = rows[::2] + rng.choice([0, 0.25], size=(200, dim))
        turned = cells.turned(rows).astype(np.float64)
        said = np.linalg.norm(turned[1::2] - turned[::2], axis=1)
        off = np.abs(said - np.linalg.norm(rows[1::2].astype(np.float64) - rows[::2], axis=1))
        assert 0 < off.max() <= cells.rounding(float(np.linalg.norm(rows - 0.5, axis=1).max()))
