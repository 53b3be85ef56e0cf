"""Ready vectors on their way into a pool as columns: the same files as item by item, and pools of older builds."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from changing_sources import CHUNK, KINDS, ROWS, changed, touch
from cli_tools import cli
from pool_files import bytes_of, quarantined

import raysal
from raysal.embedding import job, working
from raysal.embedding.precomputed import Precomputed
from raysal.errors import SourceChanged, SourceError
from raysal.pool import open_pool
from raysal.pool.contents import ALGORITHM, BY_ROWS
from raysal.sources.base import Source
from raysal.sources.memory import Memory
from raysal.sources.npy import Npy
from raysal.sources.table import Table
from raysal.store import read_sealed, write_sealed
from raysal.types import Item, Modality, Unit

embed = job.embed
N, DIM = 300, 6
READY = [kind for kind in KINDS if kind in ("parquet", "arrow", "tables", "npy", "vectors")]


@dataclass(frozen=True, kw_only=True)
class ItemByItem:
    """A source of a user's own, which gives what another one gives, item by item."""

    of: Any = field(metadata={"record": False})

    @property
    def modality(self) -> Modality:
        return "vector"

    def vector_dim(self) -> int:
        return int(self.of.vector_dim())

    def fingerprint(self) -> str:
        return str(self.of.fingerprint())

    def units(self, chunk_rows: int) -> Iterator[Unit]:
        return (Unit(**{**vars(unit), "keys": tuple(unit.keys)}) for unit in self.of.units(chunk_rows))

    def read(self, unit: Unit, only: Collection[int] | None = None) -> Iterator[Item]:
        yield from self.of.read(unit, only)


def hard_table(path: Path, kind: Any) -> Path:
    """Vectors of which some are null, lack a value, are not finite, too large, or too small."""
    x = np.random.default_rng(0).normal(size=(N, DIM)).astype(kind.to_pandas_dtype())
    x[3, 1], x[4, 2] = np.nan, np.inf
    rows: list[Any] = list(x)
    for row in range(7, N, 50):
        rows[row] = None
    rows[9] = [None, *x[9, 1:]]
    if kind != pa.float16():
        rows[20], rows[21] = x[20] * 1e9, x[21] * 1e-12
    columns = {
        "key": [f"ä{row}" for row in range(N)],
        "vector": pa.array(rows, pa.list_(kind, DIM)),
        "label": [None if row < 100 else f"l{row % 3}" for row in range(N)],
        "n": np.arange(N, dtype=np.int16),
        "x": np.linspace(0, 1, N, dtype=np.float32),
        "when": pa.array([row * 86400 for row in range(N)], pa.timestamp("s")),
    }
    pq.write_table(pa.table(columns), path, row_group_size=111)
    return path


def content(out: Path) -> dict[str, bytes]:
    """The files of a pool, without the table of its source's files, which tells times."""
    return {name: data for name, data in bytes_of(out).items() if not name.startswith("files/")}


def without_records(out: Path) -> dict[str, bytes]:
    """The files of a pool that hold its items."""
    return {
        name: data
        for name, data in bytes_of(out).items()
        if name.split("/")[0] not in ("commits", "source.json", "files")
    }


@pytest.mark.parametrize("scale", ["auto", "2^5"])
@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()], ids=str)
def test_columns_give_the_files_that_items_give(kind: Any, scale: str, tmp_path: Path) -> None:
    source = Table(path=hard_table(tmp_path / "t.parquet", kind), carry=("label", "n", "x", "when"))
    made = []
    for name, given in (("columns", source), ("items", ItemByItem(of=source))):
        embed(given, Precomputed(), tmp_path / name, chunk_rows=64, max_quarantine=1, scale=scale)
        made.append(without_records(tmp_path / name))
        made[-1].pop("pool.json")  # it names the class of the source
    assert made[0] == made[1]
    lost = quarantined(tmp_path / "columns")
    assert lost["ä3"] == lost["ä4"] == ("decode", "the vector is not finite")
    assert lost["ä7"] == ("decode", "column 'vector' is null")
    assert lost["ä9"] == ("decode", "column 'vector': a value is missing")
    if kind != pa.float16():
        assert lost["ä20"][0] == "encode"
        assert lost["ä21"][0] == "encode"
    records = [read_sealed(file) for file in sorted((tmp_path / "columns" / "commits").iterdir())]
    assert {record["contents"]["algorithm"] for record in records} == {BY_ROWS}


