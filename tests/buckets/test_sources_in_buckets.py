"""A source in a bucket gives the items that the same files give on a disk, and only what was listed."""

from __future__ import annotations

import io
import pickle
import re
import sys
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from object_store import SECRET, ObjectStore, empty_cache
from source_examples import EXAMPLES

from raysal.buckets import retries
from raysal.errors import BadItem, ConfigError, MissingExtra, SourceError
from raysal.sources import check_apart, detect_source
from raysal.sources.array import Array
from raysal.sources.base import OfFiles, PassesOver, Source, Stamped
from raysal.sources.files import Files
from raysal.sources.folder import Folder
from raysal.sources.rules import HIDDEN, INSIDE, NO_SUFFIX
from raysal.types import Cut, Item

AT_PATHS = [name for name in EXAMPLES if name not in ("digits", "fashion_mnist", "memory")]
CHUNK = 3


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.0)


def both(name: str, folder: Path, store: ObjectStore) -> tuple[Source, Source]:
    """A source on a disk, and the same in the bucket."""
    folder.mkdir()
    on_disk: Any = EXAMPLES[name](folder)
    store.put_folder(folder, "in/")
    inside = Path(on_disk.path).relative_to(folder).as_posix()
    url = f"{store.url}/in" if inside == "." else f"{store.url}/in/{inside}"
    return on_disk, replace(on_disk, path=url)


def read_all(source: Source, chunk: int = CHUNK) -> list[Item]:
    return [item for unit in source.units(chunk) for item in source.read(unit)]


def plain(item: Item) -> tuple[object, ...]:
    """An item without its place, in values that can be compared."""
    payload = item.payload
    if isinstance(payload, Cut):
        return item.key, payload.box, payload.whole.payload, dict(item.carried)
    values = getattr(payload, "values", payload)
    shown = (values.shape, values.tobytes()) if isinstance(values, np.ndarray) else str(values)
    return item.key, type(payload).__name__, shown, dict(item.carried)


@pytest.mark.parametrize("name", AT_PATHS)
def test_the_items_are_those_of_the_same_files_on_a_disk(name: str, tmp_path: Path, bucket_store: ObjectStore) -> None:
    on_disk, in_bucket = both(name, tmp_path / "files", bucket_store)
    faults = [bucket_store.fail(what, method="GET", times=3, each=2, after=1) for what in ("busy", "cut", "lost")]
    if name not in ("array", "text"):  # of these it covers contents on a disk
        assert in_bucket.fingerprint() == on_disk.fingerprint()
    there = pickle.loads(pickle.dumps(in_bucket))  # as a worker gets it
    for one, other in zip(on_disk.units(CHUNK), in_bucket.units(CHUNK), strict=True):
        assert (one.index, one.first_id, list(one.keys)) == (other.index, other.first_id, list(other.keys))
        items = list(there.read(other))
        assert [plain(item) for item in items] == [plain(item) for item in on_disk.read(one)]
        assert all(item.uri is None or name == "cutouts" or item.uri.startswith(bucket_store.url) for item in items)
    assert isinstance(in_bucket, OfFiles)
    assert isinstance(on_disk, OfFiles)
    assert [(file.name, file.bytes) for file in in_bucket.files()] == [(f.name, f.bytes) for f in on_disk.files()]
    assert isinstance(in_bucket, PassesOver)
    assert isinstance(on_disk, PassesOver)
    assert in_bucket.passed_over() == on_disk.passed_over()
    assert SECRET.encode() not in pickle.dumps(in_bucket)
    assert sum(fault.struck for fault in faults) > 0


@pytest.mark.parametrize("name", AT_PATHS)
def test_the_kind_is_found_by_what_lies_there(name: str, tmp_path: Path, bucket_store: ObjectStore) -> None:
    on_disk, in_bucket = both(name, tmp_path / "files", bucket_store)
    if name not in ("boxes", "cutouts", "pages", "fits", "sounds"):  # nobody guesses these; by the sounds is a picture
        assert type(detect_source(in_bucket.path)) is type(detect_source(on_disk.path)) is type(on_disk)


@pytest.mark.parametrize("name", AT_PATHS)
def test_a_stamp_changes_with_a_version_and_not_with_a_time(
    name: str, tmp_path: Path, bucket_store: ObjectStore
) -> None:
    _, source = both(name, tmp_path / "files", bucket_store)
    assert isinstance(source, Stamped)
    before = source.stamp()
    names = [found for found in bucket_store.names() if not found.endswith((".txt", ".json", ".png", ".csv"))]
    names = names or bucket_store.names()
    data = bucket_store.get(names[0])
    bucket_store.put(names[0], data)
    assert source.stamp().digest == before.digest, "the same bytes again"
    bucket_store.put(names[0], data[:-1] + bytes([data[-1] ^ 1]))
    assert source.stamp().digest != before.digest


