"""Is a build as fast as another one? Both are run in turn, each from a checkout of its own.

    git worktree add ../before COMMIT
    python -m benchmarks.builds --before ../before [--parts help sweep selection demo] [--repeats 5] [--out FILE]

`help` is the CPU time of `raysal --help`; `sweep` and `selection` are the medians that the scripts of that name print
(a million rows of 256 numbers, 10 classes, with 100 anchors too; BADGE and k-center, k = 1000); `demo` is the wall
time of `raysal demo`. Every number is a ratio after / before of the medians, and below 1 the later build is faster.
Each part runs before, after, before, after ..., so that a machine that gets slower does so for both.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.machine import describe

AFTER = Path(__file__).resolve().parents[1]
Numbers = dict[str, float]
"""Seconds by name."""


def run(tree: Path, *words: str) -> str:
    """What a Python command prints, run with the code of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=tree, env=environment, check=True, capture_output=True, text=True).stdout


def measure_help(tree: Path, folder: Path) -> Numbers:
    """CPU seconds of ten times `raysal --help`."""
    del folder
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(10):
        run(tree, "-m", "raysal", "--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"raysal --help": (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 10}


def measure_sweep(tree: Path, folder: Path) -> Numbers:
    """Seconds of a sweep, as `benchmarks.sweep` prints them."""
    del folder
    found = json.loads(run(tree, "-m", "benchmarks.sweep", "--repeats", "5", "--json"))
    return {f"sweep, {case['columns']} columns": case["sweep_s"] for case in found["cases"]}


def measure_selection(tree: Path, folder: Path) -> Numbers:
    """Seconds of BADGE and k-center, as `benchmarks.selection growth` prints them."""
    out = folder / "numbers.json"
    words = ["--rows", "1000000", "--k", "1000", "--folder", str(folder / "pools"), "--out", str(out)]
    (folder / "pools").mkdir(exist_ok=True)
    run(tree, "-m", "benchmarks.selection", "growth", *words)
    return {f"{line['rule']}, k = {line['k']}": line["seconds"] for line in json.loads(out.read_text())["growth"]}


def measure_demo(tree: Path, folder: Path) -> Numbers:
    """Wall seconds of the demo."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=folder) as out:
        run(tree, "-m", "raysal", "demo", "--out", out)
    return {"raysal demo": time.perf_counter() - started}


PARTS: dict[str, Callable[[Path, Path], Numbers]] = {
    "help": measure_help,
    "sweep": measure_sweep,
    "selection": measure_selection,
    "demo": measure_demo,
}


def in_turn(part: str, trees: dict[str, Path], folder: Path, repeats: int) -> dict[str, dict[str, list[float]]]:
    """Seconds by name and build, the builds one after the other in every repeat."""
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(repeats):
        for build, tree in trees.items():
            for name, seconds in PARTS[part](tree, folder).items():
                found.setdefault(name, {}).setdefault(build, []).append(seconds)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--before", type=Path, required=True, help="A checkout of the build to compare with.")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="Also write all numbers here, as JSON.")
    args = parser.parse_args()
    print(describe())
    trees = {"before": args.before.resolve(), "after": AFTER}
    for tree in trees.values():  # or a build whose bytecode is not written compiles it at every start
        run(tree, "-m", "compileall", "-q", "-f", "raysal")
    found: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for part in args.parts:
            measured = in_turn(part, trees, Path(folder), args.repeats)
            for name, numbers in measured.items():
                before, after = (statistics.median(numbers[build]) for build in ("before", "after"))
                print(f"{name}: before {before:.3f} s, after {after:.3f} s, ratio {after / before:.3f}", flush=True)
            found |= measured
    if args.out is not None:
        args.out.write_text(json.dumps({"machine": describe(), "seconds": found}, indent=1))


if __name__ == "__main__":
    main()
