"""Rows with copies, and a round over a pool of them, for the tests of coverage."""

from __future__ import annotations

import numpy as np
from pools import make_pool, mixture
from programs import context_of, local

from raysal.context import RoundContext
from raysal.fleet import exclude
from raysal.rng import item_order
from raysal.strategies.base import select


def half(x: np.ndarray) -> np.ndarray:
    """As a pool holds it."""
    return x.astype(np.float16).astype(np.float32)


def copies(n: int, dim: int, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """A mixture in which a fifth of the rows are copies of others."""
    x, names = mixture(n, dim, seed=seed)
    rng = np.random.default_rng(seed)
    x[rng.choice(n, n // 5, replace=False)] = x[rng.integers(n, size=n // 5)]
    return half(x), names


def by_hash(ids: np.ndarray, key: int) -> np.ndarray:
    """Ids in the order in which equal ones are picked."""
    return ids[np.argsort(item_order(key, ids))]


def task_of(x, names, known, *, head=None, key=3, classes=True) -> RoundContext:
    return context_of(
        head=head,
        labelled=half(x[known]),
        key=key,
        classes=[names[row] for row in known] if classes else (),
    )


def run(path, x, selector, task, k, *, out=(), partitions=2):
    fleet = local(make_pool(path / "pool", x), partitions)
    fleet.each(exclude, np.array(out, np.int64))
    return select(fleet, selector, task, k)
