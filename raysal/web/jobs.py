"""Work that other threads ask of one thread, in the order in which they ask."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as NotYet
from threading import Lock
from typing import Any

from raysal.errors import RaysalError


class Stopped(RaysalError):
    """Somebody pressed stop."""


UNDONE = (NotYet, CancelledError, Stopped)
"""Why a job that somebody waits for gives nothing, and may the next time."""


class Jobs:
    """A line of jobs. Any thread may `submit`; one thread does them."""

    def __init__(self, came: Callable[[], None]) -> None:
        """Begin an empty line.

        Args:
            came: called when a job came.
        """
        self._line: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._came = came
        self._lock, self._ended = Lock(), False

    def __len__(self) -> int:
        return len(self._line)

    def submit(self, work: Callable[[], Any]) -> Future[Any]:
        """Line up some work; the future gets what it returns or raises, and is cancelled where the line has ended."""
        future: Future[Any] = Future()
        with self._lock:
            if self._ended:
                future.cancel()
                return future
            self._line.append((work, future))
        self._came()
        return future

    def do_next(self) -> None:
        """Do the first job of the line, unless it was cancelled."""
        work, future = self._line.popleft()
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = work()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    def end(self) -> None:
        """Cancel what waits in the line, and what comes from now on."""
        with self._lock:
            self._ended = True
            waiting = list(self._line)
        for _, future in waiting:
            future.cancel()
