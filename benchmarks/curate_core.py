"""Large cores: greedy k-center from a whole pool, exactly and by levels, beside uniform samples.

    python -m benchmarks.curate_core WORK [--rows 1000000] [--sizes 1000 10000 100000] [--features FILE.npz]
                                     [--cells core core_levels uniform products] [--against CHECKOUT]

Rows are mixtures of two images of a class (`benchmarks.features`). Without features of an embedded pool, they are the
pixels of Fashion-MNIST on their 256 main axes. A cell runs in a process of its own. `greedy` and `levels` are the
picks alone, without the nearest kept item of each other one. `core` and `core_levels` are the whole step, from
nothing, beside the seconds that `raysal curate --plan` foresees. `uniform` is the radius of as many items drawn at
random. `products` are those of all rows with as many items, by blocks, and the largest of each row: what a way without
bounds takes. By default the exact step is run up to 10,000 items, and that by levels from there. `--against` also runs
the cells of steps and picks with another checkout. Seconds are those of the processor beside those of the clock: on a
busy machine only the first say something.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.curate import DIM, SEED, pixels
from benchmarks.features import base, mixtures
from benchmarks.machine import describe, made_pool
from raysal.config import FleetConfig
from raysal.fleet import Fleet, Partition, exclude, open_fleet, vectors_of
from raysal.numerics import BLOCK_ROWS, PRODUCT_COLUMNS, slices
from raysal.pool import Pool
from raysal.strategies.engine.feature_maps import UnitVectors, factors_of
from raysal.strategies.engine.lazy_greedy import lazy_greedy
from raysal.strategies.engine.priorities import FarthestPoint

KEY = 5
EPSILON = 0.1
EXACT = 10_000
"""Kept items up to which the exact step is run by default."""
BESIDE = "uniform", "products"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--cells", nargs="+", default=None)
    parser.add_argument("--features", type=Path)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--cell", nargs=3, metavar=("WHAT", "POOL", "SIZE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.cell is not None:
        what, pool, size = args.cell
        CELLS[what](Pool(pool), int(size))
        return
    print(describe(), flush=True)
    x, classes = base(args.features, DIM) if args.features is not None else pixels()
    source = {"name": "mixtures", "seed": SEED}
    pool = made_pool(args.work / f"core-{args.rows}", args.rows, x.shape[1], source, mixtures(x, classes, SEED))
    for size in args.sizes:
        steps = (["core"] if size <= EXACT else []) + (["core_levels"] if size >= EXACT else [])
        for what in args.cells or (*steps, *BESIDE):
            words = ["--cell", what, str(pool.path), str(size)]
            run(words, None)
            if what not in BESIDE and args.against is not None:
                run(words, args.against)


def run(words: list[str], checkout: Path | None) -> None:
    """Run a cell in a process of its own, with the code of a checkout."""
    here = Path(__file__).resolve()
    code = f"import runpy, sys; sys.argv[0] = {str(here)!r}; runpy.run_path({str(here)!r}, run_name='__main__')"
    paths = [str(checkout or here.parents[1]), str(here.parents[1])]
    print("against" if checkout is not None else "", end=" ")
    sys.stdout.flush()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    subprocess.run([sys.executable, "-c", code, ".", *words], check=True, env=environment)


def said(what: str, pool: Pool, size: int, clock: tuple[float, float], **facts: Any) -> None:
    # `ru_maxrss` begins with what the process that made this one had.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) / 1024
    seconds, processor = time.perf_counter() - clock[0], time.process_time() - clock[1]
    facts = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in facts.items()}
    took = f"{seconds:.1f} s, processor {processor:.1f} s"
    print(f"{what:8s} {size:>7,} of {len(pool):,}: {took}, {facts}, peak {peak:,.0f} MB", flush=True)


def clock() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def unit(rows: NDArray[np.float32]) -> Any:
    return factors_of(UnitVectors(), rows)


def picks(pool: Pool, size: int, what: str, rule: Any) -> None:
    """The picks alone, and the radius: how far the next one would be."""
    with open_fleet(pool, FleetConfig(backend="local")) as fleet:
        began = clock()
        nothing = unit(np.empty((0, pool.dim), np.float32))
        found = lazy_greedy(fleet, rule, UnitVectors(), size, centres=nothing, opening="lowest", key=KEY)
        looked = (found.pairs + found.pairs_guessed) / (size * len(pool))
        said(what, pool, size, began, trips=found.round_trips, sent=found.rows_sent, looked=looked)
        began = clock()
        said(f"  {what}", pool, size, began, radius=radius_of(fleet, np.array(found.ids)))


def radius_of(fleet: Fleet, ids: NDArray[np.int64]) -> float:
    """The covering radius of some items: the distance of the one that is farthest from them."""
    fleet.reset()
    rows = np.concatenate([part[1] for part in fleet.each(vectors_of, ids)])
    fleet.each(exclude, ids)
    found = lazy_greedy(
        fleet, FarthestPoint(), UnitVectors(), 1, centres=unit(rows), opening="lowest", key=KEY
    )  # fmt: skip
    return float(found.sq_distances[0] ** 0.5)


def greedy(pool: Pool, size: int) -> None:
    picks(pool, size, "greedy", FarthestPoint())


def levels(pool: Pool, size: int) -> None:
    from raysal.strategies.engine.priorities import FarthestLevel

    picks(pool, size, "levels", FarthestLevel(key=KEY, epsilon=EPSILON))


def core(pool: Pool, size: int) -> None:
    step(pool, size, "core", {})


def core_levels(pool: Pool, size: int) -> None:
    step(pool, size, "core_levels", {"mode": "levels", "epsilon": EPSILON})


def step(pool: Pool, size: int, what: str, fields: dict[str, Any]) -> None:
    """The whole step, from nothing."""
    from raysal.api.curate import run_step
    from raysal.curation.folder import FOLDER
    from raysal.curation.forecast import forecast_plan
    from raysal.curation.plan import plan_of
    from raysal.curation.steps.core import Core

    shutil.rmtree(pool.path / FOLDER, ignore_errors=True)
    (line,) = forecast_plan(pool, plan_of(Core(size=size, **fields)))
    began, picked = clock(), []

    def report(stage: str, done: int, total: int) -> None:
        del done, total
        if "nearest" in stage:
            picked.append(time.process_time() - began[1])

    found = run_step(pool, Core(size=size, **fields), report=report)
    facts = {name: found.steps[0].result.facts[name] for name in ("radius", "guarantee", "mean_distance")}
    said(what, pool, size, began, foreseen=line.seconds, processor_of_picks=picked[0], **facts)


def products(pool: Pool, size: int) -> None:
    """The blocked products in single precision of all rows with some of them, and the largest of each row."""
    ids = np.sort(np.random.default_rng(SEED).choice(len(pool), size, replace=False))
    with open_fleet(pool, FleetConfig(backend="local")) as fleet:
        began = clock()
        (rows,) = fleet.each(largest_products, ids)
        said("products", pool, size, began, rows=rows)


def largest_products(partition: Partition, ids: NDArray[np.int64]) -> int:
    some = torch.from_numpy(vectors_of(partition, ids)[1].astype(np.float32))
    some = torch.nn.functional.pad(some, (0, partition.width - some.shape[1]))
    out, done = torch.empty(PRODUCT_COLUMNS, BLOCK_ROWS), 0
    for block in partition.blocks():
        for own in slices(len(some), PRODUCT_COLUMNS):
            torch.mm(some[own], block.features.T, out=out[: own.stop - own.start]).amax(0)
        done += block.n
    return done


def uniform(pool: Pool, size: int) -> None:
    """The radius of items drawn at random."""
    ids = np.sort(np.random.default_rng(SEED).choice(len(pool), size, replace=False))
    with open_fleet(pool, FleetConfig(backend="local")) as fleet:
        began = clock()
        said("uniform", pool, size, began, radius=radius_of(fleet, ids))


CELLS: dict[str, Callable[[Pool, int], None]] = {
    "greedy": greedy, "levels": levels, "core": core, "core_levels": core_levels, "uniform": uniform,
    "products": products,
}  # fmt: skip

if __name__ == "__main__":
    main()
