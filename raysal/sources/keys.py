"""Count the items of a source, and check that their keys are distinct."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

import numpy as np

from raysal.arrow_values import text_array
from raysal.errors import DuplicateKeys, SourceError
from raysal.pool.lanes import text_hashes
from raysal.sources.base import Source
from raysal.types import Unit

_MAX_DUPLICATES = 1000
"""How many keys that occur twice are looked for. It bounds the memory of the second pass."""


def source_name(source: Source) -> str:
    """The name of a source in a message: its path, or else its class."""
    return str(getattr(source, "path", None) or type(source).__name__)


def check_keys(source: Source, chunk_rows: int, look: Callable[[Unit], object] | None = None) -> tuple[int, int]:
    """Count the items and chunks of a listing, and check that its keys are distinct.

    It streams the listing once and keeps 8 bytes per item: the hash of the key; with parts also one of each owner's. If
    two hashes are equal, a second pass compares the keys themselves, so that equal hashes of different keys do no harm.

    Args:
        source: the source to list.
        chunk_rows: items in one chunk.
        look: called with each unit, in order.

    Returns:
        The number of items, and the number of chunks.

    Raises:
        SourceError: there is no item.
        DuplicateKeys: keys occur more than once. The error names the first thousand.
        SourceError: the parts of an owner do not follow each other, or another item has its key.
    """
    hashes = array("q")
    chunks = 0
    named = array("q")
    parts = False
    for unit in source.units(chunk_rows):
        hashes.frombytes(text_hashes(text_array(unit.keys)).tobytes())
        if parts := parts or unit.owners is not None:
            named.frombytes(text_hashes(text_array(_names(unit))).tobytes())
        chunks += 1
        if look is not None:
            look(unit)
    if not hashes:
        raise SourceError(source_name(source), "no items", "check the path")
    if twice := _repeated(source, chunk_rows, hashes, lambda unit: unit.keys):
        raise DuplicateKeys(source_name(source), twice, getattr(source, "repeated_keys", ""))
    if parts and (twice := _repeated(source, chunk_rows, named, _names)):
        problem = f"the owner {twice[0]!r} is named at several places"
        fix = "list the parts of each owner one after the other, and give no other item the key of an owner"
        raise SourceError(source_name(source), problem, fix)
    return len(hashes), chunks


def _names(unit: Unit) -> Sequence[str]:
    """The keys of the owners of a unit, each once, and of the items that are no parts."""
    if unit.owners is None:
        return unit.keys
    keys, owners = list(unit.keys), list(unit.owners)
    return [
        key if owner is None else owner
        for place, (key, owner) in enumerate(zip(keys, owners, strict=True))
        if owner is None or place == 0 or owners[place - 1] != owner
    ]


def _repeated(
    source: Source, chunk_rows: int, hashes: array[int], texts_of: Callable[[Unit], Sequence[str]]
) -> list[str]:
    """The texts that a listing has more than once, the first thousand; `hashes` of them all are sorted."""
    ordered = np.frombuffer(hashes, np.int64)
    ordered.sort()
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])[:_MAX_DUPLICATES]
    if not len(repeated):
        return []
    seen: set[str] = set()
    twice: dict[str, None] = {}
    for unit in source.units(chunk_rows):
        texts = texts_of(unit)
        for place in np.flatnonzero(np.isin(text_hashes(text_array(texts)), repeated)).tolist():
            text = texts[place]
            if text in seen:
                twice[text] = None
            seen.add(text)
    return list(twice)
