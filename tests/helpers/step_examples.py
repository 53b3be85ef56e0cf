"""For every step of curation the fields by which the tests of laws run it, on the pools of `curated_pool`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pools import make_pool, mixture

from raysal.pool import Pool
from raysal.types import Metric

CLASSES = 4
EXAMPLES: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "balance": [
        {"size": 40},
        {"size": 0.5, "by": ["column:label", "clusters"], "clusters": [6, 2]},
        {"size": 30, "by": "density"},
    ],
    "check": [{"drop": True, "fewest": 2}, {"near": 0.9}],
    "core": [{"size": 30}, {"size": 0.25, "mode": "levels"}],
    "exact": [{}, {"keep": "label"}],
    "filter": [{"where": {"label": ["class-0", "class-1"]}}, {"novelty": "knn", "novelty_share": 0.1}],
    "near": [{"threshold": 0.9}, {"threshold": 0.9, "keep": "label", "mode": "clusters"}],
}
"""{name of a step: fields, as a config has them}"""


def step(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A step as a config has it."""
    return {"name": name, **fields}


def rows_with_copies(n: int, dim: int = 16, seed: int = 0) -> tuple[NDArray[np.float32], list[str]]:
    """Vectors in classes, a quarter of them copies of others, exact or nearly so, and two zeros; and their classes."""
    rows, labels = mixture(n, dim, CLASSES, seed)
    rng = np.random.default_rng(seed + 1)
    quarter = n // 4
    to, of = rng.permutation(n)[:quarter], rng.integers(n, size=quarter)
    noise = rng.choice([0.0, 0.02], size=(quarter, 1)) * rng.standard_normal((quarter, dim))
    rows[to] = rows[of] + noise
    rows[rng.permutation(n)[:2]] = 0
    return rows.astype(np.float16).astype(np.float32), labels


def curated_pool(
    path: Path, n: int = 160, *, chunk_rows: int = 1000, missing: Collection[int] = (), metric: Metric = "cosine"
) -> Pool:
    """A pool that steps find something in."""
    rows, labels = rows_with_copies(n)
    return make_pool(path, rows, chunk_rows=chunk_rows, labels=labels, missing=sorted(missing), metric=metric)
