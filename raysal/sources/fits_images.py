"""Images in FITS files, by astropy: one part of a file (an HDU), and rectangles cut out of it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from raysal.errors import MissingExtra
from raysal.messages import brief
from raysal.types import Pixels

MAX_PIXELS = 89_478_485
"""Pixels that are read at a time, as many as an encoder takes."""
Hdu = str | int
"""A part of a file: its name, name and version (`SCI,2`), or its number from 0."""


class FitsImage:
    """The image in one part of a FITS file, or in several; with BSCALE and BZERO applied.

    Several flat parts of one size are the channels of one image. A channel has the name of its part (EXTNAME; with the
    version after a comma, if that is not 1), or where it has none the number of the part; a plane of a cube has its
    number from 0. It may be used by one thread at a time. Compressed images (`.fits.fz`) are read tile by tile, others
    row by row: memory for what is cut out.
    """

    def __init__(self, path: Path | BinaryIO, hdu: Hdu | Sequence[Hdu] | None = None) -> None:
        """Open a file and find the part.

        Args:
            path: the file.
            hdu: the part, or the parts that are the channels; by default the first one that has an image.

        Raises:
            ValueError: the file cannot be read, has no such part, that has no image, or several have different sizes.
                The message says which it has.
            MissingExtra: astropy is not installed.
        """
        try:
            from astropy.io import fits
        except ModuleNotFoundError:
            raise MissingExtra(str(path), "astropy", "fits") from None
        try:
            with warnings.catch_warnings():  # of headers that break the standard, and of files that are cut short
                warnings.simplefilter("ignore")
                # Mapped into memory, numbers with a scale could only be read as a whole.
                self._file = fits.open(path, memmap=False, lazy_load_hdus=False)
        except Exception as error:  # astropy raises anything on bad bytes
            raise ValueError(f"it cannot be read as FITS ({type(error).__name__}: {brief(error)})") from None
        try:
            self._kinds = (fits.PrimaryHDU, fits.ImageHDU, fits.CompImageHDU), fits.GroupsHDU
            wanted: list[Hdu | None] = [hdu] if hdu is None or isinstance(hdu, str | int) else [*hdu]
            self._take([_part(self._file, one, *self._kinds) for one in wanted or [None]])
        except ValueError:
            self._file.close()
            raise

    def __enter__(self) -> FitsImage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _take(self, parts: list[Any]) -> None:
        """Make an image of some parts."""
        names = _names(self._file)
        shapes = [_flat(tuple(part.shape)) for part in parts]
        if len(parts) > 1:
            named = [names[id(part)] for part in parts]
            sizes = ", ".join(f"{n} {' x '.join(map(str, s[::-1]))}" for n, s in zip(named, shapes, strict=True))
            if len(set(shapes)) > 1 or len(shapes[0]) != 2:
                raise ValueError(f"its channels are not flat and of one size: {sizes}; choose others")
            if len(set(named)) < len(named):
                raise ValueError(f"a part is named twice: {', '.join(named)}; name it once")
        self._parts, self.shape = parts, shapes[0] if len(parts) == 1 else (len(parts), *shapes[0])
        self._headers = [part.header.copy() for part in parts]  # reading the data changes the header
        is_cube = len(shapes[0]) == 3
        self.channels = tuple(map(str, range(shapes[0][0]))) if is_cube else tuple(names[id(part)] for part in parts)

    @property
    def header(self) -> Any:
        """That of the part, or of the first of them."""
        return self._headers[0]

    @property
    def stated(self) -> tuple[float, float] | None:
        """Black and white by DATAMIN and DATAMAX, where both are there; of several parts the widest range."""
        return widest([_ends(header) for header in self._headers])

    def choose(self, channels: Sequence[str]) -> None:
        """Make the flat images of these names the channels; the planes of a cube are the channels as they are.

        Args:
            channels: names of parts, or numbers of those without a name.

        Raises:
            ValueError: there are no such parts, or they have different sizes. The message names those that there are.
        """
        if len(self.shape) == 3:
            return
        names = _names(self._file)
        images = {names[id(part)]: part for part in self._file if _has_image(part, *self._kinds) and _is_flat(part)}
        if lost := [name for name in channels if name not in images]:
            raise ValueError(f"no channel {lost[0]!r}; its channels: {', '.join(images)}")
        self._take([images[name] for name in dict.fromkeys(channels)])

    def cut(self, top: int, left: int, height: int, width: int, channels: tuple[int, ...] = ()) -> NDArray[Any]:
        """The pixels of a rectangle, lowest row first, as FITS has them.

        Args:
            top: its first row.
            left: its first column.
            height: in rows; all of it lies in the image.
            width: in columns.
            channels: planes of a cube to take; () for all.

        Returns:
            [height, width], or [height, width, channels] of a cube.

        Raises:
            ValueError: it cannot be read, or a pixel has no value.
        """
        planes = self.shape[0] if len(self.shape) == 3 else 1
        if lost := [one for one in channels if not 0 <= one < planes]:
            raise ValueError(f"it has no channel {lost[0]}, but 0 to {planes - 1}; correct `channels`")
        if height * width > MAX_PIXELS:
            raise ValueError(f"too large: {width} x {height} pixels, at most {MAX_PIXELS}")
        place = (..., slice(top, top + height), slice(left, left + width))
        if len(self._parts) == 1:
            values = _cut(self._parts[0], self.header, place, (height, width))
            values = values[list(channels)] if channels else values
        else:
            at = list(channels) or range(planes)
            cuts = [_cut(self._parts[one], self._headers[one], place, (height, width)) for one in at]
            values = stacked(cuts)
        return values[0] if len(values) == 1 else np.moveaxis(values, 0, -1)

    def pixels(
        self,
        values: NDArray[Any],
        stated: tuple[float, float] | None,
        channels: tuple[int, ...] = (),
        names: tuple[str, ...] = (),
    ) -> Pixels:
        """Pixels as an item has them: highest row first, with the names of the channels.

        Args:
            values: as `cut` gave them.
            stated: black and white, where somebody says so, instead of what the file says.
            channels: as `cut` got them.
            names: of all channels of the image, where somebody says so; () for those of the file.

        Returns:
            The payload.

        Raises:
            ValueError: there are more or fewer names than channels.
        """
        names = names or self.channels
        if len(names) != len(self.channels):
            raise ValueError(f"{len(self.channels)} channels, and {len(names)} `channel_names` ({', '.join(names)})")
        taken = tuple(names[one] for one in channels) if channels else names
        return upright(values, stated or self.stated, taken)


def upright(values: NDArray[Any], stated: tuple[float, float] | None, channels: tuple[str, ...]) -> Pixels:
    """Pixels as an item has them, of numbers [h, w] or [h, w, channels] with the lowest row first."""
    turned = np.array(values[::-1], order="C")  # a copy: the file may be closed
    return Pixels(values=turned, stated=stated, channels=channels)


def stacked(planes: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Planes [1, h, w] of several images as one array, in the type that holds the numbers of all of them.

    Args:
        planes: one of each image, at least one.

    Returns:
        [planes, h, w]

    Raises:
        ValueError: no type holds all their numbers exactly.
    """
    types = [one.dtype for one in planes]
    found = np.result_type(*types)
    if found.kind == "f" and any(one.kind in "iu" and one.itemsize == 8 for one in types):
        raise ValueError(f"its channels are {', '.join(map(str, types))}, which no type holds; store them as one type")
    return np.concatenate([one.astype(found, copy=False) for one in planes])


