"""Joining a Ray cluster: whether anything listens at its address, the error if nothing does, and signals."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator

from raysal.errors import ConfigError

REACH_TIMEOUT = 5.0
"""Seconds a cluster may take to accept a connection. Ray itself tries for a minute, and writes to the log."""


@contextlib.contextmanager
def keeping_sigterm() -> Iterator[None]:
    """Keep what this process does on SIGTERM. Ray would leave at once, and nobody would be told how to go on.

    Where nothing was arranged, Ray's own way stays: it ends what it has started.

    Yields:
        Once.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(before) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def check_address(address: str) -> None:
    """Connect to the port of a cluster once.

    Args:
        address: host:port, or ray://host:port.

    Raises:
        ConfigError: It is not of that form, or nothing listens there.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not host or not colon or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(*no_cluster(address, "not host:port"))
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_TIMEOUT).close()
    except OSError as error:
        raise ConfigError(*no_cluster(address, error.strerror or str(error))) from None


def no_cluster(address: str, problem: str) -> tuple[str, str, str]:
    """Return the three parts of the ConfigError for an address without a cluster."""
    given = " (from RAY_ADDRESS)" if address == os.environ.get("RAY_ADDRESS") else ""
    return (
        "fleet.address",
        f"no Ray cluster can be joined at {address!r}{given}: {problem}",
        "start one there with `ray start --head`, or give no address to start Ray here",
    )
