"""Measures of a picture.

Sharpness, entropy, brightness and contrast are of its greys (luma of ITU-R BT.601, 0 to 255), at a size that costs
little: both sides are halved while the longer one is above `LONGEST` pixels, by means of 2 x 2. So they tell whether
a picture is blurred as a model sees it, not whether a photograph of 20 megapixels is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raysal.embedding.measures import Values
from raysal.embedding.seen import Picture
from raysal.numerics import ceil_div

LONGEST = 256
"""Pixels of the longer side that is not halved."""
_LEVELS = np.arange(256)
_SQUARES = _LEVELS**2


def measure_picture(picture: Picture, size: tuple[int, int], measures: Sequence[str]) -> Values:
    """Measure a picture.

    Args:
        picture: upright; a JPEG may have been decoded at a fraction of its size.
        size: its width and height in full.
        measures: names of measures of pictures.

    Returns:
        {measure: value}; None where it has none.
    """
    width, height = size
    found: dict[str, float | int | None] = {"width": width, "height": height, "pixels": width * height}
    if any(name not in found for name in measures):
        grey = grey_of(picture)
        found |= _of_histogram(np.array(grey.histogram()))
        if "sharpness" in measures:
            found["sharpness"] = laplacian_variance(np.asarray(grey))
    return {name: found[name] for name in measures}


def grey_of(picture: Picture) -> Image.Image:
    """The greys of a picture in mode L, halved until no side is above `LONGEST` pixels."""
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
    factor, longest = 1, max(picture.size)
    while longest > LONGEST:
        factor, longest = 2 * factor, ceil_div(longest, 2)
    small = picture if factor == 1 else picture.reduce(factor)
    return small if small.mode == "L" else small.convert("L")


def laplacian_variance(grey: NDArray[np.uint8]) -> float | None:
    """The variance of the Laplacian over the inner pixels: a blurred picture has a low one, a blank has 0.

    Pech-Pacheco, Cristobal, Chamorro-Martinez & Fernandez-Valdivia, "Diatom autofocusing in brightfield microscopy: a
    comparative study", ICPR 2000. The Laplacian is the sum of the four neighbours minus four times the pixel.

    Args:
        grey: [h, w].

    Returns:
        The variance; None if a side is below 3 pixels.
    """
    if min(grey.shape) < 3:
        return None
    wide = grey.astype(np.int16)
    laplacian = wide[1:-1, 1:-1] * np.int16(-4)
    for neighbours in (wide[:-2, 1:-1], wide[2:, 1:-1], wide[1:-1, :-2], wide[1:-1, 2:]):
        laplacian += neighbours
    # Whole numbers, and no product of BLAS: its threads cost more than they save, beside others that decode. A row has
    # no more than `LONGEST` numbers of at most 1020 squared, which 32 bits hold.
    squares = int(np.multiply(laplacian, laplacian, dtype=np.int32).sum(axis=1, dtype=np.int32).sum(dtype=np.int64))
    n, total = laplacian.size, int(laplacian.sum(dtype=np.int32))
    return (n * squares - total * total) / (n * n)


def _of_histogram(counts: NDArray[np.int64]) -> dict[str, float | None]:
    """Entropy, brightness and contrast of the counts [256] of greys."""
    n = int(counts.sum())
    total, squares = int((counts * _LEVELS).sum()), int((counts * _SQUARES).sum())
    shares = counts[counts > 0] / n
    return {
        "entropy": 0.0 - float((shares * np.log2(shares)).sum()),  # never -0.0
        "brightness": total / n,
        "contrast": math.sqrt(n * squares - total * total) / n,
    }
