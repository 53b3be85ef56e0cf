"""The place of a pool before its first chunk: it is free, and a job that fails there leaves nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from raysal.errors import NotNow, PoolError, UserError
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
    made, had_lock = _missing(pool), (pool / LOCK).exists()
    pool.mkdir(parents=True, exist_ok=True)
    files = files_of(pool)
    with files.writing():
        before = files.top()
        try:
            yield
        except Exception:
            if not {MANIFEST, STREAM} & before and not files.sizes("commits"):
                _take_back(files, before, _FOLDERS, made, had_lock)
            raise


@contextmanager
def stream_or_nothing(pool: Path) -> Iterator[None]:
    """If a job over a stream is refused before its first chunk is committed, nothing of it is left.

    Otherwise items of a stream that somebody mends, and gives again, would stay under the keys that it had before. What
    stops a job in another way (a full disk, an error of the code that gives the items) is no refusal: it goes on behind
    what is written down.

    Args:
        pool: the directory, there or not.

    Yields:
        Once.

    Raises:
        UserError: as the block.
    """
    files, made, had_lock = files_of(pool), _missing(pool), (pool / LOCK).exists()
    before = files.top()
    try:
        yield
    except UserError as error:
        if not isinstance(error, NotNow) and not {MANIFEST, STREAM} & before and pool.is_dir():
            with suppress(NotNow), files.writing():
                if not files.sizes("commits"):
                    _take_back(files, before, (*_FOLDERS, STREAM), made, had_lock)
        raise


def _missing(pool: Path) -> list[Path]:
    """The folders that are to be made for it, the innermost first."""
    return [path for path in (pool, *pool.parents) if not path.exists()]


def _take_back(
    files: PoolFiles, before: frozenset[str], folders: Sequence[str], made: Sequence[Path], had_lock: bool
) -> None:
    """Delete what a job made, and was not there before. The pool is locked."""
    folders = [folder for folder in folders if folder not in before]
    with suppress(UserError, OSError):  # of a bucket that cannot be reached, or that another one took over
        files.delete([name for name in (MANIFEST, SOURCE, PASSED_OVER) if name not in before])
        files.delete([f"{folder}/{name}" for folder in folders for name in sorted(files.sizes(folder))])
    if files.fetched:
        return
    if not had_lock:
        (files.directory / LOCK).unlink(missing_ok=True)  # while it is held, so that it is nobody else's
    for path in (*(files.directory / folder for folder in folders), *made):
        with suppress(OSError):  # somebody put something there
            path.rmdir()
