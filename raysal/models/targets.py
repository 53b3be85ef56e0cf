"""What the text of a label says: the names of several labels, or a number.

Ledgers and label files hold text whatever is learnt from it. Where labels are classes, the text is the name of the
class, any name at all. Where an item has several labels, the text is their names with | between them, or - for an item
that has none. Where labels are numbers, the text is the number. `Likelihood.names_in` reads the text of each kind.
"""

from __future__ import annotations

from collections.abc import Mapping

from raysal.errors import LabelError
from raysal.types import NONE, SEPARATOR

Answer = str | Mapping[str, float]
"""What is known of an item: the name of its class; or shares of several classes (annotators' votes, probabilities),
which count as shares of one label. With several labels at once: their names with | between them (- for none of them),
or shares of such answers, or a probability for each label. With numbers: the number as text, or shares of several
numbers, of which the mean counts."""
LARGEST = 1e60
"""Numbers beyond this are refused: their squares, summed and weighted, would leave float64."""
VALUE = "value"
"""The name of the one output of a head that predicts numbers."""
WHOLE = 2**53
"""Whole numbers up to this are exact in float64."""


def labels_in(text: str, where: str = "label") -> tuple[str, ...]:
    """The labels that a text names, sorted.

    Args:
        text: `a|b`, or `-` for no label.
        where: names the item in an error.

    Returns:
        The names, none for `-`.

    Raises:
        LabelError: a name is empty or comes twice, or - stands beside others.
    """
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

    Args:
        text: the label, or a number.
        where: names the item in an error.

    Returns:
        The number, within ±1e60.

    Raises:
        LabelError: the label is no number, or it is not finite or beyond 1e60.
    """
    try:
        number = float(text)  # type: ignore[arg-type]  # whatever it is, the error names it
    except (TypeError, ValueError):
        number = float("nan")
    if not abs(number) <= LARGEST:
        raise LabelError(where, f"label {text!r} is not a number", "this head predicts numbers: 12, -0.5, 1e3")
    return number


def plain_number(text: object, where: str = "label") -> str:
    """The one spelling of a number: `3.0` as `3`.

    Args:
        text: the label.
        where: names the item in an error.

    Returns:
        The shortest text that reads as the same number.

    Raises:
        LabelError: as `number_in`.
    """
    number = number_in(text, where)
    return str(int(number)) if number.is_integer() and abs(number) <= WHOLE else repr(number)
