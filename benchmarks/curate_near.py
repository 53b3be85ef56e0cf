"""Near-duplicates at more sizes, by each mechanism: pairs, kept items alone, clusters, another pool, giant groups.

    python -m benchmarks.curate_near WORK [--rows 100000 1000000] [--thresholds 0.95 0.9] [--cells near sieve ...]

Rows are those of `benchmarks.curate`. Each cell is a process of its own, on one partition. Seconds of the processor
stand beside those of the clock: on a machine that others use, the ratio of the first is the one to look at.

    near      the whole job from nothing, as `raysal dedup` does it: pairs, or kept items alone where pairs are too many
    sieve     kept items alone, whatever the pairs
    clusters  the mode of that name, with its recall
    products  all pairs in blocks of 4096 x 4096 in float32, of 8,192 rows, times what that leaves
    against   the pool and the first 100,000 rows of another one
    equal     exact copies
    group     a pool that is one group of jittered copies, and one of equal vectors, in both modes
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from benchmarks.curate import BLOCK, TIMED_ROWS, unit, write_pool
from benchmarks.machine import describe, made_pool
from raysal.config import FleetConfig
from raysal.curation import dedup
from raysal.curation.dedup import FOLDER, NearDuplicates, find_equal_items, find_near_duplicates
from raysal.curation.near.pairs import TooManyPairs
from raysal.fleet import open_fleet
from raysal.pool import Pool

OTHER_ROWS = 100_000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.95, 0.9])
    parser.add_argument("--cells", nargs="+", default=[*CELLS], choices=[*CELLS])
    parser.add_argument("--cell", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.cell is not None:
        what, rows, threshold, _ = args.cell
        CELLS[what](args.work, int(rows), float(threshold))
        return
    print(describe())
    for rows in args.rows:
        write_pool(args.work / f"pool-{rows}", rows, None)
        for threshold in args.thresholds:
            for what in args.cells:
                words = [sys.executable, "-m", "benchmarks.curate_near", str(args.work)]
                subprocess.run([*words, "--cell", what, str(rows), str(threshold), ""], check=True)


def timed(what: str, rows: int, threshold: float, work: Callable[[], dict[str, Any]], times: float = 1) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    facts = work()
    wall, cpu = (time.perf_counter() - wall) * times, (time.process_time() - cpu) * times
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{what:8s} {rows:>9,} rows, {threshold}: {wall:.4g} s, processor {cpu:.4g} s, {facts}, peak {peak:,.0f} MB")
    sys.stdout.flush()


def found_in(pool: Pool, threshold: float, **options: Any) -> dict[str, Any]:
    shutil.rmtree(pool.path / FOLDER, ignore_errors=True)
    with open_fleet(pool, FleetConfig(backend="local")) as fleet:
        return facts_of(find_near_duplicates(pool, fleet, threshold, **options))


def facts_of(found: NearDuplicates) -> dict[str, Any]:
    facts = {"kept": found.kept, "pairs": found.pairs, "listed": found.listed}
    if found.against is not None:
        facts["near_other"] = found.near_other
    return facts | ({"recall": str(found.recall)} if found.recall is not None else {})


def pool_of(work: Path, rows: int) -> Pool:
    return write_pool(work / f"pool-{rows}", rows, None)


def near(work: Path, rows: int, threshold: float) -> None:
    timed("near", rows, threshold, lambda: found_in(pool_of(work, rows), threshold))


def sieve(work: Path, rows: int, threshold: float) -> None:
    with patch.object(dedup, "find_near_pairs", side_effect=TooManyPairs):
        timed("sieve", rows, threshold, lambda: found_in(pool_of(work, rows), threshold))


def clusters(work: Path, rows: int, threshold: float) -> None:
    timed("clusters", rows, threshold, lambda: found_in(pool_of(work, rows), threshold, mode="clusters"))


def products(work: Path, rows: int, threshold: float) -> None:
    x = unit(pool_of(work, rows), rows)

    def some() -> dict[str, Any]:
        hits = 0
        for low in range(0, TIMED_ROWS, BLOCK):
            for high in range(0, len(x), BLOCK):
                hits += int((x[low : low + BLOCK] @ x[high : high + BLOCK].T >= threshold).sum())
        return {"hits": hits}

    timed("products", rows, threshold, some, rows / TIMED_ROWS / 2)


def against(work: Path, rows: int, threshold: float) -> None:
    pool, other = pool_of(work, rows), pool_of(work, OTHER_ROWS)
    timed("against", rows, threshold, lambda: found_in(pool, threshold, against=other))


def equal(work: Path, rows: int, threshold: float) -> None:
    pool = pool_of(work, rows)

    def every() -> dict[str, Any]:
        with open_fleet(pool, FleetConfig(backend="local")) as fleet:
            return facts_of(find_equal_items(pool, fleet))

    timed("equal", rows, threshold, every)


def group(work: Path, rows: int, threshold: float) -> None:
    for name, noise in (("jittered", 0.002), ("constant", 0.0)):

        def rows_of(index: int, n: int, noise: float = noise) -> NDArray[np.float32]:
            centre = np.random.default_rng(0).standard_normal(256, dtype=np.float32) / 16
            return centre + noise * np.random.default_rng([1, index]).standard_normal((n, 256), dtype=np.float32)

        pool = made_pool(work / f"{name}-{rows}", rows, 256, {"name": name, "seed": 0}, rows_of)
        timed(name, rows, threshold, lambda pool=pool: found_in(pool, threshold))  # type: ignore[misc]
        timed(f"{name} in clusters", rows, threshold, lambda pool=pool: found_in(pool, threshold, mode="clusters"))  # type: ignore[misc]


CELLS: dict[str, Callable[[Path, int, float], None]] = {
    "near": near, "sieve": sieve, "clusters": clusters, "products": products, "against": against, "equal": equal,
    "group": group,
}  # fmt: skip

if __name__ == "__main__":
    main()
