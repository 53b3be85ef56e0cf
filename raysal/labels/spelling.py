"""The one spelling of a label. Labels come from many tools, and a class that has two names is two classes.

What a cell or a value holds becomes a text by these rules, wherever labels enter:

- Text keeps its letters. Outer whitespace goes, and Unicode takes its composed form (NFC).
- A number becomes its shortest text, and a whole number its digits: 0, 0.0, -0.0, np.int64(0) and Decimal("0.00") are
  the class `0`.
- Text becomes a whole number's digits where only a program writes it so: `1.0` (pandas, R and others write this once a
  column has an empty cell), `1e+05` (R), `1.000000000000000000e+00` (numpy). Other text is a name: `007`, `1.50`,
  `3.10`, `1.0.2`, `12e3` and `+5` stay.
- None, NaN and blank text are no label. Booleans are refused: every program writes them differently.
- `!skip` says that the annotator skipped the item.
- Several labels stand in one text as `a|b`. What other tools write is read by `raysal.labels.nested`.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from numbers import Integral, Real
from typing import Any

import numpy as np

from raysal.errors import LabelError
from raysal.labels.nested import joined, names_said, nested_in
from raysal.types import SEPARATOR, SKIP

MISSING = frozenset(
    "na|n/a|#n/a|#na|<na>|nan|null|(null)|none|nil|nat|missing|#null!|#value!|#ref!|#div/0!|-|--|?|.".split("|")  # noqa: SIM905
)
"""Texts that programs or people write where there is no label, in lower case."""
_WRITTEN_WHOLE = re.compile(r"(-?(?:0|[1-9]\d*))\.0+", re.ASCII)
"""A whole number with a point, as programs write floating point."""
_WRITTEN_SCIENTIFIC = re.compile(r"-?\d(?:\.\d+)?[eE][+-]\d\d+", re.ASCII)
"""A number as C, R, numpy and pandas write it: one digit before the point, a sign and two digits in the exponent."""
_ANY_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_EMPTY_TYPES = frozenset({"NAType", "NaTType", "MaskedConstant"})
"""Names of the types of `pandas.NA`, `pandas.NaT` and `numpy.ma.masked`."""
_MOST = 1e21
"""Floating point from here on keeps its exponent."""


def label_text(where: str, value: Any) -> str | None:
    """Read the label that a cell or a value holds.

    Args:
        where: what the error calls the cell.
        value: text, a number, or the nested value of another tool.

    Returns:
        The label in its one spelling, `SKIP` for a skipped item; None if there is no label.

    Raises:
        LabelError: it is a boolean, an infinite number, text that is no valid Unicode, or of a type or shape that says
            no label.
    """
    value = _plain_value(value)
    if value is None:
        return None
    if isinstance(value, str):
        nested = nested_in(where, value)
        if nested is None:
            return spelled(valid_text(where, value)) or None
        value = nested
    if isinstance(value, Mapping | list | tuple):
        return _of_several(where, value)
    return number_text(where, value)


def annotator_text(where: str, value: Any) -> str:
    """Read the name of an annotator, by the rules of a label, so that 1 and 1.0 are one person.

    Args:
        where: what the error calls the cell.
        value: text or a number, or nothing.

    Returns:
        The name; empty if there is none.

    Raises:
        LabelError: it is neither text nor a number.
    """
    value = _plain_value(value)
    if value is None:
        return ""
    return spelled(valid_text(where, value)) if isinstance(value, str) else number_text(where, value)


def spelled(text: str) -> str:
    """The one spelling of a label that is a text.

    Args:
        text: any text.

    Returns:
        The text in its one spelling; empty if it is blank.
    """
    text = unicodedata.normalize("NFC", text.strip())
    if text.casefold() == SKIP:
        return SKIP
    if SEPARATOR in text:
        return SEPARATOR.join(map(_spelled_number, text.split(SEPARATOR)))
    return _spelled_number(text)


def number_text(where: str, value: Any) -> str:
    """The one spelling of a number.

    Args:
        where: what the error calls the number.
        value: a number of any type of Python or numpy.

    Returns:
        The digits of a whole number, else the shortest text that reads as the same number.

    Raises:
        LabelError: it is a boolean, not finite, or no number.
    """
    if isinstance(value, bool | np.bool_):
        raise LabelError(where, f"{value!r} is a boolean", 'write it as text, as "yes" and "no"')
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, np.floating):
        value = float(str(value))  # the shortest text in its own type: a float32 of 0.1 is 0.1
    if isinstance(value, Real | Decimal) and math.isfinite(number := float(value)):
        if isinstance(value, Decimal) and Decimal(repr(number)) != value:
            return str(value.normalize())  # it has more digits than a float
        return _float_text(number)
    raise LabelError(where, f"{value!r} cannot be a label", "labels are text or numbers")


def valid_text(where: str, value: str) -> str:
    """Check that a text can be written as UTF-8.

    Args:
        where: what the error calls the text.
        value: the text.

    Returns:
        The text as a plain str.

    Raises:
        LabelError: it has half a surrogate pair.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        raise LabelError(where, f"{value!r} is not valid Unicode", "correct its encoding") from None
    return str(value)


@lru_cache(maxsize=65536)
def likeness(text: str) -> str | float:
    """What confusable names have in common: equal as numbers, or equal but for case, blanks and Unicode form.

    Args:
        text: the name of a class.

    Returns:
        The number that the text is, or the text without case, blanks, invisible marks and Unicode form.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    seen = "".join(mark for mark in folded if not mark.isspace() and unicodedata.category(mark) != "Cf")
    return float(seen) if _ANY_NUMBER.fullmatch(seen) else seen


def looks_missing(text: str) -> bool:
    """Whether a text is what programs or people write where there is no label."""
    found = likeness(text)
    return found == "" or found in MISSING


def _plain_value(value: Any) -> Any:
    """A value without the wrapping of arrays and tables; None where it is empty."""
    if value is None or type(value).__name__ in _EMPTY_TYPES:
        return None
    if getattr(value, "shape", None) == () and not isinstance(value, np.generic) and hasattr(value, "item"):
        value = value.item()  # an array or tensor without axes
    if isinstance(value, float | np.floating | Decimal) and value != value:
        return None
    return value.tolist() if isinstance(value, np.ndarray) else value


def _of_several(where: str, value: Mapping[str, Any] | Sequence[Any]) -> str | None:
    """The label that the nested value of another tool says."""
    names = (label_text(where, name) for name in names_said(where, value))
    return joined(where, [name for name in names if name is not None])


def _spelled_number(text: str) -> str:
    """A text, or a number's digits where a program wrote a whole number with a point or an exponent."""
    bare = text.strip()
    if _WRITTEN_WHOLE.fullmatch(bare):
        return bare.partition(".")[0].replace("-0", "0")
    if _WRITTEN_SCIENTIFIC.fullmatch(bare) and math.isfinite(number := float(bare)):
        return _float_text(number)
    return text


def _float_text(number: float) -> str:
    """The digits of a whole number, else the shortest text that reads as the same number."""
    return str(int(number)) if number.is_integer() and abs(number) < _MOST else repr(number)
