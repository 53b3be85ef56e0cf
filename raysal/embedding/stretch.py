"""Stretches: which numbers of a picture become black and white, and how what is between is spread over the greys.

The names and the results are those of `astropy.visualization`: `linear` is `MinMaxInterval`, `percentile` is
`AsymmetricPercentileInterval`, `zscale` is `ZScaleInterval`, each with `LinearStretch`; `asinh` is `AsinhStretch` after
percentiles. Limits are computed in float64. They agree with those of astropy to 1e-6 of their distance, and to the last
bit where the pixels are float64 and the interval is not `zscale`. A level of grey differs by one at most.

What is defined here, and not there:

- Pixels that are no number (NaN) or infinite have no part in the limits. A NaN is black, -inf is black, inf is white.
- Where black and white are the same number, what is above it is white, and everything else black. So a picture of one
  number is black.
- `zscale` takes its sample from the lowest row up, as a FITS file has its rows.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.config import Choice, choice
from raysal.errors import BadItem, ConfigError
from raysal.registry import Registry

_BLOCK_VALUES = 1 << 18
"""Numbers stretched at a time, so that a large image needs no second copy of itself in float64."""
_EXACT = 1 << 53
"""Whole numbers up to it are exact in float64."""
_PLACE = "encoder.stretch"


@dataclass(frozen=True, kw_only=True)
class Stretch(ABC):
    """What makes 8 bits of the numbers of one picture. It needs no other picture."""

    together: bool = False
    """Whether the channels have the same black and white, so that their ratios are kept; else each has its own."""

    @abstractmethod
    def limits(self, values: NDArray[Any]) -> tuple[float, float]:
        """The numbers that are black and white.

        Args:
            values: [n] real numbers, at least one, all finite; the lowest row first.

        Returns:
            (black, white), black being at most white.
        """

    def spread(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """What becomes of numbers of [0, 1] from black to white, which it may change in place: by default the same."""
        return shares

    def record(self) -> dict[str, Any]:
        """Name and fields, all of them, as JSON-able values."""
        return {"name": STRETCHES.name_of(self), **dataclasses.asdict(self)}


@dataclass(frozen=True, kw_only=True)
class Linear(Stretch):
    """`linear`: the smallest number is black and the largest white."""

    def limits(self, values: NDArray[Any]) -> tuple[float, float]:
        """As `Stretch.limits`. O(n)."""
        return float(values.min()), float(values.max())


@dataclass(frozen=True, kw_only=True)
class Percentile(Stretch):
    """`percentile`: a share of the pixels is black, and a share white."""

    low: float = 0.25
    """Percent of the pixels that are black or darker."""
    high: float = 99.75
    """Percent of the pixels that are not white."""

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 100:
            raise ConfigError(_PLACE, f"low {self.low:g} and high {self.high:g}", "use 0 <= low < high <= 100")

    def limits(self, values: NDArray[Any]) -> tuple[float, float]:
        """As `Stretch.limits`, between two pixels in proportion. O(n)."""
        places = [(len(values) - 1) * (share / 100) for share in (self.low, self.high)]
        below = [int(place) for place in places]
        above = [min(place + 1, len(values) - 1) for place in below]
        ordered = np.partition(values, sorted({*below, *above}))
        black, white = (
            _between(float(ordered[one]), float(ordered[other]), place - one)
            for one, other, place in zip(below, above, places, strict=True)
        )
        return black, white


@dataclass(frozen=True, kw_only=True)
class Asinh(Percentile):
    """`asinh`: faint parts are spread as by a line, and bright ones as by a logarithm, between two percentiles."""

    softening: float = 0.1
    """Where the curve turns from the one to the other, as a share of the way from black to white."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.softening < float("inf"):
            raise ConfigError(f"{_PLACE}.softening", f"{self.softening:g}", "use a number above 0")

    def spread(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Arsinh(x / softening) / arsinh(1 / softening)."""
        np.arcsinh(np.divide(shares, self.softening, out=shares), out=shares)
        return np.divide(shares, np.arcsinh(1 / self.softening), out=shares)


@dataclass(frozen=True, kw_only=True)
class ZScale(Stretch):
    """`zscale`: around the median, by the slope of the sorted pixels, as IRAF has it; for faint things on a sky."""

    contrast: float = 0.25
    """The slope is divided by it: a larger one makes more of the pixels black or white."""
    samples: int = 1000
    """Pixels that are looked at, evenly spaced."""

    def __post_init__(self) -> None:
        if not 0 < self.contrast < float("inf"):
            raise ConfigError(f"{_PLACE}.contrast", f"{self.contrast:g}", "use a number above 0")
        if self.samples < 1:
            raise ConfigError(f"{_PLACE}.samples", f"{self.samples}", "use 1 or more")

    def limits(self, values: NDArray[Any]) -> tuple[float, float]:
        """As `Stretch.limits`: a line through the sorted sample, from which outliers are taken away, five times."""
        step = int(max(1.0, len(values) / self.samples))
        heights = np.sort(values[::step][: self.samples]).astype(np.float64)
        count = len(heights)
        black, white = float(heights[0]), float(heights[-1])
        fewest, left, before = max(5, count // 2), count, count + 1
        ranks, bad, grown = (
            np.arange(count, dtype=np.float64),
            np.zeros(count, bool),
            np.ones(max(1, count // 100), bool),
        )
        slope = 0.0
        for _ in range(5):
            if left >= before or left < fewest:
                break
            middle, mean = ranks[~bad].mean(), heights[~bad].mean()
            away = ranks - middle
            slope = float((away * (heights - mean))[~bad].sum() / (away * away)[~bad].sum())
            rest = heights - mean - slope * away
            bad = bad | (np.abs(rest) > 2.5 * rest[~bad].std())
            bad = np.convolve(bad, grown, mode="same")
            before, left = left, int(np.sum(~bad))
        if left < fewest:
            return black, white
        slope, median, centre = slope / self.contrast, float(np.median(heights)), (count - 1) // 2
        return max(black, median - (centre - 1) * slope), min(white, median + (count - centre) * slope)


STRETCHES: Registry[type[Stretch]] = Registry(
    {
        "asinh": "raysal.embedding.stretch:Asinh",
        "linear": "raysal.embedding.stretch:Linear",
        "percentile": "raysal.embedding.stretch:Percentile",
        "zscale": "raysal.embedding.stretch:ZScale",
    }
)
"""The stretches by name."""


def stretch_of(given: str | Mapping[str, Any] | Choice | Stretch | None) -> Stretch | None:
    """A stretch as it is, or made from its name, or from its name and fields.

    Args:
        given: as `"asinh"` or `{"name": "asinh", "softening": 0.05}`; None for none.

    Returns:
        The stretch.

    Raises:
        UnknownName: there is none of that name.
        ConfigError: a field is unknown, of the wrong type or out of range.
    """
    if given is None or isinstance(given, Stretch):
        return given
    return choice(given, _PLACE).build(_PLACE, STRETCHES)


def stretched(key: str, values: NDArray[Any], stretch: Stretch) -> NDArray[np.uint8]:
    """The numbers of a picture in 8 bits.

    Args:
        key: the item's name, for the error.
        values: real numbers [h, w] or [h, w, channels], the highest row first.
        stretch: how.

    Returns:
        uint8 of the same shape, each the nearest to 255 x what the stretch makes of it.

    Raises:
        BadItem: a channel has no finite number, or numbers that float64 does not hold, or too far apart for it.
    """
    planes = np.moveaxis(values.reshape(*values.shape[:2], -1), -1, 0)
    out = np.empty(planes.shape, np.uint8)
    for some in [slice(None)] if stretch.together else [slice(at, at + 1) for at in range(len(planes))]:
        black, white = _limits(key, planes[some], stretch)
        for plane, grey in zip(planes[some], out[some], strict=True):
            _fill(grey, plane, black, white, stretch)
    return np.ascontiguousarray(np.moveaxis(out, 0, -1)).reshape(values.shape)


def _limits(key: str, planes: NDArray[Any], stretch: Stretch) -> tuple[float, float]:
    """Black and white of planes [c, h, w]."""
    flat = planes[:, ::-1].reshape(-1)
    if flat.dtype.kind == "f":
        flat = flat[np.isfinite(flat)]
    elif flat.dtype.kind == "b":
        flat = flat.view(np.uint8)
    elif flat.dtype.itemsize > 4 and len(flat) and (flat.max() > _EXACT or flat.min() < -_EXACT):
        raise BadItem(key, "whole numbers beyond 2^53, which float64 does not tell apart", "subtract an offset")
    if not len(flat):
        raise BadItem(key, "no pixel of it is a finite number, so there is nothing to stretch", "check the file")
    black, white = stretch.limits(flat)
    if not isfinite(white - black):
        raise BadItem(key, f"its numbers from {black:g} to {white:g} are too far apart", "divide them")
    return black, white


def _fill(grey: NDArray[np.uint8], plane: NDArray[Any], black: float, white: float, stretch: Stretch) -> None:
    """Write a stretched plane [h, w]."""
    step = max(1, _BLOCK_VALUES // max(1, plane.shape[1]))
    for start in range(0, len(plane), step):
        block = plane[start : start + step].astype(np.float64)
        if white > black:
            with np.errstate(over="ignore"):
                block -= black
                block /= white - black
        else:
            block = np.where(block > black, 1.0, 0.0)
        np.clip(block, 0, 1, out=block)
        if plane.dtype.kind == "f":
            block[np.isnan(block)] = 0
        grey[start : start + step] = np.rint(255 * stretch.spread(block))


def _between(one: float, other: float, share: float) -> float:
    """A number between two others, to the bits of `numpy.percentile`."""
    return other - (other - one) * (1 - share) if share >= 0.5 else one + (other - one) * share
