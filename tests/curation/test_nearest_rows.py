"""The nearest row of another unit, of each that has a near one: none is lost, and it is the one of all comparisons."""

from __future__ import annotations

import numpy as np
import pytest
from near_rows import METRICS, rows_with_neighbours
from numpy.typing import NDArray

from raysal.curation.near import nearest as nearest_module
from raysal.curation.near.cells import Cells
from raysal.curation.near.nearest import nearest_of
from raysal.curation.near.unit import Unit, compared_rows, radius_of
from raysal.types import Metric


@pytest.fixture(autouse=True)
def _bounds_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where most cells are reached."""
    monkeypatch.setattr("raysal.curation.near.cells.MOST_REACHED", 1.0)


def by_all(
    x: NDArray[np.float16], y: NDArray[np.float16], threshold: float, metric: Metric
) -> dict[int, tuple[set[int], float]]:
    """Of each row with a near one those that are nearest up to rounding, and the similarity, in double precision."""
    a, b = x.astype(np.float64), y.astype(np.float64)
    if metric == "cosine":
        norms = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
        values = np.divide(a @ b.T, norms, out=np.zeros((len(a), len(b))), where=norms > 0)
        values[np.ix_(~a.any(1), ~b.any(1))] = 1
    else:
        values = -((a[:, None] - b[None]) ** 2).sum(2)
    best = values.max(1)
    return {
        row: ({*np.flatnonzero(values[row] >= best[row] - 1e-12).tolist()}, float(best[row]))
        for row in np.flatnonzero(best >= threshold).tolist()
    }


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("count", [1, 30])
@pytest.mark.parametrize("dense", [0, 16, 10**9])
@pytest.mark.parametrize("offset", [0.0, 50.0])
def test_it_is_the_one_of_all_comparisons(
    metric: Metric, count: int, dense: int, offset: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By pairs and by whole blocks, with few pairs held and many."""
    monkeypatch.setattr(nearest_module, "DENSE", dense)
    monkeypatch.setattr(nearest_module, "HELD", 30)
    monkeypatch.setattr(nearest_module, "COLUMNS", 16)
    every = rows_with_neighbours(0, 240, 24, offset)
    x, y = every[::2], np.unique(every[1::2], axis=0)
    for threshold in {"cosine": (0.4, 0.98) if not offset else (0.9999,), "l2": (-8.0, -60.0)}[metric]:
        cells = Cells.of(compared_rows(x, metric), count, 1)
        radius = radius_of(threshold, metric)
        left = Unit.of(np.arange(len(x)), x, metric, cells, radius, distinct=False)
        right = Unit.of(np.arange(len(y)) + 1000, y, metric, cells, radius)
        found = nearest_of(left, right, threshold, metric)
        wanted = by_all(x, y, threshold, metric)
        assert found.ids.tolist() == sorted(wanted)
        assert len(wanted) > 10
        for row, nearest, value in zip(*found, strict=True):
            assert nearest - 1000 in wanted[row][0]
            assert value == pytest.approx(wanted[row][1], rel=1e-9, abs=1e-12)
        some = np.arange(len(x)) % 3 == 0
        part = nearest_of(left, right, threshold, metric, rows=some[left.ids])
        assert part.ids.tolist() == [row for row in found.ids.tolist() if some[row]]
        assert np.array_equal(part.similarity, found.similarity[some[found.ids]])
        held = Unit.of(left.ids[np.argsort(left.ids)], x, metric, cells, radius, distinct=False, placing=left.placing)
        again = nearest_of(held, right, threshold, metric)
        assert all(np.array_equal(one, other) for one, other in zip(again, found, strict=True))


def test_of_equally_similar_ones_it_is_the_lowest_id() -> None:
    rows = np.random.default_rng(0).integers(1, 9, size=(50, 8)).astype(np.float16)
    x = np.unique(rows, axis=0)
    y = np.concatenate([x * 2, x * 4])
    cells = Cells.of(compared_rows(x, "cosine"), 5, 1)
    left = Unit.of(np.arange(len(x)), x, "cosine", cells, radius_of(1.0, "cosine"))
    right = Unit.of(np.arange(len(y)), y, "cosine", cells, radius_of(1.0, "cosine"))
    found = nearest_of(left, right, 1.0, "cosine")
    assert np.array_equal(found.nearest, found.ids)
