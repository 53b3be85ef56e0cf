"""More like this: by key, vector, image and text, against a plain sort of all similarities."""

from __future__ import annotations

import datetime
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import reference
import tiny_models
from containers import MATRICES
from numpy.typing import NDArray
from PIL import Image
from pools import make_pool, mixture

import raysal
from raysal.config import FleetConfig
from raysal.embedding.decode import check_text
from raysal.embedding.job import embed
from raysal.errors import (
    BadItem,
    ConfigError,
    Damaged,
    EncoderError,
    FingerprintMismatch,
    LabelError,
    PoolError,
    RaysalError,
)
from raysal.fleet import open_fleet
from raysal.index import build_index, open_index, plan_index
from raysal.pool import Pool
from raysal.sources.memory import Memory
from raysal.store import digest_of

MODELS = Path(tiny_models.__file__).parent
N, DIM = 60, 7


@pytest.fixture(scope="module")
def x() -> NDArray[np.float32]:
    x, _ = mixture(N, DIM)
    x[41] = x[3]  # a copy of an item
    return x


@pytest.fixture(scope="module", params=["cosine", "l2"])
def pool(request: pytest.FixtureRequest, x: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> Pool:
    path = tmp_path_factory.mktemp("similar") / request.param
    keys = [f"item-{i}" for i in range(N)]
    payloads = list(x)
    payloads[5] = np.full(DIM, np.nan)  # quarantined
    source = Memory(keys=keys, vectors=np.stack(payloads), carry={"label": [f"c{i % 3}" for i in range(N)]})
    return raysal.embed(source, out=path, chunk_rows=17, metric=request.param, max_quarantine=0.1)


def number(key: str) -> int:
    return int(key.removeprefix("item-"))


def expected(x: NDArray[np.float32], pool: Pool, query: NDArray[np.floating], without: Sequence[int], k: int):
    """(row, similarity) of the k best by a sort of all rows."""
    values = np.max([reference.similarity(x, one, pool.metric) for one in np.atleast_2d(query)], axis=0)
    rows = [row for row in np.lexsort((np.arange(N), -values)) if row not in {5, *without}]
    return [(int(row), values[row]) for row in rows[:k]]


def agree(table: Any, wanted: Sequence[tuple[int, float]]) -> None:
    assert [number(key) for key in table["key"].to_pylist()] == [row for row, _ in wanted]
    np.testing.assert_allclose(table["similarity"].to_numpy(), [value for _, value in wanted], rtol=2e-4, atol=2e-4)
    assert table["rank"].to_pylist() == list(range(1, len(wanted) + 1))


@pytest.mark.parametrize("partitions", [1, 2, 5])
def test_by_key_it_is_what_a_sort_of_everything_gives(pool: Pool, x: NDArray[np.float32], partitions: int) -> None:
    for own in (0, 3, 59):
        found = raysal.search(pool, key=f"item-{own}", k=12, partitions=partitions)
        agree(found, expected(x, pool, x[own], [own], 12))
    assert found.column_names == ["rank", "key", "similarity", "uri"]


def test_results_are_equal_to_the_last_bit_for_any_partitions(pool: Pool) -> None:
    one, two, five = (raysal.search(pool.path, key=["item-9", "item-20"], k=20, partitions=p) for p in (1, 2, 5))
    assert one.equals(two)
    assert one.equals(five)


def test_the_most_similar_item_is_the_copy_and_never_the_item_itself(pool: Pool) -> None:
    found = raysal.search(pool, key="item-3", k=1)
    assert found["key"].to_pylist() == ["item-41"]
    assert found["similarity"][0].as_py() == pytest.approx(1.0 if pool.metric == "cosine" else 0.0, abs=1e-5)
    everything = raysal.search(pool, key="item-3", k=10 * N)
    assert sorted(map(number, everything["key"].to_pylist())) == [i for i in range(N) if i not in (3, 5)]


def test_of_several_keys_the_nearest_counts(pool: Pool, x: NDArray[np.float32]) -> None:
    found = raysal.search(pool, key=["item-8", "item-30", "item-8"], k=15)
    agree(found, expected(x, pool, x[[8, 30]], [8, 30], 15))


@pytest.mark.parametrize(("name", "make"), [*MATRICES.items()])
def test_vectors_of_ones_own_in_any_container(name: str, make: Any, pool: Pool, x: NDArray[np.float32]) -> None:
    queries = np.random.default_rng(5).integers(-3, 4, (2, DIM)).astype(np.float32)
    agree(raysal.search(pool, vector=make(queries), k=9), expected(x, pool, queries, [], 9))


def test_a_vector_of_ones_own_and_several(pool: Pool, x: NDArray[np.float32]) -> None:
    query = np.linspace(-1, 1, DIM)
    agree(raysal.search(pool, vector=query.tolist(), k=9), expected(x, pool, query, [], 9))
    both = np.stack([query, x[7]])
    agree(raysal.search(pool, vector=both, k=9), expected(x, pool, both, [], 9))


def test_columns_come_along(pool: Pool) -> None:
    found = raysal.search(pool, key="item-9", k=20, columns=["label", "key", "id", "label"])
    assert found.column_names == ["rank", "key", "similarity", "uri", "label", "id"]
    for row in found.to_pylist():
        assert row["label"] == f"c{number(row['key']) % 3}"
        assert row["id"] == number(row["key"])


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({}, ConfigError, "nothing to search for; give exactly one of key, text, image"),
        ({"key": "item-1", "text": "x"}, ConfigError, "key and text to search for"),
        ({"key": "item-99"}, LabelError, "1 key is not in the pool: 'item-99'"),
        ({"key": "item-5"}, LabelError, "1 key is not in the pool: 'item-5'"),
        ({"key": []}, ConfigError, "an empty list of keys"),
        ({"text": "x"}, EncoderError, r"holds vectors \(encoder precomputed\), not texts; search by key"),
        ({"image": b"x"}, EncoderError, r"holds vectors \(encoder precomputed\), not images; search by key"),
        ({"vector": [1.0, 2.0]}, ConfigError, r"of shape \(2,\); the pool's vectors have 7 numbers"),
        ({"vector": "x"}, ConfigError, "not a vector of numbers"),
        ({"vector": ["1"] * DIM}, ConfigError, "not a vector of numbers: it holds '1'"),
        ({"vector": np.ones(DIM) * 1j}, ConfigError, "not a vector of numbers: complex"),
        ({"vector": np.ma.array(np.ones(DIM), mask=[1] + [0] * (DIM - 1))}, ConfigError, "a value is missing"),
        ({"vector": [None] * DIM}, ConfigError, "a value is missing"),
        ({"key": {"item-0"}}, ConfigError, "no column of values"),
        ({"vector": [np.nan] * DIM}, ConfigError, "it is not finite"),
        ({"key": "item-1", "k": 0}, ConfigError, "k: 0 is too small"),
        ({"key": "item-1", "columns": ["nonesuch"]}, PoolError, "has no column 'nonesuch'"),
        ({"key": "item-1", "columns": ["rank"]}, ConfigError, "every result has a 'rank' of its own"),
        ({"key": "item-1", "columns": "label"}, ConfigError, "'label' is not a list of names"),
        ({"key": "item-1", "backend": "spark"}, RaysalError, "unknown name 'spark'"),
    ],
)
def test_what_cannot_be_searched_for(pool: Pool, asked: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        raysal.search(pool, **asked)


def test_a_pool_of_one_item_has_nothing_like_it(tmp_path: Path) -> None:
    pool = make_pool(tmp_path / "pool", np.ones((1, 3)))
    assert raysal.search(pool, key="item-000000").num_rows == 0
    assert raysal.search(pool, vector=[0.0, 0.0, 0.0])["similarity"].to_pylist() == [0.0]


# With an index. faiss is an extra, and every search works without it.


def how(table: Any) -> str:
    return table.schema.metadata[b"found"].decode()


@pytest.fixture
def indexed(tmp_path: Path) -> Pool:
    """A pool of 400 items with an inverted-file index that looks at a quarter of its lists."""
    pytest.importorskip("faiss")
    pool = make_pool(tmp_path / "pool", mixture(400, 9, seed=3)[0], chunk_rows=90)
    plan = plan_index([chunk.rows for chunk in pool.chunks], pool.dim, kind="ivf_flat", memory=10**9)
    with open_fleet(pool, FleetConfig(backend="local")) as fleet:
        build_index(pool, fleet, plan)
    return pool


@pytest.mark.parametrize(
    "asked",
    [
        {"key": "item-000007"},
        {"key": ["item-000007", "item-000200", "item-000333"]},
        {"vector": np.stack([np.linspace(-1, 1, 9), np.linspace(-1.2, 1, 9), np.linspace(-1, 1.5, 9)])},
    ],
)
def test_an_index_is_used_unless_exactness_is_asked_for(indexed: Pool, asked: dict[str, Any]) -> None:
    exact = raysal.search(indexed, **asked, k=30, exact=True)
    found = raysal.search(indexed, **asked, k=30)
    assert how(exact) == "exact"
    trained = open_index(indexed).trained[:12]
    assert how(found).startswith(f"index ivf_flat 0001-{trained}, recall@50 ")
    similarity = dict(zip(exact["key"].to_pylist(), exact["similarity"].to_pylist(), strict=True))
    shared = [row for row in found.to_pylist() if row["key"] in similarity]
    assert len(shared) > 24
    for row in shared:
        assert row["similarity"] == pytest.approx(similarity[row["key"]], abs=1e-6)
    keys = found["key"].to_pylist()
    assert len(set(keys)) == 30
    own = asked.get("key", [])
    own = [own] if isinstance(own, str) else own
    assert not set(own) & set(keys)
    assert found["similarity"].to_pylist() == sorted(found["similarity"].to_pylist(), reverse=True)
    for partitions in (2, 5):
        assert raysal.search(indexed, **asked, k=30, partitions=partitions).equals(found)


def test_an_index_that_lacks_part_of_the_pool_or_cannot_be_read_here_is_not_used(
    indexed: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = raysal.search(indexed, key="item-000007", k=30, exact=True)
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        found = raysal.search(indexed, key="item-000007", k=30)
        assert (how(found), found.equals(exact)) == ("exact (faiss is not installed to read the index)", True)
    (indexed.path / "index" / "current.json").rename(indexed.path / "kept")  # a first build was killed at its last step
    found = raysal.search(indexed, key="item-000007", k=30)
    assert (how(found), found.equals(exact)) == ("exact", True)
    (indexed.path / "kept").rename(indexed.path / "index" / "current.json")
    current = open_index(indexed)
    replace(current, chunks=current.chunks[:-1]).write()
    found = raysal.search(indexed, key="item-000007", k=30)
    assert (how(found), found.equals(exact)) == (f"exact (the index lacks {indexed.chunks[-1].rows} rows)", True)


def test_a_damaged_index_is_named_and_an_exact_search_goes_on(indexed: Pool) -> None:
    shard = next((indexed.path / "index").glob("*/00000.faiss"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(Damaged, match=r"00000\.faiss.*raysal index build"):
        raysal.search(indexed, key="item-000007")
    assert raysal.search(indexed, key="item-000007", exact=True).num_rows == 10


# Images, through a tiny network.


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pool of 12 images by `torch:tiny_models:weighted`, beside the folder they lie in."""
    monkeypatch.syspath_prepend(str(MODELS))
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(12):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3)).astype(np.uint8)).save(tmp_path / "photos" / f"{i:02d}.png")
    raysal.embed(
        tmp_path / "photos", {"name": "torch:tiny_models:weighted", "size": 16}, out=tmp_path / "pool", metric="l2"
    )
    return tmp_path


def test_an_image_of_the_pool_finds_itself_and_then_what_its_key_finds(images: Path) -> None:
    photo = images / "photos" / "07.png"
    by_key = raysal.search(images / "pool", key="07.png", k=11)
    by_array = raysal.search(images / "pool", image=np.asarray(Image.open(photo)), k=12)
    for found in (
        raysal.search(images / "pool", image=photo, k=12),
        raysal.search(images / "pool", image=str(photo), k=12),
        raysal.search(images / "pool", image=photo.read_bytes(), k=12),
    ):
        assert found.equals(by_array)
    assert by_array["key"].to_pylist() == ["07.png", *by_key["key"].to_pylist()]
    assert by_array["similarity"][0].as_py() == pytest.approx(0, abs=1e-4)
    assert by_array["uri"][0].as_py() == str(photo)


def test_an_image_that_cannot_be_used(images: Path) -> None:
    broken = images / "broken.png"
    broken.write_bytes(b"nothing")
    with pytest.raises(BadItem, match=r"broken\.png: not an image of a known format"):
        raysal.search(images / "pool", image=broken)
    with pytest.raises(ConfigError, match=r"absent\.png: the image cannot be read \(No such file"):
        raysal.search(images / "pool", image=images / "absent.png")
    with pytest.raises(ConfigError, match="image: 3 is not a path"):
        raysal.search(images / "pool", image=3)  # type: ignore[arg-type]
    with pytest.raises(EncoderError, match=r"text: the pool holds images .*not texts; search by image or by key"):
        raysal.search(images / "pool", text="a cat")


def test_other_weights_are_refused(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tiny_models

    from raysal.embedding import custom

    for cache in (custom._fingerprint, custom._dim, custom.load_model):
        cache.cache_clear()
    monkeypatch.setattr(tiny_models, "weighted", tiny_models.other_weights)
    try:
        with pytest.raises(FingerprintMismatch, match=r"the fingerprint of torch:tiny_models:weighted is .*search by"):
            raysal.search(images / "pool", image=images / "photos" / "07.png")
        assert raysal.search(images / "pool", key="07.png", k=1).num_rows == 1, "no model is needed for this"
    finally:
        for cache in (custom._fingerprint, custom._dim, custom.load_model):
            cache.cache_clear()


def test_an_encoder_that_is_not_there_any_more(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from raysal.embedding import custom

    for cache in (custom._fingerprint, custom._dim, custom.load_model):
        cache.cache_clear()
    monkeypatch.delitem(sys.modules, "tiny_models")
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(MODELS)])
    with pytest.raises(EncoderError, match="torch:tiny_models:weighted: No module named 'tiny_models'"):
        raysal.search(images / "pool", image=images / "photos" / "07.png")


# Texts, through an encoder of the user's own.


@dataclass(frozen=True, kw_only=True)
class Letters:
    """How often each letter stands in a text."""

    scale: float = 1.0

    @property
    def modality(self) -> Literal["text"]:
        return "text"

    @property
    def dim(self) -> int:
        return 26

    def preprocessing(self) -> Mapping[str, Any]:
        return {}

    def fingerprint(self) -> str:
        return digest_of({"scale": self.scale})

    def prepare(self, key: str, payload: Any) -> str:
        text = check_text(key, payload)
        if text == "tilt":
            raise ZeroDivisionError("out of order")
        return text

    def encode(self, prepared: Sequence[str]) -> NDArray[np.float32]:
        rows = [np.bincount([ord(c) - 97 for c in text if "a" <= c <= "z"], minlength=26) for text in prepared]
        return (np.stack(rows) * self.scale).astype(np.float32)


TEXTS = ["the cat sat", "dogs bark", "a cat and a hat", "zzz"]
WHEN = [datetime.date(2020, 1, day) for day in (1, 2, 3, 4)]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    source = Memory(keys=list("abcd"), texts=TEXTS, carry={"when": WHEN})
    embed(source, Letters(), tmp_path / "texts")
    return tmp_path / "texts"


def test_a_text_through_an_encoder_in_the_registry(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from raysal.embedding import ENCODERS

    monkeypatch.setitem(ENCODERS._places, "Letters", f"{__name__}:Letters")
    found = raysal.search(texts, text="the cat sat", k=9, columns=["when"])
    assert found["key"].to_pylist() == ["a", "c", "b", "d"]
    assert found["similarity"][0].as_py() == pytest.approx(1)
    assert found["when"].to_pylist() == [WHEN[0], WHEN[2], WHEN[1], WHEN[3]]


def test_an_encoder_that_has_no_name_is_passed_in(texts: Path) -> None:
    with pytest.raises(EncoderError, match=r"its encoder 'Letters' cannot be made from its name \(unknown name"):
        raysal.search(texts, text="a hat")
    assert raysal.search(texts, text="a hat", k=1, encoder=Letters())["key"].to_pylist() == ["c"]
    with pytest.raises(FingerprintMismatch, match="the fingerprint of Letters"):
        raysal.search(texts, text="a hat", encoder=replace(Letters(), scale=2.0))
    with pytest.raises(ConfigError, match="is no encoder"):
        raysal.search(texts, text="a hat", encoder="sentence")  # type: ignore[arg-type]
    assert raysal.search(texts, key="a", k=1)["key"].to_pylist() == ["c"]


def test_a_text_that_cannot_be_used(texts: Path) -> None:
    with pytest.raises(BadItem, match="the text: empty text"):
        raysal.search(texts, text=" ", encoder=Letters())
    with pytest.raises(EncoderError, match=r"fails on the text \(ZeroDivisionError: out of order\)"):
        raysal.search(texts, text="tilt", encoder=Letters())
    with pytest.raises(BadItem, match="the text: a value of 70000 does not fit float16"):
        raysal.search(texts, text="z" * 70000, encoder=Letters())


COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "yellow": (0.7, 0.7, 0)}


@dataclass(frozen=True, kw_only=True)
class TwoTowers:
    """Pictures and texts in one space: the mean colour of a picture, and the colours that a text names."""

    modality: Literal["image"] = "image"
    dim: int = 3

    def preprocessing(self) -> Mapping[str, Any]:
        return {}

    def fingerprint(self) -> str:
        return digest_of({"colours": sorted(COLOURS)})

    def prepare(self, key: str, payload: Any) -> Any:
        return np.asarray(payload, np.float32).mean((0, 1)) / 255

    def encode(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
        return np.stack(prepared).astype(np.float32)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array([np.mean([COLOURS[w] for w in text.split() if w in COLOURS], 0) for text in texts], np.float32)


def test_a_text_finds_pictures_where_the_encoder_has_one_space_for_both(tmp_path: Path) -> None:
    pictures = [np.full((4, 4, 3), np.multiply(colour, 250), np.uint8) for colour in COLOURS.values()]
    made = raysal.embed(Memory(images=pictures, keys=list(COLOURS)), TwoTowers(), out=tmp_path / "pool")
    for colour in COLOURS:
        found = raysal.search(made, text=f"a {colour} car", k=1, encoder=TwoTowers())
        assert found["key"].to_pylist() == [colour]
        assert found["similarity"][0].as_py() == pytest.approx(1, abs=1e-3)
    with pytest.raises(EncoderError, match=r"the pool holds images .*, not texts"):
        raysal.search(made, text="a red car")  # nothing says that its encoder takes texts
