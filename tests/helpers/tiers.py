"""The two tiers: `make test` runs what is not marked `deep`, `make test-deep` the rest.

In `make test` every law has a witness for every entry of the registry it is about. All other crossings (pairs, kills,
flipped bytes, seeds) are deep. Parametrizations that are stacked on one test are a crossing: `thin_crossings` leaves
enough of it in `make test` to have each value of each, without a word in the test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from inspect import signature
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
    kept = [tuple(row) for row in rows]
    first = covering([{(column, repr(value)) for column, value in enumerate(row)} for row in kept])
    return [pytest.param(*row, marks=() if at in first else deep) for at, row in enumerate(kept)]


def only_if(there_is: Callable[..., bool]) -> pytest.MarkDecorator:
    """Of a crossing, take only the combinations that there are: `there_is` says so of the parameters that it names."""
    return pytest.mark.only_if.with_args(there_is)


def is_there(item: pytest.Item) -> bool:
    """Whether no `only_if` of a test leaves it out."""
    marks = (mark.args[0] for mark in item.iter_markers("only_if"))
    given = item.callspec.params if hasattr(item, "callspec") else {}
    return all(there_is(**{name: given[name] for name in signature(there_is).parameters}) for there_is in marks)


def thin_crossings(items: list[pytest.Item]) -> None:
    """Of each test with several parametrizations, leave items in `make test` that have each value of each of them.

    The others get the mark `deep`; what `only_if` leaves out is left out. Values that only items with the mark have
    stay as they are: the test says so.
    """
    tests: dict[tuple[pytest.Item | pytest.Collector | None, str], list[pytest.Item]] = {}
    items[:] = filter(is_there, items)
    for item in items:
        if len(axes(item)) > 1 and not item.get_closest_marker("deep"):
            tests.setdefault((item.parent, item.originalname), []).append(item)  # type: ignore[attr-defined]
    for crossing in tests.values():
        first = covering([values_of(item) for item in crossing])
        for at, item in enumerate(crossing):
            if at not in first:
                item.add_marker(deep)


def axes(item: pytest.Item) -> list[tuple[str, ...]]:
    """The parametrizations of a test, each by the names of its arguments: those of its function, and its fixtures'."""
    given: Collection[str] = item.callspec.params if hasattr(item, "callspec") else ()
    marks = [mark.args[0] for mark in item.iter_markers("parametrize")]
    found = [
        tuple(part.strip() for part in names.split(",")) if isinstance(names, str) else tuple(names) for names in marks
    ]
    return [*found, *((name,) for name in given if not any(name in names for names in found))]


def values_of(item: pytest.Item) -> set[Hashable]:
    """What a test was given by each parametrization. The items of one function share the objects."""
    given = item.callspec.params  # type: ignore[attr-defined]
    return {(names, *(id(given[name]) for name in names)) for names in axes(item)}


def covering(sets: Sequence[set[Any]]) -> set[int]:
    """Return the positions of a few sets that hold together what all of them hold.

    The next is the one that adds most; of equal ones, the one whose values were chosen least, so that a value of a
    short parametrization meets many of a long one.
    """
    chosen: set[int] = set()
    uses: Counter[Any] = Counter()
    while len(uses) < len(set().union(*sets)):
        new = [(sum(value not in uses for value in one), -sum(uses[value] for value in one)) for one in sets]
        at = new.index(max(new))
        chosen.add(at)
        uses.update(sets[at])
    return chosen
