"""Who works at a desk, and until when."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Condition

from raysal.errors import LabelError
from raysal.labels.spelling import annotator_text


def named(annotator: str) -> str:
    """The name of an annotator in its one spelling.

    Args:
        annotator: as it was given.

    Returns:
        The name.

    Raises:
        LabelError: nobody is named, or the name is too long.
    """
    name = annotator_text("annotator", annotator)
    if not name or len(name) > 100:
        raise LabelError("annotator", "nobody is named" if not name else "the name is too long", "say who you are")
    return name


def as_time(seconds: float) -> str:
    """A moment in UTC as ISO 8601 writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class OneAtATime:
    """Lets the requests of one annotator in one after the other; those of different people go side by side."""

    def __init__(self) -> None:
        self._inside: set[str] = set()
        self._left = Condition()

    @contextmanager
    def alone(self, who: str) -> Iterator[None]:
        """Wait until no other request of an annotator is inside, and be inside until the block ends."""
        with self._left:
            self._left.wait_for(lambda: who not in self._inside)
            self._inside.add(who)
        try:
            yield
        finally:
            with self._left:
                self._inside.discard(who)
                self._left.notify_all()
