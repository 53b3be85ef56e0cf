"""An item of a row of a table, or why there is none."""

from __future__ import annotations

from typing import Any

from raysal.arrow import Unnamed
from raysal.sources.listing import bad_item
from raysal.sources.payloads import as_vector, image_in
from raysal.sources.vectors import Undecoded
from raysal.types import Item, Modality


def item_of(key: str, value: Any, carried: dict[str, Any], modality: Modality, column: str) -> Item:
    """An item of a row, or a bad one that says what the row lacks.

    Args:
        key: of the item.
        value: what the column of the payloads holds; None for a null, or the ValueError by which it was not read.
        carried: {column: value} to keep.
        modality: what the payload is.
        column: the name of its column, for messages.

    Returns:
        The item.
    """
    for name, found in carried.items():
        if (one := no_value(found)) is not None:
            return bad_item(key, f"column {name!r}: {one}", carried={**carried, name: None})
    if value is None:
        return bad_item(key, f"column {column!r} is null", carried=carried)
    if isinstance(value, Undecoded | ValueError):
        return bad_item(key, f"column {column!r}: {value}", carried=carried)
    try:
        if modality == "vector":
            value = as_vector(value)
        elif modality == "image":
            value = image_in(value)
    except ValueError as error:
        return bad_item(key, f"column {column!r}: {error}", carried=carried)
    return Item(key=key, payload=value, carried=carried)


def no_value(value: Any) -> Unnamed | Undecoded | None:
    """The first thing in a carried value that means nothing: a number of a class without a name, or no text."""
    parts = value if isinstance(value, list) else [value]
    return next((one for one in parts if isinstance(one, Unnamed | Undecoded)), None)
