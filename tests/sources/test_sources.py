"""Each source by itself: what it takes, what it refuses, and the words of its errors."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from raysal.errors import BadItem, ConfigError, DuplicateKeys, SourceError
from raysal.sources import check_keys, detect_source, fashion_mnist
from raysal.sources.digits import Digits
from raysal.sources.fashion_mnist import FashionMnist
from raysal.sources.folder import Folder
from raysal.sources.memory import Memory
from raysal.sources.table import Table
from raysal.sources.text import Text
from raysal.types import Item


def items(source: Any, chunk_rows: int = 100) -> list[Item]:
    return [item for unit in source.units(chunk_rows) for item in source.read(unit)]


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


# folder


def test_folder_order_is_that_of_the_paths_and_hidden_ones_are_passed_over(tmp_path: Path) -> None:
    names = ["a.png", "a/x.jpg", "a-b/x.tif", "a/b/y.GIF", "b.webp", "é.bmp"]
    touch(tmp_path, *names, ".x.png", ".git/z.png", "readme.md", "a/.y.png")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert [item.key for item in items(Folder(path=tmp_path))] == sorted(names)
    assert [item.payload.decode() for item in items(Folder(path=tmp_path))] == sorted(names)
    assert [i.key for i in items(Folder(path=tmp_path, recursive=False))] == ["a.png", "b.webp", "é.bmp"]


def test_folder_fingerprint_follows_names_and_sizes(tmp_path: Path) -> None:
    source = Folder(path=touch(tmp_path, "a.png", "b.png"))
    before = source.fingerprint()
    (tmp_path / "a.png").write_bytes(b"longer than before")
    assert source.fingerprint() != before
    (tmp_path / "a.png").write_bytes(b"a.png")
    assert source.fingerprint() == before
    (tmp_path / "a.png").rename(tmp_path / "c.png")
    assert source.fingerprint() != before


def test_folder_file_that_goes_away_is_a_bad_item(tmp_path: Path) -> None:
    source = Folder(path=touch(tmp_path, "a.png", "b.png"))
    unit = next(source.units(2))
    (tmp_path / "a.png").unlink()
    bad, good = source.read(unit)
    assert isinstance(bad.payload, BadItem)
    assert (bad.key, bad.payload.where, good.payload) == ("a.png", "a.png", b"b.png")


@pytest.mark.parametrize("recursive", [True, False])
def test_folder_without_images_and_no_folder(tmp_path: Path, recursive: bool) -> None:
    touch(tmp_path, "a.txt", ".b.png")
    with pytest.raises(SourceError, match="no images in this folder"):
        list(Folder(path=tmp_path, recursive=recursive).units(3))
    with pytest.raises(SourceError, match="no such file or directory"):
        list(Folder(path=tmp_path / "x").units(3))
    with pytest.raises(SourceError, match="is a file"):
        list(Folder(path=tmp_path / "a.txt").units(3))


# table


def write(path: Path, **columns: Any) -> Path:
    rows = pa.table(columns)
    if path.suffix == ".parquet":
        pq.write_table(rows, path, row_group_size=3)
    else:
        pyarrow.feather.write_feather(rows, path, compression="uncompressed", chunksize=3)
    return path


KEYS = [f"k{i}" for i in range(8)]


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "feather", "ipc"])
@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()])
@pytest.mark.parametrize("size", [-1, 2])
def test_table_vectors_of_every_type(tmp_path: Path, suffix: str, kind: pa.DataType, size: int) -> None:
    values = [[np.float16(i), np.float16(-i / 2)] for i in range(8)]
    source = Table(path=write(tmp_path / f"t.{suffix}", key=KEYS, v=pa.array(values, pa.list_(kind, size))))
    assert (source.modality, source.vector_dim()) == ("vector", 2)
    assert np.array_equal([item.payload for item in items(source, 5)], np.array(values, np.float32))


@pytest.mark.parametrize("size", [-1, 2])
def test_table_null_vectors_are_bad_items_and_shift_nothing(tmp_path: Path, size: int) -> None:
    values = [None, [1.0, 2.0], [3.0, None], None, [5.0, 6.0], [7.0, 8.0], None, [9.0, 10.0]]
    source = Table(path=write(tmp_path / "t.parquet", key=KEYS, v=pa.array(values, pa.list_(pa.float32(), size))))
    assert source.vector_dim() == 2
    for item, expected in zip(items(source, 5), values, strict=True):
        if expected is None or None in expected:
            assert isinstance(item.payload, BadItem)
        else:
            assert np.array_equal(item.payload, np.array(expected, np.float32))


def test_table_directory_is_read_in_name_order_with_its_types(tmp_path: Path) -> None:
    write(tmp_path / "b.parquet", key=[3, 4], text=["c", "d"], n=[3, 4])
    write(tmp_path / "a.parquet", key=[1, 2], text=["a", None], n=[1, 2])
    touch(tmp_path, "_metadata.parquet", ".c.parquet", "notes.txt")
    found = items(Table(path=tmp_path, carry=("n",)), 3)
    assert [(item.key, item.carried["n"]) for item in found] == [("1", 1), ("2", 2), ("3", 3), ("4", 4)]
    assert isinstance(found[1].payload, BadItem)


def test_table_guesses_the_payload_column(tmp_path: Path) -> None:
    vector = pa.array([[1.0]] * 8)
    picture, words = pa.array([b"x"] * 8), ["w"] * 8
    assert Table(path=write(tmp_path / "a.parquet", key=KEYS, text=words)).modality == "text"
    assert Table(path=write(tmp_path / "b.parquet", key=KEYS, text=words, i=picture)).modality == "image"
    two = write(tmp_path / "c.parquet", key=KEYS, vector=vector, other=vector, i=picture)
    assert Table(path=two).modality == "vector"
    assert Table(path=two, image_column="i").modality == "image"
    with pytest.raises(SourceError, match=r"its columns: key \(string\), p \(list.*--vector-column"):
        list(Table(path=write(tmp_path / "d.parquet", key=KEYS, p=vector, q=vector)).modality)


def test_table_refusals_name_file_row_and_fix(tmp_path: Path) -> None:
    words = ["w"] * 8
    null = write(tmp_path / "null.parquet", key=[*KEYS[:5], None, *KEYS[6:]], text=words)
    with pytest.raises(SourceError, match=r"null.parquet: row 5: the key is null"):
        list(Table(path=null).units(3))
    with pytest.raises(SourceError, match=r"no column 'id'; its columns: key, text; .*--key-column"):
        list(Table(path=null, key_column="id").units(3))
    with pytest.raises(SourceError, match="holds string, not vectors"):
        list(Table(path=null, vector_column="text").modality)
    with pytest.raises(ConfigError, match="both given"):
        Table(path=null, vector_column="a", text_column="b")
    with pytest.raises(ConfigError, match="used by the pool itself"):
        Table(path=null, carry=("owner",))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(SourceError, match=r"broken.parquet: cannot be read"):
        list(Table(path=tmp_path / "broken.parquet").units(3))


# text


def test_text_columns_can_be_chosen_and_texts_hold_what_they_like(tmp_path: Path) -> None:
    long = "word " * 60_000
    file = tmp_path / "t.csv"
    file.write_text(f'id,words,label\n1,"two\nlines, ""quoted""",x\n2,{long},\n', encoding="utf-8-sig")
    found = items(Text(path=file, key_column="id", text_column="words", carry=("label",)))
    assert [(i.key, i.payload, i.carried["label"]) for i in found] == [
        ("1", 'two\nlines, "quoted"', "x"),
        ("2", long, ""),
    ]


