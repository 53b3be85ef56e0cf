"""Objects on this machine: each version of an object is downloaded once, and kept while there is room.

The cache is a folder that all processes of a machine share: `$RAYSAL_CACHE`, by default `~/.cache/raysal`. It holds up
to `$RAYSAL_CACHE_GB` (20). What was not used for longest is deleted first, and never what a process is about to open.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import math
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

from raysal.buckets.base import Object
from raysal.buckets.bucket import Bucket
from raysal.errors import BucketError, ConfigError
from raysal.store import TEMPORARY

FOLDER, SIZE = "RAYSAL_CACHE", "RAYSAL_CACHE_GB"
_DEFAULT_FOLDER, _DEFAULT_GB = "~/.cache/raysal", 20.0
HELD = 32
"""Files that a process keeps from being deleted: those it was given last. A file that is open, or mapped into memory,
can be read on when it is deleted; this is for those that will be opened in a moment."""
RECENT_S = 600
"""Seconds: a use is not noted again within this time of the last."""
SHARERS = 16
"""Processes that may add to the cache at a time: each takes so much of the room that is left before it looks again."""
_LOCKS = 0x1000
"""Lock files. Each is for the objects whose digest begins alike, so that their number does not grow."""
_ABANDONED_S = 3600.0
"""After how long without a byte a file that is being downloaded was left behind by a process that was killed."""
_SUFFIXES = re.compile(r"(\.[A-Za-z0-9]{1,16}){1,3}$")
_FULL = (errno.ENOSPC, errno.EDQUOT)

_held: OrderedDict[Path, int] = OrderedDict()
"""{file: descriptor with a shared lock on it}, of this process."""
_guard = threading.Lock()


def cache_folder() -> Path:
    """Where the cache is."""
    return Path(os.path.expanduser(os.environ.get(FOLDER) or _DEFAULT_FOLDER))


def cache_bytes() -> int:
    """How much the cache may hold.

    Returns:
        Bytes.

    Raises:
        ConfigError: the variable is no size.
    """
    given = os.environ.get(SIZE) or str(_DEFAULT_GB)
    try:
        size = float(given)
    except ValueError:
        size = math.nan
    if not 0 <= size < math.inf:
        raise ConfigError(SIZE, f"{given!r} is no size", "set it to a number of gigabytes, such as 20")
    return int(size * 10**9)


def cached(bucket: Bucket, found: Object, sha256: str | None = None) -> Path:
    """A file of this machine with the bytes of an object, in the version that was listed.

    One process downloads it while the others wait. Open it at once: it is kept from being deleted until this process
    was given `HELD` other ones.

    Args:
        bucket: where the object is.
        found: the object, as it was listed.
        sha256: hex digest of its bytes, if it is known; then they are compared with it.

    Returns:
        The path. Its suffix is that of the object's name.

    Raises:
        BucketError: the object is gone, was changed, or cannot be read; it has another digest; there is no room.
        ConfigError: the size of the cache is not a number.
    """
    folder, key, path = _place_of(bucket, found, sha256)
    if _hold(path):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _only_one(folder, int(key[:3], 16)):
            while not _hold(path):  # another process may delete it before it is held
                _make_room(folder, found.size)
                bucket.fetch(found.name, path, size=found.size, etag=found.etag)
                _check(bucket, found, sha256, path)
    except OSError as error:
        where, problem = bucket.url_of(found.name), f"cannot be kept in {folder} ({error.strerror})"
        full = f"set {FOLDER} to a folder with room for {found.size} bytes, or {SIZE} to less"
        fix = full if error.errno in _FULL else f"make that folder writable, or set {FOLDER} to another one"
        raise BucketError(where, problem, fix, "refused") from error
    return path


def keep(bucket: Bucket, found: Object, sha256: str | None, file: Path) -> None:
    """Take over a file that was written to a bucket, so that this machine need not download it.

    Args:
        bucket: where the object is.
        found: the object, as `write` returned it.
        sha256: hex digest of its bytes, if readers will ask for it by that.
        file: has these bytes; it is gone after this.
    """
    folder, key, path = _place_of(bucket, found, sha256)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _only_one(folder, int(key[:3], 16)):
            _make_room(folder, found.size)
            os.replace(file, path)
    except OSError:  # another disk, or a full one: who reads it downloads it
        file.unlink(missing_ok=True)


def forget(bucket: Bucket, found: Object, sha256: str | None) -> None:
    """Delete the file of an object: it is not what it was, or is to be downloaded again. Arguments as of `cached`."""
    path = _place_of(bucket, found, sha256)[2]
    with _guard:
        if (descriptor := _held.pop(path, None)) is not None:
            os.close(descriptor)
    path.unlink(missing_ok=True)


def _place_of(bucket: Bucket, found: Object, sha256: str | None) -> tuple[Path, str, Path]:
    """The folder of objects, the digest of what an object is known by, and the path of its file."""
    version = sha256 or found.etag or f"{found.size}-{found.changed_ns}"
    named = f"{bucket.url_of(found.name)}\0{version}"
    key = hashlib.sha256(named.encode("utf-8", "surrogateescape")).hexdigest()
    suffix = "" if (ends := _SUFFIXES.search(found.name)) is None else ends[0]
    folder = cache_folder() / "objects"
    return folder, key, folder / key[:2] / (key + suffix)


def _used(path: Path) -> None:
    """Say that a file was used, if that was not said lately: whoever knows a file by its times may go on to do so."""
    if time.time() - os.stat(path).st_mtime > RECENT_S:
        os.utime(path)


def _hold(path: Path) -> bool:
    """Keep a file from being deleted, and say that it was used; false if it is not there."""
    with _guard:
        if path in _held:
            with contextlib.suppress(OSError):  # it was deleted
                if os.stat(path).st_ino == os.fstat(_held[path]).st_ino:
                    _used(path)
                    _held.move_to_end(path)
                    return True
            os.close(_held.pop(path))  # of a file that another process found to be bad; it may have another one there
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            _used(path)
            there = os.stat(path).st_ino == os.fstat(descriptor).st_ino
        except OSError:
            there = False
        if not there:  # deleted while the lock was waited for
            os.close(descriptor)
            return False
        _held[path] = descriptor
        while len(_held) > HELD:
            os.close(_held.popitem(last=False)[1])
        return True


@contextlib.contextmanager
def _only_one(folder: Path, number: int) -> Iterator[None]:
    """Let one thread of one process of this machine in at a time."""
    locks = folder / "locks"
    locks.mkdir(exist_ok=True, mode=0o700)
    descriptor = os.open(locks / f"{number % _LOCKS:03x}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _check(bucket: Bucket, found: Object, sha256: str | None, path: Path) -> None:
    """Compare the digest of what was downloaded."""
    if sha256 is None:
        return
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        path.unlink()
        problem = f"its sha256 is {digest[:16]}, expected {sha256[:16]}"
        raise BucketError(bucket.url_of(found.name), problem, "bring the object back", "changed")


_room: dict[tuple[Path, int], int] = {}
"""{folder and limit: bytes that this process may still add before it looks through the folder again}."""


def _make_room(folder: Path, size: int) -> None:
    """Delete what was not used for longest, until `size` more bytes fit in; files in use stay.

    To look through a cache of 100,000 files takes a third of a second, so that is not done for each of them.
    """
    place = folder, cache_bytes()
    with _guard:
        if (left := _room.get(place, 0)) >= size:
            _room[place] = left - size
            return
    files = sorted(_files(folder), key=lambda file: file[0])
    over = sum(held for _, held, _ in files) + size - place[1]
    with _guard:
        _room[place] = max(-over, 0) // SHARERS
    for _, held, path in files:
        if over <= 0:
            return
        if _delete_unused(path):
            over -= held


def _files(folder: Path) -> Iterator[tuple[int, int, Path]]:
    """(last use, bytes, path) of each file of the cache, and of what a process that was killed left behind."""
    for inner in os.scandir(folder):
        if not inner.is_dir() or inner.name == "locks":
            continue
        for entry in os.scandir(inner):
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat()
                yield status.st_mtime_ns, status.st_size, Path(entry.path)


def _delete_unused(path: Path) -> bool:
    """Delete a file of the cache, if no process holds it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.name.startswith(TEMPORARY) and time.time() - os.fstat(descriptor).st_mtime < _ABANDONED_S:
            return False
        path.unlink(missing_ok=True)
        return True
    except OSError:  # somebody holds it
        return False
    finally:
        os.close(descriptor)
