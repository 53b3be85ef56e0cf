"""A source of parts becomes a pool of parts: no chunk cuts an owner, and an owner keeps its id for good."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from changing_sources import Bytes
from PIL import Image
from served_runs import Shades

import raysal
from raysal.embedding import moves
from raysal.errors import PoolError, SourceError
from raysal.pool import Pool, open_pool
from raysal.pool.compacting import compact
from raysal.pool.owner_chunk import owner_ids, owner_keys
from raysal.pool.owners import OwnersOf, has_parts
from raysal.pool.removing import remove_items
from raysal.sources.folder import Folder
from raysal.sources.keys import check_keys
from raysal.sources.table import Table
from raysal.sources.text import Text


class FirstNumber(Bytes):
    """The first number in a window."""

    def prepare(self, key: str, payload: Any) -> int:
        return super().prepare(key, payload.split()[0])


OWNERS = ["a", "a", None, "b", "b", "b", "c", None, None, "d", "d", "e"]


def write(path: Path, owners: Sequence[str | None], start: int = 0) -> None:
    rng = np.random.default_rng(start)
    vectors = rng.normal(size=(len(owners), 4)).astype(np.float32)
    vectors[0] = np.nan if start == 0 else vectors[0]  # the first part of `a` is quarantined
    table = pa.table(
        {
            "key": [f"k{start + row}" for row in range(len(owners))],
            "page": pa.array(owners, pa.string()),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 4),
        }
    )
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table, path, row_group_size=5)


class OfBatch(Bytes):
    """Texts, whose vectors depend on how many there are."""

    def encode(self, items):
        return np.full((len(items), self.dim), len(items), np.float32)


def embed(place: Path, chunk_rows: int = 4) -> Pool:
    source = Table(path=place / "items", owner="page")
    return raysal.embed(source, out=place / "pool", chunk_rows=chunk_rows, max_quarantine=0.5)


def owners_by_key(pool: Pool) -> dict[str, tuple[int, str | None]]:
    """Owner's id, which is the item's own where it is no part, and key."""
    found = {}
    for chunk in pool.chunks:
        items = chunk.items(["key", "owner_key"])
        pairs = zip(owner_ids(chunk).tolist(), items["owner_key"].to_pylist(), strict=True)
        found |= dict(zip(items["key"].to_pylist(), pairs, strict=True))
    return found


def wanted(owners: Sequence[str | None]) -> dict[str, tuple[int, str | None]]:
    return {
        f"k{row}": (row if owner is None else owners.index(owner), owner) for row, owner in enumerate(owners) if row
    }


@pytest.mark.parametrize("chunk_rows", [3, 4, 7, 100])
def test_owners_are_kept_and_no_chunk_cuts_one(chunk_rows, tmp_path):
    write(tmp_path / "items" / "one.parquet", OWNERS)
    pool = embed(tmp_path, chunk_rows)
    assert has_parts(pool)
    assert owners_by_key(pool) == wanted(OWNERS)
    assert max(chunk.rows for chunk in pool.chunks) <= chunk_rows
    seen = [set(owner_ids(chunk).tolist()) for chunk in pool.chunks]
    assert sum(map(len, seen)) == len(set().union(*seen))
    assert OwnersOf(pool).ids_of(["a", "d", "k2", "k8"]) == {"a": 0, "k2": 2, "k8": 8, "d": 9}
    pool.verify()


def test_an_owner_whose_parts_lie_apart_is_refused(tmp_path):
    write(tmp_path / "items" / "one.parquet", ["a", "b", "a"])
    with pytest.raises(SourceError, match="'a' is named at several places"):
        embed(tmp_path)


def test_an_owner_with_the_key_of_another_item_is_refused(tmp_path):
    write(tmp_path / "items" / "one.parquet", ["a", "a", None, "k2", "k2"])
    with pytest.raises(SourceError, match="'k2' is named at several places"):
        embed(tmp_path)


def test_an_owner_that_no_chunk_can_hold_is_refused_by_name(tmp_path):
    write(tmp_path / "items" / "one.parquet", ["a", *["b"] * 5])
    with pytest.raises(SourceError, match="'b' has more than the 4 parts"):
        embed(tmp_path)


def test_a_pool_grows_by_whole_owners_and_refuses_new_parts_of_others(tmp_path):
    write(tmp_path / "items" / "one.parquet", OWNERS)
    embed(tmp_path)
    write(tmp_path / "items" / "two.parquet", ["f", "f", None, "g"], start=100)
    grown = embed(tmp_path)
    assert OwnersOf(grown).ids_of(["a", "f", "k102", "g"]) == {"a": 0, "f": 12, "k102": 14, "g": 15}
    before = owners_by_key(grown)
    write(tmp_path / "items" / "three.parquet", ["h", "d"], start=200)
    with pytest.raises(PoolError, match="owner 'd', and the source has new or changed parts"):
        embed(tmp_path)
    assert owners_by_key(open_pool(tmp_path / "pool")) == before


@pytest.mark.parametrize("chunk_rows", [4, 100])
def test_parts_of_a_file_that_was_only_touched_are_no_new_ones(chunk_rows, tmp_path):
    """Also where new items share a unit with them, one was quarantined, and one was taken out."""
    write(tmp_path / "items" / "one.parquet", OWNERS)
    path = embed(tmp_path, chunk_rows).path
    remove_items(path, ["k4"])
    before = {key: owner for key, owner in wanted(OWNERS).items() if key != "k4"}
    os.utime(tmp_path / "items" / "one.parquet", (1, 1))
    assert owners_by_key(embed(tmp_path, chunk_rows)) == before
    write(tmp_path / "items" / "two.parquet", ["f", "f", None], start=100)
    os.utime(tmp_path / "items" / "one.parquet", (2, 2))
    grown = embed(tmp_path, chunk_rows)
    now = owners_by_key(grown)
    assert {key: now.pop(key) for key in before} == before
    assert set(now) == {"k100", "k101", "k102"}
    assert {now["k100"], now["k101"]} == {(OwnersOf(grown).ids_of(["f"])["f"], "f")}
    write(tmp_path / "items" / "three.parquet", ["b"], start=200)
    with pytest.raises(PoolError, match="owner 'b'"):
        embed(tmp_path, chunk_rows)


def test_parts_that_are_the_same_stay_together_though_a_batch_gives_them_other_vectors(tmp_path):
    def texts(name, owners, start):
        keys = [f"k{start + row}" for row in range(len(owners))]
        (tmp_path / "items").mkdir(exist_ok=True)
        pq.write_table(
            pa.table({"key": keys, "text": [str(start)] * len(keys), "page": owners}), tmp_path / "items" / name
        )

    source = Table(path=tmp_path / "items", owner="page")
    texts("one.parquet", ["a", "a", "b", "b", "b"], 0)
    before = owners_by_key(raysal.embed(source, OfBatch(modality="text"), out=tmp_path / "pool"))
    texts("two.parquet", ["c", "c"], 100)
    os.utime(tmp_path / "items" / "one.parquet", (1, 1))
    grown = raysal.embed(source, OfBatch(modality="text"), out=tmp_path / "pool")
    now = owners_by_key(grown)
    assert {key: now.pop(key) for key in before} == before
    assert set(now) == {"k100", "k101"}
    assert OwnersOf(grown).ids_of(["a", "b"]) == {"a": 0, "b": 2}


@pytest.mark.parametrize("chunk_rows", [4, 100])
def test_a_removed_frame_that_changed_beside_touched_ones_is_told_from_them_by_hashes(chunk_rows, tmp_path):
    def frame(name, colour):
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), colour, np.uint8)).save(tmp_path / "videos" / name)

    def grown(check, out):
        source = Folder(path=tmp_path / "videos", owner="folder")
        return raysal.embed(source, Shades(), out=tmp_path / out, chunk_rows=chunk_rows, check=check)

    for video, count in (("a", 3), ("b", 4), ("c", 2)):
        for place in range(count):
            frame(f"{video}/{place}.png", 20 * place + ord(video))
    for check in ("fast", "hash"):
        remove_items(grown(check, check).path, ["b/1.png"])
    before = {check: owners_by_key(open_pool(tmp_path / check)) for check in ("fast", "hash")}
    frame("b/1.png", 255)
    os.utime(tmp_path / "videos" / "b" / "0.png", (1, 1))
    frame("d/0.png", 7)
    now = owners_by_key(grown("hash", "hash"))
    assert now.pop("d/0.png")[1] == "d"
    assert now == before["hash"]
    with pytest.raises(PoolError, match=r"owner 'b'.*--check hash"):  # the digest of a chunk is one of all its items
        grown("fast", "fast")
    assert owners_by_key(open_pool(tmp_path / "fast")) == before["fast"]


@pytest.mark.parametrize(("first", "second"), [(OWNERS, None), ([None] * 12, "b")])
def test_no_later_item_has_the_key_of_an_owner(first, second, tmp_path):
    write(tmp_path / "items" / "one.parquet", first)
    embed(tmp_path)
    write(tmp_path / "items" / "two.parquet", [second], start=100)
    table = pq.read_table(tmp_path / "items" / "two.parquet")
    name = "b" if second is None else "k3"  # of an owner; of an item that is its own
    column = ("key", "page")[second is not None]
    table = table.set_column(table.column_names.index(column), column, pa.array([name]))
    pq.write_table(table, tmp_path / "items" / "two.parquet")
    with pytest.raises(PoolError, match=f"owner '{name}'"):
        embed(tmp_path)


def test_the_owners_that_are_there_are_read_once_for_all_units(tmp_path, monkeypatch):
    write(tmp_path / "items" / "one.parquet", OWNERS)
    pool = embed(tmp_path)
    read = []
    monkeypatch.setattr(moves, "owner_keys", lambda chunk: read.append(chunk.index) or owner_keys(chunk))
    write(tmp_path / "items" / "two.parquet", [f"p{place // 2}" for place in range(20)], start=100)
    assert len(embed(tmp_path).chunks) == len(pool.chunks) + 5
    assert read == [chunk.index for chunk in pool.chunks]


def test_an_owner_keeps_its_id_when_parts_are_removed_and_the_pool_is_compacted(tmp_path):
    write(tmp_path / "items" / "one.parquet", OWNERS)
    path = embed(tmp_path).path
    remove_items(path, ["k3", "k9", "k2"])
    left = {key: owner for key, owner in wanted(OWNERS).items() if key not in ("k3", "k9", "k2")}
    assert owners_by_key(open_pool(path)) == left
    compact(path)
    pool = open_pool(path)
    assert owners_by_key(pool) == left
    assert has_parts(pool)
    assert OwnersOf(pool).ids_of(["b", "d"]) == {"b": 3, "d": 9}
    assert OwnersOf(pool).keys_of(np.array([3, 9, 2])) == {3: "b", 9: "d"}
    found = raysal.select(pool, k=6, strategy="random", parts={"by": "owner"}, partitions=3)
    assert set(found["key"].to_pylist()) <= {"a", "b", "c", "d", "e", "k7", "k8"}


def test_the_column_of_owners_is_recorded_and_goes_on_with_the_pool(tmp_path):
    write(tmp_path / "items" / "one.parquet", OWNERS)
    pool = embed(tmp_path)
    again = raysal.embed(tmp_path / "items", out=tmp_path / "pool", chunk_rows=4, max_quarantine=0.5)
    assert again.fingerprint == pool.fingerprint
    assert check_keys(Table(path=tmp_path / "items", owner="page"), 4)[0] == len(OWNERS)


def test_a_file_of_owners_that_was_only_touched_is_no_change_of_a_pool_that_grew(tmp_path):
    def embed_texts() -> Pool:
        source = Text(path=tmp_path / "texts", window=2)
        return raysal.embed(source, FirstNumber(modality="text"), out=tmp_path / "pool", chunk_rows=4)

    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "one.csv").write_text("key,text\na,1 2 3 4 5\nb,6\n")
    embed_texts()
    (folder / "two.csv").write_text("key,text\nc,7 8 9\n")
    before = owners_by_key(embed_texts())
    os.utime(folder / "one.csv", (1, 1))
    assert owners_by_key(embed_texts()) == before
