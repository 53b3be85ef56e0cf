"""Parts of one kind by name. A part is imported when it is first asked for; listing the names imports nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TypeVar, cast

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """A mapping from names to parts, written out as {name: "module:attribute"} with the names in order.

    `registry[name]` imports the part. An unknown name is a `KeyError`.

    Args:
        places: where each part is.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = dict(places)

    def __getitem__(self, name: str) -> T:
        module, _, attribute = self._places[name].partition(":")
        return cast("T", getattr(import_module(module), attribute))

    def __repr__(self) -> str:
        return f"Registry({', '.join(self._places)})"

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places  # `Mapping.__contains__` would import the part

    def name_of(self, part: object) -> str | None:
        """The name of an instance's class; None if the registry does not have it. It imports nothing."""
        place = f"{type(part).__module__}:{type(part).__qualname__}"
        return next((name for name, own in self._places.items() if own == place), None)
