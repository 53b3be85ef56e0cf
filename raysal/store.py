"""Files that are whole or absent: atomic writes, outputs, checksums, locks, and JSON records that carry their digest.

A write fills a temporary file in the same directory, flushes it to disk, renames it, and flushes the directory. So a
reader sees the old file, the new file or no file, and never a part of a file.
"""

from __future__ import annotations

import contextlib
import fcntl
import filecmp
import hashlib
import itertools
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from raysal.errors import Damaged, NotNow, OutputExists, RunError
from raysal.json_text import NOT_JSON, compact, from_json, indented, to_json

LOCK = ".lock"
"""Name of the file that is locked to lock its directory; see `locked`."""
TEMPORARY = ".tmp-"
"""Prefix of every temporary name. A writer deletes such files when it starts; a reader ignores them."""
LOCK_WAIT_S = 1e-3
"""How long `locked` waits, in seconds, while `is_locked` looks at the same directory."""


def fsync_path(path: Path) -> None:
    """Flush one file or directory to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_name(path: Path, tag: str = "") -> Path:
    """A temporary name in the same directory, different for each process and tag."""
    return path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}{tag}")


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file in one step. If this fails, no file is left behind, and an old file stays.

    Args:
        path: the file.
        write: writes the content to the temporary path that it gets.
    """
    temporary = temporary_name(path, f"-{os.urandom(4).hex()}")  # two threads may write the same file
    try:
        write(temporary)
        fsync_path(temporary)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    fsync_path(path.parent)


class Written(NamedTuple):
    """What came of writing a file that a person named."""

    unchanged: bool = False
    """The file was there with the same bytes."""
    kept: Path | None = None
    """Where the file that was there is now."""


def write_output(
    path: Path,
    write: Callable[[Path], object],
    *,
    overwrite: bool = False,
    disposable: Callable[[Path], bool] | None = None,
) -> Written:
    """Write a file that a person named, in one step. What is there is never lost.

    All files that raysal writes where people say so are written here. Files in a pool or a run are its own.

    Args:
        path: the file.
        write: writes the content to the temporary path that it gets.
        overwrite: replace the file that is there. It is kept beside the new one, as `NAME.1`, `NAME.2` ...
        disposable: says whether the file that is there holds nothing to keep; then it is not kept. By default it is.

    Returns:
        Whether the same bytes were there already, and where the old file is kept.

    Raises:
        OutputExists: a file is there, with other bytes, and `overwrite` is false.
    """
    temporary = temporary_name(path, f"-{os.urandom(4).hex()}")
    kept: Path | None = None
    try:
        write(temporary)
        fsync_path(temporary)
        if not _link(temporary, path):
            if path.exists():  # and is no link to nothing
                if filecmp.cmp(temporary, path, shallow=False):
                    return Written(unchanged=True)
                if not overwrite:
                    raise OutputExists(path)
                kept = None if disposable is not None and disposable(path) else _keep(path)
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    fsync_path(path.parent)
    return Written(kept=kept)


def _link(source: Path, name: Path) -> bool:
    """Give a file another name, if nothing has that name yet; false if something has."""
    try:
        os.link(source, name)
        return True
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links, or a file of another user
        if os.path.lexists(name):
            return False
        temporary = temporary_name(name, f"-{os.urandom(4).hex()}")
        try:
            shutil.copyfile(source, temporary)
            fsync_path(temporary)
            os.replace(temporary, name)
        finally:
            temporary.unlink(missing_ok=True)
        return True


def _keep(path: Path) -> Path:
    """Keep a file under the first free name beside it."""
    real = path.resolve()
    copies = (path.with_name(f"{path.name}.{number}") for number in itertools.count(1))
    copy = next(copy for copy in copies if _link(real, copy))
    fsync_path(path.parent)
    return copy


def publish_directory(temporary: Path, final: Path) -> None:
    """Flush the files of a temporary directory, then rename it to `final` in one step."""
    for entry in temporary.iterdir():
        fsync_path(entry)
    fsync_path(temporary)
    os.rename(temporary, final)
    fsync_path(final.parent)


def remove_temporaries(directory: Path, of: str = "") -> None:
    """Delete the temporary files that an interrupted writer left. Only the single writer of a directory may call this.

    Args:
        directory: the directory.
        of: the name of a file, to delete only its temporary files. Empty for all.
    """
    for entry in directory.glob(f"{TEMPORARY}{of}*"):
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)


KINDS = {
    "pool.json": "a pool",
    "run.json": "a run",
    "predict.json": "predictions",
    "ranking.json": "a ranking",
    "finetune.json": "a fine-tuned model",
    "export.json": "an export",
}
"""What a directory is of, by the file that says so."""


def check_kind(directory: Path, marker: str) -> None:
    """Refuse to begin one kind of directory in another one. What an older version has begun there goes on.

    Args:
        directory: the directory, there or not.
        marker: the file of `KINDS` that is to be written.

    Raises:
        RunError: the directory is of another kind.
    """
    if (directory / marker).exists():
        return
    for other, what in KINDS.items():
        if other != marker and (directory / other).exists():
            problem = f"is the directory of {what} ({other}), and {KINDS[marker]} needs one of its own"
            raise RunError(directory, problem, "name another directory")


