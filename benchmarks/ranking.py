"""How long ranking takes, and what it takes to read a ranking, at any size.

    python -m benchmarks.ranking make FOLDER --rows 50000000    # the writer's own steps over made-up scores; resumable
    python -m benchmarks.ranking read FOLDER                    # a process of its own: open, pages, find

A pool of so many vectors is not needed: blocks of ids, keys and scores go the way that a partition's go after they are
scored, so `make` times all but the product with the head, which benchmarks/sweep.py times. `make` goes on where it was
stopped.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from raysal.arrow_values import array_of
from raysal.commits import Staged, stage_file
from raysal.ranking.layout import (
    CUTS,
    ID_FILE,
    RUN_FILE,
    STATES,
    Cuts,
    Manifest,
    Plan,
    key_files,
    key_parts,
    page_parts,
    run_parts,
    versions_of,
    write_batch,
)

CHUNK_ROWS = 65_536


def plan_of(rows: int) -> Plan:
    return Plan(
        pool="made up", items=rows, chunks=-(-rows // CHUNK_ROWS), chunk_rows=CHUNK_ROWS, head="made up",
        head_version=0, labels=100, link="softmax", classes=("rest", "rare"), score="log_odds", novelty=None,
        target=("rare",), top=None, draws=None, seed=None, states="", held_out=(7, 0.1),
    )  # fmt: skip


def made_up(unit: int, low: int, high: int) -> tuple[Any, Any, Any]:
    """(ids, keys, values) of a unit, a function of its number. Scores are normal, in millionths: some are equal."""
    from raysal.rng import generator

    ids = np.arange(low, high)
    digits = np.char.mod("images/%09d.jpg", ids).astype("S")
    width = digits.dtype.itemsize
    offsets = np.arange(len(ids) + 1, dtype=np.int32) * width
    keys = pa.StringArray.from_buffers(len(ids), pa.py_buffer(offsets), pa.py_buffer(digits.tobytes()))
    score = np.round(generator(unit).normal(-6, 3, len(ids)), 4).astype(np.float32)
    values = np.stack([score, 1 / (1 + np.exp(-score)), score > 0], 1).astype(np.float32)
    return ids, pa.chunked_array([keys]), values


def own_memory() -> int:
    """MB of this process that are not mapped files, now."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon"))) // 1024


def timed(what: str, seconds: dict[str, float], work: Iterator[int] | Callable[[], object]) -> None:
    started = time.perf_counter()
    if callable(work):
        work()
    else:
        for _ in work:
            pass
    seconds[what] = seconds.get(what, 0.0) + time.perf_counter() - started