def test_of_pictures_only_those_asked_for_are_read(tmp_path: Path, bucket_store: ObjectStore) -> None:
    _, source = both("folder", tmp_path / "files", bucket_store)
    (unit,) = source.units(100)
    assert bucket_store.requests("GET", "?*") == [], "to list downloads nothing"
    list(source.read(unit, only=frozenset([1])))
    assert [name for _, name in bucket_store.requests("GET", "?*")] == [f"in/{unit.keys[1]}"]


def test_shards_that_were_not_asked_for_are_not_downloaded(tmp_path: Path, bucket_store: ObjectStore) -> None:
    _, source = both("webdataset", tmp_path / "files", bucket_store)
    assert isinstance(source, OfFiles)
    assert source.modality == "image"  # by the first shard
    bucket_store.forget_requests()
    for unit in source.units_in(["sub/b.tar"], 2):
        list(source.read(unit))
    assert bucket_store.requests("GET", "?*") == [("GET", "in/sub/b.tar")], "once, for the listing and all units"


@pytest.mark.parametrize("name", ["folder", "fits", "pages"])
def test_a_picture_that_is_gone_is_a_bad_item_of_its_name(name: str, tmp_path: Path, bucket_store: ObjectStore) -> None:
    _, source = both(name, tmp_path / "files", bucket_store)
    assert isinstance(source, OfFiles)
    first, *_ = list(source.files())
    (unit,) = source.units(100)
    gone = [key for (file, count) in source.spans(unit) for key in [file] * count]
    bucket_store.take_away(f"in/{first.name}")
    empty_cache()
    items = list(source.read(unit))
    assert [item.key for item in items] == list(unit.keys)
    for item, file in zip(items, gone, strict=True):
        assert isinstance(item.payload, BadItem) == (file == first.name)
    bad = next(item for item in items if isinstance(item.payload, BadItem))
    assert re.search("no such object|is gone", str(bad.payload))
    assert bad.uri == f"{bucket_store.url}/in/{first.name}"


@pytest.mark.parametrize("name", ["table", "webdataset", "npy", "hf", "array"])
@pytest.mark.parametrize("how", ["gone", "changed"])
def test_a_shard_is_read_as_it_was_listed_or_not_at_all(
    name: str, how: str, tmp_path: Path, bucket_store: ObjectStore
) -> None:
    _, source = both(name, tmp_path / "files", bucket_store)
    assert isinstance(source, OfFiles)
    *_, last = (file.name for file in source.files())
    last += "/images/c/0/0/0" * (name == "array")  # of a store, one of its objects
    units = list(source.units(CHUNK))
    if how == "gone":
        bucket_store.take_away(f"in/{last}")
    else:
        bucket_store.put(f"in/{last}", bucket_store.get(f"in/{last}") + b" ")
    there = pickle.loads(pickle.dumps(source))  # a worker that has read nothing yet
    empty_cache()
    with pytest.raises(SourceError, match=rf"/in/{re.escape(last)}: (is gone|was changed)"):
        _ = [list(there.read(unit)) for unit in units]


@pytest.mark.parametrize("name", ["folder", "table", "webdataset"])
def test_what_may_be_about_all_stops_the_reading(name: str, tmp_path: Path, bucket_store: ObjectStore) -> None:
    """Credentials that expired, or a network that is down, make no bad items."""
    _, source = both(name, tmp_path / "files", bucket_store)
    bucket_store.fail("forbidden", method="GET", name="?*", times=-1)
    with pytest.raises(SourceError, match=r"may not be read .*credentials"):
        read_all(source)


