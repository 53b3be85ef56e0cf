"""How fast, how large and how good are k-center and BADGE beside what other tools have?

    python3.11 -m venv /tmp/peers
    /tmp/peers/bin/pip install torch==2.13.0
    /tmp/peers/bin/pip install torch==2.13.0 scikit-activeml==1.0.1 small-text==1.4.1 modAL-python==0.4.2.1 \\
        decile-distil==0.2.0
    python -m benchmarks.peers --peers-python /tmp/peers/bin/python [--repeats 3] [--out peers.json]

Not among them: DAL-Toolbox is not on PyPI, and CORDS pins torchtext ~=0.10.1, which pip does not find for Python 3.11.

Every cell is a fresh process that gets the same float16 values and the same fixed linear head. Measured is the query
alone: the tools get their arrays ready in memory, raysal opens its pool within the measured time. Peak memory is all
that is resident during the query, libraries and inputs included. Quality is recomputed here, in float64, for all
tools: the radius that labelled rows and picks cover the pool with, or the sum over the pool of squared distances of
gradient embeddings to the nearest pick (the D^2 potential). Tools that draw at random differ in it from seed to seed,
and gradients of many classes are so nearly orthogonal that no batch lowers the potential by much: a uniform sample
stands in each table for the scale. --decay gives the vectors a falling spectrum, as real features have.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import peer_cells
from benchmarks.machine import describe, random_pool
from benchmarks.peer_cells import TOOLS, Task, Tool, resident_mb

LOGIT_SCALE = 6.0
"""Standard deviation of the logits of the random head. Its median confidence is then about 0.8, as of a fitted one."""
REPEAT_BELOW = 30.0
"""Seconds up to which a cell is repeated."""
OURS = "raysal"

TASKS = (
    Task(name="k-center-10k", kind="k-center", rows=10_000, dim=64, classes=10, labelled=100, k=100, memory_gb=16),
    Task(name="k-center-50k", kind="k-center", rows=50_000, dim=64, classes=10, labelled=100, k=1000, memory_gb=16),
    Task(name="badge-10k", kind="BADGE", rows=10_000, dim=128, classes=20, labelled=0, k=100, memory_gb=16),
    Task(name="badge-50k", kind="BADGE", rows=50_000, dim=384, classes=100, labelled=0, k=1000, memory_gb=16),
    Task(name="badge-1m", kind="BADGE", rows=1_000_000, dim=256, classes=1000, labelled=0, k=1000, memory_gb=8),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peers-python", type=Path, required=True, help="interpreter of the environment of the peers")
    parser.add_argument("--tasks", nargs="*", choices=[task.name for task in TASKS], metavar="TASK")
    parser.add_argument("--tools", nargs="*", choices=list(TOOLS), metavar="TOOL")
    parser.add_argument("--time-limit", type=float, default=600.0, help="seconds a cell may take, loading included")
    parser.add_argument("--memory-gb", type=float, help="memory a cell may take instead of the task's own limit")
    parser.add_argument("--repeats", type=int, default=1, help=f"of cells below {REPEAT_BELOW:g} s; the median counts")
    parser.add_argument("--decay", type=float, default=0.0, help="axis j of the vectors is scaled by (1 + j)^-decay")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, help="write everything as JSON")
    args = parser.parse_args()
    cells: list[dict[str, Any]] = []
    print(describe(), flush=True)
    for task in TASKS:
        if args.tasks and task.name not in args.tasks:
            continue
        if args.memory_gb:
            task = replace(task, memory_gb=args.memory_gb)
        with tempfile.TemporaryDirectory() as folder:
            write(task, Path(folder), args.decay)
            done = []
            for tool in tools_of(task, args.tools):
                print(f"{task.name}: {tool.name} ...", file=sys.stderr, flush=True)
                done.append(cell(tool, task, Path(folder), args))
        compare(done)
        cells += done
        print("\n".join(table(task, done)), flush=True)
        if args.out:
            settings = {"threads": args.threads, "time_limit_s": args.time_limit, "decay": args.decay}
            args.out.write_text(json.dumps({"machine": describe(), **settings, "cells": cells}, indent=1))


def tools_of(task: Task, only: list[str] | None) -> Iterator[Tool]:
    yield from (tool for tool in TOOLS.values() if tool.kind == task.kind and (not only or tool.name in only))


def write(task: Task, folder: Path, decay: float) -> None:
    """The pool, the same values as one float32 array, the head, and the task itself."""
    pool = random_pool(folder / "pool", task.rows, task.dim, decay=decay)
    vectors = np.lib.format.open_memmap(
        folder / "vectors.npy", mode="w+", dtype=np.float32, shape=(task.rows, task.dim)
    )
    start = 0
    for chunk in pool.chunks:
        vectors[start : start + chunk.rows] = chunk.vectors()
        start += chunk.rows
    vectors.flush()
    rng = np.random.default_rng(peer_cells.SEED)
    some = np.asarray(vectors[:10_000], np.float64)
    weight = rng.normal(size=(task.classes, task.dim))
    weight *= LOGIT_SCALE / (some @ weight.T).std()
    np.savez(folder / "head.npz", weight=weight.astype(np.float32), bias=np.zeros(task.classes, np.float32))
    (folder / "task.json").write_text(json.dumps(asdict(task)))


def cell(tool: Tool, task: Task, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """One tool on one task: what it took and what it is worth, or why there is no such number."""
    about = {"task": task.name, "tool": tool.name, "other_aim": tool.other_aim}
    dense_gb = task.dense * tool.dense_bytes / 1e9
    if dense_gb > task.memory_gb:
        size = f"{dense_gb / 1000:.1f} TB" if dense_gb >= 1000 else f"{dense_gb:.1f} GB"
        reason = f"not started: its gradient embedding alone needs {size}, the limit is {task.memory_gb:g} GB"
        return {**about, "finished": False, "reason": reason}
    runs: list[dict[str, Any]] = []
    while len(runs) < args.repeats and (not runs or runs[-1]["seconds"] < REPEAT_BELOW):
        run = in_fresh_process(tool, task, folder, args)
        if "error" in run:
            return {**about, "finished": False, "reason": run["error"]}
        runs.append(run)
    picks = np.array(runs[0]["picks"])
    right = len(np.unique(picks)) == task.k and picks.min() >= task.labelled and picks.max() < task.rows
    return {
        **about,
        "finished": True,
        "version": runs[0]["version"],
        "seconds": statistics.median(run["seconds"] for run in runs),
        "head_seconds": statistics.median(run["head_seconds"] for run in runs),
        "all_seconds": [run["seconds"] for run in runs],
        "held_mb": runs[0]["held_mb"],
        "peak_mb": max(run["peak_mb"] for run in runs),
        "distinct_and_unlabelled": bool(right),
        "picks_sha256": hashlib.sha256(picks.astype("<i8").tobytes()).hexdigest(),
        "quality": quality(task, folder, picks),
    }


def in_fresh_process(tool: Tool, task: Task, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """What the cell printed, or an `error`: out of time, out of memory, or what it raised."""
    python = args.peers_python if tool.peer else sys.executable
    threads = {name: str(args.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    with tempfile.TemporaryFile("w+") as out:
        try:
            process = subprocess.Popen(
                [python, "-P", peer_cells.__file__, tool.name, str(folder)],
                stdout=out,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **threads},
            )
        except OSError as error:
            return {"error": f"not started: {error}"}
        try:
            stopped = watch(process, args.time_limit, task.memory_gb)
        finally:
            process.kill()
            process.wait()
        if stopped:
            return {"error": stopped}
        out.seek(0)
        lines = out.read().splitlines()
    if not lines:
        return {"error": f"ended with status {process.returncode} and no result"}
    result: dict[str, Any] = json.loads(lines[-1])
    if result.get("peak_mb", 0) / 1000 > task.memory_gb:
        return {"error": too_large(task.memory_gb)}
    return result


def watch(process: subprocess.Popen[bytes], limit: float, memory_gb: float) -> str:
    """Why it has to be stopped, or nothing once it has ended by itself."""
    deadline = time.monotonic() + limit
    while process.poll() is None:
        if time.monotonic() > deadline:
            return f"more than {limit:g} s"
        try:
            if resident_mb("VmRSS", str(process.pid)) / 1000 > memory_gb:
                return too_large(memory_gb)
        except (OSError, StopIteration):  # it has just ended
            pass
        time.sleep(0.02)
    return ""


def too_large(memory_gb: float) -> str:
    return f"more than {memory_gb:g} GB"


def quality(task: Task, folder: Path, picks: NDArray[np.int64]) -> float:
    """Covering radius, or D^2 potential of the gradient embeddings; the lower the better."""
    x = np.load(folder / "vectors.npy", mmap_mode="r")
    if task.kind == "k-center":
        centres = x[np.concatenate([np.arange(task.labelled), picks])].astype(np.float64)
        return float(max(nearest_sq_distances(block, centres).max() for block in blocks(x)) ** 0.5)
    head = np.load(folder / "head.npz")
    weight, bias = head["weight"].astype(np.float64), head["bias"].astype(np.float64)
    centres = x[picks].astype(np.float64)
    factors = residuals(centres @ weight.T + bias)
    return float(
        sum(
            nearest_sq_distances(block, centres, residuals(block @ weight.T + bias), factors).sum()
            for block in blocks(x)
        )
    )


def blocks(x: NDArray[np.float32], size: int = 4096) -> Iterator[NDArray[np.float64]]:
    for start in range(0, len(x), size):
        yield x[start : start + size].astype(np.float64)


def nearest_sq_distances(
    x: NDArray[np.float64],
    centres: NDArray[np.float64],
    factors: NDArray[np.float64] | None = None,
    centre_factors: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """[n] from x [n, d] to the nearest of centres [m, d]; with factors, of the products r (x) x."""
    sq_norms, centre_sq_norms, inner = (x * x).sum(1), (centres * centres).sum(1), x @ centres.T
    if factors is not None and centre_factors is not None:
        sq_norms *= (factors * factors).sum(1)
        centre_sq_norms *= (centre_factors * centre_factors).sum(1)
        inner *= factors @ centre_factors.T
    nearest: NDArray[np.float64] = (sq_norms[:, None] + centre_sq_norms - 2 * inner).min(1)
    return nearest.clip(min=0)


def residuals(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """e_argmax - p of logits [n, C]."""
    p: NDArray[np.float64] = np.exp(logits - logits.max(1, keepdims=True))
    p /= -p.sum(1, keepdims=True)
    p[np.arange(len(p)), p.argmin(1)] += 1
    return p


def compare(cells: list[dict[str, Any]]) -> None:
    """Add to every finished cell how it stands to ours: seconds, radius or potential, and the same picks or not."""
    ours = next((c for c in cells if c["tool"].startswith(OURS) and c["finished"]), None)
    for other in cells if ours else ():
        if ours and other["finished"]:
            other["seconds_ratio"] = other["seconds"] / ours["seconds"]
            other["quality_ratio"] = other["quality"] / ours["quality"]
            other["same_picks"] = other["picks_sha256"] == ours["picks_sha256"]


def table(task: Task, cells: list[dict[str, Any]]) -> Iterator[str]:
    """Markdown."""
    measure = "radius" if task.kind == "k-center" else "potential"
    title = f"{task.kind}, {task.rows:,} x {task.dim}"
    title += f", {task.labelled} labelled" if task.kind == "k-center" else f" x {task.classes} classes"
    yield f"\n**{title}, k = {task.k}**, at most {task.memory_gb:g} GB\n"
    yield f"| tool | seconds | of these, head | x ours | peak MB | of these, before | {measure} | x ours |"
    yield "|---|---|---|---|---|---|---|---|"
    for c in cells:
        name = c["tool"] + (f" {c['version']}" if c["finished"] else "")
        name += f" (aim: {c['other_aim']})" if c["other_aim"] else ""
        if not c["finished"]:
            reason = c["reason"] if c["reason"].startswith("not started") else f"did not finish: {c['reason']}"
            yield f"| {name} | {reason} | | | | | | |"
            continue
        head = f"{c['head_seconds']:.2f}" if c["head_seconds"] else "within" if c["tool"] == "raysal badge" else "-"
        times = f"{c['seconds_ratio']:.1f}" if "seconds_ratio" in c else "-"
        worth = f"{c['quality_ratio']:.3f}" if "quality_ratio" in c else "-"
        worth += ", same picks" if c.get("same_picks") and c["seconds_ratio"] != 1 else ""
        wrong = "" if c["distinct_and_unlabelled"] else " (repeats a row, or picks a labelled one)"
        yield (
            f"| {name}{wrong} | {c['seconds']:.3g} | {head} | {times} | {c['peak_mb']:.0f} | {c['held_mb']:.0f} "
            f"| {c['quality']:.5g} | {worth} |"
        )


if __name__ == "__main__":
    main()
