"""One listing for a whole job: what a source listed once is kept on this machine, and read from there.

A job goes through the listing of its source several times: for the stamp, the keys, the fingerprint, what is passed
over, the table of files, the chunks. To list a million objects of a bucket takes a thousand requests, and a walk
through as many files of a network disk takes minutes. So within `listed_once` a listing that came to its end is
written into a temporary file, and given again from there. Memory: none of it is kept there.

What a job reads is so one state of its source. Whoever asks whether the source changed calls `forget_listings` before.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

Row = list[Any]
"""One entry of a listing, of what JSON can hold."""


@contextmanager
def listed_once() -> Iterator[None]:
    """List each place once in this block, in this thread. Within another such block it is that one.

    Yields:
        Once.
    """
    if _current.get() is not None:
        yield
        return
    try:
        folder = tempfile.mkdtemp(prefix="raysal-listing-")
    except OSError:  # there is no room for it: each listing is a new one
        yield
        return
    token = _current.set(_Kept(Path(folder)))
    try:
        yield
    finally:
        _current.reset(token)
        shutil.rmtree(folder, ignore_errors=True)


def forget_listings() -> None:
    """Let the next listing of each place be a new one."""
    if (kept := _current.get()) is not None:
        kept.files.clear()


def is_kept() -> bool:
    """Whether listings are kept."""
    return _current.get() is not None


def kept_rows(place: Hashable, rows: Callable[[], Iterator[Row]]) -> Iterator[Row]:
    """The entries of a listing: those that were kept, or else new ones, which are kept if the listing ends.

    Args:
        place: says what is listed.
        rows: lists it.

    Returns:
        The entries. Errors as of `rows`.
    """
    kept = _current.get()
    return rows() if kept is None else kept.rows(place, rows)


class _Kept:
    """The listings of a block."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0
        self.files: dict[Hashable, Path] = {}

    def rows(self, place: Hashable, rows: Callable[[], Iterator[Row]]) -> Iterator[Row]:
        if place in self.files:
            with suppress(FileNotFoundError), open(self.files[place], encoding="ascii") as file:  # the block is over
                yield from map(json.loads, file)
                return
        path = self._folder / str(self._count)
        self._count += 1
        try:
            file = open(path, "w", encoding="ascii")  # noqa: SIM115
        except OSError:  # a full disk ends the keeping, not the listing
            yield from rows()
            return
        whole = True
        try:
            for row in rows():
                try:
                    file.write(json.dumps(row) + "\n")
                except OSError:
                    whole = False
                yield row
        finally:
            try:
                file.close()
            except OSError:
                whole = False
        if whole:
            self.files[place] = path


_current: ContextVar[_Kept | None] = ContextVar("listings", default=None)
"""Of this thread: a job in another thread may begin later, and sees its source as it is then."""
