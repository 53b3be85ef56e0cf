"""How much memory a process may use."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from raysal.errors import ConfigError

_UNITS = {"": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


def memory_limit(memory: str | None, where: str) -> int:
    """Find the bytes that a process may use.

    Args:
        memory: a size in words, as "8GB"; None is what this machine, or its container, has.
        where: the option or field that gave `memory`, for the error.

    Returns:
        Bytes, at least 1.

    Raises:
        ConfigError: `memory` is not a size.
    """
    if memory is None:
        return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *control_group_limits()])
    text = memory.strip().lower()
    number = text.rstrip("kmgtib")
    try:
        size = int(float(number) * _UNITS[text[len(number) :]])
    except (ValueError, KeyError, OverflowError):
        size = 0
    if size < 1:
        raise ConfigError(where, f"{memory!r} is not a size", "give one as 8GB or 500MB")
    return size


def control_group_limits(mounted: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list[int]:
    """Read the memory limits of this process's control group and of the groups around it.

    These are `memory.max` in version 2, and `memory.limit_in_bytes` in version 1, where no limit is a huge number. A
    file that cannot be read sets no limit.

    Args:
        mounted: where the kernel shows the groups.
        own: where it says which group this process is in.

    Returns:
        The limits in bytes.
    """
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
        for place in (group, *group.parents):  # in a container the path may be the host's, and only the root exists
            with contextlib.suppress(OSError, ValueError):  # "max" is no limit
                limits.append(int((place / name).read_text()))
            if place == root:
                break
    return limits
