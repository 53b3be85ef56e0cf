"""A source that grew by something bad: what is good is taken in, what is bad is named, and nothing is lost."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from changing_sources import CHANGES, KINDS, ROWS, Row, as_older
from growing_pools import contents, held, make
from object_store import ObjectStore

from raysal.buckets import retries
from raysal.errors import SourceError
from raysal.pool import open_pool
from raysal.pool.layout import MANIFEST, Manifest
from raysal.sources.array import Array
from raysal.sources.base import Source
from raysal.sources.table import Table
from raysal.store import read_sealed, write_sealed


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.0)


def lost(pool: Path) -> dict[str, str]:
    rows = [row for chunk in open_pool(pool).chunks for row in chunk.quarantine().to_pylist()]
    return {row["key"]: row["error"] for row in rows}


# -- a chunk of Zarr that is missing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["disk", "bucket"])
def test_a_chunk_of_zarr_that_is_missing_in_a_growth(where: str, tmp_path: Path, bucket_store: ObjectStore) -> None:
    """Its rows are quarantined by name, and embedded when it is there."""
    place = tmp_path / "in" / "t.zarr"
    array = zarr.create_array(place / "vectors", shape=(6, 2), chunks=(2, 2), dtype="float32", fill_value=0)
    array[:] = np.arange(12, dtype=np.float32).reshape(6, 2) + 1

    def source() -> Source:
        if where == "disk":
            return Array(path=place)
        for name in bucket_store.names():
            bucket_store.take_away(name)
        bucket_store.put_folder(tmp_path / "in", "in/")
        return Array(path=f"{bucket_store.url}/in/t.zarr")

    make(source(), tmp_path / "pool")
    before = held(open_pool(tmp_path / "pool"))
    array.resize((12, 2))
    array[6:] = np.arange(12, dtype=np.float32).reshape(6, 2) + 50
    missing = place / "vectors" / "c" / "4" / "0"
    data = missing.read_bytes()
    missing.unlink()
    report = make(source(), tmp_path / "pool")
    assert report.items == 12
    assert set(lost(tmp_path / "pool")) == {"8", "9"}
    assert all("its chunk c/4/0 is not in the store" in said for said in lost(tmp_path / "pool").values())
    now = held(open_pool(tmp_path / "pool"))
    assert set(now) == {str(row) for row in range(12)} - {"8", "9"}
    assert {key: now[key] for key in before} == before
    missing.write_bytes(data)
    whole = source()
    make(whole, tmp_path / "pool")
    make(whole, tmp_path / "fresh")
    grown = contents(open_pool(tmp_path / "pool"))
    assert grown == contents(open_pool(tmp_path / "fresh"))
    assert len(grown) == 12
    after = held(open_pool(tmp_path / "pool"))
    assert {key: after[key] for key in now} == now


# -- a table whose columns are others than those of the first file ----------------------------------------------------


def columns(start: int, stop: int, **others: object) -> pa.Table:
    keys = [f"k{row}" for row in range(start, stop)]
    vectors = [[float(row), 1.0] for row in range(start, stop)]
    given: dict[str, object] = {"key": keys, "vector": pa.array(vectors, pa.list_(pa.float32())), "label": keys}
    return pa.table({name: value for name, value in (given | others).items() if value is not None})


SAME = {
    "float64": {"vector": pa.array([[6.0, 1.0], [7.0, 1.0]], pa.list_(pa.float64()))},
    "a fixed size": {"vector": pa.FixedSizeListArray.from_arrays(pa.array([6, 1, 7, 1], pa.float32()), 2)},
    "a dictionary of keys": {"key": pa.array(["k6", "k7"]).dictionary_encode()},
    "a column more": {"more": [1, 2]},
}
"""Other types of the same values: they are taken as they are."""
OTHER = {
    "no vector": ({"vector": None}, "no column 'vector'"),
    "no key": ({"key": None}, "no column 'key'"),
    "no carried column": ({"label": None}, "no column 'label'"),
    "texts": ({"vector": ["a", "b"]}, "column 'vector' holds string, unlike 0.parquet"),
}


def two_files(where: str, folder: Path, second: pa.Table | None, store: ObjectStore) -> Source:
    folder.mkdir(exist_ok=True)
    pq.write_table(columns(0, 6), folder / "0.parquet") if not (folder / "0.parquet").exists() else None
    if second is not None:
        pq.write_table(second, folder / "1.parquet")
    if where == "bucket":
        store.put_folder(folder, "in/")
        return Table(path=f"{store.url}/in", carry=("label",))
    return Table(path=folder, carry=("label",))


@pytest.mark.parametrize("where", ["disk", "bucket"])
@pytest.mark.parametrize("change", SAME)
def test_a_file_of_other_types_is_taken_in(change: str, where: str, tmp_path: Path, bucket_store: ObjectStore) -> None:
    make(two_files(where, tmp_path / "in", None, bucket_store), tmp_path / "pool")
    source = two_files(where, tmp_path / "in", columns(6, 8, **SAME[change]), bucket_store)
    assert make(source, tmp_path / "pool").added == 2
    found = {key: np.frombuffer(value[0], np.float16).tolist() for key, value in contents_of(tmp_path / "pool").items()}
    assert found == {f"k{row}": [float(row), 1.0] for row in range(8)}
    make(source, tmp_path / "fresh")
    assert contents_of(tmp_path / "fresh") == contents_of(tmp_path / "pool")


@pytest.mark.parametrize("where", ["disk", "bucket"])
@pytest.mark.parametrize("change", OTHER)
def test_a_file_of_other_columns_is_an_error_that_names_it(
    change: str, where: str, tmp_path: Path, bucket_store: ObjectStore
) -> None:
    others, said = OTHER[change]
    make(two_files(where, tmp_path / "in", None, bucket_store), tmp_path / "pool")
    before = held(open_pool(tmp_path / "pool"))
    source = two_files(where, tmp_path / "in", columns(6, 8, **others), bucket_store)
    for out in ("pool", "fresh"):
        with pytest.raises(SourceError, match=rf"in/1\.parquet: {said}"):
            make(source, tmp_path / out)
    assert held(open_pool(tmp_path / "pool")) == before
    assert not (tmp_path / "fresh" / MANIFEST).exists()
    source = two_files(where, tmp_path / "in", columns(6, 8), bucket_store)
    assert make(source, tmp_path / "pool").added == 2, "when it is mended, it is taken in"


def test_vectors_of_another_length_are_quarantined_by_name(tmp_path: Path, bucket_store: ObjectStore) -> None:
    make(two_files("disk", tmp_path / "in", None, bucket_store), tmp_path / "pool")
    longer = columns(6, 8, vector=[[1.0, 2.0, 3.0], [7.0, 1.0]])
    make(two_files("disk", tmp_path / "in", longer, bucket_store), tmp_path / "pool")
    assert set(lost(tmp_path / "pool")) == {"k6"}
    assert "k7" in held(open_pool(tmp_path / "pool"))


def contents_of(pool: Path) -> dict[str, tuple[bytes, object]]:
    return contents(open_pool(pool))  # type: ignore[return-value]


# -- a pool of format 1 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "parquet", "csv"])
def test_a_pool_of_the_first_raysal_opens_and_grows(kind: str, tmp_path: Path) -> None:
    """It records fewer fields of its source, no digests, and no table of files."""
    make(KINDS[kind](tmp_path / "items", ROWS), tmp_path / "pool")
    as_older(tmp_path / "pool")
    manifest = read_sealed(tmp_path / "pool" / MANIFEST)
    del manifest["source"]["config"]["suffixes" if kind == "folder" else "recursive"]
    written = (tmp_path / "pool" / MANIFEST).stat()
    write_sealed(tmp_path / "pool" / MANIFEST, manifest)
    os.utime(tmp_path / "pool" / MANIFEST, ns=(written.st_atime_ns, written.st_mtime_ns))
    before = held(open_pool(tmp_path / "pool"))
    for changed, added in ((CHANGES["one more"](ROWS), 1), ((*CHANGES["one more"](ROWS), Row("z.png", 55, "l0")), 1)):
        assert make(KINDS[kind](tmp_path / "items", changed), tmp_path / "pool").added == added
    now = held(open_pool(tmp_path / "pool"))
    assert {key: now[key] for key in before} == before
    assert len(now) == len(before) + 2


def test_a_pool_keeps_format_1_until_it_changes(tmp_path: Path, bucket_store: ObjectStore) -> None:
    """So an older raysal reads it; and refuses it by its number once there are items that it would not see."""
    make(two_files("disk", tmp_path / "in", None, bucket_store), tmp_path / "pool")
    assert Manifest.read(tmp_path / "pool").version == 1
    source = two_files("disk", tmp_path / "in", columns(6, 8), bucket_store)
    assert make(source, tmp_path / "pool").added == 2
    assert Manifest.read(tmp_path / "pool").version == 2