def test_json_lines_carry_text_of_one_type(tmp_path: Path) -> None:
    file = tmp_path / "t.ndjson"
    rows = [
        {"key": 1, "text": "a", "c": 1},
        {"key": "b", "text": "ä", "c": {"x": [1]}},
        {"key": "c", "text": "c"},
    ]
    file.write_text("\n\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    found = items(Text(path=file, carry=("c",)), 2)
    assert [(i.key, i.payload, i.carried["c"]) for i in found] == [
        ("1", "a", "1"),
        ("b", "ä", '{"x": [1]}'),
        ("c", "c", None),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"id,text\n1,a\n", r"no column 'key'; its columns: id, text; choose one with --key-column"),
        ("t.csv", b"key,words\n1,a\n", r"no column 'text'.*--text-column"),
        ("t.csv", b"key,text\n1,a\n,b\n", "line 3: the key is empty"),
        ("t.csv", b"key,text\n1,a,b\n", "line 2: more fields than the header has"),
        ("t.csv", b"key,text\n1,\xff\n", "not UTF-8"),
        ("t.jsonl", b'{"key": 1, "text": "a"}\n{"key": 2,\n', "line 2: not JSON"),
        ("t.jsonl", b'{"key": null, "text": "a"}\n', "line 1: the key is null"),
        ("t.jsonl", b"[1]\n", "line 1: not a JSON object"),
        ("t.txt", b"words", "not one of .csv"),
    ],
)
def test_text_refusals_name_the_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=message):
        list(Text(path=tmp_path / name).units(3))


