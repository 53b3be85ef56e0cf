"""The server of HTTP, by uvicorn."""

from __future__ import annotations

import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from raysal.web.access import Access

GRACE_S = 2
"""Seconds that answers under way have when the server ends."""


class PageServer(uvicorn.Server):  # type: ignore[misc]  # uvicorn is not looked into
    """Says when it listens, and lets streams of events end before it waits for the requests under way."""

    def __init__(self, app: Access, started: Callable[[], None]) -> None:
        """Serve an application.

        Args:
            app: the application.
            started: called as soon as requests are answered.
        """
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, lifespan="on", server_header=False, ws="none",
            timeout_graceful_shutdown=GRACE_S,
        )  # fmt: skip
        super().__init__(config)
        self._app, self._started = app, started

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end. Who presses Ctrl-C again waits no longer: the end takes `GRACE_S`, and loses nothing."""
        if not self.should_exit:
            super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        if self.started:
            self._started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End."""
        self._app.closing.set()
        await super().shutdown(sockets)
