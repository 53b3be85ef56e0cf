"""The files of a pool: the one way in which they are found, compared with their records, written and deleted.

`PoolFiles` is a directory. `raysal.pool.mirror` has the same for a pool in a bucket. Names are relative to the pool.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from raysal.pool.intact import INTACT, Facts, facts_of
from raysal.store import check_size, locked, sha256_of, write_file, write_sealed


class IntactFile(NamedTuple):
    """A file on this machine that was compared with its record."""

    path: Path
    facts: Facts | None
    """What the system said of it before that."""

    def is_as_it_was(self) -> bool:
        """Whether the file did not change since."""
        return self.facts is not None and facts_of(self.path) == self.facts


class PoolFiles:
    """The files of a pool in a directory.

    Args:
        directory: of the pool; it need not be there.
    """

    fetched = False
    """Whether its files are on this machine only from when they are first read."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def place(self) -> str:
        """What the pool is known by on every machine: an absolute path, or a URL."""
        return str(self.directory.absolute())

    def sync(self) -> None:
        """Have the records of now on this machine: in a directory they are."""

    def where(self, name: str) -> Path | str:
        """A file, for an error."""
        return self.directory / name

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self.directory / name).exists()

    def find(self, name: str) -> Path:
        """A file on this machine. Of one that is not there, a path at which nothing is."""
        return self.directory / name

    def sizes(self, folder: str) -> Mapping[str, int]:
        """The files of a folder as the last listing shows them: {name in the folder: bytes}."""
        return sizes_in(self.directory / folder)

    def top(self) -> frozenset[str]:
        """The names of the files and folders that lie in the pool itself, by the last listing."""
        return frozenset(path.name for path in self.directory.iterdir()) if self.directory.is_dir() else frozenset()

    def check_size(self, name: str, size: int, fix: str) -> None:
        """Look at the size of a file.

        Args:
            name: of the file.
            size: in bytes, as its record says.
            fix: what an error says to do.

        Raises:
            Damaged: it is missing or has another size.
        """
        check_size(self.directory / name, size, fix)

    def intact(self, name: str, entry: Mapping[str, Any], fix: str, *, anew: bool = False) -> IntactFile:
        """A file on this machine that was compared with its record in this process; see `raysal.pool.intact`.

        Args:
            name: of the file.
            entry: its `bytes` and `sha256`.
            fix: what an error says to do.
            anew: compare it whatever is known of it.

        Returns:
            The file. Open it at once.

        Raises:
            Damaged: it is missing or differs.
        """
        self.check_size(name, entry["bytes"], fix)
        path = self.directory / name
        return IntactFile(path, INTACT.check(path, entry["sha256"], fix, anew=anew))

    def write(self, name: str, write: Callable[[Path], object]) -> dict[str, Any]:
        """Write a file in one step.

        Args:
            name: of the file.
            write: writes the content to the temporary path that it gets.

        Returns:
            Its `bytes` and `sha256`.
        """
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        write_file(path, write)
        return facts_of_file(path)

    def write_record(self, name: str, record: Mapping[str, Any]) -> None:
        """Write a sealed JSON record in one step."""
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        write_sealed(path, record)

    def delete(self, names: Iterable[str]) -> None:
        """Delete files, in this order. One that is not there is no error."""
        for name in names:
            (self.directory / name).unlink(missing_ok=True)

    def stage(self, temporary: Path, facts: Mapping[str, Any], name: Callable[[str], str]) -> tuple[str, Any]:
        """Take a complete file of a chunk that is to be committed. Any process may do so, beside the data.

        Args:
            temporary: the file, in the folder where it is to be.
            facts: its `bytes` and `sha256`.
            name: gives what it is to be called: for a sha256 a name that no other content has, for "" a plain one.

        Returns:
            The name that the record is to give it, and what the driver must know to commit it.
        """
        return name(""), {"temporary": temporary.name, **facts}

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Lock the pool for one writer at a time.

        Yields:
            Once, while the pool is locked.

        Raises:
            NotNow: another process writes it.
        """
        with locked(self.directory, "pool"):
            yield


def facts_of_file(path: Path) -> dict[str, Any]:
    """What records say of a file."""
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def sizes_in(folder: Path) -> dict[str, int]:
    """The files of a folder in one listing, which takes a fifth of the time of a question for each.

    Args:
        folder: the folder.

    Returns:
        {name: size in bytes}, without what is no file or cannot be looked at; empty if there is no such folder.
    """
    sizes = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    if entry.is_file():
                        sizes[entry.name] = entry.stat().st_size
                except OSError:
                    continue
    except OSError:
        pass
    return sizes
