"""JPEG files read by simplejpeg, where it is installed and gives the pixels that Pillow gives.

Pillow keeps four bytes for a colour of three, and the array that is wanted is copied out of them; simplejpeg decodes
into the array. Both hold a libjpeg-turbo. Whether the two give the same pixels is tried once in each process, and what
simplejpeg has any trouble with is left to Pillow: so a vector does not depend on what is installed, nor does the reason
of an item in the quarantine.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from raysal.embedding.seen import see, see_reduced

_COLOURS = {"L": "GRAY", "RGB": "RGB"}
_TRIED = (37, 50)
"""Height and width of the pictures that both libraries decode: no multiples of a block."""


def scaled_jpeg(payload: object, least: int, most_pixels: int) -> NDArray[np.uint8] | None:
    """Decode a JPEG file at 1/1, 1/2, 1/4 or 1/8 of its size, upright, as Pillow would.

    Args:
        payload: what may be the bytes of one.
        least: how long both sides stay, if they are not shorter; the smallest scale that keeps to it is taken.
        most_pixels: files with more pixels are left to Pillow, too.

    Returns:
        Pixels [h, w, 1] or [h, w, 3]; None if Pillow is to decode it.
    """
    if not isinstance(payload, bytes) or not payload.startswith(b"\xff\xd8\xff") or (decode := decoder()) is None:
        return None
    try:
        with Image.open(io.BytesIO(payload)) as image:
            if image.format not in ("JPEG", "MPO") or image.mode not in _COLOURS:
                return None
            if image.width * image.height > most_pixels or "transparency" in image.info:
                return None
            mode, turned = image.mode, image.getexif().get(ExifTags.Base.Orientation, 1)
            full_size = upright_size(image)
            image.draft(None, (least, least))
            width, height = image.size
        pixels = decode(payload, _COLOURS[mode], min_height=height, min_width=width)
    except Exception:  # Pillow gives the reason
        return None
    if pixels.shape[:2] != (height, width):
        return None
    # A copy: torch takes no strides below zero, and NumPy calls an array with such a one of length 1 contiguous.
    pixels = pixels if turned == 1 else upright(pixels, turned).copy()
    see_reduced(full_size)
    see(pixels)
    return pixels


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of a picture once it is turned as its EXIF orientation says."""
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    return (image.height, image.width) if turned else image.size


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn pixels [h, w, bands] as `PIL.ImageOps.exif_transpose` does for this orientation of EXIF (1 to 8)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels[:, ::-1] if orientation in (2, 3, 6, 7) else pixels


@lru_cache(maxsize=1)
def decoder() -> Callable[..., NDArray[np.uint8]] | None:
    """What decodes, if simplejpeg is installed and decodes as Pillow does; else None."""
    try:
        from simplejpeg import decode_jpeg
    except ImportError:
        return None
    decode: Callable[..., NDArray[np.uint8]] = decode_jpeg
    return decode if agrees(decode) else None


def agrees(decode: Callable[..., NDArray[np.uint8]]) -> bool:
    """Whether a decoder gives the pixels that Pillow gives, of small pictures of several kinds. It takes milliseconds.

    Args:
        decode: as `simplejpeg.decode_jpeg`.

    Returns:
        Whether all pixels are equal, at all scales.
    """
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 256, (*_TRIED, 3), dtype=np.uint8)).resize((200, 150))
    kinds: list[tuple[Image.Image, dict[str, Any]]] = [(colours.convert("L"), {})]
    kinds += [(colours, {"subsampling": thinned, "progressive": later}) for thinned, later in ((0, 0), (1, 1), (2, 0))]
    for picture, options in kinds:
        packed = io.BytesIO()
        picture.save(packed, "JPEG", quality=85, **options)
        for scale in (1, 2, 4, 8):
            with Image.open(packed) as image:
                image.draft(None, (picture.width // scale, picture.height // scale))
                wanted = np.asarray(image)
            found = decode(packed.getvalue(), _COLOURS[picture.mode], min_height=len(wanted), min_width=wanted.shape[1])
            if not np.array_equal(found.squeeze(), wanted):
                return False
    return True
