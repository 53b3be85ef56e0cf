"""Take out of a pool what is gone from its source."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.arrow_values import text_array
from raysal.defaults import MOST_MISSING
from raysal.errors import PoolError
from raysal.pool import Pool
from raysal.pool.generations import NO_ROW
from raysal.pool.growth import check_nothing_begun
from raysal.pool.lanes import text_hashes
from raysal.pool.layout import Manifest
from raysal.pool.place import directory_of, files_of
from raysal.pool.removing import Removal, find_rows, remove_rows
from raysal.pool.taken_files import GONE, TakenFile, taken_files, write_files
from raysal.sources.base import OfFiles, Source
from raysal.sources.of_pool import source_of
from raysal.types import SourceFile


def remove_missing(path: str | Path, *, most: float = MOST_MISSING) -> Removal:
    """Take out the items that the source of a pool does not list any more. If they come back, they are new items.

    It lists the source, and streams the pool's keys once. Memory: 8 bytes for each item of the source.

    Args:
        path: the pool directory, or its URL.
        most: share of the pool's items, in [0, 1], that may be missing.

    Returns:
        What was done.

    Raises:
        PoolError: the directory is no pool, more are missing, none would be left, or an embed job over it is not
            finished.
        SourceError: the source cannot be listed, or was in memory.
        RunError: another process is writing the pool.
    """
    directory = directory_of(path)
    Manifest.read(directory)  # to lock a directory writes into it
    with files_of(directory).writing():
        check_nothing_begun(directory)
        pool = Pool(directory)
        source = source_of(pool)
        missing = _missing_keys(pool, source)
        if len(missing) > most * pool.manifest.items:
            problem = f"{len(missing):,} of its {pool.manifest.items:,} items are not in the source any more"
            fix = "check that the source is there as a whole; if it is, --most 1 takes them out (Python: most=1)"
            raise PoolError(pool.path, problem, fix)
        found = find_rows(pool, missing)
        files = _write_gone(pool, source) if found and isinstance(source, OfFiles) else None
        number = remove_rows(pool, found, "missing", files)
        vectors = sum(row != NO_ROW for _, row in found.values())
        return Removal(removed=len(found), before=0, items=len(pool) - vectors, generation=number)


def _missing_keys(pool: Pool, source: Source) -> set[str]:
    """Keys of the pool, quarantined ones included, that the source does not list."""
    hashes = array("q")
    for unit in source.units(pool.manifest.chunk_rows):
        hashes.frombytes(text_hashes(text_array(unit.keys)).tobytes())
    listed = np.sort(np.frombuffer(hashes, np.int64))
    missing: set[str] = set()
    for chunk in pool.chunks:
        for table in (chunk.items(["key"]), chunk.quarantine().select(["key"])):
            if table.num_rows:
                keys = table["key"].combine_chunks()
                missing |= {keys[row].as_py() for row in np.flatnonzero(~_is_in(listed, text_hashes(keys))).tolist()}
    return missing


def _write_gone(pool: Pool, source: OfFiles) -> str:
    """Note the files that are gone, so that they count as new when they come back: sha256 of their table."""
    names = [file.name for file in source.files()]
    there = np.sort(text_hashes(text_array(names)))

    def gone() -> Iterator[TakenFile]:
        for _, table in taken_files(pool.path, pool.generation):
            column: Any = table["name"].combine_chunks()
            for row in np.flatnonzero(~_is_in(there, text_hashes(column))).tolist():
                file = SourceFile(name=column[row].as_py(), bytes=GONE, changed_ns=0)
                yield TakenFile(file=file, first_id=0, items=0)

    return write_files(pool.path, pool.generation + 1, gone())


def _is_in(ascending: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which values are among some that ascend."""
    if not len(ascending):
        return np.zeros(len(values), bool)
    return np.asarray(ascending[np.searchsorted(ascending, values).clip(max=len(ascending) - 1)] == values)
