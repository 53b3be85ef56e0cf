"""Tables that Lance wrote and changed: every row as Lance itself reads it, growth by fragments, and clear errors."""

from __future__ import annotations

import io
import pickle
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lance
import numpy as np
import pyarrow as pa
import pytest
from growing_pools import contents, held, make
from object_store import ObjectStore
from PIL import Image

import raysal
from raysal.embedding.job import embed
from raysal.embedding.missing import remove_missing
from raysal.embedding.precomputed import Precomputed
from raysal.errors import MissingExtra, SourceError
from raysal.pool import open_pool
from raysal.sources import detect_source
from raysal.sources.lance_table import LanceTable
from raysal.types import Item

FULL = 10**6


def rows(start: int, stop: int) -> pa.Table:
    flat = pa.array(np.arange(4 * start, 4 * stop, dtype=np.float32) + 1)
    vectors = pa.FixedSizeListArray.from_arrays(flat, 4)
    keys = [f"k{row}" for row in range(start, stop)]
    return pa.table({"key": keys, "vector": vectors, "label": [f"l{row % 3}" for row in range(start, stop)]})


def written(place: Path, count: int = 10, fragment: int = 4) -> Any:
    return lance.write_dataset(rows(0, count), place, max_rows_per_file=fragment)


def items_of(source: Any, chunk_rows: int = FULL) -> list[Item]:
    return [item for unit in source.units(chunk_rows) for item in source.read(unit)]


def keys_of(source: Any) -> list[str]:
    return [key for unit in source.units(FULL) for key in unit.keys]


def png(shade: int) -> bytes:
    packed = io.BytesIO()
    Image.new("L", (3, 2), shade).save(packed, "PNG")
    return packed.getvalue()


# -- what is read -----------------------------------------------------------------------------------------------------


def test_it_is_found_by_what_lies_there(tmp_path: Path) -> None:
    for name in ("t.lance", "any name"):
        written(tmp_path / name)
        assert detect_source(tmp_path / name) == LanceTable(path=tmp_path / name)
    (tmp_path / "empty.lance").mkdir()
    with pytest.raises(SourceError, match="no images in this folder"):
        list(detect_source(tmp_path / "empty.lance").units(1))


def test_the_rows_are_those_that_lance_gives(tmp_path: Path) -> None:
    table = written(tmp_path / "t.lance")
    table.delete("key in ('k1', 'k9')")
    table.update({"label": "'new'"}, where="key = 'k5'")
    lance.write_dataset(rows(10, 13), tmp_path / "t.lance", mode="append")
    expected = lance.dataset(tmp_path / "t.lance").to_table().to_pylist()
    found = items_of(LanceTable(path=tmp_path / "t.lance", carry=("label",)), chunk_rows=3)
    assert [item.key for item in found] == [row["key"] for row in expected]
    assert [item.payload.tolist() for item in found] == [row["vector"] for row in expected]
    assert [item.carried["label"] for item in found] == [row["label"] for row in expected]


@pytest.mark.parametrize("how", ["binary", "blob", "blob v2", "struct"])
def test_images_are_read_however_lance_keeps_them(how: str, tmp_path: Path) -> None:
    images = [png(shade) for shade in range(5)]
    images[3] *= 40_000  # above what is kept inside of a data file
    column: Any = pa.array(images, pa.large_binary())
    field, more = pa.field("image", pa.large_binary()), {}
    if how == "blob":
        field = field.with_metadata({"lance-encoding:blob": "true"})
    elif how == "blob v2":
        field, column, more = lance.blob_field("image"), lance.blob_array(images), {"data_storage_version": "2.2"}
    elif how == "struct":
        (tmp_path / "two.png").write_bytes(images[2])
        column = pa.array([{"bytes": None if row == 2 else one, "path": "two.png"} for row, one in enumerate(images)])
        field = pa.field("image", column.type)
    schema = pa.schema([pa.field("key", pa.string()), field])
    table = pa.Table.from_arrays([pa.array([f"k{row}" for row in range(5)]), column], schema=schema)
    lance.write_dataset(table, tmp_path / "t.lance", max_rows_per_file=2, **more)
    source = detect_source(tmp_path / "t.lance")
    assert source.modality == "image"
    assert [item.payload for item in items_of(source, chunk_rows=3)] == images