# -- listings ---------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(
    [
        "a.jpg",
        "a.cr2",
        "b.JPG",
        "b.cr2",
        "c.cr2",
        "x.txt",
        ".h.jpg",
        "_SUCCESS",
        "noend",
        "é.png",
        "a b.png",
        "d[1].jpg",
    ]
)
FOLDERS = st.lists(st.sampled_from(["in", "in-", "In", ".git", "é", "y=1", "[x]"]), max_size=3)
TREES = st.sets(st.builds(lambda folders, name: "/".join([*folders, name]), FOLDERS, NAMES), min_size=1, max_size=12)
PATTERNS = ["", "*", "**", "**/*.jpg", "*/*.jpg", "in*/**", "*/[ab].*", ".*/*", "in/**/a.*", "[[]x]/*", "é/*.png"]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=TREES, pattern=st.sampled_from(PATTERNS), recursive=st.booleans())
def test_a_tree_is_listed_and_counted_as_on_a_disk(
    bucket_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory, tree: set[str], pattern: str, recursive: bool
) -> None:
    folder = tmp_path_factory.mktemp("tree")
    mark = folder.name
    for name in tree:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
        bucket_store.put(f"{mark}/{name}", name.encode())
    takes, items = (".jpg", ".png"), (".cr2",)

    def files(path: Path | str) -> Files:
        return Files(path=path, takes=takes, items=items, recursive=recursive)

    on_disk = files(folder / pattern if pattern else folder)
    in_bucket = files(f"{bucket_store.url}/{mark}/{pattern}" if pattern else f"{bucket_store.url}/{mark}")
    depth = len(on_disk.root.relative_to(folder).parts)  # a pattern whose first parts are there begins below them
    below = "".join(f"{part}/" for part in on_disk.root.relative_to(folder).parts)
    assert depth == len(in_bucket.root.parts) or in_bucket.bucket is not None
    root = in_bucket.bucket
    assert root is not None
    whole = [root.url_of(name).removeprefix(f"{bucket_store.url}/{mark}/") for name in in_bucket.names()]
    assert whole == [below + name for name in on_disk.names()]
    assert [(file.bytes) for file in in_bucket.look()] == [file.bytes for file in on_disk.look()]
    there, here = in_bucket.passed_over(), on_disk.passed_over()
    assert (there.counts, there.taken, there.lost) == (here.counts, here.taken, here.lost)


def test_groups_are_named_as_on_a_disk(bucket_store: ObjectStore) -> None:
    for name in ("a.jpg", ".b.jpg", "c/d.jpg", "e", "f.svg"):
        bucket_store.put(name, b"1")
    found = Files(path=bucket_store.url, takes=(".jpg",), recursive=False).passed_over()
    assert found.counts == {HIDDEN: 1, INSIDE: 1, NO_SUFFIX: 1, ".svg": 1}
    assert found.examples[INSIDE] == ("c/d.jpg",)


def test_a_pattern_lists_only_what_can_match(bucket_store: ObjectStore) -> None:
    for number in range(2500):
        bucket_store.put(f"photos/{number:04d}/a.jpg", b"1")
    found = Files(path=f"{bucket_store.url}/photos/249*/*.jpg", takes=(".jpg",))
    bucket_store.forget_requests()
    assert list(found.names()) == [f"{number}/a.jpg" for number in range(2490, 2500)]
    assert len(bucket_store.requests("GET")) < 5, "not the pages before"


def test_what_is_there_is_meant_literally(bucket_store: ObjectStore) -> None:
    bucket_store.put("a[1]/b*.jpg", b"1")
    bucket_store.put("a1/bc.jpg", b"1")
    assert list(Files(path=f"{bucket_store.url}/a[1]", takes=(".jpg",)).names()) == ["b*.jpg"]
    assert list(Files(path=f"{bucket_store.url}/a[1]/b*.jpg", takes=(".jpg",)).names()) == ["b*.jpg"]
    assert list(Files(path=f"{bucket_store.url}/a[1]/*.jp?", takes=(".jpg",)).names()) == ["b*.jpg"]
    assert list(Files(path=f"{bucket_store.url}/a?/*.jpg", takes=(".jpg",)).names()) == ["a1/bc.jpg"]


def test_a_file_is_opened_as_it_was_listed_and_not_asked_for_again(bucket_store: ObjectStore) -> None:
    for name in ("a.csv", "b.csv"):
        bucket_store.put(f"in/{name}", b"before")
    files = Files(path=f"{bucket_store.url}/in", takes=(".csv",))
    assert list(files.names()) == ["a.csv", "b.csv"]
    bucket_store.put("in/b.csv", b"behind")
    bucket_store.forget_requests()
    assert files.path_of("a.csv").read_bytes() == b"before"
    assert [file.bytes for file in map(files.look_at, ("a.csv", "b.csv"))] == [6, 6]
    assert bucket_store.requests() == [("GET", "in/a.csv")]
    with pytest.raises(SourceError, match=r"in/b\.csv: was changed since it was listed"):
        files.path_of("b.csv")
    list(files.names())
    assert files.path_of("b.csv").read_bytes() == b"behind"


