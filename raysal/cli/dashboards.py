"""Check whether others can reach a Ray dashboard of this machine without a token."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

State = Literal["ok", "warning", "broken"]
DASHBOARD_PORT = 8265


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of one check."""

    name: str
    state: State
    """`broken`: a run would fail, or be unsafe"""
    detail: str
    fix: str = ""
    """what to do about it"""


def dashboards() -> Iterator[Finding]:
    """Look for dashboards that are open to the network.

    Whoever reaches a dashboard without a token can run any program on this machine.

    Yields:
        The finding.
    """
    listening = 0
    for port in sorted({DASHBOARD_PORT, *dashboard_ports()}):
        for host in own_addresses():
            answer = probe_dashboard(host, port)
            listening += answer is not None
            if answer == "open":
                yield Finding(
                    name="ray dashboard",
                    state="broken",
                    detail=f"open to the network at {host}:{port}, without a token",
                    fix="restart Ray with --dashboard-host 127.0.0.1, or with RAY_AUTH_MODE=token",
                )
                return
    detail = "reachable from outside with a token only" if listening else "not reachable from outside"
    yield Finding(name="ray dashboard", state="ok", detail=detail)


def dashboard_ports() -> set[int]:
    """The ports of this machine's dashboards, as their processes were started (Linux; elsewhere none is known)."""
    ports = set()
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = command.read_bytes().decode(errors="replace").split("\0")
        except OSError:  # the process has ended, or belongs to somebody else
            continue
        if any(word.endswith("dashboard/dashboard.py") for word in words):
            ports |= {int(w.removeprefix("--port=")) for w in words if w.startswith("--port=") and w[7:].isdigit()}
    return ports


def own_addresses() -> list[str]:
    """The addresses at which others can reach this machine."""
    found = set()
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((target, 9))  # finds the outgoing address; nothing is sent
                found.add(str(probe.getsockname()[0]))
        except OSError:
            continue
    with contextlib.suppress(OSError):
        found |= {str(entry[4][0]) for entry in socket.getaddrinfo(socket.gethostname(), None)}
    return sorted(address for address in found if not ipaddress.ip_address(address.split("%")[0]).is_loopback)


def probe_dashboard(host: str, port: int, seconds: float = 10.0) -> Literal["open", "closed"] | None:
    """Ask whether a Ray dashboard answers.

    Args:
        host: an address of this machine.
        port: where a dashboard may listen.
        seconds: how long to wait.

    Returns:
        `open`: a dashboard answers without a token; `closed`: it asks for one; None: there is no dashboard.
    """
    netloc = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{netloc}/api/version", timeout=seconds) as answer:
            return "open" if b"ray_version" in answer.read(4096) else None
    except urllib.error.HTTPError as error:
        with error:
            return "closed" if error.code in (401, 403) else None
    except (OSError, ValueError, http.client.HTTPException):  # also a server that speaks another protocol
        return None
