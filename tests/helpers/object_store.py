"""An object store on this machine: moto's S3 over real HTTP, and in front of it a proxy that can be told to fail.

What raysal sends goes through the proxy. `ObjectStore.put` and the like change the store behind its back, as another
program would. moto decides on conditions of a PUT in two steps; the proxy lets one PUT through at a time, so that they
are one, as S3 has it.
"""

from __future__ import annotations

import contextlib
import fnmatch
import http.client
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from raysal.buckets import cache

ACCOUNT = "123456789012"
SECRET = "the-secret-of-the-tests"

What = Literal["busy", "forbidden", "cut", "lost", "lost answer", "silent"]
"""503; 403; the body ends in the middle; no answer; the request is done, then no answer; the answer stops coming."""


@dataclass
class Fault:
    """What the proxy does to requests instead of passing them on."""

    what: What
    method: str = "*"
    name: str = "*"
    """A pattern of the object's name; that of a listing is ""."""
    times: int = 1
    """How many requests are still to fail; below 0 all of them."""
    each: int = 1
    """Only each so-many-th request that matches."""
    after: int = 0
    """Of "cut" and "silent": bytes of the body that come before."""
    seen: int = 0
    struck: int = 0

    def strikes(self, method: str, name: str) -> bool:
        """Count a request, and say whether it fails."""
        if not (fnmatch.fnmatchcase(method, self.method) and fnmatch.fnmatchcase(name, self.name)):
            return False
        self.seen += 1
        if self.times == 0 or self.seen % self.each:
            return False
        self.times -= 1
        self.struck += 1
        return True


@dataclass
class ObjectStore:
    """One bucket of the server, for one test."""

    bucket: str
    proxy: Proxy
    backend: Any = field(repr=False)

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}"

    # -- behind raysal's back --

    def put(self, name: str, data: bytes | Path) -> None:
        self.backend.put_object(self.bucket, name, data if isinstance(data, bytes) else data.read_bytes())

    def put_folder(self, folder: Path, prefix: str = "") -> None:
        """Copy all files of a folder, with their relative names."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(prefix + path.relative_to(folder).as_posix(), path)

    def take_away(self, name: str) -> None:
        self.backend.delete_object(self.bucket, name)

    def names(self) -> list[str]:
        return sorted(self.backend.buckets[self.bucket].keys)

    def get(self, name: str) -> bytes:
        return bytes(self.backend.get_object(self.bucket, name).value)

    # -- faults --

    def fail(self, what: What, **how: Any) -> Fault:
        """Let requests fail; see `Fault`."""
        fault = Fault(what, **how)
        self.proxy.faults.append(fault)
        return fault

    def before(self, method: str, name: str, call: Callable[[], None]) -> None:
        """Call something once, when the first such request is there and before it is answered."""
        self.proxy.calls.append((method, name, call))

    def requests(self, method: str = "*", name: str = "*") -> list[tuple[str, str]]:
        """(method, name) of the requests that came for this bucket; a listing has the name "" """
        with self.proxy.guard:
            seen = [(found, object_) for found, bucket, object_ in self.proxy.requests if bucket == self.bucket]
        return [one for one in seen if fnmatch.fnmatchcase(one[0], method) and fnmatch.fnmatchcase(one[1], name)]

    def forget_requests(self) -> None:
        with self.proxy.guard:
            self.proxy.requests.clear()


class Proxy:
    """Passes requests on to the server behind it, or fails as it was told."""

    def __init__(self, behind: tuple[str, int]) -> None:
        self.behind = behind
        self.guard, self.one_write = threading.Lock(), threading.Lock()
        self.closing = threading.Event()
        self.forget()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def forget(self) -> None:
        self.faults: list[Fault] = []
        self.calls: list[tuple[str, str, Callable[[], None]]] = []
        self.requests: list[tuple[str, str, str]] = []

    def arrived(self, method: str, bucket: str, name: str) -> Fault | None:
        """Note a request, make the calls that wait for it, and return how it fails."""
        with self.guard:
            self.requests.append((method, bucket, name))
            due = [call for call in self.calls if call[0] == method and fnmatch.fnmatchcase(name, call[1])]
            self.calls = [call for call in self.calls if call not in due]
            fault = next((fault for fault in self.faults if fault.strikes(method, name)), None)
        for _, _, call in due:
            call()
        return fault

    def close(self) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy
    wbufsize = -1

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def handle_one_request(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle_one_request()

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path).lstrip("/")
        bucket, _, name = path.partition("/")
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.proxy.arrived(self.command, bucket, name)
        what = fault.what if fault else None
        if what == "lost":
            return self.hang_up()
        if what in ("busy", "forbidden"):
            status, code = (503, "SlowDown") if what == "busy" else (403, "AccessDenied")
            return self.send(status, {}, f"<Error><Code>{code}</Code></Error>".encode())
        status, headers, body = self.pass_on(sent)
        if what == "lost answer":
            return self.hang_up()
        if fault is None or what not in ("cut", "silent"):
            return self.send(status, headers, body)
        self.send(status, headers, body, fault.after)
        if what == "silent":
            self.connection.settimeout(0.05)
            while not self.proxy.closing.is_set():  # until the reader has had enough
                try:
                    if not self.connection.recv(1):
                        break
                except TimeoutError:
                    continue
        return self.hang_up()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

    def pass_on(self, sent: bytes) -> tuple[int, Mapping[str, str], bytes]:
        with self.proxy.one_write if self.command == "PUT" else contextlib.nullcontext():
            there = http.client.HTTPConnection(*self.proxy.behind, timeout=60)
            headers = {key: value for key, value in self.headers.items() if key.lower() != "connection"}
            there.request(self.command, self.path, sent, headers)
            answer = there.getresponse()
            body = answer.read()
            there.close()
        return answer.status, dict(answer.headers), body

    def send(self, status: int, headers: Mapping[str, str], body: bytes, cut: int | None = None) -> None:
        self.send_response_only(status)
        for key, value in headers.items():
            if key.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(key, value)
        length = len(body)
        if self.command == "HEAD":
            length = int({key.lower(): value for key, value in headers.items()}.get("content-length", 0))
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if cut is None else body[:cut])
        self.wfile.flush()

    def hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def running_server() -> Iterator[tuple[Proxy, Any]]:
    """The server and the proxy, for a session of tests: (proxy, moto's backend)."""
    import logging

    from moto.backends import get_backend
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    proxy = Proxy(server.get_host_and_port())
    try:
        yield proxy, get_backend("s3")[ACCOUNT]["aws"]
    finally:
        proxy.close()
        server.stop()


def environment(proxy: Proxy) -> dict[str, str]:
    """What a process needs to find the server: by these names for the cloud's own tools, too."""
    return {
        "AWS_ACCESS_KEY_ID": "key-of-the-tests",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ENDPOINT_URL": proxy.url,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }


@contextlib.contextmanager
def fresh_bucket(proxy: Proxy, backend: Any, name: str = "") -> Iterator[ObjectStore]:
    """A bucket of its own, without faults."""
    proxy.forget()
    name = name or f"test-{os.urandom(6).hex()}"
    backend.create_bucket(name, "us-east-1")
    try:
        yield ObjectStore(name, proxy, backend)
    finally:
        proxy.forget()
        backend.buckets.pop(name, None)


def empty_cache() -> None:
    """As on a machine that has downloaded nothing."""
    while cache._held:
        os.close(cache._held.popitem()[1])
    for path in (cache.cache_folder() / "objects").rglob("*.*"):
        path.unlink()