def test_nothing_there(bucket_store: ObjectStore) -> None:
    bucket_store.put("x.jpg", b"1")
    for url, message in (
        (f"{bucket_store.url}/no", "no such file or directory"),
        (f"{bucket_store.url}/no/*.csv", "no file that raysal reads matches"),
        (f"{bucket_store.url}/x.jp{{g,eg}}", r"not \{"),
        ("s3://no-such-bucket-at-all/x", "there is no such bucket"),
        ("s3://", "names no bucket"),
        ("s3://key:hidden@bucket/x", "holds a password"),
    ):
        with pytest.raises(SourceError, match=message) as refused:
            detect_source(url)
        assert "hidden" not in str(refused.value)
    with pytest.raises(SourceError, match="is a file, not a folder"):
        list(Folder(path=f"{bucket_store.url}/x.jpg").units(1))


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("shards", [False, True])
def test_a_store_of_zarr_is_read_as_on_a_disk(
    version: Literal[2, 3], shards: bool, tmp_path: Path, bucket_store: ObjectStore
) -> None:
    """With a chunk that was not written, and one that is cut short; alone by its URL, and below a folder."""
    if shards and version == 2:
        pytest.skip("version 2 has no shards")
    group = zarr.open_group(tmp_path / "z" / "a.zarr", mode="w", zarr_format=version)
    more: dict[str, Any] = {"shards": (4, 4)} if shards else {}
    array = group.create_array("in/vectors", shape=(12, 4), chunks=(2, 4), dtype="float32", fill_value=0, **more)
    array[:] = np.arange(48, dtype=np.float32).reshape(12, 4) + 1
    array[6:8] = 0
    chunks = sorted(file for file in (tmp_path / "z").rglob("*") if file.is_file() and file.suffix not in (".json",))
    cut = next(file for file in reversed(chunks) if not file.name.startswith(".z"))
    cut.write_bytes(cut.read_bytes()[:-9])
    bucket_store.put_folder(tmp_path / "z", "z/")
    for inside in ("", "/a.zarr"):
        here, there = Array(path=Path(f"{tmp_path}/z{inside}")), Array(path=f"{bucket_store.url}/z{inside}")
        assert detect_source(there.path) == there
        faults = [bucket_store.fail(what, method="GET", name="?*", times=2, each=2) for what in ("busy", "cut")]
        found, expected = read_all(there), read_all(here)
        assert [fault.struck for fault in faults] == [2, 2] or inside, "what is in the cache is not asked for"
        bucket_store.proxy.faults.clear()
        assert [item.key for item in found] == [item.key for item in expected]
        bad = [isinstance(item.payload, BadItem) for item in expected]
        assert [isinstance(item.payload, BadItem) for item in found] == bad
        assert 2 <= sum(bad) < 12
        for one, other in zip(found, expected, strict=True):
            if not isinstance(other.payload, BadItem):
                np.testing.assert_array_equal(one.payload, other.payload)


def test_options_that_are_local_files_take_no_url(bucket_store: ObjectStore) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((2, 3), np.float32))
    bucket_store.put("a.npy", buffer.getvalue())
    with pytest.raises(ConfigError, match=r"source\.keys: s3://.* is no local path"):
        detect_source(f"{bucket_store.url}/a.npy", keys=f"{bucket_store.url}/keys.txt")
    check_apart(f"{bucket_store.url}/a", Path("pool"))


def test_a_file_of_a_web_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYSAL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "a b.csv").write_text("key,text\nk,hello\n")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "www"))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_address[1]}"
            assert [item.payload for item in read_all(detect_source(f"{url}/a b.csv"))] == ["hello"]
            for missing in (url, f"{url}/b.csv", f"{url}/*.csv"):
                with pytest.raises(SourceError, match="only single files"):
                    detect_source(missing)
        finally:
            server.shutdown()
            thread.join()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_without_the_extra_it_says_what_to_install(bucket_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from raysal.buckets import bucket

    bucket._transport.cache_clear()
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(MissingExtra, match=r"pip install 'raysal\[cloud\]'"):
        detect_source(bucket_store.url)


def test_errors_of_a_file_name_its_url(bucket_store: ObjectStore) -> None:
    for name, data in (("a.parquet", b"no table"), ("b.csv", b"key,text\nx\n,y\n"), ("c.npy", b"no"), ("d.h5", b"no")):
        bucket_store.put(name, data)
        with pytest.raises(SourceError, match=re.escape(f"{bucket_store.url}/{name}: ")) as refused:
            read_all(detect_source(f"{bucket_store.url}/{name}"))
        assert "objects" not in str(refused.value), "where the cache has it is of no interest"
