"""The doctor on this machine, and each check on something that really is broken."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer

import pytest
from cli_tools import cli

from raysal.cli import checks, dashboards


def test_this_machine_is_examined() -> None:
    answer = cli("doctor", "--quick", "--json")
    assert answer.code == (0 if answer.json["ok"] else 1)
    found = {finding["name"]: finding for finding in answer.json["findings"]}
    assert {"raysal", "python", "torch", "pyarrow", "cpus", "gpu", "memory", "disk", "ray dashboard"} <= set(found)
    assert "ray start" not in found
    broken = [name for name, finding in found.items() if finding["state"] == "broken"]
    assert broken == answer.json["broken"]
    assert all(found[name]["fix"] for name in broken)
    assert "torch" in cli("doctor", "--quick").out


def test_what_is_broken_exits_with_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with dashboard() as port:
        monkeypatch.setattr(dashboards, "DASHBOARD_PORT", port)
        monkeypatch.setattr(dashboards, "own_addresses", lambda: ["127.0.0.1"])
        answer = cli("doctor", "--quick", "--out", tmp_path / "new", "--json")
    assert answer.code == 1
    assert "ray dashboard" in answer.json["broken"]


@contextmanager
def dashboard(token: bool = False, body: bytes = b'{"version": "4", "ray_version": "2.60.0"}') -> Iterator[int]:
    """A server that answers as a Ray dashboard does, with or without a token."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(401 if token else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_dashboard_without_a_token_is_told_from_one_with_it() -> None:
    with dashboard() as port:
        assert dashboards.probe_dashboard("127.0.0.1", port) == "open"
    assert dashboards.probe_dashboard("127.0.0.1", port) is None
    with dashboard(token=True) as port:
        assert dashboards.probe_dashboard("127.0.0.1", port) == "closed"
    with dashboard(body=b"something else") as port:
        assert dashboards.probe_dashboard("127.0.0.1", port) is None


def test_what_speaks_something_else_is_no_dashboard() -> None:
    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(b"SSH-2.0-something\r\n")

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            assert dashboards.probe_dashboard("127.0.0.1", server.server_address[1]) is None
        finally:
            server.shutdown()
            thread.join()


def test_own_addresses_are_those_others_can_reach() -> None:
    assert not any(address.startswith("127.") or address == "::1" for address in dashboards.own_addresses())


def test_both_faiss_packages_at_once_are_broken() -> None:
    (finding,) = checks.faiss_packages(["faiss-cpu", "faiss-gpu"])
    assert finding.state == "broken"
    assert "faiss-cpu and faiss-gpu" in finding.detail
    assert "pip uninstall" in finding.fix
    (absent,) = checks.faiss_packages([])
    assert absent.state == "warning"


@pytest.mark.parametrize(("version", "state"), [("2.53.1", "broken"), ("2.54.0", "ok"), ("3.0.0rc1", "ok")])
def test_the_floor_of_ray(version: str, state: str) -> None:
    assert next(checks.ray_version(version)).state == state


def test_a_cluster_without_tokens_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    assert checks.ray_security().state == "warning"
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert checks.ray_security().state == "ok"


def test_disk_is_judged_where_the_run_would_be(tmp_path: Path) -> None:
    finding = checks.disk(tmp_path / "not" / "yet")
    assert str(tmp_path) in finding.detail


def test_a_module_that_cannot_be_imported_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_there.py").write_text("raise OSError('libfoo.so: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    finding = checks.check_import("half-there", "half_there")
    assert finding.state == "broken"
    assert "libfoo.so" in finding.detail
