"""The first batch of a run by TypiClust, from a large pool.

    python -m benchmarks.typiclust [--rows 1000000] [--k 20 100] [--max-candidates 10000] [--folder FOLDER]

Each time stands beside the bare float32 products of 30 iterations of k-means, all rows with all centres. To set two
builds side by side, run it in turn with PYTHONPATH at one checkout and the other.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.features import write_pool
from benchmarks.machine import context_of, describe
from raysal.fleet import LocalFleet, plan_partitions
from raysal.strategies.base import select
from raysal.strategies.coverage.typiclust import TypiClust

ITERATIONS = 30


def start_ratios(
    folder: Path, rows: int, batches: list[int], *, dim: int = 256, max_candidates: int = 10_000, repeats: int = 5
) -> dict[str, float]:
    """Seconds of a first batch over those of the bare products of `ITERATIONS` iterations, by size of the batch."""
    pool = write_pool(folder / f"made-{rows}x{dim}", rows, None, dim)
    fleet = LocalFleet(plan_partitions(pool, 1))
    nothing, found = np.empty((0, dim), np.float32), {}
    x = torch.randn(min(rows, max_candidates), dim)
    for k in batches:
        context = context_of(fleet, head=None, ids=np.empty(0, np.int64), vectors=nothing, k=k, key=3)
        selector, centres = TypiClust(max_candidates=max_candidates), torch.randn(dim, k)
        seconds, bare = [], []
        for _ in range(repeats):
            fleet.reset()
            begun = time.perf_counter()
            select(fleet, selector, context, k)
            seconds.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            for _ in range(ITERATIONS):
                x @ centres
            bare.append(time.perf_counter() - begun)
        found[f"typiclust start, {rows:,} rows, k = {k}, seconds"] = float(np.median(seconds))
        found[f"typiclust start, {rows:,} rows, k = {k} / products"] = float(np.median(seconds) / np.median(bare))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--k", type=int, nargs="+", default=[20, 100])
    parser.add_argument("--max-candidates", type=int, default=10_000)
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        for name, value in start_ratios(folder, args.rows, args.k, max_candidates=args.max_candidates).items():
            print(f"{name}: {value:.3g}", flush=True)


if __name__ == "__main__":
    main()
