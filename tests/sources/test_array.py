"""HDF5 files and Zarr stores: every row that was written is an item as it was written, and no other row is one."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from PIL import Image
from tiers import deep_unless
from zarr.core.dtype import VariableLengthBytes

import raysal
from raysal.embedding.decode import decode_image
from raysal.embedding.precomputed import Precomputed
from raysal.errors import BadItem, ConfigError, DuplicateKeys, MissingExtra, SourceError
from raysal.sources import check_keys, detect_source
from raysal.sources.array import Array
from raysal.sources.base import OfFiles
from raysal.sources.of_pool import source_of
from raysal.sources.vectors import columns_of
from raysal.types import Item, Pixels
from raysal.web.catalogue import Entry
from raysal.web.media import Media
from raysal.web.payloads import Payloads

N, DIM = 23, 5
X = np.random.default_rng(0).normal(size=(N, DIM)).astype(np.float32)
KEYS = [f"k{row:02d}ä" for row in range(N)]


def write_hdf5(path: Path, datasets: Mapping[str, Any], chunk: int | None = 4, **options: Any) -> Path:
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        for name, values in datasets.items():
            data = np.array(values, object) if isinstance(values, list) else values
            kind = h5py.string_dtype() if isinstance(values, list) else None
            cut = None if chunk is None else (min(chunk, len(data)), *data.shape[1:])
            file.create_dataset(name, data=data, dtype=kind, chunks=cut, **(options if chunk else {}))
    return path.with_suffix(".h5")


def write_zarr(version: int) -> Callable[..., Path]:
    def write(path: Path, datasets: Mapping[str, Any], chunk: int | None = 4, **options: Any) -> Path:
        group = zarr.open_group(path.with_suffix(".zarr"), mode="w", zarr_format=version)
        for name, values in datasets.items():
            data = np.array(values, np.dtypes.StringDType()) if isinstance(values, list) else values
            cut = (min(chunk or len(data), len(data)), *data.shape[1:])
            group.create_array(name, data=data, chunks=cut, **options)
        return path.with_suffix(".zarr")

    return write


WRITERS: dict[str, Callable[..., Path]] = {"hdf5": write_hdf5, "zarr2": write_zarr(2), "zarr3": write_zarr(3)}


@pytest.fixture(params=sorted(WRITERS))
def write(request: pytest.FixtureRequest) -> Callable[..., Path]:
    return WRITERS[request.param]


def items(source: Any, chunk_rows: int = 7) -> list[Item]:
    return [item for unit in source.units(chunk_rows) for item in source.read(unit)]


def columns(source: Any, dim: int, chunk_rows: int = 7) -> dict[str, Any]:
    """{key: vector, or what is wrong with it} by the way of columns."""
    found: dict[str, Any] = {}
    for unit in source.units(chunk_rows):
        for part in columns_of(source, unit, dim):
            bad = Precomputed(dim=dim).check(part)
            found |= {key: str(bad[row]) if row in bad else part.vectors[row] for row, key in enumerate(part.keys)}
    return found


def bad_keys(found: list[Item]) -> dict[str, str]:
    return {item.key: str(item.payload) for item in found if isinstance(item.payload, BadItem)}


# what is in a file


@pytest.mark.parametrize("chunk", deep_unless({4}, [1, 4, 100, None]))
def test_a_file_becomes_the_same_items_whatever_its_chunks(write: Any, chunk: int | None, tmp_path: Path) -> None:
    path = write(tmp_path / "x", {"emb": X, "ids": KEYS, "label": np.arange(1, N + 1), "name": KEYS}, chunk)
    for chunk_rows in (3, 8, 100):
        source = detect_source(path, carry=("label", "name"))
        assert isinstance(source, Array)
        found = items(source, chunk_rows)
        assert [item.key for item in found] == KEYS
        assert all(np.array_equal(item.payload, row) for item, row in zip(found, X, strict=True))
        assert [dict(item.carried) for item in found] == [{"label": row + 1, "name": KEYS[row]} for row in range(N)]
        assert np.array_equal(list(columns(source, DIM, chunk_rows).values()), X)
        unit = list(source.units(chunk_rows))[-1]
        assert [item.key for item in source.read(unit, only={N - 1, 10**9})] == [KEYS[-1]]


@pytest.mark.parametrize(
    "kind", deep_unless({"f2", ">f4", "u8"}, ["f2", "f4", "f8", ">f4", ">i2", "i1", "u1", "u8", "?"])
)
def test_numbers_of_any_type_keep_their_values(write: Any, kind: str, tmp_path: Path) -> None:
    values = np.arange(N * DIM).reshape(N, DIM).astype(kind)
    source = detect_source(write(tmp_path / "x", {"emb": values}))
    for found in (columns(source, DIM), {item.key: item.payload for item in items(source)}):
        assert [*found] == [str(row) for row in range(N)]
        assert np.array_equal(np.array([*found.values()], np.float64), values.astype(np.float64))


def test_one_dataset_in_a_group_needs_no_name_and_several_are_listed(write: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "one", {"train/emb": X, "train/key": KEYS, "y": np.arange(N)})
    assert len(items(Array(path=path))) == N
    assert [item.key for item in items(Array(path=path, key_column="/train/key"))] == KEYS
    path = write(tmp_path / "two", {"a": X, "b": X[:, :2], "ids": np.arange(N) - 3})
    with pytest.raises(SourceError, match=r"a float32 \(23, 5\), b float32 \(23, 2\), ids int64 \(23,\)"):
        detect_source(path).fingerprint()
    many = write(tmp_path / "many", {f"{name}": X[:1] for name in range(30)})
    with pytest.raises(SourceError, match="and 10 more; choose one with --vector-column"):
        detect_source(many).fingerprint()
    found = detect_source(path, vector_column="b")
    assert [item.key for item in items(found)] == [str(row - 3) for row in range(N)]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"vector_column": "none"}, "no dataset 'none'; its datasets: emb float32"),
        ({"vector_column": "label"}, "cannot be read as vectors"),
        ({"image_column": "emb"}, "cannot be read as images"),
        ({"key_column": "emb"}, "cannot be read as keys"),
        ({"key_column": "short"}, "'short' has 3 rows, and 'emb' has 23"),
        ({"key_column": "real"}, "cannot be read as keys"),
        ({"carry": ("emb",)}, "cannot be read as a column"),
        ({"carry": ("nope",)}, "no dataset 'nope'"),
    ],
)
def test_a_dataset_that_does_not_fit_is_named(write: Any, fields: Any, problem: str, tmp_path: Path) -> None:
    given = {"emb": X, "label": np.arange(N), "short": np.arange(3), "real": np.arange(N) / 2}
    path = write(tmp_path / "x", given)
    with pytest.raises(SourceError, match=problem) as caught:
        list(Array(path=path, **fields).units(10))
    assert "x." in caught.value.where


def test_fields_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    for fields in ({"vector_column": "a", "image_column": "b"}, {"axes": "wh"}, {"carry": ("/key",)}):
        with pytest.raises(ConfigError):
            Array(path=tmp_path, **fields)  # type: ignore[arg-type]


def test_keys_of_fixed_length_and_duplicates_and_empty_ones(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "x", {"emb": X[:3], "ids": np.array([b"a", b"bb", b"ccc"])})
    assert [item.key for item in items(Array(path=path))] == ["a", "bb", "ccc"]
    for keys, error, problem in (
        (np.array([b"a", b"", b"c"]), SourceError, "row 1: the key is empty"),
        (np.array([b"a", b"\xff", b"c"]), SourceError, "row 1: the key is not UTF-8"),
        (np.array([4, 4, 5]), DuplicateKeys, "duplicate keys: 4"),
    ):
        path = write_hdf5(tmp_path / "x", {"emb": X[:3], "ids": keys})
        with pytest.raises(error, match=problem):
            check_keys(Array(path=path), 2)


def test_files_of_a_folder_have_one_length_and_row_numbers_with_their_names(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "b", {"emb": X[:2]})
    write_zarr(3)(tmp_path / "a", {"emb": X[:3]})
    (tmp_path / "notes.txt").write_text("none")
    source = detect_source(tmp_path)
    assert [item.key for item in items(source)] == [*(f"a.zarr:{row}" for row in range(3)), "b.h5:0", "b.h5:1"]
    assert dict(source.passed_over().counts) == {".txt": 1}
    assert [item.key for item in items(detect_source(tmp_path / "*.zarr"))] == [f"a.zarr:{row}" for row in range(3)]
    write_hdf5(tmp_path / "c", {"emb": X[:2, :3]})
    with pytest.raises(SourceError, match=r"c.h5: vectors of length 3, and a.zarr has others"):
        items(detect_source(tmp_path))


def test_a_store_is_one_file_and_known_by_what_is_in_it(tmp_path: Path) -> None:
    path = write_zarr(2)(tmp_path / "x", {"emb": X, "ids": KEYS})
    path.rename(tmp_path / "store")
    source = detect_source(tmp_path / "store")
    assert isinstance(source, Array)
    assert isinstance(source, OfFiles)
    (before,) = source.files()
    assert before.name == "store"
    assert before.bytes == sum(file.stat().st_size for file in (tmp_path / "store").rglob("*") if file.is_file())
    stamp, fingerprint = source.stamp(), source.fingerprint()
    assert [item.key for unit in source.units_in(["store"], 9) for item in source.read(unit)] == KEYS
    assert [list(source.spans(unit)) for unit in source.units(20)] == [[("store", 20)], [("store", 3)]]
    part = tmp_path / "store" / "emb" / "1.0"
    part.write_bytes(part.read_bytes())
    assert (source.fingerprint(), source.stamp().digest == stamp.digest) == (fingerprint, False)
    assert list(source.files()) != [before]
    part.unlink()
    assert source.fingerprint() != fingerprint


def test_a_store_may_be_an_array_and_groups_need_no_metadata(tmp_path: Path) -> None:
    for version in (2, 3):
        alone = zarr.create_array(tmp_path / f"{version}.zarr", shape=X.shape, dtype=X.dtype, zarr_format=version)
        alone[:] = X
        assert np.array_equal([item.payload for item in items(detect_source(tmp_path / f"{version}.zarr"))], X)
    path = write_zarr(2)(tmp_path / "x", {"a/emb": X, "ids": KEYS})
    for group in path.rglob(".zgroup"):
        group.unlink()
    assert [item.key for item in items(detect_source(path))] == KEYS


def test_a_store_may_be_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_zarr(3)(tmp_path / "x", {"emb": X}))
    assert len(items(detect_source("."))) == N


def test_separators_and_shards_of_zarr(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    encoding = {"name": "v2", "separator": "/"}
    group.create_array("emb", data=X, chunks=(4, 2), chunk_key_encoding=encoding)
    assert (tmp_path / "a.zarr/emb/0/0").is_file()
    group = zarr.open_group(tmp_path / "b.zarr", mode="w", zarr_format=3)
    group.create_array("emb", data=X, chunks=(2, 2), shards=(8, 6))
    for name in ("a.zarr", "b.zarr"):
        assert np.array_equal(list(columns(detect_source(tmp_path / name), DIM).values()), X)
    (tmp_path / "a.zarr/emb/1/2").unlink()
    assert [*bad_keys(items(detect_source(tmp_path / "a.zarr")))] == ["4", "5", "6", "7"]


# what is not in a file


def test_a_chunk_that_is_missing_is_no_row_of_fill_values(write: Any, tmp_path: Path) -> None:
    given = X.copy()
    given[8:12] = 0  # zarr leaves out a chunk of fill values, and so do files that nobody filled
    path = write(tmp_path / "x", {"emb": given, "ids": KEYS, "label": np.arange(N) + 1}, 4)
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["ids"], file["label"] = KEYS, np.arange(N) + 1
            emb = file.create_dataset("emb", X.shape, "f4", chunks=(4, 3))
            emb[:8], emb[12:], emb[8:12, :3] = X[:8], X[12:], X[8:12, :3]
    source = detect_source(path, carry=("label",))
    found = items(source)
    assert [*bad_keys(found)] == KEYS[8:12]
    assert all("fill value" in why for why in bad_keys(found).values())
    assert [item.carried["label"] for item in found] == [*range(1, N + 1)]
    assert [key for key, value in columns(source, DIM).items() if isinstance(value, str)] == KEYS[8:12]
    pool = raysal.embed(source, out=tmp_path / "pool", max_quarantine=1)
    assert len(pool) == N - 4


def test_chunks_that_a_shard_does_not_hold_are_missing(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "x.zarr", mode="w", zarr_format=3)
    emb = group.create_array("emb", shape=(10, 3), chunks=(2, 2), shards=(8, 4), dtype="f4")
    emb[:3], emb[6:10] = 1, 2  # rows 4 and 5 are a chunk; columns 3 and 4 reach beyond the array
    assert [*bad_keys(items(detect_source(tmp_path / "x.zarr")))] == ["4", "5"]
    emb[:, :] = 1
    assert not bad_keys(items(detect_source(tmp_path / "x.zarr")))


def test_a_value_to_carry_or_a_key_that_is_missing_is_said(tmp_path: Path) -> None:
    path = write_zarr(3)(tmp_path / "x", {"emb": X, "label": np.arange(N) // 4})
    found = bad_keys(items(detect_source(path, carry=("label",))))
    assert [*found] == ["0", "1", "2", "3"]
    assert "column 'label': its chunk c/0 is not in the store" in found["0"]
    with pytest.raises(SourceError, match="row 0: the key in 'label': its chunk c/0"):
        list(detect_source(path, key_column="label").units(3))
    with zarr.config.set({"array.write_empty_chunks": True}):  # the fix that the reason names
        path = write_zarr(3)(tmp_path / "x", {"emb": X, "label": np.arange(N) // 4})
    assert not bad_keys(items(detect_source(path, carry=("label",))))
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file["emb"] = X
        file.create_dataset("never", (N,), "i8")
    assert len(bad_keys(items(detect_source(tmp_path / "y.h5", carry=("never",))))) == N


def test_a_damaged_chunk_is_quarantined_and_no_other(write: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "x", {"emb": X, "ids": KEYS}, 4)
    if write is write_hdf5:
        with h5py.File(path, "w") as file:
            emb = file.create_dataset("emb", data=X, chunks=(4, DIM), compression="gzip")
            file["ids"] = KEYS
            place = emb.id.get_chunk_info(1)
        data = bytearray(path.read_bytes())
        data[place.byte_offset + 5 : place.byte_offset + 15] = b"\xff" * 10
        path.write_bytes(data)
    else:
        part = path / "emb" / ("1.0" if (path / "emb" / "1.0").exists() else "c/1/0")
        part.write_bytes(part.read_bytes()[:-9])
    source = detect_source(path)
    assert [*bad_keys(items(source))] == KEYS[4:8]
    assert all("cannot be read" in why or "cut short" in why for why in bad_keys(items(source)).values())
    assert [key for key, value in columns(source, DIM).items() if isinstance(value, str)] == KEYS[4:8]


def test_numbers_that_are_not_finite_or_declared_missing_are_quarantined(write: Any, tmp_path: Path) -> None:
    given = X.copy()
    given[3, 1], given[5, 2] = np.nan, -999
    path = write(tmp_path / "x", {"emb": given, "ids": KEYS})
    if path.suffix == ".h5":
        with h5py.File(path, "a") as file:
            file["emb"].attrs["_FillValue"] = np.float32(-999)
    else:
        zarr.open_array(path / "emb", mode="a").attrs["_FillValue"] = -999.0
    pool = raysal.embed(path, out=tmp_path / "pool", max_quarantine=1)
    assert set(KEYS) - set(pool.ids_there(KEYS)) == {KEYS[3], KEYS[5]}


def test_a_column_to_keep_has_its_meaning(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "x", {"emb": X[:4], "name": np.array([b"a", b"\xff", b"c", b"d"])})
    with h5py.File(path, "a") as file:
        kinds = h5py.enum_dtype({"STAR": 1, "GALAXY": 2}, "i2")
        file.create_dataset("kind", data=np.array([1, 2, 9, 2], np.int16), dtype=kinds)
        file["mag"] = np.array([20.5, 21, 22, -1])
        file["mag"].attrs["missing_value"] = -1.0
    source = Array(path=path, carry=("name", "kind", "mag"))
    found = items(source)
    assert bad_keys(found) == {"1": "1: column 'name': not UTF-8", "2": "2: column 'kind': 9 is no number of a class"}
    assert dict(found[0].carried) == {"name": "a", "kind": "STAR", "mag": 20.5}
    assert dict(found[3].carried) == {"name": "d", "kind": "GALAXY", "mag": None}
    assert [key for key, value in columns(source, DIM).items() if isinstance(value, str)] == ["1", "2"]


def test_packed_numbers_are_unpacked(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "x", {"emb": np.array([[1, 2], [3, -4]], np.int16)})
    with h5py.File(path, "a") as file:
        file["emb"].attrs.update({"scale_factor": 0.5, "add_offset": 10.0})
    assert [item.payload.tolist() for item in items(detect_source(path))] == [[10.5, 11], [11.5, 8]]


def test_a_file_without_rows_has_no_items(write: Any, tmp_path: Path) -> None:
    if write is write_hdf5:
        with h5py.File(tmp_path / "x.h5", "w") as file:
            file.create_dataset("emb", (0, 3), "f4", chunks=(2, 3), maxshape=(None, 3))
        path = tmp_path / "x.h5"
    else:
        zarr.open_group(tmp_path / "x.zarr", mode="w").create_array("emb", shape=(0, 3), chunks=(2, 3), dtype="f4")
        path = tmp_path / "x.zarr"
    with pytest.raises(SourceError, match="no items"):
        raysal.embed(path, out=tmp_path / "pool")


# what is refused


def other_file(path: Path) -> None:
    with h5py.File(path / "other.h5", "w") as file:
        file["emb"] = X


def test_what_lies_outside_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    other_file(tmp_path)
    (tmp_path / "raw.bin").write_bytes(X.tobytes())
    with h5py.File(tmp_path / "in" / "x.h5", "w") as file:
        file["link"] = h5py.ExternalLink("../other.h5", "/emb")
        file["group"] = h5py.ExternalLink("../other.h5", "/")
        file["by_way"] = h5py.SoftLink("/group/emb")
        file["nowhere"] = h5py.SoftLink("/none")
        layout = h5py.VirtualLayout(X.shape, "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "gone.h5"), "emb", X.shape)
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("raw", X.shape, "f4", external=[(str(tmp_path / "raw.bin"), 0, X.nbytes)])
    path = tmp_path / "in" / "x.h5"
    for name, problem in {
        "link": "a link to another file",
        "group": "a link to another file",
        "by_way": "a link to another file",
        "nowhere": "cannot be opened",
        "virtual": "a virtual dataset",
        "raw": "lie in another file",
    }.items():
        with pytest.raises(SourceError, match=problem):
            list(Array(path=path, vector_column=name).units(9))
    with pytest.raises(SourceError, match="cannot tell which dataset holds the items"):
        list(Array(path=path).units(9))


def test_a_link_within_a_file_is_followed_where_it_is_named(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "x", {"a/emb": X})
    with h5py.File(path, "a") as file:
        file["short"], file["a/loop"] = h5py.SoftLink("/a/emb"), file["/"]
    assert len(items(Array(path=path))) == N
    assert np.array_equal([item.payload for item in items(Array(path=path, vector_column="short"))], X)


def test_objects_and_rows_of_several_fields_are_refused(tmp_path: Path) -> None:
    kind = np.dtype([("x", "f4"), ("y", "f4")])
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["rows"] = np.zeros(3, kind)
        file["lists"] = h5py.Empty("f4")
        file.create_dataset("refs", (3,), h5py.ref_dtype)
        file.create_dataset("ragged", (3,), h5py.vlen_dtype(np.float32))
    for name in ("rows", "lists", "refs", "ragged"):
        with pytest.raises(SourceError, match=r"several fields|objects, references|a single value"):
            list(Array(path=tmp_path / "x.h5", vector_column=name).units(9))
    zarr.open_group(tmp_path / "x.zarr", mode="w", zarr_format=2).create_array("rows", data=np.zeros(3, kind))
    with pytest.raises(SourceError, match="several fields"):
        list(Array(path=tmp_path / "x.zarr", vector_column="rows").units(9))


def test_no_pickle_is_read(tmp_path: Path) -> None:
    numcodecs = pytest.importorskip("numcodecs")
    path = write_zarr(2)(tmp_path / "x", {"emb": X})
    made = path / "bad"
    made.mkdir()
    said = json.loads((path / "emb" / ".zarray").read_text())
    said |= {
        "dtype": "|O",
        "shape": [N],
        "chunks": [N],
        "compressor": None,
        "filters": [{"id": "pickle", "protocol": 5}],
    }
    (made / ".zarray").write_text(json.dumps(said | {"fill_value": None}))
    (made / "0").write_bytes(numcodecs.Pickle().encode(np.array([tmp_path] * N, object)))
    for fields in ({"key_column": "bad"}, {"carry": ("bad",)}):
        with pytest.raises(SourceError, match="as a pickle"):
            items(Array(path=path, **fields))  # type: ignore[arg-type]


def test_a_filter_that_is_not_installed_is_named(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "x", {"emb": X}, 4, compression="gzip")
    data = path.read_bytes()
    message = b"\x01\x00\x08\x00\x01\x00\x01\x00deflate"  # the number of the filter is 1; of Zstandard 32015
    assert data.count(message) == 1
    path.write_bytes(data.replace(message, b"\x0f\x7d" + message[2:]))
    with pytest.raises(SourceError, match=r"its filter 32015 .* is not installed; pip install hdf5plugin"):
        list(Array(path=path, vector_column="emb").units(9))
    path = write_zarr(3)(tmp_path / "x", {"emb": X})
    text = (path / "emb" / "zarr.json").read_text()
    (path / "emb" / "zarr.json").write_text(text.replace('"zstd"', '"nobody"'))
    with pytest.raises(SourceError, match=r"cannot be opened .*nobody.*; pip install its codec"):
        list(Array(path=path, vector_column="emb").units(9))


def test_a_file_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "x", {"emb": X})
    data = path.read_bytes()
    for content, problem in ((data[:-100], "truncated"), (b"no", "no HDF5 file"), (b"", "no HDF5 file")):
        path.write_bytes(content)
        with pytest.raises(SourceError, match=problem):
            list(Array(path=path).units(9))
    with pytest.raises(SourceError, match="no such file"):
        detect_source(tmp_path / "none.h5")
    store = write_zarr(3)(tmp_path / "y", {"emb": X})
    (store / "emb" / "zarr.json").write_text("{")
    with pytest.raises(SourceError, match=r"zarr.json: is no metadata of Zarr"):
        list(Array(path=store).units(9))


@pytest.mark.parametrize(("kind", "module"), [("hdf5", "h5py"), ("zarr3", "zarr")])
def test_without_the_extra_it_is_named(kind: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = WRITERS[kind](tmp_path / "x", {"emb": X})
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"the module '{module}' is not installed; pip install 'raysal\[arrays\]'"):
        detect_source(path).fingerprint()


def test_a_file_that_another_program_writes_is_refused(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "x", {"emb": X})
    code = "import h5py, sys; f = h5py.File(sys.argv[1], 'a'); print('open', flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code, str(path)], **pipes) as writer:  # type: ignore[call-overload]
        assert writer.stdout.readline() == "open\n"
        with pytest.raises(SourceError, match=r"another program has it open for writing\); close it there"):
            list(Array(path=path).units(9))
        writer.stdin.close()
    assert len(items(Array(path=path))) == N


# images


def pixels(dtype: Any, *shape: int) -> NDArray[Any]:
    top = np.iinfo(dtype).max if np.dtype(dtype).kind in "iu" else 1
    return (np.random.default_rng(0).random(shape) * top).astype(dtype)


def test_images_are_what_a_picture_of_that_type_is(write: Any, tmp_path: Path) -> None:
    for shape, axes in (((6, 9), None), ((6, 9, 1), None), ((6, 9, 3), None), ((3, 6, 9), None), ((3, 6, 3), "chw")):
        given = pixels(np.uint8, 5, *shape)
        found = items(Array(path=write(tmp_path / "x", {"images": given}, 2), axes=axes))
        grey = given if len(shape) == 2 else np.moveaxis(given, 1, -1) if shape[0] == 3 else given
        for item, image in zip(found, grey, strict=True):
            expected = np.broadcast_to(image.reshape(*image.shape[:2], -1), (*image.shape[:2], 3))
            assert np.array_equal(np.asarray(decode_image(item.key, item.payload)), expected)
    wide = pixels(np.uint16, 2, 6, 9)
    (item, _) = items(Array(path=write(tmp_path / "x", {"images": wide})))
    assert isinstance(item.payload, Pixels)
    assert np.array_equal(np.asarray(decode_image("x", item.payload))[..., 0], np.rint(wide[0] / 257))


@pytest.mark.parametrize("kind", deep_unless({"f4"}, ["f4", "i2", "u4"]))
def test_numbers_without_a_range_need_one(write: Any, kind: str, tmp_path: Path) -> None:
    given = (np.arange(24).reshape(2, 3, 4) * 10).astype(kind)
    path = write(tmp_path / "x", {"images": given})
    (item, _) = items(Array(path=path))
    with pytest.raises(BadItem, match=r"have no fixed range; .*`stated_range` of the source"):
        decode_image(item.key, item.payload)
    (item, _) = items(Array(path=path, stated_range=(0, 100)))
    expected = np.clip(np.rint(given[0].astype(np.float64) * (255 / 100)), 0, 255)
    assert np.array_equal(np.asarray(decode_image(item.key, item.payload))[..., 0], expected)
    if path.suffix == ".h5":
        with h5py.File(path, "a") as file:
            file["images"].attrs["valid_range"] = np.array([0, 100], kind)
    else:
        zarr.open_array(path / "images", mode="a").attrs.update({"valid_min": 0, "valid_max": 100})
    (item, _) = items(Array(path=path))
    assert np.array_equal(np.asarray(decode_image(item.key, item.payload))[..., 0], expected)


def test_channels_by_name_and_number(tmp_path: Path) -> None:
    given = pixels(np.uint8, 2, 5, 6, 7)
    path = write_hdf5(tmp_path / "x", {"images": given})
    with pytest.raises(SourceError, match="which axis has the channels"):
        list(Array(path=path).units(9))
    with pytest.raises(BadItem, match="choose one or three channels"):
        decode_image("x", items(Array(path=path, axes="chw"))[0].payload)
    (item, _) = items(Array(path=path, axes="chw", channels=(4, 0, 2)))
    assert np.array_equal(item.payload, np.moveaxis(given[0][[4, 0, 2]], 0, -1))
    with h5py.File(path, "a") as file:
        file["images"].dims[1].label = "band"
        file["images"].attrs["band_names"] = ["blue", "green", "red", "nir", "swir"]
    (item, _) = items(Array(path=path, channels=("nir", "red", "green")))
    assert np.array_equal(item.payload.values, np.moveaxis(given[0][[3, 2, 1]], 0, -1))
    assert item.payload.channels == ("nir", "red", "green")
    with pytest.raises(SourceError, match="no channel 'ir'; its channels: blue, green, red, nir, swir"):
        list(Array(path=path, channels=("nir", "ir", 0)).units(9))
    store = zarr.open_group(tmp_path / "y.zarr", mode="w")
    store.create_array("images", data=given, dimension_names=("n", "c", "y", "x"))
    assert np.array_equal(items(Array(path=tmp_path / "y.zarr", channels=(1,)))[0].payload[..., 0], given[0][1])


def test_encoded_images_in_bytes_of_any_length(tmp_path: Path) -> None:
    files = [b"\x89PNG\r\n\x1a\n" + bytes(row) for row in range(3)]
    with h5py.File(tmp_path / "x.h5", "w") as file:
        jpeg = file.create_dataset("jpeg", (4,), h5py.vlen_dtype(np.uint8))
        for row, data in enumerate(files):
            jpeg[row] = np.frombuffer(data, np.uint8)
    found = items(detect_source(tmp_path / "x.h5"))
    assert [item.payload for item in found] == [*files, b""]
    group = zarr.open_group(tmp_path / "x.zarr", mode="w", zarr_format=2)
    group.create_array("jpeg", shape=(3,), dtype=VariableLengthBytes())[:] = np.array(files, object)
    assert [item.payload for item in items(detect_source(tmp_path / "x.zarr"))] == files


def test_a_pool_of_images_is_shown_again(tmp_path: Path) -> None:
    given = np.repeat(pixels(np.uint16, 9, 1, 1), 8, 1).repeat(8, 2)
    source = Array(path=write_zarr(3)(tmp_path / "x", {"images": given}), stated_range=(0, 65535))
    pool = raysal.embed(source, {"name": "torch:tiny_encoder:build", "size": 8}, out=tmp_path / "pool")
    assert source_of(pool) == source
    media = Media(pool, Payloads(pool))
    shown = Image.open(io.BytesIO(media.picture(Entry(7, "7", None), 64, small=True).data))
    assert np.array_equal(np.asarray(shown), np.rint(given[7] / 257))
    assert media.sizes == {7: (8, 8)}
