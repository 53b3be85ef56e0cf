"""What the readers of image files share: the limit of pixels, and numbers to eight bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raysal.errors import BadItem

CONVERT = "convert the image to grey or RGB of 8 bits"
"""The fix where a file cannot be read as an image without a guess."""
KINDS = {"b": "unsigned", "u": "unsigned", "i": "signed", "f": "floating point"}
"""What `fixed_range` calls the numbers of a kind of NumPy's types."""
_BLOCK_VALUES = 1 << 20
"""Numbers scaled at a time, so that a large image needs no second copy of itself in float64."""


def check_size(key: str, width: int, height: int, limit: int) -> None:
    """Refuse an image before its pixels are decoded.

    Args:
        key: the item's name, for the error.
        width: columns.
        height: rows.
        limit: the most pixels it may have.

    Raises:
        BadItem: it has no pixels, or too many.
    """
    if width < 1 or height < 1:
        raise BadItem(key, f"no pixels: {width} x {height}")
    if width * height > limit:
        raise BadItem(key, f"too large: {width} x {height} pixels, at most {limit}")


def check_channel_count(key: str, width: int, height: int, channels: int, limit: int) -> None:
    """Refuse an image of many channels before its numbers are decoded.

    Args:
        key: the item's name, for the error.
        width: columns.
        height: rows.
        channels: all that are decoded with those that are wanted.
        limit: the most pixels that an image may have.

    Raises:
        BadItem: they have more numbers than those of the largest image of four channels.
    """
    if width * height * channels > 4 * limit:
        problem = f"too large: {width} x {height} pixels of {channels} channels, at most {4 * limit} numbers"
        raise BadItem(key, problem, "store the channels apart, or fewer of them")


def fixed_range(
    key: str, kind: str, bits: int, stated: tuple[float, float] | None, how_to_state: str
) -> tuple[float, float]:
    """The values that are black and white.

    Unsigned numbers of up to 8 bits use their full range. Wider, signed and real numbers use what the file states.
    Where it states nothing, unsigned numbers of up to 16 bits use their full range.

    Args:
        key: the item's name, for the error.
        kind: `unsigned`, `signed` or `floating point`.
        bits: of one number.
        stated: (black, white) as the file says, if it does.
        how_to_state: which fields of this format state it, for the error.

    Returns:
        (black, white).

    Raises:
        BadItem: the range is unknown, or the stated one is none.
    """
    full = (0.0, 2.0**bits - 1) if kind == "unsigned" and bits <= 16 else None
    if stated is None or (full and bits <= 8):
        if full is None:
            fix = f"convert the image to 8 or 16 bits unsigned, or state its range in {how_to_state}"
            name = kind if kind == "floating point" else f"{kind} {bits}-bit"
            raise BadItem(key, f"{name} pixels have no fixed range", fix)
        return full
    low, high = stated
    if not (low < high and 0 < 255.0 / (high - low) < float("inf")):
        raise BadItem(key, f"its stated range is {low:g} to {high:g}", f"correct {how_to_state}")
    return low, high


def to_eight_bits(key: str, values: NDArray[Any], black: float, white: float) -> NDArray[np.uint8]:
    """Map `black` to 0, `white` to 255, and what is between in proportion; what is beyond is cut off.

    Args:
        key: the item's name, for the error.
        values: numbers of any type and shape. `black` may be the larger end.
        black: the number that becomes 0.
        white: the number that becomes 255.

    Returns:
        uint8 of the same shape, each the nearest to 255 (value - black) / (white - black).

    Raises:
        BadItem: a value is not a finite number.
    """
    out = np.empty(values.shape, np.uint8)
    step = max(1, _BLOCK_VALUES // max(1, values[:1].size))
    for start in range(0, len(values), step):
        block = values[start : start + step].astype(np.float64)
        if values.dtype.kind == "f" and not np.isfinite(block).all():
            raise BadItem(key, "some pixels are not finite numbers", "fill them in")
        block -= black
        block *= 255.0 / (white - black)
        np.clip(np.rint(block, out=block), 0, 255, out=block)
        out[start : start + step] = block
    return out


def image_of(pixels: NDArray[np.uint8], mode: str) -> Image.Image:
    """An image of pixels [h, w] or [h, w, bands] in one of Pillow's 8-bit modes."""
    height, width = pixels.shape[:2]
    return Image.frombytes(mode, (width, height), np.ascontiguousarray(pixels).tobytes())


def is_grey(image: Image.Image) -> bool:
    """Whether an image in mode RGB has three equal bands."""
    pixels = np.asarray(image)
    return pixels.ndim == 3 and bool((pixels[..., :1] == pixels).all())
