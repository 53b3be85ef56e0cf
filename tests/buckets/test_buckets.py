"""A bucket: listings in order, whole reads of one version, writes in one step, and every fault of a network."""

from __future__ import annotations

import pickle
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from object_store import SECRET, ObjectStore, What

from raysal.buckets import Bucket, is_url, local_or_url, retries
from raysal.errors import BucketError, RaysalError, Taken

DATA = bytes(range(256)) * 4096
ODD_NAMES = [
    "a b.jpg",
    "100%25.jpg",
    "x#y?.jpg",
    "ü/é.jpg",
    "[x]*.jpg",
    "a+b",
    "a\\b",
    "c:d",
    ".hidden/x",
    "😀",
    "p-",
    "p/q",
]


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.0)


@pytest.fixture
def there(bucket_store: ObjectStore) -> Bucket:
    """A folder of the bucket with one object."""
    bucket_store.put("photos/a.jpg", DATA)
    return Bucket(f"{bucket_store.url}/photos")


# -- addresses --------------------------------------------------------------------------------------------------------


def test_what_is_a_url() -> None:
    assert is_url("s3://bucket/a")
    assert not any(map(is_url, ("C://a", "images", "/a/s3://b", "s3:/bucket", Path("s3://bucket/a"))))
    assert local_or_url("file:///a%20b/c") == Path("/a b/c")
    assert local_or_url("images") == Path("images")
    assert local_or_url("S3A://Bucket/a%20b//") == "s3://Bucket/a%20b"
    assert Bucket("s3://b/").url == "s3://b"
    assert Bucket("s3://b/x/").below("y").url == "s3://b/x/y"


@pytest.mark.parametrize(
    "url",
    ["s3://key:hidden@bucket/a", "https://ann:hidden@host/a", "https://host/a?sig=hidden", "sftp://ann:hidden@host/a"],
)
def test_a_password_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(BucketError, match="take it out") as refused:
        Bucket(url)
    assert "hidden" not in str(refused.value)


def test_a_bucket_is_only_its_address(there: Bucket) -> None:
    there.read("a.jpg")
    assert pickle.loads(pickle.dumps(there)) == there
    assert SECRET not in repr(there) + pickle.dumps(there).decode("latin-1")


# -- listings ---------------------------------------------------------------------------------------------------------


def test_names_come_as_they_are_and_in_order(bucket_store: ObjectStore) -> None:
    for name in ODD_NAMES:
        bucket_store.put(f"in/{name}", name.encode())
    bucket_store.put("in-", b"beside")
    bucket = Bucket(f"{bucket_store.url}/in")
    listed = list(bucket.list())
    assert [found.name for found in listed] == sorted(ODD_NAMES)
    assert all(bucket.read(found.name, etag=found.etag) == found.name.encode() for found in listed)
    assert all(bucket.look_at(found.name) == found for found in listed)
    assert [found.size for found in listed] == [len(name.encode()) for name in sorted(ODD_NAMES)]


def test_markers_of_folders_are_no_objects(bucket_store: ObjectStore) -> None:
    for name in ("in/", "in/a/", "in/a/1", "in/a-b", "in/c-d", "in/c/", "in/empty"):
        bucket_store.put(name, b"1" * name[-1].isalnum() * (name != "in/empty"))
    assert [found.name for found in Bucket(f"{bucket_store.url}/in").list()] == ["a-b", "a/1", "c-d", "empty"]


@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/1", "a/1x", "b", "c", "a-", "a/12"])
def test_a_prefix_takes_the_names_that_begin_so(bucket_store: ObjectStore, prefix: str) -> None:
    names = ["a", "a-b", "a/1", "a/12", "a/2", "ab", "b/1", "b1"]
    for name in names:
        bucket_store.put(f"in/{name}", b"1")
    listed = [found.name for found in Bucket(f"{bucket_store.url}/in").list(prefix)]
    assert listed == [name for name in names if name.startswith(prefix)]


