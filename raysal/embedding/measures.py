"""Measures of quality: numbers of a picture or a text, computed where it is decoded and kept as columns of the pool.

A pool that is embedded with measures has a column for each of them, under its name. They are computed of what the
encoder decoded, so nothing is read twice; vectors do not depend on them. What every measure keeps:

- It depends on the picture or text alone: not on its batch, chunk, thread or backend. Its sums are of whole numbers, so
  that every machine finds the same one.
- It is null where the item has no such thing, as a picture of 2 pixels has no sharpness.

To add one: a line in `MEASURES`, and its formula in `picture_measures` or `text_measures`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from raysal.errors import ConfigError, SourceError, UnknownName
from raysal.types import Modality

if TYPE_CHECKING:
    import pyarrow as pa

FIELD = "embed.measures"
ALL = "all"
"""Stands for all measures that the items of a source have."""
Values = Mapping[str, float | int | None]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What is known of a measure beside its formula."""

    modality: Literal["image", "text"]
    kind: Literal["int32", "float32"]
    """of its column"""
    words: str
    """what it is, in a few words"""


MEASURES: Mapping[str, Measure] = {
    "width": Measure(modality="image", kind="int32", words="pixels of the upright picture, from left to right"),
    "height": Measure(modality="image", kind="int32", words="pixels of the upright picture, from top to bottom"),
    "pixels": Measure(modality="image", kind="int32", words="width * height"),
    "sharpness": Measure(modality="image", kind="float32", words="variance of the Laplacian of its greys"),
    "entropy": Measure(modality="image", kind="float32", words="bits of its greys, 0 to 8"),
    "brightness": Measure(modality="image", kind="float32", words="mean of its greys, 0 to 255"),
    "contrast": Measure(modality="image", kind="float32", words="standard deviation of its greys, 0 to 127.5"),
    "characters": Measure(modality="text", kind="int32", words="length in characters"),
    "words": Measure(modality="text", kind="int32", words="length in words"),
    "duplicate_lines": Measure(modality="text", kind="float32", words="share of lines that repeat an earlier one"),
    "repetition": Measure(modality="text", kind="float32", words="share of characters in runs of 5 words that repeat"),
    "symbols": Measure(modality="text", kind="float32", words="share of characters that are no letter, digit or space"),
}
"""The measures by name."""


def measures_of(modality: Modality) -> list[str]:
    """The measures that items of a kind have."""
    return [name for name, measure in MEASURES.items() if measure.modality == modality]


def as_measures(asked: Sequence[str] | None, modality: Modality) -> tuple[str, ...] | None:
    """What is to be measured, as a pool records it.

    Args:
        asked: names of measures, or `all`; None where nobody said.
        modality: of the items.

    Returns:
        Each name once, in the order of `MEASURES`; None where nobody said.

    Raises:
        UnknownName: there is no such measure.
        ConfigError: the items have no such measure.
    """
    if asked is None:
        return None
    if isinstance(asked, str):
        raise ConfigError(FIELD, f"{asked!r} is no list of names", f"use [{asked!r}]")
    there = measures_of(modality)
    if asked and not there:
        problem = f"a {modality} has none"
        raise ConfigError(FIELD, problem, "measure pictures or texts, or carry a column of the source")
    for name in asked:
        if name != ALL and name not in MEASURES:
            raise UnknownName(FIELD, name, [ALL, *there])
        if name != ALL and name not in there:
            raise ConfigError(FIELD, f"{name} is measured of {MEASURES[name].modality}s", f"use {', '.join(there)}")
    return tuple(name for name in there if name in asked or ALL in asked)


def check_carried(carried: Iterable[str], measures: Sequence[str], where: object) -> None:
    """Refuse a column of the source that has the name of a measure.

    Args:
        carried: names of columns that the source carries.
        measures: names of what is measured.
        where: the source, for the error.

    Raises:
        SourceError: one is among them.
    """
    for name in carried:
        if name in measures:
            problem = f"carries a column {name!r}, and the measure {name} has that name"
            raise SourceError(where, problem, "rename the column, or leave out one of the two")


def measured_column(name: str, values: Sequence[Any]) -> pa.Array:
    """The column of a measure.

    Args:
        name: of the measure.
        values: of n items, None where there is none.

    Returns:
        n values of the measure's type.
    """
    import pyarrow as pa

    return pa.array(values, getattr(pa, MEASURES[name].kind)())
