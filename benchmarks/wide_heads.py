"""What does the first head of a process cost, from few labels of wide features, and what does it take in memory?

    python -m benchmarks.wide_heads [--dims 1280 4096 8192] [--labels 30] [--repeats 3] [--out wide.json]

Each fit is in a process of its own, from a checkout, so that two builds can be compared: run it with the other checkout
in PYTHONPATH. Seconds stand beside those of `import torch` in the same process; megabytes are those beyond what the
process held before the fit. `select` is `raysal.select` by `random` from a pool of 1,000 such vectors with the labels.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PROGRAM = """
import json, resource, sys, time
begin = time.perf_counter()
import torch
imported = time.perf_counter() - begin
import numpy as np
import raysal
from raysal.models.trainers.base import TrainingData
from raysal.models.trainers.logistic import Logistic
from benchmarks.machine import random_pool

dim, labels, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
rng = np.random.default_rng(0)
x, names = rng.normal(size=(labels, dim)).astype(np.float32), [f"class-{i % 5}" for i in range(labels)]
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
def seconds(work):
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
def fit():
    return Logistic().fit(TrainingData(features=x, labels=names, classes=sorted(set(names))))
before = peak()
found = {"import_torch_s": imported, "first_s": seconds(fit), "next_s": seconds(fit), "mb": peak() - before}
found["file_mb"] = len(fit().content()) / 2**20
from pathlib import Path
pool = random_pool(Path(folder) / f"pool-{dim}", 1000, dim)
known = {f"row-{i}": name for i, name in enumerate(names)}
found["select_random_s"] = seconds(lambda: raysal.select(pool, k=20, strategy="random", labels=known))
print(json.dumps(found))
"""


def measure(dims: list[int], labels: int = 30, repeats: int = 3) -> dict[str, dict[str, float]]:
    """Medians by the number of features; `first` and `next` are ratios to `import torch`."""
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for dim in dims:
            runs: list[dict[str, Any]] = []
            for _ in range(repeats):
                command = [sys.executable, "-c", PROGRAM, str(dim), str(labels), folder]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                runs.append(json.loads(done.stdout.splitlines()[-1]))
            one = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
            one |= {f"{name}_ratio": one[f"{name}_s"] / one["import_torch_s"] for name in ("first", "next")}
            found[str(dim)] = one
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dims", type=int, nargs="+", default=[1280, 4096, 8192])
    parser.add_argument("--labels", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write everything as JSON")
    args = parser.parse_args()
    found = measure(args.dims, args.labels, args.repeats)
    print("| features | first head | next head | memory | file | select by random | import torch |")
    print("|---|---|---|---|---|---|---|")
    for dim, one in found.items():
        times = f"{one['first_s']:.3f} s | {one['next_s']:.3f} s | {one['mb']:.0f} MB | {one['file_mb']:.1f} MB"
        print(f"| {dim} | {times} | {one['select_random_s']:.3f} s | {one['import_torch_s']:.2f} s |")
    if args.out:
        args.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