def test_a_long_listing_streams_in_order_past_faults(bucket_store: ObjectStore) -> None:
    names = [f"{number:05d}" for number in range(5000)]
    for name in names:
        bucket_store.put(f"many/{name}", b"1")
    stream = Bucket(f"{bucket_store.url}/many").list()
    first = [next(stream).name for _ in range(1500)]
    assert len(bucket_store.requests("GET", "")) == 2, "a page is asked for when it is needed"
    faults = [bucket_store.fail(what, name="", times=2) for what in ("busy", "lost", "cut")]
    assert first + [found.name for found in stream] == names
    assert all(fault.struck for fault in faults)


def test_what_no_listing_can_name_is_an_error(bucket_store: ObjectStore) -> None:
    bucket_store.put("a//b", b"1")
    with pytest.raises(BucketError, match="a//b"):
        list(Bucket(bucket_store.url).list())


# -- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "length"), [(0, None), (7, None), (0, 10), (5, 10), (len(DATA) - 3, 10), (len(DATA), 5)]
)
def test_a_range_is_that_of_the_bytes(there: Bucket, start: int, length: int | None) -> None:
    stop = None if length is None else start + length
    assert there.read("a.jpg", start=start, length=length) == DATA[start:stop]


def test_an_empty_object_has_no_bytes(bucket_store: ObjectStore, tmp_path: Path) -> None:
    bucket_store.put("none", b"")
    bucket = Bucket(bucket_store.url)
    assert bucket.read("none") == bucket.read("none", length=5) == b""
    bucket.fetch("none", tmp_path / "none", size=0)
    assert (tmp_path / "none").read_bytes() == b""


@pytest.mark.parametrize("what", ["busy", "lost", "cut", "silent"])
def test_what_passes_is_tried_again(
    there: Bucket, bucket_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: What
) -> None:
    monkeypatch.setattr(retries, "SILENCE_S", 0.2)
    forget_connections()
    found = there.look_at("a.jpg")
    assert found is not None
    fault = bucket_store.fail(what, method="GET", times=5, after=1000)
    assert there.read("a.jpg", etag=found.etag) == DATA
    bucket_store.fail(what, method="GET", times=5, after=300_000)
    there.fetch("a.jpg", tmp_path / "a.jpg", size=found.size, etag=found.etag)
    assert (tmp_path / "a.jpg").read_bytes() == DATA
    assert fault.times == 0
    forget_connections()


def test_a_download_goes_on_where_it_stopped_as_long_as_it_moves(there: Bucket, bucket_store: ObjectStore) -> None:
    """More cuts than tries: a try that brought something does not count."""
    bucket_store.put("photos/big", DATA * 30)
    fault = bucket_store.fail("cut", name="*/big", times=retries.TRIES + 5, after=2**20)
    assert there.read("big") == DATA * 30
    assert fault.times == 0


def test_a_shorter_object_than_listed_is_no_whole_one(there: Bucket, bucket_store: ObjectStore, tmp_path: Path) -> None:
    found = there.look_at("a.jpg")
    assert found is not None
    with pytest.raises(
        BucketError, match=r"photos/a\.jpg: could not be read, 10 times in turn \(.*cut short: 1048576 of"
    ):
        there.fetch("a.jpg", tmp_path / "a.jpg", size=found.size + 1, etag=found.etag)
    with pytest.raises(BucketError, match="was changed since it was listed"):
        there.fetch("a.jpg", tmp_path / "a.jpg", size=found.size - 1)
    assert list(tmp_path.glob("*a.jpg*")) == [], "nothing is left of it"


@pytest.mark.parametrize("what", ["busy", "lost", "cut"])
def test_what_does_not_pass_is_an_error_that_says_so(there: Bucket, bucket_store: ObjectStore, what: What) -> None:
    bucket_store.fail(what, method="GET", times=-1, after=0)
    bucket_store.forget_requests()
    with pytest.raises(BucketError, match=f"could not be read, {retries.TRIES} times in turn"):
        there.read("a.jpg")
    assert len(bucket_store.requests("GET")) == retries.TRIES


