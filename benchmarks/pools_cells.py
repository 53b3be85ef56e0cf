"""One measurement of `benchmarks.pools`, in a process of its own: `python pools_cells.py PART POOL [KEY ...]`.

It is run with the code of any checkout, so it imports raysal alone. It prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from raysal.pool import Pool

Numbers = dict[str, float]


def opened(path: Path, keys: Sequence[str]) -> Numbers:
    """Seconds to open a pool whose records lie in the page cache, and to ask who it is."""
    del keys
    Pool(path)
    begun = time.perf_counter()
    pool = Pool(path)
    seconds = time.perf_counter() - begun
    _ = pool.fingerprint, len(pool)
    return {"open": seconds, "open and fingerprint": time.perf_counter() - begun}


def found(path: Path, keys: Sequence[str]) -> Numbers:
    """Seconds to find ten keys: first from the disk, then from the page cache; and what was read from the disk."""
    pool = Pool(path)
    forget(path)
    before, begun = read_from_disk(), time.perf_counter()
    ids = pool.ids_of(list(keys))
    first, read = time.perf_counter() - begun, read_from_disk() - before
    again = []
    for _ in range(5):
        begun = time.perf_counter()
        assert pool.ids_of(list(keys)) == ids
        again.append(time.perf_counter() - begun)
    return {"first": first, "again": sorted(again)[2], "KiB read": read / 1024}


def told(path: Path, keys: Sequence[str]) -> Numbers:
    """Seconds of `Session.tell` of ten labels, of keys that the ledger does not know, in a new run."""
    from raysal import Session

    with tempfile.TemporaryDirectory() as run, Session(Path(run) / "run", path, select="random") as session:
        session.tell({keys[0]: "class-0"})  # what is imported and opened once
        begun = time.perf_counter()
        session.tell({key: f"class-{place % 3}" for place, key in enumerate(keys[1:])})
        return {"tell": time.perf_counter() - begun}


def forget(path: Path) -> None:
    """Let the page cache forget the items and keys of a pool."""
    os.sync()
    for kind in ("items", "keys"):
        for file in (path / kind).glob("*"):
            descriptor = os.open(file, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def read_from_disk() -> int:
    """Bytes that this process had read from a disk so far; none from a file system in memory. Linux only."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("read_bytes")).split()[1])


PARTS: dict[str, Callable[[Path, Sequence[str]], Numbers]] = {"open": opened, "find": found, "tell": told}


if __name__ == "__main__":
    part, pool, *words = sys.argv[1:]
    print(json.dumps(PARTS[part](Path(pool), words)))
