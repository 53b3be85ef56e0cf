"""Images in a folder. An image's key is its path relative to the folder."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Literal

from raysal.errors import ConfigError, SourceError
from raysal.sources.base import AS_BEGUN, LATER
from raysal.sources.files import Files
from raysal.sources.kinds import FIRST_IMAGES, IMAGES, OTHER_IMAGES, OTHER_TABLES, TABLES
from raysal.sources.listing import (
    bad_item,
    digest,
    look_at,
    size_of,
    stamp_of_files,
    units_of,
    wanted_positions,
    whole_owners,
)
from raysal.types import Item, PassedOver, SourceFile, Stamp, Unit


@dataclass(frozen=True, kw_only=True)
class Folder:
    """The image files under a folder, in the order of their relative POSIX paths. Hidden files are left out.

    The listing holds the entries of one directory at a time, not of the whole tree. It follows links to folders, except
    links into a folder that contains them.
    """

    path: Path
    """The folder; or a pattern, as `photos/**/*.jpg`."""
    recursive: bool = True
    """Whether the folders inside are read too."""
    suffixes: tuple[str, ...] = field(default=IMAGES, metadata={AS_BEGUN: FIRST_IMAGES})
    """The suffixes of images, in lower case; a file's own may be in any case. The rest is passed over."""

    owner: Literal["folder"] | None = field(default=None, metadata=LATER)
    """What images are parts of: `folder`, for frames that lie in a folder for each video. The owner's key is the path
    of the folder; an image at the top is no part. No frame may lie beside a folder of frames."""

    def __post_init__(self) -> None:
        for suffix in self.suffixes:
            if not suffix.startswith(".") or suffix != suffix.lower():
                raise ConfigError("source.suffixes", f"{suffix!r}", "write suffixes in lower case, with the dot")

    @property
    def modality(self) -> Literal["image"]:
        """Image."""
        return "image"

    @property
    def _files(self) -> Files:
        path = Path(self.path)
        if path.is_file():
            raise SourceError(path, "is a file, not a folder", "pass a folder of images")
        return Files(
            path=path,
            takes=tuple(self.suffixes),
            items=(OTHER_IMAGES | OTHER_TABLES | {*IMAGES, *TABLES}),
            recursive=self.recursive,
            pictures=True,
        )

    def fingerprint(self) -> str:
        """Hex sha256 over the relative path and the size of every image. It costs one `stat` per file."""
        files = self._files
        sizes = ((key, size_of(files.file(key))) for key in files.names())
        return digest(sizes if self.owner is None else chain([{"owner": self.owner}], sizes))

    def stamp(self) -> Stamp:
        """Names, sizes and times of all images. It costs one `stat` per file."""
        files = self._files
        return stamp_of_files((key, files.file(key)) for key in files.names())

    def keys(self) -> Iterator[str]:
        """List the keys of all images.

        Returns:
            Relative POSIX paths, in ascending order of their text.

        Raises:
            SourceError: the folder is missing or unreadable.
        """
        return self._files.names()

    def path_of(self, key: str) -> Path:
        """The file of an image.

        Args:
            key: one that `keys` lists. Others are not looked at: they may lead anywhere.

        Returns:
            Its path.
        """
        return self._files.path_of(key)

    def passed_over(self) -> PassedOver:
        """The files that are no images of the chosen suffixes; see `PassesOver`."""
        return self._files.passed_over()

    def files(self) -> Iterator[SourceFile]:
        """Every image, which is one item; see `OfFiles`."""
        files = self._files
        return (look_at(key, files.file(key)) for key in files.names())

    def units_in(self, names: Iterable[str], chunk_rows: int) -> Iterator[Unit]:
        """List some of the images; see `OfFiles`."""
        if self.owner is None:
            yield from units_of(names, chunk_rows)
            return
        rows = ((key, key.rpartition("/")[0] or None, None) for key in names)
        first_id = 0
        for index, some in enumerate(whole_owners(rows, chunk_rows, self.path)):
            keys, owners, _ = zip(*some, strict=True)
            yield Unit(index=index, first_id=first_id, keys=keys, owners=owners)
            first_id += len(some)

    def spans(self, unit: Unit) -> Iterator[tuple[str, int]]:
        """Each item is a file of its own; see `OfFiles`."""
        return ((key, 1) for key in unit.keys)

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
        for unit in self.units_in(self.keys(), chunk_rows):
            empty = False
            yield unit
        if empty:
            found = str(self.passed_over())
            raise SourceError(
                self.path,
                f"no images in this folder; {found}" if found else "no images in this folder",
                f"check the path; images end in {', '.join(self.suffixes)}",
            )

    def read(self, unit: Unit, only: Collection[int] | None = None) -> Iterator[Item]:
        """Read a chunk; see `Source.read`. A payload is the bytes of the file, not decoded."""
        files = self._files
        for position in wanted_positions(unit, only):
            key = unit.keys[position]
            file = files.file(key)
            uri = file.decode("utf-8", "backslashreplace")
            try:
                with open(file, "rb") as opened:
                    yield Item(key=key, payload=opened.read(), uri=uri)
            except OSError as error:
                yield bad_item(key, f"the file cannot be read ({error.strerror})", uri=uri)
