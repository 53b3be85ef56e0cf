"""A job lists its source once, and what it reads is that listing."""

from __future__ import annotations

import resource
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from object_store import ObjectStore
from source_examples import EXAMPLES

from raysal.api.embed import embed
from raysal.buckets import Bucket, Object
from raysal.embedding import origin
from raysal.errors import SourceError
from raysal.sources import walking
from raysal.sources.lance_fragments import VERSIONS
from raysal.sources.listed_once import Row, forget_listings, kept_rows, listed_once
from raysal.sources.rules import Found, Rules

ROWS: list[Row] = [["a\udc80", "", 1, None], ["ü/b", ".txt", 2, "etag"]]


class Counted:
    """A listing that counts how often it is made."""

    def __init__(self, rows: list[Row] = ROWS) -> None:
        self.made, self._rows = 0, rows

    def __call__(self) -> Iterator[Row]:
        self.made += 1
        yield from self._rows


def test_a_listing_that_ended_is_kept_until_it_is_forgotten_or_the_block_ends() -> None:
    listing = Counted()
    with listed_once():
        assert next(kept_rows("a", listing)) == ROWS[0]  # not to its end: it is not kept
        for _ in range(3):
            assert list(kept_rows("a", listing)) == ROWS
            with listed_once():
                assert list(kept_rows("a", listing)) == ROWS
        assert listing.made == 2
        list(kept_rows("b", listing))
        assert listing.made == 3, "another place"
        forget_listings()
        begun = kept_rows("a", listing)
        assert list(begun) == ROWS
        assert listing.made == 4
        late = kept_rows("a", listing)
    assert list(late) == ROWS
    assert list(kept_rows("a", listing)) == ROWS
    assert listing.made == 6


def test_one_that_fails_is_not_kept() -> None:
    def broken() -> Iterator[Row]:
        yield ROWS[0]
        raise SourceError("bucket", "broke")

    with listed_once():
        with pytest.raises(SourceError):
            list(kept_rows("a", broken))
        assert list(kept_rows("a", Counted())) == ROWS


def test_another_thread_sees_its_source_as_it_is_then() -> None:
    listing = Counted()
    with listed_once():
        list(kept_rows("a", listing))
        other = threading.Thread(target=lambda: list(kept_rows("a", listing)))
        other.start()
        other.join()
        assert listing.made == 2


@pytest.mark.parametrize("room", [0, 5000])
def test_a_full_disk_ends_the_keeping_and_not_the_listing(room: int) -> None:
    rows = [[f"{i}.png", "", i, None] for i in range(3000)]
    listing = Counted(rows)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with listed_once():
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        try:
            for _ in range(2):
                assert list(kept_rows("a", listing)) == rows
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert listing.made == 2
        list(kept_rows("a", listing))
        list(kept_rows("a", listing))
        assert listing.made == 3


def test_without_a_place_for_temporary_files_each_listing_is_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    listing = Counted()
    with listed_once():
        for _ in range(2):
            assert list(kept_rows("a", listing)) == ROWS
    assert listing.made == 2


def test_nothing_is_left_of_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with listed_once():
        list(kept_rows("a", Counted()))
        assert len(list(tmp_path.rglob("*"))) == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["folder", "npy"])
def test_the_first_embed_lists_a_bucket_twice_and_the_next_once(
    kind: str, bucket_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To see what is there, and at the end whether it changed. Whether there is a folder is one page."""
    make_source(kind, tmp_path / "in")
    bucket_store.put_folder(tmp_path / "in", "in/")
    real, listed = Bucket.list, []

    def listing(self: Bucket, prefix: str = "") -> Iterator[Object]:
        yield from real(self, prefix)
        if prefix != f"{VERSIONS}/":  # whether it is a Lance table is one page of a folder
            listed.append(self.url)  # to its end

    monkeypatch.setattr(Bucket, "list", listing)
    monkeypatch.setattr(origin, "TICK_NS", 0)  # else it looks again at what was written a moment ago
    for times in (2, 1, 1):
        listed.clear()
        embed(f"{bucket_store.url}/in", out=tmp_path / "pool", encoder=encoder_for(kind))
        assert listed.count(f"{bucket_store.url}/in") == times


@pytest.mark.parametrize("kind", ["folder", "npy"])
def test_a_folder_of_a_disk_is_walked_through_once_and_at_the_end(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_source(kind, tmp_path / "in")
    real, walks = walking._walk, []

    def walk(root: bytes, rules: Rules, all_files: bool) -> Iterator[Found]:
        walks.append(rules.key)
        return real(root, rules, all_files)

    monkeypatch.setattr(walking, "_walk", walk)
    monkeypatch.setattr(origin, "TICK_NS", 0)  # else it looks again at what was written a moment ago
    for times in (3, 2):  # one of them tells what kind of source it is, and takes other files
        walks.clear()
        embed(tmp_path / "in", out=tmp_path / "pool", encoder=encoder_for(kind))
        assert len(walks) == times


def make_source(kind: str, folder: Path) -> None:
    folder.mkdir()
    EXAMPLES[kind](folder)


def encoder_for(kind: str) -> object:
    return {"name": "torch:tiny_encoder:build", "size": 8} if kind == "folder" else None
