"""Words of messages: names from a list, one line of a text, what another program says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def some_names(names: Iterable[object], limit: int = 5) -> str:
    """The first few names, and how many more there are.

    Args:
        names: as they are to be shown.
        limit: how many of them are named.

    Returns:
        As "a, b and 3 more".
    """
    listed = [str(name) for name in names]
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more


def nearest_name(name: object, known: Iterable[str]) -> str | None:
    """The known name that is most like the one that was given, whatever its case and dashes.

    Args:
        name: what was given.
        known: the names there are.

    Returns:
        The name; None if none is near.
    """
    from difflib import get_close_matches  # 20 ms, and a command is not interrupted in order before it is imported

    plain = {other.casefold(): other for other in reversed(list(known))}
    asked = str(name).casefold().replace("-", "_").replace(" ", "_")
    return next((plain[other] for other in get_close_matches(asked, plain, n=1, cutoff=0.7)), None)


_PLACES: dict[str, tuple[re.Pattern[str], str]] = {}
"""{a directory of this machine: its name in texts, and what people know it by}."""


def call_by_place(directory: str, place: str, but: Sequence[str] = ()) -> None:
    """Let messages name the place that a directory of this machine stands for, as a URL, wherever they name it.

    Args:
        directory: absolute.
        place: what people know it by.
        but: beginnings of names in the directory that are this machine's own; these are named as they are.
    """
    own = f"(?!/(?:{'|'.join(map(re.escape, but))}))" if but else ""
    _PLACES[directory] = re.compile(re.escape(directory) + own), place


def with_places(text: str) -> str:
    """A text that names places, and not the directories that stand for them here; see `call_by_place`."""
    for directory, (name, place) in _PLACES.items():
        if directory in text:
            text = name.sub(lambda _, place=place: place, text)  # type: ignore[misc]
    return text


def on_one_line(text: str) -> str:
    """Text on one line; keys and messages of other libraries may have line breaks."""
    return " ".join(text.split()) if len(text.splitlines()) > 1 else text


TERMINAL_CODES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours, and moves of the cursor
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # titles and links
    r"|\x1b[ -/]*[0-~]"  # every other escape
)
"""Escapes of ECMA-48, which terminals act on. Ray colours its errors, whether a terminal reads them or not."""


def without_codes(text: str) -> str:
    """What another program says, without codes for a terminal."""
    return TERMINAL_CODES.sub("", text)


def brief(error: BaseException) -> str:
    """The first line of what another library's error says, up to 200 characters, without codes for a terminal."""
    return next(iter(without_codes(str(error)).strip().splitlines()), type(error).__name__)[:200]
