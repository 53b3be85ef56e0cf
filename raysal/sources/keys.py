"""Count the items of a source, and check that their keys are distinct."""

from __future__ import annotations

from array import array
from collections.abc import Callable

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

    It streams the listing once and keeps 8 bytes per item: the hash of the key. If two hashes are equal, a second pass
    compares the keys themselves, so that equal hashes of different keys do no harm.

    Args:
        source: the source to list.
        chunk_rows: items in one chunk.
        look: called with each unit, in order.

    Returns:
        The number of items, and the number of chunks.

    Raises:
        SourceError: there is no item.
        DuplicateKeys: keys occur more than once. The error names the first thousand.
    """
    hashes = array("q")
    chunks = 0
    for unit in source.units(chunk_rows):
        hashes.frombytes(text_hashes(text_array(unit.keys)).tobytes())
        chunks += 1
        if look is not None:
            look(unit)
    if not hashes:
        raise SourceError(source_name(source), "no items", "check the path")
    ordered = np.frombuffer(hashes, np.int64)
    ordered.sort()
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])[:_MAX_DUPLICATES]
    if len(repeated):
        seen: set[str] = set()
        twice: dict[str, None] = {}
        for unit in source.units(chunk_rows):
            for place in np.flatnonzero(np.isin(text_hashes(text_array(unit.keys)), repeated)).tolist():
                key = unit.keys[place]
                if key in seen:
                    twice[key] = None
                seen.add(key)
        if twice:
            raise DuplicateKeys(source_name(source), list(twice), getattr(source, "repeated_keys", ""))
    return len(hashes), chunks
