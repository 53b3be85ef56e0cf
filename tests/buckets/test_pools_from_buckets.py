"""A pool made from a bucket is that of the same files on a disk, whatever fails in between, and grows as one."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from changing_sources import CHANGES, KINDS, ROWS, Row, applies, columns, files_of
from cli_tools import cli, process
from growing_pools import Disk, Stop, contents, held, make
from object_store import SECRET, ObjectStore, empty_cache
from pool_files import bytes_of
from tiers import deep_unless, only_if

from raysal.buckets import Bucket, retries
from raysal.embedding import sample
from raysal.errors import SourceError
from raysal.pool import Manifest, Pool
from raysal.sources import reading_ahead
from raysal.sources.base import Source
from raysal.sources.folder import Folder
from raysal.web.catalogue import Entry
from raysal.web.payloads import Payloads

IN_BUCKETS = [kind for kind in KINDS if kind not in ("vectors", "images", "texts")]
PARTED = ("tables", "shards", "csvs")
"""Kinds of several files."""


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.0)


def written(kind: str, place: Path, rows: Sequence[Row], store: ObjectStore) -> tuple[Source, Source]:
    """A source on a disk, and the same in the bucket. Objects that are the same already are left alone."""
    on_disk: Any = KINDS[kind](place / "at", rows)
    inside = Path(on_disk.path).relative_to(place).as_posix()
    files = {file.relative_to(place).as_posix(): file.read_bytes() for file in files_of(place / "at") if file.is_file()}
    for name in store.names():
        if name not in files:
            store.take_away(name)
    for name, data in files.items():
        if name not in store.names() or store.get(name) != data:
            store.put(name, data)
    return on_disk, replace(on_disk, path=f"{store.url}/{inside}")


def vectors_of(pool: Path) -> dict[str, bytes]:
    return {name: data for name, data in bytes_of(pool).items() if name.startswith("vectors/")}


@pytest.mark.parametrize("kind", IN_BUCKETS)
def test_the_pool_is_that_of_the_files_on_a_disk(kind: str, tmp_path: Path, bucket_store: ObjectStore) -> None:
    on_disk, in_bucket = written(kind, tmp_path, ROWS, bucket_store)
    make(on_disk, tmp_path / "a")
    faults = [bucket_store.fail(what, method="GET", times=4, each=2, after=9) for what in ("busy", "lost", "cut")]
    make(in_bucket, tmp_path / "b")
    assert sum(fault.struck for fault in faults) > 3
    assert vectors_of(tmp_path / "b") == vectors_of(tmp_path / "a")
    assert held(Pool(tmp_path / "b")) == held(Pool(tmp_path / "a"))
    assert SECRET.encode() not in b"".join(bytes_of(tmp_path / "b").values())
    bucket_store.forget_requests()
    assert make(in_bucket, tmp_path / "b").embedded == 0
    data = "*/data/*" if kind == "lance" else "?*"  # Lance reads which files its newest version has
    read = [] if kind == "npy" else bucket_store.requests("GET", data)  # a matrix is asked for its shape
    assert read == [], "it is as it was: nothing is read"


@only_if(applies)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", deep_unless({"folder", "shards", "tables"}, IN_BUCKETS))
def test_it_takes_in_what_changed_as_from_a_disk(
    kind: str, change: str, tmp_path: Path, bucket_store: ObjectStore
) -> None:
    for source, pool in zip(written(kind, tmp_path, ROWS, bucket_store), "ab", strict=True):
        make(source, tmp_path / pool)
    for source, pool in zip(written(kind, tmp_path, CHANGES[change](ROWS), bucket_store), "ab", strict=True):
        make(source, tmp_path / pool)
    on_disk, in_bucket = Pool(tmp_path / "a"), Pool(tmp_path / "b")
    assert contents(in_bucket) == contents(on_disk)
    assert make(source, tmp_path / "b").embedded == 0


@pytest.mark.parametrize("kind", PARTED)
def test_only_what_is_new_is_downloaded(
    kind: str, tmp_path: Path, bucket_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "SAMPLE_ITEMS", 3)
    _, source = written(kind, tmp_path, ROWS, bucket_store)
    make(source, tmp_path / "pool")
    before = bucket_store.names()
    empty_cache()
    _, source = written(kind, tmp_path, (*ROWS, Row("k9.png", 31, "l0"), Row("l.png", 32, "l1")), bucket_store)
    new = [name for name in bucket_store.names() if name not in before]
    changed = [name for name in bucket_store.names() if "6" in name]  # the last one had two rows, and has three
    bucket_store.forget_requests()
    assert make(source, tmp_path / "pool").added == 2
    read = {name for _, name in bucket_store.requests("GET", "?*")}
    first = {bucket_store.names()[0]}  # it tells what the columns are
    assert read - first == {*new, *changed}


def test_of_a_folder_only_new_pictures_are_read(tmp_path: Path, bucket_store: ObjectStore) -> None:
    _, source = written("folder", tmp_path, ROWS, bucket_store)
    make(source, tmp_path / "pool")
    for name in bucket_store.names():
        bucket_store.put(name, bucket_store.get(name))  # the same bytes: a new time, and the etag of before
    bucket_store.put("at/k9.png", b"0031")
    bucket_store.forget_requests()
    assert make(source, tmp_path / "pool").added == 1
    assert bucket_store.requests("GET", "?*") == [("GET", "at/k9.png")]


@pytest.mark.parametrize("kind", deep_unless({"folder", "shards"}, IN_BUCKETS))
def test_killed_anywhere_it_ends_with_the_same_bytes(
    kind: str, tmp_path: Path, bucket_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, source = written(kind, tmp_path, ROWS, bucket_store)
    make(source, tmp_path / "whole")
    expected = vectors_of(tmp_path / "whole"), held(Pool(tmp_path / "whole"))
    for at in range(0, 40, 3):
        out = tmp_path / f"stopped {at}"
        with monkeypatch.context() as disk:
            Disk(disk, at)
            try:
                make(source, out)
                break
            except Stop:
                pass
        make(source, out)
        assert (vectors_of(out), held(Pool(out))) == expected
    assert at > 3


def test_a_source_that_changes_while_it_is_read_is_noticed(tmp_path: Path, bucket_store: ObjectStore) -> None:
    _, source = written("shards", tmp_path, ROWS, bucket_store)
    bucket_store.before("GET", "at/part-6.tar", lambda: bucket_store.put("at/part-0.tar", b"other"))
    with pytest.raises(SourceError, match="chang"):
        make(source, tmp_path / "pool")


def test_pictures_are_read_ahead_and_not_far(
    tmp_path: Path, bucket_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_ahead, "AHEAD_BYTES", 300_000)
    monkeypatch.setattr(reading_ahead, "_GUESS", 100_000)
    for number in range(40):
        bucket_store.put(f"at/{number:02d}.png", bytes(50_000))
    bucket = Bucket(f"{bucket_store.url}/at")
    most = 300_000 // 50_000
    stream = reading_ahead.read_ahead((f"{number:02d}.png", [bucket]) for number in range(40))
    for taken in range(1, 41):
        next(stream)
        assert len(bucket_store.requests("GET", "?*")) <= taken + most
    assert next(stream, None) is None
    assert len(bucket_store.requests("GET", "?*")) == 40


def test_who_stops_taking_pictures_stops_the_reading(bucket_store: ObjectStore) -> None:
    for number in range(200):
        bucket_store.put(f"at/{number:03d}.png", b"1")
    (unit,) = Folder(path=f"{bucket_store.url}/at").units(1000)
    stream = Folder(path=f"{bucket_store.url}/at").read(unit)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert len(bucket_store.requests("GET", "?*")) <= reading_ahead.READERS + 1


# -- commands ---------------------------------------------------------------------------------------------------------


def test_embed_twice_from_a_bucket(tmp_path: Path, bucket_store: ObjectStore) -> None:
    """As a user does it, in processes of their own, while the service fails now and then."""
    pq.write_table(columns(ROWS), tmp_path / "table.parquet")
    bucket_store.put("shards/a.parquet", tmp_path / "table.parquet")
    faults = [bucket_store.fail(what, times=3, each=3) for what in ("busy", "lost")]
    words = ("embed", f"{bucket_store.url}/shards", "--out", tmp_path / "pool", "--json")
    first = process(*words)
    assert first.code == 0, first.err
    pq.write_table(columns([replace(row, key=f"b{row.key}") for row in ROWS]), tmp_path / "table.parquet")
    bucket_store.put("shards/b.parquet", tmp_path / "table.parquet")
    second = process(*words)
    assert second.code == 0, second.err
    assert (first.json["items"], second.json["items"], second.json["added"]) == (8, 16, 8)
    assert all(fault.times == 0 for fault in faults)
    assert SECRET not in "".join((*first[1:], *second[1:]))
    assert Manifest.read(tmp_path / "pool").source["config"]["path"] == f"{bucket_store.url}/shards"


@pytest.mark.parametrize("kind", ["folder", "shards", "csvs"])
def test_a_page_shows_what_lies_in_the_bucket(kind: str, tmp_path: Path, bucket_store: ObjectStore) -> None:
    on_disk, in_bucket = written(kind, tmp_path, ROWS, bucket_store)
    for pool, source in (("a", on_disk), ("b", in_bucket)):
        make(source, tmp_path / pool)
    assert shown(Pool(tmp_path / "b")) == shown(Pool(tmp_path / "a"))


def shown(pool: Pool) -> dict[int, Any]:
    payloads = Payloads(pool)
    return {id: payloads.read(Entry(id, key, None)) for key, (id, *_) in held(pool).items()}


@pytest.mark.parametrize("kind", ["folder", "shards"])
def test_media_that_were_moved_to_a_bucket_are_exported(kind: str, tmp_path: Path, bucket_store: ObjectStore) -> None:
    on_disk, in_bucket = written(kind, tmp_path, ROWS, bucket_store)
    make(on_disk, tmp_path / "pool")
    shutil.rmtree(tmp_path / "at")
    words = ("export", tmp_path / "pool", "--as", "webdataset", "--out", tmp_path / "out", "--source", in_bucket.path)
    done = cli(*words, "--json")
    assert done.code == 0, done.err
    assert (done.json["exported"], done.json["lost"]) == (8, 0)


@pytest.mark.parametrize("kind", ["folder", "shards"])
def test_an_export_gives_the_media_back(kind: str, tmp_path: Path, bucket_store: ObjectStore) -> None:
    _, source = written(kind, tmp_path, ROWS, bucket_store)
    make(source, tmp_path / "pool")
    done = cli("export", tmp_path / "pool", "--out", tmp_path / "out", "--as", "webdataset", "--json")
    assert done.code == 0, done.err
    (shard,) = (tmp_path / "out" / "data").glob("*.tar")
    with tarfile.open(shard) as archive:
        found = {member.name: archive.extractfile(member).read() for member in archive if "json" not in member.name}
    assert sorted(found.values()) == [row.data for row in ROWS]
    if kind == "folder":  # one picture was replaced, and one is gone
        bucket_store.put("at/k1.png", b"9999")
        bucket_store.take_away("at/k2.png")
        done = cli("export", tmp_path / "pool", "--out", tmp_path / "rest", "--as", "webdataset", "--max-lost", 1)
        lost = (tmp_path / "rest" / "lost.csv").read_text()
        assert done.code == 0, done.err
        assert [line.partition(",")[0] for line in lost.splitlines()[1:]] == ["k1.png", "k2.png"], lost
    links = cli("export", tmp_path / "pool", "--out", tmp_path / "links", "--as", "links")
    assert links.code == 2
    assert "no files of their own" in links.err
