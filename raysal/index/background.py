"""Rebuild an index in a process of its own, while searches go on with the current generation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from raysal.index.files import CURRENT, FOLDER, current_generation
from raysal.pool import Pool
from raysal.store import TEMPORARY, is_locked

LOG = "build.log"
TAIL_BYTES = 4096
"""End of the log in which the last line is looked for."""
_started: list[subprocess.Popen[bytes]] = []
"""Kept: Python warns of a process that is still running when its object is deleted."""


def rebuild_in_background(pool: Pool, *options: str) -> subprocess.Popen[bytes]:
    """Start `raysal index build POOL` as a process of its own. The process outlives this one.

    The current generation stays current until the new one replaces it in one step. The process writes to
    POOL/index/build.log. If another build is at work, it ends at once.

    Args:
        pool: the pool whose index is rebuilt.
        options: options of the command, as `--kind=flat`.

    Returns:
        The process. Nobody has to wait for it.
    """
    folder = pool.path / FOLDER
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "raysal", "index", "build", str(pool.path.absolute()), *options]
    with open(folder / LOG, "ab") as log:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    _started.append(child)
    return child


def is_building(pool: Path) -> bool:
    """Whether some process is building an index of the pool.

    The lock is tried only where a build has begun to write: to try it could stop a build that is just beginning.

    Args:
        pool: the pool directory.

    Returns:
        Whether a build is at work.
    """
    folder = pool / FOLDER
    return any(folder.glob(f"{TEMPORARY}*")) and is_locked(folder)


def background_failure(pool: Path) -> str:
    """Why the last build in the background failed.

    A build that succeeds ends with a line that names its generation. A build that is still at work has not failed.

    Args:
        pool: the pool directory.

    Returns:
        The last line of the log; "" if no build has failed, or one has succeeded since.
    """
    log, current = pool / FOLDER / LOG, pool / FOLDER / CURRENT
    if not log.exists() or is_building(pool):
        return ""
    if current.exists() and current.stat().st_mtime_ns > log.stat().st_mtime_ns:
        return ""
    with open(log, "rb") as file:
        file.seek(max(log.stat().st_size - TAIL_BYTES, 0))
        lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    last, name = (lines or ["it wrote nothing"])[-1], current_generation(pool)
    return "" if name and f"{os.sep}{name}: " in last else last
