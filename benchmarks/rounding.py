"""What rounding to float16 does to neighbours, and what it costs the embed job to look.

    python -m benchmarks.rounding                       # neighbours against the offset of all vectors
    python -m benchmarks.rounding --before ../before    # embedding ready vectors, beside the build in that checkout

`neighbours`: 2,000 vectors, Gaussian or around 20 centres, plus an offset that all have in common. The table compares
the share that rounding changes of the median vector's squared distance to the middle one (the embed job counts it,
`raysal.embedding.rounding`) with the share of the 10 nearest neighbours that are the true ones after rounding.

`cost`: 200,000 vectors of 64 numbers from an Arrow file. CPU seconds of `raysal.embed`, each build in processes of its
own, in turn.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from os import environ
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.machine import describe

ROWS = 2_000
JOB = """
import sys, time, raysal
from raysal.embedding import job
from raysal.sources import table  # what the call imports is no part of it
began = time.process_time()
raysal.embed(sys.argv[1], out=sys.argv[2])
print(time.process_time() - began)
"""
Matrix = NDArray[np.floating[Any]]


def nearest(x: Matrix, k: int = 10) -> NDArray[np.int64]:
    """The k nearest other rows of each row [n, k]."""
    x = x - x.mean(0)
    squares = (x * x).sum(1)
    gaps = squares[:, None] + squares - 2 * x @ x.T
    np.fill_diagonal(gaps, np.inf)
    return np.argsort(gaps, 1, kind="stable")[:, :k]


def neighbours() -> Iterator[str]:
    """Lines of the table: data, numbers a vector, offset, share of the distance, right neighbours."""
    random = np.random.default_rng(0)
    for name in ("gaussian", "20 centres"):
        for dim in (2, 16, 256):
            x = random.standard_normal((ROWS, dim))
            if name != "gaussian":
                x += 3 * random.standard_normal((20, dim))[random.integers(0, 20, ROWS)]
            true = nearest(x)
            for offset in (0, 30, 100, 300, 1000, 10000):
                given = x + offset
                half = given.astype(np.float16).astype(float)
                middle = np.abs(given - np.median(given, 0)).sum(1).argmin()
                error, gap = half - given, given - given[middle]
                kept = np.delete((gap**2).sum(1), middle)
                share = np.median(np.delete(((error - error[middle]) ** 2).sum(1), middle) / kept)
                right = np.mean([len({*a} & {*b}) for a, b in zip(true, nearest(half), strict=True)]) / 10
                yield f"{name:<12}{dim:>4} numbers  offset {offset:>6}  share {share:.1e}  right {right:.3f}"


def cost(before: Path, repeats: int) -> str:
    """CPU seconds of the job before and after, and the ratio of the medians."""
    found: dict[Path, list[float]] = {before.absolute(): [], Path(__file__).resolve().parents[1]: []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "items.arrow"
        x = np.random.default_rng(0).standard_normal((200_000, 64)).astype(np.float32)
        rows = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), 64)
        table = pa.table({"key": [str(i) for i in range(len(x))], "vector": rows})
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        for turn in range(repeats):
            for tree, seconds in found.items():
                out = Path(folder) / f"pool-{turn}-{len(seconds)}-{tree.name}"
                command = [sys.executable, "-c", JOB, str(path), str(out)]
                settings = {**environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
                done = subprocess.run(command, env=settings, check=True, capture_output=True, text=True)
                seconds.append(float(done.stdout))
    old, new = (sorted(seconds) for seconds in found.values())
    ratio = statistics.median(new) / statistics.median(old)
    return f"before {statistics.median(old):.2f} s ({old}), after {statistics.median(new):.2f} s ({new}): {ratio:.2f}"


def main() -> None:
    """Print the table, or the cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="a checkout of the build to compare the job with")
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    print(describe())
    for line in neighbours() if asked.before is None else [cost(asked.before, asked.repeats)]:
        print(line, flush=True)


if __name__ == "__main__":
    main()
