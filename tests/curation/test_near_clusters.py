"""The mode `clusters`: what is kept is the first independent set of the near pairs that share a cell, however found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from near_rows import METRICS, N, Stop, run, vectors_with_copies
from numpy.typing import NDArray
from pools import make_pool
from threadpoolctl import ThreadpoolController

from raysal.arrow_values import numbers_of
from raysal.config import FleetConfig
from raysal.curation import dedup
from raysal.curation.dedup import FOLDER, SIEVE, NearDuplicates, find_near_duplicates
from raysal.curation.near import clusters, placing, settling
from raysal.curation.near import recall as recall_module
from raysal.curation.near.cells import Cells
from raysal.curation.near.folder import PLAN, read_batch, read_cells
from raysal.curation.near.pairs import TooManyPairs
from raysal.curation.near.placing import Places
from raysal.curation.near.reading import let_go
from raysal.curation.near.settling import settle
from raysal.curation.near.unit import Unit, compared_rows
from raysal.fleet import Fleet, open_fleet
from raysal.pool import Pool
from raysal.store import read_sealed, write_sealed
from raysal.types import Metric


@pytest.fixture
def small_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dozen cells of two hundred rows."""
    monkeypatch.setattr(placing, "ITEMS_A_CELL", 20)


def clustered(pool: Pool, threshold: float, **options: Any) -> NearDuplicates:
    return run(pool, threshold, mode="clusters", **options)


def frames(n: int = N) -> NDArray[np.float32]:
    """Frames of a film: each is near to the few before it and after it, all the way through the cells."""
    rng = np.random.default_rng(3)
    steps = rng.standard_normal((n, 8))
    return np.asarray(np.cumsum(steps, axis=0) / 4 + [6, 0, 0, 0, 0, 0, 0, 0], np.float16).astype(np.float32)


def uniform(n: int = N) -> NDArray[np.float32]:
    return np.random.default_rng(4).uniform(-1, 1, (n, 3)).astype(np.float16).astype(np.float32)


def similarities(vectors: NDArray[np.float32], metric: Metric) -> NDArray[np.float64]:
    """Of all with all, in double precision."""
    x = vectors.astype(np.float64)
    if metric == "cosine":
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        return np.asarray(x @ x.T)
    return np.asarray(-((x[:, None] - x[None]) ** 2).sum(2))


def cells_there(pool: Pool) -> Cells:
    folder = pool.path / FOLDER / SIEVE
    return read_cells(folder, str(read_sealed(folder / PLAN, "")["cells_sha256"]))


def by_all(
    pool: Pool, rows: NDArray[np.float32], similarity: float, order: NDArray[np.int64]
) -> list[tuple[bool, int]]:
    """Whether each row is kept, and the nearest kept one, going through the pairs that share a cell one by one."""
    cells = Places(cells_there(pool)).of(compared_rows(rows.astype(np.float16), pool.metric), placing.FEW)
    shared = (cells[:, None, :, None] == cells[None, :, None, :]).any((2, 3))
    value = similarities(rows, pool.metric)
    near = shared & (value >= similarity - 1e-12)
    kept = np.zeros(len(rows), bool)
    for row in order:
        kept[row] = not near[row, kept].any()
    said = []
    for row in range(len(rows)):
        nearest = max(np.flatnonzero(near[row] & kept), key=lambda other: (round(value[row, other], 12), -other))
        said.append((bool(kept[row]), row if kept[row] else int(nearest)))
    return said


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("rows_of", [vectors_with_copies, frames, uniform])
@pytest.mark.parametrize("keep", [None, "label"])
def test_what_is_kept_is_the_first_independent_set_of_pairs_that_share_a_cell(
    tmp_path: Path, small_cells: None, metric: Metric, rows_of: Callable[[], NDArray[np.float32]], keep: str | None
) -> None:
    rows = rows_of()
    cosine, distance = {16: (0.8, 1.5), 8: (0.99, 1.5), 3: (0.99, 0.2)}[rows.shape[1]]
    threshold = cosine if metric == "cosine" else distance
    width = np.random.default_rng(0).permutation(N)
    pool = make_pool(tmp_path / "pool", rows, metric=metric, labels=[f"{w:03d}" for w in width])
    found = clustered(pool, threshold, keep=keep, unit_rows=50)
    order = np.argsort(-width) if keep else np.arange(N)
    wanted = by_all(pool, rows, threshold if metric == "cosine" else -(threshold**2), order)
    assert list(zip(found.found.kept.tolist(), found.found.nearest.tolist(), strict=True)) == wanted
    assert len(cells_there(pool)) > 5
    assert N / 10 < found.kept < 0.9 * N
    value = similarities(rows, metric)[np.arange(N), found.found.nearest]
    assert found.found.similarity == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize(("partitions", "chunk_rows", "unit_rows"), [(2, 33, 30), (5, 64, 1000), (5, 33, 1000)])
