"""What an error of SQLite means for whoever reads or writes a file of a run."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from raysal.errors import Damaged, NotNow


def refusal(path: Path, error: sqlite3.Error, restore: str) -> NotNow | Damaged:
    """The error of raysal for one of SQLite.

    Args:
        path: the file.
        error: what SQLite says.
        restore: what to do where the file itself is at fault.

    Returns:
        `NotNow` where the file is busy, closed, on a full disk, or must not be written; `Damaged` else.
    """
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return NotNow(path, "another process is writing to it", "try again when it is done")
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC")):
        return NotNow(path, f"cannot be written ({error})", "free some space and try again")
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")):
        return NotNow(path, f"cannot be opened or written ({error})", "check its permissions")
    if isinstance(error, sqlite3.ProgrammingError):
        return NotNow(path, "was closed", "open it again")
    return Damaged(path, f"SQLite cannot read it ({error})", restore)
