"""What it costs to make a pool of ready vectors, and to let it grow: `raysal embed` of Parquet files, in processes.

    python -m benchmarks.pools_growth [--rows 10000000] [--dim 128] [--files 10] [--share 0.01]
        [--folder DIR] [--out FILE]

`ingest` embeds files of `--rows` vectors in all, beside pyarrow reading the same files and writing them back as Arrow
(each batch as it comes, and a flush at the end). `append` embeds the folder again with one more file of `--share` of
the rows; `nothing` embeds it once more; `touched` after the times of one file changed. `removed` takes a thousand
items out, and `compacted` rewrites the chunks that held them. Wanted: `append` takes at most 0.03 of `ingest`, and
`ingest` at most 3 times pyarrow.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.machine import describe

PEAK = """
import sys
from pathlib import Path
from raysal.cli import main
sys.argv[0] = "raysal"
try:
    sys.exit(main())
finally:
    lines = Path("/proc/self/status").read_text().splitlines()
    print(next(line.split()[1] for line in lines if line.startswith("VmHWM")), file=sys.stderr)
"""
"""`ru_maxrss` would begin with that of the process that starts it."""
COPY = """
import os, sys, pyarrow as pa, pyarrow.parquet as pq
from pathlib import Path
for file in sorted(Path(sys.argv[1]).glob("*.parquet")):
    with pq.ParquetFile(file) as source, pa.OSFile(sys.argv[2], "wb") as sink:
        with pa.ipc.new_file(sink, source.schema_arrow) as writer:
            for batch in source.iter_batches(65536):
                writer.write_batch(batch)
    with open(sys.argv[2], "rb") as written:
        os.fsync(written.fileno())
"""


def write_rows(path: Path, first: int, count: int, dim: int) -> None:
    """A Parquet file of made-up vectors, in row groups of 65,536."""
    schema = pa.schema([("key", pa.string()), ("vector", pa.list_(pa.float32(), dim))])
    with pq.ParquetWriter(path, schema, compression="none") as writer:
        for start in range(first, first + count, 65_536):
            rows = min(65_536, first + count - start)
            flat = np.random.default_rng([7, start]).normal(size=rows * dim).astype(np.float32)
            keys = [f"item/{number:09d}" for number in range(start, start + rows)]
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(flat), dim)
            writer.write_table(pa.table({"key": keys, "vector": vectors}, schema=schema))


def raysal(*words: object) -> tuple[float, float]:
    """Seconds and peak MB of a command in a process of its own."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", PEAK, *map(str, words)], check=True, capture_output=True, text=True)
    return time.perf_counter() - start, int(done.stderr.split()[-1]) / 1024


def copied(source: Path, target: Path) -> float:
    """Seconds in which pyarrow reads the files and writes them."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", COPY, str(source), str(target)], check=True)
    return time.perf_counter() - start


def measure(folder: Path, rows: int, dim: int, files: int, share: float) -> dict[str, float]:
    """Seconds and peak memory of each step."""
    source, pool = folder / "source", folder / "pool"
    source.mkdir()
    for number in range(files):
        first, stop = number * rows // files, (number + 1) * rows // files
        write_rows(source / f"{number:04d}.parquet", first, stop - first, dim)
    found: dict[str, float] = {}
    embed = ("embed", source, "--out", pool)

    def note(name: str, cost: tuple[float, float]) -> None:
        found[f"{name}, s"], found[f"{name}, peak MB"] = cost
        print(f"{name:<10} {cost[0]:8.2f} s {cost[1]:8.0f} MB", flush=True)

    found["pyarrow, s"] = copied(source, folder / "copy.arrow")
    note("ingest", raysal(*embed))
    found["pyarrow again, s"] = copied(source, folder / "copy.arrow")
    write_rows(source / "9999.parquet", rows, int(rows * share), dim)
    note("append", raysal(*embed))
    note("nothing", raysal(*embed))
    os.utime(source / "0000.parquet")
    note("touched", raysal(*embed))
    (folder / "keys.txt").write_text("".join(f"item/{number:09d}\n" for number in range(0, rows, rows // 1000)))
    note("removed", raysal("pool", "remove", pool, "--keys", folder / "keys.txt"))
    note("compacted", raysal("pool", "compact", pool))
    found["ingest over pyarrow"] = found["ingest, s"] / min(found["pyarrow, s"], found["pyarrow again, s"])
    found["append over ingest"] = found["append, s"] / found["ingest, s"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--files", type=int, default=10)
    parser.add_argument("--share", type=float, default=0.01)
    parser.add_argument("--folder", type=Path, help="where the files are made; they are deleted in the end")
    parser.add_argument("--out", type=Path, help="a JSON file of the numbers")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        found = measure(Path(folder), asked.rows, asked.dim, asked.files, asked.share)
    print(json.dumps(found, indent=2))
    if asked.out is not None:
        asked.out.write_text(
            json.dumps({"machine": describe(), "rows": asked.rows, "dim": asked.dim, **found}, indent=2)
        )


if __name__ == "__main__":
    main()