def test_nothing_depends_on_partitions_chunks_and_units(
    tmp_path: Path, small_cells: None, partitions: int, chunk_rows: int, unit_rows: int
) -> None:
    rows = vectors_with_copies(1)
    one = clustered(make_pool(tmp_path / "one", rows), 0.8)
    pool = make_pool(tmp_path / "other", rows, chunk_rows=chunk_rows)
    other = clustered(pool, 0.8, partitions=partitions, unit_rows=unit_rows)
    assert other.table().equals(one.table())
    assert other.recall == one.recall


class Stopping:
    """A fleet whose n-th call stops the job, as a process that is killed there."""

    def __init__(self, fleet: Fleet, at: int) -> None:
        self._fleet, self.left = fleet, at

    def each(self, fn: Callable[..., Any], *args: Any) -> list[Any]:
        if self.left == 0:
            raise Stop
        self.left -= 1
        return self._fleet.each(fn, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fleet, name)


@pytest.mark.parametrize("side", [1, 20])
def test_where_each_item_is_near_to_the_next_alone_it_comes_to_an_end(
    tmp_path: Path, small_cells: None, monkeypatch: pytest.MonkeyPatch, side: int
) -> None:
    """A line, and a grid. What the cells find apart does not fit, and each item depends on the one before."""
    monkeypatch.setattr(clusters, "MORE", 4)
    place = np.arange(400)
    rows = np.stack([place // side, place % side], 1).astype(np.float32)
    pool = make_pool(tmp_path / "pool", rows, metric="l2")
    stages: list[str] = []
    found = clustered(pool, 1.1, report=lambda stage, done, total: stages.append(stage) if done == total else None)
    wanted = by_all(pool, rows, -(1.1**2), place)
    assert list(zip(found.found.kept.tolist(), found.found.nearest.tolist(), strict=True)) == wanted
    cells = len(cells_there(pool))
    assert cells > 5
    assert stages.count("compare within cells") <= clusters.PATIENT + 5 + cells


class StoppingAt(Stopping):
    """A fleet that stops the job where a function is called."""

    def __init__(self, fleet: Fleet, fn: Callable[..., Any]) -> None:
        super().__init__(fleet, -1)
        self.fn = fn

    def each(self, fn: Callable[..., Any], *args: Any) -> list[Any]:
        if fn is self.fn:
            raise Stop
        return super().each(fn, *args)


def test_an_interrupted_job_goes_on_and_writes_the_same_files(tmp_path: Path, small_cells: None) -> None:
    pool = make_pool(tmp_path / "pool", frames())
    whole = clustered(pool, 0.97, folder=tmp_path / "whole")
    calls = 0
    for at in (0, 2, 5, 9, 1, 10**6):
        with open_fleet(pool, FleetConfig(backend="local", partitions=2)) as fleet:
            stopping: Any = Stopping(fleet, at)
            try:
                found = find_near_duplicates(pool, stopping, 0.97, mode="clusters", unit_rows=70)
            except Stop:
                calls += at
        if at == 0:
            assert not any((pool.path / FOLDER / SIEVE / "found").iterdir())
    assert found.table().equals(whole.table())
    files = sorted((tmp_path / "whole" / SIEVE / "found").iterdir())
    assert len(files) > calls > 10
    for file in files:
        assert (pool.path / FOLDER / SIEVE / "found" / file.name).read_bytes() == file.read_bytes()
    assert 10**6 - stopping.left < len(files)


@pytest.mark.parametrize("rows_of", [vectors_with_copies, uniform])
@pytest.mark.parametrize("few", [1, 2])
def test_the_recall_is_what_comparing_all_says(
    tmp_path: Path,
    small_cells: None,
    monkeypatch: pytest.MonkeyPatch,
    rows_of: Callable[[], NDArray[np.float32]],
    few: int,
) -> None:
    """The sample is of the whole pool here, with more rows than are listed at once."""
    monkeypatch.setattr(placing, "FEW", few)
    monkeypatch.setattr("raysal.curation.near.clusters.FEW", few)
    monkeypatch.setattr(recall_module, "MOST_PAIRS", 20)
    monkeypatch.setattr(recall_module, "FEW_ROWS", 16)
    rows = rows_of()
    threshold = 0.75 if rows.shape[1] > 3 else 0.98
    found = clustered(make_pool(tmp_path / "pool", rows), threshold)
    value, kept = similarities(rows, "cosine"), found.found.kept
    missed = [row for row in np.flatnonzero(kept) if (value[row, :row][kept[:row]] >= threshold).any()]
    assert found.recall is not None
    assert (found.recall.sample, found.recall.found) == (N, int((~kept).sum()))
    assert found.recall.near == found.recall.found + len(missed)
    assert len(missed) > 0 if few == 1 else len(missed) < 20
    low, high = found.recall.interval
    assert 0 < low < found.recall.share <= high <= 1


def test_the_recall_of_a_call_knows_nothing_of_one_that_failed_before(tmp_path: Path, small_cells: None) -> None:
    """Workers hold rows of the sample for a while: those of another one must not be taken for them."""
    pool = make_pool(tmp_path / "pool", uniform())
    wanted = [clustered(pool, threshold).recall for threshold in (0.9, 0.98)]
    assert wanted[0] != wanted[1]
    with open_fleet(pool, FleetConfig(backend="local")) as fleet:
        stopping: Any = StoppingAt(fleet, let_go)
        with pytest.raises(Stop):
            find_near_duplicates(pool, stopping, 0.9, mode="clusters")
        assert find_near_duplicates(pool, fleet, 0.98, mode="clusters").recall == wanted[1]


@pytest.mark.parametrize("others", [0, 200])
def test_a_group_of_near_copies_is_one_cell_and_leaves_one(tmp_path: Path, small_cells: None, others: int) -> None:
    """And one of it leads, however many pieces its cell is compared in: so the work is linear in the group."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((400 + others, 16)).astype(np.float32)
    rows[:400] = rows[0] + 0.02 * rng.standard_normal((400, 16))
    pool = make_pool(tmp_path / "pool", rows[rng.permutation(len(rows))])
    found = clustered(pool, 0.99, unit_rows=50)
    assert (found.kept, found.dropped) == (others + 1, 399)
    assert found.recall is not None
    assert found.recall.share == 1
    assert len(cells_there(pool)) == 1 if others == 0 else len(cells_there(pool)) > 5
    files = [read_batch(file) for file in (pool.path / FOLDER / SIEVE / "found").iterdir()]
    pairs = [
        (numbers_of(one.column("id")), numbers_of(one.column("other"))) for one in files if "id" in one.schema.names
    ]
    assert sum(int((ids == by).sum()) for ids, by in pairs) == found.kept


def test_rows_are_settled_in_order_and_dropped_for_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """In batches of few rows, where the most similar kept one of a batch may come later."""
    monkeypatch.setattr(settling, "FEWEST_TOGETHER", 8)
    monkeypatch.setattr(settling, "MOST_TOGETHER", 32)
    rows = uniform(300)
    cells = Cells.of(compared_rows(rows.astype(np.float16), "l2"), 1, 1)
    order = np.random.default_rng(0).permutation(300)[:250]
    unit = Unit.together(np.arange(300) * 3, rows.astype(np.float16), "l2", cells, 0.4)
    found = settle(unit, order, -(0.4**2), "l2")
    near, kept = similarities(rows, "l2") >= -(0.4**2), np.zeros(300, bool)
    for row in order:
        kept[row] = not near[row, kept].any()
    assert found.kept.tolist() == (np.flatnonzero(kept) * 3).tolist()
    assert found.dropped.ids.tolist() == sorted(order[~kept[order]] * 3)
    place = dict(zip(order.tolist(), range(250), strict=True))
    for item, by in zip((found.dropped.ids // 3).tolist(), (found.dropped.nearest // 3).tolist(), strict=True):
        assert near[item, by]
        assert kept[by]
        assert place[by] < place[item]


@pytest.mark.parametrize("rows", [np.ones((1, 4)), np.ones((300, 4)), np.zeros((300, 4))])
def test_equal_items_leave_one(tmp_path: Path, small_cells: None, rows: NDArray[np.float64]) -> None:
    found = clustered(make_pool(tmp_path / "pool", rows.astype(np.float32)), 1.0)
    assert (found.kept, found.dropped) == (1, len(rows) - 1)
    assert found.table()["similarity"].to_pylist() == [1.0] * len(rows)


def test_what_was_found_otherwise_is_not_read(
    tmp_path: Path, small_cells: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One folder serves both ways to do without pairs; an older version of this one took other cells."""
    monkeypatch.setattr("raysal.curation.near.clusters.FEW", 1)
    pool = make_pool(tmp_path / "pool", vectors_with_copies(5))
    monkeypatch.setattr(dedup, "find_near_pairs", lambda *args, **options: (_ for _ in ()).throw(TooManyPairs))
    exact, clusters = run(pool, 0.8).table(), clustered(pool, 0.8).table()
    assert not exact.equals(clusters)
    for _ in range(2):
        assert run(pool, 0.8).table().equals(exact)
        assert clustered(pool, 0.8).table().equals(clusters)
    plan = pool.path / FOLDER / SIEVE / PLAN
    older = {name: value for name, value in read_sealed(plan, "").items() if name != "sha256"}
    write_sealed(plan, {**older, "few": 4, "cells": 32, "version": 1})
    assert run(pool, 0.8).table().equals(exact)
    write_sealed(plan, {**older, "version": 1})
    assert clustered(pool, 0.8).table().equals(clusters)


@pytest.mark.parametrize("mode", ["clusters", "exact"])
def test_what_was_found_otherwise_is_not_read_where_records_were_moved(
    tmp_path: Path, small_cells: None, mode: str
) -> None:
    """To a larger disk, say: a link is no folder that is deleted as a whole, and a record left behind would count."""
    rows = vectors_with_copies(5)
    pool = make_pool(tmp_path / "pool", rows)
    wanted = run(make_pool(tmp_path / "other", rows), 0.8, mode=mode).table()
    run(pool, 0.97, mode=mode)
    for folder in [path for path in (pool.path / FOLDER).rglob("*") if path.name in ("commits", "found", "pairs")]:
        moved = tmp_path / f"moved-{folder.name}"
        folder.rename(moved)
        folder.symlink_to(moved)
    assert run(pool, 0.8, mode=mode).table().equals(wanted)


@pytest.mark.parametrize("count", [1, 3, 150])
def test_places_are_the_nearest_centroids_of_each_row_alone(count: int) -> None:
    rows = 5 + np.random.default_rng(0).standard_normal((700, 20)).astype(np.float32)
    cells = Cells.of(rows, count, 1)
    places = Places(cells)
    found = places.of(rows, 2)
    distance = np.linalg.norm(cells.turned(rows)[:, None].astype(np.float64) - cells.centroids[None], axis=2)
    assert found.tolist() == np.argsort(distance, axis=1)[:, :2].tolist()
    order = np.random.default_rng(1).permutation(700)[:301]
    assert np.array_equal(places.of(rows[order], 2, threads=2), found[order])


def test_cells_and_places_do_not_depend_on_threads() -> None:
    """Of the driver, and of workers: products of 500 numbers by NumPy alone do."""
    dim = 500
    rng = np.random.default_rng(dim)
    rows = (
        rng.standard_normal((40, dim))[rng.integers(40, size=3001)] + 0.3 * rng.standard_normal((3001, dim))
    ).astype(np.float32)
    blas, before, said = ThreadpoolController().select(user_api="blas"), torch.get_num_threads(), []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        try:
            with blas.limit(limits=threads):
                cells = Cells.of(rows, 90, 5, iterations=2)
                places = Places(cells)
        finally:
            torch.set_num_threads(before)
        said.append([part.tobytes() for part in (cells.axes, cells.centroids, places.matrix.columns.numpy())])
    assert said[0] == said[1] == said[2]
