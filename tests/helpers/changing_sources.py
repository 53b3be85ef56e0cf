"""Sources of every kind over the same few items, changes to them, and pools as older builds wrote them."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import h5py
import lance
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
from numpy.typing import NDArray

from raysal.embedding.base import Encoder
from raysal.embedding.precomputed import Precomputed
from raysal.sources.array import Array
from raysal.sources.base import Source
from raysal.sources.folder import Folder
from raysal.sources.lance_table import LanceTable
from raysal.sources.memory import Memory
from raysal.sources.npy import Npy
from raysal.sources.table import Table
from raysal.sources.text import Text
from raysal.sources.webdataset import WebDataset
from raysal.store import read_sealed, write_sealed
from raysal.types import Modality

CHUNK = 3
"""Rows of a chunk in these tests."""


@dataclass(frozen=True)
class Row:
    """An item: the payload is made of its number, always of the same size."""

    key: str
    number: int
    label: str

    @property
    def vector(self) -> list[float]:
        return [float(self.number), 1.0]

    @property
    def data(self) -> bytes:
        return f"{self.number:04d}".encode()


ROWS = tuple(Row(f"k{place}.png", 10 + place, f"l{place % 2}") for place in range(8))
"""Three chunks."""


@dataclass(frozen=True, kw_only=True)
class Bytes:
    """An encoder of four bytes or letters: the number that they spell."""

    modality: Modality

    @property
    def dim(self) -> Literal[2]:
        return 2

    def preprocessing(self) -> Mapping[str, Any]:
        return {}

    def fingerprint(self) -> str:
        return "b" * 64

    def prepare(self, key: str, payload: Any) -> int:
        return int(payload if isinstance(payload, bytes | str) else bytes(np.asarray(payload).ravel()))

    def encode(self, prepared: Sequence[int]) -> NDArray[np.float32]:
        return np.array([[number, 1.0] for number in prepared], np.float32)


def write_folder(path: Path, rows: Sequence[Row]) -> Source:
    path.mkdir(exist_ok=True)
    for file in set(path.iterdir()) - {path / row.key for row in rows}:
        file.unlink()
    for row in rows:
        if not (path / row.key).exists() or (path / row.key).read_bytes() != row.data:
            (path / row.key).write_bytes(row.data)
    return Folder(path=path)


def columns(rows: Sequence[Row]) -> pa.Table:
    flat = pa.array([value for row in rows for value in row.vector], pa.float32())
    return pa.table(
        {
            "key": [row.key for row in rows],
            "vector": pa.FixedSizeListArray.from_arrays(flat, 2),
            "label": [row.label for row in rows],
        }
    )


def write_parquet(path: Path, rows: Sequence[Row]) -> Source:
    pq.write_table(columns(rows), path.with_suffix(".parquet"), compression="none", use_dictionary=False)
    return Table(path=path.with_suffix(".parquet"), carry=("label",))


def write_arrow(path: Path, rows: Sequence[Row]) -> Source:
    table = columns(rows)
    with pa.OSFile(str(path.with_suffix(".arrow")), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return Table(path=path.with_suffix(".arrow"), carry=("label",))


def write_tables(path: Path, rows: Sequence[Row]) -> Source:
    """A folder of tables in folders, three rows in each."""
    emptied(path)
    for start in range(0, len(rows), 3):
        (path / f"part={start}").mkdir()
        pq.write_table(columns(rows[start : start + 3]), path / f"part={start}" / "rows.parquet", compression="none")
    return Table(path=path, carry=("label",))


def write_csv(path: Path, rows: Sequence[Row]) -> Source:
    with path.with_suffix(".csv").open("w", newline="") as file:
        csv.writer(file).writerows([("key", "text", "label"), *((r.key, r.data.decode(), r.label) for r in rows)])
    return Text(path=path.with_suffix(".csv"), carry=("label",))


def texts_in(folder: Path, **files: Sequence[Row]) -> Source:
    """A folder of these files of texts, and no others. A file that is as it was is not touched."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.stem not in files:
            path.unlink()
    for name, rows in files.items():
        write_csv(folder.parent / name, rows)
        new = (folder.parent / name).with_suffix(".csv")
        if not (there := folder / new.name).exists() or there.read_bytes() != new.read_bytes():
            new.rename(there)
    return Text(path=folder, carry=("label",))


