"""The pages of TIFF files: each is an image."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import BinaryIO, Literal

from raysal.errors import SourceError
from raysal.sources.files import Files
from raysal.sources.kinds import IMAGE_FORMATS, IMAGES, OTHER_IMAGES, OTHER_TABLES, TABLES
from raysal.sources.listing import bad_item, digest, units_of, wanted_positions
from raysal.sources.places import PathOrUrl, is_of_one
from raysal.sources.tiff_pages import page_alone, page_places
from raysal.types import Item, PassedOver, SourceFile, Stamp, Unit

_TIFF = IMAGE_FORMATS["TIFF"]


@dataclass(frozen=True, kw_only=True)
class Pages:
    """The pages of the TIFF files below a folder: those of a stack, a scan of several sheets, a document.

    Keys are `NAME#NUMBER`: the relative path of the file, and the number of the page from 0. Files are in the order of
    their paths. A page that is a thumbnail or a mask is quarantined, and so is a file whose pages cannot be found.
    """

    path: PathOrUrl
    """A file, a folder, or a pattern, as `scans/*.tif`."""
    recursive: bool = True
    """Whether the folders inside are read too."""

    @property
    def modality(self) -> Literal["image"]:
        """Image."""
        return "image"

    @cached_property
    def _listing(self) -> Files:
        others = (OTHER_IMAGES | OTHER_TABLES | {*IMAGES, *TABLES}) - set(_TIFF)
        return Files(path=self.path, takes=_TIFF, items=others, recursive=self.recursive)

    def passed_over(self) -> PassedOver:
        """The files that are no TIFF; see `PassesOver`."""
        return self._listing.passed_over()

    def fingerprint(self) -> str:
        """Hex sha256 over names and sizes. It costs one `stat` per file."""
        return digest((file.name, file.bytes) for file in self.files())

    def stamp(self) -> Stamp:
        """Names, sizes and times of the files. It costs one `stat` per file."""
        return self._listing.stamp()

    def files(self) -> Iterator[SourceFile]:
        """Every file; see `OfFiles`."""
        return self._listing.look()

    def units_in(self, names: Iterable[str], chunk_rows: int) -> Iterator[Unit]:
        """List the pages of some files; see `OfFiles`. It reads a few bytes of each page."""
        return units_of((key for name in names for key in self._keys(name)), chunk_rows)

    def spans(self, unit: Unit) -> Iterator[tuple[str, int]]:
        """In which files the pages lie; see `OfFiles`."""
        return ((name, sum(1 for _ in keys)) for name, keys in groupby(unit.keys, _file_of))

    def units(self, chunk_rows: int) -> Iterator[Unit]:
        """List all items; see `Source.units`.

        Args:
            chunk_rows: items in one chunk.

        Yields:
            The chunks in order.

        Raises:
            SourceError: there is no TIFF file.
        """
        empty = True
        for unit in self.units_in(self._listing.names(), chunk_rows):
            empty = False
            yield unit
        if empty:
            raise SourceError(self.path, f"no TIFF files here ({', '.join(_TIFF)})", "check the path")

    def _keys(self, name: str) -> Iterator[str]:
        """The keys of the pages of a file; of one page, if they cannot be found: to read it says why."""
        try:
            with self._listing.opened(name) as path, open(path, "rb") as file:
                count = len(page_places(file))
        except (OSError, ValueError):
            count = 1
        except SourceError as error:
            if not is_of_one(error):
                raise
            count = 1
        return (f"{name}#{number}" for number in range(count))

    def read(self, unit: Unit, only: Collection[int] | None = None) -> Iterator[Item]:
        """Read a chunk; see `Source.read`. A payload is the bytes of a TIFF file of the page, not decoded."""
        keys = [unit.keys[position] for position in wanted_positions(unit, only)]
        for name, group in groupby(keys, _file_of):
            some = list(group)
            uri = self._listing.uri_of(name)
            try:
                with self._listing.opened(name) as path, open(path, "rb") as file:
                    places = page_places(file)
                    for key in some:
                        yield self._item(key, file, places, uri)
            except (OSError, ValueError) as error:
                yield from (bad_item(key, _why(error), uri=uri) for key in some)
            except SourceError as error:
                if not is_of_one(error):
                    raise
                yield from (bad_item(key, error.problem, uri=uri) for key in some)

    def _item(self, key: str, file: BinaryIO, places: list[int], uri: str) -> Item:
        number = int(key.rpartition("#")[2])
        if number >= len(places):
            return bad_item(key, f"the file has {len(places)} pages now", uri=uri)
        try:
            return Item(key=key, payload=page_alone(file, places[number], len(places)), uri=uri)
        except (OSError, ValueError) as error:
            return bad_item(key, _why(error), uri=uri)


def _why(error: Exception) -> str:
    return f"the file cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)


def _file_of(key: str) -> str:
    """The name of the file of a page."""
    return key.rpartition("#")[0]
