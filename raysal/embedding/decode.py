"""Payloads to RGB images and texts, or a `BadItem` that says why not. Safe to call from several threads."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from raysal.errors import BadItem

MAX_PIXELS = 89_478_485
"""Pillow's own limit: a quarter of a GiB of RGB. Larger images are refused before they are unpacked."""

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def decode_image(key: str, payload: object) -> Image.Image:
    """An RGB image from encoded bytes, or from uint8 [h, w] or [h, w, 3].

    The orientation in EXIF is applied, transparency is laid on white, 16-bit grey is scaled to 8 bits, and
    the first frame of an animation is taken.

    Raises:
        BadItem: empty, truncated, not an image, too large, or of floating point.
    """
    image = _decoded(key, payload)
    return image if image.mode == "RGB" else image.convert("RGB")


def _decoded(key: str, payload: object) -> Image.Image:
    """See `decode_image`, but grey stays grey: mode L or RGB."""
    if isinstance(payload, np.ndarray):
        return _from_array(key, payload)
    if not isinstance(payload, bytes | bytearray | memoryview):
        raise BadItem(key, f"an image is bytes or a uint8 array, not {type(payload).__name__}")
    if len(payload) == 0:
        raise BadItem(key, "empty file")
    try:
        with Image.open(io.BytesIO(payload)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadItem(key, f"too large: {image.width} x {image.height} pixels, at most {MAX_PIXELS}")
            image.seek(0)
            image.load()
            return ImageOps.exif_transpose(_to_eight_bits(key, image))
    except BadItem:
        raise
    except UnidentifiedImageError:
        raise BadItem(key, "not an image of a known format") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadItem(key, f"too large: {error}") from None
    except Exception as error:  # plugins raise whatever the bytes make them trip over
        raise BadItem(key, f"cannot be decoded ({type(error).__name__}: {error})") from None


def _to_eight_bits(key: str, image: Image.Image) -> Image.Image:
    """Mode L or RGB. Loses no EXIF orientation: conversions keep `info` and the EXIF block."""
    if image.mode in _SIXTEEN_BIT:
        # 65535 / 257 = 255: the full ranges map onto each other. Mode "I" is how some files of 16 bits open.
        wide = np.clip(np.asarray(image), 0, 65535)
        grey = Image.fromarray(np.rint(wide / 257.0).astype(np.uint8))
        return _with_exif_of(image, grey)
    if image.mode == "F":
        raise BadItem(key, "floating point pixels have no fixed range", "convert the image to 8 or 16 bits")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return _with_exif_of(image, Image.alpha_composite(white, rgba).convert("RGB"))
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _with_exif_of(source: Image.Image, image: Image.Image) -> Image.Image:
    exif = source.getexif()
    if exif:
        image.info["exif"] = exif.tobytes()
    return image


def _from_array(key: str, pixels: NDArray[Any]) -> Image.Image:
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise BadItem(key, f"array {pixels.dtype} {pixels.shape}, expected uint8 [h, w] or [h, w, 3]")
    if pixels.size == 0:
        raise BadItem(key, f"empty array {pixels.shape}")
    if pixels.shape[0] * pixels.shape[1] > MAX_PIXELS:
        raise BadItem(key, f"too large: {pixels.shape[1]} x {pixels.shape[0]} pixels, at most {MAX_PIXELS}")
    return Image.fromarray(np.ascontiguousarray(pixels))


def square_pixels(key: str, payload: object, size: int) -> NDArray[np.uint8]:
    """uint8 [size, size, 3]: the whole image, stretched to a square with Pillow's bicubic filter.

    The filter treats every channel alike, so grey is made RGB after it, for a third of the work.
    """
    image = _decoded(key, payload)
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def check_text(key: str, payload: object) -> str:
    """The text as it is. Raises: BadItem: not a text, or nothing but white space."""
    if not isinstance(payload, str):
        raise BadItem(key, f"a text is a str, not {type(payload).__name__}")
    if not payload.strip():
        raise BadItem(key, "empty text")
    return payload