# fashion_mnist


@pytest.fixture
def tiny_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data set of three images in the format of Fashion-MNIST, which a server on this machine offers."""
    served, (images, labels, _) = tmp_path / "served", fashion_mnist.FILES["test"]
    served.mkdir()
    bodies = {images: bytes(16) + bytes(range(3)) * 784, labels: bytes(8) + bytes([9, 0, 1])}
    for name, body in bodies.items():
        (served / f"{name}.gz").write_bytes(gzip.compress(body))
        monkeypatch.setitem(fashion_mnist.SHA256, name, hashlib.sha256(body).hexdigest())
    monkeypatch.setitem(fashion_mnist.FILES, "test", (images, labels, 3))
    monkeypatch.setattr(fashion_mnist, "SYSTEM_DIR", tmp_path / "no-system")
    monkeypatch.setattr(fashion_mnist, "CACHE_DIR", tmp_path / "cache")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(served))

        def log_message(self, *args: Any) -> None:
            """Print nothing."""

    fashion_mnist._load.cache_clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setattr(fashion_mnist, "URL", f"http://127.0.0.1:{server.server_port}")
        yield served
        server.shutdown()
        thread.join()
    fashion_mnist._load.cache_clear()


def test_fashion_mnist_is_downloaded_once_and_checked(tiny_mnist: Path, tmp_path: Path) -> None:
    found = items(FashionMnist())
    assert [(i.key, i.carried["label"], i.payload.shape) for i in found] == [
        ("test/00000", "Ankle boot", (28, 28)),
        ("test/00001", "T-shirt/top", (28, 28)),
        ("test/00002", "Trouser", (28, 28)),
    ]
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == sorted(p.name for p in tiny_mnist.iterdir())
    for file in tiny_mnist.iterdir():
        file.unlink()
    fashion_mnist._load.cache_clear()
    assert len(items(FashionMnist())) == 3
    damaged = next((tmp_path / "cache").glob("*images*"))
    damaged.write_bytes(gzip.compress(b"other"))
    fashion_mnist._load.cache_clear()
    with pytest.raises(SourceError, match=r"cache/t10k-images.*sha256.*delete it"):
        items(FashionMnist())


def test_fashion_mnist_that_cannot_be_had_says_where_it_was_looked_for(tiny_mnist: Path, tmp_path: Path) -> None:
    for file in tiny_mnist.iterdir():
        file.unlink()
    with pytest.raises(SourceError, match=r"mine.*no-system.*cache.*apt install dataset-fashion-mnist.*--data"):
        items(FashionMnist(data=tmp_path / "mine"))
    assert not (tmp_path / "cache").exists()


def test_fashion_mnist_can_be_thinned(tiny_mnist: Path) -> None:
    whole, none_left = FashionMnist(), FashionMnist(thin={"T-shirt/top": 0.0})
    first, _, last = items(whole)
    for chunk_rows in (1, 2, 5):
        left = items(none_left, chunk_rows)
        assert [(i.key, i.carried["label"]) for i in left] == [("test/00000", "Ankle boot"), ("test/00002", "Trouser")]
        assert all((a.payload == b.payload).all() for a, b in zip(left, (first, last), strict=True))
    assert [i.key for i in items(FashionMnist(thin={"Trouser": 1.0}))] == [i.key for i in items(whole)]
    assert whole.fingerprint() != none_left.fingerprint() != FashionMnist(thin={"T-shirt/top": 0.5}).fingerprint()
    assert whole.fingerprint() == FashionMnist(thin={}).fingerprint()


def test_of_a_thinned_class_the_asked_share_stays_and_less_is_part_of_more() -> None:
    labels = np.repeat(np.arange(10, dtype=np.uint8), 200)
    few, more = (set(FashionMnist(thin={"Dress": share})._kept(labels).tolist()) for share in (0.01, 0.25))
    assert [len(kept) for kept in (few, more)] == [1800 + 2, 1800 + 50]
    assert few < more


@pytest.mark.parametrize(("thin", "problem"), [({"Hat": 0.1}, "'Hat' is not a class"), ({"Bag": 1.5}, r"Bag.*1.5 is")])
def test_fashion_mnist_names_what_cannot_be_thinned(thin: dict[str, float], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        FashionMnist(thin=thin)


# keys, memory, detection


def test_duplicate_keys_are_named_across_chunks() -> None:
    source = Memory(vectors=np.zeros((7, 2)), keys=["a", "b", "c", "a", "d", "c", "a"])
    with pytest.raises(DuplicateKeys) as caught:
        check_keys(source, 2)
    assert caught.value.keys == ("a", "c")


def test_equal_hashes_are_not_equal_keys() -> None:
    class Clash(str):
        __slots__ = ()

        def __hash__(self) -> int:
            return 1

    class Clashing(Memory):
        def units(self, chunk_rows: int) -> Any:
            for unit in super().units(chunk_rows):
                object.__setattr__(unit, "keys", tuple(Clash(key) for key in unit.keys))
                yield unit

    assert check_keys(Clashing(vectors=np.zeros((3, 2)), keys=list("abc")), 2) == (3, 2)


def test_memory_refuses_what_does_not_fit() -> None:
    with pytest.raises(ConfigError, match=r"memory.keys: 2 values for 3 vectors"):
        Memory(vectors=np.zeros((3, 2)), keys=list("ab"))
    with pytest.raises(ConfigError, match="needs one of"):
        Memory(keys=())
    with pytest.raises(SourceError, match="no items"):
        check_keys(Memory(texts=[], keys=[]), 3)


def test_detect_source_goes_by_what_lies_there(tmp_path: Path) -> None:
    touch(tmp_path, "images/a/b.png", "t.csv", "t.jsonl", "x.bin", "mixed/a.png")
    (tmp_path / "tables").mkdir()
    for place in ("tables/a.parquet", "t.arrow", "mixed/t.parquet"):
        write(tmp_path / place, key=KEYS, text=KEYS)
    kinds = {"images": Folder, "t.csv": Text, "t.jsonl": Text, "tables": Table, "t.arrow": Table}
    for name, kind in kinds.items():
        assert type(detect_source(tmp_path / name, key_column=None, carry=())) is kind
    assert detect_source("digits") == Digits()
    assert detect_source("fashion_mnist", split="train") == FashionMnist(split="train")
    assert detect_source(str(tmp_path / "t.csv"), key_column="id", carry=["a"]) == Text(
        path=tmp_path / "t.csv", key_column="id", carry=("a",)
    )
    for path, message in (("s3://key:hidden@bucket/x", "holds a password"), (tmp_path / "no", "no such file")):
        with pytest.raises(SourceError, match=message):
            detect_source(path)
    with pytest.raises(SourceError, match="both tables and images"):
        detect_source(tmp_path / "mixed")
    with pytest.raises(SourceError, match="unknown kind"):
        detect_source(tmp_path / "x.bin")
    with pytest.raises(ConfigError, match=r"source.key_column: 'folder' has no such field"):
        detect_source(tmp_path / "images", key_column="id")
