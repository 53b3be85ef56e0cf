"""What the text of a label says under each link: a class, any number of labels, or a number.

Ledgers and label files hold text whatever is learnt from it. With a softmax the text is the name of the class, any name
at all; with several labels at once it is their names with | between them, or - for an item that has none; with numbers
it is the number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from raysal.errors import ConfigError, LabelError
from raysal.models.likelihood import Link

LARGEST = 1e60
"""Numbers beyond this are refused: their squares, summed and weighted, would leave float64."""
SEPARATOR = "|"
"""Between the labels of an item that may have several."""
NONE = "-"
"""The label of an item that has none of them."""
VALUE = "value"
"""The name of the one output of a head that predicts numbers."""
WHOLE = 2**53
"""Whole numbers up to this are exact in float64."""


def names_in(text: str, link: Link, where: str = "label") -> tuple[str, ...]:
    """The outputs that a label speaks of: its class; its labels, sorted; or `value`.

    Raises:
        LabelError: it is no label of this link; `where` names it.
    """
    if link == "softmax":
        return (text,)
    if link == "identity":
        number_in(text, where)
        return (VALUE,)
    names = [name.strip() for name in text.split(SEPARATOR)]
    if names == [NONE]:
        return ()
    for place, name in enumerate(names):
        if not name:
            problem = f"{text!r} has an empty part"
            raise LabelError(where, problem, f'write "a{SEPARATOR}b", or "{NONE}" for an item without any')
        if name == NONE:
            raise LabelError(where, f"{text!r} says none beside others", f'"{NONE}" stands alone')
        if name in names[:place]:
            raise LabelError(where, f"{text!r} names {name!r} twice", "name every label once")
    return tuple(sorted(names))


def number_in(text: object, where: str = "label") -> float:
    """The number that a label is.

    Raises:
        LabelError: it is none, or is not finite or beyond 1e60; `where` names it.
    """
    try:
        number = float(text)  # type: ignore[arg-type]  # whatever it is, the error names it
    except (TypeError, ValueError):
        number = float("nan")
    if not abs(number) <= LARGEST:
        raise LabelError(where, f"label {text!r} is not a number", "this head predicts numbers: 12, -0.5, 1e3")
    return number


def plain(text: str, link: Link, where: str = "label") -> str:
    """The one spelling of a label, so that annotators who mean the same write the same: labels sorted, `3.0` as `3`.

    Raises:
        LabelError: as `names_in`.
    """
    if link == "softmax":
        return text
    if link == "sigmoid":
        return SEPARATOR.join(names_in(text, link, where)) or NONE
    number = number_in(text, where)
    return str(int(number)) if number.is_integer() and abs(number) <= WHOLE else repr(number)


def class_names(labels: Iterable[str], link: Link) -> list[str]:
    """The names of all outputs that labels speak of, sorted.

    Raises:
        LabelError: as `names_in`.
    """
    return sorted({name for text in labels for name in names_in(text, link)})


def check_names(names: Sequence[str], link: Link, where: str) -> None:
    """
    Raises:
        ConfigError: a class of this name cannot be; `where` names the field.
    """
    if link == "identity" and any(name != VALUE for name in names):
        raise ConfigError(where, f"{names[0]!r} is a class, and labels are numbers", "leave it out")
    for name in names if link == "sigmoid" else ():
        if SEPARATOR in name or name.strip() in ("", NONE) or name != name.strip():
            problem = f"{name!r} cannot be one of several labels"
            raise ConfigError(where, problem, f"use a name without {SEPARATOR}, and not {NONE}")
