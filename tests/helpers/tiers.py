"""The two tiers: `make test` runs what is not marked `deep`, `make test-deep` the rest.

In `make test` every law has a witness for every entry of the registry it is about. All other crossings (pairs, kills,
flipped bytes, seeds) are deep.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import pytest

deep = pytest.mark.deep


def deep_unless(first: Collection[Any], values: Iterable[Any]) -> list[Any]:
    """Return the values as parameters of a test, all but those in `first` marked `deep`.

    Raises:
        ValueError: no value is in `first`, so that `make test` would not run the test at all.
    """
    rows = [(value, value if isinstance(value, tuple) else (value,)) for value in values]
    if not any(value in first for value, _ in rows):
        raise ValueError(f"none of {first} is among the values")
    return [pytest.param(*row, marks=() if value in first else deep) for value, row in rows]


def one_of_each(rows: Iterable[Sequence[Any]]) -> list[Any]:
    """Return the rows as parameters of a test: enough of them to have each value of each column, the others `deep`.

    Values are told apart by how they are written.
    """
    left = [(tuple(row), {(column, repr(value)) for column, value in enumerate(row)}) for row in rows]
    first: list[set[tuple[int, str]]] = []
    seen: set[tuple[int, str]] = set()
    while any(values - seen for _, values in left):
        first.append(max((values for _, values in left), key=lambda values: len(values - seen)))
        seen |= first[-1]
    return [pytest.param(*row, marks=() if values in first else deep) for row, values in left]
