"""Tables as pyarrow, Polars, pandas and Hugging Face's data sets write them: the same items, whatever the layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from tiers import only_if

import raysal
from raysal.arrow import ColumnKind
from raysal.errors import BadItem, QuarantineExceeded, SourceError
from raysal.sources import detect_source
from raysal.sources.table import Table
from raysal.types import Item

KEYS = ["a", "b", "ä", "d", "e"]
TEXTS = ["one", None, "three", "", "one"]
BLOBS = [b"one\0", None, b"\xff\xfe", b"", b"one\0"]
COUNTS = [1, None, 3, 2**53 + 1, -5]
VECTORS = np.array([[1, -2, 3], [0, 0, 0], [4, 5, 6], [7, 8, 9], [-7, 0, 1]], np.int8)


def to_parquet(table: pa.Table, path: Path) -> Path:
    pq.write_table(table, path.with_suffix(".parquet"), row_group_size=2)
    return path.with_suffix(".parquet")


def to_ipc(table: pa.Table, path: Path) -> Path:
    with pa.ipc.new_file(path.with_suffix(".arrow"), table.schema) as writer:
        for batch in table.to_batches(max_chunksize=2):
            writer.write_batch(batch)
    return path.with_suffix(".arrow")


FILES = {"parquet": to_parquet, "ipc": to_ipc}


def items(source: Any) -> list[Item]:
    return [item for unit in source.units(3) for item in source.read(unit)]


def run_ends(values: pa.Array) -> pa.Array:
    return pc.run_end_encode(values)


STRINGS: dict[str, Callable[[list[Any]], pa.Array]] = {
    "string": lambda values: pa.array(values, pa.string()),
    "large_string": lambda values: pa.array(values, pa.large_string()),
    "string_view": lambda values: pa.array(values, pa.string_view()),
    "dictionary": lambda values: pa.array(values, pa.string()).dictionary_encode(),
    "dictionary of large": lambda values: pa.array(values, pa.large_string()).dictionary_encode(),
}
BINARIES: dict[str, Callable[[list[Any]], pa.Array]] = {
    "binary": lambda values: pa.array(values, pa.binary()),
    "large_binary": lambda values: pa.array(values, pa.large_binary()),
    "binary_view": lambda values: pa.array(values, pa.binary_view()),
    "dictionary": lambda values: pa.array(values, pa.binary()).dictionary_encode(),
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("layout", STRINGS)
def test_texts_and_keys_and_carried_texts_in_every_layout(layout: str, file: str, tmp_path: Path) -> None:
    table = pa.table({"key": STRINGS[layout](KEYS), "text": STRINGS[layout](TEXTS), "same": STRINGS[layout](TEXTS)})
    source = detect_source(FILES[file](table, tmp_path / "t"), carry=["same"])
    assert source.modality == "text"
    for key, text, item in zip(KEYS, TEXTS, items(source), strict=True):
        assert (item.key, item.carried["same"]) == (key, text)
        assert isinstance(item.payload, BadItem) if text is None else item.payload == text


def is_written(layout: str, struct: bool, file: str) -> bool:
    return not struct or not (layout == "dictionary" or (layout, file) == ("binary_view", "parquet"))


@only_if(is_written)
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("struct", [False, True])
@pytest.mark.parametrize("layout", BINARIES)
def test_images_in_every_layout(layout: str, struct: bool, file: str, tmp_path: Path) -> None:
    column = BINARIES[layout](BLOBS)
    if struct:
        paths = pa.array([None] * len(BLOBS), pa.string_view() if layout == "binary_view" else pa.string())
        column = pa.StructArray.from_arrays([paths, column], names=["path", "bytes"])
    source = detect_source(FILES[file](pa.table({"key": KEYS, "picture": column}), tmp_path / "t"))
    assert source.modality == "image"
    for blob, item in zip(BLOBS, items(source), strict=True):
        assert isinstance(item.payload, BadItem) if blob is None else item.payload == blob


NUMBERS = [
    *(pa.float16(), pa.float32(), pa.float64(), pa.int8(), pa.uint8(), pa.int16(), pa.uint16(), pa.int32()),
    *(pa.uint32(), pa.int64(), pa.uint64(), pa.decimal128(5, 1), pa.bool_()),
]
LISTS: dict[str, Callable[[pa.DataType], pa.DataType]] = {
    "list": pa.list_,
    "large_list": pa.large_list,
    "fixed": lambda kind: pa.list_(kind, 3),
    "list_view": pa.list_view,
    "large_list_view": pa.large_list_view,
    "nested [1, 3]": lambda kind: pa.list_(pa.list_(kind, 3), 1),
}


@only_if(lambda layout, file: file != "parquet" or "view" not in layout)  # Parquet has no list views
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("layout", LISTS)
@pytest.mark.parametrize("kind", NUMBERS, ids=str)
def test_vectors_of_every_number_in_every_layout(kind: pa.DataType, layout: str, file: str, tmp_path: Path) -> None:
    values = np.abs(VECTORS) if str(kind).startswith("uint") else VECTORS != 0 if kind == pa.bool_() else VECTORS
    rows: list[Any] = values.tolist()
    if pa.types.is_decimal(kind):
        rows = [[Decimal(value) / 2 for value in row] for row in rows]
        values = values / 2
    lacks: list[Any] = [rows[0][0], None, rows[0][2]]
    rows += [None, lacks]
    rows = [[row] if "nested" in layout and row is not None else row for row in rows]
    table = pa.table({"key": [*KEYS, "null", "lacks"], "vector": pa.array(rows, LISTS[layout](kind))})
    source = detect_source(FILES[file](table, tmp_path / "t"))
    assert (source.modality, source.vector_dim()) == ("vector", 3)  # type: ignore[attr-defined]
    *whole, null, lacking = items(source)
    assert np.array_equal([item.payload for item in whole], values.astype(np.float32))
    assert {item.payload.dtype for item in whole} <= {np.dtype(np.float32), np.dtype(np.float64)}
    assert isinstance(null.payload, BadItem)
    assert isinstance(lacking.payload, BadItem)
    assert "a value is missing" in lacking.payload.problem


def write_polars(frame: pl.DataFrame, path: Path) -> list[Path]:
    frame.write_parquet(path.with_suffix(".parquet"))
    frame.write_ipc(path.with_suffix(".arrow"))
    frame.write_ipc(path.with_suffix(".feather"), compression="zstd", compat_level=pl.CompatLevel.oldest())
    return [path.with_suffix(suffix) for suffix in (".parquet", ".arrow", ".feather")]


def test_files_of_polars(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "key": KEYS,
            "text": TEXTS,
            "image": BLOBS,
            "hub": [{"bytes": blob, "path": "x.png"} if blob else None for blob in BLOBS],
            "category": pl.Series(["x", "y", None, "x", "z"], dtype=pl.Categorical),
            "enum": pl.Series(["x", "y", None, "x", "y"], dtype=pl.Enum(["y", "x"])),
            "count": COUNTS,
            "small": pl.Series([1, 2, None, 4, 5], dtype=pl.Int8),
            "lists": pl.Series(VECTORS.tolist(), dtype=pl.List(pl.Float32)),
            "array": pl.Series(VECTORS.tolist(), dtype=pl.Array(pl.Int8, 3)),
            "square": pl.Series(np.arange(20, dtype=np.uint8).reshape(5, 2, 2)),
            "decimal": pl.Series(["1.50", "2.25", None, "0.00", "1.50"]).cast(pl.Decimal(10, 2)),
        }
    )
    carry = ("category", "enum", "count", "small", "decimal")
    for path in write_polars(frame, tmp_path / "t"):
        for options, expected in (
            ({"text_column": "text"}, TEXTS),
            ({"text_column": "category"}, frame["category"].to_list()),
            ({"image_column": "image"}, BLOBS),
            ({"image_column": "hub"}, [blob or None for blob in BLOBS]),
            ({"image_column": "square"}, list(frame["square"].to_numpy())),
            ({"vector_column": "lists"}, list(VECTORS.astype(np.float32))),
            ({"vector_column": "array"}, list(VECTORS.astype(np.float32))),
        ):
            found = items(Table(path=path, carry=carry, **options))
            assert [item.key for item in found] == KEYS
            assert [dict(item.carried) for item in found] == frame.select(carry).to_dicts()
            for item, payload in zip(found, expected, strict=True):
                assert isinstance(item.payload, BadItem) if payload is None else np.array_equal(item.payload, payload)


def test_files_of_pandas(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "text": TEXTS,
            "category": pd.Categorical(["x", "y", None, "x", "z"]),
            "count": pd.array(COUNTS, "Int64"),
            "vector": list(VECTORS.astype(np.float32)),
            "old": np.array(TEXTS, object),
        },
        index=pd.Index(KEYS, name="key"),
    ).sort_index(ascending=False)
    expected = frame.astype(object).where(frame.notna(), None)
    frame.to_parquet(tmp_path / "t.parquet")
    frame.reset_index().to_feather(tmp_path / "t.feather")
    frame.convert_dtypes(dtype_backend="pyarrow").to_parquet(tmp_path / "arrow.parquet")
    for name in ("t.parquet", "t.feather", "arrow.parquet"):
        found = items(Table(path=tmp_path / name, carry=("text", "category", "count", "old")))
        assert [item.key for item in found] == frame.index.tolist()
        assert [dict(item.carried) for item in found] == expected.drop(columns="vector").to_dict("records")
        assert np.array_equal([item.payload for item in found], np.stack(frame["vector"]))
    frame.reset_index(drop=True).set_axis([4, 3, 2, 1, 0]).to_parquet(tmp_path / "nameless.parquet")
    with pytest.raises(SourceError, match=r"no column 'key'.*__index_level_0__"):
        list(Table(path=tmp_path / "nameless.parquet").units(3))
    found = items(Table(path=tmp_path / "nameless.parquet", key_column="__index_level_0__"))
    assert [item.key for item in found] == ["4", "3", "2", "1", "0"]


# -- Hugging Face -----------------------------------------------------------------------------------------------------


def hub_table(columns: dict[str, Any], features: dict[str, Any]) -> pa.Table:
    """A table with the metadata that Hugging Face's `datasets` writes."""
    table = pa.table(columns)
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


