"""FITS files of which a part is chosen: each is an image, whatever else it holds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from raysal.errors import SourceError
from raysal.sources.base import UNLESS_DEFAULT
from raysal.sources.files import Files
from raysal.sources.fits_images import FitsImage, Hdu
from raysal.sources.kinds import FITS, IMAGES, OTHER_IMAGES, OTHER_TABLES, TABLES
from raysal.sources.listing import bad_item, check_channels, digest, units_of, wanted_positions
from raysal.sources.places import PathOrUrl, is_of_one
from raysal.types import Item, PassedOver, SourceFile, Stamp, Unit


@dataclass(frozen=True, kw_only=True)
class Fits:
    """The FITS files below a folder, in the order of their relative paths, which are the keys.

    Of each file one part counts. Its pixels mean what docs/images.md says; a cube is an image of several channels. (A
    folder of pictures has FITS files among others, and takes the first image of each.)
    """

    path: PathOrUrl
    """A file, a folder, or a pattern, as `night/*.fits.fz`."""
    hdu: Hdu | tuple[Hdu, ...] | None = None
    """The part: its name, name and version (`SCI,2`), or number from 0. By default the first one with an image. Several
    flat parts of one size are the channels of one image."""
    channels: tuple[int, ...] = ()
    """The planes of a cube to take, by their numbers from 0."""
    stated_range: tuple[float, float] | None = None
    """The numbers that are black and white, instead of DATAMIN and DATAMAX."""
    channel_names: tuple[str, ...] = field(default=(), metadata={"record": UNLESS_DEFAULT})
    """Names of all channels, in order. By default those of the parts, and the numbers of the planes of a cube."""
    recursive: bool = True
    """Whether the folders inside are read too."""

    def __post_init__(self) -> None:
        check_channels(self.channel_names)

    @property
    def modality(self) -> Literal["image"]:
        """Image."""
        return "image"

    @cached_property
    def _listing(self) -> Files:
        others = (OTHER_IMAGES | OTHER_TABLES | {*IMAGES, *TABLES}) - set(FITS)
        return Files(path=self.path, takes=FITS, items=others, recursive=self.recursive)

    def passed_over(self) -> PassedOver:
        """The files that are not taken; see `PassesOver`."""
        return self._listing.passed_over()

    def fingerprint(self) -> str:
        """Hex sha256 over names and sizes, and what is read of the files. It costs one `stat` per file."""
        how = [self.hdu, self.channels, self.stated_range, *([self.channel_names] if self.channel_names else [])]
        return digest([*how, *((file.name, file.bytes) for file in self.files())])

    def stamp(self) -> Stamp:
        """Names, sizes and times of the files. It costs one `stat` per file."""
        return self._listing.stamp()

    def files(self) -> Iterator[SourceFile]:
        """Every file, which is one item; see `OfFiles`."""
        return self._listing.look()

    def units_in(self, names: Iterable[str], chunk_rows: int) -> Iterator[Unit]:
        """List some of the files; see `OfFiles`."""
        return units_of(names, chunk_rows)

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
            SourceError: there is no FITS file.
        """
        empty = True
        for unit in units_of(self._listing.names(), chunk_rows):
            empty = False
            yield unit
        if empty:
            raise SourceError(self.path, f"no FITS files here ({', '.join(FITS)})", "check the path")

    def read(self, unit: Unit, only: Collection[int] | None = None) -> Iterator[Item]:
        """Read a chunk; see `Source.read`. An image is `Pixels`."""
        for position in wanted_positions(unit, only):
            key = unit.keys[position]
            uri = self._listing.uri_of(key)
            try:
                with self._listing.opened(key) as path, FitsImage(path, self.hdu) as image:
                    height, width = image.shape[-2:]
                    values = image.cut(0, 0, height, width, self.channels)
                    payload = image.pixels(values, self.stated_range, self.channels, self.channel_names)
            except ValueError as error:
                yield bad_item(key, str(error), uri=uri)
            except SourceError as error:
                if not is_of_one(error):
                    raise
                yield bad_item(key, error.problem, uri=uri)
            else:
                yield Item(key=key, payload=payload, uri=uri)
