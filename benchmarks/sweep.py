"""How near is the sweep to the bare matrix products it contains?

    python -m benchmarks.sweep [--rows 1000000] [--dim 256] [--anchors 100] [--device cpu] [--json]

The bare loop multiplies the same number of float32 blocks, which lie ready in memory: no conversion from float16, no
softmax, no scores, no top lists. It takes the faster of the two orientations of the product. Sweep and bare loop run
in turn, and the ratio of their medians is printed: 1.0 means that all the rest is free.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import describe, random_head, random_pool
from raysal.fleet import LocalFleet, plan_partitions
from raysal.numerics import BLOCK_ROWS, ceil_div
from raysal.scoring.sweep import Search, SweepRequest, sweep

CLASSES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--anchors", type=int, default=100)
    parser.add_argument("--neighbours", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = measure(Path(folder), args)
    if args.json:
        print(json.dumps(results))
        return
    print(results["machine"])
    cases: list[dict[str, float]] = results["cases"]
    for case in cases:
        print(
            f"{case['columns']:>4} columns: bare products {case['bare_s']:.3f} s, sweep {case['sweep_s']:.3f} s, "
            f"rate of the sweep {case['ratio']:.2f} x bare"
        )


def measure(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Both cases, each against the bare products of its shape."""
    pool = random_pool(folder / "pool", args.rows, args.dim)
    head = random_head(pool, CLASSES)
    anchors = np.random.default_rng(2).normal(size=(args.anchors, args.dim)).astype(np.float32)
    near = (Search(anchors=anchors, each=args.neighbours),)
    requests = {
        CLASSES: SweepRequest(scores=("margin",), top=1000),
        CLASSES + args.anchors: SweepRequest(scores=("margin",), top=1000, searches=near),
    }
    cases = []
    with LocalFleet(plan_partitions(pool, 1, device=args.device)) as fleet:
        for columns, request in requests.items():
            cases.append(against_bare(partial(sweep, fleet, head, request), columns, args))
    return {"machine": describe(args.device), "rows": args.rows, "dim": args.dim, "cases": cases}


def against_bare(work: Callable[[], object], columns: int, args: argparse.Namespace) -> dict[str, float]:
    """Median seconds of a sweep, and of the bare products of as many columns, in turn."""
    bare = bare_products(args.rows, args.dim, columns, args.device)
    bare_s, sweep_s = in_turn(bare, work, args.repeats, args.device)
    return {"columns": columns, "bare_s": bare_s, "sweep_s": sweep_s, "ratio": bare_s / sweep_s}


def bare_products(rows: int, dim: int, columns: int, device: str) -> Callable[[], None]:
    """[BLOCK_ROWS, dim] x [dim, columns] for as many float32 blocks as the pool has, in the faster orientation."""
    blocks = [torch.randn(BLOCK_ROWS, dim, device=device) for _ in range(ceil_div(rows, BLOCK_ROWS))]
    tall, wide = torch.randn(dim, columns, device=device), torch.randn(columns, dim, device=device)

    def by_rows() -> None:
        for block in blocks:
            torch.mm(block, tall)

    def by_columns() -> None:
        for block in blocks:
            torch.mm(wide, block.T)

    slow, fast = in_turn(by_rows, by_columns, 3, device)
    return by_rows if slow < fast else by_columns


def in_turn(
    first: Callable[[], object], second: Callable[[], object], repeats: int, device: str
) -> tuple[float, float]:
    """Median seconds of two functions run alternately, after one unmeasured run of each."""
    times: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + 1):
        for which, function in enumerate((first, second)):
            start = time.perf_counter()
            function()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            if repeat:
                times[which].append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


if __name__ == "__main__":
    main()