CLASS = {"names": ["cat", "dog"], "_type": "ClassLabel"}


@pytest.mark.parametrize("file", FILES)
def test_class_labels_are_carried_by_their_names(file: str, tmp_path: Path) -> None:
    table = hub_table(
        {
            "key": pa.array([0, 1, 2, 3, 4]),
            "text": ["w"] * 5,
            "label": pa.array([1, 0, None, -1, 2]),
            "tags": pa.array([[0, 1], [], None, [-1], [0, 7]]),
            "old": pa.array([[0], [1], [], None, [0]]),
            "plain": [1, 0, 1, 0, 2],
        },
        {
            "label": CLASS,
            "tags": {"feature": CLASS, "_type": "List"},
            "old": [CLASS],
            "plain": {"dtype": "int64", "_type": "Value"},
        },
    )
    found = items(detect_source(FILES[file](table, tmp_path / "t"), carry=["label", "tags", "old", "plain"]))
    assert [dict(item.carried) for item in found[:4]] == [
        {"label": "dog", "tags": ["cat", "dog"], "old": ["cat"], "plain": 1},
        {"label": "cat", "tags": [], "old": ["dog"], "plain": 0},
        {"label": None, "tags": None, "old": [], "plain": 1},
        {"label": None, "tags": [None], "old": None, "plain": 0},
    ]
    assert isinstance(found[4].payload, BadItem)
    assert found[4].payload.problem == "column 'label': label 2 is not one of the 2 classes that the file names"


