"""Pictures that a table names, in buckets and on disks: read with the retries of buckets; a change is noticed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from changing_sources import Bytes
from growing_pools import contents, held
from object_store import ObjectStore

from raysal.buckets import retries
from raysal.embedding.job import EmbedReport, embed
from raysal.errors import BadItem, SourceError
from raysal.pool import open_pool
from raysal.sources import detect_source
from raysal.sources import named_images as module
from raysal.sources.base import Source
from raysal.sources.named_images import NamedImages
from raysal.sources.table import Table


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.0)


def data(number: int) -> bytes:
    return f"{number:04d}".encode()


def table(paths: list[str | None], kind: str) -> bytes:
    """A table of images by their paths, as texts or as Hugging Face writes them."""
    column: Any = paths
    if kind == "struct":
        form = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        column = pa.array([{"bytes": None, "path": path} for path in paths], form)
    elif kind == "dictionary":
        column = pa.array(paths).dictionary_encode()
    sink = io.BytesIO()
    keys = [f"k{row}" for row in range(len(paths))]
    pq.write_table(pa.table({"key": keys, "image": column}), sink, row_group_size=4)
    return sink.getvalue()


def of(path: Path | str) -> Table:
    return Table(path=path, image_column="image")


def make(source: Source, out: Path) -> EmbedReport:
    return embed(source, Bytes(modality="image"), out, chunk_rows=3, max_quarantine=1.0)


def payloads(source: Source, chunk_rows: int = 3) -> dict[str, Any]:
    return {item.key: item.payload for unit in source.units(chunk_rows) for item in source.read(unit)}


@pytest.mark.parametrize("kind", ["text", "struct", "dictionary"])
def test_they_are_those_of_the_same_files_on_a_disk(kind: str, tmp_path: Path, bucket_store: ObjectStore) -> None:
    names = [f"images/{number:02d}.png" for number in range(10)]
    (tmp_path / "in" / "images").mkdir(parents=True)
    for number, name in enumerate(names):
        (tmp_path / "in" / name).write_bytes(data(number))
    (tmp_path / "in" / "t.parquet").write_bytes(table([*names, f"../in/{names[0]}"], kind))
    bucket_store.put_folder(tmp_path / "in", "in/")
    make(of(tmp_path / "in" / "t.parquet"), tmp_path / "disk")
    faults = [bucket_store.fail(what, method="GET", name="*.png", times=3, each=2, after=2) for what in ("busy", "cut")]
    make(of(f"{bucket_store.url}/in/t.parquet"), tmp_path / "bucket")
    assert [fault.struck for fault in faults] == [3, 3]
    assert held(open_pool(tmp_path / "bucket")) == held(open_pool(tmp_path / "disk"))
    assert len(held(open_pool(tmp_path / "disk"))) == 11


def test_a_table_on_a_disk_names_urls(tmp_path: Path, bucket_store: ObjectStore) -> None:
    for number in range(3):
        bucket_store.put(f"far/{number}.png", data(number))
    (tmp_path / "near.png").write_bytes(data(3))
    paths = [*(f"{bucket_store.url}/far/{number}.png" for number in range(3)), "near.png"]
    (tmp_path / "t.parquet").write_bytes(table([*paths], "struct"))
    found = payloads(detect_source(tmp_path / "t.parquet"))
    assert found == {f"k{number}": data(number) for number in range(4)}
    unit = next(of(tmp_path / "t.parquet").units(4))
    bucket_store.forget_requests()
    assert [item.payload for item in of(tmp_path / "t.parquet").read(unit, {1})] == [data(1)]
    assert bucket_store.requests("GET", "?*") == [("GET", "far/1.png")], "only those asked for are read"


def test_what_cannot_be_read_is_a_bad_item_of_its_key(tmp_path: Path, bucket_store: ObjectStore) -> None:
    bucket_store.put("in/good.png", data(1))
    paths = ["good.png", "gone.png", None, "", "/etc/hostname", "../../out.png", "file:///etc/hostname",
             "s3://user:word@host/x", f"{bucket_store.url}", "https://example.org/x.png"]  # fmt: skip
    bucket_store.put("in/t.parquet", table(paths, "text"))
    found = payloads(of(f"{bucket_store.url}/in/t.parquet"))
    assert found.pop("k0") == data(1)
    said = {key: str(bad) for key, bad in found.items() if isinstance(bad, BadItem)}
    assert len(said) == 9
    for key, words in {
        "k1": "'gone.png': ", "k2": "is null", "k3": "neither bytes nor a path", "k4": "leads out of the bucket",
        "k5": "leads out of the bucket", "k6": "no URL of a bucket", "k7": "holds a password", "k8": "no object in it",
        "k9": "no URL of a bucket",
    }.items():  # fmt: skip
        assert words in said[key]
    assert "word" not in said["k7"].replace("password", "")


def test_what_may_be_about_all_stops_the_reading(bucket_store: ObjectStore) -> None:
    bucket_store.put("in/a.png", data(1))
    bucket_store.put("in/t.parquet", table(["a.png"], "text"))
    source = of(f"{bucket_store.url}/in/t.parquet")
    units = list(source.units(3))
    bucket_store.fail("forbidden", method="GET", name="*.png", times=-1)
    with pytest.raises(SourceError, match="may not be read"):
        list(source.read(units[0]))


@pytest.mark.parametrize("where", ["bucket", "disk"])
@pytest.mark.parametrize("listed", [False, True])
def test_a_picture_that_changed_is_taken_in(
    where: str, listed: bool, tmp_path: Path, bucket_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a folder is listed, or its pictures are looked at one by one."""
    monkeypatch.setattr(module, "_LOOKS", 2 if listed else 100)
    for number in range(6):
        bucket_store.put(f"in/images/{number}.png", data(number))
    source: Source
    if where == "bucket":
        bucket_store.put("in/t.parquet", table([f"images/{number}.png" for number in range(6)], "struct"))
        source = of(f"{bucket_store.url}/in/t.parquet")
    else:
        urls = [f"{bucket_store.url}/in/images/{number}.png" for number in range(6)]
        (tmp_path / "t.parquet").write_bytes(table([*urls], "struct"))
        source = of(tmp_path / "t.parquet")
    make(source, tmp_path / "pool")
    before = held(open_pool(tmp_path / "pool"))
    bucket_store.forget_requests()
    assert make(source, tmp_path / "pool").embedded == 0
    assert bucket_store.requests("GET", "*.png") == []
    assert bool(bucket_store.requests("HEAD", "*.png")) != listed
    bucket_store.put("in/images/4.png", data(99))
    assert make(source, tmp_path / "pool").replaced == 1
    now = contents(open_pool(tmp_path / "pool"))
    assert {key for key, value in now.items() if value != before[key][1:]} == {"k4"}


def test_where_a_path_leads() -> None:
    inside = NamedImages("s3://bucket/a/b")
    for path, folder, name in (
        ("x.png", "a/b", "x.png"), ("c/../x.png", "a/b", "x.png"), ("../x.png", "a", "x.png"),
        ("./c/x.png", "a/b/c", "x.png"),
    ):  # fmt: skip
        place = inside.place_of(path)
        assert isinstance(place, tuple)
        assert (place[0].url, place[1]) == (f"s3://bucket/{folder}", name)
    place = inside.place_of("../../x.png")
    assert isinstance(place, tuple)
    assert (place[0].url, place[1]) == ("s3://bucket", "x.png")
    assert NamedImages(Path("/t")).place_of("/abs.png") == Path("/abs.png")
