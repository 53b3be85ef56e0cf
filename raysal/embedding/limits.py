"""What an embed job may lose, and the ranges of its settings."""

from __future__ import annotations

from pathlib import Path

from raysal.defaults import MAX_CHUNK_ROWS
from raysal.errors import ConfigError, PassedOverExceeded, QuarantineExceeded
from raysal.types import PassedOver

RANGES: dict[str, tuple[int, int | None]] = {
    "batch_size": (1, None),
    "chunk_rows": (0, MAX_CHUNK_ROWS),
    "workers": (0, None),
    "decode_threads": (1, None),
    "max_quarantine": (0, 1),
    "max_passed_over": (0, 1),
    "threads": (0, None),
}
"""{setting of the job: (least, most)}."""


def check_ranges(**settings: float) -> None:
    """Refuse settings of a job that are out of range.

    Args:
        settings: by name, as in `RANGES`.

    Raises:
        ConfigError: one is too small or too large.
    """
    for name, value in settings.items():
        low, high = RANGES[name]
        if not value >= low or (high is not None and value > high):
            upper = "" if high is None else f" and at most {high}"
            raise ConfigError(f"embed.{name}", f"{value} is out of range", f"use at least {low}{upper}")


def check_lost(
    pool: Path, quarantined: int, items: int, passed: PassedOver, *, max_quarantine: float, max_passed_over: float
) -> None:
    """Refuse a pool that lost more than it may. The pool is committed, whatever comes of this.

    Args:
        pool: the pool directory, for the error.
        quarantined: items that could not be embedded.
        items: items in the listing, these included.
        passed: the files that were not listed.
        max_quarantine: share of the items that may be quarantined.
        max_passed_over: share of the files that look like items that may be passed over.

    Raises:
        QuarantineExceeded: more items are quarantined.
        PassedOverExceeded: more files were passed over.
    """
    if quarantined > max_quarantine * items:
        raise QuarantineExceeded(pool, quarantined, items, max_quarantine, passed.counts, str(passed))
    if passed.share > max_passed_over:
        raise PassedOverExceeded(pool, quarantined, items, max_passed_over, passed.counts, str(passed))
