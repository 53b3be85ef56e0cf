"""Writes on a condition to a service that compares generations, as Google's does: a server of its own, over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from raysal.buckets import Bucket, retries
from raysal.buckets.bucket import _transport
from raysal.buckets.lease import NAME, Lease
from raysal.errors import NotNow, Taken


class Objects(BaseHTTPRequestHandler):
    """What the XML interface answers to reads and writes of single objects."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    held: dict[str, tuple[int, bytes]]
    one = threading.Lock()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def answer(self) -> None:
        name = urlsplit(self.path).path
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.one:
            generation, data = self.held.get(name, (0, b""))
            wanted = self.headers.get("x-goog-if-generation-match")
            if self.command == "PUT":
                if wanted is not None and int(wanted) != generation:
                    return self.say(412, {})
                generation = 1 + max((number for number, _ in self.held.values()), default=0)
                self.held[name] = generation, sent
                data = b""
            elif not generation:
                return self.say(404, {})
            elif self.command == "DELETE":
                del self.held[name]
                return self.say(200, {})
        version = {"ETag": f'"e{generation}"', "x-goog-generation": str(generation)}
        if self.headers.get("If-Match", version["ETag"]) != version["ETag"]:
            return self.say(412, {})
        return self.say(200, {**version, "Last-Modified": "Mon, 30 Nov 2026 08:00:00 GMT"}, data)

    def say(self, status: int, headers: dict[str, str], data: bytes = b"") -> None:
        self.send_response_only(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        self.wfile.flush()

    do_GET = do_HEAD = do_PUT = do_DELETE = answer


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.0)
    monkeypatch.setattr(retries, "TRIES", 2)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Objects,), {"held": {}}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    key = {"gcs_base_url": f"http://127.0.0.1:{server.server_address[1]}", "disable_oauth": True}
    key |= dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps(key))
    monkeypatch.setenv("ALLOW_HTTP", "true")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    _transport.cache_clear()
    yield Bucket("gs://bucket/folder")
    _transport.cache_clear()
    server.shutdown()
    server.server_close()


def test_a_version_is_replaced_once(folder: Bucket) -> None:
    first = folder.write("state", b"1", only_if_absent=True)
    with pytest.raises(Taken, match="is there already"):
        folder.write("state", b"2", only_if_absent=True)
    second = folder.write("state", b"3", etag=first.etag)
    with pytest.raises(Taken, match="not the version"):
        folder.write("state", b"4", etag=first.etag)
    assert folder.read("state", etag=second.etag) == b"3"
    with pytest.raises(Taken):
        folder.write("never", b"5", etag=first.etag)


def test_a_lock_is_renewed_and_ends(folder: Bucket) -> None:
    with Lease(folder, "one", "pool") as held:
        held._renewed = -1e9
        held.check()
        held.check()
        with pytest.raises(NotNow), Lease(folder, "two", "pool"):
            pass
    assert json.loads(folder.read(NAME))["ended"]
    with Lease(folder, "two", "pool") as held:
        held.check()