_UTF8 = ("utf-8", "surrogatepass")
"""Encoding and error handler of records. (The name of a file may hold bytes that are not UTF-8.)"""


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's bytes, at about 1 GB/s per core."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_size(path: Path, size: int, fix: str) -> None:
    """Check that a file has the size in its record.

    Args:
        path: the file.
        size: the size in bytes.
        fix: what the error says to do.

    Raises:
        Damaged: the file is missing or has another size.
    """
    try:
        found = path.stat().st_size
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        raise Damaged(path, "the file is missing" if missing else f"cannot be read ({error.strerror})", fix) from None
    if found != size or not path.is_file():
        raise Damaged(path, f"{found} bytes, its record says {size}", fix)


def check_bytes(path: Path, sha256: str, fix: str) -> None:
    """Check that a file has the digest in its record, at about 1 GB/s per core.

    Args:
        path: the file.
        sha256: the digest, in hex.
        fix: what the error says to do.

    Raises:
        Damaged: the file cannot be read or has other bytes.
    """
    try:
        found = sha256_of(path)
    except OSError as error:
        raise Damaged(path, f"cannot be read ({error.strerror})", fix) from None
    if found != sha256:
        raise Damaged(path, "its bytes do not match the sha256 in its record", fix)


def digest_of(record: Mapping[str, Any]) -> str:
    """Hex sha256 of a JSON-able record. The order of its keys does not matter."""
    return hashlib.sha256(compact(record).encode(*_UTF8)).hexdigest()


def write_sealed(path: Path, record: Mapping[str, Any]) -> None:
    """Write a JSON record and the sha256 of its content into a file, in one step. Any JSON reader can read it."""
    plain = to_json(json.loads(json.dumps(record)))  # with tuples and keys as `read_sealed` will read them
    content = _sealed(plain)
    write_file(path, lambda temporary: temporary.write_bytes(content))


def _sealed(record: Mapping[str, Any]) -> bytes:
    """The bytes of a record's file: equal records have equal bytes."""
    return (indented({**record, "sha256": digest_of(record)}) + "\n").encode(*_UTF8)


def read_sealed(path: Path, fix: str = "restore it from a copy") -> dict[str, Any]:
    """Read a file of `write_sealed`.

    Args:
        path: the file.
        fix: what the error says to do.

    Returns:
        The record, without the sha256.

    Raises:
        Damaged: the file is missing or unreadable, or any byte differs from what was written.
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
        # Every byte, not only the values: a line break that became a space is damage. (Older files may say Infinity.)
        intact = content == _sealed(record)
    except (ValueError, RecursionError) as error:
        raise Damaged(path, f"not valid JSON ({error})", fix) from None
    if not intact:
        raise Damaged(path, "its content does not match its sha256", fix)
    plain: dict[str, Any] = from_json(record) if NOT_JSON.encode() in content else record
    return plain


@contextlib.contextmanager
def locked(directory: Path, what: str) -> Iterator[None]:
    """Lock a directory for one process at a time. The kernel unlocks it when the process ends in any way.

    Args:
        directory: the directory.
        what: what the error calls it, as "pool".

    Yields:
        Once, while the directory is locked.

    Raises:
        NotNow: another process has locked it.
    """
    with open(directory / LOCK, "ab", buffering=0) as file:
        while not _try_lock(file, fcntl.LOCK_EX):
            if not _try_lock(file, fcntl.LOCK_SH):
                problem = f"another process is at work on this {what}{_holder(file)}"
                raise NotNow(directory, problem, "wait for it, or stop it")
            # A shared lock is possible, so another process is in `is_locked` and will be done at once.
            fcntl.flock(file, fcntl.LOCK_UN)
            time.sleep(LOCK_WAIT_S)
        with contextlib.suppress(OSError):  # for who finds it locked; there may be no room for it
            file.truncate(0)
            file.write(f"process {os.getpid()} on {os.uname().nodename}".encode())
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                file.truncate(0)


def _holder(file: IO[bytes]) -> str:
    """Who has locked a file, where that was written."""
    try:
        said = Path(file.name).read_text("utf-8", "replace")[:200]
    except OSError:
        return ""
    return f": {said}" if said else ""


@contextlib.contextmanager
def locked_if_free(directory: Path) -> Iterator[bool]:
    """Lock a directory as `locked` does, unless somebody has locked it.

    Args:
        directory: the directory.

    Yields:
        Once: whether the directory is locked for the caller now.
    """
    with open(directory / LOCK, "ab") as file:
        yield _try_lock(file, fcntl.LOCK_EX)


def is_locked(directory: Path) -> bool:
    """Whether a process has locked a directory with `locked`."""
    try:
        with open(directory / LOCK, "rb") as file:
            return not _try_lock(file, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def _try_lock(file: IO[bytes], how: int) -> bool:
    """Lock a file without waiting; false if another process has locked it."""
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def dumps(data: Mapping[str, Any]) -> str:
    """Data as one line of JSON.

    Args:
        data: what JSON can hold, and paths, dates and bytes, which become text. NaN and infinity become null.

    Returns:
        The line, without a line break at its end.
    """
    return json.dumps(_plain(data), ensure_ascii=False, allow_nan=False, default=str)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value
