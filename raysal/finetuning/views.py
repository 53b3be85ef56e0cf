"""Weak and strong distortions of a picture, by NumPy and Pillow.

A weak view is a shift by up to an eighth of the side, both ways, and what `Symmetry` allows. A strong view is a weak
one, then `distortions` operations of RandAugment as FixMatch takes them (Sohn et al. 2020, table 12: each operation and
its strength drawn uniformly, with replacement), then a square of up to half the side that is covered by the mean colour
(DeVries & Taylor, arXiv 1708.04552). What comes in from outside the picture is its mirror image in a shift, and the
mean colour in a turn.

Every view is a function of the pixels and a generator. Pillow is all that is needed: torchvision is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from raysal.finetuning.options import Symmetry
from raysal.rng import derive, generator

Pixels = NDArray[np.uint8]
"""[size, size, 3]"""
Colour = tuple[int, int, int]
SHIFT = 0.125
"""Of the side, at most."""
COVER = 0.5
"""Side of the covered square over that of the picture, at most."""


def weak_view(pixels: Pixels, rng: np.random.Generator, symmetry: Symmetry) -> Pixels:
    """Shift a picture, and mirror or turn it.

    Args:
        pixels: [size, size, 3]
        rng: decides.
        symmetry: what leaves the class as it is.

    Returns:
        [size, size, 3]
    """
    size = len(pixels)
    most = round(SHIFT * size)
    down, right = rng.integers(-most, most + 1, 2)
    shifted = pixels[_mirrored(np.arange(size) + down, size)][:, _mirrored(np.arange(size) + right, size)]
    mirror, turn = int(rng.integers(2)), int(rng.integers(4))
    if symmetry != "none" and mirror:
        shifted = shifted[:, ::-1]
    if symmetry == "turns":
        shifted = np.rot90(shifted, turn)
    return np.ascontiguousarray(shifted)


def strong_view(pixels: Pixels, rng: np.random.Generator, symmetry: Symmetry, distortions: int, fill: Colour) -> Pixels:
    """Distort a picture so that it is hard to recognise.

    Args:
        pixels: [size, size, 3]
        rng: decides.
        symmetry: what leaves the class as it is.
        distortions: operations of RandAugment.
        fill: the colour where there is nothing.

    Returns:
        [size, size, 3]
    """
    image = Image.fromarray(weak_view(pixels, rng, symmetry))
    for number in rng.integers(len(OPERATIONS), size=distortions):
        image = OPERATIONS[number](image, float(rng.random()), fill)
    return _covered(np.array(image), rng, fill)


def views(
    pictures: Sequence[Pixels],
    make: Callable[[Pixels, np.random.Generator], Pixels],
    seed: int,
    kind: str,
    step: int,
    first: int = 0,
) -> list[Pixels]:
    """A view of each picture of a step. A view depends on its place in the step, not on the other pictures.

    Args:
        pictures: n of them.
        make: `weak_view` or `strong_view` with all but their first two arguments given.
        seed: of the training.
        kind: what the views are for.
        step: number of the step.
        first: place of the first of them in the step.

    Returns:
        n views.
    """
    keys = (derive(seed, "finetune", kind, step, first + place) for place in range(len(pictures)))
    return [make(pixels, generator(key)) for pixels, key in zip(pictures, keys, strict=True)]


def _mirrored(places: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Places beyond the border, mirrored at the outermost pixel."""
    folded = np.abs(places) % max(1, 2 * size - 2)
    return np.asarray(np.minimum(folded, 2 * size - 2 - folded)) if size > 1 else np.zeros_like(places)


def _covered(pixels: Pixels, rng: np.random.Generator, fill: Colour) -> Pixels:
    """A picture with a square of it covered; the square may reach beyond the border."""
    size = len(pixels)
    half = round(size * float(rng.uniform(0, COVER)) / 2)
    row, column = rng.integers(0, size, 2)
    pixels[max(0, row - half) : row + half, max(0, column - half) : column + half] = fill
    return pixels


# -- the operations: an image, a strength in [0, 1), and the colour of what comes in -----------------------------------


def _enhance(
    kind: Callable[[Image.Image], ImageEnhance._Enhance], image: Image.Image, at: float, _: Colour
) -> Image.Image:
    return kind(image).enhance(0.05 + 0.9 * at)


def _autocontrast(image: Image.Image, _: float, __: Colour) -> Image.Image:
    return ImageOps.autocontrast(image)


def _equalize(image: Image.Image, _: float, __: Colour) -> Image.Image:
    return ImageOps.equalize(image)


def _identity(image: Image.Image, _: float, __: Colour) -> Image.Image:
    return image


def _posterize(image: Image.Image, at: float, _: Colour) -> Image.Image:
    return ImageOps.posterize(image, 4 + int(5 * at))


def _solarize(image: Image.Image, at: float, _: Colour) -> Image.Image:
    return ImageOps.solarize(image, int(256 * at))


def _rotate(image: Image.Image, at: float, fill: Colour) -> Image.Image:
    return image.rotate(60 * at - 30, Image.Resampling.BILINEAR, fillcolor=fill)


def _affine(
    matrix: Callable[[float, int], tuple[float, ...]], image: Image.Image, at: float, fill: Colour
) -> Image.Image:
    terms = matrix(0.6 * at - 0.3, image.width)
    return image.transform(image.size, Image.Transform.AFFINE, terms, Image.Resampling.BILINEAR, fillcolor=fill)


OPERATIONS: tuple[Callable[[Image.Image, float, Colour], Image.Image], ...] = (
    _autocontrast,
    partial(_enhance, ImageEnhance.Brightness),
    partial(_enhance, ImageEnhance.Color),
    partial(_enhance, ImageEnhance.Contrast),
    _equalize,
    _identity,
    _posterize,
    _rotate,
    partial(_enhance, ImageEnhance.Sharpness),
    partial(_affine, lambda by, size: (1, by, -by * size / 2, 0, 1, 0)),
    partial(_affine, lambda by, size: (1, 0, 0, by, 1, -by * size / 2)),
    _solarize,
    partial(_affine, lambda by, size: (1, 0, by * size, 0, 1, 0)),
    partial(_affine, lambda by, size: (1, 0, 0, 0, 1, by * size)),
)
"""The fourteen of FixMatch."""
