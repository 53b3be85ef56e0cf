"""Folders that are filled part by part: any process stages the files of a part, and one writer commits them.

    stage_file    beside the data: write a file under a temporary name, and note its bytes and sha256
    Parts.commit  on the driver: give a part's staged files their names, then write its sealed record

A part is there if and only if its record is. A writer that was killed leaves temporary files, which the next one
deletes. What a part holds must depend on nothing but what the folder is of, so that it may be staged again.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from raysal.errors import Damaged
from raysal.store import (
    check_bytes,
    check_size,
    fsync_path,
    read_sealed,
    remove_temporaries,
    sha256_of,
    temporary_name,
    write_sealed,
)


class StagedFile(NamedTuple):
    """A file, complete under a temporary name."""

    name: str
    """its path in the folder, once it is committed"""
    temporary: str
    """its name until then, in the same directory"""
    bytes: int
    sha256: str


class Staged(NamedTuple):
    """The files of a part. They do not count before they are committed."""

    part: int
    rows: int
    files: tuple[StagedFile, ...]


def stage_file(out: Path, name: str, write: Callable[[Path], object]) -> StagedFile:
    """Write a file under a temporary name. Any process may do so, beside the data.

    Args:
        out: the folder.
        name: the path that the file is to have in it.
        write: writes the content to the temporary path that it gets.

    Returns:
        What the driver needs to commit the file.
    """
    temporary = temporary_name(out / name, f"-{os.urandom(4).hex()}")
    try:
        write(temporary)
        fsync_path(temporary)
        return StagedFile(name, temporary.name, temporary.stat().st_size, sha256_of(temporary))
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@dataclass(frozen=True)
class Parts:
    """The parts of one kind in a folder."""

    out: Path
    files: Sequence[str]
    """Paths of a part's files in the folder, as `str.format` makes them of its number."""
    record: str
    """Path of a part's record, likewise."""
    fix: str
    """What an error says to do about a damaged part, with `{}` for its number where that matters."""

    def record_of(self, index: int) -> Path:
        """The path of a part's record."""
        return self.out / self.record.format(index)

    def begin(self) -> None:
        """Make the directories of the parts, and delete what an interrupted writer left. For the one writer."""
        for name in (*self.files, self.record):
            (self.out / name).parent.mkdir(parents=True, exist_ok=True)
        self.remove_leftovers()

    def remove_leftovers(self) -> None:
        """Delete temporary files. For the one writer."""
        for name in (*self.files, self.record):
            remove_temporaries((self.out / name).parent)

    def delete(self) -> None:
        """Delete all parts, so that none of them is taken for one of something else. For the one writer.

        Raises:
            OSError: a record or a file cannot be deleted.
        """
        for name in (self.record, *self.files):
            directory = (self.out / name).parent
            for path in directory.glob(re.sub(r"{.*?}", "*", Path(name).name)):
                path.unlink(missing_ok=True)
            if directory != self.out:
                with contextlib.suppress(OSError):  # what does not belong to the parts stays
                    directory.rmdir()

    def committed(self, count: int) -> dict[int, int]:
        """The parts that are there, after their bytes were compared with their records.

        Args:
            count: how many parts the folder has in the end.

        Returns:
            {number of the part: its rows}.

        Raises:
            Damaged: a file or a record is not as it was written.
        """
        return {index: self.check(index) for index in range(count) if self.record_of(index).exists()}

    def missing(self, count: int) -> list[int]:
        """The numbers of the parts that are not there yet. No file is read."""
        return [index for index in range(count) if not self.record_of(index).exists()]

    def commit(self, staged: Staged) -> None:
        """Give staged files their names, then write the record of their part.

        Args:
            staged: the files, of which the order does not matter.

        Raises:
            Damaged: a staged file is gone.
        """
        entries = {}
        for file in staged.files:
            final = self.out / file.name
            source = final.with_name(file.temporary)
            if not source.exists():
                raise Damaged(source, "a staged file is gone", "run the same command again")
            os.replace(source, final)
            fsync_path(final.parent)
            entries[file.name] = {"bytes": file.bytes, "sha256": file.sha256}
        write_sealed(self.record_of(staged.part), {"index": staged.part, "rows": staged.rows, "files": entries})

    def check(self, index: int, only: str | None = None) -> int:
        """Compare a committed part with its record, at about 1 GB/s.

        Args:
            index: the part.
            only: the one of `files` to look at; None for all.

        Returns:
            The number of its rows.

        Raises:
            Damaged: a file or the record is not as it was written.
        """
        path = self.record_of(index)
        fix = self.fix.format(index)
        record = read_sealed(path, fix)
        entries = record.get("files", {})
        if record.get("index") != index or set(entries) != {name.format(index) for name in self.files}:
            raise Damaged(path, "not the record of this part", fix)
        for name in self.files if only is None else (only,):
            entry, file = entries[name.format(index)], self.out / name.format(index)
            check_size(file, entry["bytes"], fix)
            check_bytes(file, entry["sha256"], fix)
        return int(record["rows"])
