"""Parts of one kind by name. A part is imported when it is first asked for; listing the names imports nothing.

A registry may also have short names: `margin` is the strategy `top_score` with `score = "margin"`. A config takes them
wherever it takes names. They are no parts of their own, so a registry does not list them among its keys.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, NamedTuple, TypeVar, cast

from raysal.errors import UnknownName

T = TypeVar("T")


class Meaning(NamedTuple):
    """What a name in a config stands for."""

    part: str
    """the name of a part"""
    fields: Mapping[str, Any]
    """what the name says of its fields"""


class Registry(Mapping[str, T]):
    """A mapping from names to parts, written out as {name: "module:attribute"} with the names in order.

    `registry[name]` imports the part. An unknown name is a `KeyError`.

    Args:
        places: where each part is.
        short: what each short name stands for; a part's own name comes first.
    """

    def __init__(self, places: Mapping[str, str], short: Mapping[str, Meaning] | None = None) -> None:
        self._places = dict(places)
        self.short = {name: meaning for name, meaning in (short or {}).items() if name not in self._places}

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


def names_on_use(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package whose names are imported when they are first used.

    To import one module of such a package then costs that module alone.

    Args:
        package: the package's `__name__`.
        homes: the module of each name.

    Returns:
        The function; it raises `AttributeError` for any other name.
    """

    def attribute(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return attribute


def meaning_of(registry: Mapping[str, object], name: str, place: str) -> Meaning:
    """What a name stands for.

    Args:
        registry: the parts of its kind by name.
        name: the name, up to a colon.
        place: the dotted path of the part in the config, for the error.

    Returns:
        The part, and the fields that the name gives.

    Raises:
        UnknownName: neither a part nor a short name.
    """
    if name in registry:
        return Meaning(name, {})
    short = registry.short if isinstance(registry, Registry) else {}
    if name not in short:
        raise UnknownName(place, name, [*sorted(registry), *sorted(short)])
    return short[name]
