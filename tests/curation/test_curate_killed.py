"""A `raysal curate` that is killed at any moment, and run again, gives the same bytes as one that never was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from near_rows import vectors_with_copies
from pools import make_pool
from tiers import deep
from warm import python

PLAN = """
seed = 3

[[steps]]
name = "filter"
where = { contrast = { min = 5.0 } }

[[steps]]
name = "check"

[[steps]]
name = "exact"

[[steps]]
name = "near"
threshold = 0.95

[[steps]]
name = "balance"
size = 0.6

[[steps]]
name = "core"
size = 20
"""
"""All steps, in the order of configs/curate.toml."""
PROGRAM = """
import os, sys
from killing import KILLED, exit_code_of, kill_before
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
import raysal.curation.job, raysal.report.curation, torch, matplotlib.pyplot  # once, not in every child
import sklearn.decomposition, sklearn.manifold, sklearn.neighbors
import raysal.curation.forecast, raysal.report.map_layout
from raysal.cli import main
raysal.curation.forecast.MEASURED_S, raysal.report.map_layout.MIN_TSNE_POINTS = 0.0015, 10**6  # as in conftest.py

def command(step, place):
    calls = kill_before(step)
    os.chdir(place)
    sys.argv = ["raysal", "curate", "pool", "--config", "plan.toml", "-o", "all.parquet", "--rows", "all",
                "--report", "report.json"]
    code = main()
    with open(f"{place}.count", "w") as file:
        file.write(str(calls()))
    return code

for word in sys.argv[1:]:
    step, _, place = word.partition(":")
    codes = [exit_code_of(lambda: command(int(step), place))]
    while codes[-1] == KILLED:  # later and later, until it comes to its end
        codes.append(exit_code_of(lambda: command(int(step) + len(codes), place)))
    print(len(codes), codes[-1], flush=True)
"""
NEVER = 0


def commands(words: Sequence[str]) -> list[list[int]]:
    """Run the command in each folder, killed before the system call of a number, then before the next one of the next
    run, and so on until it comes to its end; how many runs that took, and the exit code."""
    done = python(PROGRAM, *words)
    assert done.returncode == 0, done.stderr
    return [[int(number) for number in line.split()] for line in done.stdout.splitlines()]


def written(place: Path) -> tuple[bytes, Any]:
    """The bytes of the table, and what the report says but for times, and where the pool is."""

    def timeless(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: timeless(one) for name, one in value.items() if name not in ("seconds", "pool")}
        return [timeless(one) for one in value] if isinstance(value, list) else value

    return (place / "all.parquet").read_bytes(), timeless(json.loads((place / "report.json").read_text()))


@deep
def test_killed_at_many_moments_and_run_again_it_has_the_same_bytes(tmp_path: Path) -> None:
    rows = vectors_with_copies(0)
    n = len(rows)
    contrast = np.where(np.arange(n) % 11 == 0, 1.0, 9.0).tolist()
    labels = [f"class-{np.random.default_rng(i).integers(3)}" for i in range(n)]
    place = tmp_path / "whole" / "here"
    place.mkdir(parents=True)
    make_pool(place / "pool", rows, chunk_rows=64, labels=labels, carried={"contrast": contrast})
    (place / "plan.toml").write_text(PLAN)
    shutil.copytree(tmp_path / "whole", tmp_path / "fresh")
    assert commands([f"{NEVER}:{place}"]) == [[1, 0]]
    wanted = written(place)
    steps = set(pq.read_table(place / "all.parquet")["step"].to_pylist())
    assert steps >= {"filter", "exact", "near", "balance", "core"}
    calls = int(Path(f"{place}.count").read_text())
    first = (1, calls // 4, calls // 2, calls - 4)
    for moment in first:
        shutil.copytree(tmp_path / "fresh", tmp_path / f"{moment}")
    done = commands([f"{moment}:{tmp_path / str(moment) / 'here'}" for moment in first])
    assert [code for _, code in done] == [0] * len(first)
    assert min(runs for runs, _ in done) > 1, "each was killed at least once"

    for moment in first:
        assert written(tmp_path / f"{moment}" / "here") == wanted, moment