def test_the_names_of_classes_are_those_that_a_pool_knows(tmp_path: Path) -> None:
    rows = {"key": KEYS, "vector": VECTORS.astype(np.float32).tolist(), "label": [1, 0, 1, -1, 0]}
    path = to_parquet(hub_table(rows, {"label": CLASS}), tmp_path / "t")
    pool = raysal.embed({"name": "table", "path": path, "carry": ["label"]}, out=tmp_path / "pool")
    assert pool.chunks[0].items()["label"].to_pylist() == ["dog", "cat", "dog", None, "cat"]


@pytest.mark.parametrize("metadata", [b"no json", b"[]", b"{}", b'{"info": null}', b'{"info": {"features": [1]}}'])
def test_metadata_that_say_nothing_are_passed_over(metadata: bytes, tmp_path: Path) -> None:
    table = pa.table({"key": KEYS, "text": KEYS, "label": [0] * 5}).replace_schema_metadata({b"huggingface": metadata})
    assert items(detect_source(to_parquet(table, tmp_path / "t"), carry=["label"]))[0].carried == {"label": 0}


def test_an_image_without_bytes_is_the_file_that_its_path_names(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "beside.jpg").write_bytes(b"beside")
    (tmp_path / "far.jpg").write_bytes(b"far")
    cells = {
        "beside.jpg": b"beside",
        str(tmp_path / "far.jpg"): b"far",
        "../far.jpg": b"far",
        "gone.jpg": "'gone.jpg' cannot be read (No such file or directory)",
        "tables": "cannot be read",
        "https://example.org/a.jpg": "no local file",
        "zip://a.jpg::https://example.org/b.zip": "no local file",
        "nu\0ll": "cannot be read",
        None: "neither bytes nor a path",
    }
    rows = [{"bytes": None, "path": path} for path in cells]
    rows.append({"bytes": b"own", "path": "beside.jpg"})
    keys = [f"k{i}" for i in range(len(rows))]
    path = to_parquet(pa.table({"key": keys, "image": rows}), tmp_path / "tables" / "t")
    found = items(detect_source(path))
    for item, expected in zip(found, [*cells.values(), b"own"], strict=True):
        if isinstance(expected, bytes):
            assert item.payload == expected
        else:
            assert isinstance(item.payload, BadItem)
            assert expected in item.payload.problem