def write_csvs(path: Path, rows: Sequence[Row]) -> Source:
    """A folder of text files in folders, three rows in each."""
    emptied(path)
    for start in range(0, len(rows), 3):
        (path / f"part {start}").mkdir()
        write_csv(path / f"part {start}" / "texts", rows[start : start + 3])
    return Text(path=path, carry=("label",))


def emptied(path: Path) -> None:
    """Make a folder, or make it empty."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()


def write_jsonl(path: Path, rows: Sequence[Row]) -> Source:
    lines = [json.dumps({"key": row.key, "text": row.data.decode(), "label": row.label}) for row in rows]
    path.with_suffix(".jsonl").write_text("\n".join(lines))
    return Text(path=path.with_suffix(".jsonl"), carry=("label",))


def write_npy(path: Path, rows: Sequence[Row]) -> Source:
    np.save(path.with_suffix(".npy"), np.array([row.vector for row in rows], np.float32))
    path.with_suffix(".txt").write_text("".join(f"{row.key}\n" for row in rows))
    return Npy(path=path.with_suffix(".npy"), keys=path.with_suffix(".txt"))


def key_in(kind: str, key: str) -> str:
    """The key of a row in a source of `KINDS`: that of a sample ends before the first dot."""
    return key.removesuffix(".png") if kind == "shards" else key


def write_shards(path: Path, rows: Sequence[Row]) -> Source:
    """A folder of shards, three samples in each, without the zeros that fill a shard up to 10 KiB."""
    emptied(path)
    for start in range(0, len(rows), 3):
        with (path / f"part-{start}.tar").open("wb") as file, tarfile.open(fileobj=file, mode="w") as archive:
            for row in rows[start : start + 3]:
                for ending, data in (("png", row.data), ("label", row.label.encode())):
                    member = tarfile.TarInfo(f"{key_in('shards', row.key)}.{ending}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
        os.truncate(path / f"part-{start}.tar", 2048 * len(rows[start : start + 3]) + 1024)
    return WebDataset(path=path, carry=("label",))


def write_hdf5(path: Path, rows: Sequence[Row]) -> Source:
    with h5py.File(path.with_suffix(".new"), "w") as file:  # HDF5 refuses to write a file that is being read
        file.create_dataset("vectors", data=np.array([row.vector for row in rows], np.float32), chunks=(2, 2))
        file["ids"], file["label"] = [row.key for row in rows], [row.label for row in rows]
    path.with_suffix(".new").replace(path.with_suffix(".h5"))
    return Array(path=path.with_suffix(".h5"), carry=("label",))


def write_zarr(path: Path, rows: Sequence[Row]) -> Source:
    """Images of four bytes, the digits of the number."""
    group = zarr.open_group(path.with_suffix(".zarr"), mode="w")
    digits = np.array([list(row.data) for row in rows], np.uint8).reshape(-1, 2, 2)
    group.create_array("images", data=digits, chunks=(2, 2, 2))
    for name, texts in (("ids", [row.key for row in rows]), ("label", [row.label for row in rows])):
        group.create_array(name, data=np.array(texts, np.dtypes.StringDType()))
    return Array(path=path.with_suffix(".zarr"), carry=("label",))


def write_lance(path: Path, rows: Sequence[Row]) -> Source:
    """A table of fragments of three rows. What changes is changed as Lance does it, behind the others."""
    place, new = path.with_suffix(".lance"), {row.key: row for row in rows}
    if not place.exists():
        lance.write_dataset(columns(rows), place, max_rows_per_file=3)
        return LanceTable(path=place, carry=("label",))
    table = lance.dataset(place)
    there = {one["key"]: one for one in table.to_table().to_pylist()}
    if gone := [key for key in there if key not in new]:
        table.delete(f"key in ({', '.join(repr(key) for key in gone)})")
    held = {key: (one["vector"], one["label"]) for key, one in there.items()}
    others = [row for row in rows if held.get(row.key) != (row.vector, row.label)]
    if others:
        table.merge_insert("key").when_matched_update_all().when_not_matched_insert_all().execute(columns(others))
    return LanceTable(path=place, carry=("label",))


def in_memory(payload: str, column: Callable[[Sequence[Row]], Any]) -> Callable[[Path, Sequence[Row]], Source]:
    def write(path: Path, rows: Sequence[Row]) -> Source:
        labels = [row.label for row in rows]
        return Memory(keys=[row.key for row in rows], carry={"label": labels}, **{payload: column(rows)})

    return write


KINDS: dict[str, Callable[[Path, Sequence[Row]], Source]] = {
    "folder": write_folder,
    "parquet": write_parquet,
    "arrow": write_arrow,
    "tables": write_tables,
    "npy": write_npy,
    "hdf5": write_hdf5,
    "zarr": write_zarr,
    "lance": write_lance,
    "csv": write_csv,
    "csvs": write_csvs,
    "jsonl": write_jsonl,
    "shards": write_shards,
    "vectors": in_memory("vectors", lambda rows: np.array([row.vector for row in rows], np.float32)),
    "images": in_memory("images", lambda rows: [row.data for row in rows]),
    "texts": in_memory("texts", lambda rows: [row.data.decode() for row in rows]),
}
"""Write the rows to a place, or over what is there, and give a source of them."""


def encoder_for(source: Source) -> Encoder:
    return Precomputed() if source.modality == "vector" else Bytes(modality=source.modality)


def changed(rows: tuple[Row, ...], place: int, **fields: Any) -> tuple[Row, ...]:
    return (*rows[:place], replace(rows[place], **fields), *rows[place + 1 :])


CHANGES: dict[str, Callable[[tuple[Row, ...]], tuple[Row, ...]]] = {
    "a payload": lambda rows: changed(rows, 1, number=99),
    "all payloads": lambda rows: tuple(replace(row, number=row.number + 20) for row in rows),
    "a carried value": lambda rows: changed(rows, 1, label="lx"),
    "a key": lambda rows: changed(rows, 1, key="k1b.png"),
    "the order": lambda rows: (rows[1], rows[0], *rows[2:]),
    "one more": lambda rows: (*rows, Row("k9.png", 77, "l0")),
    "one more before": lambda rows: (Row("k.png", 77, "l0"), *rows),
    "one less": lambda rows: (*rows[:2], *rows[3:]),
    "one less at the end": lambda rows: rows[:-1],
}
"""Each changes what is in the first chunk, or how many items there are."""


def applies(kind: str, change: str) -> bool:
    """Whether a change is one for this kind: some carry nothing, and some have an order of their own."""
    none = (("folder", "a carried value"), ("folder", "the order"), ("npy", "a carried value"), ("lance", "the order"))
    return (kind, change) not in none


def files_of(path: Path) -> list[Path]:
    """The files that a source of `KINDS` wrote for this path."""
    there = [file for file in path.parent.iterdir() if file.stem == path.name]
    every = [file for place in there for file in (place.rglob("*") if place.is_dir() else [place])]
    return [file for file in every if file.is_file()]


def touch(path: Path) -> None:
    """Change the times of a source's files, and nothing else."""
    for file in files_of(path):
        found = file.stat()
        os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns + 5_000_000_000))


def as_older(pool: Path) -> None:
    """Make of a pool what the build before digests of contents would have written."""
    for record in (pool / "commits").iterdir():
        write_sealed(record, {name: value for name, value in read_sealed(record).items() if name != "contents"})
    written = (pool / "pool.json").stat()
    manifest = read_sealed(pool / "pool.json")
    manifest["encoder"].pop("space", None)
    write_sealed(pool / "pool.json", manifest)
    os.utime(pool / "pool.json", ns=(written.st_atime_ns, written.st_mtime_ns))
    (pool / "source.json").unlink(missing_ok=True)
    shutil.rmtree(pool / "files", ignore_errors=True)
