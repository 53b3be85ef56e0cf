"""Small indexes for the tests: quick to train, in several shards, searched in some of their lists only."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pools import make_pool
from programs import local

from raysal.fleet import Fleet
from raysal.index import KINDS, Index, IndexPlan, build_index, plan_index
from raysal.pool import Pool
from raysal.scoring.sweep import Search, SweepRequest, sweep
from raysal.scoring.top_k import BestItems

SHARD_ROWS = 200
FAITHFUL = ("flat", "hnsw", "ivf_flat")
"""Kinds that keep the rows as they are."""
CODED = tuple(kind for kind in KINDS if kind not in FAITHFUL)


def planned(pool: Pool, kind: str, **settings: Any) -> IndexPlan:
    rows = [chunk.rows for chunk in pool.chunks]
    return plan_index(rows, pool.dim, kind=kind, **{"shard_rows": SHARD_ROWS, **settings})


def built(pool: Pool, kind: str, *, partitions: int = 1, **settings: Any) -> Index:
    with local(pool, partitions) as fleet:
        return build_index(pool, fleet, planned(pool, kind), **settings)


def exact(fleet: Fleet, anchors: NDArray[np.float32], each: int) -> list[BestItems]:
    return sweep(fleet, None, SweepRequest(searches=(Search(anchors=anchors, each=each),))).searches[0].of_each


def same_lists(a: list[BestItems], b: list[BestItems]) -> bool:
    """Equal to the last bit."""
    return len(a) == len(b) and all(
        np.array_equal(x[0], y[0]) and np.array_equal(x[1], y[1]) for x, y in zip(a, b, strict=True)
    )


def files_of(pool: Pool) -> dict[str, bytes]:
    """The bytes of every file of a pool and its index, by relative path, without the lock."""
    return {
        path.relative_to(pool.path).as_posix(): path.read_bytes()
        for path in sorted(pool.path.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def grown(pool: Pool, x: np.ndarray, **settings) -> Pool:
    """The same pool, embedded anew with other vectors; its index stays where it is."""
    (pool.path / "pool.json").unlink()
    shutil.rmtree(pool.path / "commits")
    return make_pool(pool.path, x, chunk_rows=50, **settings)
