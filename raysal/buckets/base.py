"""What a transport does for a bucket: it moves bytes once. Whether to try again is decided in `retries.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

Reason = Literal["absent", "forbidden", "changed", "taken", "passing", "refused"]
"""Why a request failed: nothing is there; not allowed; not the etag asked for; there already; a fault that may pass
(the service is busy, the connection broke, the body was cut short); or it can never succeed."""


class Object(NamedTuple):
    """One object of a bucket, as a listing or a look shows it."""

    name: str
    """Relative to the URL of the bucket."""
    size: int
    """In bytes."""
    etag: str | None
    """What the service says of the version, which changes with the contents; None if it says nothing."""
    changed_ns: int
    """When it was written, in nanoseconds since 1970; 0 if unknown."""


class Failure(Exception):
    """A request failed; raised by transports only.

    Args:
        reason: why.
        said: what the service or library said, on one line, without secrets.
    """

    def __init__(self, reason: Reason, said: str) -> None:
        super().__init__(reason, said)
        self.reason, self.said = reason, said


class Body(NamedTuple):
    """What a request for bytes gives."""

    whole: Object
    """The object, of which these are bytes."""
    parts: Iterator[bytes]
    """The bytes in order; a `Failure` may come at any point."""


class Transport(Protocol):
    """The requests to one bucket. Names are relative to the whole bucket. Each method raises `Failure`."""

    def list(self, folder: str, after: str) -> Iterator[Object]:
        """The objects below a folder ("" for all), in order of their names by code point, page by page.

        Names at or before `after` may be left out. A name may end in "/": a marker of a folder, which is no file.
        """
        ...

    def head(self, name: str) -> Object:
        """What is known of an object."""
        ...

    def get(self, name: str, etag: str | None, start: int, stop: int | None) -> Body:
        """The bytes from `start` to before `stop` (None: the end), of the version `etag` if one is named."""
        ...

    def put(self, name: str, data: bytes | Path, only_if_absent: bool, etag: str | None) -> str | None:
        """Write an object in one step, if the condition holds.

        Returns:
            The etag of the version that was written, as a listing shows it; None if the answer does not say it.
        """
        ...

    def delete(self, names: Sequence[str]) -> None:
        """Remove objects; one that is not there is no failure."""
        ...