def widest(ranges: Sequence[tuple[float, float] | None]) -> tuple[float, float] | None:
    """Black and white of several channels together; None where one does not state them."""
    known = [one for one in ranges if one is not None]
    return (min(low for low, _ in known), max(high for _, high in known)) if len(known) == len(ranges) else None


def _ends(header: Any) -> tuple[float, float] | None:
    """Black and white as a header states them."""
    low, high = header.get("DATAMIN"), header.get("DATAMAX")
    return None if low is None or high is None else (float(low), float(high))


def fits_pixels(file: BinaryIO, channels: tuple[str, ...]) -> Pixels:
    """The numbers of a FITS file.

    Args:
        file: open for reading.
        channels: names of the channels to read, as `FitsImage.choose`; () for the first image.

    Returns:
        The first image, or these channels of it, in any order.

    Raises:
        ValueError: it cannot be read, or has no such channel.
        MissingExtra: astropy is not installed.
    """
    with FitsImage(file) as image:
        if channels:
            image.choose(channels)
        height, width = image.shape[-2:]
        return image.pixels(image.cut(0, 0, height, width), None)


def _cut(part: Any, header: Any, place: tuple[Any, ...], size: tuple[int, int]) -> NDArray[Any]:
    """A rectangle of a part: [planes, h, w], in the byte order of this machine."""
    try:
        values = np.asarray(part.section[place])
    except Exception as error:  # astropy and its codecs raise anything on bad bytes
        raise ValueError(f"its pixels cannot be read ({type(error).__name__}: {brief(error)})") from None
    values = values.reshape(-1, *values.shape[-2:])
    if values.shape[1:] != size:
        raise ValueError("its pixels cannot be read (the file is cut short)")
    blank = header.get("BLANK")
    # astropy passes over BLANK where BZERO makes the numbers unsigned. Real numbers are NaN there.
    if blank is not None and values.dtype.kind in "iu" and (values == blank + header.get("BZERO", 0)).any():
        raise ValueError("some pixels have no value (BLANK); fill them in")
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _names(file: Any) -> dict[int, str]:
    """{id of a part: its name as a channel}: EXTNAME, with the version after it if that is not 1; else its number."""
    found: dict[int, str] = {}
    for number, part in enumerate(file):
        name, version = str(part.header.get("EXTNAME", "")).strip(), part.header.get("EXTVER", 1)
        name = f"{name},{version}" if name and version != 1 else name
        found[id(part)] = name if name and name not in found.values() else str(number)
    return found


