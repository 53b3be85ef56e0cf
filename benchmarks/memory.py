"""Does the driver's memory grow with the pool?

    python -m benchmarks.memory [--rows 100000 1000000] [--dim 256] [--json]

For each pool size a fresh process runs two rounds on Ray: a cold start of 50 labels, then AnchorAL narrowing and
BADGE. Reported is the driver's peak resident memory above what it held before it opened the pool. The partitions live
in Ray's own processes and are not counted; the vectors are in the page cache.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.machine import describe, random_pool

LIMIT_MB = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs=2, default=[100_000, 1_000_000])
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    peaks: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for rows in args.rows:
            random_pool(Path(folder) / f"pool-{rows}", rows, args.dim)
            peaks[rows] = in_fresh_process(Path(folder), rows)
    small, large = (peaks[rows] for rows in args.rows)
    result = {"machine": describe(), "dim": args.dim, "peak_mb": peaks, "difference_mb": large - small}
    if args.json:
        print(json.dumps(result))
        return
    print(result["machine"])
    for rows, peak in peaks.items():
        print(f"{rows:>9} rows: the driver peaks {peak:.1f} MB above its start")
    print(f"difference {large - small:.1f} MB, wanted below {LIMIT_MB}")


def in_fresh_process(folder: Path, rows: int) -> float:
    """Peak MB of one driver."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=driver, args=(folder, rows, theirs))
    process.start()
    peak: float = mine.recv()
    process.join()
    return peak


def driver(folder: Path, rows: int, out: Connection) -> None:
    """Two rounds as a user runs them."""
    import ray
    import sklearn.cluster  # noqa: F401  what the cold start imports is not the pool's doing
    import torch  # noqa: F401

    from raysal.fleet.ray_fleet import connect
    from raysal.rounds.session import Session

    connect()
    start = resident_mb("VmRSS")
    with Session(
        folder / f"run-{rows}",
        pool=folder / f"pool-{rows}",
        select="badge",
        narrow={"name": "anchoral", "subpool": 2000},
        fleet={"backend": "ray", "partitions": 2},
    ) as session:
        first = session.query(50)
        session.tell({key: f"class-{i % 5}" for i, key in enumerate(first.keys)})
        session.query(50)
        peak = resident_mb("VmHWM")
    ray.shutdown()
    out.send(peak - start)


def resident_mb(field: str) -> float:
    """VmRSS or VmHWM of this process. Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


if __name__ == "__main__":
    main()
