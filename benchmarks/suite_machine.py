"""What the machine can do: the rates that stand beside the ratios of `benchmarks.suite`."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from benchmarks.machine import describe
from benchmarks.suite_rows import Numbers, Setting

BLOCK, DIM, COLUMNS = 4096, 256, 512


def rates(setting: Setting) -> Numbers:
    """Products in single and double precision, copies in memory and to the disk, the start of Python and of torch."""
    blocks, turns = setting.sized(64, 4), setting.turns(3)
    found: Numbers = {"name": describe()}
    for name, kind in (("float32", torch.float32), ("float64", torch.float64)):
        rows, columns = torch.randn(BLOCK, DIM, dtype=kind), torch.randn(DIM, COLUMNS, dtype=kind)
        out = torch.empty(BLOCK, COLUMNS, dtype=kind)
        seconds = median(lambda: [torch.mm(rows, columns, out=out) for _ in range(blocks)], turns)  # noqa: B023
        found[f"gemm_{name}_gflops"] = 2 * blocks * BLOCK * DIM * COLUMNS / seconds / 1e9
    size = setting.sized(2**28, 2**22)
    source, target = torch.ones(size, dtype=torch.uint8), torch.zeros(size, dtype=torch.uint8)
    found["copy_gbytes"] = size / median(lambda: target.copy_(source), turns) / 1e9
    found["write_gbytes"] = size / median(lambda: write(setting, source.numpy()), turns) / 1e9
    for name, code in (("python_s", "pass"), ("import_torch_s", "import torch")):
        found[name] = median(partial(subprocess.run, [sys.executable, "-c", code], check=True), turns)
    return found


def write(setting: Setting, data: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    """To a file, and to the disk."""
    path = setting.own / "written"
    with path.open("wb") as file:
        file.write(data.data)
        file.flush()
        os.fsync(file.fileno())
    path.unlink()


def median(work: Callable[[], object], turns: int) -> float:
    """Seconds, after one run that warms up."""
    times = []
    for _ in range(turns + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])
