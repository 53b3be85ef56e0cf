"""Does laplace-torch say the same of the same head, and what do both take?

    python3.11 -m venv PEER
    PEER/bin/pip install torch==2.13.0
    PEER/bin/pip install laplace-torch==0.3
    PEER/bin/pip uninstall -y torchvision     # asked for, but not used; it fails beside a CPU build of torch
    python -m benchmarks.laplace peer --peer-python PEER/bin/python [--out peer.json] [--quick]

One linear head without a bias on features with the constant 1 appended, one prior on all its weights, d = 384, 1,000
labels, 1,000 test rows; C = 10, 100, 1,000. Every cell is a process of its own, stopped at a limit of memory or time;
what it had done by then is kept. Agreement is of two float64 results, the largest relative difference over the test
rows and outputs; laplace-torch in float32, as it comes, is measured beside. laplace-torch forms the Jacobian [C, C D]
of every test row, so it gets as few of them at a time as take half a gigabyte; where not all were done in 10 s, the
time is extrapolated from those that were. Peak memory is all that is resident, libraries included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import laplace_peer_cell
from benchmarks.machine import describe
from benchmarks.peers import watch
from raysal.models.trainers.base import TrainingData
from raysal.models.trainers.logistic import Logistic

OURS, PEER, OTHER = "raysal", "laplace-torch", "laplace-torch-backpack"
DIM, LABELS, TEST = 384, 1000, 1000
CELLS = (
    (OURS, "shared", "float64"),
    *(
        cell
        for structure in ("full", "kron", "diag")
        for cell in (
            (OURS, structure, "float64"),
            (PEER, structure, "float64"),
            (PEER, structure, "float32"),
        )
    ),
    (OTHER, "diag", "float64"),
    (OTHER, "diag", "float32"),
)
"""tool, structure, numbers"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer-python", type=Path, required=True, help="interpreter that has laplace-torch")
    parser.add_argument("--classes", type=int, nargs="*", default=[10, 100, 1000])
    parser.add_argument("--memory-gb", type=float, default=8.0)
    parser.add_argument("--time-limit", type=float, default=45.0, help="seconds a cell may take, loading included")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, help="write everything as JSON")
    parser.add_argument("--quick", action="store_true", help="small: 24 features, 100 labels, 10 classes")
    args = parser.parse_args()
    print(describe(), flush=True)
    tables: list[dict[str, Any]] = []
    for classes in [10] if args.quick else args.classes:
        dim, labels = (24, 100) if args.quick else (DIM, LABELS)
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), classes, dim, labels, labels if args.quick else TEST)
            cells = []
            for tool, structure, dtype in CELLS:
                print(f"C = {classes}: {tool} {structure} {dtype} ...", file=sys.stderr, flush=True)
                cells.append(in_fresh_process(tool, structure, dtype, Path(folder), args))
            compare(cells, Path(folder))
        tables.append({"classes": classes, "dim": dim, "labels": labels, "cells": cells})
        print("\n".join(table(tables[-1], args)), flush=True)
        if args.out:
            limits = {"memory_gb": args.memory_gb, "time_limit_s": args.time_limit, "threads": args.threads}
            args.out.write_text(json.dumps({"machine": describe(), **limits, "tables": tables}, indent=1))


def write(folder: Path, classes: int, dim: int, labels: int, test: int) -> None:
    """Noisy points around a centre for each class, and the fitted head; one label more than it was fitted on."""
    rng = np.random.default_rng(classes)
    centres = rng.normal(size=(classes, dim))
    count = labels + 1 + test
    which = np.arange(count) % classes
    x = centres[which] + 2.0 * rng.normal(size=(count, dim))
    names = [f"class-{c:04d}" for c in range(classes)]
    head = Logistic().fit(TrainingData(features=x[:labels], labels=[names[c] for c in which[:labels]], classes=names))
    rows = np.column_stack([x, np.ones(count)])
    np.savez(
        folder / "problem.npz",
        x=rows[: labels + 1],
        labels=which[: labels + 1],
        test=rows[labels + 1 :],
        weight=head.mean,
        prior=head.prior,
    )


def in_fresh_process(tool: str, structure: str, dtype: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """What the cell printed last, and why it went no further, if it did not."""
    about = {"tool": tool, "structure": structure, "dtype": dtype}
    python = sys.executable if tool == OURS else args.peer_python
    root = str(Path(__file__).resolve().parents[1])
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(args.threads))
    with tempfile.TemporaryFile("w+") as out:
        try:
            process = subprocess.Popen(
                [python, "-P", laplace_peer_cell.__file__, tool, structure, dtype, str(folder)],
                stdout=out,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **threads, **({"PYTHONPATH": root} if tool == OURS else {})},
            )
        except OSError as error:
            return {**about, "stopped": f"not started: {error}"}
        try:
            stopped = watch(process, args.time_limit, args.memory_gb)
        finally:
            process.kill()
            process.wait()
        out.seek(0)
        lines = [json.loads(line) for line in out.read().splitlines() if line.startswith("{")]
    found: dict[str, Any] = dict(about)
    for line in lines:
        found.update(line)
    stopped = stopped or found.pop("error", "")
    if not stopped and "update_s" not in found:
        stopped = f"ended with status {process.returncode}"
    return {**found, "stopped": stopped} if stopped else found


def compare(cells: list[dict[str, Any]], folder: Path) -> None:
    """Add to every cell of the peer how far it is, at most and relatively, from ours of the same structure."""
    for cell in cells:
        ours = results(folder, OURS, cell["structure"], "float64")
        theirs = results(folder, cell["tool"], cell["structure"], cell["dtype"])
        if cell["tool"] == OURS or ours is None or theirs is None:
            continue
        for name in ("means", "variances"):
            mine = ours[name][: len(theirs[name])]
            scale = np.abs(mine).max() if name == "means" else mine  # means may be 0, variances may not
            cell[f"{name}_apart"] = float((np.abs(theirs[name] - mine) / scale).max())


def results(folder: Path, tool: str, structure: str, dtype: str) -> dict[str, NDArray[Any]] | None:
    path = folder / f"{tool}-{structure}-{dtype}.npz"
    if not path.exists():
        return None
    with np.load(path) as arrays:
        return {name: arrays[name].astype(np.float64) for name in arrays}


def table(found: dict[str, Any], args: argparse.Namespace) -> Iterator[str]:
    """Markdown."""
    yield (
        f"\n**C = {found['classes']}**, d = {found['dim']}, {found['labels']} labels, as many test rows; at most "
        f"{args.memory_gb:g} GB and {args.time_limit:g} s\n"
    )
    yield "| structure | tool | fit | one label more | predict | peak MB | means apart | variances apart |"
    yield "|---|---|---|---|---|---|---|---|"
    for cell in found["cells"]:
        name = cell["tool"] + (f" {cell['version']}" if "version" in cell and cell["tool"] != OURS else "")
        times = [f"{cell[stage]:.3g} s" if stage in cell else "-" for stage in ("fit_s", "update_s", "predict_s")]
        if cell.get("predicted", found["labels"]) < found["labels"]:
            times[2] += f" ({cell['predicted']} rows done)"
        apart = [f"{cell[key]:.0e}" if key in cell else "" for key in ("means_apart", "variances_apart")]
        peak = f"{cell['peak_mb']:.0f}" if "peak_mb" in cell else "-"
        ending = f"; stopped: {cell['stopped']}" if "stopped" in cell else ""
        yield f"| {cell['structure']} | {name} {cell['dtype']}{ending} | {' | '.join([*times, peak, *apart])} |"


if __name__ == "__main__":
    main()
