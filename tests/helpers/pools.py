"""Pools of given vectors, and vectors to make them of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.pool import ChunkStage, Manifest, Pool, PoolWriter
from raysal.store import digest_of
from raysal.types import Metric


def make_pool(
    path: Path,
    vectors: NDArray[np.floating],
    *,
    chunk_rows: int = 1000,
    labels: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    missing: Sequence[int] = (),
    metric: Metric = "cosine",
    carried: Mapping[str, Sequence[Any]] | None = None,
) -> Pool:
    """A committed pool of these vectors [n, d]; `missing` items are quarantined and keep their ids."""
    n, dim = vectors.shape
    carried = {**(carried or {}), **({} if labels is None else {"label": labels})}
    keys = [f"item-{i:06d}" for i in range(n)] if keys is None else keys
    manifest = Manifest(
        dim=dim,
        modality="vector",
        items=n,
        chunks=-(-n // chunk_rows),
        chunk_rows=chunk_rows,
        encoder={"name": "precomputed", "fingerprint": digest_of({"dim": dim})},
        source={"name": "memory", "fingerprint": digest_of({"keys": list(keys)})},
        metric=metric,
    )
    writer = PoolWriter(path, manifest)
    for index in range(manifest.chunks):
        low, high = index * chunk_rows, min((index + 1) * chunk_rows, n)
        rows = [i for i in range(low, high) if i not in set(missing)]
        staged = ChunkStage(path, dim).write(
            index=index,
            first_id=low,
            vectors=vectors[rows].astype(np.float16),
            ids=np.array(rows, np.int64),
            keys=[keys[i] for i in rows],
            uris=[None] * len(rows),
            carried={name: [values[i] for i in rows] for name, values in carried.items()},
            quarantined=[(i, keys[i], "decode", "broken on purpose") for i in range(low, high) if i in set(missing)],
        )
        writer.commit(staged)
    return Pool(path)


def mixture(n: int, dim: int, classes: int = 5, seed: int = 0) -> tuple[NDArray[np.float32], list[str]]:
    """n vectors around `classes` centres, and the name of each one's class."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, dim)) * 1.5
    which = rng.integers(classes, size=n)
    x = centres[which] + rng.normal(size=(n, dim)) * rng.uniform(0.5, 1.5, size=(n, 1))
    return x.astype(np.float16).astype(np.float32), [f"class-{c}" for c in which]
