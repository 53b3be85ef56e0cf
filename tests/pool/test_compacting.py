"""A compacted pool holds the same items under the same ids, in fewer files; and what is gone from the source goes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from changing_sources import CHUNK, KINDS, ROWS, Row
from growing_pools import Disk, Stop, contents, files_in, held, make
from pool_files import bytes_of
from tiers import deep_unless

from raysal.embedding.missing import remove_missing
from raysal.errors import PoolError
from raysal.pool import Pool, committed, open_pool
from raysal.pool.compacting import compact
from raysal.pool.key_index import KeyIndex, extend
from raysal.pool.removing import remove_items
from raysal.sources.folder import Folder
from raysal.sources.table import Table


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


def test_columns_of_other_types_are_in_chunks_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "items").mkdir()
    labels = [pa.array([1, None]), pa.array(["x", "y"]), pa.nulls(2), pa.array(["z", None]), pa.array([0.5, 2])]
    for place, column in enumerate(labels):
        vectors = pa.array([[place + 1.0, 1.0], [place + 1.5, 1.0]], pa.list_(pa.float32(), 2))
        table = pa.table({"key": [f"{place}a", f"{place}b"], "vector": vectors, "label": column})
        pq.write_table(table, tmp_path / "items" / f"{place}.parquet")
    make(Table(path=tmp_path / "items", carry=("label",)), tmp_path / "pool", chunk_rows=2)
    remove_items(tmp_path / "pool", [f"{place}a" for place in range(5)])
    before = held(open_pool(tmp_path / "pool"))
    done = compact(tmp_path / "pool")
    pool = open_pool(tmp_path / "pool")
    assert [repr(one) for one in held(pool).items()] == [repr(one) for one in before.items()]
    assert pool.verify() > 0
    assert done.chunks == 4
    assert compact(tmp_path / "pool").generation == done.generation, "to repeat it does nothing"


def test_who_opens_a_pool_while_it_is_compacted_sees_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = changed_pool(tmp_path)
    items, earlier = held(open_pool(path)), open_pool(path)
    real, calls = committed.committed_chunks, list[int]()

    def late(pool: Path, generation: int | None = None) -> committed.Committed:
        calls.append(1)
        if len(calls) == 1:
            compact(path)
        return real(pool, generation)

    monkeypatch.setattr(committed, "committed_chunks", late)
    assert held(open_pool(path)) == items
    with pytest.raises(PoolError, match="was compacted since it was opened; open it again"):
        held(earlier)


def test_what_is_new_is_known_when_the_generation_before_was_compacted_away(tmp_path: Path) -> None:
    path = changed_pool(tmp_path)
    seen, first, last = (
        Pool(path, 0).fingerprint,
        open_pool(path).first_new_id(Pool(path, 0).fingerprint),
        open_pool(path),
    )
    newest = last.first_new_id()
    compact(path)
    assert open_pool(path).first_new_id(seen) == first == len(ROWS)
    assert open_pool(path).first_new_id() == newest


def test_a_compacted_pool_has_a_key_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extend, "__kwdefaults__", {**extend.__kwdefaults__, "least": 1})
    path = changed_pool(tmp_path)
    compact(path)
    pool = open_pool(path)
    assert KeyIndex(path, pool.chunks).trusted() == {chunk.index for chunk in pool.chunks}


@pytest.mark.parametrize("change", [compact, remove_missing, lambda path: remove_items(path, ["a"])])
def test_nothing_is_written_into_what_is_no_pool(change: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("photos", "nothing"):
        with pytest.raises(PoolError, match="not a pool"):
            change(tmp_path / name)
    assert list((tmp_path / "photos").iterdir()) == []


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


def test_a_folder_that_is_put_back_as_it_was_is_taken_in(tmp_path: Path) -> None:
    items, path = tmp_path / "items", tmp_path / "pool"
    KINDS["folder"](items, ROWS)
    KINDS["folder"](items / "inner", [Row("m.png", 99, "l0")])
    make(Folder(path=items), path)
    (items / "inner").rename(tmp_path / "inner")
    assert remove_missing(path).removed == 1
    (tmp_path / "inner").rename(items / "inner")
    assert make(Folder(path=items), path).added == 1
    assert "inner/m.png" in held(open_pool(path))


def test_a_disk_that_is_not_there_empties_no_pool(tmp_path: Path) -> None:
    path = tmp_path / "pool"
    make(KINDS["folder"](tmp_path / "items", ROWS), path)
    for row in ROWS[:5]:
        os.unlink(tmp_path / "items" / row.key)
    with pytest.raises(PoolError, match="5 of its 8 items are not in the source any more"):
        remove_missing(path)
    assert remove_missing(path, most=1).items == 3
    assert np.array_equal([len(open_pool(path))], [3])
