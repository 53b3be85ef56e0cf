"""How much memory a process may take."""

from __future__ import annotations

import os

from raysal.errors import ConfigError

_UNITS = {"": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


def allowed(memory: str | None, where: str) -> int:
    """Bytes that a process may take: as given in words ("8GB"), or what this machine has.

    Raises:
        ConfigError: not a size; `where` it was given.
    """
    if memory is None:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    text = memory.strip().lower()
    number = text.rstrip("kmgtib")
    try:
        size = int(float(number) * _UNITS[text[len(number) :]])
    except (ValueError, KeyError, OverflowError):
        size = 0
    if size < 1:
        raise ConfigError(where, f"{memory!r} is not a size", "give one as 8GB or 500MB")
    return size