def _has_image(part: Any, kinds: tuple[type, ...], groups: type) -> bool:
    is_image = isinstance(part, kinds) and not isinstance(part, groups)
    return is_image and len(part.shape) > 0


def _is_flat(part: Any) -> bool:
    return len(part.shape) > 1 and 0 not in part.shape and all(size == 1 for size in part.shape[:-2])


def _part(file: Any, hdu: str | int | None, kinds: tuple[type, ...], groups: type) -> Any:
    """The part that was asked for, or the first one with an image."""
    has_image = [_has_image(part, kinds, groups) for part in file]
    if hdu is None:
        first = next((part for part, good in zip(file, has_image, strict=True) if good), None)
        if first is None:
            raise ValueError(f"no image in this FITS file; its parts: {_listed(file)}")
        return first
    name, _, version = str(hdu).partition(",")
    try:
        at = int(name) if not version and name.lstrip("-").isdigit() else file.index_of((name, int(version or 1)))
        found = file[at]
        good = has_image[at]
    except (KeyError, IndexError, ValueError):
        raise ValueError(f"no part {hdu!r}; its parts: {_listed(file)}; choose one with `hdu`") from None
    if not good:
        raise ValueError(f"no image in its part {hdu!r}; its parts: {_listed(file)}; choose one with `hdu`")
    return found


def _listed(file: Any) -> str:
    """The parts of a file for people."""
    parts = []
    for number, part in enumerate(file):
        shape = getattr(part, "shape", ())
        what = f"{' x '.join(map(str, shape[::-1]))} pixels" if shape else "a table" if part.is_image is False else ""
        parts.append(f"{number} {part.name or 'without a name'} ({what or 'no data'})")
    return ", ".join(parts)


def _flat(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape as [h, w] or [c, h, w]."""
    planes = tuple(size for size in shape[:-2] if size != 1)
    if len(shape) < 2 or len(planes) > 1 or 0 in shape:
        raise ValueError(f"not a flat image, nor a cube of planes: its axes are {shape[::-1]}")
    return (*planes, *shape[-2:])
