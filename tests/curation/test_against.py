"""Items near to another pool: none is lost, they are dropped first, and only what is new is compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_tools import cli
from near_rows import DIM, Stop, run, slow, vectors_with_copies
from numpy.typing import NDArray
from pools import make_pool
from tiers import deep

import raysal
from raysal.config import FleetConfig
from raysal.curation.dedup import FOLDER, NearDuplicates, find_near_duplicates
from raysal.curation.near import against as against_module
from raysal.errors import ConfigError, Damaged, FingerprintMismatch, RaysalWarning
from raysal.fleet import open_fleet
from raysal.pool import Pool
from raysal.pool.removing import remove_items
from raysal.types import Metric


def two_sets(seed: int, n: int = 200, m: int = 90) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Rows with copies among them, and others of which some are copies of these, some exact, some zero."""
    rows, others = vectors_with_copies(seed, n), vectors_with_copies(seed + 100, m)
    rng = np.random.default_rng(seed)
    noise = rng.choice([0.0, 0.05, 0.2], size=(m // 2, 1))
    others[: m // 2] = rows[rng.integers(n, size=m // 2)] + noise * rng.standard_normal((m // 2, DIM))
    rows[[3, 60]], others[[5, 70]] = 0, 0
    return rows, others.astype(np.float16).astype(np.float32)


def slow_against(pool: Pool, other: Pool, threshold: float) -> dict[str, tuple[bool, str, bool]]:
    """Key by key: whether it is kept, what is nearest, and whether that is of the other pool, by comparing all."""
    both = [np.concatenate([chunk.vectors() for chunk in one.chunks]).astype(np.float64) for one in (pool, other)]
    keys = [[key for table in one.items(["key"]) for key in table["key"].to_pylist()] for one in (pool, other)]
    x, y = both
    if pool.metric == "cosine":
        norms = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(y, axis=1)
        values = np.divide(x @ y.T, norms, out=np.zeros(norms.shape), where=norms > 0)
        values[np.ix_(~x.any(1), ~y.any(1))] = 1
        near = values >= threshold - 1e-12
    else:
        values = -((x[:, None] - y[None]) ** 2).sum(2)
        near = values >= -(threshold**2) - 1e-12
    found = {}
    for row in np.flatnonzero(near.any(1)).tolist():
        best = int(np.round(values[row], 11).argmax())
        found[keys[0][row]] = (False, keys[1][best], True)
    return found


def said(found: NearDuplicates) -> dict[str, tuple[bool, str, bool]]:
    return {row["key"]: (row["kept"], row["nearest_kept"], row["against"]) for row in found.table().to_pylist()}


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize(("partitions", "chunk_rows", "unit_rows"), [(1, 1000, 1000), (2, 33, 40), (5, 64, 70)])
def test_what_is_near_to_the_other_pool_goes_first_and_the_rest_is_as_without_it(
    tmp_path: Path, metric: Metric, partitions: int, chunk_rows: int, unit_rows: int
) -> None:
    rows, others = two_sets(0)
    pool = make_pool(tmp_path / "pool", rows, chunk_rows=chunk_rows, metric=metric)
    keys = [f"other-{i}" for i in range(len(others))]
    other = make_pool(tmp_path / "other", others, chunk_rows=50, metric=metric, keys=keys, missing=[1])
    threshold = {"cosine": 0.9, "l2": 1.5}[metric]
    found = run(pool, threshold, partitions=partitions, unit_rows=unit_rows, against=other)
    wanted = slow_against(pool, other, threshold)
    assert 20 < len(wanted) == found.near_other < len(rows) - 20
    mine = said(found)
    assert {key: row for key, row in mine.items() if row[2]} == wanted
    left = [i for i in range(len(rows)) if f"item-{i:06d}" not in wanted]
    alone = make_pool(tmp_path / "alone", rows[left], metric=metric, keys=[f"item-{i:06d}" for i in left])
    if metric == "cosine":  # the slow one divides by the length of zero vectors
        rest = {r["key"]: (r["kept"], r["nearest_kept"]) for r in run(alone, threshold).table().to_pylist()}
    else:
        rest = slow(alone, threshold, list(range(len(left))))
    assert {key: row[:2] for key, row in mine.items() if not row[2]} == rest


@deep
def test_ray_finds_the_same_beside_another_pool(tmp_path: Path, ray_session: None) -> None:
    rows, others = two_sets(1)
    pool, other = make_pool(tmp_path / "pool", rows, chunk_rows=64), make_pool(tmp_path / "other", others)
    here = run(pool, 0.9, folder=tmp_path / "here", against=other).table()
    with open_fleet(pool, FleetConfig(backend="ray", partitions=2)) as fleet:
        assert find_near_duplicates(pool, fleet, 0.9, unit_rows=40, against=other).table().equals(here)


def embedded(path: Path, name: str, rows: NDArray[np.float32], file: int, origin: str | None = "m") -> Pool:
    (path / name).mkdir(exist_ok=True)
    table = pa.table({"key": [f"{name}-{file}-{i}" for i in range(len(rows))], "vector": list(rows)})
    pq.write_table(table, path / name / f"{file}.parquet")
    encoder = {"name": "precomputed", "origin": origin} if origin else None
    return raysal.embed(path / name, encoder, out=path / f"{name}.pool")


def test_only_what_is_new_is_compared_and_what_is_gone_is_near_to_nothing(tmp_path: Path) -> None:
    rows, others = two_sets(2)
    rows[199], others[89] = others[88], rows[0]
    pool, other = embedded(tmp_path, "pool", rows[:150], 0), embedded(tmp_path, "other", others[:60], 0)

    def compared(pool: Pool, other: Pool, threshold: float = 0.8) -> int:
        found = run(pool, threshold, against=other, unit_rows=50)
        assert {key: row for key, row in said(found).items() if row[2]} == slow_against(pool, other, threshold)
        return found.compared

    within = [6, 1 + 2 + 3 + 4 - 6]  # pairs of units of the pool itself, and of the new one with all
    assert compared(pool, other) == within[0] + 3 * 2
    assert compared(pool, other) == 0
    assert compared(pool, other, 0.9) == 0
    pool = embedded(tmp_path, "pool", rows[150:], 1)
    assert compared(pool, other) == within[1] + 2
    other = embedded(tmp_path, "other", others[60:], 1)
    assert compared(pool, other) == 4
    assert len(list((pool.path / FOLDER).glob("against-*"))) == 1
    nearest = [near for _, near, _ in slow_against(pool, other, 0.8).values()]
    remove_items(other.path, sorted(nearest)[:5])
    other = raysal.open_pool(other.path)
    assert 0 < compared(pool, other) <= 12
    remove_items(pool.path, [f"pool-0-{i}" for i in range(0, 100, 3)])
    assert compared(raysal.open_pool(pool.path), other) == 0


def test_ranges_of_ids_without_items_have_no_near_ones(tmp_path: Path) -> None:
    """As when an old month was removed: units of the one, of the other and of both have no item."""
    rows, others = two_sets(4)
    pool = make_pool(tmp_path / "pool", rows, missing=range(50, 130))
    other = make_pool(tmp_path / "other", others, missing=range(45, 90))
    found = run(pool, 0.8, against=other, unit_rows=25)
    assert {key: row for key, row in said(found).items() if row[2]} == slow_against(pool, other, 0.8)
    assert found.near_other > 3
    assert said(run(other, 0.8, against=pool, unit_rows=25)).keys() == {f"item-{i:06d}" for i in range(45)}


def test_an_older_generation_is_compared_with_an_older_generation(tmp_path: Path) -> None:
    """What was found of a newer one lacks the items that are gone there."""
    rows, others = two_sets(5)
    pool, other = make_pool(tmp_path / "pool", rows), make_pool(tmp_path / "other", others)
    for one, seed in ((pool, 0), (other, 1)):
        keys = [f"item-{i:06d}" for i in np.random.default_rng(seed).permutation(len(one))[: len(one) // 2]]
        remove_items(one.path, sorted(keys))
    newer = [raysal.open_pool(one.path) for one in (pool, other)]
    older = [raysal.open_pool(one.path, 0) for one in (pool, other)]
    for first, second in ((older, older), (newer, newer), (older, newer), (newer, older), (older, older)):
        own, its = first[0], second[1]
        found = run(own, 0.8, against=its, unit_rows=50)
        assert {key: row for key, row in said(found).items() if row[2]} == slow_against(own, its, 0.8)


@pytest.mark.parametrize("at", [0, 4])
def test_an_interrupted_comparison_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    rows, others = two_sets(3)
    pool, other = make_pool(tmp_path / "pool", rows), make_pool(tmp_path / "other", others)
    whole = run(pool, folder=tmp_path / "whole", against=other, unit_rows=50)
    real, calls = against_module.nearest_of, iter(range(100))

    def stopping(*args: Any, **options: Any) -> Any:
        if next(calls) == at:
            raise Stop
        return real(*args, **options)

    monkeypatch.setattr(against_module, "nearest_of", stopping)
    with pytest.raises(Stop):
        run(pool, against=other, unit_rows=50)
    monkeypatch.undo()
    rest = run(pool, against=other, unit_rows=50)
    assert (rest.compared, rest.table()) == (whole.compared - at, whole.table())
    (folder,) = (pool.path / FOLDER).glob("against-*")
    victim = sorted((folder / "near").iterdir())[0]
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    with pytest.raises(Damaged, match=victim.name):
        run(pool, against=other, unit_rows=50)


def test_a_pool_that_cannot_be_compared_is_refused_by_name(tmp_path: Path) -> None:
    rows = vectors_with_copies(4, 30)
    pool = make_pool(tmp_path / "pool", rows)
    with pytest.raises(ConfigError, match=r"against: .*is the pool itself"):
        raysal.dedup(pool, against=pool.path)
    with pytest.raises(FingerprintMismatch, match="the metric is l2, expected cosine"):
        raysal.dedup(pool, against=make_pool(tmp_path / "l2", rows, metric="l2"))
    with pytest.raises(FingerprintMismatch, match="the length of its vectors is 8 numbers, expected 16 numbers"):
        raysal.dedup(pool, against=make_pool(tmp_path / "short", rows[:, :8]))
    one, other = (embedded(tmp_path, name, rows[own], 0, None) for name, own in (("a", slice(20)), ("b", slice(5, 30))))
    with pytest.raises(FingerprintMismatch, match=r"what made its vectors.*--origin"):
        raysal.dedup(one, against=other)
    assert not (pool.path / FOLDER).exists()


def test_the_command_says_which_pool_an_item_was_dropped_for(tmp_path: Path) -> None:
    rows, others = two_sets(5)
    pool, other = make_pool(tmp_path / "pool", rows), make_pool(tmp_path / "other", others)
    out = tmp_path / "dedup.parquet"
    done = cli("dedup", pool.path, "--against", other.path, "--threshold", 0.9, "-o", out, "--json")
    table = pq.read_table(out)
    assert table.column_names == ["key", "kept", "group", "nearest_kept", "similarity", "against"]
    assert done.json["near_other_items"] == sum(table["against"].to_pylist()) > 10
    for row in table.to_pylist():
        assert (row["group"] < 0) == row["against"]
    words = cli("dedup", pool.path, "--against", other.path, "--threshold", 0.9, "-o", tmp_path / "again.csv").out
    assert f"and {done.json['near_other_items']} near to items of {other.path}" in words


def test_a_pool_that_is_wholly_in_the_other_leaves_nothing_with_a_warning(tmp_path: Path) -> None:
    rows, _ = two_sets(5)
    pool, other = make_pool(tmp_path / "pool", rows), make_pool(tmp_path / "other", rows)
    with pytest.warns(RaysalWarning, match="no item is left: all are near to items of"):
        found = raysal.dedup(pool, against=other)
    assert (found.kept, found.near_other) == (0, len(rows))


@pytest.mark.parametrize("rows", ["all", "kept", "dropped"])
def test_a_table_is_the_same_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: Any) -> None:
    x, others = two_sets(0)
    pool = make_pool(tmp_path / "pool", x, chunk_rows=33, missing=[7])
    other = make_pool(tmp_path / "other", others)
    found = raysal.dedup(pool, threshold=0.9, against=other)
    whole = found.table(rows)
    monkeypatch.setattr("raysal.curation.dedup.ROWS_AT_ONCE", 7)
    assert found.near_other > 7
    assert found.table(rows).num_rows == whole.num_rows > 7
    assert found.table(rows).to_pylist() == whole.to_pylist()
    found.write(tmp_path / "out.parquet", rows)
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == whole.to_pylist()


@pytest.mark.parametrize("dense", [0, 10**6])
def test_a_zero_vector_hides_no_near_one_behind_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dense: int) -> None:
    """It is nearer by distance than any row of a cosine below a half, and near to none by the cosine."""
    monkeypatch.setattr("raysal.curation.near.nearest.DENSE", dense)
    pool = make_pool(tmp_path / "pool", np.eye(4)[:1])
    other = make_pool(tmp_path / "other", np.array([[0, 0, 0, 0], [0.35, 0.93, 0, 0], [0, 0, 1, 0]]))
    assert said(run(pool, 0.3, against=other)) == {"item-000000": (False, "item-000001", True)}


def test_a_step_is_done_anew_where_the_other_pool_changed(tmp_path: Path) -> None:
    rows = vectors_with_copies(6)
    pool, other = embedded(tmp_path, "pool", rows, 0), embedded(tmp_path, "other", rows[:5], 0)
    step = {"name": "near", "threshold": 1, "against": str(other.path)}

    def near_to_other() -> int:
        return raysal.curate(pool, step).steps[0].reasons["near to an item of the other pool"]

    assert near_to_other() == int(np.isin(rows[:, 0], rows[:5, 0]).sum())
    assert raysal.curate(pool, step).steps[0].resumed
    embedded(tmp_path, "other", rows[5:20], 1)
    assert near_to_other() == int(np.isin(rows[:, 0], rows[:20, 0]).sum())
