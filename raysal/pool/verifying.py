"""Compare every byte of the chunks and generations of a pool with their records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from raysal.errors import Damaged
from raysal.pool.chunk import Chunk
from raysal.pool.generations import RESTORE, Generation, keys_file, links_file, removed_file
from raysal.pool.layout import chunk_file, how_to_repair
from raysal.pool.place import files_of
from raysal.pool.sealed_table import check_seal
from raysal.pool.taken_files import SHA256_TABLE, files_name
from raysal.store import read_sealed

NAMED_BY_NONE = (files_name(0), SHA256_TABLE)
"""Tables that carry their digests themselves; a pool may lack them."""
DELETE = "delete it: what it says is found out anew, by the contents of the source"


def verify_chunks(pool: Path, chunks: Sequence[Chunk], records: Sequence[Mapping[str, Any]]) -> None:
    """Read all files of some chunks; of a pool in a bucket each is fetched again.

    Args:
        pool: the directory.
        chunks: all of a generation, in order of their ids.
        records: their commit records.

    Raises:
        Damaged: a file differs from its record, or ids do not increase. The error names the first one.
    """
    last, files = -1, files_of(pool)
    for chunk, record in zip(chunks, records, strict=True):
        read_sealed(pool / chunk_file("commits", chunk.index))
        chunk.check()
        chunk.vectors()
        ids, lost = chunk.ids(), chunk.quarantine().num_rows
        if len(ids) != chunk.rows or (np.diff(ids, prepend=last) <= 0).any():
            problem = f"{len(ids)} ids, not {chunk.rows} that increase from {last + 1}"
            raise Damaged(files.where(chunk.name_of("items")), problem, how_to_repair(chunk.index))
        expected = record["quarantined"] - (0 if chunk.removed is None else len(chunk.removed.lost_ids))
        if lost != expected:
            problem = f"{lost} rows, expected {expected}"
            raise Damaged(files.where(chunk.name_of("quarantine")), problem, how_to_repair(chunk.index))
        last = int(ids[-1]) if len(ids) else last


def verify_generations(pool: Path, newest: int) -> int:
    """Read all that generations 1 to `newest` have beside chunks; of a pool in a bucket each file is fetched again.

    Args:
        pool: the directory.
        newest: number of a generation.

    Returns:
        How many files were read, the records included.

    Raises:
        Damaged: a file is missing, or differs from its record. The error names the first one.
    """
    files, count = files_of(pool), 0
    for number in range(1, newest + 1):
        found = Generation.read(pool, number)
        removed, replaced = found.removed or {}, found.replaced or {}
        digests = {
            removed_file(number): removed.get("sha256"),
            keys_file(number): removed.get("keys"),
            links_file(number): replaced.get("sha256"),
            files_name(number): found.files,
        }
        for name, sha256 in digests.items():
            if sha256 is not None:
                folder, _, file = name.partition("/")
                entry = {"bytes": files.sizes(folder).get(file, 0), "sha256": sha256}
                files.intact(name, entry, RESTORE, anew=True)
                count += 1
    for name in NAMED_BY_NONE:
        if files.has(name):
            check_seal(files.find(name), files.where(name), DELETE)
            count += 1
    return newest + count
