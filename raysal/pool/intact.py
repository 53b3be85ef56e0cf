"""Which files were found intact in this process: a file is compared with its sha256 once, not on every read.

What is remembered of a file is what the system says of it: device, inode, size, and the times of its last write and of
the last change of its inode. A file of which any of these differs is compared again. So is one that was changed less
than `SETTLED_NS` before the comparison: a second write so soon after the first could have the same times.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from raysal.errors import Damaged
from raysal.store import check_bytes

SETTLED_NS = 2_000_000_000
"""Nanoseconds: some file systems count times in steps of two seconds."""
REMEMBERED = 2**18
"""Files that are remembered: about 100 MB. Of more, the first ones are forgotten, and compared again when read."""
_READ = 2**20
"""Bytes that are read at a time."""

Facts = tuple[int, int, int, int, int]
"""What the system says of a file: device, inode, size, and the times of the last write and of the last change."""


@dataclass
class IntactFiles:
    """The files that were found intact. Its methods may be called by any number of threads.

    Args:
        settled_ns: how long a file must have been left alone before it is remembered.
    """

    settled_ns: int = SETTLED_NS
    _known: dict[str, tuple[str, Facts]] = field(default_factory=dict)
    _busy: dict[str, threading.Lock] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def check(
        self, path: Path, sha256: str, fix: str, *, anew: bool = False, start: int = 0, stop: int | None = None
    ) -> Facts | None:
        """Compare a file with its digest, unless that was done and the file is as it was.

        It takes some microseconds, or about a second per GB where the file is compared. Two threads that ask for one
        file wait for one comparison.

        Args:
            path: the file.
            sha256: the digest, in hex.
            fix: what the error says to do.
            anew: compare it whatever is known of it.
            start: bytes at its beginning that the digest is not of.
            stop: where the bytes end that it is of; None for the end of the file.

        Returns:
            What the system said of the file before it was compared.

        Raises:
            Damaged: the file cannot be read or has other bytes.
        """
        name = os.path.abspath(path)
        if not anew and (known := self._facts_known(name, sha256)):
            return known
        with self._lock:
            busy = self._busy.setdefault(name, threading.Lock())
        with busy:
            if not anew and (known := self._facts_known(name, sha256)):
                return known
            began, before = time.time_ns(), facts_of(path)
            try:
                _compare(path, sha256, fix, start, stop)
            finally:
                with self._lock:
                    self._busy.pop(name, None)
                    self._known.pop(name, None)
            if before is None or began - max(before[-2:]) < self.settled_ns:
                return before
            with self._lock:
                self._known[name] = sha256, before
                while len(self._known) > REMEMBERED:
                    del self._known[next(iter(self._known))]
            return before

    def _facts_known(self, name: str, sha256: str) -> Facts | None:
        """The facts of a file that was found intact, and is as it was then; None of any other."""
        known = self._known.get(name)
        return known[1] if known is not None and known == (sha256, facts_of(name)) else None


def digest_from(path: Path, start: int, stop: int | None = None) -> str:
    """Hex sha256 of a file's bytes from a place on, to its end or to another place."""
    with open(path, "rb") as file:
        file.seek(start)
        if stop is None:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256()
        while content := file.read(min(_READ, stop - file.tell())):
            digest.update(content)
        return digest.hexdigest()


def _compare(path: Path, sha256: str, fix: str, start: int, stop: int | None) -> None:
    """Raise `Damaged` if a file has another digest."""
    if not start and stop is None:
        check_bytes(path, sha256, fix)
        return
    try:
        same = digest_from(path, start, stop) == sha256
    except OSError as error:
        raise Damaged(path, f"cannot be read ({error.strerror})", fix) from None
    if not same:
        raise Damaged(path, "its bytes do not match the sha256 in its header", fix)


def facts_of(path: Path | str) -> Facts | None:
    """What the system says of a file; None if it cannot be looked at."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


INTACT = IntactFiles()
"""The files of pools that this process found intact."""
