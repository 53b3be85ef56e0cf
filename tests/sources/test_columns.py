"""Vectors that are read as columns are the items that are read one by one, in every layout and container."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from containers import LACKING, MATRICES
from tiers import one_of_each, only_if

from raysal.embedding.precomputed import Precomputed
from raysal.errors import BadItem, SourceError
from raysal.pool.contents import columns_digest
from raysal.sources import vectors
from raysal.sources.base import ColumnSource, Source
from raysal.sources.columns import ArrowFile
from raysal.sources.memory import Memory
from raysal.sources.npy import Npy
from raysal.sources.table import Table
from raysal.types import Columns

N, DIM = 40, 3
KEYS = [f"k{row}" for row in range(N)]
X = np.random.default_rng(0).integers(0, 9, (N, DIM))


def seen(key: str, payload: Any, carried: Mapping[str, Any]) -> tuple[Any, ...]:
    """What counts of an item: a good vector, or the words of its quarantine."""
    if isinstance(payload, BadItem):
        return key, str(payload), dict(carried)
    try:
        return key, Precomputed(dim=DIM).prepare(key, payload).astype(np.float64).tolist(), dict(carried)
    except BadItem as error:
        return key, str(error), dict(carried)


def plain(values: Any) -> list[Any]:
    found: list[Any] = values.to_pylist() if isinstance(values, pa.Array) else list(values)
    return [value.item() if isinstance(value, np.generic) else value for value in found]


def from_columns(parts: Iterator[Columns]) -> list[tuple[Any, ...]]:
    found = []
    for part in parts:
        carried = {name: plain(values) for name, values in part.carried.items()}
        bad = Precomputed(dim=DIM).check(part)
        for row, key in enumerate(part.keys):
            payload = bad.get(row, part.vectors[row])
            found.append(seen(key, payload, {name: values[row] for name, values in carried.items()}))
    return found


def both_ways(source: Source, chunk_rows: int = 17) -> list[tuple[Any, ...]]:
    assert isinstance(source, ColumnSource)
    units = list(source.units(chunk_rows))
    items = [seen(i.key, i.payload, i.carried) for unit in units for i in source.read(unit)]
    assert from_columns(part for unit in units for part in source.columns(unit, DIM)) == items
    assert from_columns(part for unit in units for part in vectors._from_items(source.read(unit), DIM)) == items
    assert [key for key, *_ in items] == [key for unit in units for key in unit.keys]
    return items


def contents_of(source: Any, chunk_rows: int) -> int:
    units = source.units(chunk_rows)
    parts = ((unit, part) for unit in units for part in source.columns(unit, DIM))
    total, place = 0, 0
    for _, part in parts:
        total += columns_digest(place, part)[0]
        place += len(part.keys)
    return total % 2**256


ODD: dict[int, Any] = {0: None, 5: [1, 2], 11: [1, None, 3], 12: [], 30: None, 39: [1, 2, 3, 4]}
LISTS = {
    "list": pa.list_,
    "large_list": pa.large_list,
    "list_view": pa.list_view,
    "large_list_view": pa.large_list_view,
}
NUMBERS = [pa.float16(), pa.float32(), pa.float64(), pa.int8(), pa.uint64(), pa.decimal128(5, 1), pa.bool_()]


def write(table: pa.Table, path: Path, rows: int) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=rows)
        return path
    with pa.ipc.new_file(path, table.schema) as writer:
        for batch in table.to_batches(max_chunksize=rows):
            writer.write_batch(batch)
    return path


CARRY = {
    "text": [None if row % 7 == 0 else f"ä{row}" for row in range(N)],
    "whole": [None if row % 5 == 0 else row - 3 for row in range(N)],
    "real": [None if row % 6 == 0 else float("inf") if row == 1 else row / 3 for row in range(N)],
    "truth": [None if row % 3 == 0 else row % 2 == 0 for row in range(N)],
    "list": [None if row % 4 == 0 else [row, None] for row in range(N)],
    "none": [None] * N,
}


@pytest.mark.parametrize(
    ("kind", "layout", "suffix", "rows"),
    one_of_each(
        (kind, layout, suffix, rows)
        for kind, layout, suffix, rows in product(NUMBERS, [*LISTS, "fixed"], [".parquet", ".arrow"], [7, 100])
        if not (suffix == ".parquet" and "view" in layout)  # Parquet has no list views
    ),
    ids=str,
)
def test_a_table_in_any_layout(kind: pa.DataType, layout: str, suffix: str, rows: int, tmp_path: Path) -> None:
    number = {pa.bool_(): lambda one: one > 4, pa.decimal128(5, 1): Decimal}.get(kind, int)
    values: list[Any] = X.tolist()
    for row, odd in ODD.items():
        values[row] = None if layout == "fixed" and odd is not None and len(odd) != DIM else odd
    rows_of = [row and [one if one is None else number(one) for one in row] for row in values]
    column = pa.array(rows_of, pa.list_(kind, DIM) if layout == "fixed" else LISTS[layout](kind))
    carry = {name: CARRY[name] for name in (CARRY if kind == pa.float32() else ["text"])}
    path = write(pa.table({"key": KEYS, "vector": column, **carry}), tmp_path / f"t{suffix}", rows)
    source = Table(path=path, carry=tuple(carry))
    items = both_ways(source)
    assert [row for row, item in enumerate(items) if isinstance(item[1], str)] == list(ODD)
    assert {contents_of(Table(path=path, carry=tuple(carry)), size) for size in (1, 4, 17, 100)} == {
        contents_of(source, 100)
    }


@only_if(lambda name, dtype: dtype != np.float16 or not name.startswith("scipy"))  # SciPy has no sparse float16
@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32])
def test_vectors_in_memory_in_any_container(name: str, dtype: Any) -> None:
    given = MATRICES[name](X.astype(dtype))
    carry = {"label": [f"l{row}" for row in range(N)], "n": np.arange(N)}
    source = Memory(keys=KEYS, vectors=given, carry=carry)
    both_ways(source)
    assert contents_of(source, 3) == contents_of(source, 100)


@pytest.mark.parametrize("make", [*LACKING.values()], ids=[*LACKING])
def test_vectors_in_memory_that_lack_values(make: Any) -> None:
    mask = np.random.default_rng(1).random(X.shape) < 0.2
    source = Memory(keys=KEYS, vectors=make(X.astype(np.float64), mask))
    assert {row for row, item in enumerate(both_ways(source)) if isinstance(item[1], str)} == {
        *np.flatnonzero(mask.any(1))
    }
    assert contents_of(source, 3) == contents_of(source, 100)


def test_rows_of_several_types_keep_their_own() -> None:
    rows = [x.astype((np.float32, np.float64, np.int8)[row // 3 % 3]) for row, x in enumerate(X)]
    source = Memory(keys=KEYS, vectors=[*rows[:-2], [1.0, 2.0], "abc"])
    both_ways(source)
    assert contents_of(source, 1) == contents_of(source, 7) == contents_of(source, 100)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ">f8", np.int16, bool])
def test_matrices_in_files(dtype: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X[:25].astype(dtype))
    np.save(tmp_path / "b.npy", np.asfortranarray(X[25:].astype(dtype)))
    items = both_ways(Npy(path=tmp_path))
    assert [item[1] for item in items] == X.astype(dtype).astype(float).tolist()
    assert items[26][0] == "b.npy:1"


def test_a_parquet_file_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row group can only be decoded from its beginning; 10 chunks of it would be 5.5 decodings."""
    column = pa.FixedSizeListArray.from_arrays(pa.array(X.astype(np.float32).ravel()), DIM)
    path = write(pa.table({"key": KEYS, "vector": column}), tmp_path / "t.parquet", N)
    source = Table(path=path)
    decoded: list[int] = []
    plain = pq.ParquetFile.iter_batches

    def counted(self: Any, *args: Any, **options: Any) -> Iterator[pa.RecordBatch]:
        for batch in plain(self, *args, **options):
            decoded.append(batch.num_rows)
            yield batch

    units = list(source.units(4))
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    parts = [part for unit in units for part in source.columns(unit, DIM)]
    assert np.array_equal(np.concatenate([part.vectors for part in parts]), X)
    assert sum(decoded) == N
    again = [next(iter(source.columns(units[place], DIM))).vectors for place in (7, 2, 2, 9)]
    assert np.array_equal(np.concatenate(again), X[[*range(28, 32), *range(8, 12), *range(8, 12), *range(36, 40)]])


