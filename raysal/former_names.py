"""Fields that were renamed: configs, options and mappings may still give them by their former names.

A class lists former names of its fields in `FORMER`; `raysal.config.Choice` replaces them. A constructor takes the
current names only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from raysal.errors import ConfigError


@runtime_checkable
class HasFormerNames(Protocol):
    """A class some of whose fields had other names before, `{former name: field}`. Configs may still use these."""

    FORMER: Mapping[str, str]


def with_current_names(values: Mapping[str, Any], cls: type, place: str) -> dict[str, Any]:
    """Replace former names of a class's fields by the names that the fields have now.

    Args:
        values: the fields as a config gives them.
        cls: the class; it lists former names in `FORMER` if it has any (`HasFormerNames`).
        place: the dotted path of the part in the config, for errors.

    Returns:
        The values by the fields' names.

    Raises:
        ConfigError: a field is given by both of its names.
    """
    former = cls.FORMER if isinstance(cls, HasFormerNames) else {}
    named: dict[str, Any] = {}
    for name, value in values.items():
        field = former.get(name, name)
        if field in named:
            both = " and ".join(sorted(other for other in values if former.get(other, other) == field))
            raise ConfigError(f"{place}.{field}", f"given twice, as {both}", "give one of them")
        named[field] = value
    return named
