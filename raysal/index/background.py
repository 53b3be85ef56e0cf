"""Bringing an index up to date while everybody goes on with the one in force."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from raysal.index.files import CURRENT, FOLDER, in_force
from raysal.pool import Pool
from raysal.store import TEMPORARY, is_locked

LOG = "build.log"
TAIL = 4096
"""Bytes of a log in which its last line is looked for."""
_started: list[subprocess.Popen[bytes]] = []
"""Kept, so that none is warned of as still running when this process ends."""


def rebuild_in_background(pool: Pool, *options: str) -> subprocess.Popen[bytes]:
    """Start `raysal index build POOL` with these options as a process of its own.

    It outlives this one, and nobody has to wait for it. The index in force stays so until the new one takes its place
    in one step; who opens the index after that gets the new one. What it prints is in POOL/index/build.log. While
    another build is at work it ends at once.
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


def under_way(pool: Path) -> bool:
    """Whether somebody is building an index of the pool.

    The lock is looked at only where a build has begun to write, for looking could be in the way of one that begins.
    """
    folder = pool / FOLDER
    return any(folder.glob(f"{TEMPORARY}*")) and is_locked(folder)


def failure(pool: Path) -> str:
    """The last line that a build in the background wrote, if it came to nothing and none has succeeded since; else "".

    One that succeeds ends with a line that names its generation. One that is under way has not failed.
    """
    log, current = pool / FOLDER / LOG, pool / FOLDER / CURRENT
    if not log.exists() or under_way(pool):
        return ""
    if current.exists() and current.stat().st_mtime_ns > log.stat().st_mtime_ns:
        return ""
    with open(log, "rb") as file:
        file.seek(max(log.stat().st_size - TAIL, 0))
        lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    last, name = (lines or ["it wrote nothing"])[-1], in_force(pool)
    return "" if name and f"{os.sep}{name}: " in last else last
