"""The place of a pool before its first chunk: it is free, and a job that fails there leaves nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from raysal.errors import PoolError, UserError
from raysal.pool.files import PoolFiles
from raysal.pool.generations import FILES, GENERATIONS, REMOVED, REPLACED
from raysal.pool.layout import KINDS, MANIFEST, PASSED_OVER, SOURCE
from raysal.pool.place import files_of
from raysal.sources.spilled import FOLDER as STREAM
from raysal.store import LOCK

_FOLDERS = (*KINDS, "commits", FILES, "keys")
"""What a job makes before it commits a chunk."""
OWN = {*_FOLDERS, GENERATIONS, REMOVED, REPLACED, STREAM, "index", MANIFEST, SOURCE, PASSED_OVER}
"""All that a pool may hold at its top."""


def check_place(pool: Path) -> None:
    """Refuse to begin a pool among files that are none of a pool's; hidden ones may be there.

    Args:
        pool: the directory, there or not.

    Raises:
        PoolError: it holds something else.
    """
    files = files_of(pool)
    if files.has(MANIFEST):
        return
    other = sorted(name for name in files.top() if not name.startswith(".") and name not in OWN)
    if other:
        fix = "name a directory that is not there yet, or an empty one"
        raise PoolError(pool, f"is no pool, and holds something else ({other[0]})", fix)


@contextmanager
def begun_or_nothing(pool: Path) -> Iterator[None]:
    """Lock the directory of a pool. If the block fails before its first chunk is committed, nothing of it is left.

    What lay there before stays, and what a job has begun before; to write a stream down is to begin.

    Args:
        pool: the directory, which is made if it is missing, or the one that stands for a pool in a bucket.

    Yields:
        Once.

    Raises:
        NotNow: another process writes the pool.
    """
    made = [path for path in (pool, *pool.parents) if not path.exists()]
    pool.mkdir(parents=True, exist_ok=True)
    files = files_of(pool)
    had_lock = (pool / LOCK).exists()
    with files.writing():
        before = files.top()
        try:
            yield
        except Exception:
            if not {MANIFEST, STREAM} & before and not files.sizes("commits"):
                with suppress(UserError, OSError):  # of a bucket that cannot be reached, or that another one took over
                    _take_back(files, before)
                if not (had_lock or files.fetched):
                    (pool / LOCK).unlink(missing_ok=True)  # while it is held, so that it is nobody else's
                    for path in made:
                        with suppress(OSError):  # somebody put something there
                            path.rmdir()
            raise


def _take_back(files: PoolFiles, before: frozenset[str]) -> None:
    """Delete what a job made, and was not there before."""
    folders = [folder for folder in _FOLDERS if folder not in before]
    files.delete([name for name in (MANIFEST, SOURCE, PASSED_OVER) if name not in before])
    files.delete([f"{folder}/{name}" for folder in folders for name in sorted(files.sizes(folder))])
    for folder in folders:
        with suppress(OSError):
            (files.directory / folder).rmdir()
