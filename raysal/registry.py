"""Parts of one kind by name, each imported when it is first asked for: to list the names costs no import."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TypeVar, cast

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """Name -> part, written out as name -> `"module:attribute"`. Names are sorted.

    Raises:
        KeyError: there is no part of that name.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = dict(places)

    def __getitem__(self, name: str) -> T:
        module, _, attribute = self._places[name].partition(":")
        return cast("T", getattr(import_module(module), attribute))

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places  # the one of `Mapping` would import the part

    def name_of(self, part: object) -> str | None:
        """The name of an instance's class; None if it is not listed. Nothing is imported."""
        place = f"{type(part).__module__}:{type(part).__qualname__}"
        return next((name for name, own in self._places.items() if own == place), None)
