"""The scale of a pool: a power of two by which vectors are multiplied before they are rounded to float16.

A pool holds float16, whose numbers go from 2^-24 to 65504. Vectors of another magnitude (fluxes of 1e-17, raw counts of
1e9) fit if they are multiplied first. A power of two changes no digit of a number, so nothing depends on the scale but
what is rounded. What a person sees or gives (exported vectors, query vectors, distances) has the given magnitude.
"""

from __future__ import annotations

import math
from typing import Literal

from raysal.errors import ConfigError

AUTO: Literal["auto"] = "auto"
"""Let a sample of the vectors decide."""
SCALED_BY = " x "
"""In the name of a vector space, what stands between the encoder's fingerprint and a scale other than 1."""
LARGEST_EXPONENT = 500
"""A scale is from 2^-500 to 2^500, so that its square is a float64 too."""


def parse_scale(value: object) -> float | Literal["auto"]:
    """A scale as a person writes it.

    Args:
        value: `auto`, a power of two as a number or its digits, or `2^N`.

    Returns:
        `auto`, or the power of two.

    Raises:
        ValueError: it is no power of two from 2^-500 to 2^500; the text names one that is near.
    """
    if value == AUTO:
        return AUTO
    text = str(value).strip()
    try:
        number = math.ldexp(1.0, int(text[2:])) if text.startswith("2^") else float(text)
    except (ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not 0 < number < math.inf:
        raise ValueError(f"{value!r} is no scale; use auto, or a power of two, as 2^30 or 0.25")
    exponent = round(math.log2(number))
    if abs(exponent) > LARGEST_EXPONENT:
        limit = LARGEST_EXPONENT
        raise ValueError(f"{value!r} is out of range; use auto, or a power of two from 2^-{limit} to 2^{limit}")
    if number != math.ldexp(1.0, exponent):
        raise ValueError(f"{value!r} is no power of two; the nearest is 2^{exponent}")
    return number


def as_scale(value: object, field: str = "embed.scale") -> float | None:
    """A scale that a caller asks for.

    Args:
        value: as for `parse_scale`.
        field: its place in the config, for the error.

    Returns:
        The power of two; None for `auto`.

    Raises:
        ConfigError: it is no scale.
    """
    try:
        found = parse_scale(value)
    except ValueError as error:
        problem, _, fix = str(error).partition("; ")
        raise ConfigError(field, problem, fix) from None
    return None if found == AUTO else float(found)


def scale_words(scale: float) -> str:
    """A scale as people read and write it: 1, or 2^30."""
    return "1" if scale == 1 else f"2^{round(math.log2(scale))}"


def space_of(fingerprint: str, scale: float) -> str:
    """The name of a vector space: the encoder's fingerprint, and the scale unless it is 1."""
    return fingerprint if scale == 1 else f"{fingerprint}{SCALED_BY}{scale_words(scale)}"


def other_scale(mine: str, theirs: str) -> str | None:
    """The scale of `mine` in words, if two vector spaces differ by nothing but the scale; None otherwise."""
    (own, _, scale), (other, _, _) = mine.partition(SCALED_BY), theirs.partition(SCALED_BY)
    return (scale or "1") if own == other and mine != theirs else None
