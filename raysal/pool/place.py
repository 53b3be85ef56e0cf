"""Where a pool is: what people name, the directory on this machine, and its files.

A pool lies in a directory, or in a bucket, where a directory on this machine stands for it (`raysal.pool.mirror`). So
code has the directory, and records and messages the place. URLs must not become paths: those have no `//`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from raysal.buckets import is_url, local_or_url
from raysal.errors import ConfigError
from raysal.pool.files import PoolFiles
from raysal.pool.mirror import mirror_at, mirror_of

_WAS_URL = re.compile(r"(?:s3|gs|az|abfss?):/[^/]")


def directory_of(place: str | os.PathLike[str], *, synced: bool = True) -> Path:
    """The directory on this machine of a pool, there or not.

    Args:
        place: its path, or its URL.
        synced: whether the records of a pool in a bucket are to be those of now.

    Returns:
        The path as it is; of a pool in a bucket its mirror.

    Raises:
        ConfigError: a URL was made a path, which has no `//`.
        BucketError: the bucket cannot be listed or read.
    """
    found = local_or_url(place if isinstance(place, str) else Path(place))
    if isinstance(found, Path):
        if _WAS_URL.match(str(found)):
            raise ConfigError("pool", f"{found} was a URL, and became a path", "pass it as text")
        return found
    mirror = mirror_of(found)
    if synced:
        mirror.sync()
    return mirror.directory


def files_of(directory: Path) -> PoolFiles:
    """The files of a pool, by its directory."""
    return mirror_at(directory) or PoolFiles(directory)


def place_of(place: str | os.PathLike[str]) -> str:
    """What a pool is known by on every machine.

    Args:
        place: its path or URL, or its directory on this machine.

    Returns:
        A URL, or an absolute path.
    """
    return str(place) if is_url(place if isinstance(place, str) else Path(place)) else files_of(Path(place)).place


def name_of(place: str | os.PathLike[str]) -> str:
    """The last part of a place, as a title."""
    return str(place).rstrip("/").rpartition("/")[2]
