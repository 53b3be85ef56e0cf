"""Cut-outs of large FITS images at the positions of a catalogue: one item for each row of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil, isfinite
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.arrow_values import Texts
from raysal.errors import BadItem, ConfigError, SourceError
from raysal.sources.base import UNLESS_DEFAULT
from raysal.sources.catalogue import Rows, rows_of
from raysal.sources.files import Files
from raysal.sources.fits_images import MAX_PIXELS, FitsImage, Hdu, stacked, upright, widest
from raysal.sources.kinds import FITS, IMAGES, OTHER_IMAGES
from raysal.sources.listing import (
    check_carry,
    check_channels,
    digest,
    look_at,
    stamp_of_files,
    stamp_of_looks,
    wanted_positions,
)
from raysal.sources.places import PathOrUrl
from raysal.types import Item, PassedOver, SourceFile, Stamp, Unit

_OPEN = 16
"""Images that are open at the same time."""


@dataclass(frozen=True, kw_only=True)
class Cutouts:
    """Squares cut out of FITS images, each around a position of a catalogue.

    In a square of an odd size, the pixel of the position is in the middle; of an even size, the position is at most
    half a pixel from the middle. (That is the rule of astropy's `Cutout2D`.) A row is quarantined if its position is no
    number, or if its square does not lie in the image; with `pad` only if no pixel of the square does.

    The catalogue is read once, to list the items: each unit carries its positions.
    """

    path: PathOrUrl
    """The FITS image; or a folder of images, of which `image_column` names one for each row."""
    catalogue: Path
    """Parquet, Arrow, CSV, TSV, or a FITS file, of which the first table counts."""
    size: int
    """Side of the square, in pixels of the image."""
    hdu: Hdu | tuple[Hdu, ...] | None = None
    """The part of each image: its name, name and version (`SCI,2`), or number from 0. By default the first image.
    Several flat parts of one size are the channels of one image."""
    key_column: str = "key"
    """The column of the items' keys."""
    x_column: str = "x"
    """The column of positions along the first axis of FITS (columns of the image), in pixels."""
    y_column: str = "y"
    """That along the second axis (rows)."""
    origin: Literal[0, 1] = 1
    """The number of the middle of the first pixel: 1 as FITS, SExtractor and DS9 count; 0 as NumPy and photutils do."""
    ra_column: str | None = None
    """The column of the first coordinate of the sky in degrees, instead of x, in the frame of the image's WCS."""
    dec_column: str | None = None
    """That of the second coordinate."""
    image_column: str | tuple[str, ...] | None = None
    """The column of the names of the images, relative to the folder. Needed where there are several. Several columns
    name a flat image each, whose squares at the position are the channels; these have the names of the columns."""
    pad: float | None = None
    """The number that stands for pixels beyond the border. Without it a row at the border is quarantined."""
    channels: tuple[int, ...] = ()
    """The planes of a cube to take, by their numbers from 0."""
    stated_range: tuple[float, float] | None = None
    """The numbers that are black and white, instead of DATAMIN and DATAMAX."""
    channel_names: tuple[str, ...] = field(default=(), metadata={"record": UNLESS_DEFAULT})
    """Names of all channels, in order. By default those of the parts or columns, or numbers of the planes of a cube."""
    carry: tuple[str, ...] = ()
    """Columns of the catalogue to keep in the pool."""

    def __post_init__(self) -> None:
        check_carry(self.carry)
        check_channels(self.channel_names)
        check_channels(self._image_columns, "image_column")
        if not 1 <= self.size <= int(MAX_PIXELS**0.5):
            raise ConfigError("source.size", f"{self.size}", f"use 1 to {int(MAX_PIXELS**0.5)}")
        if self.origin not in (0, 1):
            raise ConfigError("source.origin", f"{self.origin}", "use 0 or 1")
        if (count := len(self._image_columns)) > 1:
            if self.channels or isinstance(self.hdu, tuple):
                name = "channels" if self.channels else "hdu"
                problem = f"several, and each of {count} image columns names an image of one channel"
                raise ConfigError(f"source.{name}", problem, "name one column, or leave it out")
            if len(self.channel_names) not in (0, count):
                problem = f"{len(self.channel_names)}, and there are {count} image columns"
                raise ConfigError("source.channel_names", problem, "name each of them")
        if (self.ra_column is None) != (self.dec_column is None):
            raise ConfigError(
                "source.dec_column", "only one of ra_column and dec_column is given", "give both, or none"
            )

    @property
    def modality(self) -> Literal["image"]:
        """Image."""
        return "image"

    @cached_property
    def _images(self) -> Files:
        return Files(path=self.path, takes=FITS, items=OTHER_IMAGES | set(IMAGES) - set(FITS))

    @property
    def _positions(self) -> tuple[str, str]:
        return (self.x_column, self.y_column) if self.ra_column is None else (self.ra_column, str(self.dec_column))

    @property
    def _image_columns(self) -> tuple[str, ...]:
        return (self.image_column,) if isinstance(self.image_column, str) else self.image_column or ()

    def passed_over(self) -> PassedOver:
        """The files of the folder that are no FITS images; see `PassesOver`."""
        return self._images.passed_over()

    def _looks(self) -> Iterator[SourceFile]:
        """The catalogue and the images, as they are now."""
        yield look_at(Path(self.catalogue).name, Path(self.catalogue))
        yield from self._images.look()

    def fingerprint(self) -> str:
        """Hex sha256 over the names and sizes of all files, and what is read of them. It costs one `stat` per file."""
        how: list[Any] = [
            self.size,
            self.hdu,
            self.key_column,
            self._positions,
            self.origin,
            self.image_column,
            self.pad,
        ]
        how += [self.channels, self.stated_range, self.carry, *([self.channel_names] if self.channel_names else [])]
        return digest([*how, *((file.name, file.bytes) for file in self._looks())])

    def stamp(self) -> Stamp:
        """Names, sizes and times of the catalogue and the images."""
        if self._images.bucket is not None:
            return stamp_of_looks(self._looks())
        images = replace(self._images)  # a copy looks at the path anew
        files = [("", Path(self.catalogue)), *((name, images.path_of(name)) for name in images.names())]
        return stamp_of_files(files)

    def files(self) -> Iterator[SourceFile]:
        """The catalogue, which is as new as the newest of its images; see `OfFiles`."""
        looks = list(self._looks())
        size, newest = sum(file.bytes for file in looks), max(file.changed_ns for file in looks)
        yield replace(
            looks[0], bytes=size, changed_ns=newest, parts=tuple(part for file in looks for part in file.parts)
        )

    def units_in(self, names: Iterable[str], chunk_rows: int) -> Iterator[Unit]:
        """List the items of the catalogue, if it is named; see `OfFiles`."""
        return self.units(chunk_rows) if list(names) else iter(())

    def spans(self, unit: Unit) -> Iterator[tuple[str, int]]:
        """All items lie in the catalogue; see `OfFiles`."""
        return iter([(Path(self.catalogue).name, len(unit.keys))])

    def units(self, chunk_rows: int) -> Iterator[Unit]:
        """List all items; see `Source.units`.

        Args:
            chunk_rows: items in one chunk.

        Yields:
            The chunks in order. A locator has the columns that `read` needs, as lists.

        Raises:
            SourceError: the catalogue cannot be read, or does not say which image a row is about.
        """
        if not self._image_columns:
            self._only_image()
        keys: list[pa.Array] = []
        held: dict[str, list[Any]] = {}
        index = first_id = count = 0
        for some in self._rows():
            start = 0
            while start < len(some.keys):
                stop = min(len(some.keys), start + chunk_rows - count)
                keys.append(some.keys[start:stop])
                for name, values in some.columns.items():
                    held.setdefault(name, []).extend(values[start:stop])
                count, start = count + stop - start, stop
                if count == chunk_rows:
                    yield Unit(index=index, first_id=first_id, keys=Texts(pa.concat_arrays(keys)), locator=held)
                    index, first_id, count, keys, held = index + 1, first_id + count, 0, [], {}
        if count:
            yield Unit(index=index, first_id=first_id, keys=Texts(pa.concat_arrays(keys)), locator=held)

    def _rows(self) -> Iterator[Rows]:
        x, y = self._positions
        names = ("x_column", "y_column") if self.ra_column is None else ("ra_column", "dec_column")
        columns = [(x, f"source.{names[0]}"), (y, f"source.{names[1]}"), *((one, "source.carry") for one in self.carry)]
        columns += [(one, "source.image_column") for one in self._image_columns]
        return rows_of(Path(self.catalogue), (self.key_column, "source.key_column"), columns)

    def _only_image(self) -> str:
        """The name of the image where there is one. Raises SourceError where there are none or several."""
        names = iter(self._images.names())
        first, second = next(names, None), next(names, None)
        if first is None:
            raise SourceError(self.path, f"no FITS images here ({', '.join(FITS)})", "check the path")
        if second is not None:
            problem = f"several images here ({first}, {second} ...), and no column says which one a row is about"
            raise SourceError(self.path, problem, "name it in source.image_column")
        return first

    def read(self, unit: Unit, only: Collection[int] | None = None) -> Iterator[Item]:
        """Read a chunk; see `Source.read`. An image is `Pixels`."""
        rows = list(wanted_positions(unit, only))
        alone = [] if self._image_columns else [self._only_image()]
        with _Opened(self._images, self.hdu) as opened:
            for row in rows:
                key = unit.keys[row]
                names = alone or [unit.locator[column][row] for column in self._image_columns]
                carried = {column: unit.locator[column][row] for column in self.carry}
                try:
                    position = [unit.locator[column][row] for column in self._positions]
                    payload: Any = self._joined([opened.image(name) for name in names], *position)
                except ValueError as error:
                    payload = BadItem(key, str(error))
                yield Item(key=key, payload=payload, uri=", ".join(map(str, names)), carried=carried)

    def _joined(self, images: list[FitsImage], x: Any, y: Any) -> Any:
        """The payload at a position. Raises ValueError where there is none."""
        if len(images) == 1:
            values = self._cut(images[0], x, y)
            return images[0].pixels(values, self.stated_range, self.channels, self.channel_names)
        squares = []
        for column, image in zip(self._image_columns, images, strict=True):
            try:
                squares.append(self._cut(image, x, y))
                if squares[-1].ndim > 2:
                    raise ValueError(f"{squares[-1].shape[2]} channels, and one of several images has one")
            except ValueError as error:
                raise ValueError(f"{column}: {error}") from None
        values = np.moveaxis(stacked([square[None] for square in squares]), 0, -1)
        stated = self.stated_range or widest([image.stated for image in images])
        return upright(values, stated, self.channel_names or self._image_columns)

    def _cut(self, image: FitsImage, x: Any, y: Any) -> NDArray[Any]:
        """The pixels at a position, lowest row first. Raises ValueError where there are none."""
        place = [_number(one, column) for one, column in zip((x, y), self._positions, strict=True)]
        column, row = _pixel_of(image, *place) if self.ra_column is not None else (one - self.origin for one in place)
        height, width = image.shape[-2:]
        left, top = ceil(column - self.size / 2), ceil(row - self.size / 2)
        where = f"the square around x = {column + self.origin:.6g}, y = {row + self.origin:.6g}"
        low, high = max(top, 0), min(top + self.size, height)
        start, stop = max(left, 0), min(left + self.size, width)
        if low >= high or start >= stop:
            raise ValueError(f"{where} lies outside of the image of {width} x {height} pixels")
        if (high - low, stop - start) != (self.size, self.size) and self.pad is None:
            problem = f"{where} reaches beyond the border of the image of {width} x {height} pixels"
            raise ValueError(f"{problem}; a number for what lies beyond is set by `pad`")
        values = image.cut(low, start, high - low, stop - start, self.channels)
        if values.shape[:2] != (self.size, self.size):
            values = _padded(values, self.size, low - top, start - left, float(self.pad or 0))
        return values


class _Opened:
    """Images that stay open while a chunk is read, the last few of them."""

    def __init__(self, files: Files, hdu: Hdu | tuple[Hdu, ...] | None) -> None:
        self._files, self._hdu = files, hdu
        self._open: OrderedDict[Any, FitsImage | ValueError] = OrderedDict()

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *_: object) -> None:
        for found in self._open.values():
            if isinstance(found, FitsImage):
                found.close()

    def image(self, name: Any) -> FitsImage:
        """The image of a name. Raises ValueError where there is none in the folder, or it cannot be read."""
        if name not in self._open:
            if len(self._open) >= _OPEN and isinstance(old := self._open.popitem(last=False)[1], FitsImage):
                old.close()
            self._open[name] = self._opened(name)
        self._open.move_to_end(name)
        found = self._open[name]
        if isinstance(found, ValueError):
            raise found
        return found

    def _opened(self, name: Any) -> FitsImage | ValueError:
        parts = str(name).split("/")  # none is hidden, or leads out of the folder
        inside = all(part and not part.startswith(".") for part in parts) and parts[-1].lower().endswith(FITS)
        if not inside or not self._files.place.is_file(str(name)):
            return ValueError(f"there is no FITS file {name!r} in {self._files.place.where('')}")
        try:
            with self._files.opened(str(name)) as path:
                return FitsImage(path, self._hdu)
        except ValueError as error:
            return ValueError(f"{name}: {error}")


