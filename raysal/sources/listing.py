"""What the sources share: cutting a listing into units, checking column names, hashing a listing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from raysal.errors import BadItem, ConfigError, SourceError
from raysal.types import Item, Unit

RESERVED = ("id", "key", "uri", "owner", "vector")
"""Columns that a pool writes itself; a carried column cannot bear one of these names."""


def units_of(keys: Iterable[str], chunk_rows: int) -> Iterator[Unit]:
    """Units of `chunk_rows` consecutive keys, without a locator: enough to find an item by key or id."""
    stream = iter(keys)
    first_id = index = 0
    while chunk := tuple(islice(stream, chunk_rows)):
        yield Unit(index=index, first_id=first_id, keys=chunk)
        first_id, index = first_id + len(chunk), index + 1


def wanted(unit: Unit, only: Collection[int] | None) -> Iterator[int]:
    """Positions within a unit that `read` has to give, in order."""
    return (position for position in range(len(unit.keys)) if only is None or unit.first_id + position in only)


def check_carry(carry: Sequence[str]) -> None:
    """Raises: ConfigError: a carried column has a name that a pool uses itself, or is named twice."""
    for name in carry:
        if name in RESERVED:
            raise ConfigError("carry", f"the column name {name!r} is used by the pool itself", "rename the column")
    if len(set(carry)) != len(carry):
        raise ConfigError("carry", f"a column is named twice: {', '.join(carry)}")


def need_columns(where: object, names: Iterable[tuple[str, str]], have: Sequence[str]) -> None:
    """Check that columns exist; `names` pairs each with the flag that chooses it.

    Raises:
        SourceError: names the missing column, those there are, and the flag.
    """
    for column, flag in names:
        if column not in have:
            raise SourceError(where, f"no column {column!r}; its columns: {', '.join(have)}", f"choose one with {flag}")


def text_key(value: object, where: object, place: str) -> str:
    """A key as text. Numbers become their decimal spelling.

    Raises:
        SourceError: it is null or empty, or bytes that are not UTF-8.
    """
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            raise SourceError(where, f"{place}: the key is not UTF-8", "use text keys") from None
    if value is None or value == "":
        raise SourceError(where, f"{place}: the key is {'null' if value is None else 'empty'}", "give every row a key")
    return str(value)


def digest(parts: Iterable[object]) -> str:
    """Hex sha256 of a sequence of parts, each spelled by repr so that borders between them count."""
    state = hashlib.sha256()
    for part in parts:
        state.update(repr(part).encode("utf-8", "surrogateescape"))
        state.update(b"\n")
    return state.hexdigest()


def size_of(path: str | Path) -> int:
    """Bytes of a file, -1 if it cannot be told (a dangling link); reading such an item fails later."""
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def bad(key: str, problem: str, **item: Any) -> Item:
    """An item that could not be read."""
    return Item(key=key, payload=BadItem(key, problem), **item)
