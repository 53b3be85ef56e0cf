"""Images in FITS files, by astropy: one part of a file (an HDU), and rectangles cut out of it."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.errors import MissingExtra
from raysal.messages import brief
from raysal.types import Pixels

MAX_PIXELS = 89_478_485
"""Pixels that are read at a time, as many as an encoder takes."""


class FitsImage:
    """The image in one part of a FITS file, with BSCALE and BZERO applied. It may be used by one thread at a time.

    Compressed images (`.fits.fz`) are read tile by tile, others row by row: memory for what is cut out.
    """

    def __init__(self, path: Path, hdu: str | int | None = None) -> None:
        """Open a file and find the part.

        Args:
            path: the file.
            hdu: the part, by its name, by name and version (`SCI,2`), or by its number from 0; by default the first
                one that has an image.

        Raises:
            ValueError: the file cannot be read, has no such part, or that has no image. The message says which it has.
            MissingExtra: astropy is not installed.
        """
        try:
            from astropy.io import fits
        except ModuleNotFoundError:
            raise MissingExtra(str(path), "astropy", "fits") from None
        self.path = path
        try:
            with warnings.catch_warnings():  # of headers that break the standard, and of files that are cut short
                warnings.simplefilter("ignore")
                # Mapped into memory, numbers with a scale could only be read as a whole.
                self._file = fits.open(path, memmap=False, lazy_load_hdus=False)
        except Exception as error:  # astropy raises anything on bad bytes
            raise ValueError(f"it cannot be read as FITS ({type(error).__name__}: {brief(error)})") from None
        try:
            self._part = _part(self._file, hdu, (fits.PrimaryHDU, fits.ImageHDU, fits.CompImageHDU), fits.GroupsHDU)
            self.header = self._part.header.copy()  # reading the data changes the header
            self.shape = _flat(tuple(self._part.shape))
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

    @property
    def stated(self) -> tuple[float, float] | None:
        """Black and white by DATAMIN and DATAMAX, where both are there."""
        ends = self.header.get("DATAMIN"), self.header.get("DATAMAX")
        return None if None in ends else (float(ends[0]), float(ends[1]))

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
        try:
            values = np.asarray(self._part.section[place])
        except Exception as error:  # astropy and its codecs raise anything on bad bytes
            raise ValueError(f"its pixels cannot be read ({type(error).__name__}: {brief(error)})") from None
        values = values.reshape(-1, *values.shape[-2:])
        if values.shape[1:] != (height, width):
            raise ValueError("its pixels cannot be read (the file is cut short)")
        values = values[list(channels)] if channels else values
        blank = self.header.get("BLANK")
        # astropy passes over BLANK where BZERO makes the numbers unsigned. Real numbers are NaN there.
        if blank is not None and values.dtype.kind in "iu" and (values == blank + self.header.get("BZERO", 0)).any():
            raise ValueError("some pixels have no value (BLANK); fill them in")
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        return values[0] if len(values) == 1 else np.moveaxis(values, 0, -1)


def picture(values: NDArray[Any], stated: tuple[float, float] | None) -> Pixels | NDArray[np.uint8]:
    """Pixels as an item has them: highest row first, and bare where they are grey or RGB of 8 bits.

    Args:
        values: [h, w] or [h, w, channels], lowest row first.
        stated: black and white, where that is stated.

    Returns:
        The payload.
    """
    turned = np.array(values[::-1], order="C")  # a copy: the file may be closed
    is_plain = turned.dtype == np.uint8 and turned.shape[2:] in ((), (3,))
    return turned if is_plain else Pixels(values=turned, stated=stated)


def _part(file: Any, hdu: str | int | None, kinds: tuple[type, ...], groups: type) -> Any:
    """The part that was asked for, or the first one with an image."""
    images = [isinstance(part, kinds) and not isinstance(part, groups) for part in file]
    has_image = [is_image and len(part.shape) > 0 for part, is_image in zip(file, images, strict=True)]
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
