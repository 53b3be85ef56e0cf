"""A pool of three small chunks whose content follows from their numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from raysal.pool import ChunkStage, Manifest, Pool, PoolWriter, StagedChunk
from raysal.store import digest_of

DIM, ROWS, CHUNKS, ITEMS = 3, 4, 3, 11
EMPTY = 1
"""Every item of this chunk is quarantined."""


def manifest(**fields: Any) -> Manifest:
    given = {
        "dim": DIM, "modality": "vector", "items": ITEMS, "chunks": CHUNKS, "chunk_rows": ROWS,
        "encoder": {"name": "made", "config": {"tiny": 1e-05}, "fingerprint": digest_of({"e": 1})},
        "source": {"name": "memory", "note": "\x1f", "fingerprint": digest_of({"s": 1})},
    }  # fmt: skip
    return Manifest(**{**given, **fields})


def stage(path: Path, index: int, shift: float = 0.5) -> StagedChunk:
    """A chunk whose content follows from its index: (id, key, vector) and what was lost."""
    first, last = index * ROWS, min((index + 1) * ROWS, ITEMS)
    good = [id for id in range(first, last) if index != EMPTY and id != 2]
    return ChunkStage(path, DIM).write(
        index=index,
        first_id=first,
        vectors=np.array([[id, -id, shift] for id in good], np.float16).reshape(-1, DIM),
        ids=np.array(good, np.int64),
        keys=[f"k{id}" for id in good],
        uris=[None] * len(good),
        carried={"label": [f"l{id % 2}" for id in good]},
        quarantined=[(id, f"k{id}", "decode", "broken") for id in range(first, last) if id not in good],
    )


def content(pool: Pool) -> list[Any]:
    """Everything a reader can get out of a pool."""
    return [
        (chunk.vectors().tolist(), chunk.ids().tolist(), chunk.items().to_pylist(), chunk.quarantine().to_pylist())
        for chunk in pool.chunks
    ]


def make(path: Path) -> Pool:
    writer = PoolWriter(path, manifest())
    for index in range(CHUNKS):
        writer.commit(stage(path, index))
    return Pool(path)
