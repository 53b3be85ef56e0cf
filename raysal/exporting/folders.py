"""Forms that are folders of files: links or copies in a folder for each class, and the pictures of COCO.

A file is made under a temporary name and gets its own in one rename. A journal names the files of the shard that is
being made, so that those that a killed job left are taken away: when it is made again, other items may be lost.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Collection
from pathlib import Path

from PIL import Image

from raysal.errors import BadItem
from raysal.exporting.base import Entry, Noted
from raysal.exporting.names import file_path, folder_name
from raysal.store import TEMPORARY, fsync_path

JOURNAL = "begun-{:05d}.txt"
"""The journal of a shard, in the folder of work."""


class FileShard:
    """Files that are being written below a folder."""

    def __init__(self, folder: Path, work: Path, number: int, *, links: bool, classes: bool, measure: bool) -> None:
        """Begin a shard.

        Args:
            folder: what paths are below.
            work: for files under temporary names, on the same disk.
            number: of the shard.
            links: make links to the files of the source.
            classes: put items into a folder of their label.
            measure: note width and height of pictures.
        """
        self._folder, self._work = folder, work
        self._links, self._classes, self._measure = links, classes, measure
        self._touched: set[Path] = set()
        self._journal = open(work / JOURNAL.format(number), "w", encoding="utf-8", newline="")  # noqa: SIM115

    def member(self, entry: Entry, suffix: str) -> str:
        """The path of an item below the folder."""
        path = file_path(entry.key, suffix)
        return f"{folder_name(entry.label)}/{path}" if self._classes and entry.label is not None else path

    def add(self, entry: Entry) -> Noted:
        """Make the file or link of an item; see `Shard.add`."""
        media = entry.media
        assert media is not None
        member = self.member(entry, media.suffix)
        size = _size_of(media.content) if self._measure else (None, None)
        if self._measure and media.suffix == ".npy":
            raise BadItem(entry.key, "its numbers are no picture of 8 bits", "export as webdataset")
        place, temporary = self._folder / member, self._work / f"{TEMPORARY}{os.getpid()}"
        self._make_folders(place.parent)
        self._journal.write(f"{member}\n")
        self._journal.flush()
        temporary.unlink(missing_ok=True)
        if self._links:
            assert media.place is not None
            os.symlink(Path(media.place).absolute(), temporary)
        else:
            temporary.write_bytes(media.content)
            fsync_path(temporary)
        os.replace(temporary, place)
        self._touched.add(place.parent)
        return Noted(member, *size)

    def _make_folders(self, folder: Path) -> None:
        if not folder.is_dir():
            self._make_folders(folder.parent)
            folder.mkdir(exist_ok=True)
            self._touched.add(folder.parent)

    def close(self) -> None:
        """Flush the folders to disk."""
        self._journal.close()
        for folder in sorted(self._touched):
            fsync_path(folder)


def _size_of(content: bytes) -> tuple[int | None, int | None]:
    """Width and height by the head of a picture; nothing is decoded. None where Pillow cannot tell."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a very large picture, which is copied all the same
            with Image.open(io.BytesIO(content)) as image:
                return image.size
    except Exception:  # of any plugin
        return None, None


def take_away_begun(folder: Path, work: Path, committed: Collection[int]) -> None:
    """Take away the files of shards that were begun and not committed, and the journals.

    Args:
        folder: what paths are below.
        work: where journals are.
        committed: numbers of the shards that are there.
    """
    journals = {work / JOURNAL.format(number): number for number in committed}
    for journal in sorted(work.glob("begun-*.txt")):
        if journal not in journals:
            for member in journal.read_text(encoding="utf-8").split("\n")[:-1]:
                (folder / member).unlink(missing_ok=True)
        journal.unlink()