def _number(value: Any, column: str) -> float:
    """A coordinate. Raises ValueError where it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"column {column!r} is {value!r}, which is no number") from None
    if not isfinite(number):
        raise ValueError(f"column {column!r} is {value!r}")
    return number


def _pixel_of(image: FitsImage, ra: float, dec: float) -> tuple[float, float]:
    """Column and row from 0 of a place in the sky. Raises ValueError where the image has no such place."""
    import warnings

    from astropy.wcs import WCS

    with warnings.catch_warnings():  # of headers that WCS corrects
        warnings.simplefilter("ignore")
        wcs = image.__dict__.get("wcs")
        if wcs is None:
            wcs = image.__dict__["wcs"] = WCS(image.header, naxis=2)
        if not wcs.has_celestial:
            raise ValueError("the image does not say where in the sky it is (WCS); use x_column and y_column")
        try:
            ((column, row),) = wcs.all_world2pix([[ra, dec]], 0)
            ((there, high),) = wcs.all_pix2world([[column, row]], 0)
        except Exception:  # no convergence, or a place beyond the projection
            column = row = there = high = float("nan")
    apart = np.hypot(((there - ra + 180) % 360 - 180) * np.cos(np.radians(dec)), high - dec)
    if not apart < 1e-3:
        raise ValueError(f"ra = {ra:.6g}, dec = {dec:.6g} lies outside of the image")
    return float(column), float(row)


def _padded(values: NDArray[Any], size: int, above: int, before: int, pad: float) -> NDArray[Any]:
    """Pixels within a square of one number. Raises ValueError where the type of the pixels does not have it."""
    kind = values.dtype
    if kind.kind in "iu" and not (pad == int(pad) and np.iinfo(kind).min <= pad <= np.iinfo(kind).max):
        raise ValueError(f"pad = {pad:g} is no {kind}, as the pixels are")
    square = np.full((size, size, *values.shape[2:]), pad, kind)
    square[above : above + values.shape[0], before : before + values.shape[1]] = values
    return square