def test_the_quarantine_is_in_the_order_of_the_source(tmp_path: Path) -> None:
    x = np.ones((6, 2), np.float32)
    x[1], x[2], x[4] = 1e9, np.nan, 1e9
    embed(Memory(keys=list("abcdef"), vectors=x), Precomputed(), tmp_path / "pool", max_quarantine=1, scale=1)
    assert open_pool(tmp_path / "pool").chunks[0].quarantine()["key"].to_pylist() == ["b", "c", "e"]


def begun_by(method: str, source: Source, out: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int) -> None:
    """A pool that was begun by a method, and stopped."""

    def stop(done: int, total: int) -> None:
        if done == stop_at and done < total:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(working, "method_for", lambda encoder: method)
        embed(source, Precomputed(), out, chunk_rows=CHUNK, report=stop)


@pytest.mark.parametrize("kind", READY)
def test_a_pool_that_was_begun_with_the_older_digests_is_finished_with_them(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = KINDS[kind](tmp_path / "items", ROWS)
    begun_by(ALGORITHM, source, tmp_path / "whole", monkeypatch, 99)
    begun_by(ALGORITHM, source, tmp_path / "pool", monkeypatch, CHUNK)
    assert embed(source, Precomputed(), tmp_path / "pool", chunk_rows=CHUNK).resumed == 1
    assert content(tmp_path / "pool") == content(tmp_path / "whole")
    pool = open_pool(tmp_path / "pool")
    assert pool.contents is not None
    embed(source, Precomputed(), tmp_path / "new", chunk_rows=CHUNK)
    assert open_pool(tmp_path / "new").contents != pool.contents
    if kind == "vectors":
        return
    touch(tmp_path / "items")
    assert embed(source, Precomputed(), tmp_path / "pool", chunk_rows=CHUNK).checked == 3
    assert embed(source, Precomputed(), tmp_path / "new", chunk_rows=CHUNK).checked == 3
    other = KINDS[kind](tmp_path / "items", changed(ROWS, 5, number=98))
    for name in ("pool", "new"):
        report = embed(other, Precomputed(), tmp_path / name, chunk_rows=CHUNK)
        assert (report.replaced, report.generation) == (1, 1)


def test_a_memory_that_an_older_build_knew_is_the_same_source(tmp_path: Path) -> None:
    """Its fingerprint was computed in another way, which the pool's manifest does not name."""
    x = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    source = Memory(keys=range(9), vectors=x, carry={"n": list(range(9))})
    older = Memory(keys=range(9), vectors=x, carry={"n": list(range(9))}, hashed=1)
    assert (
        older.fingerprint()
        == "a2e92e4b50a61fba48d0e7ec32430b57895adfc4d550fabf526c8c289abcb7af"
        != source.fingerprint()
    )
    embed(older, Precomputed(), tmp_path / "pool", chunk_rows=4)
    assert embed(older, Precomputed(), tmp_path / "pool", chunk_rows=4).embedded == 0
    record = read_sealed(tmp_path / "pool" / "pool.json")
    assert record["source"]["config"].pop("hashed") == 1
    write_sealed(tmp_path / "pool" / "pool.json", record)
    (tmp_path / "pool" / "commits" / "00002.json").unlink()
    assert embed(source, Precomputed(), tmp_path / "pool", chunk_rows=4).embedded == 1
    with pytest.raises(SourceChanged):
        embed(Memory(keys=range(9), vectors=x + 1, carry={"n": list(range(9))}), Precomputed(), tmp_path / "pool")


def test_the_chunk_before_a_broken_one_is_committed(tmp_path: Path) -> None:
    """It is written while the broken one is read."""

    class Broken(Memory):
        def columns(self, unit: Unit, dim: int) -> Any:
            if unit.index == 2:
                raise SourceError("item 7", "gone")
            return super().columns(unit, dim)

    source = Broken(keys=range(9), vectors=np.ones((9, 2)))
    with pytest.raises(SourceError, match="item 7"):
        embed(source, Precomputed(), tmp_path / "pool", chunk_rows=3)
    assert len(list((tmp_path / "pool" / "commits").iterdir())) == 2
    assert not list((tmp_path / "pool").rglob(".tmp-*"))


# .npy files


def test_a_matrix_is_embedded_by_its_name(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "keys.txt").write_text("".join(f"item {row}\r\n" for row in range(12)))
    np.save(tmp_path / "keys.npy", np.array([f"item {row}" for row in range(12)]))
    assert cli("embed", tmp_path / "x.npy", "--out", tmp_path / "a").code == 0
    assert cli("embed", tmp_path / "x.npy", "--keys", tmp_path / "keys.txt", "--out", tmp_path / "b").code == 0
    source = {"name": "npy", "path": tmp_path / "x.npy", "keys": tmp_path / "keys.npy"}
    pools = [
        open_pool(tmp_path / "a"),
        open_pool(tmp_path / "b"),
        raysal.embed(source, out=tmp_path / "c", chunk_rows=5),
    ]
    for pool, name in zip(pools, ("{}", "item {}", "item {}"), strict=True):
        keys = [key for table in pool.items(["key"]) for key in table["key"].to_pylist()]
        assert keys == [name.format(row) for row in range(12)]
        assert np.array_equal(np.concatenate([chunk.vectors() for chunk in pool.chunks]), x.astype(np.float16))
    assert cli("embed", tmp_path / "x.npy", "--out", tmp_path / "a").code == 0
    np.save(tmp_path / "x.npy", x + 1)
    assert cli("embed", tmp_path / "x.npy", "--out", tmp_path / "a", "--json").json["replaced"] == 12


def test_a_folder_of_matrices_is_one_source(tmp_path: Path) -> None:
    x = np.arange(20, dtype=np.float32).reshape(10, 2)
    (tmp_path / "v" / "more").mkdir(parents=True)
    np.save(tmp_path / "v" / "0.npy", x[:4])
    np.save(tmp_path / "v" / "more" / "1.npy", x[4:, None])
    for place in (tmp_path / "v", tmp_path / "v" / "**" / "*.npy"):
        pool = raysal.embed(str(place), out=tmp_path / f"pool{place.name[0]}", chunk_rows=3)
        keys = [key for table in pool.items(["key"]) for key in table["key"].to_pylist()]
        assert keys == [*(f"0.npy:{row}" for row in range(4)), *(f"more/1.npy:{row}" for row in range(6))]
    np.save(tmp_path / "v" / "2.npy", np.ones((3, 5)))
    with pytest.raises(SourceError, match=r"2.npy: vectors of length 5, and 0.npy has others"):
        Npy(path=tmp_path / "v").vector_dim()


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (np.array([[1, "a"]], object), "Python objects"),
        (np.ones(4), r"shape \(4,\), expected \[n, d\]"),
        (np.ones((2, 3, 4)), r"shape \(2, 3, 4\)"),
        (np.ones((2, 3), complex), "complex numbers"),
        (np.array([["a", "b"]]), "no numbers"),
        (None, "cannot be read"),
    ],
    ids=["objects", "one axis", "three axes", "complex", "texts", "no array"],
)
def test_what_is_no_matrix_is_refused(array: Any, problem: str, tmp_path: Path) -> None:
    if array is None:
        (tmp_path / "x.npy").write_bytes(b"\x93NUMPY no")
    else:
        np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(SourceError, match=problem):
        raysal.embed(tmp_path / "x.npy", out=tmp_path / "pool")
    assert not (tmp_path / "pool").exists()


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("a\nb\n", "2 keys for 3 vectors"),
        ("a\nb\nc\nd\n", "more keys than the 3 vectors"),
        ("a\n\nc\n", "line 2: the key is empty"),
        (b"a\n\xff\nc\n", "not UTF-8"),
        (None, "cannot be read"),
        (np.ones(3), "an array of float64"),
        (np.array(["a", "", "c"]), "row 1: the key is empty"),
    ],
    ids=["too few", "too many", "empty", "not UTF-8", "no file", "floats", "empty in an array"],
)
def test_keys_that_do_not_fit_a_matrix_are_refused(keys: Any, problem: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((3, 2)))
    file = tmp_path / ("k.npy" if isinstance(keys, np.ndarray) else "k.txt")
    if isinstance(keys, np.ndarray):
        np.save(file, keys)
    elif keys is not None:
        file.write_bytes(keys if isinstance(keys, bytes) else keys.encode())
    with pytest.raises(SourceError, match=problem):
        embed(Npy(path=tmp_path / "x.npy", keys=file), Precomputed(), tmp_path / "pool")
    assert not (tmp_path / "pool").exists()


@pytest.mark.parametrize("dim", [1, 5])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_matrix_that_has_another_width_by_now_is_named(dim: int, dtype: Any, tmp_path: Path) -> None:
    """One number for each row would have filled whole vectors."""
    np.save(tmp_path / "x.npy", np.ones((9, 3), dtype))

    class Replaced(Npy):
        def columns(self, unit: Unit, length: int) -> Any:
            if unit.index == 1:
                np.save(tmp_path / "other.npy", np.ones((9, dim), dtype))
                (tmp_path / "other.npy").replace(tmp_path / "x.npy")
            return super().columns(unit, length)

    with pytest.raises(SourceError, match=rf"4: is in columns of the shape \(4, {dim}\), expected \(4, 3\)"):
        embed(Replaced(path=tmp_path / "x.npy"), Precomputed(), tmp_path / "pool", chunk_rows=4, scale=1)
