"""A scheme that only fsspec knows is a bucket like any other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from source_examples import EXAMPLES

from raysal.buckets import Bucket, retries
from raysal.errors import BucketError, Taken
from raysal.sources import detect_source

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def folder() -> Iterator[Bucket]:
    name = f"test-{os.urandom(6).hex()}"
    yield Bucket(f"memory://{name}/in")
    fsspec.filesystem("memory").rm(f"/{name}", recursive=True)


@pytest.fixture
def full(folder: Bucket) -> Bucket:
    for name in NAMES:
        folder.write(name, name.encode())
    return folder


NAMES = ["a", "a-b", "a/1", "a/12", "a/2", "ab", "ü/é x", "b#%?"]
NAMES = [name for name in NAMES if name != "a"]  # a file system has no file of the name of a folder


def test_listings_are_in_order(full: Bucket) -> None:
    listed = list(full.list())
    assert [found.name for found in listed] == sorted(NAMES)
    assert all(full.look_at(found.name) == found for found in listed)
    assert all(full.read(found.name, etag=found.etag) == found.name.encode() for found in listed)
    for prefix in ("a", "a/", "a/1", "x"):
        assert [found.name for found in full.list(prefix)] == [
            name for name in sorted(NAMES) if name.startswith(prefix)
        ]
    assert list(full.below("none").list()) == []


def test_gone_and_changed(full: Bucket, tmp_path: Path) -> None:
    first, second = list(full.list())[:2]
    full.delete([first.name])
    full.write(second.name, b"others")
    with pytest.raises(BucketError, match="is gone"):
        full.fetch(first.name, tmp_path / "x", size=first.size, etag=first.etag)
    with pytest.raises(BucketError, match="was changed"):
        full.fetch(second.name, tmp_path / "x", size=second.size, etag=second.etag)
    assert full.look_at(first.name) is None
    full.fetch(second.name, tmp_path / "x", size=6)
    assert (tmp_path / "x").read_bytes() == b"others"
    assert full.read(second.name, start=2, length=2) == b"he"


def test_conditions(folder: Bucket, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    first = folder.write("state", tmp_path / "file", only_if_absent=True)
    with pytest.raises(Taken):
        folder.write("state", b"2", only_if_absent=True)
    folder.write("state", b"33", etag=first.etag)
    with pytest.raises(Taken):
        folder.write("state", b"4", etag=first.etag)
    assert folder.read("state") == b"33"
    folder.delete(["state", "never"])


def test_a_version_that_is_only_looked_at_is_ours_if_it_holds_our_bytes(
    folder: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file system says which version it wrote, and another writer may come before the look."""
    system = type(fsspec.filesystem("memory"))
    real = system.pipe_file

    def twice(self: Any, path: str, value: bytes, **named: Any) -> None:
        real(self, path, value, **named)
        real(self, path, b"theirs")

    first = folder.write("state", b"first", only_if_absent=True)
    monkeypatch.setattr(system, "pipe_file", twice)
    for condition in ({"only_if_absent": True}, {"etag": first.etag}):
        with pytest.raises(Taken):
            folder.write("state", b"second", **condition)
        with pytest.raises(Taken):
            folder.write("state", b"theirs?", **condition)
        assert folder.read("state") == (b"first" if "only_if_absent" in condition else b"theirs")


def test_what_passes_is_tried_again(full: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.0)
    system = type(fsspec.filesystem("memory"))
    faults = iter([OSError("reset"), TimeoutError("slow"), None])
    real = system.cat_file

    def broken(self: object, *args: object, **named: object) -> object:
        if (fault := next(faults, None)) is not None:
            raise fault
        return real(self, *args, **named)

    monkeypatch.setattr(system, "cat_file", broken)
    assert full.read("ab") == b"ab"


def test_a_listing_that_broke_goes_on_without_a_name_twice(full: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.0)
    system = type(fsspec.filesystem("memory"))
    real, calls = system.ls, iter(range(100))

    def broken(self: object, *args: object, **named: object) -> object:
        if next(calls) in (1, 3, 4):  # in the middle of the tree
            raise ConnectionResetError("reset")
        return real(self, *args, **named)

    monkeypatch.setattr(system, "ls", broken)
    assert [found.name for found in full.list()] == sorted(NAMES)
    assert next(calls) > 4


def test_what_changes_while_it_is_read_is_noticed(full: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    system = type(fsspec.filesystem("memory"))
    real = system.cat_file

    def read(self: object, *args: object, **named: object) -> object:
        data = real(self, *args, **named)
        full.write("ab", b"others")
        return data

    monkeypatch.setattr(system, "cat_file", read)
    with pytest.raises(BucketError, match="was changed"):
        full.read("ab")


@pytest.mark.parametrize("name", ["folder", "table", "webdataset"])
def test_a_source_reads_it(name: str, folder: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYSAL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "files").mkdir()
    on_disk: Any = EXAMPLES[name](tmp_path / "files")
    for path in (tmp_path / "files").rglob("*.*"):
        folder.write(path.relative_to(tmp_path / "files").as_posix(), path)
    found = detect_source(folder.url, carry=getattr(on_disk, "carry", ()))
    assert type(found) is type(on_disk)
    for one, other in zip(on_disk.units(3), found.units(3), strict=True):
        assert list(one.keys) == list(other.keys)
        assert [str(item.payload) for item in on_disk.read(one)] == [str(item.payload) for item in found.read(other)]


def test_a_scheme_nobody_knows() -> None:
    with pytest.raises(BucketError, match="no file system is known for nowhere://"):
        list(Bucket("nowhere://a/b").list())