ACTIONS: dict[str, Callable[[Bucket], object]] = {
    "list": lambda bucket: list(bucket.list()),
    "look": lambda bucket: bucket.look_at("a.jpg"),
    "read": lambda bucket: bucket.read("a.jpg"),
    "write": lambda bucket: bucket.write("b", b"1"),
    "write once": lambda bucket: bucket.write("b", b"1", only_if_absent=True),
    "delete": lambda bucket: bucket.delete(["a.jpg"]),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_forbidden_names_the_bucket_and_what_to_allow(there: Bucket, bucket_store: ObjectStore, action: str) -> None:
    bucket_store.fail("forbidden", times=-1)
    bucket_store.forget_requests()
    with pytest.raises(BucketError, match=f"may not be .* credentials .*{bucket_store.url}") as refused:
        ACTIONS[action](there)
    assert refused.value.reason == "forbidden"
    assert SECRET not in str(refused.value)
    assert len(bucket_store.requests()) == 1, "to try again does not help"


@pytest.mark.parametrize("action", ACTIONS)
def test_busy_passes_for_every_request(there: Bucket, bucket_store: ObjectStore, action: str) -> None:
    fault = bucket_store.fail("busy", times=3)
    ACTIONS[action](there)
    assert fault.times == 0


def test_gone_and_changed_since_the_listing(there: Bucket, bucket_store: ObjectStore, tmp_path: Path) -> None:
    bucket_store.put("photos/b.jpg", b"before")
    a, b = there.list()
    bucket_store.take_away("photos/a.jpg")
    bucket_store.put("photos/b.jpg", b"behind")
    for reading in (
        lambda found: there.read(found.name, etag=found.etag),
        lambda found: there.fetch(found.name, tmp_path / "x", size=found.size, etag=found.etag),
    ):
        with pytest.raises(BucketError, match=r"photos/a\.jpg: is gone; it was there when the bucket was listed"):
            reading(a)
        with pytest.raises(BucketError, match=r"photos/b\.jpg: was changed since it was listed"):
            reading(b)
    assert there.look_at("a.jpg") is None
    with pytest.raises(BucketError, match="there is no such object"):
        there.read("a.jpg")


def test_no_version_is_mixed_with_another(there: Bucket, bucket_store: ObjectStore) -> None:
    """The object is replaced while it is read: the second request would give bytes of the new one."""
    bucket_store.put("photos/big", DATA * 3)
    bucket_store.fail("cut", name="*/big", after=2**20 + 5)
    stream = iter(there._pieces("big", None, 0, None, None))
    next(stream)
    bucket_store.put("photos/big", DATA[::-1] * 3)
    with pytest.raises(BucketError, match="was changed"):
        list(stream)


def test_no_such_bucket(bucket_store: ObjectStore) -> None:
    with pytest.raises(BucketError, match=r"s3://no-such-bucket: there is no such bucket"):
        list(Bucket("s3://no-such-bucket").list())


def test_without_credentials_it_says_so(
    bucket_store: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    forget_connections()
    with pytest.raises(BucketError, match="no credentials were found"):
        list(Bucket(bucket_store.url).list())
    (tmp_path / "credentials").write_text(f"[default]\naws_access_key_id=a\naws_secret_access_key={SECRET}\n")
    forget_connections()
    assert list(Bucket(bucket_store.url).list()) == [], "as `aws configure` writes them"
    forget_connections()


def forget_connections() -> None:
    from raysal.buckets import bucket

    bucket._transport.cache_clear()


# -- writing ----------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read(there: Bucket, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA * 6)
    written = there.write("deep/in/it", tmp_path / "file")
    assert written == there.look_at("deep/in/it")._replace(changed_ns=0)
    assert [written] == [found._replace(changed_ns=0) for found in there.list("deep")]
    assert there.read("deep/in/it", etag=written.etag) == DATA * 6
    there.delete(["deep/in/it", "never"])
    assert there.look_at("deep/in/it") is None


def test_the_version_of_what_is_written_is_the_one_that_was_written(there: Bucket, bucket_store: ObjectStore) -> None:
    """A writer that is paused behind its write does not take the version of another one for its own."""
    bucket_store.before("HEAD", "*", lambda: bucket_store.put("photos/state", b"theirs"))
    first = there.write("state", b"ours", only_if_absent=True)
    bucket_store.put("photos/state", b"theirs")
    with pytest.raises(Taken):
        there.write("state", b"ours again", etag=first.etag)
    assert bucket_store.get("photos/state") == b"theirs"


@pytest.mark.parametrize("bytes_", [0, 12_000_000], ids=["empty", "in parts"])
def test_a_file_of_any_size_is_the_version_that_a_listing_shows(there: Bucket, tmp_path: Path, bytes_: int) -> None:
    (tmp_path / "file").write_bytes(bytes(bytes_))
    written = there.write("large", tmp_path / "file", only_if_absent=True)
    assert [written] == [found._replace(changed_ns=0) for found in there.list("large")]


def test_of_many_writers_one_wins(there: Bucket, bucket_store: ObjectStore) -> None:
    bucket_store.fail("busy", method="PUT", times=3, each=2)
    start = threading.Barrier(8)
    won: list[bytes] = []
    lost: list[bytes] = []

    def write(mark: bytes) -> None:
        start.wait()
        try:
            there.write("claim", mark, only_if_absent=True)
            won.append(mark)
        except Taken:
            lost.append(mark)

    threads = [threading.Thread(target=write, args=(b"%d" % number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
    assert there.read("claim") == won[0]


def test_a_version_is_replaced_once(there: Bucket) -> None:
    first = there.write("state", b"1")
    second = there.write("state", b"2", etag=first.etag)
    with pytest.raises(Taken, match="not the version"):
        there.write("state", b"3", etag=first.etag)
    assert there.read("state", etag=second.etag) == b"2"
    there.delete(["state"])
    with pytest.raises(Taken):
        there.write("state", b"4", etag=second.etag)


@pytest.mark.parametrize("theirs", [False, True])
def test_a_write_whose_answer_was_lost_is_ours_if_it_holds_our_bytes(
    there: Bucket, bucket_store: ObjectStore, theirs: bool
) -> None:
    if theirs:
        bucket_store.put("photos/claim", b"theirs")
    fault = bucket_store.fail("lost answer", method="PUT")
    try:
        there.write("claim", b"ours", only_if_absent=True)
        assert not theirs
    except Taken:
        assert theirs
    assert fault.times == 0
    assert bucket_store.get("photos/claim") == (b"theirs" if theirs else b"ours")


def test_errors_are_of_the_tree(there: Bucket) -> None:
    with pytest.raises(RaysalError, match=re.escape(f"{there.url}/no")):
        there.read("no")


# -- what services say in other words ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "match"),
    [
        (409, "BlobAlreadyExists", "is there already"),
        (409, "BlobBeingRehydrated", "10 times in turn"),
        (501, "NotImplemented", "cannot be written"),
    ],
)
def test_what_azure_says_of_a_write(status: int, code: str, match: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Azurite answered: an object that is there is a 409, which of S3 is a conflict that passes."""
    asked: list[str] = []

    class Azure(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

        def do_PUT(self) -> None:
            asked.append(self.headers.get("If-None-Match", ""))
            self.rfile.read(int(self.headers["Content-Length"]))
            body = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Azure) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AZURE_STORAGE_USE_EMULATOR", "true")
        monkeypatch.setenv("AZURITE_BLOB_STORAGE_URL", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        bucket = Bucket(f"az://of-{code.lower()}")
        with pytest.raises(BucketError, match=match) as caught:
            bucket.write("a.txt", b"data", only_if_absent=True)
        server.shutdown()
    assert isinstance(caught.value, Taken) == (code == "BlobAlreadyExists")
    assert set(asked) == {"*"}
    assert (len(asked) == 1) == (code != "BlobBeingRehydrated")
