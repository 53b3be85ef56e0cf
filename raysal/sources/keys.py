"""Counting a listing and checking that its keys are distinct, in one pass."""

from __future__ import annotations

from array import array

import numpy as np

from raysal.errors import DuplicateKeys, SourceError
from raysal.sources.base import Source

_SOME = 1000  # as many duplicates as are worth naming; bounds the memory of the second pass


def describe(source: Source) -> str:
    """A source in a message: its path, or else its kind."""
    return str(getattr(source, "path", None) or type(source).__name__)


def check_keys(source: Source, chunk_rows: int) -> tuple[int, int]:
    """How many items and chunks the listing has.

    Streams it once and holds 8 bytes a row: the hash of each key. Equal hashes are looked at again in a
    second pass, so two keys are never called equal by accident of the hash.

    Raises:
        SourceError: there is no item.
        DuplicateKeys: keys that occur more than once (the first thousand).
    """
    hashes = array("q")
    chunks = 0
    for unit in source.units(chunk_rows):
        hashes.extend(map(hash, unit.keys))
        chunks += 1
    if not hashes:
        raise SourceError(describe(source), "no items", "check the path")
    ordered = np.frombuffer(hashes, np.int64)
    ordered.sort()
    repeated = set(np.unique(ordered[1:][ordered[1:] == ordered[:-1]])[:_SOME].tolist())
    if repeated:
        seen: set[str] = set()
        twice: dict[str, None] = {}
        for unit in source.units(chunk_rows):
            for key in unit.keys:
                if hash(key) in repeated:
                    if key in seen:
                        twice[key] = None
                    seen.add(key)
        if twice:
            raise DuplicateKeys(describe(source), list(twice))
    return len(hashes), chunks