def test_a_row_without_a_vector_or_with_another_length_is_quarantined(tmp_path: Path) -> None:
    vectors = pa.array([[1.0, 2.0], None, [3.0, None], [4.0, 5.0, 6.0], [7.0, 8.0]], pa.list_(pa.float32()))
    lance.write_dataset(pa.table({"key": list("abcde"), "vector": vectors}), tmp_path / "t.lance")
    make(LanceTable(path=tmp_path / "t.lance"), tmp_path / "pool")
    pool = open_pool(tmp_path / "pool")
    assert sorted(held(pool)) == ["a", "e"]
    lost = [key for chunk in pool.chunks for key in chunk.quarantine()["key"].to_pylist()]
    assert sorted(lost) == ["b", "c", "d"]


def test_texts_and_parts_of_owners(tmp_path: Path) -> None:
    table = pa.table({"key": list("abc"), "text": ["x", "y", "z"], "of": ["o", "o", None]})
    lance.write_dataset(table, tmp_path / "t.lance")
    (unit,) = LanceTable(path=tmp_path / "t.lance", owner="of").units(FULL)
    assert unit.owners == ("o", "o", None)
    assert [item.payload for item in LanceTable(path=tmp_path / "t.lance").read(unit)] == ["x", "y", "z"]


def test_numbers_as_keys_stay_with_their_rows(tmp_path: Path) -> None:
    table = written(tmp_path / "t.lance")
    source = LanceTable(path=tmp_path / "t.lance", key_column="#")
    before = {item.key: item.payload.tolist() for item in items_of(source)}
    assert list(before) == [*(f"0:{row}" for row in range(4)), *(f"1:{row}" for row in range(4)), "2:0", "2:1"]
    table.delete("key in ('k0', 'k5')")
    lance.write_dataset(rows(10, 11), tmp_path / "t.lance", mode="append")
    now = {item.key: item.payload.tolist() for item in items_of(LanceTable(path=source.path, key_column="#"))}
    assert set(before) - set(now) == {"0:0", "1:1"}
    assert set(now) - set(before) == {"3:0"}
    assert all(now[key] == before[key] for key in now if key in before)


# -- versions and growth ----------------------------------------------------------------------------------------------


def test_a_version_is_read_as_it_was(tmp_path: Path) -> None:
    table = written(tmp_path / "t.lance")
    table.tags.create("first", 1)
    table.delete("key = 'k0'")
    lance.write_dataset(rows(10, 12), tmp_path / "t.lance", mode="append")
    for version in (1, "first"):
        assert keys_of(LanceTable(path=tmp_path / "t.lance", version=version)) == [f"k{row}" for row in range(10)]
    assert len(keys_of(LanceTable(path=tmp_path / "t.lance"))) == 11
    with pytest.raises(SourceError, match=r"cannot be opened .*version"):
        keys_of(LanceTable(path=tmp_path / "t.lance", version=99))
    make(LanceTable(path=tmp_path / "t.lance", version=1), tmp_path / "pool")
    assert make(LanceTable(path=tmp_path / "t.lance"), tmp_path / "pool").added == 0, "it goes on with its version"
    assert len(open_pool(tmp_path / "pool")) == 10


def test_workers_read_the_version_that_was_listed(tmp_path: Path) -> None:
    """A row that is deleted while a job runs shifts no other."""
    table = written(tmp_path / "t.lance")
    source = LanceTable(path=tmp_path / "t.lance")
    units = list(source.units(3))
    table.delete("key in ('k0', 'k4')")
    sent = pickle.loads(pickle.dumps(source))
    assert [item.key for unit in units for item in sent.read(unit)] == [f"k{row}" for row in range(10)]


