"""A compacted pool holds the same items under the same ids, in fewer files; and what is gone from the source goes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from changing_sources import CHUNK, KINDS, ROWS, Row
from growing_pools import Disk, Stop, contents, files_in, held, make
from pool_files import bytes_of
from tiers import deep_unless

from raysal.embedding.missing import remove_missing
from raysal.errors import PoolError
from raysal.pool import Pool, open_pool
from raysal.pool.compacting import compact
from raysal.pool.removing import remove_items


def changed_pool(place: Path, kind: str = "folder") -> Path:
    """A pool that grew by single items, and lost some."""
    pool = place / "pool"
    rows = list(ROWS)
    make(KINDS[kind](place / "items", rows), pool)
    for number in range(4):
        rows.append(Row(f"n{number}.png", 60 + number, "l0"))
        make(KINDS[kind](place / "items", rows), pool)
    remove_items(pool, ["k1.png", "n2.png"])
    return pool


@pytest.mark.parametrize("kind", deep_unless({"folder", "csvs"}, ["folder", "csvs", "tables", "parquet"]))
def test_compacting_changes_no_item(kind: str, tmp_path: Path) -> None:
    path = changed_pool(tmp_path, kind)
    before = open_pool(path)
    items, fingerprint, space = held(before), before.fingerprint, before.vector_space
    done = compact(path)
    pool = open_pool(path)
    assert held(pool) == items
    assert (pool.fingerprint, pool.vector_space) == (fingerprint, space)
    assert done.chunks == len(pool.chunks) == -(-len(items) // CHUNK) < done.chunks_before
    assert pool.info().removed == 0
    assert {name for name in files_in(path) if name.startswith("vectors")} == {
        f"vectors/{chunk.index:05d}.arrow" for chunk in pool.chunks
    }
    assert pool.verify() > 0
    files = bytes_of(path)
    assert compact(path).generation == done.generation
    assert bytes_of(path) == files
    with pytest.raises(PoolError, match="ended when the pool was compacted"):
        Pool(path, 0)


def test_a_compacted_pool_grows_on(tmp_path: Path) -> None:
    path = changed_pool(tmp_path)
    items = held(open_pool(path))
    compact(path)
    rows = [*ROWS, *(Row(f"n{number}.png", 60 + number, "l0") for number in range(4)), Row("z.png", 90, "l1")]
    report = make(KINDS["folder"](tmp_path / "items", rows), path)
    now = held(open_pool(path))
    assert (report.added, report.embedded) == (1, 1)
    assert {key: now[key] for key in items} == items
    assert now["z.png"][0] > max(one[0] for one in items.values())
    assert "k1.png" not in now, "what was taken out by name stays out"


@pytest.mark.parametrize("at", deep_unless({0, 5, 11}, range(20)))
def test_a_stop_at_any_rename_loses_nothing(at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = changed_pool(tmp_path)
    items = held(open_pool(path))
    with monkeypatch.context() as patch:
        Disk(patch, at)
        try:
            compact(path)
        except Stop:
            assert held(open_pool(path)) == items
    compact(path)
    assert held(open_pool(path)) == items
    assert open_pool(path).verify() > 0
    assert len(open_pool(path).chunks) == -(-len(items) // CHUNK)


def test_a_stopped_compaction_and_a_growth_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = changed_pool(tmp_path)
    with monkeypatch.context() as patch:
        Disk(patch, 5)
        with pytest.raises(Stop):
            compact(path)
    rows = [*ROWS, *(Row(f"n{number}.png", 60 + number, "l0") for number in range(4)), Row("z.png", 90, "l1")]
    make(KINDS["folder"](tmp_path / "items", rows), path)
    make(KINDS["folder"](tmp_path / "items", rows), tmp_path / "fresh")
    fresh = contents(open_pool(tmp_path / "fresh"))
    assert contents(open_pool(path)) == {key: one for key, one in fresh.items() if key not in ("k1.png", "n2.png")}


# what is gone from the source


@pytest.mark.parametrize("kind", deep_unless({"folder", "tables"}, ["folder", "tables", "csvs", "parquet", "jsonl"]))
def test_what_is_gone_from_the_source_is_taken_out_and_is_new_when_it_comes_back(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "pool"
    make(KINDS[kind](tmp_path / "items", ROWS), path)
    before = held(open_pool(path))
    KINDS[kind](tmp_path / "items", [ROWS[0], *ROWS[3:]])
    done = remove_missing(path)
    assert (done.removed, done.items) == (2, 6)
    assert held(open_pool(path)) == {key: one for key, one in before.items() if key not in ("k1.png", "k2.png")}
    assert remove_missing(path).removed == 0
    assert make(KINDS[kind](tmp_path / "items", ROWS), path).added == 2
    now = held(open_pool(path))
    assert contents(open_pool(path)).keys() == {row.key for row in ROWS}
    assert min(now["k1.png"][0], now["k2.png"][0]) >= len(ROWS)


def test_a_disk_that_is_not_there_empties_no_pool(tmp_path: Path) -> None:
    path = tmp_path / "pool"
    make(KINDS["folder"](tmp_path / "items", ROWS), path)
    for row in ROWS[:5]:
        os.unlink(tmp_path / "items" / row.key)
    with pytest.raises(PoolError, match="5 of its 8 items are not in the source any more"):
        remove_missing(path)
    assert remove_missing(path, most=1).items == 3
    assert np.array_equal([len(open_pool(path))], [3])
