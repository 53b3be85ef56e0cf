"""Images in a folder. An image's key is its path relative to the folder."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from raysal.errors import SourceError
from raysal.sources.listing import bad_item, digest, size_of, stamp_of_files, units_of, wanted_positions
from raysal.types import Item, Stamp, Unit

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".gif", ".bmp")


@dataclass(frozen=True, kw_only=True)
class Folder:
    """The image files under a folder, in the order of their relative POSIX paths. Hidden files are left out.

    The listing holds the entries of one directory at a time, not of the whole tree. It follows links to folders, except
    links into a folder that contains them.
    """

    path: Path
    recursive: bool = True
    """Whether the folders inside are read too."""

    @property
    def modality(self) -> Literal["image"]:
        """Image."""
        return "image"

    def fingerprint(self) -> str:
        """Hex sha256 over the relative path and the size of every image. It costs one `stat` per file."""
        root = Path(self.path)
        return digest((key, size_of(root / key)) for key in self.keys())

    def stamp(self) -> Stamp:
        """Names, sizes and times of all images. It costs one `stat` per file."""
        return stamp_of_files(self.path, self.keys())

    def keys(self) -> Iterator[str]:
        """List the keys of all images.

        Returns:
            Relative POSIX paths, in ascending order of their text.

        Raises:
            SourceError: the folder is missing or unreadable, or a file's name is not UTF-8.
        """
        root = Path(self.path)
        if not root.is_dir():
            what = "is a file, not a folder" if root.exists() else "no such folder"
            raise SourceError(root, what, "pass a folder of images")
        return self._walk(str(root), "", frozenset())

    def _walk(self, directory: str, prefix: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
        """The keys in one directory. `above` has (device, inode) of the directories that contain it."""
        try:
            status = os.stat(directory)
            with os.scandir(directory) as scan:
                # Sort a folder by its name with the slash: this gives the order of the full paths.
                entries = sorted(
                    (entry.name + "/" * entry.is_dir(), entry) for entry in scan if not entry.name.startswith(".")
                )
        except OSError as error:
            raise SourceError(
                directory, f"cannot be listed ({error.strerror})", "make it readable, or move it away"
            ) from None
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            return
        for name, entry in entries:
            if name.endswith("/"):
                if self.recursive:
                    yield from self._walk(entry.path, prefix + name, above | {identity})
            elif name.lower().endswith(SUFFIXES):
                key = prefix + name
                try:
                    key.encode()
                except UnicodeEncodeError:
                    raise SourceError(repr(entry.path), "the file name is not UTF-8", "rename the file") from None
                yield key

    def units(self, chunk_rows: int) -> Iterator[Unit]:
        """List all items; see `Source.units`.

        Args:
            chunk_rows: items in one chunk.

        Yields:
            The chunks in order.

        Raises:
            SourceError: as for `keys`, or there is no image.
        """
        empty = True
        for unit in units_of(self.keys(), chunk_rows):
            empty = False
            yield unit
        if empty:
            raise SourceError(
                self.path,
                f"no images in this folder ({', '.join(SUFFIXES)})",
                "check the path; hidden files do not count",
            )

    def read(self, unit: Unit, only: Collection[int] | None = None) -> Iterator[Item]:
        """Read a chunk; see `Source.read`. A payload is the bytes of the file, not decoded."""
        root = Path(self.path)
        for position in wanted_positions(unit, only):
            key = unit.keys[position]
            file = root / key
            try:
                yield Item(key=key, payload=file.read_bytes(), uri=str(file))
            except OSError as error:
                yield bad_item(key, f"the file cannot be read ({error.strerror})", uri=str(file))
