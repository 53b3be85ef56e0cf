"""Sources of a few items, for the embed job's tests and the child processes they kill."""

from __future__ import annotations

import numpy as np

from raysal.sources.memory import Memory


def vectors(n: int = 20, dim: int = 3) -> Memory:
    values = np.random.default_rng(0).normal(size=(n, dim)).astype(np.float32)
    return Memory(vectors=values, keys=[f"k{i}" for i in range(n)], carry={"label": [str(i % 3) for i in range(n)]})


def pictures(n: int = 160) -> Memory:
    pixels = np.random.default_rng(0).integers(0, 256, (n, 12, 12, 3), dtype=np.uint8)
    return Memory(images=list(pixels), keys=range(n))
