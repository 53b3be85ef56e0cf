"""What an embed job may lose."""

from __future__ import annotations

from pathlib import Path

from raysal.errors import PassedOverExceeded, QuarantineExceeded
from raysal.types import PassedOver


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
