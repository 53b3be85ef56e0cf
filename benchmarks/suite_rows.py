"""The rows of `benchmarks.suite`: what each says, where its number comes from, and what was aimed at.

A cell is one measurement: a function in `benchmarks.suite_rows_*` that runs in a process of its own, with the raysal of
one build, and returns numbers by name. Several rows may read the same cell. A cell measures its yardstick (a product, a
loop, `import torch`) in turn with raysal, in the same process, so that its ratio holds on any machine. To add a row:
one line in ROWS, and a function with a line in CELLS where no cell has the number yet.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Numbers = dict[str, Any]
"""What a cell found: numbers by name; ends of names say units (`_s`, `_mb`), and ratios have none. Under `picks` it may
have digests by name, which must be the same for every build."""
Size = Literal["quick", "usual", "full"]


class CannotMeasure(Exception):
    """This machine or build cannot do it; says why, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a cell is told."""

    shared: Path
    """Pools and files that all builds read; kept until the suite ends."""
    own: Path
    """The same for one build."""
    size: Size = "usual"
    peers_python: Path | None = None

    def sized(self, usual: int, quick: int, full: int | None = None) -> int:
        """A number by the size of the suite."""
        return {"quick": quick, "usual": usual, "full": full or usual}[self.size]

    def turns(self, usual: int) -> int:
        """Turns within a cell, after one that warms up."""
        return 1 if self.size == "quick" else usual


def alone(function: str, *words: object, limit: float | None = None) -> Numbers:
    """What a function (module:function, of words) returns in a process of its own, as JSON carries it; stopped after
    `limit` seconds."""
    module, _, name = function.partition(":")
    code = f"import json, sys; from {module} import {name}; print(json.dumps({name}(*sys.argv[1:])))"
    command = [sys.executable, "-P", "-c", code, *map(str, words)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        raise CannotMeasure(f"did not finish: {limit:.0f} s") from None
    if done.returncode:
        raise CannotMeasure(f"{name}: {(done.stderr.strip().splitlines() or ['no word'])[-1][:200]}")
    found: Numbers = json.loads(done.stdout.splitlines()[-1])
    return found


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One measurement of one build, in a process of its own."""

    function: str
    """module:function, of a Setting"""
    turns: int = 2
    """How often it is measured, the builds in turn."""
    budget_s: float = 60.0
    """No further turn is begun after so many seconds."""
    limit_s: float = 400.0
    """One measurement is stopped after so many seconds."""


@dataclass(frozen=True, kw_only=True)
class Aim:
    """What was wanted of a number of the row's cell."""

    limit: float
    least: bool = False
    """The number is to be at least so large; else at most."""
    number: str = ""
    """Another number than the row's own; `faster` is how many times as fast as the other build."""
    unit: str = ""

    def met(self, value: float) -> bool:
        return value >= self.limit if self.least else value <= self.limit

    def __str__(self) -> str:
        unit = {"faster": " x the build before"}.get(self.number, f" {self.unit}" if self.unit else "")
        return f"{'≥' if self.least else '≤'} {self.limit:g}{unit}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    name: str
    what: str
    cell: str
    number: str
    """The ratio that is shown."""
    unit: str
    """What it is a ratio to."""
    cost: str
    """The number that tells which build is faster; lower is better."""
    aim: Aim | None = None


def most(limit: float, number: str = "", unit: str = "") -> Aim:
    return Aim(limit=limit, number=number, unit=unit)


def least(limit: float, number: str = "", unit: str = "") -> Aim:
    return Aim(limit=limit, least=True, number=number, unit=unit)


def faster(limit: float) -> Aim:
    return Aim(limit=limit, least=True, number="faster")


SELECTION, POOLS = "benchmarks.suite_rows_selection", "benchmarks.suite_rows_pools"
COMMANDS, MODELS, IMAGES = (f"benchmarks.suite_rows_{name}" for name in ("commands", "models", "images"))

