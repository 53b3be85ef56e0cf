"""Payloads to RGB images and texts, or a `BadItem` with the reason. Several threads may call these functions."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from raysal.errors import BadItem

MAX_PIXELS = 89_478_485
"""Pixels an image may have: Pillow's own limit, a quarter of a GiB of RGB. Larger images are refused undecoded."""

_SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def decode_image(key: str, payload: object) -> Image.Image:
    """Decode an image to RGB.

    The EXIF orientation is applied. Transparent pixels are blended with white. 16-bit grey is scaled to 8 bits. Of an
    animation, the first frame is taken.

    Args:
        key: the item's name, for the error.
        payload: encoded bytes, or pixels uint8 [h, w] or [h, w, 3].

    Returns:
        The image in mode RGB.

    Raises:
        BadItem: it is empty, truncated, not an image, too large, or of floating point.
    """
    image = _decode(key, payload)
    return image if image.mode == "RGB" else image.convert("RGB")


def _decode(key: str, payload: object) -> Image.Image:
    """As `decode_image`, but grey stays grey: mode L or RGB."""
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
    except Exception as error:  # the plugin of a format may raise anything on bad bytes
        raise BadItem(key, f"cannot be decoded ({type(error).__name__}: {error})") from None


def _to_eight_bits(key: str, image: Image.Image) -> Image.Image:
    """The image in mode L or RGB. The EXIF orientation is kept: conversions keep `info` and the EXIF block."""
    if image.mode in _SIXTEEN_BIT_MODES:
        # 65535 / 257 = 255: the full ranges map onto each other. Some files of 16 bits open in mode "I".
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
    """Decode an image and stretch the whole of it to a square, with Pillow's bicubic filter.

    The filter treats every channel alike. Grey is therefore made RGB after it, for a third of the work.

    Args:
        key: the item's name, for the error.
        payload: as for `decode_image`.
        size: side of the square in pixels.

    Returns:
        Pixels uint8 [size, size, 3].

    Raises:
        BadItem: as `decode_image`.
    """
    image = _decode(key, payload)
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def check_text(key: str, payload: object) -> str:
    """Check that a payload is a text with content.

    Args:
        key: the item's name, for the error.
        payload: what the source gave.

    Returns:
        The text, unchanged.

    Raises:
        BadItem: it is not a text, or holds only white space.
    """
    if not isinstance(payload, str):
        raise BadItem(key, f"a text is a str, not {type(payload).__name__}")
    if not payload.strip():
        raise BadItem(key, "empty text")
    return payload