def hub_arrays(values: Any, shape: list[int | None], dtype: str) -> pa.Table:
    """A column as the feature `Array2D` or `Array3D` stores it, known by the metadata of its field."""
    depth, kind = len(shape), pa.type_for_alias(dtype)
    for _ in range(depth):
        kind = pa.list_(kind)
    name = f"datasets.features.features.Array{depth}DExtensionType"
    metadata = {"ARROW:extension:name": name, "ARROW:extension:metadata": json.dumps([shape, dtype])}
    column = pa.array(values, kind)
    schema = pa.schema([("key", pa.string()), pa.field("x", kind, metadata=metadata)])
    return pa.table([[f"k{i}" for i in range(len(values))], column], schema=schema)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("by", ["field", "features"])
def test_arrays_of_hugging_face_are_vectors_or_images(by: str, file: str, tmp_path: Path) -> None:
    def source(values: Any, shape: list[int | None], dtype: str, **options: str) -> Any:
        table = hub_arrays(values, shape, dtype)
        if by == "features":
            feature = {"shape": shape, "dtype": dtype, "_type": f"Array{len(shape)}D"}
            table = hub_table({"key": table["key"], "x": table["x"]}, {"x": feature})
        return detect_source(FILES[file](table, tmp_path / "t"), **options)

    vectors = source([[[1.0, 2.0, 3.0]], None, [[4.0, None, 6.0]], [[7.0, 8.0, 9.0]]], [1, 3], "float32")
    assert (vectors.modality, vectors.vector_dim()) == ("vector", 3)
    one, null, lacks, other = items(vectors)
    assert np.array_equal([one.payload, other.payload], [[1, 2, 3], [7, 8, 9]])
    assert isinstance(null.payload, BadItem)
    assert isinstance(lacks.payload, BadItem)

    grey = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    colour = np.arange(144, dtype=np.uint8).reshape(2, 4, 6, 3)
    for pixels in (grey, colour):
        images = source([*pixels.tolist(), None], list(pixels.shape[1:]), "uint8")
        assert images.modality == "image"
        *found, null = items(images)
        assert np.array_equal([item.payload for item in found], pixels)
        assert {item.payload.dtype for item in found} == {np.dtype(np.uint8)}
        assert isinstance(null.payload, BadItem)

    tall = [np.zeros((2, 4), np.uint8).tolist(), np.ones((3, 4), np.uint8).tolist()]
    assert [item.payload.shape for item in items(source(tall, [None, 4], "uint8"))] == [(2, 4), (3, 4)]
    with pytest.raises(SourceError, match=r"column 'x' holds .*not vectors; a vector column is a list of numbers"):
        _ = source(grey.tolist(), [3, 4], "uint8", vector_column="x").modality