def test_a_compaction_changes_no_id(tmp_path: Path) -> None:
    table = written(tmp_path / "t.lance")
    source = LanceTable(path=tmp_path / "t.lance", carry=("label",))
    make(source, tmp_path / "pool")
    before = held(open_pool(tmp_path / "pool"))
    table.delete("key = 'k3'")
    table.optimize.compact_files()
    report = make(source, tmp_path / "pool")
    assert (report.added, report.replaced) == (0, 0)
    assert held(open_pool(tmp_path / "pool")) == before


def test_rows_that_were_deleted_are_taken_out_as_missing(tmp_path: Path) -> None:
    table = written(tmp_path / "t.lance")
    make(LanceTable(path=tmp_path / "t.lance"), tmp_path / "pool")
    table.delete("key in ('k2', 'k9')")
    assert make(LanceTable(path=tmp_path / "t.lance"), tmp_path / "pool").embedded == 0
    remove_missing(tmp_path / "pool", most=0.5)
    assert set(held(open_pool(tmp_path / "pool"))) == {f"k{row}" for row in range(10)} - {"k2", "k9"}


def test_of_a_grown_table_only_new_fragments_are_read(tmp_path: Path, bucket_store: ObjectStore) -> None:
    def texts(start: int, stop: int) -> pa.Table:
        numbers = range(start, stop)
        return pa.table({"key": [f"k{row}" for row in numbers], "text": [f"{row:04d}" for row in numbers]})

    lance.write_dataset(texts(0, 10), tmp_path / "t.lance", max_rows_per_file=4)
    bucket_store.put_folder(tmp_path / "t.lance", "t.lance/")
    make(LanceTable(path=f"{bucket_store.url}/t.lance"), tmp_path / "pool")
    old = {name for name in bucket_store.names() if "/data/" in name}
    lance.write_dataset(texts(10, 13), tmp_path / "t.lance", mode="append")
    bucket_store.put_folder(tmp_path / "t.lance", "t.lance/")
    bucket_store.forget_requests()
    assert make(LanceTable(path=f"{bucket_store.url}/t.lance"), tmp_path / "pool").added == 3
    read = {name for _, name in bucket_store.requests("GET", "*/data/*")}
    assert len(read) == 1
    assert not read & old
    make(LanceTable(path=tmp_path / "t.lance"), tmp_path / "fresh")
    assert contents(open_pool(tmp_path / "pool")) == contents(open_pool(tmp_path / "fresh"))


# -- out again --------------------------------------------------------------------------------------------------------


def test_what_was_exported_to_lance_has_the_same_vectors(tmp_path: Path) -> None:
    written(tmp_path / "t.lance")
    first = raysal.embed({"name": "lance", "path": tmp_path / "t.lance", "carry": ["label"]}, out=tmp_path / "pool")
    raysal.export(first, out=tmp_path / "out", form="lance", vectors=True, shard_items=4)
    again = raysal.embed({"name": "lance", "path": tmp_path / "out", "carry": ["label"]}, out=tmp_path / "again")
    assert contents(again) == contents(first)
    assert detect_source(tmp_path / "out") == LanceTable(path=tmp_path / "out")


def test_pictures_go_out_and_in_again(tmp_path: Path) -> None:
    images = [png(shade) for shade in range(6)]
    lance.write_dataset(pa.table({"key": list("abcdef"), "image": images}), tmp_path / "t.lance", max_rows_per_file=2)
    pool = raysal.embed(tmp_path / "t.lance", Shade(), out=tmp_path / "pool")
    raysal.export(pool, out=tmp_path / "out", form="lance", shard_items=4)
    again = detect_source(tmp_path / "out")
    assert {item.key: item.payload for item in items_of(again)} == dict(zip("abcdef", images, strict=True))


