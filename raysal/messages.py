"""Words of messages: names from a list, one line of a text, what another program says."""

from __future__ import annotations

import re
from collections.abc import Iterable


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
