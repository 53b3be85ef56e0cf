"""Every headline number in one run, as ratios, with the rates of the machine beside them; and two builds in turn.

    python -m benchmarks.suite [--rows NAME ...] [--against CHECKOUT] [--out suite.json] [--quick | --full]
    python -m benchmarks.suite --table suite.json        # the front table of RESULTS.md
    python -m benchmarks.suite --list

`benchmarks.suite_rows` holds the rows. Every cell runs in a process of its own. With --against, the cells of this
checkout run with the raysal of the other one too, in turn: other, this, other, this (long cells once each). Numbers are
medians, and `faster` is the other build's time over this one's. What a build cannot do is said in its place, and the
suite goes on.

A cell is repeated until its budget is used up, and after --minutes no further cell is begun, so the whole takes less
than half an hour on 2 quiet cores (with --against twice that). --quick takes tiny sizes, to see that all rows run:
its numbers mean nothing. --full takes k = 100,000, too.

Needs `make setup`, about 8 GB of memory and 6 GB of disk in --folder. Not measured without what they need:
scikit-activeml (--peers-python; `benchmarks.peers` says how to get it), Ray, Fashion-MNIST (`make demo` fetches it).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.suite_rows import CELLS, ROWS, Row, Setting
from benchmarks.suite_table import line_of, table

HERE = Path(__file__).resolve().parents[1]
THIS, OTHER = "this", "other"
MACHINE = "benchmarks.suite_machine:rates"
OTHER_PROCESSORS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""Have NumPy multiply as on another processor: the loops beside raysal would be up to five times slower."""
ONLY_THIS_BUILD = """
import sys
sys.meta_path[:] = [f for f in sys.meta_path if "raysal" not in getattr(sys.modules.get(f.__module__), "MAPPING", ())]
"""
"""sitecustomize.py of a build's path. The finder of an installation in place (`pip install -e`) would give a module
that the build lacks from the checkout that is installed, without a word."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [row.name for row in ROWS]
    parser.add_argument("--rows", nargs="+", choices=names, default=names, metavar="NAME", help="only these")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="a checkout of another build")
    parser.add_argument("--turns", type=int, help="of every cell, instead of its own number and budget")
    parser.add_argument("--minutes", type=float, help="after which no further cell begins (25; with --against 50)")
    parser.add_argument("--peers-python", type=Path, help="the interpreter that has scikit-activeml")
    parser.add_argument("--folder", type=Path, help="where pools are kept, and found again; default: nowhere")
    parser.add_argument("--out", type=Path, help="write everything as JSON")
    parser.add_argument("--table", type=Path, metavar="FILE", help="print the Markdown table of such a JSON, and stop")
    parser.add_argument("--list", action="store_true", help="print the names of the rows, and stop")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", dest="size", action="store_const", const="quick", default="usual")
    size.add_argument("--full", dest="size", action="store_const", const="full")
    args = parser.parse_args()
    if args.minutes is None:
        args.minutes = 25.0 if args.against is None else 50.0
    if args.list:
        print("\n".join(f"{row.name:14} {row.what}" for row in ROWS))
    elif args.against is not None and not (args.against / "raysal" / "__init__.py").exists():
        parser.error(f"--against {args.against}: no checkout of raysal is there")
    elif args.table:
        if not args.table.is_file():
            parser.error(f"--table {args.table}: no such file; --out writes one")
        print("\n".join(table(json.loads(args.table.read_text()))))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            args.folder = (args.folder or Path(temporary)).resolve()
            measure(args)


def measure(args: argparse.Namespace) -> None:
    """All rows asked for; writes the JSON after every cell."""
    builds = {THIS: HERE} if args.against is None else {OTHER: args.against.resolve(), THIS: HERE}
    make_paths(builds, args.folder)
    rows = [row for row in ROWS if row.name in args.rows]
    started, minutes = time.monotonic(), args.minutes
    found: dict[str, Any] = {
        "date": date.today().isoformat(),
        "size": args.size,
        "builds": {build: commit_of(tree) for build, tree in builds.items()},
        "machine": [rates(args)],
        "rows": [],
        "cells": {},
    }
    say(found["machine"][0].get("name", ""))
    for name in dict.fromkeys(row.cell for row in rows):
        late = time.monotonic() - started > 60 * minutes
        begun = time.monotonic()
        runs = {THIS: [{"reason": f"not begun: {minutes:g} minutes were over"}]} if late else in_turn(name, args)
        found["cells"][name] = {"seconds": round(time.monotonic() - begun, 1), "runs": runs}
        for row in (row for row in rows if row.cell == name):
            found["rows"].append(result_of(row, runs, judge=args.size != "quick"))
            say(line_of(found["rows"][-1]))
        found["minutes"] = round((time.monotonic() - started) / 60, 1)
        write(args.out, found)
    found["machine"].append(rates(args))
    write(args.out, found)
    say(f"{found['minutes']} minutes; machine before and after: {json.dumps(found['machine'])}")
    if args.out is None:
        print(json.dumps(found, indent=1))


def make_paths(builds: dict[str, Path], folder: Path) -> None:
    """A folder for each build, with a path that has its raysal and nothing else of its checkout."""
    for build, tree in builds.items():
        link = folder / build / "path" / "raysal"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(tree.resolve() / "raysal")
        link.with_name("sitecustomize.py").write_text(ONLY_THIS_BUILD)
        # or a build whose bytecode is not written compiles it at every start
        subprocess.run([sys.executable, "-m", "compileall", "-q", str(tree / "raysal")], check=False)


def in_turn(name: str, args: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """What a cell found, by build: the builds one after the other in every turn."""
    cell = CELLS[name]
    builds = (THIS,) if args.against is None else (OTHER, THIS)
    runs: dict[str, list[dict[str, Any]]] = {build: [] for build in builds}
    turns = args.turns or (1 if args.size == "quick" else cell.turns)
    begun = time.monotonic()
    for turn in range(turns):
        if turn and args.turns is None and time.monotonic() - begun > cell.budget_s * len(builds):
            break
        for build in builds:
            if not any("reason" in run for run in runs[build]):
                runs[build].append(in_fresh_process(cell.function, build, cell.limit_s, args))
    return runs


def in_fresh_process(function: str, build: str, limit: float, args: argparse.Namespace) -> dict[str, Any]:
    """What a cell printed: `numbers`, or the `reason` why there are none."""
    shared, own = args.folder / "shared", args.folder / build
    shared.mkdir(exist_ok=True)
    setting = Setting(shared=shared, own=own, size=args.size, peers_python=args.peers_python)
    path = os.pathsep.join([str(own / "path"), str(HERE)])
    command = [sys.executable, "-P", "-m", "benchmarks.suite_cell", function, json.dumps(asdict(setting), default=str)]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=errors,
            cwd=own,
            env={
                **{name: value for name, value in os.environ.items() if name not in OTHER_PROCESSORS},
                "PYTHONPATH": path,
                "PYTHONSAFEPATH": "1",
                "PYTHONWARNINGS": "ignore",
            },
            start_new_session=True,
        )
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            return {"reason": f"did not finish: {limit:g} s"}
        finally:
            stop(process)
        out.seek(0)
        lines = out.read().splitlines()
        errors.seek(0)
        last = errors.read()[-2000:]
    try:
        found: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError):
        return {"reason": f"ended with status {process.returncode} and no result", "stderr": last}
    home = str(found.pop("raysal"))
    if "reason" in found:
        found["stderr"] = last
    elif not home.startswith(str(own / "path")):
        return {"reason": f"another raysal was imported: {home}"}
    return found


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a cell and what it started, if it has not ended by itself."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def result_of(row: Row, runs: dict[str, list[dict[str, Any]]], judge: bool = True) -> dict[str, Any]:
    """A row's line of the JSON: ratios, and whether the aim was met, which some rows have in seconds or MB."""
    about = {"name": row.name, "what": row.what, "unit": row.unit, "aim": str(row.aim) if row.aim else None}
    mine, others = runs.get(THIS, []), runs.get(OTHER, [])
    found: dict[str, Any] = {**about, "value": median_of(row.number, mine), "before": median_of(row.number, others)}
    cost, cost_before = median_of(row.cost, mine), median_of(row.cost, others)
    found["faster"] = cost_before / cost if cost and cost_before else None
    if row.aim is not None and judge:
        number = row.aim.number or row.number
        judged = found["faster"] if number == "faster" else median_of(number, mine)
        found["judged"] = judged
        found["met"] = None if judged is None else row.aim.met(judged)
    reasons = {build: run["reason"] for build, own in runs.items() for run in own if "reason" in run}
    picks = {json.dumps(run["numbers"].get("picks"), sort_keys=True) for own in runs.values() for run in own
             if "numbers" in run}  # fmt: skip
    return {**found, "reasons": reasons, "same_picks": len(picks) <= 1}


def median_of(number: str, runs: Sequence[dict[str, Any]]) -> float | None:
    values = [run["numbers"][number] for run in runs if run.get("numbers", {}).get(number) is not None]
    return statistics.median(values) if values else None


def rates(args: argparse.Namespace) -> dict[str, Any]:
    """What the machine can do now."""
    run = in_fresh_process(MACHINE, THIS, 120, args)
    return {**run.get("numbers", run), "load": run.get("load")}


def commit_of(tree: Path) -> str:
    """The commit of a checkout, with a mark if files differ from it."""
    words = ["git", "-C", str(tree), "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def write(path: Path | None, found: dict[str, Any]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
