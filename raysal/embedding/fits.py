"""FITS files, by astropy: Pillow passes over the scale of the numbers, and shows compressed images as their bytes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raysal.embedding.pixels import KINDS, check_size, fixed_range, image_of, to_eight_bits
from raysal.errors import BadItem


def is_fits(head: bytes) -> bool:
    """Whether a file that begins with these bytes is a FITS file."""
    return head.startswith(b"SIMPLE  =")


def open_fits(key: str, data: bytes, limit: int) -> Image.Image:
    """Decode the first image of a FITS file: the primary one, or that of the first extension that has one.

    The first row of a FITS image is its lowest.

    Args:
        key: the item's name, for the errors.
        data: the file.
        limit: the most pixels it may have.

    Returns:
        The image in mode L.

    Raises:
        BadItem: there is no flat image, its range is unknown, pixels are missing, it is too large, or it needs the
            extra `fits`.
    """
    try:
        from astropy.io import fits
    except ModuleNotFoundError:
        raise BadItem(key, "FITS needs the module 'astropy'", "pip install 'raysal[fits]'") from None
    kinds = (fits.PrimaryHDU, fits.ImageHDU, fits.CompImageHDU)
    with fits.open(io.BytesIO(data), memmap=False) as file:
        for part in file:
            if isinstance(part, kinds) and not isinstance(part, fits.GroupsHDU) and len(part.shape) > 0:
                return image_of(_flat(key, part, limit)[::-1], "L")
    raise BadItem(key, "no image in this FITS file")


def _flat(key: str, part: Any, limit: int) -> NDArray[np.uint8]:
    """The image of one part in 8 bits [h, w], lowest row first."""
    shape = part.shape
    if len(shape) < 2 or any(size != 1 for size in shape[:-2]):
        raise BadItem(key, f"not a flat image: its axes are {shape[::-1]}", "store one plane for each item")
    check_size(key, shape[-1], shape[-2], limit)
    header = part.header.copy()  # reading the data changes the header
    values: NDArray[Any] = np.asarray(part.data).reshape(shape[-2:])
    blank = header.get("BLANK")
    # astropy passes over BLANK where BZERO makes the numbers unsigned. Real numbers are NaN there.
    if blank is not None and values.dtype.kind in "iu" and (values == blank + header.get("BZERO", 0)).any():
        raise BadItem(key, "some pixels have no value (BLANK)", "fill them in")
    ends = (header.get("DATAMIN"), header.get("DATAMAX"))
    stated = None if None in ends else (float(ends[0]), float(ends[1]))
    kind, bits = KINDS.get(values.dtype.kind, values.dtype.kind), 8 * values.dtype.itemsize
    black, white = fixed_range(key, kind, bits, stated, "DATAMIN and DATAMAX")
    return to_eight_bits(key, values, black, white)