@dataclass(frozen=True)
class Shade:
    """An encoder of pictures: their first pixel."""

    modality: Literal["image"] = "image"
    dim: int = 2

    def preprocessing(self) -> dict[str, Any]:
        return {}

    def fingerprint(self) -> str:
        return "5" * 64

    def prepare(self, key: str, payload: Any) -> int:
        del key
        return int(Image.open(io.BytesIO(payload)).getpixel((0, 0)))  # type: ignore[arg-type]

    def encode(self, prepared: list[int]) -> Any:
        return np.array([[shade, 1] for shade in prepared], np.float32)


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cut", "gone", "flipped"])
def test_a_damaged_fragment_is_named_and_the_job_goes_on_when_it_is_back(how: str, tmp_path: Path) -> None:
    table = written(tmp_path / "t.lance")
    (file,) = (tmp_path / "t.lance" / "data" / one.path for one in table.get_fragments()[2].data_files())
    shutil.copy2(file, tmp_path / "kept")
    source = LanceTable(path=tmp_path / "t.lance", carry=("label",))
    units = list(source.units(4))
    data = file.read_bytes()
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(data[: len(data) // 2] if how == "cut" else b"\xff" * 200 + data[200:])
    with pytest.raises(SourceError, match=r"t\.lance: fragment 2 cannot be read \(.*bring its files back"):
        _ = [list(LanceTable(path=source.path).read(unit)) for unit in units]
    with pytest.raises(SourceError, match="fragment 2 cannot be read"):
        embed(source, Precomputed(), tmp_path / "pool", chunk_rows=4)
    shutil.copy2(tmp_path / "kept", file)
    begun = tmp_path / ("pool" if how == "flipped" else "anew")  # another size is another source
    embed(LanceTable(path=source.path, carry=("label",)), Precomputed(), begun, chunk_rows=4)
    embed(LanceTable(path=source.path, carry=("label",)), Precomputed(), tmp_path / "whole", chunk_rows=4)
    assert contents(open_pool(begun)) == contents(open_pool(tmp_path / "whole"))


def test_a_record_of_versions_that_is_damaged_is_an_error(tmp_path: Path) -> None:
    written(tmp_path / "t.lance")
    (record,) = (tmp_path / "t.lance" / "_versions").glob("*.manifest")
    record.write_bytes(record.read_bytes()[:30])
    with pytest.raises(SourceError, match=r"t\.lance: the Lance table cannot be opened"):
        keys_of(LanceTable(path=tmp_path / "t.lance"))


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    written(tmp_path / "t.lance")
    with pytest.raises(SourceError, match="no column 'name'; its columns: key, vector, label"):
        keys_of(LanceTable(path=tmp_path / "t.lance", key_column="name"))
    bad = pa.table({"key": ["a", None], "vector": [[1.0], [2.0]]})
    lance.write_dataset(bad, tmp_path / "bad.lance")
    with pytest.raises(SourceError, match="row 1: the key is null"):
        keys_of(LanceTable(path=tmp_path / "bad.lance"))


def test_what_lance_does_not_reach_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match=r"memory://t\.lance: Lance tables are not read by this scheme"):
        keys_of(LanceTable(path="memory://t.lance"))
    written(tmp_path / "t.lance")
    lance.dataset(tmp_path / "t.lance").shallow_clone(tmp_path / "clone.lance", 1)
    with pytest.raises(SourceError, match="shallow clone"):
        list(LanceTable(path=tmp_path / "clone.lance").files())
    monkeypatch.setitem(sys.modules, "lance", None)
    with pytest.raises(MissingExtra, match=r"raysal\[lance\]"):
        keys_of(LanceTable(path=tmp_path / "t.lance"))


def test_an_empty_table_is_an_error(tmp_path: Path) -> None:
    lance.write_dataset(rows(0, 3), tmp_path / "t.lance").delete("true")
    with pytest.raises(SourceError, match="has no rows"):
        keys_of(LanceTable(path=tmp_path / "t.lance"))
