"""Values in the members of a sample: the content of one as text, or a field of one that is JSON."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

_JSON = re.compile(r"((?:.*?\.)?json)(?:\.(.+))?", re.IGNORECASE | re.DOTALL)
NOWHERE = (0, -1)
"""The place of a value that a sample does not have."""


class Wanted(NamedTuple):
    """A value that samples may have."""

    name: str
    """As people say it: `cls`, `json`, `json.width`, `meta.json.camera.name`."""
    ending: str
    """Of the member, in lower case."""
    inside: str | None
    """The field in it, if it is JSON; a dot leads to one within it. None for all of the member."""

    @classmethod
    def of(cls, name: str) -> Wanted:
        """What a name means."""
        match = _JSON.fullmatch(name)
        return cls(name, match[1].lower(), match[2]) if match else cls(name, name.lower().lstrip("."), None)


def values_in(file: int, wanted: Sequence[Wanted], places: Sequence[tuple[int, int]]) -> dict[str, str | None]:
    """Read values of one sample. A member of JSON is read once, for all fields of it.

    Args:
        file: descriptor of the shard.
        wanted: which values.
        places: offset and bytes of the member of each, or `NOWHERE`.

    Returns:
        {name: text}; None where the sample has no such member or field. What is not text in JSON is written as JSON.

    Raises:
        ValueError: a member cannot be read, is not UTF-8, or no object of JSON. The message says which.
    """
    objects: dict[str, Any] = {}
    values: dict[str, str | None] = {}
    for (name, ending, inside), (offset, size) in zip(wanted, places, strict=True):
        if size < 0:
            values[name] = None
        elif inside is None:
            text = text_in(bytes_in(file, offset, size), f"member .{ending}")
            values[name] = text.strip() if ending.rpartition(".")[2] == "cls" else text
        else:
            if ending not in objects:
                objects[ending] = _object(bytes_in(file, offset, size), ending)
            values[name] = _as_text(_field(objects[ending], inside), name)
    return values


def bytes_in(file: int, offset: int, size: int) -> bytes:
    """Some bytes of a shard.

    Args:
        file: its descriptor.
        offset: where they begin.
        size: how many.

    Returns:
        The bytes.

    Raises:
        ValueError: they are not there, or cannot be read.
    """
    try:
        data = os.pread(file, size, offset)
    except OSError as error:
        raise ValueError(f"the shard cannot be read ({error.strerror})") from None
    if len(data) < size:
        raise ValueError("the shard ends before this member now")
    return data


def text_in(data: bytes, what: str) -> str:
    """Bytes as text.

    Args:
        data: UTF-8.
        what: they are, for the error.

    Returns:
        The text.

    Raises:
        ValueError: they are not UTF-8.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{what} is not UTF-8 ({error.reason} at byte {error.start})") from None


def _object(data: bytes, ending: str) -> dict[str, Any]:
    """The object in a member of JSON. Raises `ValueError` where there is none."""
    text = text_in(data, f"member .{ending}")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"member .{ending} is not JSON ({error})") from None
    if not isinstance(found, dict):
        raise ValueError(f"member .{ending} is no object of JSON")
    return found


def _field(values: dict[str, Any], name: str) -> Any:
    """A field of an object, or of the objects within it; None where there is none."""
    if name in values or "." not in name:
        return values.get(name)
    first, _, rest = name.partition(".")
    inner = values.get(first)
    return _field(inner, rest) if isinstance(inner, dict) else None


def _as_text(value: Any, name: str) -> str | None:
    """A value as text: what is not text becomes JSON. Raises `ValueError` for half a surrogate of JSON."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{name} is no text: {text!a}") from None
    return text