@pytest.mark.parametrize("file", FILES)
def test_tensors_of_arrow_are_read_in_their_logical_order(file: str, tmp_path: Path) -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(2, 2, 4, 3)
    planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))  # stored [3, h, w], meant [h, w, 3]
    kind = pa.fixed_shape_tensor(pa.uint8(), [3, 2, 4], permutation=[1, 2, 0])
    stored = pa.array(planes.reshape(2, -1).tolist(), kind.storage_type)
    for tensors in (pa.FixedShapeTensorArray.from_numpy_ndarray(pixels), pa.ExtensionArray.from_storage(kind, stored)):
        source = detect_source(FILES[file](pa.table({"key": ["a", "b"], "x": tensors}), tmp_path / "t"))
        assert source.modality == "image"
        assert np.array_equal([item.payload for item in items(source)], pixels)
    for shape in ((3,), (1, 3), (3, 1), (1, 3, 1)):
        tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(VECTORS.reshape(-1, *shape))
        source = detect_source(FILES[file](pa.table({"key": KEYS, "x": tensors}), tmp_path / "t"))
        assert np.array_equal([item.payload for item in items(source)], VECTORS)


# -- other types ------------------------------------------------------------------------------------------------------


class Wrapped(pa.ExtensionType):
    """An extension that this process knows."""

    def __init__(self, storage: pa.DataType) -> None:
        super().__init__(storage, "tests.wrapped")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: pa.DataType, serialized: bytes) -> Wrapped:
        return cls(storage)


def test_an_extension_is_read_as_what_it_stores() -> None:
    for storage, modality in ((pa.list_(pa.float32()), "vector"), (pa.binary(), "image"), (pa.string_view(), "text")):
        assert ColumnKind.of(pa.field("x", Wrapped(storage))).fits(modality)
    values = pa.array([[1.0], None, [2.0]], pa.list_(pa.float32()))
    column = pa.ExtensionArray.from_storage(Wrapped(values.type), values)
    found = list(ColumnKind.of(pa.field("x", column.type)).arrays(column))
    assert [row is None for row in found] == [False, True, False]


def test_identifiers_are_keys_and_carried_as_text(tmp_path: Path) -> None:
    names = [UUID(int=i) for i in range(3)]
    column = pa.array([one.bytes for one in names], pa.uuid())
    table = pa.table({"key": column, "text": ["a", "b", "c"], "same": column})
    source = detect_source(to_parquet(table, tmp_path / "t"), carry=["same"])
    assert [(item.key, item.carried["same"]) for item in items(source)] == [(str(one), str(one)) for one in names]


