"""Images in a folder; the key of one is its path relative to it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from raysal.errors import SourceError
from raysal.sources.listing import bad, digest, size_of, units_of, wanted
from raysal.types import Item, Unit

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".gif", ".bmp")


@dataclass(frozen=True, kw_only=True)
class Folder:
    """Image files under `path` in the order of their relative POSIX paths; hidden ones are passed over.

    Listing holds one directory at a time, not the tree. Links to folders are followed, except back into a
    folder they lie in.
    """

    path: Path
    recursive: bool = True

    @property
    def modality(self) -> Literal["image"]:
        return "image"

    def fingerprint(self) -> str:
        """Hex sha256 over the relative path and the size of every image; one `stat` per file."""
        root = Path(self.path)
        return digest((key, size_of(root / key)) for key in self.keys())

    def keys(self) -> Iterator[str]:
        """Relative POSIX paths, in ascending order of their text.

        Raises:
            SourceError: the folder is missing or unreadable, or a name is not UTF-8.
        """
        root = Path(self.path)
        if not root.is_dir():
            what = "is a file, not a folder" if root.exists() else "no such folder"
            raise SourceError(root, what, "pass a folder of images")
        return self._walk(str(root), "", frozenset())

    def _walk(self, directory: str, prefix: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
        try:
            status = os.stat(directory)
            with os.scandir(directory) as scan:
                # A folder sorts as its name with the slash, so that the order is that of the full paths.
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
        """See `Source.units`.

        Raises:
            SourceError: as for `keys`, and when there is no image.
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
        """See `Source.read`. The payload is the file's bytes, undecoded."""
        root = Path(self.path)
        for position in wanted(unit, only):
            key = unit.keys[position]
            file = root / key
            try:
                yield Item(key=key, payload=file.read_bytes(), uri=str(file))
            except OSError as error:
                yield bad(key, f"the file cannot be read ({error.strerror})", uri=str(file))
