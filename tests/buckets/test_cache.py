"""The cache: each version of an object is downloaded once, kept while there is room, never lost in use."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from object_store import ObjectStore

from raysal.buckets import Bucket, cache, cached
from raysal.buckets.base import Object
from raysal.errors import BucketError, ConfigError


@pytest.fixture(autouse=True)
def nothing_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "RECENT_S", 0)
    forget()


def forget() -> None:
    """As if this process had been given nothing."""
    while cache._held:
        os.close(cache._held.popitem()[1])


@pytest.fixture
def shards(bucket_store: ObjectStore) -> Bucket:
    for number in range(6):
        bucket_store.put(f"shards/{number}.tar.gz", b"%d" % number * 1000)
    return Bucket(f"{bucket_store.url}/shards")


def kept() -> set[bytes]:
    """The first byte of each file in the cache."""
    return {path.read_bytes()[:1] for path in (cache.cache_folder() / "objects").rglob("*.tar.gz")}


def test_each_version_is_downloaded_once(shards: Bucket, bucket_store: ObjectStore) -> None:
    found = next(shards.list())
    paths = {cached(shards, found) for _ in range(3)}
    forget()
    paths.add(cached(Bucket(bucket_store.url), found._replace(name=f"shards/{found.name}")))
    (path,) = paths
    assert path.read_bytes() == b"0" * 1000
    assert path.name.endswith(".tar.gz"), "readers know a format by it"
    assert len(bucket_store.requests("GET", "*0.tar.gz")) == 1
    bucket_store.put("shards/0.tar.gz", b"x" * 1000)
    assert cached(shards, found) == path, "the version that was listed is here"
    newer = next(shards.list())
    assert cached(shards, newer).read_bytes() == b"x" * 1000


def test_what_was_listed_and_is_no_more(shards: Bucket, bucket_store: ObjectStore) -> None:
    first, second, *_ = shards.list()
    bucket_store.take_away("shards/0.tar.gz")
    bucket_store.put("shards/1.tar.gz", b"y" * 1000)
    with pytest.raises(BucketError, match="is gone"):
        cached(shards, first)
    with pytest.raises(BucketError, match="was changed"):
        cached(shards, second)
    assert kept() == set()


def test_a_file_that_another_process_downloaded_again_is_held_as_it_is_now(shards: Bucket) -> None:
    path = cached(shards, found := next(shards.list()))
    whole = path.read_bytes()
    path.unlink()  # as that process does where it finds the file to be bad
    path.write_bytes(whole)
    assert cached(shards, found) == path
    assert not cache._delete_unused(path), "it is about to be opened"


def test_many_threads_and_processes_download_once(shards: Bucket, bucket_store: ObjectStore) -> None:
    program = (
        "import sys; from raysal.buckets import Bucket, cached; b = Bucket(sys.argv[1]); "
        "print(*[cached(b, found).read_bytes()[:1].decode() for found in b.list()])"
    )
    bucket_store.fail("busy", name="shards/*", times=5, each=3)
    others = [
        subprocess.Popen([sys.executable, "-c", program, shards.url], stdout=subprocess.PIPE, text=True) for _ in "12"
    ]
    listed = list(shards.list())
    threads = [threading.Thread(target=lambda: [cached(shards, found) for found in listed]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [other.communicate()[0] for other in others] == ["0 1 2 3 4 5\n"] * 2
    failed = sum(fault.struck for fault in bucket_store.proxy.faults)
    assert len(bucket_store.requests("GET", "shards/*")) == 6 + failed


def test_the_least_recently_used_makes_room(shards: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.SIZE, "3e-6")  # room for three
    listed = list(shards.list())
    for number in (0, 1, 2, 0, 3):
        cached(shards, listed[number])
        forget()
    assert kept() == {b"2", b"0", b"3"}


def test_what_is_held_stays(shards: Bucket, bucket_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.SIZE, "1e-6")  # room for one
    listed = list(shards.list())
    paths = [cached(shards, found) for found in listed[:3]]
    assert all(path.exists() for path in paths), "this process was given them"
    program = (
        "import sys; from raysal.buckets import Bucket, cached; b = Bucket(sys.argv[1]); *_, last = b.list(); "
        "cached(b, last)"
    )
    subprocess.run([sys.executable, "-c", program, shards.url], check=True)
    assert kept() == {b"0", b"1", b"2", b"5"}, "nor does another process delete them"
    forget()
    cached(shards, listed[4])
    assert kept() == {b"4"}


def test_only_the_last_ones_are_held(shards: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.SIZE, "2e-6")
    monkeypatch.setattr(cache, "HELD", 2)
    for found in shards.list():
        path = cached(shards, found)
        assert path.exists()
    assert kept() == {b"4", b"5"} | ({b"3"} & kept()), "two are held, and the one before may be there still"


def test_what_a_killed_download_left_is_deleted(shards: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.SIZE, "1e-6")
    found = next(shards.list())
    left = cached(shards, found).parent / ".tmp-left-behind"
    left.write_bytes(b"1" * 5000)
    fresh = left.with_name(".tmp-fresh")
    fresh.write_bytes(b"1" * 5000)
    os.utime(left, (1, 1))
    cached(shards, list(shards.list())[1])
    assert not left.exists()
    assert fresh.exists(), "it may be written this moment"


def test_a_digest_that_is_known_is_compared(shards: Bucket) -> None:
    found = next(shards.list())
    right = hashlib.sha256(b"0" * 1000).hexdigest()
    with pytest.raises(BucketError, match="its sha256 is"):
        cached(shards, found, "0" * 64)
    assert kept() == set()
    assert cached(shards, found, right).read_bytes() == b"0" * 1000


def test_no_room_names_the_variable(shards: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    found = next(shards.list())

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(Bucket, "fetch", full)
        with pytest.raises(BucketError, match=r"No space left.*RAYSAL_CACHE .*1000 bytes.*RAYSAL_CACHE_GB"):
            cached(shards, found)
    for size in ("much", "-1", "nan", "inf"):
        monkeypatch.setenv(cache.SIZE, size)
        with pytest.raises(ConfigError, match=r"RAYSAL_CACHE_GB: .* is no size"):
            cached(shards, found)


def test_an_object_without_etag_is_known_by_size_and_time(shards: Bucket, bucket_store: ObjectStore) -> None:
    found = next(shards.list())
    bare = Object(found.name, found.size, None, found.changed_ns)
    assert cached(shards, bare) != cached(shards, bare._replace(changed_ns=1))


def test_a_folder_that_cannot_be_written(shards: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(cache.FOLDER, str(tmp_path / "file" / "in"))
    with pytest.raises(BucketError, match="make that folder writable, or set RAYSAL_CACHE"):
        cached(shards, next(shards.list()))
