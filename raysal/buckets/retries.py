"""When a request is tried again, and after how long.

All requests of all transports are tried again here, and nowhere else: so an error says the same whatever the service,
and a long download goes on where it stopped.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from typing import TypeVar

from raysal.buckets.base import Failure

T = TypeVar("T")

TRIES = 10
"""How often a request is tried without any progress. With the waits it takes 40 to 60 seconds, in which a service that
asks to slow down recovers, and a node of it that died is replaced."""
FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 15.0
"""Each wait is twice the one before, up to this one; see `wait_before`."""
SILENCE_S = 30.0
"""How long a connection may give no byte before it is lost."""

_pause = threading.Event()
"""Is never set: to wait for it is to sleep, and a test can wait in no time."""


class Patience:
    """Counts the tries of one request. One that made progress has all its tries again."""

    def __init__(self) -> None:
        self.tries = 0

    def progress(self) -> None:
        """Something came of the request."""
        self.tries = 0

    def after(self, failure: Failure) -> None:
        """Wait before the next try.

        Args:
            failure: how the last one ended.

        Raises:
            Failure: the same, if it will not pass, or the tries are used up.
        """
        self.tries += 1
        if failure.reason != "passing" or self.tries >= TRIES:
            raise failure
        _pause.wait(wait_before(self.tries))


def wait_before(tries: int) -> float:
    """How long to wait before the next try: twice as long each time, and between half and all of that.

    The half is drawn, so that a thousand readers that failed together do not come back together.

    Args:
        tries: how many have failed.

    Returns:
        Seconds.
    """
    full = min(FIRST_WAIT_S * 2.0 ** (tries - 1), LONGEST_WAIT_S)
    return float(full * (0.5 + secrets.randbelow(1024) / 2048))


def with_retries(request: Callable[[], T]) -> T:
    """Make a request until it succeeds.

    Args:
        request: raises `Failure`.

    Returns:
        What it returns.

    Raises:
        Failure: it will not pass, or the tries are used up.
    """
    patience = Patience()
    while True:
        try:
            return request()
        except Failure as failure:
            patience.after(failure)
