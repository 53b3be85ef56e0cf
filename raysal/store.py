"""Files that are whole or absent: atomic writes, checksums, and JSON records that carry their own digest.

A write goes to a temporary name in the same directory, is flushed to disk, and is renamed; the directory is
flushed too. A reader therefore sees the old file, the new file or none, never a part of one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from raysal.errors import Damaged, RunError

LOCK = ".lock"
"""Name of the empty file by which a directory is held; see `locked`."""
TEMPORARY = ".tmp-"
"""Prefix of every temporary name. A writer deletes such files when it starts; a reader never looks at them."""


def fsync_path(path: Path) -> None:
    """Flush one file or directory to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_name(path: Path, tag: str = "") -> Path:
    """A temporary sibling of `path`, distinct for each process and tag."""
    return path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}{tag}")


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file, then put it at `path` in one step. On failure nothing is left behind."""
    temporary = temporary_name(path)
    try:
        write(temporary)
        fsync_path(temporary)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    fsync_path(path.parent)


def publish_directory(temporary: Path, final: Path) -> None:
    """Put a finished temporary directory at `final` in one step; its files are flushed first."""
    for entry in temporary.iterdir():
        fsync_path(entry)
    fsync_path(temporary)
    os.rename(temporary, final)
    fsync_path(final.parent)


def remove_temporaries(directory: Path, of: str = "") -> None:
    """Delete what an interrupted writer left in `directory`, or only what was to become `of`.

    Only the single writer of a directory may call this.
    """
    for entry in directory.glob(f"{TEMPORARY}{of}*"):
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)


_UTF8 = ("utf-8", "surrogatepass")  # the name of a file may hold bytes that are not UTF-8


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's bytes; 1 GB/s or so per core."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_size(path: Path, size: int, fix: str) -> None:
    """Raises: Damaged: a file is missing, or has another size than its record says."""
    try:
        found = path.stat().st_size
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        raise Damaged(path, "the file is missing" if missing else f"cannot be read ({error.strerror})", fix) from None
    if found != size or not path.is_file():
        raise Damaged(path, f"{found} bytes, its record says {size}", fix)


def check_bytes(path: Path, sha256: str, fix: str) -> None:
    """Raises: Damaged: a file cannot be read, or has other bytes than its record says. 1 GB/s or so per core."""
    try:
        found = sha256_of(path)
    except OSError as error:
        raise Damaged(path, f"cannot be read ({error.strerror})", fix) from None
    if found != sha256:
        raise Damaged(path, "its bytes do not match the sha256 in its record", fix)


def canonical(record: Mapping[str, Any]) -> bytes:
    """The one JSON spelling of a record, for hashing."""
    return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(*_UTF8)


def digest_of(record: Mapping[str, Any]) -> str:
    """Hex sha256 of a JSON-able record."""
    return hashlib.sha256(canonical(record)).hexdigest()


def write_sealed(path: Path, record: Mapping[str, Any]) -> None:
    """Write a JSON record together with the sha256 of its content, atomically."""
    content = _sealed(json.loads(json.dumps(record)))  # tuples and keys as they will be read
    write_file(path, lambda temporary: temporary.write_bytes(content))


def _sealed(record: Mapping[str, Any]) -> bytes:
    """The one content of the file of a record."""
    text = json.dumps({**record, "sha256": digest_of(record)}, indent=1, ensure_ascii=False, sort_keys=True)
    return (text + "\n").encode(*_UTF8)


def read_sealed(path: Path, fix: str = "restore it from a copy") -> dict[str, Any]:
    """Read what `write_sealed` wrote.

    Raises:
        Damaged: the file is missing or unreadable, or differs from what was written in any byte.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise Damaged(path, "the file is missing", fix) from None
    except OSError as error:
        raise Damaged(path, f"cannot be read ({error.strerror})", fix) from None
    try:
        record = json.loads(content.decode(*_UTF8))
        if not isinstance(record, dict) or "sha256" not in record:
            raise Damaged(path, "not a record written by raysal (no sha256)", fix)
        del record["sha256"]
        # Every byte, not only the meaning: a line break that became a space is damage too.
        intact = content == _sealed(record)
    except (ValueError, RecursionError) as error:
        raise Damaged(path, f"not valid JSON ({error})", fix) from None
    if not intact:
        raise Damaged(path, "its content does not match its sha256", fix)
    return record


@contextlib.contextmanager
def locked(directory: Path, what: str) -> Iterator[None]:
    """Hold a directory for one process at a time; the kernel lets go of it when the process ends, however it ends.

    Raises:
        RunError: another process holds it.
    """
    with open(directory / LOCK, "ab") as file:
        while not _takes(file, fcntl.LOCK_EX):
            if not _takes(file, fcntl.LOCK_SH):
                raise RunError(directory, f"another process is at work on this {what}", "wait for it, or stop it")
            fcntl.flock(file, fcntl.LOCK_UN)
            time.sleep(1e-3)  # it is only looked at, by `is_locked`, and will be free at once
        yield


def is_locked(directory: Path) -> bool:
    """Whether somebody holds a directory by `locked`."""
    try:
        with open(directory / LOCK, "rb") as file:
            return not _takes(file, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def _takes(file: IO[bytes], how: int) -> bool:
    """Lock a file without waiting, if it can be had."""
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
