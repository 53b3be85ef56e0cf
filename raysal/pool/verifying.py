"""Compare every byte of the chunks of a pool with their records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from raysal.errors import Damaged
from raysal.pool.chunk import Chunk
from raysal.pool.layout import chunk_file, how_to_repair
from raysal.pool.place import files_of
from raysal.store import read_sealed


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
