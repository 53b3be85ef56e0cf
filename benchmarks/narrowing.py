"""What narrowing costs, and what it does to the search for a rare class.

    python -m benchmarks.narrowing speed [--features FILE.npz] [--peers-python PEERS/bin/python] [--tools TOOL ...]
    python -m benchmarks.narrowing large
    python -m benchmarks.narrowing rare  [--scenarios 1% 0.3%] [--rules none uniform] [--strategies badge] [--tables]
    python -m benchmarks.narrowing cost  [--strategies bait]
    python -m benchmarks.narrowing ceiling
    python -m benchmarks.narrowing gpu   [--device cuda]

- `speed`: 1,000,000 x 256, 100 anchors, 50 neighbours each. The fused sweep (a head of ten classes, margin, neighbours)
  and the bare matrix products of its shape, in turn; then the same search by other means, each in a process of its own:
  HNSW as AnchorAL published it (M = 64, ef_construction = 200, ef = 200; `pip install hnswlib` into an environment for
  --peers-python) and FAISS. Memory is what a process holds of its own at most, mapped files not counted.
- `large`: 10,000,000 x 128: an exact search beside IVF-SQ8.
- `rare`: Fashion-MNIST (EfficientNet-Lite0 vectors) with one class thinned. 100 labels, 5 of them of the rare class and
  else uniform; 20 batches of 25; every rule but `none` narrows to 1,000 items a round, and what it finds beyond is cut.
  Minority F1 of the test images at the same prevalence, and its area over labels (F1-AUC, 1 = perfect from the start).
  A job is one rule with one strategy and one seed: its record is kept, and not made again with the same settings.
- `cost`: what one query of a costly strategy takes on the whole pool and on a thousand candidates.
- `ceiling`: minority F1 of a head that knows half of the rare items, and all of them, beside 4,000 others.
- `gpu`: 1,000 anchors on 10,000,000 x 256, on a CUDA device; with `--device cpu` and few --rows a smoke test.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import narrowing_cells as cells
from benchmarks import narrowing_rare as rare
from benchmarks import narrowing_tables as tables
from benchmarks.efficiency_data import make_pool
from benchmarks.features import write_pool
from benchmarks.jobs import ONE_THREAD, record_of, say
from benchmarks.machine import describe, random_head, random_pool
from benchmarks.sweep import bare_products, in_turn
from raysal.errors import PoolError
from raysal.fleet import LocalFleet, plan_partitions
from raysal.pool import Pool
from raysal.scoring.sweep import Search, SweepRequest, sweep

CLASSES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=sorted(PARTS))
    temporary = Path(tempfile.gettempdir()) / "raysal-narrowing"
    parser.add_argument("--folder", type=Path, default=temporary, help="pools and records are kept here")
    parser.add_argument("--json", action="store_true")
    sizes = parser.add_argument_group("speed, large, gpu")
    sizes.add_argument("--features", type=Path, help="what benchmarks.features wrote; otherwise made-up rows")
    sizes.add_argument("--rows", type=int)
    sizes.add_argument("--dim", type=int)
    sizes.add_argument("--anchors", type=int)
    sizes.add_argument("--neighbours", type=int, default=50)
    sizes.add_argument("--repeats", type=int, default=7)
    sizes.add_argument("--device", default=None)
    sizes.add_argument("--tools", nargs="*", choices=list(cells.TOOLS), help="default: all")
    sizes.add_argument("--peers-python", type=Path, help="interpreter of an environment with hnswlib")
    sizes.add_argument("--time-limit", type=float, default=1200.0, help="CPU seconds a thread for building a graph")
    search = parser.add_argument_group("rare, cost")
    search.add_argument("--pool", type=Path, help="embedded Fashion-MNIST; made if it is not there")
    search.add_argument("--scenarios", nargs="+", choices=list(rare.SCENARIOS), default=["0.3%", "1%", "0.3%x3"])
    search.add_argument("--rules", nargs="+", default=["none", "uniform", "seals", "anchoral", "mixed"])
    search.add_argument("--strategies", nargs="+", metavar="NAME[:FIELD=VALUE,...]")
    search.add_argument("--seeds", type=int, default=5)
    search.add_argument("--size", type=int, default=1000)
    search.add_argument("--jobs", type=int, default=1, help="processes of one thread")
    search.add_argument("--tables", action="store_true", help="run nothing, tabulate the records there are")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    found = {"machine": describe(args.device or "cpu"), args.part: PARTS[args.part](args)}
    if args.json:
        print(json.dumps(found))
    sys.exit(1 if args.part == "rare" and found["rare"]["failed"] else 0)


def tell(args: argparse.Namespace, text: str) -> None:
    """To a person; with --json the numbers come alone."""
    if not args.json:
        print(text, flush=True)


# -- rare classes ----------------------------------------------------------------------------------------------------


def run_rare(args: argparse.Namespace) -> dict[str, Any]:
    base = base_job(args)
    strategies = args.strategies or ["top_score", "badge"]
    chosen = [rare.SCENARIOS[name] for name in args.scenarios]
    jobs = rare.jobs_of(base, chosen, args.rules, strategies, args.seeds)
    failed = 0 if args.tables else rare.run_all(jobs, args.jobs)
    found = {}
    for scenario in chosen:
        records = [record for job in jobs if job.scenario == scenario and (record := record_of(job)) is not None]
        if records:
            found[scenario.name] = tables.summary(records)
            tell(args, f"\n{scenario.name}\n\n{tables.table(found[scenario.name])}")
    return {"tables": found, "failed": failed}


def base_job(args: argparse.Namespace) -> rare.Job:
    pool = args.pool or args.folder / "fashion_mnist"
    try:
        Pool(pool)
    except PoolError:  # not there, or not whole
        make_pool(pool)
    return rare.Job(
        pool=pool,
        folder=args.folder / "pools",
        out=args.folder / "records",
        scenario=rare.SCENARIOS[args.scenarios[0]],
        rule="none",
        strategy="top_score",
        seed=0,
        size=args.size,
    )


def run_ceiling(args: argparse.Namespace) -> list[dict[str, Any]]:
    found = []
    for name in args.scenarios:
        for seed in range(args.seeds):
            job = replace(base_job(args), scenario=rare.SCENARIOS[name], seed=seed)
            for count, f1 in rare.ceiling(job):
                tell(args, f"{name}, seed {seed}: {count} rare items labelled, F1 {100 * f1:.1f} %")
                found.append({"scenario": name, "seed": seed, "labelled": count, "f1": f1})
    return found


def run_cost(args: argparse.Namespace) -> list[dict[str, Any]]:
    """CPU seconds of a query, narrowing included, on the whole pool and narrowed: the lesser of the first two."""
    found = []
    for strategy in args.strategies or ["bait"]:
        line: dict[str, Any] = {"strategy": strategy, "scenario": args.scenarios[0]}
        for rule in ("none", "anchoral"):
            job = replace(base_job(args), rule=rule, strategy=strategy, rounds=2)
            numbers = rare.run_rounds(job)
            line[rule] = min(map(sum, zip(numbers["narrow_cpu_s"], numbers["select_cpu_s"], strict=True)))
            line[f"{rule}_select"] = min(numbers["select_cpu_s"])
        line["ratio"], line["select_ratio"] = (
            line["none"] / line["anchoral"],
            line["none_select"] / line["anchoral_select"],
        )
        tell(args, f"{strategy}: whole pool {line['none']:.2f} s, narrowed {line['anchoral']:.2f} s: "
                   f"{line['ratio']:.1f} x; selection alone {line['select_ratio']:.1f} x")  # fmt: skip
        found.append(line)
    return found


# -- speed and size --------------------------------------------------------------------------------------------------


def run_speed(args: argparse.Namespace) -> dict[str, Any]:
    """Sweep beside bare products, then the search by other means."""
    args.rows, args.dim, args.anchors = args.rows or 1_000_000, args.dim or 256, args.anchors or 100
    kind = "real" if args.features else "made-up"
    pool = write_pool(args.folder / f"{kind}-{args.rows}x{args.dim}", args.rows, args.features, args.dim)
    return {"sweep": fused(pool, args), "tools": tools(pool, args)}


def run_large(args: argparse.Namespace) -> dict[str, Any]:
    """A pool many times the size of what may be held."""
    args.rows, args.dim, args.anchors = args.rows or 10_000_000, args.dim or 128, args.anchors or 100
    if args.tools is None:
        args.tools = ["raysal exact", "raysal ivf_sq8", "faiss IVF-SQ8"]
    pool = random_pool(args.folder / f"random-{args.rows}x{args.dim}", args.rows, args.dim, decay=0.5)
    return {"bytes_at_rest": 2 * args.rows * args.dim, "tools": tools(pool, args)}


def run_gpu(args: argparse.Namespace) -> dict[str, Any]:
    """One exact search with the pool on the device."""
    args.rows, args.dim, args.anchors = args.rows or 10_000_000, args.dim or 256, args.anchors or 1000
    device = args.device or "cuda"
    pool = random_pool(args.folder / f"random-{args.rows}x{args.dim}", args.rows, args.dim, decay=0.5)
    request = SweepRequest(searches=(Search(anchors=anchors_of(pool, args.anchors), each=args.neighbours),))
    with LocalFleet(plan_partitions(pool, 1, device=device)) as fleet:
        bare_s, search_s = in_turn(
            bare_products(args.rows, args.dim, args.anchors, device),
            partial(sweep, fleet, None, request),
            args.repeats,
            device,
        )
    tell(args, f"{device}: {args.anchors:,} anchors on {args.rows:,} x {args.dim}: {search_s:.3f} s, "
               f"bare products {bare_s:.3f} s")  # fmt: skip
    return {"device": device, "rows": args.rows, "dim": args.dim, "bare_s": bare_s, "search_s": search_s}


def anchors_of(pool: Pool, count: int) -> NDArray[np.float32]:
    """Rows of the pool, spread over it: what is labelled is of the pool, too."""
    chunks = np.linspace(0, len(pool.chunks) - 1, count).astype(int)
    rng = np.random.default_rng(1)
    return np.stack([pool.chunks[c].vectors()[rng.integers(pool.chunks[c].rows)] for c in chunks]).astype(np.float32)


def fused(pool: Pool, args: argparse.Namespace) -> dict[str, float]:
    """The whole sweep of a round, and the bare products of its shape, in turn."""
    head = random_head(pool, CLASSES)
    near = (Search(anchors=anchors_of(pool, args.anchors), each=args.neighbours),)
    request = SweepRequest(scores=("margin",), top=1000, searches=near, sample=1000)
    device = args.device or "cpu"
    bare = bare_products(args.rows, args.dim, CLASSES + args.anchors, device)
    turns = []
    with LocalFleet(plan_partitions(pool, 1, device=device)) as fleet:
        for _ in range(args.repeats + 1):
            clocks = [time.perf_counter(), time.process_time()]
            bare()
            clocks += [time.perf_counter(), time.process_time()]
            sweep(fleet, head, request)
            clocks += [time.perf_counter(), time.process_time()]
            turns.append([after - before for before, after in zip(clocks, clocks[2:], strict=False)])
    bare_s, bare_cpu_s, sweep_s, sweep_cpu_s = np.median(turns[1:], axis=0).tolist()
    least = np.min(turns[1:], axis=0)
    found = {
        "bare_s": bare_s,
        "sweep_s": sweep_s,
        "ratio": sweep_s / bare_s,
        "cpu_ratio": sweep_cpu_s / bare_cpu_s,
        "ratio_of_least": float(least[2] / least[0]),
        "cpu_ratio_of_least": float(least[3] / least[1]),
    }
    tell(args, f"sweep {sweep_s:.3f} s, bare products {bare_s:.3f} s: {found['ratio']:.2f} x (of CPU seconds "
               f"{found['cpu_ratio']:.2f}); the least of each {least[2]:.3f} and {least[0]:.3f} s: "
               f"{found['ratio_of_least']:.2f} x (of CPU seconds {found['cpu_ratio_of_least']:.2f})")  # fmt: skip
    return found


def tools(pool: Pool, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Every tool in a process of its own, with its recall of the exact neighbours."""
    names = list(cells.TOOLS) if args.tools is None else args.tools
    names = [name for name in names if name not in cells.PEERS or args.peers_python]
    if not names:
        return []
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        inputs = write_inputs(pool, Path(folder), args)
        exact: dict[int, list[set[int]]] = {}
        done = []
        for name in names:
            say(f"{name} ...")
            python = args.peers_python if name in cells.PEERS else sys.executable
            line = {"tool": name, **in_fresh_process(name, python, inputs)}
            for answer in line.get("answers", ()):
                truth = exact.setdefault(line["rows"], neighbours_of(inputs, line["rows"]))
                answer["recall"] = float(
                    np.mean([len(own & set(ids)) / len(own) for own, ids in zip(truth, answer.pop("ids"), strict=True)])
                )
            done.append(line)
            report(args, line)
    return done


