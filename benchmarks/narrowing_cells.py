"""One search of `benchmarks.narrowing` in a process of its own: `python narrowing_cells.py TOOL FOLDER` prints JSON.

Runs in the environment of the tool, so it imports numpy and nothing else until it knows the tool. FOLDER holds
task.json, vectors.npy float16 [rows, dim], anchors.npy float32 [a, dim], and the same rows as a pool. Neighbours are by
cosine. Memory is `RssAnon`: what the process holds of its own, without files that are mapped.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

STEP = 25_000
"""Rows added at once."""
REPEATS = 5
PROBES = (8, 32, 128)
"""Lists of an inverted file that are looked at."""
PER_LIST = 64
"""Rows that each list's centre is trained on."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """The `neighbours` nearest of `rows` vectors, for every anchor."""

    rows: int
    dim: int
    neighbours: int
    threads: int
    time_limit: float
    """CPU seconds a thread after which no more rows are added to a graph."""


@dataclass
class Found:
    """What a tool took and found: `answers` are {setting, first_s, query_s, query_cpu_s, ids} each."""

    version: str = ""
    rows: int = 0
    build_s: float = 0.0
    build_cpu_s: float = 0.0
    """of all threads together"""
    held_mb: float = 0.0
    answers: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Inputs:
    """A task and where its arrays lie."""

    task: Task
    folder: Path

    @classmethod
    def read(cls, folder: Path) -> Inputs:
        return cls(Task(**json.loads((folder / "task.json").read_text())), folder)

    def anchors(self) -> NDArray[np.float32]:
        return unit(np.load(self.folder / "anchors.npy"))

    def blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """(first row, rows of length 1)."""
        stored = np.load(self.folder / "vectors.npy", mmap_mode="r")
        for start in range(0, self.task.rows, STEP):
            yield start, unit(stored[start : start + STEP].astype(np.float32))

    def sample(self, count: int) -> NDArray[np.float32]:
        """Rows spread over all."""
        stored = np.load(self.folder / "vectors.npy", mmap_mode="r")
        places = np.linspace(0, self.task.rows - 1, min(count, self.task.rows)).astype(np.int64)
        return unit(stored[places].astype(np.float32))


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to length 1."""
    scaled: NDArray[np.float32] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
    return scaled


class Building:
    """The clocks of a build."""

    def __init__(self) -> None:
        self._start, self._cpu = time.perf_counter(), time.process_time()

    @property
    def cpu_s(self) -> float:
        return time.process_time() - self._cpu

    def found(self, version: str, rows: int) -> Found:
        """The beginning of what is found, once the build is over."""
        return Found(version=version, rows=rows, build_s=time.perf_counter() - self._start, build_cpu_s=self.cpu_s)


def timed(setting: str, query: Callable[[], Any]) -> dict[str, Any]:
    """The median of a few runs after a first one."""
    times, work = [], []
    for _ in range(REPEATS + 1):
        start, cpu = time.perf_counter(), time.process_time()
        ids = query()
        times.append(time.perf_counter() - start)
        work.append(time.process_time() - cpu)
    return {
        "setting": setting,
        "first_s": times[0],
        "query_s": float(np.median(times[1:])),
        "query_cpu_s": float(np.median(work[1:])),
        "ids": [np.asarray(own).tolist() for own in ids],
    }


# -- tools: each begins with `inputs` and the memory that is held before, and notes what it finds -------------------


def raysal_exact(inputs: Inputs) -> Found:
    """The pass over the pool. Opening counts as building; norms are found in the first query."""
    import torch

    from raysal import __version__
    from raysal.fleet import LocalFleet, plan_partitions
    from raysal.pool import Pool
    from raysal.scoring.sweep import Search, SweepRequest, sweep

    torch.set_num_threads(inputs.task.threads)
    request = SweepRequest(searches=(Search(anchors=inputs.anchors(), each=inputs.task.neighbours),))
    building = Building()
    fleet = LocalFleet(plan_partitions(Pool(inputs.folder / "pool"), 1, threads=inputs.task.threads))
    found = building.found(__version__, inputs.task.rows)
    found.answers.append(timed("exact", lambda: [ids for ids, _ in sweep(fleet, None, request).searches[0].of_each]))
    return found


def raysal_index(kind: str) -> Callable[[Inputs], Found]:
    """An index of `raysal.index`, tuned by itself to the recall it is asked for."""

    def search(inputs: Inputs) -> Found:
        import torch

        from raysal import __version__
        from raysal.fleet import LocalFleet, plan_partitions
        from raysal.index import build_index, index_neighbours, plan_index
        from raysal.pool import Pool

        torch.set_num_threads(inputs.task.threads)
        pool = Pool(inputs.folder / "pool")
        fleet = LocalFleet(plan_partitions(pool, 1, threads=inputs.task.threads))
        building = Building()
        plan = plan_index([chunk.rows for chunk in pool.chunks], pool.dim, kind=kind)
        index = build_index(pool, fleet, plan, fresh=True)
        found = building.found(__version__, inputs.task.rows)
        anchors, each = inputs.anchors(), inputs.task.neighbours
        said = index.recall.get(str(each), max(index.recall.values()))
        setting = f"{index.lists} lists, {index.probes} probed, its own word on recall {said:.3f}"
        found.answers.append(timed(setting, lambda: [i for i, _ in index_neighbours(fleet, index, anchors, each)]))
        return found

    return search


def faiss_index(factory: str) -> Callable[[Inputs], Found]:
    """FAISS as it comes: inner products of rows of length 1. `{lists}` is about 4 sqrt(rows)."""

    def search(inputs: Inputs) -> Found:
        import faiss

        task, anchors = inputs.task, inputs.anchors()
        faiss.omp_set_num_threads(task.threads)
        lists = 2 ** round(np.log2(4 * task.rows**0.5))
        building = Building()
        index = faiss.index_factory(task.dim, factory.format(lists=lists), faiss.METRIC_INNER_PRODUCT)
        if not index.is_trained:
            index.train(inputs.sample(PER_LIST * lists))
        for _, rows in inputs.blocks():
            index.add(rows)
        found = building.found(faiss.__version__, index.ntotal)
        for probes in PROBES if "IVF" in factory else (0,):
            if probes:
                index.nprobe = probes  # type: ignore[attr-defined, unused-ignore]
            setting = f"{lists} lists, {probes} probed" if probes else "exact"
            found.answers.append(timed(setting, lambda: index.search(anchors, task.neighbours)[1]))
        return found

    return search


def hnswlib_graph(inputs: Inputs) -> Found:
    """As AnchorAL built it; `ef` 50 is what its runs had in truth, for want of being set again after loading."""
    import hnswlib  # type: ignore[import-untyped, import-not-found, unused-ignore]

    task, anchors = inputs.task, inputs.anchors()
    building = Building()
    index = hnswlib.Index(space="cosine", dim=task.dim)
    index.init_index(max_elements=task.rows, M=64, ef_construction=200, random_seed=42)
    index.set_num_threads(task.threads)
    added = 0
    for start, rows in inputs.blocks():
        if building.cpu_s / task.threads > task.time_limit:
            break
        index.add_items(rows, np.arange(start, start + len(rows)))
        added = start + len(rows)
        print(f"{added:,} rows, {building.cpu_s:.0f} CPU s", file=sys.stderr, flush=True)
    found = building.found(version("hnswlib"), added)
    for ef in (200, 50):
        index.set_ef(ef)
        found.answers.append(timed(f"ef = {ef}", lambda: index.knn_query(anchors, task.neighbours)[0]))
    return found


TOOLS: dict[str, Callable[[Inputs], Found]] = {
    "raysal exact": raysal_exact,
    "raysal ivf_sq8": raysal_index("ivf_sq8"),
    "faiss Flat": faiss_index("Flat"),
    "faiss IVF-Flat": faiss_index("IVF{lists},Flat"),
    "faiss IVF-SQ8": faiss_index("IVF{lists},SQ8"),
    "hnswlib": hnswlib_graph,
}
PEERS = ("hnswlib",)
"""Tools of the other environment."""


# -- memory ----------------------------------------------------------------------------------------------------------


def memory_mb(name: str) -> float:
    """A field of /proc/self/status, such as RssAnon. Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


class OwnMemory:
    """Watches the most that this process holds of its own, MB, looking every few milliseconds."""

    def __init__(self) -> None:
        self.start = self.most = memory_mb("RssAnon")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._over.wait(0.005):
            self.most = max(self.most, memory_mb("RssAnon"))

    def __enter__(self) -> OwnMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def main() -> None:
    tool, folder = sys.argv[1], Path(sys.argv[2])
    inputs = Inputs.read(folder)
    with OwnMemory() as memory:
        found = TOOLS[tool](inputs)
        held = memory_mb("RssAnon")
    print(json.dumps({**found.__dict__, "held_mb": held, "start_mb": memory.start, "peak_mb": memory.most}))


if __name__ == "__main__":
    main()