def test_a_file_that_was_written_again_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    source = Table(path=path)
    for turn in (0, 1):
        column = pa.FixedSizeListArray.from_arrays(pa.array((X + turn).astype(np.float32).ravel()), DIM)
        write(pa.table({"key": KEYS, "vector": column}), path, N)
        first, second = list(source.units(4))[:2]
        assert np.array_equal(next(iter(source.columns(first, DIM))).vectors, X[:4] + turn)
        if turn:
            assert np.array_equal(next(iter(source.columns(second, DIM))).vectors, X[4:8] + turn)


def test_rows_are_read_without_python_for_each(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the values of keys nor those of vectors are asked for one by one."""
    column = pa.FixedSizeListArray.from_arrays(pa.array(X.astype(np.float32).ravel()), DIM)
    path = write(pa.table({"key": KEYS, "vector": column}), tmp_path / "t.arrow", 100)
    for name in ("as_vector", "as_numbers", "text_key"):
        monkeypatch.setattr(vectors, name, None)
    source = Table(path=path)
    assert sum(len(part.keys) for unit in source.units(9) for part in source.columns(unit, DIM)) == N


@only_if(lambda kind, wrong: wrong is None or not pa.types.is_integer(kind))  # a number is neither empty nor bytes
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view(), pa.int32(), pa.uint64()], ids=str)
@pytest.mark.parametrize("wrong", [None, "", b"\xff"])
def test_a_wrong_key_is_named_by_its_row(kind: pa.DataType, wrong: Any, tmp_path: Path) -> None:
    keys: list[Any] = list(range(N)) if pa.types.is_integer(kind) else KEYS[:]
    keys[23] = wrong
    if wrong == b"\xff":
        raw = pa.array([key if isinstance(key, bytes) else key.encode() for key in keys])
        column = raw.view(pa.string())
        column = column.cast(kind) if kind == pa.large_string() else column
    else:
        column = pa.array(keys, kind)
    path = write(pa.table({"key": column, "vector": pa.array(X.tolist())}), tmp_path / "t.arrow", 9)
    problem = {None: "null", "": "empty", b"\xff": "not UTF-8"}[wrong]
    with pytest.raises(SourceError, match=f"row 23: the key is {problem}"):
        list(Table(path=path).units(50))


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_a_carried_text_that_is_not_utf8_costs_its_item_alone(kind: pa.DataType, tmp_path: Path) -> None:
    """Arrow writes and reads it without a look; in the pool nothing could read its column."""
    texts = pa.array([b"\xff" if row == 23 else None if row == 3 else b"t%d" % row for row in range(N)])
    table = pa.table({"key": KEYS, "vector": pa.array(X.tolist()), "label": texts.view(pa.string()).cast(kind)})
    items = both_ways(Table(path=write(table, tmp_path / "t.arrow", 100), carry=("label",)))
    assert [row for row, item in enumerate(items) if isinstance(item[1], str)] == [23]
    assert "column 'label': not UTF-8" in items[23][1]
    assert [item[2]["label"] for item in items[22:25]] == ["t22", None, "t24"]


def test_the_first_column_that_is_wrong_is_named(tmp_path: Path) -> None:
    names = {"names": ["a", "b"], "_type": "ClassLabel"}
    meta = {"huggingface": json.dumps({"info": {"features": {"one": names, "two": names}}})}
    wrong = [7 if row == 5 else row % 2 for row in range(N)]
    table = pa.table({"key": KEYS, "vector": pa.array(X.tolist()), "one": wrong, "two": wrong})
    path = write(table.replace_schema_metadata(meta), tmp_path / "t.arrow", 100)
    source = Table(path=path, carry=("one", "two"))
    (unit,) = source.units(N)
    found = from_columns(source.columns(unit, DIM))[5][1]
    assert found == str(list(source.read(unit))[5].payload)
    assert "column 'one': label 7" in found


@pytest.mark.skipif(np.finfo(np.longdouble).max == np.finfo(np.float64).max, reason="no wider numbers here")
def test_a_number_that_no_float64_holds_costs_its_item_alone(tmp_path: Path) -> None:
    x = X.astype(np.longdouble)
    x[7, 1], x[9, 0] = np.longdouble("1e400"), np.inf
    np.save(tmp_path / "x.npy", x)
    for source in (Npy(path=tmp_path / "x.npy"), Memory(keys=KEYS, vectors=x)):
        items = both_ways(source)
        assert [row for row, item in enumerate(items) if isinstance(item[1], str)] == [7, 9]
        assert "does not fit float64" in items[7][1]


@pytest.mark.parametrize("dtype", [">i4", ">U4", "S4"])
def test_keys_in_an_array_of_any_order_of_bytes(dtype: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "k.npy", np.arange(N).astype(dtype))
    items = both_ways(Npy(path=tmp_path / "x.npy", keys=tmp_path / "k.npy"))
    assert [item[0] for item in items] == [str(row) for row in range(N)]


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_a_batch_of_many_chunks_is_read_once(
    compression: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compressed batch would be decompressed for each chunk."""
    column = pa.FixedSizeListArray.from_arrays(pa.array(X.astype(np.float32).ravel()), DIM)
    table = pa.table({"key": KEYS, "vector": column})
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(tmp_path / "t.arrow", table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=30)
    read: list[int] = []
    plain = ArrowFile._reader

    class Counted:
        def __init__(self, reader: Any) -> None:
            self.reader, self.num_record_batches = reader, reader.num_record_batches

        def get_batch(self, part: int) -> pa.RecordBatch:
            read.append(part)
            return self.reader.get_batch(part)

    monkeypatch.setattr(ArrowFile, "_reader", lambda file, columns: Counted(plain(file, columns)))
    source = Table(path=tmp_path / "t.arrow")
    units = list(source.units(4))
    read.clear()
    parts = [part for unit in units for part in source.columns(unit, DIM)]
    assert np.array_equal(np.concatenate([part.vectors for part in parts]), X)
    assert read == [0, 1]
    assert np.array_equal(next(iter(source.columns(units[2], DIM))).vectors, X[8:12])


def test_a_text_that_is_not_utf8_is_a_bad_item(tmp_path: Path) -> None:
    texts = pa.array([b"\xff" if row == 23 else None if row == 3 else b"t%d" % row for row in range(N)])
    table = pa.table({"key": KEYS, "text": texts.view(pa.string())})
    source = Table(path=write(table, tmp_path / "t.arrow", 100))
    items = [item for unit in source.units(9) for item in source.read(unit)]
    assert str(items[23].payload) == "k23: column 'text': not UTF-8"
    assert str(items[3].payload) == "k3: column 'text' is null"
    assert [item.payload for item in items[22:25:2]] == ["t22", "t24"]


def test_a_name_of_two_columns_is_refused(tmp_path: Path) -> None:
    arrays = [pa.array(KEYS), pa.array(X.tolist()), pa.array(KEYS), pa.array(KEYS)]
    path = write(pa.table(arrays, names=["key", "vector", "label", "label"]), tmp_path / "t.arrow", 100)
    assert len(both_ways(Table(path=path))) == N
    for fields in ({"carry": ("label",)}, {"key_column": "label"}, {"text_column": "label"}):
        with pytest.raises(SourceError, match="several columns are named 'label'"):
            list(Table(path=path, **fields).units(9))