def write_inputs(pool: Pool, folder: Path, args: argparse.Namespace) -> cells.Inputs:
    """What the processes read: see `narrowing_cells`."""
    task = cells.Task(
        rows=args.rows,
        dim=args.dim,
        neighbours=args.neighbours,
        threads=torch.get_num_threads(),
        time_limit=args.time_limit,
    )
    (folder / "pool").symlink_to(pool.path.resolve())
    (folder / "task.json").write_text(json.dumps(asdict(task)))
    np.save(folder / "anchors.npy", anchors_of(pool, args.anchors))
    shape = (args.rows, args.dim)
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", mode="w+", dtype=np.float16, shape=shape)
    start = 0
    for chunk in pool.chunks:
        vectors[start : start + chunk.rows] = chunk.vectors()
        start += chunk.rows
    vectors.flush()
    return cells.Inputs(task, folder)


def in_fresh_process(tool: str, python: Path | str, inputs: cells.Inputs) -> dict[str, Any]:
    """What the cell printed, or an `error`."""
    threads = dict.fromkeys(ONE_THREAD, str(inputs.task.threads))
    path = {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    process = subprocess.run(
        [python, "-B", "-P", cells.__file__, tool, str(inputs.folder)],
        stdout=subprocess.PIPE,
        env={**os.environ, **threads, **path},
        check=False,
    )
    lines = process.stdout.decode().splitlines()
    if process.returncode or not lines:
        return {"error": f"ended with status {process.returncode}"}
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def neighbours_of(inputs: cells.Inputs, rows: int) -> list[set[int]]:
    """The exact nearest of the first `rows`, for every anchor, by numpy."""
    anchors, count = inputs.anchors(), inputs.task.neighbours
    ids = np.zeros((len(anchors), 0), np.int64)
    values = np.zeros((len(anchors), 0), np.float32)
    for start, block in inputs.blocks():
        if start >= rows:
            break
        ids = np.hstack([ids, np.broadcast_to(np.arange(start, start + len(block)), (len(anchors), len(block)))])
        values = np.hstack([values, anchors @ block.T])
        order = np.argpartition(-values, count - 1, axis=1)[:, :count]
        ids, values = np.take_along_axis(ids, order, 1), np.take_along_axis(values, order, 1)
    return [set(own.tolist()) for own in ids]


def report(args: argparse.Namespace, line: dict[str, Any]) -> None:
    """A line for every setting of a tool."""
    if "error" in line:
        tell(args, f"{line['tool']}: {line['error']}")
        return
    short = "" if line["rows"] == args.rows else f" ONLY {line['rows']:,} ROWS in the time allowed;"
    own = line["peak_mb"] - line["start_mb"]
    built = f"built in {line['build_s']:.1f} s ({line['build_cpu_s']:.1f} of CPU)"
    tell(args, f"{line['tool']} {line['version']}:{short} {built}, own memory at most {own:.0f} MB")
    for answer in line["answers"]:
        first, each, cpu = (round(1000 * answer[name]) for name in ("first_s", "query_s", "query_cpu_s"))
        found = f"recall@{args.neighbours} {answer['recall']:.3f}"
        tell(args, f"    {answer['setting']}: {each} ms (first {first}, of CPU {cpu}), {found}")


PARTS: dict[str, Callable[[argparse.Namespace], Any]] = {
    "ceiling": run_ceiling,
    "cost": run_cost,
    "gpu": run_gpu,
    "large": run_large,
    "rare": run_rare,
    "speed": run_speed,
}

if __name__ == "__main__":
    main()
