"""Who works at a desk, and until when."""

from __future__ import annotations

from datetime import UTC, datetime

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