CELLS = {
    "hard": Cell(function=f"{SELECTION}:hard", turns=3),
    "easy": Cell(function=f"{SELECTION}:easy", turns=3),
    "loop-10k": Cell(function=f"{SELECTION}:loop_10k", turns=5),
    "peer-50k": Cell(function=f"{SELECTION}:peer_50k", turns=3),
    "many": Cell(function=f"{SELECTION}:many", turns=1),
    "typiclust": Cell(function=f"{SELECTION}:typiclust_start"),
    "parquet": Cell(function=f"{POOLS}:parquet"),
    "arrow": Cell(function=f"{POOLS}:arrow"),
    "npy": Cell(function=f"{POOLS}:npy"),
    "memory": Cell(function=f"{POOLS}:memory_of_select", turns=1),
    "driver": Cell(function=f"{POOLS}:memory_of_driver", turns=1),
    "commands": Cell(function=f"{COMMANDS}:commands"),
    "import": Cell(function=f"{COMMANDS}:first_select"),
    "demo": Cell(function=f"{COMMANDS}:demo", turns=1),
    "wide": Cell(function=f"{MODELS}:wide_heads"),
    "head": Cell(function=f"{MODELS}:head_of_1000", turns=3),
    "tell": Cell(function=f"{MODELS}:tell_of_one", turns=1),
    "bait": Cell(function=f"{MODELS}:bait_loop", turns=3),
    "bait-narrowed": Cell(function=f"{MODELS}:bait_narrowed"),
    "sweep": Cell(function=f"{MODELS}:sweeps", turns=3),
    "bald": Cell(function=f"{MODELS}:bald_sweep", turns=3),
    "embed": Cell(function=f"{IMAGES}:embed_job", turns=1),
    "jpeg": Cell(function=f"{IMAGES}:jpeg_folder"),
}

PRODUCT = "x one product of all rows with all picks, less a sweep"
LOOP = "x a numpy loop"
TORCH = "x `import torch`"
PYTHON = "x `python -c pass`"

