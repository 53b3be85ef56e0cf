"""How many items a step keeps, or drops: as a number, or as a share of what it is given."""

from __future__ import annotations

import math
from fractions import Fraction

from raysal.errors import ConfigError


def check_size(size: int | float) -> None:
    """Refuse what is neither a number of items nor a share.

    Args:
        size: of the field of that name.

    Raises:
        ConfigError: it is not above 0, not finite, or above 1 and not whole.
    """
    whole = not isinstance(size, float) or size < 1 or size.is_integer()  # of infinity and NaN that is false
    if isinstance(size, bool) or not (size > 0 and whole):
        raise ConfigError("size", f"{size!r} is no number of items", "use 1 or more, or a share as 0.1")


def size_of(size: int | float, n: int) -> int:
    """How many of n items are meant by a size: all where there are fewer, and of a share at least one.

    Args:
        size: a number of items; below 1 a share, as the decimal that it is written as: 0.07 of 100 is 7, and of 101 8.
        n: items.

    Returns:
        From 0 to n.
    """
    return min(int(size) if size >= 1 else share_or_more(size, n), n)


def share_or_more(share: float, n: int) -> int:
    """As `whole_share`, rounded up: 0.07 of 101 is 8."""
    return math.ceil(Fraction(str(share)) * n)


def whole_share(share: float, n: int) -> int:
    """floor(share * n), of a share as the decimal that it is written as: 0.07 of 100 is 7."""
    return math.floor(Fraction(str(share)) * n)
