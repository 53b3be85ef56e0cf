"""Memory: whatever the containers and their order, each key has its own payload and its own carried values."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
import torch
from containers import BELOW, COLUMNS, LACKING, MATRICES, OF_TEXTS

import raysal
from raysal.embedding.job import encoder_for_source
from raysal.embedding.precomputed import Precomputed
from raysal.errors import BadItem, ConfigError, EncoderError, RaysalError, SourceError
from raysal.sources import Memory
from raysal.types import Item

N = 9
KEYS = [f"k{i}" for i in range(N)]


def items(source: Memory, chunk_rows: int = 4) -> Iterator[Item]:
    return (item for unit in source.units(chunk_rows) for item in source.read(unit))


def image(i: int) -> np.ndarray[Any, Any]:
    return np.full((2, 3), i, np.uint8)


FRAME = pd.DataFrame(
    {
        "key": KEYS,
        "vector": [[float(i), -i / 2] for i in range(N)],
        "text": [f"text {i}" for i in range(N)],
        "bytes": [f"image {i}".encode() for i in range(N)],
        "pixels": [image(i) for i in range(N)],
        "count": range(N),
        "class": pd.Categorical([f"class {i}" for i in range(N)]),
    }
)
ORDERS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "as made": lambda frame: frame,
    "sorted down": lambda frame: frame.sort_values("key", ascending=False),
    "filtered": lambda frame: frame[frame["count"] % 3 != 0],
    "every other": lambda frame: frame.iloc[1::2],
    "shuffled": lambda frame: frame.sample(frac=1, random_state=0),
    "another index": lambda frame: frame.set_axis(range(N, 0, -1)),
    "one index": lambda frame: frame.set_axis([0] * N),
    "two frames": lambda frame: pd.concat([frame.iloc[5:], frame.iloc[:5].reset_index(drop=True)]),
    "index of floats": lambda frame: frame.set_axis(np.linspace(1, 0, N)),
    "index of two levels": lambda frame: frame.set_axis(pd.MultiIndex.from_product([[0, 1, 2], [2, 1, 0]])),
    "index of keys": lambda frame: frame.sort_values("count", ascending=False).set_index("key", drop=False),
}


def number_in(item: Item) -> int:
    """The number that a payload of `FRAME` was made of."""
    payload = item.payload
    if isinstance(payload, bytes | str):
        return int(payload.split()[-1])
    return int(payload.reshape(-1)[0])


@pytest.mark.parametrize("payload", ["vector", "text", "bytes", "pixels"])
@pytest.mark.parametrize("order", ORDERS)
def test_a_key_has_its_own_payload_in_every_order(order: str, payload: str) -> None:
    frame = ORDERS[order](FRAME)
    role = {"vector": "vectors", "text": "texts"}.get(payload, "images")
    source = Memory(keys=frame["key"], **{role: frame[payload]}, carry=frame[["count", "class"]])
    found = list(items(source))
    assert [item.key for item in found] == frame["key"].tolist()
    assert all(item.key == f"k{number_in(item)}" for item in found)
    assert all(item.carried == {"count": number_in(item), "class": f"class {number_in(item)}"} for item in found)


@pytest.mark.parametrize("order", ORDERS)
def test_the_vectors_of_the_pool_are_under_their_keys(order: str, tmp_path: Path) -> None:
    frame = ORDERS[order](FRAME)
    pool = raysal.embed(Memory(keys=frame["key"], vectors=frame["vector"]), out=tmp_path / "pool", chunk_rows=3)
    assert len(pool) == len(frame)
    for chunk in pool.chunks:
        for key, vector in zip(chunk.items()["key"].to_pylist(), chunk.vectors(), strict=True):
            assert np.allclose(vector, [float(key[1:]), -float(key[1:]) / 2])


@pytest.mark.parametrize(("name", "make"), [*(COLUMNS | OF_TEXTS).items()])
def test_keys_texts_and_carried_values_are_those_of_any_container(name: str, make: Callable[[Any], Any]) -> None:
    texts = ["ä", None, "b", "c", None, "d", "e", "b", "a"]
    source = Memory(keys=make(KEYS), texts=make(texts), carry={"same": make(texts)})
    for key, text, item in zip(KEYS, texts, items(source), strict=True):
        assert item.key == key
        assert item.carried["same"] == text
        if text is None:
            assert isinstance(item.payload, BadItem)
            assert item.payload.problem == "no text"
        else:
            assert item.payload == text
    with pytest.raises(SourceError, match="item 4: the key is null"):
        list(Memory(keys=make([*KEYS[:4], None, *KEYS[5:]]), texts=KEYS).units(3))


@pytest.mark.parametrize(("name", "make"), [*MATRICES.items()])
def test_vectors_are_those_of_any_container(name: str, make: Callable[[Any], Any]) -> None:
    x = np.random.default_rng(0).normal(size=(N, 5)).astype(np.float32)
    x[x < -1] = 0
    source = Memory(keys=KEYS, vectors=make(x))
    assert source.vector_dim() == 5
    assert np.array_equal([item.payload for item in items(source)], x)
    worker, units = pickle.loads(pickle.dumps(source)), pickle.loads(pickle.dumps(list(source.units(4))))
    assert np.array_equal([item.payload for unit in units for item in worker.read(unit)], x)
    assert source.fingerprint() == Memory(keys=KEYS, vectors=make(x)).fingerprint()


def test_the_fingerprint_is_that_of_the_values_and_not_of_the_container() -> None:
    x = np.arange(N * 3, dtype=np.float32).reshape(N, 3)
    shaped = ("numpy [n, 1, d]", "rows [1, d]", "scipy rows")  # rows of another shape
    typed = ("tuples",)  # rows of Python's floats
    found = {
        name: Memory(keys=KEYS, vectors=make(x), carry={"n": list(range(N))}).fingerprint()
        for name, make in MATRICES.items()
        if name not in shaped + typed
    }
    assert len(set(found.values())) == 1, found
    texts = ["ä", None, *KEYS[2:]]
    columns = {
        name: Memory(keys=make(KEYS), texts=make(texts), carry={"same": make(texts)}).fingerprint()
        for name, make in (COLUMNS | OF_TEXTS).items()
    }
    assert len(set(columns.values())) == 1, columns
    other = Memory(keys=KEYS, texts=texts[::-1], carry={"same": texts}).fingerprint()
    assert other not in columns.values()
    assert len({*found.values(), *columns.values()}) == 2


def test_the_fingerprint_of_what_lacks_values_is_no_matter_of_addresses() -> None:
    """The bytes of an array of objects are addresses, which are others in the next process."""
    given = [[[float("1.5"), None], [1.0, float("2.5")]] for _ in range(2)]
    assert given[0][0][0] is not given[1][0][0]
    one, two = (Memory(keys=KEYS[:2], vectors=rows).fingerprint() for rows in given)
    assert one == two
    assert Memory(keys=KEYS[:2], vectors=[[2.5, None], [1.0, 2.5]]).fingerprint() != one


@pytest.mark.parametrize(("name", "make"), [*LACKING.items()])
def test_a_vector_that_lacks_a_value_is_quarantined_by_name(name: str, make: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    x = rng.integers(1, 50, (N, 3)).astype(np.float64)
    mask = rng.random(x.shape) < 0.2
    mask[0, 0] = True
    pool = raysal.embed(Memory(keys=KEYS, vectors=make(x, mask)), out=tmp_path / "pool", max_quarantine=1.0)
    lost = pool.chunks[0].quarantine().to_pylist()
    assert {row["key"]: row["error"] for row in lost} == {
        key: "a value is missing" for key, off in zip(KEYS, mask, strict=True) if off.any()
    }
    left = ~mask.any(axis=1)
    assert np.array_equal(pool.chunks[0].vectors(), x[left])
    assert BELOW not in pool.chunks[0].vectors()


def test_masked_pixels_are_missing_and_not_the_numbers_below_the_mask() -> None:
    pixels = np.ma.array(np.full((2, 4, 4), 7, np.uint8), mask=np.zeros((2, 4, 4), bool))
    pixels[0, 1, 1] = np.ma.masked
    for images in (pixels, list(pixels)):
        bad, good = items(Memory(keys=["a", "b"], images=images))
        assert isinstance(bad.payload, BadItem)
        assert "a pixel is missing" in bad.payload.problem
        assert isinstance(good.payload, np.ndarray)
        assert not isinstance(good.payload, np.ma.MaskedArray)
        assert good.payload.dtype == np.uint8


PIXELS = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)


@pytest.mark.parametrize(
    "images",
    [
        PIXELS,
        list(PIXELS),
        torch.from_numpy(PIXELS),
        list(torch.from_numpy(PIXELS)),
        pd.Series(list(PIXELS), index=[1, 0]),
        pl.Series(list(PIXELS), dtype=pl.Object),
        pa.FixedShapeTensorArray.from_numpy_ndarray(PIXELS),
        pl.Series(PIXELS),
    ],
    ids=lambda images: f"{type(images).__module__}.{type(images).__name__}",
)
def test_pixels_are_those_of_any_container(images: Any) -> None:
    found = [item.payload for item in items(Memory(keys=["a", "b"], images=images))]
    assert np.array_equal(found, PIXELS)
    assert {payload.dtype for payload in found} == {np.dtype(np.uint8)}


def test_encoded_images_are_those_of_any_container(tmp_path: Path) -> None:
    (tmp_path / "c.jpg").write_bytes(b"three\0")
    encoded = [b"one\0", None, b"three\0"]
    structs = [{"bytes": one, "path": None} for one in encoded[:2]] + [{"bytes": None, "path": str(tmp_path / "c.jpg")}]
    for images in (
        *(make(encoded) for name, make in COLUMNS.items() if name not in ("masked",)),
        pa.array(encoded, pa.binary_view()),
        structs,
        pa.array(structs),
        pl.Series(structs),
        pd.Series(structs),
    ):
        one, two, three = items(Memory(keys=["a", "b", "c"], images=images))
        assert (one.payload, three.payload) == (b"one\0", b"three\0")
        assert isinstance(two.payload, BadItem)
    with pytest.raises(ConfigError, match=r"memory.images: .*list of bytes"):
        Memory(keys=["a"], images=np.array([b"one\0"]))


@pytest.mark.parametrize("odd", [0, 1, N - 1])
def test_the_odd_rows_are_set_aside_wherever_they_stand(odd: int, tmp_path: Path) -> None:
    rows: list[Any] = [[1.0, 2.0, 3.0] for _ in KEYS]
    rows[odd] = [1.0, 2.0]
    pool = raysal.embed(Memory(keys=KEYS, vectors=rows), out=tmp_path / "pool", max_quarantine=0.5)
    assert [row["key"] for row in pool.chunks[0].quarantine().to_pylist()] == [KEYS[odd]]


X = np.arange(1.0, 7.0).reshape(3, 2)
ODD_VECTORS: dict[str, Any] = {
    "complex": X * 1j,
    "complex64": torch.tensor(X).to(torch.complex64),
    "sparse complex": scipy.sparse.csr_array(X * 1j),
    "frame of complex": pd.DataFrame(X * 1j),
    "text": X.astype(str),
    "bytes": X.astype("S"),
    "dates": X.astype("M8[s]"),
    "durations": X.astype("m8[s]"),
    "records": np.zeros(3, [("a", "f4")]),
    "void": np.zeros((3, 2), "V4"),
    "one number each": X[:, 0],
    "list of numbers": [1.0, 2.0, 3.0],
    "series of numbers": pd.Series([1.0, 2.0, 3.0]),
    "one number": np.float64(1),
    "three axes": X[:, :, None],
    "nothing long": X[:, :0],
    "too few": X[:2],
    "strings": ["a", "b", "c"],
    "dicts": [{"a": 1}] * 3,
    "nested": [[[1.0], [2.0]]] * 3,
    "set": {1, 2, 3},
    "generator": (row for row in X),
    "dict": dict(enumerate(X)),
    "text in a frame": pd.DataFrame({"a": ["x"] * 3, "b": 1}),
    "dates in a frame": pd.DataFrame({"a": pd.date_range("2020", periods=3), "b": 1}),
    "frame of lists": pd.DataFrame({"v": X.tolist()}),
    "lazy": pl.DataFrame(X).lazy(),
    "no column": pd.DataFrame(index=[1] * 3),
    "meta": torch.ones(3, 2, device="meta"),
    "hybrid": torch.tensor(X).to_sparse(1),
    "3-d sparse": torch.ones(3, 2, 2).to_sparse(),
    "1-d sparse": scipy.sparse.coo_array(X[:, 0]),
    "maps": pa.array([[("a", 1)]] * 3, pa.map_(pa.string(), pa.int8())),
    "nulls": pa.nulls(3),
    "strings in lists": pa.array([["a"]] * 3),
    "int128": pl.DataFrame({"a": pl.Series([1] * 3, dtype=pl.Int128)}),
}


@pytest.mark.parametrize("name", ODD_VECTORS)
def test_what_holds_no_vectors_is_refused_and_not_by_another_library(name: str) -> None:
    with pytest.raises((ConfigError, EncoderError), match=r"memory\.|no vector"):
        encoder_for_source(Precomputed(), Memory(keys=KEYS[:3], vectors=ODD_VECTORS[name]))


@pytest.mark.parametrize("role", ["keys", "texts", "images", "carry"])
@pytest.mark.parametrize("name", ODD_VECTORS)
def test_odd_arguments_give_items_or_an_error_of_ours(name: str, role: str) -> None:
    given: dict[str, Any] = {"keys": KEYS[:3]} | ({} if role in ("texts", "images") else {"vectors": X})
    given[role] = {"x": ODD_VECTORS[name]} if role == "carry" else ODD_VECTORS[name]
    with suppress(RaysalError):
        source = Memory(**given)
        source.fingerprint()
        assert len(list(items(source))) == 3


def test_one_text_is_no_column() -> None:
    for given in ({"keys": "abc", "texts": ["x", "y", "z"]}, {"keys": ["x", "y", "z"], "texts": "abc"}):
        with pytest.raises(ConfigError, match="'abc' is no column"):
            Memory(**given)
    with pytest.raises(ConfigError, match=r"memory.keys: a frame with the columns key"):
        Memory(keys=FRAME[["key"]], texts=FRAME["text"])
    with pytest.raises(SourceError, match="item 0: the key is a tuple"):
        list(Memory(keys=[("a", 1)], texts=["x"]).units(1))
    with pytest.raises(SourceError, match="item 0: the key is a object"):
        list(Memory(keys=[object()], texts=["x"]).units(1))


def test_sparse_rows_stay_sparse_until_they_are_read() -> None:
    """TF-IDF of 100,000 words: a chunk of dense rows would be 40 GB."""
    n, d = 100_000, 100_000
    x = scipy.sparse.csr_array((np.ones(n), (np.arange(n), np.arange(n)[::-1])), shape=(n, d))
    source = Memory(keys=range(n), vectors=x)
    (unit,) = source.units(n)
    first, last = source.read(unit, {0, n - 1})
    assert (np.flatnonzero(first.payload), np.flatnonzero(last.payload)) == (d - 1, 0)