ROWS = (
    # Selection
    Row(name="badge-hard", what="BADGE, k = 500 of 400,000 x 256, nothing can be pruned", cell="hard",
        number="badge_products", unit=PRODUCT, cost="badge_s", aim=most(1.2)),
    Row(name="kcenter-hard", what="k-center, the same", cell="hard",
        number="coreset_products", unit=PRODUCT, cost="coreset_s", aim=most(1.2)),
    Row(name="badge-easy", what="BADGE, k = 1,000 of 1,000,000 x 256, clusters", cell="easy",
        number="badge_eager", unit="x as fast as the eager loop", cost="badge_s", aim=least(60)),
    Row(name="kcenter-easy", what="k-center, the same", cell="easy",
        number="coreset_eager", unit="x as fast as the eager loop", cost="coreset_s", aim=least(20)),
    Row(name="kcenter-peer", what="k-center, k = 1,000 of 50,000 x 64", cell="peer-50k",
        number="peers", unit="x as fast as scikit-activeml", cost="ours_s", aim=least(30)),
    Row(name="kcenter-10k", what="k-center, k = 100 of 10,000 x 64, opening included", cell="loop-10k",
        number="coreset_loops", unit=LOOP, cost="coreset_s", aim=most(1.2)),
    Row(name="badge-10k", what="BADGE, k = 100 of 10,000 x 128, opening included", cell="loop-10k",
        number="badge_loops", unit=LOOP, cost="badge_s", aim=most(1.2)),
    Row(name="badge-many", what="BADGE, k = 10,000 of 1,000,000 x 256", cell="many",
        number="badge_products", unit=PRODUCT, cost="badge_s", aim=faster(3)),
    Row(name="kcenter-many", what="k-center, the same", cell="many",
        number="coreset_products", unit=PRODUCT, cost="coreset_s", aim=faster(3)),
    Row(name="typiclust", what="start by typiclust, k = 500 of 1,000,000 x 256", cell="typiclust",
        number="sweeps", unit="x a sweep", cost="start_s", aim=faster(3)),
    # Pools
    Row(name="parquet", what="ready vectors to a pool, Parquet, 400,000 x 256", cell="parquet",
        number="reads", unit="x pyarrow's reading of the file", cost="embed_s", aim=most(1.3)),
    Row(name="arrow", what="the same, Arrow IPC", cell="arrow",
        number="copies", unit="x a copy of the file", cost="embed_s", aim=faster(30)),
    Row(name="npy", what="the same, .npy", cell="npy",
        number="copies", unit="x a copy of the file", cost="embed_s", aim=faster(30)),
    Row(name="memory", what="memory of its own of `raysal.select` (BADGE, k = 100), of 10,000,000 x 128", cell="memory",
        number="of_file", unit="x the mapped file", cost="own_mb", aim=most(600, "own_mb", "MB")),
    Row(name="driver", what="the driver's memory on Ray, from 100,000 rows to 1,000,000", cell="driver",
        number="growth", unit="x the smaller pool's", cost="difference_mb", aim=most(50, "difference_mb", "MB")),
    # Commands
    Row(name="select", what="`raysal select -k 20 --strategy coreset`, 10,000 items", cell="commands",
        number="select", unit=TORCH, cost="select_s", aim=most(2.2, "select_s", "s")),
    Row(name="status", what="`raysal status`", cell="commands",
        number="status", unit=PYTHON, cost="status_s", aim=most(0.5, "status_s", "s")),
    Row(name="label-import", what="`raysal label import`, 20 labels", cell="commands",
        number="label_import", unit=PYTHON, cost="label_import_s", aim=most(0.5, "label_import_s", "s")),
    Row(name="label-export", what="`raysal label export`", cell="commands",
        number="label_export", unit=PYTHON, cost="label_export_s", aim=most(0.5, "label_export_s", "s")),
    Row(name="pool-info", what="`raysal pool info`", cell="commands",
        number="pool_info", unit=PYTHON, cost="pool_info_s", aim=most(0.5, "pool_info_s", "s")),
    Row(name="help", what="`raysal --help`", cell="commands",
        number="help", unit=PYTHON, cost="help_s"),
    Row(name="import", what="`import raysal` and a first `raysal.select` in Python", cell="import",
        number="torches", unit=TORCH, cost="first_s", aim=most(1.2)),
    Row(name="demo", what="`raysal demo`", cell="demo",
        number="demo", unit=TORCH, cost="demo_s"),
    Row(name="demo-again", what="the same once more, when it is finished", cell="demo",
        number="again", unit=TORCH, cost="again_s", aim=most(3, "again_s", "s")),
    # Heads, sweeps, BAIT
    Row(name="head-4096", what="a head of 30 labels, d = 4,096", cell="wide",
        number="fit_4096", unit="x scikit-learn's", cost="fit_4096_s", aim=most(0.3, "fit_4096_s", "s")),
    Row(name="head-8192", what="the same, d = 8,192", cell="wide",
        number="fit_8192", unit="x scikit-learn's", cost="fit_8192_s", aim=most(0.3, "fit_8192_s", "s")),
    Row(name="head-memory", what="its memory, d = 8,192", cell="wide",
        number="memory_8192", unit="x the labelled vectors, float64", cost="fit_8192_mb",
        aim=most(500, "fit_8192_mb", "MB")),
    Row(name="random-8192", what="`raysal.select`, `random`, with 30 labels, d = 8,192", cell="wide",
        number="random_8192", unit="x scikit-learn's fit", cost="random_8192_s"),
    Row(name="head-1000", what="a head of 1,000 labels, d = 256, 10 classes", cell="head",
        number="fit", unit="x scikit-learn's", cost="fit_s"),
    Row(name="tell", what="the head's part of `Session.tell`, one label after 1,000", cell="tell",
        number="retrains", unit="x as fast as a retrain", cost="follow_s"),
    Row(name="sweep", what="sweep of 1,000,000 x 256, 10 classes, margin", cell="sweep",
        number="rate_10", unit="x the rate of the bare products", cost="sweep_10_s", aim=least(0.8)),
    Row(name="sweep-anchors", what="the same with 100 anchors, 50 neighbours each", cell="sweep",
        number="rate_110", unit="x the rate of the bare products", cost="sweep_110_s", aim=least(0.8)),
    Row(name="bald", what="the same by `bald`, 32 draws", cell="bald",
        number="rate", unit="x the rate of the bare products", cost="sweep_s", aim=least(0.7)),
    Row(name="bait", what="BAIT, 1,000 x 384, k = 100", cell="bait",
        number="loops", unit="x as fast as the published loop", cost="ours_s", aim=least(300)),
    Row(name="bait-narrowed", what="BAIT of 3,000 candidates of 60,000 x 1,280, k = 25", cell="bait-narrowed",
        number="wholes", unit="x as fast as the whole pool", cost="narrowed_s", aim=least(10)),
    # Images
    Row(name="embed", what="embed job on Ray, EfficientNet-Lite0, 64 pixels", cell="embed",
        number="rate", unit="x the rate of the bare model", cost="image_s", aim=least(0.95)),
    Row(name="jpeg", what="a folder of JPEGs to a pool, EfficientNet-Lite0, 224 pixels", cell="jpeg",
        number="rate", unit="x the rate of the bare model", cost="image_s", aim=faster(1.5)),
)  # fmt: skip
