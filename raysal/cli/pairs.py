"""COLUMN=VALUE pairs of the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from raysal.errors import ConfigError


def tests_of(pairs: Sequence[str], option: str) -> dict[str, Any]:
    """Read COLUMN=TEST pairs.

    Args:
        pairs: as given on the command line.
        option: that they were given to, for errors.

    Returns:
        {column: test}; a test is JSON where it can be read as JSON, and text otherwise.

    Raises:
        ConfigError: a pair has no `=`, or a column is named twice.
    """
    found: dict[str, Any] = {}
    for column, text in _pairs(pairs, option, "TEST", "split=train"):
        if column in found:
            fix = f'give a list: {option} \'split=["a", "b"]\''
            raise ConfigError(option, f"{column!r} is given twice", fix)
        try:
            found[column] = json.loads(text)
        except ValueError:
            found[column] = text
    return found


def shares_of(pairs: Sequence[str], option: str) -> dict[str, float]:
    """Read COLUMN=SHARE pairs.

    Args:
        pairs: as given on the command line.
        option: that they were given to, for errors.

    Returns:
        {column: share}.

    Raises:
        ConfigError: a pair has no `=`, a column is named twice, or a share is no number.
    """
    found: dict[str, float] = {}
    for column, text in _pairs(pairs, option, "SHARE", "sharpness=0.01"):
        if column in found:
            raise ConfigError(option, f"{column!r} is given twice", "give one share")
        try:
            found[column] = float(text)
        except ValueError:
            raise ConfigError(option, f"{text!r} is no share", "use a number above 0 and below 1, as 0.01") from None
    return found


def _pairs(pairs: Sequence[str], option: str, what: str, example: str) -> Iterator[tuple[str, str]]:
    for pair in pairs:
        column, equals, text = pair.partition("=")
        if not equals or not column:
            raise ConfigError(option, f"{pair!r} is not COLUMN={what}", f"for example {option} {example}")
        yield column, text
