"""An example of every kind of source, made of files in a folder. A new entry of SOURCES needs one here."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import datasets
import h5py
import lance
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from astropy.io import fits
from PIL import Image

from raysal.sources import SOURCES, Source
from raysal.sources.fashion_mnist import SYSTEM_DIR


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


def sounds(path: Path) -> Source:
    taken = ("b.wav", "a/c.flac", "a.MP3", "d.ogg", "e/f.wave", "e/g.opus", "h.aif", "i.oga")
    for name in (*taken, "notes.txt", "cover.png"):
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(name.encode())
    return SOURCES["sounds"](path=path)


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


def lance_table(path: Path) -> Source:
    """Several fragments, of which one has a deleted row, and one holds a row that was updated."""
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(48, dtype=np.float32)), 4)
    rows = pa.table({"key": [f"row {i}" for i in range(12)], "vector": vectors, "label": list("abcdefghijkl")})
    written = lance.write_dataset(rows, path / "t.lance", max_rows_per_file=5)
    written.delete("key = 'row 1'")
    written.update({"label": "'x'"}, where="key = 'row 7'")
    return SOURCES["lance"](path=path / "t.lance", carry=("label",))


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
    "lance": lance_table,
    "memory": memory,
    "npy": npy,
    "pages": pages,
    "sounds": sounds,
    "table": table,
    "text": text,
    "webdataset": webdataset,
}