def make(folder: Path, rows: int, limit: float) -> dict[str, Any]:
    from raysal.fleet.partition import Partition
    from raysal.ranking.job import find_cuts
    from raysal.ranking.partition import (
        MERGED_ROWS,
        Job,
        best_first,
        places_of,
        run_columns,
        stage_keys,
        stage_pages,
        writer_of,
    )

    started = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    version = folder / "versions" / "0000"
    plan = plan_of(rows)
    if not version.exists():
        Manifest(pool="made up", encoder="made up", place="nowhere").begin(folder)
        version.mkdir(parents=True)
        nobody = pa.array([], pa.int8())
        columns = {"id": pa.array([], pa.int64()), "state": nobody, "asked": nobody}
        write_batch(version / STATES, columns)
        plan.write(version)
    nothing = np.empty(0, np.int64)
    job = Job(str(version), plan, None, None, None, nothing, nothing.astype(np.int8), nothing.astype(np.int8))
    runs, pages, keys = run_parts(version), page_parts(version), key_parts(version)
    for parts in (runs, pages, keys):
        parts.begin()

    class Alone:
        """A fleet of one partition without rows of its own."""

        size = 1
        partition = Partition.of_items(np.arange(1), np.zeros((1, 4), np.float16), "cosine")

        def reset(self) -> None:
            self.partition.reset()

        def each(self, fn: Any, *args: Any) -> list[Any]:
            return [fn(self.partition, *args)]

    fleet, done = Alone(), {"runs": 0, "pages": 0, "keys": 0}
    seconds = dict[str, float]()
    memory = [own_memory()]

    def units() -> Iterator[int]:
        for unit, chunks in enumerate(plan.units()):
            if runs.record_of(unit).exists() or time.perf_counter() - started > limit:
                continue
            ids, texts, values = made_up(unit, chunks.start * CHUNK_ROWS, min(chunks.stop * CHUNK_ROWS, rows))
            begun = time.perf_counter()
            places = places_of(values[:, 0], ids)
            order = best_first(places, ids)
            columns = run_columns(ids, places, texts, values, job, order)
            by_id = {"id": array_of(ids, pa.int64()), "place": array_of(places, pa.uint64())}
            files = (
                stage_file(version, RUN_FILE.format(unit), writer_of(columns)),
                stage_file(version, ID_FILE.format(unit), writer_of(by_id)),
            )
            runs.commit(Staged(unit, len(ids), files))
            seconds["runs"] = seconds.get("runs", 0.0) + time.perf_counter() - begun
            done["runs"] += len(ids)
            memory.append(own_memory())
            yield unit

    for _ in units():
        pass
    if not runs.missing(len(plan.units())):
        if not (version / CUTS).exists():
            timed("cuts", seconds, lambda: find_cuts(job, fleet).write(version))  # type: ignore[arg-type]
        cuts = Cuts.read(version)
        step = MERGED_ROWS // plan.page_rows
        left = pages.missing(plan.pages)
        for place in range(0, len(left), step):
            if time.perf_counter() - started > limit:
                break
            group = left[place : place + step]

            def merge(group: list[int] = group) -> None:
                for staged in stage_pages(fleet.partition, job, cuts, (range(group[0], group[-1] + 1),)):
                    pages.commit(staged)
                    done["pages"] += staged.rows
                    memory.append(own_memory())

            timed("pages", seconds, merge)
        for file in keys.missing(key_files(plan)):
            if time.perf_counter() - started > limit:
                break

            def index(file: int = file) -> None:
                for staged in stage_keys(fleet.partition, job, (file,)):
                    keys.commit(staged)
                    done["keys"] += staged.rows
                    memory.append(own_memory())

            timed("keys", seconds, index)
    disk = {
        kind: sum(path.stat().st_size for path in (version / kind).glob("*.arrow"))
        for kind in ("runs", "ids", "pages", "keys")
    }
    finished = not pages.missing(plan.pages) and not keys.missing(key_files(plan))
    if finished:
        shutil.rmtree(version / "runs", ignore_errors=True)
    return {
        "rows": rows,
        "finished": finished,
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "rows a second": {name: round(count / seconds[name]) for name, count in done.items() if seconds.get(name)},
        "disk MB": {name: size // 10**6 for name, size in disk.items()},
        "peak MB, mapped files included": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "MB without mapped files, after a part": max(memory, default=0),
    }


def read(folder: Path) -> dict[str, Any]:
    """Each in a process of its own, after the page cache was dropped from the files where the system lets us."""
    program = """
import json, resource, sys, time
started = time.perf_counter()
from raysal.ranking.reading import Ranking
imported = time.perf_counter()
found = Ranking.open(sys.argv[1])
opened = time.perf_counter()
what, place = sys.argv[2], int(sys.argv[3])
if what == "page":
    table = found.page(place, 200)
    assert table.num_rows == 200, table.num_rows
elif what == "id":
    assert found.find(place) is not None
else:
    assert found.find(f"images/{place:09d}.jpg") is not None
done = time.perf_counter()
print(json.dumps({"import": imported - started, "open": opened - imported, what: done - opened,
    "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, "torch": "torch" in sys.modules}))
"""
    rows = Plan.read(next(versions_of(folder))).items
    found: dict[str, Any] = {"rows": rows}
    asked = (("page", 0), ("page", rows // 2), ("page", rows - 200), ("id", rows // 3), ("key", rows // 3))
    for what, place in asked:
        for warm in (False, True):
            if not warm:
                drop_cache(folder)
            words = [sys.executable, "-c", program, str(folder), what, str(place)]
            done = subprocess.run(words, check=True, capture_output=True, text=True)
            said = {name: round(v, 4) if isinstance(v, float) else v for name, v in json.loads(done.stdout).items()}
            found[f"{what} {place}{' again' if warm else ''}"] = said
    return found


def drop_cache(folder: Path) -> None:
    """Tell the system that it need not keep these files in memory."""
    import os

    for path in folder.rglob("*.*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.fdatasync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "read"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds after which no further part is begun")
    given = parser.parse_args()
    found = make(given.folder, given.rows, given.limit) if given.what == "make" else read(given.folder)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
