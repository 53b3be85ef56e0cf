"""How much memory a process may take."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from raysal.errors import ConfigError

_UNITS = {"": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


def allowed(memory: str | None, where: str) -> int:
    """Bytes that a process may take: as given in words ("8GB"), or what this machine, or its container, has.

    Raises:
        ConfigError: not a size; `where` it was given.
    """
    if memory is None:
        return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *group_limits()])
    text = memory.strip().lower()
    number = text.rstrip("kmgtib")
    try:
        size = int(float(number) * _UNITS[text[len(number) :]])
    except (ValueError, KeyError, OverflowError):
        size = 0
    if size < 1:
        raise ConfigError(where, f"{memory!r} is not a size", "give one as 8GB or 500MB")
    return size


def group_limits(mounted: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list[int]:
    """Limits in bytes that the kernel sets to this process's control group and to those around it: `memory.max` (v2)
    and `memory.limit_in_bytes` (v1, where no limit is a huge number). What cannot be read limits nothing."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    limits = []
    for line in lines:
        number, kinds, path = line.split(":", 2)
        if number == "0":
            root, name = mounted, "memory.max"
        elif "memory" in kinds.split(","):
            root, name = mounted / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = root / path.lstrip("/")
        for place in (group, *group.parents):  # in a container the path may be the host's, and only the root is there
            with contextlib.suppress(OSError, ValueError):  # "max" is none
                limits.append(int((place / name).read_text()))
            if place == root:
                break
    return limits