def test_run_ends_are_decoded(tmp_path: Path) -> None:
    words = run_ends(pa.array(["x", "x", "y"]))
    path = to_ipc(pa.table({"key": ["a", "b", "c"], "text": words, "same": words}), tmp_path / "t")
    assert [(i.payload, i.carried["same"]) for i in items(detect_source(path, carry=["same"]))] == [
        ("x", "x"), ("x", "x"), ("y", "y"),
    ]  # fmt: skip


REFUSED = [
    pa.list_(pa.string()), pa.list_(pa.list_(pa.float32())), pa.struct([("x", pa.float32())]), pa.float32(), pa.null(),
    pa.map_(pa.string(), pa.float32()), pa.date32(), pa.list_(pa.date32()), pa.struct([("path", pa.string())]),
    pa.list_(pa.list_(pa.float32(), 2), 2), pa.bool_(), pa.decimal128(4, 1), pa.duration("s"), pa.binary(4),
]  # fmt: skip


@pytest.mark.parametrize("modality", ["vector", "image", "text"])
@pytest.mark.parametrize("kind", REFUSED, ids=str)
def test_another_type_is_refused_with_the_types_and_columns_that_would_do(
    kind: pa.DataType, modality: str, tmp_path: Path
) -> None:
    table = pa.table(
        {
            "key": KEYS,
            "odd": pa.nulls(5, kind),
            "v": pa.array(VECTORS.tolist(), pa.list_(pa.int8())),
            "i": BLOBS,
            "t": TEXTS,
        }
    )
    source = detect_source(to_ipc(table, tmp_path / "t"), **{f"{modality}_column": "odd"})
    others = {"vector": "v", "image": "i", "text": "key, t"}[modality]
    with pytest.raises(SourceError) as caught:
        _ = source.modality
    assert f"column 'odd' holds {kind}, not {modality}s; " in str(caught.value)
    assert str(caught.value).endswith(f"here: {others}")


def test_integer_vectors_are_taken_where_nothing_else_can_be_meant(tmp_path: Path) -> None:
    whole, floats = pa.array(VECTORS.tolist(), pa.list_(pa.int8())), pa.array(VECTORS.tolist(), pa.list_(pa.float32()))
    for columns, expected in (
        ({"vector": whole}, ("vector", "vector")),
        ({"vector": whole, "other": floats}, ("vector", "vector")),
        ({"boxes": whole}, ("vector", "boxes")),
        ({"boxes": whole, "x": floats}, ("vector", "x")),
        ({"boxes": whole, "picture": BLOBS}, ("image", "picture")),
        ({"tokens": whole, "text": TEXTS}, ("text", "text")),
        ({"tokens": whole, "boxes": whole}, None),
        ({"x": floats, "y": floats}, None),
    ):
        source = Table(path=to_parquet(pa.table({"key": KEYS, **columns}), tmp_path / "t"))
        if expected is None:
            with pytest.raises(SourceError, match=r"cannot tell which column.*choose one with --vector-column"):
                _ = source.modality
        else:
            assert source._payload == expected


def test_int8_vectors_are_embedded_as_they_are(tmp_path: Path) -> None:
    """Quantised embeddings: the values, not scaled."""
    table = pa.table({"key": KEYS, "vector": pa.array(VECTORS.tolist(), pa.list_(pa.int8()))})
    pool = raysal.embed(to_parquet(table, tmp_path / "t"), out=tmp_path / "pool")
    assert np.array_equal(pool.chunks[0].vectors(), VECTORS)


def test_a_vector_of_another_length_is_the_odd_one_wherever_it_stands(tmp_path: Path) -> None:
    for odd in (0, 2, 4):
        rows = VECTORS.astype(np.float32).tolist()
        rows[odd] = [1.0]
        path = to_parquet(pa.table({"key": KEYS, "vector": rows}), tmp_path / "t")
        with pytest.raises(QuarantineExceeded):
            raysal.embed(path, out=tmp_path / f"pool{odd}")
        lost = raysal.open_pool(tmp_path / f"pool{odd}").chunks[0].quarantine().to_pylist()
        assert [row["key"] for row in lost] == [KEYS[odd]]
