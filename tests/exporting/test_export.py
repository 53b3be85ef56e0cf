"""Items come out of a pool as they went in: the same bytes, keys and labels, whatever happened on the way."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_tools import cli, process, refused, write_images, write_vectors
from numpy.typing import NDArray
from PIL import Image
from pools import make_pool
from tiers import deep_unless

import raysal
from raysal.errors import ConfigError, Damaged, LabelError, MediaLost, MissingExtra, PoolError, RunError, SourceError
from raysal.exporting import FORMS
from raysal.exporting.base import Entry, Media, media_of
from raysal.exporting.media import Listing
from raysal.exporting.tar import TarShard
from raysal.labels import read_labels
from raysal.pool import Pool, open_pool
from raysal.sources import SOURCES
from raysal.sources.listing import units_of, wanted_positions
from raysal.types import Item, Modality, Pixels, Unit

TINY = ("--encoder", "torch:tiny_encoder:build", "--size", 12)
ODD = ("even/v1.2 ü.jpg", "even/a%b.JPG", "odd/x.y/z.png")
"""Keys with dots, blanks, percent signs and a suffix in capitals."""
LABELS = {"even/00.jpg": "red", "odd/01.jpg": "green", "even/02.jpg": "a/b", "odd/03.jpg": "red"}
HEAVY = ("faiss", "matplotlib", "pandas", "polars", "ray", "scipy", "sklearn", "torch")
MEDIA = [form for form in FORMS if form != "csv"]


@dataclass(frozen=True, kw_only=True)
class Listed:
    """Items that are found by their unit."""

    names: tuple[str, ...]
    modality: Literal["text"] = "text"

    def fingerprint(self) -> str:
        return "f" * 64

    def units(self, chunk_rows: int) -> Iterator[Unit]:
        return units_of(self.names, chunk_rows)

    def read(self, unit: Unit, only: Collection[int] | None = None) -> Iterator[Item]:
        for position in wanted_positions(unit, only):
            yield Item(key=unit.keys[position], payload=f"payload of {unit.keys[position]}")


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """An encoder of texts: how long they are."""

    modality: Modality = "text"
    dim: int = 2

    def preprocessing(self) -> Mapping[str, Any]:
        return {}

    def fingerprint(self) -> str:
        return "e" * 64

    def prepare(self, key: str, payload: Any) -> int:
        return len(payload)

    def encode(self, prepared: Sequence[int]) -> NDArray[np.float32]:
        return np.array([[number, 1.0] for number in prepared], np.float32)


def photos_in(folder: Path) -> Path:
    write_images(folder, 20)
    for place, key in enumerate(ODD):
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9 + place, 7), (10 * place, 200, 30)).save(folder / key)
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos, their pool, and a run with four labels and a dispute."""
    home = tmp_path_factory.mktemp("export")
    photos_in(home / "photos")
    assert cli("embed", home / "photos", *TINY, "--out", home / "pool", "--chunk-rows", 6).code == 0
    rows = "".join(f"{key},{label},\n" for key, label in LABELS.items()) + "odd/05.jpg,red,ann\nodd/05.jpg,green,bob\n"
    (home / "labels.csv").write_text("key,label,annotator\n" + rows, encoding="utf-8")
    assert cli("label", "import", home / "run", home / "labels.csv", "--pool", home / "pool").code == 0
    return home


def needs(form: str) -> None:
    """Skip a test of a form that is not installed."""
    if form == "lance":
        pytest.importorskip("lance", reason="pylance is not installed")


def tree(folder: Path) -> dict[str, bytes]:
    """Every file and link below a folder, but those that Lance writes as it commits."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name.startswith(("_versions", "_transactions")):
            continue
        if path.is_symlink():
            found[name] = b"-> " + os.readlink(path).encode()
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


def vectors_of(pool: Pool) -> dict[str, tuple[float, ...]]:
    return {
        key: tuple(row)
        for chunk in pool.chunks
        for key, row in zip(chunk.items(["key"])["key"].to_pylist(), chunk.vectors().tolist(), strict=True)
    }


def samples(folder: Path) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
    """(name, media, facts) of each sample of tar shards, by Python's own reader."""
    for path in sorted((folder / "data").glob("*.tar")):
        with tarfile.open(path) as file:
            members = file.getmembers()
            assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}
            for media, facts in zip(members[::2], members[1::2], strict=True):
                stem, dot, _ = media.name.partition(".")
                assert facts.name == f"{stem}{dot}json"
                content = [file.extractfile(m).read() for m in (media, facts)]  # type: ignore[union-attr]
                yield media.name, content[0], json.loads(content[1])


