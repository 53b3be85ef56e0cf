"""Pools of parts: given vectors, and the owner of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.pool import ChunkStage, Manifest, Pool, PoolWriter
from raysal.pool.owners import owners_in
from raysal.sources.listing import whole_owners
from raysal.store import digest_of
from raysal.types import Unit


def make_part_pool(
    path: Path,
    vectors: NDArray[np.floating],
    owners: Sequence[str | None],
    *,
    chunk_rows: int = 1000,
    keys: Sequence[str] | None = None,
    missing: Sequence[int] = (),
    carried: Mapping[str, Sequence[Any]] | None = None,
) -> Pool:
    """A committed pool of these parts [n, d]; `missing` ones are quarantined and keep their ids."""
    n, dim = vectors.shape
    keys = [f"part-{i:06d}" for i in range(n)] if keys is None else keys
    rows = [(keys[i], owners[i], i) for i in range(n)]
    chunks = list(whole_owners(rows, chunk_rows, path))
    manifest = Manifest(
        dim=dim,
        modality="vector",
        items=n,
        chunks=len(chunks),
        chunk_rows=chunk_rows,
        encoder={"name": "precomputed", "fingerprint": digest_of({"dim": dim})},
        source={"name": "memory", "fingerprint": digest_of({"keys": list(keys)})},
        metric="cosine",
    )
    writer = PoolWriter(path, manifest)
    gone = set(missing)
    for index, chunk in enumerate(chunks):
        first = chunk[0][2]
        unit = Unit(
            index=index, first_id=first, keys=[row[0] for row in chunk], owners=[row[1] for row in chunk]
        )  # fmt: skip
        ids = np.array([row[2] for row in chunk if row[2] not in gone], np.int64)
        of_rows, column = owners_in(unit, ids)
        writer.commit(
            ChunkStage(path, dim).write(
                index=index,
                first_id=first,
                vectors=vectors[ids].astype(np.float16),
                ids=ids,
                keys=[keys[i] for i in ids],
                uris=None,
                carried={name: [values[i] for i in ids] for name, values in (carried or {}).items()} | column,
                quarantined=[(row[2], row[0], "decode", "broken on purpose") for row in chunk if row[2] in gone],
                owners=of_rows,
            )
        )
    return Pool(path)


def owners_by_size(sizes: Sequence[int]) -> list[str]:
    """The key of the owner of each part, where owners have so many parts."""
    return [f"owner-{number:05d}" for number, size in enumerate(sizes) for _ in range(size)]
