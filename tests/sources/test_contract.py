"""Every entry of SOURCES keeps the contract of a source. A new entry needs an example here."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import datasets
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from astropy.io import fits
from PIL import Image

from raysal.sources import SOURCES, Source, check_keys
from raysal.sources.base import OfFiles
from raysal.sources.fashion_mnist import SYSTEM_DIR
from raysal.types import Cut, Item

FULL = 10**6


def folder(path: Path) -> Source:
    for name in ("b.png", "a/c.png", "a.png", "a/b.JPG", "z/y/x.webp", ".hidden.png", "notes.txt"):
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 3), (1, 2, 3)).save(file, "PNG")
    return SOURCES["folder"](path=path)


def table(path: Path) -> Source:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(40, dtype=np.float32)), 4)
    rows = pa.table({"key": [f"row {i}" for i in range(10)], "vector": vectors, "label": list("abcdefghij")})
    pq.write_table(rows, path / "one.parquet", row_group_size=4)
    return SOURCES["table"](path=path, carry=("label",))


def npy(path: Path) -> Source:
    for name in ("a.npy", "b.npy"):
        np.save(path / name, np.arange(20, dtype=np.float32).reshape(5, 4))
    return SOURCES["npy"](path=path)


def array(path: Path) -> Source:
    """A file of HDF5 beside a store of Zarr, both of images in several chunks."""
    pixels, keys = np.arange(10 * 6, dtype=np.uint8).reshape(10, 2, 3), [f"k{row}" for row in range(10)]
    with h5py.File(path / "a.h5", "w") as file:
        file.create_dataset("images", data=pixels, chunks=(3, 2, 3))
        file["ids"], file["label"] = keys, np.arange(10)
    store = zarr.open_group(path / "b.zarr", mode="w")
    store.create_array("images", data=pixels + 1, chunks=(4, 2, 3))
    store.create_array("ids", data=np.array([f"b{key}" for key in keys], np.dtypes.StringDType()))
    store.create_array("label", data=np.arange(10))
    return SOURCES["array"](path=path, carry=("label",))


def fits_images(path: Path) -> Source:
    for name in ("b.fits", "a/c.fits.fz", "a.FIT", "d.fts", "e.fits", "f.fits"):
        (path / name).parent.mkdir(exist_ok=True)
        kind = fits.CompImageHDU if name.endswith(".fz") else fits.ImageHDU
        parts = [fits.PrimaryHDU(), kind(np.arange(12, dtype=np.uint8).reshape(3, 4), name="SCI")]
        fits.HDUList(parts).writeto(path / name)
    return SOURCES["fits"](path=path, hdu="SCI")


def cutouts(path: Path) -> Source:
    fits.writeto(path / "sky.fits", np.arange(600, dtype=np.uint8).reshape(20, 30))
    rows = "".join(f"k{row},{row + 3},{20 - 2 * row},{row}\n" for row in range(8))
    (path / "positions.csv").write_text(f"key,x,y,mag\n{rows}")
    return SOURCES["cutouts"](catalogue=path / "positions.csv", path=path / "sky.fits", size=5, pad=0, carry=("mag",))


def pages(path: Path) -> Source:
    for name, count in (("b.tif", 4), ("a/c.tiff", 1), ("a.TIF", 3)):
        (path / name).parent.mkdir(exist_ok=True)
        first, *others = [Image.new("L", (2, 3), number) for number in range(count)]
        first.save(path / name, "TIFF", save_all=True, append_images=others)
    return SOURCES["pages"](path=path)


def text(path: Path) -> Source:
    file = path / "texts.csv"
    file.write_text("key,text,label\n" + "".join(f'k{i},"text, {i}",l{i}\n' for i in range(7)), encoding="utf-8")
    return SOURCES["text"](path=file, carry=("label",))


def memory(path: Path) -> Source:
    vectors = np.arange(22, dtype=np.float32).reshape(11, 2)
    return SOURCES["memory"](vectors=vectors, keys=range(11), carry={"label": list(range(11))})


def fashion_mnist(path: Path) -> Source:
    if not SYSTEM_DIR.exists():
        pytest.skip("needs the files of dataset-fashion-mnist")
    return SOURCES["fashion_mnist"](split="test")


def boxes(path: Path) -> Source:
    picture = io.BytesIO()
    Image.new("RGB", (9, 9), (1, 2, 3)).save(picture, "PNG")
    rows = [[[0, 0, 3, 3]], [[1, 1, 4, 4]], [], None, [[2, 2, 9, 9]], [[0, 0, 1, 1]], [[0, 0, 2, 2]], [[3, 3, 5, 5]]]
    kind = pa.list_(pa.list_(pa.float64()))
    table = {"key": [f"r{row}" for row in range(8)], "image": [picture.getvalue()] * 8, "boxes": pa.array(rows, kind)}
    pq.write_table(pa.table({**table, "label": list("abcdefgh")}), path / "a.parquet", row_group_size=3)
    return SOURCES["boxes"](path=path, boxes="boxes", carry=("label",))


def hf(path: Path) -> Source:
    rows = {"text": [f"text {i}" for i in range(10)], "label": [i % 2 for i in range(10)]}
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["a", "b"])})
    datasets.disable_progress_bars()
    saved = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": saved, "test": saved}).save_to_disk(path, num_shards={"train": 2, "test": 1})
    return SOURCES["hf"](path=path, carry=("label", "split"))


def webdataset(path: Path) -> Source:
    for shard in ("a.tar", "sub/b.tar"):
        (path / shard).parent.mkdir(exist_ok=True)
        with tarfile.open(path / shard, "w") as archive:
            for place in range(10):
                member = tarfile.TarInfo(f"{shard[-5]}{place // 2}.{('jpg', 'cls')[place % 2]}")
                member.size = 2
                archive.addfile(member, io.BytesIO(b"%02d" % place))
    return SOURCES["webdataset"](path=path, carry=("cls",))


EXAMPLES: dict[str, Callable[[Path], Source]] = {
    "array": array,
    "boxes": boxes,
    "cutouts": cutouts,
    "digits": lambda path: SOURCES["digits"](),
    "fashion_mnist": fashion_mnist,
    "fits": fits_images,
    "folder": folder,
    "hf": hf,
    "memory": memory,
    "npy": npy,
    "pages": pages,
    "table": table,
    "text": text,
    "webdataset": webdataset,
}


@pytest.fixture(params=sorted(SOURCES))
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    assert request.param in EXAMPLES, f"add an example of {request.param!r} to this file"
    return EXAMPLES[request.param](tmp_path)


def all_items(source: Source, chunk_rows: int) -> list[tuple[int, Item]]:
    return [
        (unit.first_id + place, item)
        for unit in source.units(chunk_rows)
        for place, item in enumerate(source.read(unit))
    ]


def same(one: Item, other: Item) -> bool:
    if isinstance(one.payload, Cut) and isinstance(other.payload, Cut):
        assert one.payload.box == other.payload.box
        one, other = (replace(item, payload=item.payload.whole.payload) for item in (one, other))
    return (
        (one.key, one.uri, dict(one.carried)) == (other.key, other.uri, dict(other.carried))
        and type(one.payload) is type(other.payload)
        and bool(np.all(one.payload == other.payload))
    )


def test_units_cover_the_listing_once_whatever_the_chunk_size(source: Source) -> None:
    whole = [key for unit in source.units(FULL) for key in unit.keys]
    for chunk_rows in (1, 3, 512) if len(whole) < 1000 else (97, 512):
        units = list(source.units(chunk_rows))
        assert [key for unit in units for key in unit.keys] == whole
        assert [unit.index for unit in units] == list(range(len(units)))
        assert [unit.first_id for unit in units] == list(range(0, len(whole), chunk_rows))
        assert {len(unit.keys) for unit in units[:-1]} <= {chunk_rows}
        assert check_keys(source, chunk_rows) == (len(whole), len(units))


def test_items_do_not_depend_on_the_chunk_size(source: Source) -> None:
    whole = all_items(source, FULL)
    for chunk_rows in (3, 4) if len(whole) < 1000 else (700,):
        parts = all_items(source, chunk_rows)
        assert len(parts) == len(whole)
        assert all(a == b and same(one, other) for (a, one), (b, other) in zip(parts, whole, strict=True))


def test_read_gives_the_keys_of_the_unit_and_only_those_asked_for(source: Source) -> None:
    unit = list(source.units(4))[1]
    items = list(source.read(unit))
    assert tuple(item.key for item in items) == unit.keys
    only = {unit.first_id + 1, unit.first_id, 10**9}
    assert all(same(a, b) for a, b in zip(source.read(unit, only), items[:2], strict=True))
    assert not list(source.read(unit, set()))


def test_a_pickled_copy_reads_the_same_units(source: Source) -> None:
    unit = next(source.units(5))
    copy, sent = pickle.loads(pickle.dumps(source)), pickle.loads(pickle.dumps(unit))
    assert copy.modality == source.modality
    assert all(same(a, b) for a, b in zip(copy.read(sent), source.read(unit), strict=True))


def test_the_items_of_all_files_are_those_of_the_source(source: Source) -> None:
    if not isinstance(source, OfFiles):
        pytest.skip("its items do not lie in files of their own")
    names = [file.name for file in source.files()]
    whole = [key for unit in source.units(FULL) for key in unit.keys]
    held: dict[str, list[str]] = {name: [] for name in names}
    for unit in source.units(3):
        keys = iter(unit.keys)
        for name, count in source.spans(unit):
            held[name] += [next(keys) for _ in range(count)]
        assert next(keys, None) is None
    assert [key for keys in held.values() for key in keys] == whole
    for name in names:
        units = list(source.units_in([name], 3))
        assert [key for unit in units for key in unit.keys] == held[name]
        assert [unit.first_id for unit in units] == list(range(0, len(held[name]), 3))
        assert [item.key for unit in units for item in source.read(unit)] == held[name]
    assert [key for unit in source.units_in(names, 3) for key in unit.keys] == whole


def test_fingerprint_is_stable(source: Source) -> None:
    assert source.fingerprint() == source.fingerprint()
    assert len(source.fingerprint()) == 64


def test_payloads_are_of_the_modality(source: Source) -> None:
    for item in source.read(next(source.units(3))):
        if source.modality == "image":
            assert isinstance(item.payload, bytes | Cut) or item.payload.dtype == np.uint8
        elif source.modality == "text":
            assert isinstance(item.payload, str)
        else:
            assert np.asarray(item.payload).dtype.kind == "f"


def test_the_files_of_a_source_hold_its_items(source: Source) -> None:
    """Of all files, of each one alone, and of the last ones: what a pool that grows asks for."""
    if not isinstance(source, OfFiles):
        return
    names = [file.name for file in source.files()]
    assert len(set(names)) == len(names)
    assert list(source.files()) == list(source.files())
    whole = all_items(source, FULL)
    units = list(source.units_in(names, 3))
    assert [key for unit in units for key in unit.keys] == [item.key for _, item in whole]
    found = [(name, count) for unit in units for name, count in source.spans(unit)]
    assert all(sum(count for _, count in source.spans(unit)) == len(unit.keys) for unit in units)
    assert [name for name, _ in groupby(name for name, _ in found)] == names
    start = 0
    for place, name in enumerate(names):
        count = sum(count for own, count in found if own == name)
        for some, expected in (([name], whole[start : start + count]), (names[place:], whole[start:])):
            parts = list(source.units_in(some, 4))
            assert [unit.first_id for unit in parts] == list(range(0, len(expected), 4))
            items = [item for unit in parts for item in source.read(unit)]
            assert all(same(one, other) for one, (_, other) in zip(items, expected, strict=True))
        start += count
    assert not list(source.units_in([], 3))
