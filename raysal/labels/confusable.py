"""Classes that are probably one: names that differ in case, blanks or Unicode form, equal numbers, missing values.

`raysal.labels.spelling` gives numbers and Unicode one spelling. What it leaves apart (`Cat` and `cat`, `007` and `7`,
`NA`) may be meant so. Therefore such a class is taken, and a warning says what it looks like, once: when it comes in.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Callable, Iterable, Sequence

from raysal.errors import LabelError, LabelWarning
from raysal.labels.spelling import likeness, looks_missing, spelled
from raysal.types import SKIP

NamesIn = Callable[[str], Sequence[str]]
"""The classes that the text of a label names, as `Likelihood.names_in`."""


def check_classes(
    texts: Iterable[str], known: Iterable[str], names_in: NamesIn = lambda text: (text,), *, strict: bool = False
) -> None:
    """Warn of new classes that look like another one, or like a missing value.

    Args:
        texts: the labels that come in.
        known: the labels that are there already.
        names_in: the classes that a text names.
        strict: raise an error instead.

    Raises:
        LabelError: `strict`, and there is something to warn of.
    """
    there = set(known)
    coming = dict.fromkeys(text for text in texts if text != SKIP)
    sentences = [
        f"{old!r} of an earlier version of raysal is spelled {spelled(old)!r} now; import its labels again to join them"
        for old in sorted(there)
        if spelled(old) != old and spelled(old) in coming
    ]
    if new_texts := [text for text in coming if text not in there]:
        old_names = {name for text in there if spelled(text) == text for name in names_in(text)}
        new_names = dict.fromkeys(name for text in new_texts for name in names_in(text))
        sentences += confusable([name for name in new_names if name not in old_names], old_names)
    if strict and sentences:
        fix = "correct the labels, or import them without --strict (Python: strict=False)"
        raise LabelError("labels", "; ".join(sentences), fix)
    for sentence in sentences:
        warnings.warn(sentence, LabelWarning, stacklevel=4)


def confusable(new: Iterable[str], known: Iterable[str]) -> list[str]:
    """What is to be said of new classes.

    Args:
        new: names of classes that come in.
        known: names of classes that are there.

    Returns:
        A sentence for each new class that looks like a known one, like a new one before it, or like a missing value.
    """
    first: dict[str | float, str] = {}
    for name in sorted(known):
        first.setdefault(likeness(name), name)
    sentences = []
    for name in new:
        if looks_missing(name):
            sentences.append(f"class {name!r} looks like a missing value; leave the cell empty if it is one")
        other = first.setdefault(likeness(name), name)
        if other != name:
            sentences.append(f"class {name!r} is {other!r} {_difference(name, other)}")
    return sentences


def _difference(one: str, other: str) -> str:
    """In what two names differ that are alike."""
    if isinstance(likeness(one), float):
        return "as a number"
    if one.casefold() == other.casefold():
        return "but for case"
    if _without_blanks(one) == _without_blanks(other):
        return "but for blanks"
    if unicodedata.normalize("NFKC", one) == unicodedata.normalize("NFKC", other):
        return "but for the Unicode form"
    return "but for case, blanks and the Unicode form"


def _without_blanks(name: str) -> str:
    return "".join(mark for mark in name if not mark.isspace() and unicodedata.category(mark) != "Cf")
