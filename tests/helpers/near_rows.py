"""Rows with copies among them, exact and jittered; near-duplicates of a pool, and by comparing all."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.config import FleetConfig
from raysal.curation.dedup import NearDuplicates, find_near_duplicates
from raysal.fleet import open_fleet
from raysal.pool import Pool
from raysal.types import Metric

METRICS: tuple[Metric, ...] = ("cosine", "l2")
N, DIM = 260, 16


class Stop(Exception):
    """In place of the end of a process."""


def vectors_with_copies(seed: int = 0, n: int = N) -> NDArray[np.float32]:
    """Rows, a third of which are copies of others: exact ones, and with some noise."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((6, DIM))[rng.integers(6, size=n)] + 0.7 * rng.standard_normal((n, DIM))
    third = n // 3
    noise = rng.choice([0.0, 0.05, 0.2], size=(third, 1))
    rows[rng.permutation(n)[:third]] = rows[rng.integers(n, size=third)] + noise * rng.standard_normal((third, DIM))
    return rows.astype(np.float16).astype(np.float32)


def slow(pool: Pool, threshold: float, order: list[int]) -> dict[str, tuple[bool, str]]:
    """Key by key: whether it is kept, and which kept item is nearest, by comparing all in double precision."""
    x = np.concatenate([chunk.vectors() for chunk in pool.chunks]).astype(np.float64)
    keys = [key for table in pool.items(["key"]) for key in table["key"].to_pylist()]
    if pool.metric == "cosine":
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    limit = 2 * (1 - threshold) if pool.metric == "cosine" else threshold**2
    sq = ((x[:, None] - x[None]) ** 2).sum(2)
    kept: list[int] = []
    for row in order:
        if not (sq[row, kept] <= limit).any():
            kept.append(row)
    kept.sort()  # of equally near ones the first
    nearest = {row: kept[int(np.round(sq[row, kept], 12).argmin())] for row in range(len(x))}
    return {keys[row]: (row in kept, keys[row] if row in kept else keys[nearest[row]]) for row in range(len(x))}


def run(pool: Pool, threshold: float = 0.9, *, partitions: int = 1, **options: Any) -> NearDuplicates:
    with open_fleet(pool, FleetConfig(backend="local", partitions=partitions)) as fleet:
        return find_near_duplicates(pool, fleet, threshold, **{"unit_rows": 70, **options})


def rows_with_neighbours(seed: int, n: int, dim: int, offset: float = 0.0) -> NDArray[np.float16]:
    """Clustered rows; a third are copies of others with some noise, some of them exact, and two are zero."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((5, dim))
    rows = centres[rng.integers(5, size=n)] + 0.5 * rng.standard_normal((n, dim))
    copies = rng.integers(n, size=n // 3)
    noise = rng.choice([0.0, 0.01, 0.1, 0.3], size=(n // 3, 1))
    rows[n - n // 3 :] = rows[copies] + noise * rng.standard_normal((n // 3, dim))
    rows[[1, n // 2]] = 0
    return (rows + offset).astype(np.float16)
