"""A pool on which nothing can be pruned, for the benchmarks of selection.

    python -m benchmarks.hard_pool OUT [--rows 400000] [--dim 256] [--seed 11]   # OUT/vectors.parquet, OUT/labels.csv

Sixty clusters with a falling spectrum, and within each of them rows at every distance from its centre: wherever picks
lie, most rows keep a distance that could still win. In `benchmarks.features` rows bunch together, and a few picks rule
most of them out. Which pool a user has, nobody knows before.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CLUSTERS = 60
CLASSES = 10
LABELS = 300
STEP = 65_536
"""Rows made at a time. Each step has a generator of its own, so that rows do not depend on how many there are."""


def blocks(rows: int, dim: int = 256, seed: int = 11) -> Iterator[NDArray[np.float16]]:
    """The vectors, float16 [up to STEP, dim] at a time."""
    scale = (np.arange(1, dim + 1) ** -0.6).astype(np.float32)
    centres = 1.8 * scale * np.random.default_rng(seed).standard_normal((CLUSTERS, dim), dtype=np.float32)
    for start in range(0, rows, STEP):
        rng = np.random.default_rng([seed, start])
        n = min(STEP, rows - start)
        spread = rng.uniform(0, 1.6, (n, 1)).astype(np.float32)
        block = rng.standard_normal((n, dim), dtype=np.float32)
        block *= spread * scale
        block += centres[rng.integers(CLUSTERS, size=n)]
        yield block.astype(np.float16)


def labels_of(vectors: NDArray[np.float16], seed: int = 11) -> tuple[NDArray[np.int64], list[str]]:
    """(rows, classes) of LABELS uniform labels, named by a random linear rule; `vectors` are the first ones."""
    rng = np.random.default_rng(seed + 1)
    rows = np.sort(rng.choice(len(vectors), min(LABELS, len(vectors) // 2), replace=False))
    rule = rng.normal(size=(vectors.shape[1], CLASSES))
    return rows, [f"class-{c}" for c in (vectors[rows].astype(np.float64) @ rule).argmax(1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--seed", type=int, default=11)
    args = parser.parse_args()
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    args.out.mkdir(parents=True, exist_ok=True)
    parts = list(blocks(args.rows, args.dim, args.seed))
    vectors = np.concatenate(parts)
    keys = [f"row-{i}" for i in range(args.rows)]
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), args.dim)
    pq.write_table(pa.table({"key": keys, "vector": column}), args.out / "vectors.parquet")
    rows, names = labels_of(parts[0], args.seed)
    pyarrow.csv.write_csv(pa.table({"key": [keys[i] for i in rows], "label": names}), args.out / "labels.csv")


if __name__ == "__main__":
    main()
