"""Cells of `benchmarks.suite`: ready vectors to pools, and memory."""

from __future__ import annotations

import hashlib
import os
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import hard_pool, memory
from benchmarks.narrowing_cells import OwnMemory
from benchmarks.suite_rows import CannotMeasure, Numbers, Setting, alone
from benchmarks.suite_rows_selection import random_in

DIM = 256


# -- ready vectors ---------------------------------------------------------------------------------------------------


def parquet(setting: Setting) -> Numbers:
    """Beside pyarrow's own reading of the file into memory."""
    import pyarrow.parquet as pq

    path = tables_of(setting) / "vectors.parquet"
    return embedded(setting, path, path, "reads", lambda: pq.read_table(path))


def arrow(setting: Setting) -> Numbers:
    """Beside a copy of the file to the disk: pyarrow only maps it."""
    path = tables_of(setting) / "vectors.arrow"
    return embedded(setting, path, path, "copies", lambda: copy(path, setting.own / "copy"))


def npy(setting: Setting) -> Numbers:
    """The file by its path if this build reads such files, else its mapped array."""
    path = tables_of(setting) / "vectors.npy"
    return embedded(setting, path, npy_source(path), "copies", lambda: copy(path, setting.own / "copy"))


def npy_source(path: Path) -> Any:
    from raysal.errors import SourceError
    from raysal.sources import Memory, detect_source

    try:
        return detect_source(path)
    except SourceError:
        vectors = np.load(path, mmap_mode="r")
        return Memory(vectors=vectors, keys=[f"row-{i}" for i in range(len(vectors))])


def tables_of(setting: Setting) -> Path:
    """A folder with the same rows as .parquet, .arrow and .npy; Parquet as pyarrow writes it by default."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = setting.sized(400_000, 3_000)
    folder = setting.shared / f"tables-{rows}"
    if not folder.exists():
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        vectors = np.concatenate(list(hard_pool.blocks(rows, DIM)))
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM)
        table = pa.table({"key": [f"row-{i}" for i in range(rows)], "vector": column})
        pq.write_table(table, part / "vectors.parquet")
        with pa.ipc.new_file(part / "vectors.arrow", table.schema) as file:
            file.write_table(table, max_chunksize=65_536)
        np.save(part / "vectors.npy", vectors)
        part.rename(folder)
    return folder


def embedded(setting: Setting, path: Path, source: Any, name: str, bare: Callable[[], object]) -> Numbers:
    """Seconds of `raysal.embed`, in this process, and of the yardstick before and after it."""
    import raysal
    from raysal.sources import Memory

    out, first = setting.own / f"embedded-{path.suffix[1:]}", setting.own / "embedded-first"
    for place in (out, first):
        shutil.rmtree(place, ignore_errors=True)
    small = np.eye(4, dtype=np.float32)
    raysal.embed(Memory(vectors=small, keys=["a", "b", "c", "d"]), out=first)  # imports what it needs
    path.read_bytes()  # so that both find it in memory
    times = [seconds_of(bare), seconds_of(bare)]
    embed_s = seconds_of(lambda: raysal.embed(source, out=out))
    times.append(seconds_of(bare))
    pool = raysal.open_pool(out)
    found = {"embed_s": embed_s, "bare_s": statistics.median(times), "rows_a_second": len(pool) / embed_s}
    digest = (out / "vectors" / "00000.arrow").read_bytes()
    shutil.rmtree(out)
    return {**found, name: embed_s / found["bare_s"], "picks": {"chunk": hashlib.sha256(digest).hexdigest()[:16]}}


def copy(path: Path, to: Path) -> None:
    """Read and write, and to the disk."""
    with path.open("rb") as source, to.open("wb") as target:
        shutil.copyfileobj(source, target, 2**22)
        target.flush()
        os.fsync(target.fileno())
    to.unlink()


def seconds_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


# -- memory ----------------------------------------------------------------------------------------------------------


def memory_of_select(setting: Setting) -> Numbers:
    """The most that a process holds of its own, mapped files left out, in `raysal.select` by BADGE. It is not drawn out
    from fewer rows: freed arrays below 32 MB may stay with the process, larger ones go back."""
    rows = setting.sized(10_000_000, 6_000)
    pool = random_in(setting, f"memory-{rows}", rows, 128, decay=0.5)
    found: Numbers = alone("benchmarks.suite_rows_pools:one_select", pool.path, rows)
    return {**found, "of_file": found["own_mb"] / (rows * 128 * 2 / 2**20), "picks": {"badge": found["picks"]}}


def one_select(path: str, rows: str) -> Numbers:
    """For `memory_of_select`, in a process of its own, whose memory it is about."""
    import raysal

    labels = {f"row-{i}": f"class-{i % 5}" for i in range(0, int(rows), max(int(rows) // 300, 1))}
    with OwnMemory() as own:
        start = time.perf_counter()
        batch = raysal.select(path, k=100, strategy="badge", labels=labels)
        seconds = time.perf_counter() - start
    picks = hashlib.sha256("\n".join(batch["key"].to_pylist()).encode()).hexdigest()[:16]
    return {"own_mb": own.most, "start_mb": own.start, "select_s": seconds, "picks": picks}


def memory_of_driver(setting: Setting) -> Numbers:
    """As `benchmarks.memory`: two rounds on Ray, over a pool of 100,000 rows and over one of 1,000,000."""
    need_ray()
    peaks = []
    for rows in (setting.sized(100_000, 2_000), setting.sized(1_000_000, 4_000)):
        name = f"pool-{rows}"
        pool = random_in(setting, name, rows, DIM)
        link = setting.own / name
        if not link.exists():
            link.symlink_to(pool.path)
        shutil.rmtree(setting.own / f"run-{rows}", ignore_errors=True)
        peaks.append(memory.in_fresh_process(setting.own, rows))
    return {"small_mb": peaks[0], "large_mb": peaks[1], "difference_mb": peaks[1] - peaks[0],
            "growth": peaks[1] / peaks[0]}  # fmt: skip


def need_ray() -> None:
    from importlib.util import find_spec

    if find_spec("ray") is None:
        raise CannotMeasure("Ray is not installed; `make setup` brings it")