def sums_hold(folder: Path) -> None:
    """As people check it, by the tool of the system; every file but the records is named."""
    done = subprocess.run(["sha256sum", "-c", "--quiet", "--strict", "SHA256SUMS"], cwd=folder, check=False)
    assert done.returncode == 0
    named = {line[66:] for line in (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()}
    assert {*tree(folder)} == named | {"export.json", "manifest.json", "SHA256SUMS", ".lock"}


# what comes out


@pytest.mark.parametrize("form", FORMS)
def test_every_item_is_there_as_it_was_and_the_sums_hold(home: Path, tmp_path: Path, form: str) -> None:
    needs(form)
    done = raysal.export(home / "pool", out=tmp_path / "out", form=form, shard_items=7)
    assert (done.items, done.exported, done.lost, done.shards, done.made) == (23, 23, 0, 4, True)
    sums_hold(tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "items.parquet").to_pylist()
    items = pa.concat_tables(open_pool(home / "pool").items(["key", "id", "uri"])).to_pylist()
    assert [{name: row[name] for name in ("key", "id", "uri")} for row in rows] == items
    for row in rows if form != "csv" else ():
        content = (home / "photos" / row["key"]).read_bytes()
        assert (row["bytes"], row["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        if form in ("links", "coco"):
            assert (tmp_path / "out" / "data" / row["member"]).read_bytes() == content
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["pool"] == open_pool(home / "pool").fingerprint
    assert manifest["source"]["config"]["path"] == str(home / "photos")
    again = raysal.export(home / "pool", out=tmp_path / "out", form=form, shard_items=7)
    assert (again.made, again.items, again.bytes) == (False, 23, done.bytes)


@pytest.mark.parametrize(
    ("form", "more"), [("parquet", {}), ("links", {}), ("links", {"copy": True}), ("webdataset", {})]
)
def test_what_is_embedded_again_has_the_same_vectors(
    home: Path, tmp_path: Path, form: str, more: dict[str, bool]
) -> None:
    if form == "webdataset" and form not in SOURCES:
        pytest.skip("this raysal does not read tar shards")
    raysal.export(home / "pool", out=tmp_path / "out", form=form, shard_items=9, **more)
    words = ("--key-column", "json.key") if form == "webdataset" else ()
    assert cli("embed", tmp_path / "out" / "data", *TINY, *words, "--out", tmp_path / "pool").code == 0
    before, after = vectors_of(open_pool(home / "pool")), vectors_of(open_pool(tmp_path / "pool"))
    if form == "links":  # a percent sign in a key is written as %25
        after = {key.replace("%25", "%"): row for key, row in after.items()}
    assert after == before


def test_webdataset_has_media_and_json_side_by_side(home: Path, tmp_path: Path) -> None:
    raysal.export(home / "pool", out=tmp_path / "out", form="webdataset", run=home / "run", shard_items=3)
    found = list(samples(tmp_path / "out"))
    assert {facts["key"]: facts["label"] for _, _, facts in found} == LABELS
    for name, content, facts in found:
        assert content == (home / "photos" / facts["key"]).read_bytes()
        assert name.endswith(".jpg")
        assert name.count(".") == 1
    assert len(list((tmp_path / "out" / "data").iterdir())) == 2


def test_numbers_of_a_file_are_exported_as_they_are() -> None:
    """Of 8 bits a picture, else an array; both are read back to the bit."""
    wide = np.random.default_rng(0).normal(size=(5, 6, 4)).astype(np.float32)
    made = media_of(Item(key="a", payload=Pixels(values=wide, channels=tuple("GIRH"), stated=(0, 1))))
    assert made.suffix == ".npy"
    assert np.array_equal(np.load(io.BytesIO(made.content)), wide)
    plain = np.arange(90, dtype=np.uint8).reshape(5, 6, 3)
    made = media_of(Item(key="a", payload=Pixels(values=plain, channels=tuple("GIR"))))
    assert made.suffix == ".png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(made.content))), plain)


def test_long_names_and_media_of_any_size_are_read_by_every_tar(tmp_path: Path) -> None:
    sizes = (0, 1, 511, 512, 513, 20_000)
    entries = [
        Entry(id=size, key=f"{size}/{'long ' * (size % 60)}猫.jpg", uri=None, media=Media(os.urandom(size), ".jpg"))
        for size in sizes
    ]
    shard = TarShard(tmp_path / "a.tar")
    members = [shard.add(entry).member for entry in entries]
    shard.close()
    assert max(len(str(member)) for member in members) > 150
    assert (tmp_path / "a.tar").stat().st_size % tarfile.RECORDSIZE == 0
    with tarfile.open(tmp_path / "a.tar") as file:
        assert file.getnames()[::2] == members
        read = [file.extractfile(str(member)).read() for member in members]  # type: ignore[union-attr]
    assert read == [entry.media.content for entry in entries if entry.media is not None]
    listed = subprocess.run(["tar", "tf", tmp_path / "a.tar"], capture_output=True, text=True, check=True)
    assert listed.stdout.split()[::2] == members


def test_the_reader_of_webdataset_sees_the_same_samples(home: Path, tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset", reason="webdataset is not installed")
    raysal.export(home / "pool", out=tmp_path / "out", form="webdataset", shard_items=10)
    urls = [str(path) for path in sorted((tmp_path / "out" / "data").glob("*.tar"))]
    read = list(wds.WebDataset(urls, shardshuffle=False).decode("pil"))
    own = list(samples(tmp_path / "out"))
    assert [sample["json"] for sample in read] == [facts for _, _, facts in own]
    for sample in read:
        with Image.open(home / "photos" / sample["json"]["key"]) as image:
            picture = next(value for name, value in sample.items() if name in ("jpg", "png"))
            assert picture.size == image.size


def test_pandas_and_hugging_face_read_the_parquet(home: Path, tmp_path: Path) -> None:
    raysal.export(home / "pool", out=tmp_path / "out", form="parquet", run=home / "run", vectors=True, shard_items=3)
    files = [str(path) for path in sorted((tmp_path / "out" / "data").glob("*.parquet"))]
    pd = pytest.importorskip("pandas")
    frame = pd.concat([pd.read_parquet(file) for file in files])
    assert dict(zip(frame["key"], frame["label"], strict=True)) == LABELS
    vectors = vectors_of(open_pool(home / "pool"))
    assert all(tuple(row) == vectors[key] for key, row in zip(frame["key"], frame["vector"], strict=True))
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    data = datasets.Dataset.from_parquet(files, cache_dir=str(tmp_path / "cache"))
    assert isinstance(data.features["image"], datasets.Image)
    for row in data:
        with Image.open(home / "photos" / row["key"]) as image:
            assert row["image"].size == image.size


def test_lance_reads_the_table(home: Path, tmp_path: Path) -> None:
    needs("lance")
    import lance

    words: dict[str, Any] = {"form": "lance", "run": home / "run", "vectors": True, "shard_items": 3}
    raysal.export(home / "pool", out=tmp_path / "out", **words)
    table = lance.dataset(str(tmp_path / "out")).to_table()
    vectors = vectors_of(open_pool(home / "pool"))
    assert dict(zip(table["key"].to_pylist(), table["label"].to_pylist(), strict=True)) == LABELS
    for row in table.to_pylist():
        assert row["image"] == (home / "photos" / row["key"]).read_bytes()
        assert tuple(row["vector"]) == vectors[row["key"]]
    shutil.rmtree(tmp_path / "out" / "_versions")
    with pytest.raises(Damaged, match="the record of the Lance table is missing"):
        raysal.export(home / "pool", out=tmp_path / "out", **words)


def test_lance_files_have_the_same_bytes_each_time(tmp_path: Path) -> None:
    """Also of texts long enough that Lance would compress them by a sample."""
    needs("lance")
    rng = np.random.default_rng(0)
    keys = [f"folder {i % 7}/{rng.integers(10**9):x}/picture {i}.jpg" for i in range(4000)]
    pool = make_pool(tmp_path / "pool", rng.normal(size=(4000, 4)), labels=keys, keys=keys)
    found = []
    for place in "abc":
        raysal.export(pool, out=tmp_path / place, form="lance", vectors=True)
        found.append(tree(tmp_path / place))
    assert found[0] == found[1] == found[2]


def test_without_lance_its_extra_is_named(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lance", None)
    monkeypatch.setitem(sys.modules, "lance.file", None)
    with pytest.raises(MissingExtra, match=r"raysal\[lance\]"):
        raysal.export(home / "pool", out=tmp_path / "out", form="lance")
    assert not (tmp_path / "out").exists()


def test_links_lie_in_a_folder_of_their_class(home: Path, tmp_path: Path) -> None:
    raysal.export(home / "pool", out=tmp_path / "out", form="links", run=home / "run")
    links = tree(tmp_path / "out" / "data")
    assert {*links} == {"red/even/00.jpg", "green/odd/01.jpg", "a%2Fb/even/02.jpg", "red/odd/03.jpg"}
    assert links["red/odd/03.jpg"].decode() == f"-> {home / 'photos' / 'odd' / '03.jpg'}"
    copies = tmp_path / "copies"
    raysal.export(home / "pool", out=copies, form="links", run=home / "run", copy=True)
    assert not any(path.is_symlink() for path in copies.rglob("*"))
    assert tree(copies / "data") == {name: (tmp_path / "out" / "data" / name).read_bytes() for name in links}


def test_coco_says_the_labels_and_is_read_back(home: Path, tmp_path: Path) -> None:
    raysal.export(home / "pool", out=tmp_path / "out", form="coco", run=home / "run")
    found = json.loads((tmp_path / "out" / "images.json").read_text(encoding="utf-8"))
    for image in found["images"]:
        with Image.open(tmp_path / "out" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"])
    assert [category["name"] for category in found["categories"]] == ["a/b", "green", "red"]
    labels = read_labels(tmp_path / "out" / "images.json").labels
    assert {label.key: label.label for label in labels} == LABELS


def test_csv_has_the_columns_that_the_pool_carries(tmp_path: Path) -> None:
    source = write_vectors(tmp_path / "items.parquet", rows=30)
    pool = raysal.embed({"name": "table", "path": source, "carry": ["label"]}, out=tmp_path / "pool", chunk_rows=8)
    raysal.export(pool, out=tmp_path / "out", form="csv", where={"label": ["class-0", "class-2"]})
    with open(tmp_path / "out" / "data" / "00000.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    expected = [row for row in pq.read_table(source, columns=["key", "label"]).to_pylist() if row["label"] != "class-1"]
    assert [{"key": row["key"], "label": row["label"]} for row in rows] == expected
    with raysal.Session(tmp_path / "run", pool) as session:
        session.tell({"item-0003": "mine"})
    raysal.export(pool, out=tmp_path / "told", form="csv", run=tmp_path / "run")
    told = (tmp_path / "told" / "data" / "00000.csv").read_text()
    assert told.splitlines()[0] == "key,id,uri,label,carried_label"
    assert told.splitlines()[1].startswith("item-0003,3,,mine,class-")


def test_ready_vectors_have_no_media(tmp_path: Path) -> None:
    pool = raysal.embed(write_vectors(tmp_path / "items.parquet", rows=30), out=tmp_path / "pool", chunk_rows=8)
    for form in ("webdataset", "links", "coco"):
        with pytest.raises(ConfigError, match="ready vectors, without media"):
            raysal.export(pool, out=tmp_path / form, form=form)
        assert not (tmp_path / form).exists()
    raysal.export(pool, out=tmp_path / "out", form="parquet", vectors=True, shard_items=11)
    again = raysal.embed(tmp_path / "out" / "data", out=tmp_path / "again")
    assert vectors_of(again) == vectors_of(pool)


def test_pixels_without_a_file_become_png(tmp_path: Path) -> None:
    assert cli("embed", "digits", *TINY[:2], "--size", 8, "--out", tmp_path / "pool", "--chunk-rows", 500).code == 0
    refused(cli("export", tmp_path / "pool", "--as", "links", "-o", tmp_path / "links"), "--copy")
    assert not (tmp_path / "links").exists()
    words = ("--where", 'label="3"', "--shard-items", 100)
    assert cli("export", tmp_path / "pool", "--as", "parquet", "-o", tmp_path / "out", *words).code == 0
    table = ("--out", tmp_path / "again")
    assert cli("embed", tmp_path / "out" / "data", *TINY[:2], "--size", 8, *table).code == 0
    before, after = vectors_of(open_pool(tmp_path / "pool")), vectors_of(open_pool(tmp_path / "again"))
    assert len(after) == 183
    assert after == {key: before[key] for key in after}


def test_texts_come_out_as_texts(tmp_path: Path) -> None:
    texts = {f"t{i}.v{i}": f"line {i}\n\u732b " * (i + 1) for i in range(9)}
    rows = [{"key": key, "text": text} for key, text in texts.items()]
    (tmp_path / "texts.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    pool = raysal.embed(tmp_path / "texts.jsonl", Lengths(), out=tmp_path / "pool", chunk_rows=4)
    raysal.export(pool, out=tmp_path / "tar", form="webdataset")
    assert {facts["key"]: content.decode() for _, content, facts in samples(tmp_path / "tar")} == texts
    raysal.export(pool, out=tmp_path / "parquet", form="parquet")
    table = pq.read_table(tmp_path / "parquet" / "data" / "00000.parquet")
    assert dict(zip(table["key"].to_pylist(), table["text"].to_pylist(), strict=True)) == texts
    with pytest.raises(ConfigError, match="texts"):
        raysal.export(pool, out=tmp_path / "coco", form="coco")


# which items


def chosen(home: Path, out: Path, **how: Any) -> list[str]:
    raysal.export(home / "pool", out=out, form="csv", **how)
    keys: list[str] = pq.read_table(out / "items.parquet")["key"].to_pylist()
    return keys


def test_items_are_chosen_by_keys_in_any_file(home: Path, tmp_path: Path) -> None:
    keys = ["odd/x.y/z.png", "even/00.jpg", "even/v1.2 ü.jpg"]
    (tmp_path / "keys.txt").write_text("\n".join(keys) + "\r\n\n", encoding="utf-8")
    pq.write_table(pa.table({"n": [1, 2, 3], "key": keys}), tmp_path / "keys.parquet")
    (tmp_path / "keys.csv").write_text("key,label\n" + "".join(f"{key},\n" for key in keys), encoding="utf-8")
    expected = ["even/00.jpg", "even/v1.2 ü.jpg", "odd/x.y/z.png"]
    for place, given in enumerate([keys, *(tmp_path / f"keys.{kind}" for kind in ("txt", "parquet", "csv"))]):
        assert chosen(home, tmp_path / str(place), keys=given) == expected


def test_an_unknown_key_is_named_and_nothing_is_written(home: Path, tmp_path: Path) -> None:
    (tmp_path / "keys.txt").write_text("even/00.jpg\neven/0O.jpg\n")
    words = ("export", home / "pool", "--as", "csv", "-o", tmp_path / "out")
    refused(cli(*words, "--keys", tmp_path / "keys.txt"), "1 key is not in the pool", "'even/0O.jpg'")
    assert not (tmp_path / "out").exists()


def test_items_are_chosen_by_the_labels_of_a_run(home: Path, tmp_path: Path) -> None:
    assert chosen(home, tmp_path / "all", run=home / "run") == sorted(LABELS)
    assert chosen(home, tmp_path / "red", run=home / "run", classes="red") == ["even/00.jpg", "odd/03.jpg"]
    said = cli("export", home / "pool", "--as", "csv", "-o", tmp_path / "said", "--run", home / "run", "--json").json
    assert said["left_out"] == {"disputed": 1}
    with pytest.raises(ConfigError, match=r"no item has the label 'blue'.*green, red"):
        chosen(home, tmp_path / "blue", run=home / "run", classes=["blue"])


def test_items_are_chosen_from_a_ranking(home: Path, tmp_path: Path) -> None:
    pool = open_pool(home / "pool")
    ranking = raysal.rank(home / "run", out=tmp_path / "ranking", score="entropy")
    first = ranking.page(0, 5).select(["key", "rank", "score"]).to_pylist()
    raysal.export(pool, out=tmp_path / "out", form="parquet", ranking=tmp_path / "ranking", k=5)
    rows = pq.read_table(tmp_path / "out" / "data" / "00000.parquet", columns=["key", "rank", "score"]).to_pylist()
    assert sorted(rows, key=lambda row: row["rank"]) == first


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"keys": ["even/00.jpg"], "run": "run"}, "name different items"),
        ({"classes": ["red"]}, "name the run"),
        ({"k": 3}, "name the ranking"),
        ({"ranking": "ranking"}, "how many items"),
        ({"where": {"nothing": 1}}, "the pool has no such column"),
        ({"where": {}}, "names no column"),
        ({"where": {"key": "none"}}, "no item is chosen"),
        ({"vectors": True}, "csv holds no vectors"),
        ({"copy": True}, "is of links"),
        ({"shard_items": 0}, "too small"),
        ({"max_lost": 2}, "not a share"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(
    home: Path, tmp_path: Path, how: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        chosen(home, tmp_path / "out", **how)
    assert not (tmp_path / "out").exists()


def test_tests_of_columns_are_read_as_json_or_text(home: Path, tmp_path: Path) -> None:
    words = ("export", home / "pool", "--as", "csv", "-o")
    for place, (tests, count) in enumerate(
        [
            (["key=even/00.jpg"], 1),
            (['key=["even/00.jpg", "odd/01.jpg"]'], 2),
            (['key={"not": "even/00.jpg"}', 'id={"max": 4}'], 4),
            (['id={"min": 3, "max": 3}'], 1),
        ]
    ):
        options = [word for test in tests for word in ("--where", test)]
        assert cli(*words, tmp_path / str(place), *options, "--json").json["exported"] == count
    refused(cli(*words, tmp_path / "out", "--where", "key"), "is not COLUMN=TEST")
    refused(cli(*words, tmp_path / "out", "--where", "id=1", "--where", "id=2"), "is given twice")
    refused(cli(*words, tmp_path / "out", "--where", "key=3"), 'use text, as "3"')
    assert not (tmp_path / "out").exists()


# a directory that is there


def test_other_arguments_are_refused_by_the_field(home: Path, tmp_path: Path) -> None:
    raysal.export(home / "pool", out=tmp_path / "out", form="parquet", keys=["even/00.jpg"])
    before = tree(tmp_path / "out")
    others: list[tuple[dict[str, Any], str]] = [
        ({"form": "csv"}, "as 'parquet', now 'csv'"),
        ({"shard_items": 3}, "shard_items 10000, now 3"),
        ({"vectors": True}, "vectors False, now True"),
        ({"keys": ["even/02.jpg"]}, "other keys"),
        ({"keys": None, "run": home / "run"}, "by 'keys', now 'run'"),
    ]
    for change, said in others:
        with pytest.raises(RunError, match=said):
            raysal.export(
                home / "pool", **{"out": tmp_path / "out", "form": "parquet", "keys": ["even/00.jpg"], **change}
            )
    assert tree(tmp_path / "out") == before


def test_no_directory_of_others_is_filled(home: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for place, error in (
        (tmp_path / "mine", PoolError),
        (home / "run", RunError),
        (home / "pool", RunError),
        (home / "photos" / "inside", ConfigError),
    ):
        with pytest.raises(error):
            raysal.export(home / "pool", out=place, form="webdataset")
    assert tree(tmp_path / "mine") == {"notes.txt": b"mine"}
    assert not (home / "photos" / "inside").exists()


@pytest.mark.parametrize("name", ["data/00001.tar", "items.parquet", "SHA256SUMS", "manifest.json"])
def test_a_changed_byte_of_a_finished_export_is_named(home: Path, tmp_path: Path, name: str) -> None:
    words = {"out": tmp_path / "out", "form": "webdataset", "shard_items": 9}
    raysal.export(home / "pool", **words)  # type: ignore[arg-type]
    content = bytearray((tmp_path / "out" / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "out" / name).write_bytes(content)
    with pytest.raises(Damaged, match=name):
        raysal.export(home / "pool", **words)  # type: ignore[arg-type]


@pytest.mark.parametrize("most", [100, 1000, 2500])
def test_a_shard_ends_before_it_is_too_large(home: Path, tmp_path: Path, most: int) -> None:
    raysal.export(home / "pool", out=tmp_path / "out", form="webdataset", shard_bytes=most)
    rows = pq.read_table(tmp_path / "out" / "items.parquet").to_pylist()
    sizes: dict[str, list[int]] = {}
    for row in rows:
        sizes.setdefault(row["shard"], []).append(row["bytes"])
    shards = list(sizes.values())
    assert len(shards) > 2
    for shard, after in pairwise(shards):
        assert len(shard) == 1 or sum(shard) <= most
        assert sum(shard) + after[0] > most


# media that are gone, or other ones


def write_again(path: Path, content: bytes) -> None:
    """Write a file and put its time back, as tools that keep times do."""
    was = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))


@pytest.fixture
def own(home: Path, tmp_path: Path) -> Path:
    """Photos and their pool that a test may change."""
    photos_in(tmp_path / "photos")
    assert cli("embed", tmp_path / "photos", *TINY, "--out", tmp_path / "pool", "--chunk-rows", 6).code == 0
    return tmp_path


@pytest.mark.parametrize("form", MEDIA)
def test_what_is_gone_or_changed_is_lost_by_name_and_the_rest_is_there(own: Path, form: str) -> None:
    needs(form)
    photos = own / "photos"
    gone, changed = photos / "even" / "04.jpg", photos / "odd" / "11.jpg"
    kept = {path: path.read_bytes() for path in (gone, changed)}
    gone.unlink()
    other = bytearray(kept[changed])
    other[-3] ^= 1
    write_again(changed, bytes(other))
    (photos / "even" / "new.jpg").write_bytes(kept[gone])
    write_again(photos / "odd" / "x.y" / "z.png", (photos / "odd" / "x.y" / "z.png").read_bytes())
    words = ("export", own / "pool", "--as", form, "-o", own / "out", "--shard-items", 5)
    answer = cli(*words, "--json")
    assert (answer.code, answer.json["items"], answer.json["quarantined"]) == (3, 23, 2)
    with open(own / "out" / "lost.csv", newline="", encoding="utf-8") as file:
        lost = {row["key"]: row["reason"] for row in csv.DictReader(file)}
    assert {*lost} == {"even/04.jpg", "odd/11.jpg"}
    assert "No such file" in lost["even/04.jpg"]
    assert "was written since" in lost["odd/11.jpg"]
    sums_hold(own / "out")
    keys = pq.read_table(own / "out" / "items.parquet")["key"].to_pylist()
    assert len(keys) == 21
    assert not {*keys} & {*lost}
    assert cli(*words).code == 3
    assert cli(*words, "--max-lost", 0.1).code == 0
    for path, content in kept.items():
        path.write_bytes(content)
    rest = ("export", own / "pool", "--as", form, "-o", own / "rest", "--keys", own / "out" / "lost.csv", "--json")
    assert cli(*rest).json["exported"] == 2


def test_of_a_table_that_was_written_anew_no_changed_chunk_is_taken(tmp_path: Path) -> None:
    photos = write_images(tmp_path / "photos", 12)
    content = {path.stem: path.read_bytes() for path in photos.rglob("*.jpg")}

    def write(order: list[str], swapped: Mapping[str, str]) -> None:
        images = [content[swapped.get(key, key)] for key in order]
        pq.write_table(pa.table({"key": order, "image": pa.array(images, pa.binary())}), tmp_path / "items.parquet")

    order = sorted(content)
    write(order, {})
    assert cli("embed", tmp_path / "items.parquet", *TINY, "--out", tmp_path / "pool", "--chunk-rows", 4).code == 0
    pool = open_pool(tmp_path / "pool")
    write(order[::-1], {})  # the same items in other places
    assert raysal.export(pool, out=tmp_path / "turned", form="webdataset").lost == 0
    write(order[1:], {"06": "07", "07": "06"})
    with pytest.raises(MediaLost) as caught:
        raysal.export(pool, out=tmp_path / "out", form="webdataset")
    assert {*caught.value.lost} == {"00", "01", "02", "03", "04", "05", "06", "07"}
    assert {facts["key"]: media for _, media, facts in samples(tmp_path / "out")} == {k: content[k] for k in order[8:]}


def test_media_that_were_moved_are_found(own: Path) -> None:
    shutil.move(own / "photos", own / "elsewhere")
    words = ("export", own / "pool", "--as", "webdataset", "-o", own / "out")
    refused(cli(*words), "no such file or directory")
    assert not (own / "out").exists()
    assert cli(*words, "--source", own / "elsewhere", "--json").json["exported"] == 23


def test_a_source_in_memory_can_be_given_again(tmp_path: Path) -> None:
    from raysal.sources import Memory

    images: list[NDArray[np.uint8]] = [np.full((8, 8, 3), 20 * i, np.uint8) for i in range(6)]
    source = Memory(keys=[f"k{i}" for i in range(6)], images=images)
    pool = raysal.embed(source, {"name": "torch:tiny_encoder:build", "size": 8}, out=tmp_path / "pool")
    with pytest.raises(SourceError, match=r"in memory.*source="):
        raysal.export(pool, out=tmp_path / "out", form="webdataset")
    raysal.export(pool, out=tmp_path / "out", form="webdataset", source=source)
    for place, (_, media, _) in enumerate(samples(tmp_path / "out")):
        with Image.open(io.BytesIO(media)) as image:
            assert (np.asarray(image) == images[place]).all()


def test_keys_are_found_in_any_order_of_the_listing() -> None:
    keys = [f"k{i}" for i in range(50)]
    source = Listed(names=tuple(keys))
    rng = np.random.default_rng(5)
    for order in (
        keys,
        keys[::-1],
        keys[10:] + keys[:10],
        rng.permutation([*keys, "x", "y", "z"]).tolist(),
        ["x", "k3"],
    ):
        found = list(Listing(source, 7).read(order))
        assert [item.key for item in found] == order
        assert [item.payload == f"payload of {item.key}" for item in found] == [key in keys for key in order]


# kills


CASES: dict[str, dict[str, Any]] = {
    "webdataset": {"shard_bytes": 9000},
    "parquet": {"shard_items": 8, "vectors": True},
    "links": {"shard_items": 8},
    "coco": {"shard_items": 12},
    "csv": {"shard_items": 8},
    "lance": {"shard_items": 8, "vectors": True},
}


@pytest.mark.parametrize("form", deep_unless({"webdataset"}, FORMS))
def test_killed_at_any_commit_it_ends_with_the_same_bytes(home: Path, tmp_path: Path, form: str) -> None:
    needs(form)
    from killed_exports import kill_export

    words: dict[str, Any] = {"form": form, **CASES[form]}
    raysal.export(home / "pool", out=tmp_path / "whole", **words)
    expected = tree(tmp_path / "whole")
    point = 0
    while kill_export(point := point + 1, home / "pool", tmp_path / "out", words):
        raysal.export(home / "pool", out=tmp_path / "out", **words)
        assert tree(tmp_path / "out") == expected, f"after a kill at rename {point}"
        shutil.rmtree(tmp_path / "out")
    assert point > 8


def test_after_a_kill_what_was_lost_meanwhile_is_nowhere(own: Path) -> None:
    from killed_exports import kill_export

    words: dict[str, Any] = {"form": "links", "copy": True, "shard_items": 23}
    assert kill_export(12, own / "pool", own / "out", words)  # among the files of the first shard
    begun = [path for path in (own / "out" / "data").rglob("*") if path.is_file()]
    assert begun
    key = begun[0].relative_to(own / "out" / "data").as_posix()
    (own / "photos" / key).unlink()
    with pytest.raises(MediaLost, match=key):
        raysal.export(own / "pool", out=own / "out", **words)
    assert not begun[0].exists()
    sums_hold(own / "out")


def test_a_full_disk_leaves_what_can_be_finished(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words: dict[str, Any] = {"form": "parquet", "shard_items": 8}
    raysal.export(home / "pool", out=tmp_path / "whole", **words)
    real: Callable[..., None] = os.fsync
    for limit in range(1, 40):
        left = limit

        def full(descriptor: int) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise OSError(28, "No space left on device")
            real(descriptor)

        monkeypatch.setattr(os, "fsync", full)
        try:
            raysal.export(home / "pool", out=tmp_path / "out", **words)
        except OSError:
            monkeypatch.setattr(os, "fsync", real)
            raysal.export(home / "pool", out=tmp_path / "out", **words)
        assert tree(tmp_path / "out") == tree(tmp_path / "whole")
        shutil.rmtree(tmp_path / "out")
        if left > 0:
            return
    raise AssertionError("the disk was full at every flush")


def test_unknown_form_and_bad_keys(home: Path, tmp_path: Path) -> None:
    with pytest.raises(raysal.RaysalError, match="did you mean 'parquet'"):
        raysal.export(home / "pool", out=tmp_path / "out", form="parqet")  # type: ignore[arg-type]
    (tmp_path / "keys.csv").write_text("name\na\n")
    with pytest.raises(LabelError, match="no column 'key'"):
        raysal.export(home / "pool", out=tmp_path / "out", form="csv", keys=tmp_path / "keys.csv")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", deep_unless({"parquet"}, [form for form in FORMS if form != "lance"]))
def test_the_command_is_light(home: Path, tmp_path: Path, form: str) -> None:
    program = "import sys; from raysal.cli import main; code = main()\n"
    program += f"print(*[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr); sys.exit(code)"
    words = ("export", home / "pool", "--run", home / "run", "--as", form, "-o", tmp_path / "out")
    answer = process(*words, python=("-c", program))
    assert (answer.code, answer.err.strip()) == (0, "")
