"""What one waits for with a pool that one keeps: to open it, and to find and tell a few of its items.

    python -m benchmarks.pools [--parts open find tell index] [--items 1000 1000000 10000000] [--chunks 10000]
        [--before CHECKOUT] [--repeats 5] [--folder DIR] [--out FILE]

Pools are made up: vectors of two numbers, keys of some ten letters, chunks of 65,536 items. `open` is a pool of
`--chunks` chunks of four items. `find` is `Pool.ids_of` of ten keys: from the disk, then from the page cache, and what
it reads of the disk (`--folder` must not lie in memory for that). `tell` is `Session.tell` of ten labels. `index` is to
make the key index of a pool that has none. Every number is measured in processes of their own, with the code of this
checkout and, with `--before`, in turn with that of another one. Wanted: opening takes less than a second, and the time
of `find` and `tell` is the same for every number of items.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.machine import describe, made_pool
from raysal.arrow_values import empty_table
from raysal.pool import Manifest, Pool
from raysal.pool.key_index import FOLDER, LEAST, extend
from raysal.pool.layout import KINDS, QUARANTINE_SCHEMA, chunk_file, vector_schema
from raysal.store import digest_of, write_sealed

AFTER = Path(__file__).resolve().parents[1]
CELLS = Path(__file__).with_name("pools_cells.py")
PARTS = ("open", "find", "tell", "index")
ASKED = 11
"""Keys that are given to a cell: one that is told before, and ten."""
ROWS, DIM = 4, 2
"""Of a chunk of the pool that is opened."""


def cell(tree: Path, part: str, pool: Path, keys: list[str]) -> dict[str, float]:
    """What a cell measures with the code of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, str(CELLS), part, str(pool), *keys]
    done = subprocess.run(command, env=environment, cwd=tree, check=True, capture_output=True, text=True)
    numbers: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return numbers


def small_chunks(path: Path, chunks: int) -> Path:
    """A pool of many chunks of four items, written without a flush for each; reused if it is there."""
    if (path / "pool.json").exists():
        return path
    for kind in (*KINDS, "commits"):
        (path / kind).mkdir(parents=True, exist_ok=True)
    schema = vector_schema(DIM)
    column = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(ROWS * DIM, np.float16)), DIM)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch([column], schema=schema))
    vectors, lost = sink.getvalue().to_pybytes(), parquet_of(empty_table(QUARANTINE_SCHEMA))
    for index in range(chunks):
        ids = np.arange(index * ROWS, (index + 1) * ROWS)
        keys = [f"row-{id}" for id in ids.tolist()]
        nothing = pa.nulls(ROWS, pa.string()), pa.nulls(ROWS, pa.int64())
        items = parquet_of(pa.table({"id": ids, "key": keys, "uri": nothing[0], "owner": nothing[1]}))
        files = {}
        for kind, content in zip(KINDS, (vectors, items, lost), strict=True):
            name = chunk_file(kind, index)
            (path / name).write_bytes(content)
            files[name] = {"bytes": len(content), "sha256": sha256(content).hexdigest()}
        contents = {"items": digest_of({"chunk": index}), "vectors": digest_of({"of": index}), "method": "made up"}
        facts = {"index": index, "first_id": ids[0].item(), "rows": ROWS, "quarantined": 0, "attempt": 0}
        write_sealed(path / chunk_file("commits", index), {**facts, "files": files, "contents": contents})
    Manifest(
        dim=DIM,
        modality="vector",
        items=ROWS * chunks,
        chunks=chunks,
        chunk_rows=ROWS,
        encoder={"name": "precomputed", "fingerprint": digest_of({"dim": DIM})},
        source={"name": "small", "fingerprint": digest_of({"chunks": chunks})},
    ).write(path)
    return path


def parquet_of(table: pa.Table) -> bytes:
    """The bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def pools_for(part: str, args: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """What a part is measured on: its name, the pool, and keys of it."""
    if part == "open":
        yield f"{args.chunks:,} chunks", small_chunks(folder / f"chunks-{args.chunks}", args.chunks), []
        return
    for items in args.items:
        source = {"name": "line", "items": items}
        pool = made_pool(folder / f"items-{items}", items, DIM, source, lambda _, n: np.ones((n, DIM), np.float32))
        asked = np.random.default_rng(0).choice(items, ASKED, replace=False)
        if part != "index" and not (pool.path / FOLDER).exists():
            extend(pool.path, pool.chunks)
        yield f"{items:,} items", pool.path, [f"row-{id}" for id in asked.tolist()]


def indexed(path: Path) -> dict[str, float]:
    """Seconds to make the key index of a pool, and its bytes for each item. A small pool is left without, as ever."""
    for file in (path / FOLDER).glob("*"):
        file.unlink()
    pool = Pool(path)
    begun = time.perf_counter()
    extend(path, pool.chunks, least=1)
    seconds = time.perf_counter() - begun
    size = sum(file.stat().st_size for file in (path / FOLDER).iterdir())
    if len(pool) < LEAST:
        shutil.rmtree(path / FOLDER)
    return {"make": seconds, "bytes an item": size / len(pool)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--items", type=int, nargs="+", default=[1000, 10**6, 10**7])
    parser.add_argument("--chunks", type=int, default=10_000)
    parser.add_argument("--before", type=Path, help="A checkout of the build to compare with.")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="Where pools are made and kept; by default, a temporary folder.")
    parser.add_argument("--out", type=Path, help="Also write all numbers here, as JSON.")
    args = parser.parse_args()
    print(describe())
    trees = {"after": AFTER} if args.before is None else {"before": args.before.resolve(), "after": AFTER}
    results: dict[str, dict[str, dict[str, list[float]]]] = {}
    with tempfile.TemporaryDirectory() as own:
        for part in args.parts:
            for name, pool, keys in pools_for(part, args, args.folder or Path(own)):
                numbers: dict[str, dict[str, list[float]]] = {}
                for _ in range(args.repeats):
                    for build, tree in trees.items() if part != "index" else [("after", AFTER)]:
                        measured = indexed(pool) if part == "index" else cell(tree, part, pool, keys)
                        for what, number in measured.items():
                            numbers.setdefault(what, {}).setdefault(build, []).append(number)
                for what, of_builds in numbers.items():
                    medians = (f"{build} {statistics.median(values):.4g}" for build, values in of_builds.items())
                    print(f"{part} {name}: {what}: {', '.join(medians)}", flush=True)
                results[f"{part} {name}"] = numbers
    if args.out is not None:
        args.out.write_text(json.dumps({"machine": describe(), "numbers": results}, indent=1))


if __name__ == "__main__":
    main()
