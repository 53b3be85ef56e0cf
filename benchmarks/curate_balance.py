"""Balance: k-means beside faiss and scikit-learn, and what an even choice is worth on a long-tailed Fashion-MNIST.

    python -m benchmarks.curate_balance WORK [--rows 100000] [--clusters 1000] [--features FILE.npz]
    python -m benchmarks.curate_balance WORK --tail [--seeds 10]

k-means: rows are mixtures of two images of a class (`benchmarks.features`), of unit length; without features of an
embedded pool, they are made of the pixels of Fashion-MNIST on their 256 main axes. Each way runs in a process of its
own. What counts is the time until the mean squared distance of all rows to the nearest centroid is as low as raysal's
after its 5.5 passes, with the pass that measures it. faiss tells time and objective of each of its iterations over all
rows; MiniBatchKMeans is stopped each half second to be measured, which does not count. `plain` measures raysal
without the screen of bfloat16, and `pass` one pass alone, beside an exact search by faiss. Seconds of processors hold
better than others where the machine is busy.

The long tail: class c of 10,000 images of Fashion-MNIST (or of what `--features` are of) has 0.6^c as many images as
the first, in an order of classes by the seed. Of these, N are kept by `balance` as it is by default, and N are drawn at
random; a logistic regression is fitted on both, with all labels of what was kept, and judged on 250 images of each
class that were held out.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.curate import DIM, SEED, pixels
from benchmarks.features import base, mixtures
from benchmarks.machine import CHUNK_ROWS, describe, made_pool
from raysal.config import FleetConfig
from raysal.curation.job import ids_of
from raysal.curation.tree import nearest
from raysal.curation.tree.kmeans import assigned, first_centroids, iterations
from raysal.fleet import open_fleet
from raysal.numerics import shared_out
from raysal.pool import Pool
from raysal.scoring.similarity import unit_rows

KEPT = 300
HELD_OUT = 250
SHARE = 0.6
ONE_PASS = 50_000
"""Rows of one pass alone, at most."""
PATIENCE = 6
"""Times the seconds of raysal that a peer is given."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--clusters", type=int, default=1000)
    parser.add_argument("--features", type=Path)
    parser.add_argument("--iterations", type=int, default=25, help="of faiss")
    parser.add_argument("--ways", nargs="+", default=["raysal", "plain", "faiss", "super", "minibatch", "pass"])
    parser.add_argument("--tail", action="store_true")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--cell", nargs=3, metavar=("WAY", "POOL", "GOAL"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.cell is not None:
        way, path, goal = args.cell
        objective, seconds = map(float, goal.split())
        WAYS[way](Task(Pool(path), args.clusters, args.iterations, objective, seconds))
        return
    print(describe(), flush=True)
    if args.tail:
        long_tail(args.work, args.features, args.seeds)
        return
    pool = write_pool(args.work / f"pool-{args.rows}", args.rows, args.features)
    goal = "0 0"
    for way in args.ways:
        words = [sys.executable, "-m", "benchmarks.curate_balance", str(args.work), "--clusters", str(args.clusters)]
        cell = [*words, "--iterations", str(args.iterations), "--cell", way, str(pool.path), goal]
        said = subprocess.run(cell, check=True, stdout=subprocess.PIPE, text=True).stdout
        print(said, end="", flush=True)
        if way == "raysal":
            goal = said.split("goal ")[1].split(",")[0]


def write_pool(path: Path, rows: int, features: Path | None) -> Pool:
    """The pool of some rows; reused if it is there."""
    x, classes = base(features, DIM) if features is not None else pixels()
    return made_pool(path, rows, x.shape[1], {"name": "mixtures", "seed": SEED}, mixtures(x, classes, SEED))


def rows_in(pool: Pool) -> NDArray[np.float32]:
    """All rows, of unit length."""
    found = np.empty((len(pool), pool.dim), np.float32)
    for at, chunk in enumerate(pool.chunks):
        found[at * CHUNK_ROWS :][: chunk.rows] = unit_rows(chunk.vectors())
    return found


class Task(NamedTuple):
    """What each way is to do."""

    pool: Pool
    clusters: int
    iterations: int
    """of faiss"""
    goal: float
    """the objective of raysal"""
    ours: float
    """its seconds"""

    def say(self, way: str, **facts: Any) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        words = [
            f"{name} {value:.5g}" if isinstance(value, float) else f"{name} {value}" for name, value in facts.items()
        ]
        line = f"{way:10s} {len(self.pool):,} rows, {self.clusters:,} clusters: {', '.join(words)}"
        print(f"{line}, peak {peak:,.0f} MB", flush=True)


def raysal(task: Task, way: str = "raysal") -> None:
    """The iterations of the step balance, and the pass that assigns all rows."""
    pool = task.pool
    with open_fleet(pool, FleetConfig(backend="local")) as fleet:
        ids = ids_of(pool)
        nearest.halves_pay()
        start, before = time.perf_counter(), time.process_time()
        centroids = first_centroids(fleet, pool.metric, ids, task.clusters, 1)
        *_, centroids = iterations(fleet, pool.metric, ids, centroids, 1, begin=fleet.reset)
        moved = time.perf_counter() - start
        which, sq_distance = assigned(fleet, centroids, fleet.reset)
        seconds, processor = time.perf_counter() - start, time.process_time() - before
    objective = float(sq_distance.astype(np.float64).mean())
    empty = task.clusters - len(np.unique(which))
    task.say(
        way, seconds=seconds, to_move=moved, processor=processor, objective=objective, empty=empty,
        goal=f"{objective!r} {seconds!r}",
    )  # fmt: skip


def plain(task: Task) -> None:
    """The same, all products in single precision."""
    nearest.halves_pay = lambda: False  # type: ignore[assignment]
    raysal(task, "plain")


def faiss(task: Task, kind: str = "Kmeans") -> None:
    """faiss, and when it was as good."""
    import faiss

    x = rows_in(task.pool)
    options = {"niter": task.iterations, "max_points_per_centroid": len(x), "seed": 1}
    made = getattr(faiss, kind)(x.shape[1], task.clusters, **options)
    start, before = time.perf_counter(), time.process_time()
    made.train(x)
    whole, processor = time.perf_counter() - start, time.process_time() - before
    times = [stats["time"] for stats in made.iteration_stats]  # from the start, by its own clock
    times = [seconds * whole / times[-1] for seconds in times]  # SuperKMeans leaves something out
    reached(kind, task, times, [stats["obj"] / len(x) for stats in made.iteration_stats], processor)


def minibatch(task: Task) -> None:
    """scikit-learn's MiniBatchKMeans, in batches of ten rows a cluster."""
    from sklearn.cluster import MiniBatchKMeans

    x = rows_in(task.pool)
    size = min(10 * task.clusters, len(x))
    made = MiniBatchKMeans(task.clusters, init="random", n_init=1, batch_size=size, random_state=1)
    rng = np.random.default_rng(1)
    spent, measured, processor = 0.0, 0.0, 0.0
    times: list[float] = []
    objectives: list[float] = []
    while spent < PATIENCE * task.ours and (not objectives or objectives[-1] > task.goal):
        batch = x[rng.choice(len(x), size, replace=False)]
        start, before = time.perf_counter(), time.process_time()
        made.partial_fit(batch)
        spent += time.perf_counter() - start
        processor += time.process_time() - before
        if spent > measured + max(0.5, 0.25 * task.ours):
            measured = spent
            times.append(spent)
            objectives.append(objective_of(x, made.cluster_centers_.astype(np.float32)))
    reached("minibatch", task, times, objectives, processor)


def objective_of(x: NDArray[np.float32], centroids: NDArray[np.float32]) -> float:
    """The mean squared distance of rows to the nearest centroid."""
    import torch

    of = nearest.NearestCentroid(centroids, x.shape[1])
    return float(
        np.mean([of.of(torch.from_numpy(x[low : low + 65536]))[1].double().mean() for low in range(0, len(x), 65536)])
    )


def one_pass(task: Task) -> None:
    """One pass over some rows, each way in turn: with the screen, without, and an exact search by faiss."""
    import faiss
    import torch

    x = rows_in(task.pool)[:ONE_PASS]
    centroids = x[np.random.default_rng(1).choice(len(x), task.clusters, replace=False)]
    index = faiss.IndexFlatL2(x.shape[1])
    index.add(centroids)
    screened, single = (nearest.NearestCentroid(centroids, x.shape[1], screen=screen) for screen in (True, False))
    rows = torch.from_numpy(x)

    def in_pieces(of: nearest.NearestCentroid) -> None:
        pieces = [rows[low : low + 8192] for low in range(0, len(rows), 8192)]
        shared_out(of.of, pieces, torch.get_num_threads())

    ways = {
        "screen": lambda: in_pieces(screened),
        "single": lambda: in_pieces(single),
        "faiss": lambda: index.search(x, 1),
    }
    wall: dict[str, list[float]] = {name: [] for name in ways}
    processor: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(2):
        for name, work in ways.items():
            start, before = time.perf_counter(), time.process_time()
            work()  # type: ignore[no-untyped-call]
            wall[name].append(time.perf_counter() - start)
            processor[name].append(time.process_time() - before)
    facts = {name: f"{min(wall[name]):.3g} s ({min(processor[name]):.3g} s of processors)" for name in ways}
    task.say("one pass", **facts)


def reached(way: str, task: Task, times: list[float], objectives: list[float], processor: float) -> None:
    """Say when a way was as good as the goal, beside how long raysal took."""
    at = next((place for place, objective in enumerate(objectives) if objective <= task.goal), None)
    if at is None:
        words = f"never: {times[-1] / task.ours:.2f} x the time and more"
    else:
        words = f"after {times[at]:.3g} s (pass {at + 1}), {times[at] / task.ours:.2f} x the time"
    task.say(
        way, seconds=times[-1], processor=processor, objective=objectives[-1], passes=len(times), as_good=words
    )  # fmt: skip


def long_tail(work: Path, features: Path | None, seeds: int) -> None:
    """Entropy of classes and accuracy, of N even and N uniform items."""
    from sklearn.linear_model import LogisticRegression

    from raysal import balance

    x, classes = base(features, DIM) if features is not None else pixels()
    found = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        own: list[int] = []
        test: list[int] = []
        for rank, c in enumerate(rng.permutation(10)):
            rows = rng.permutation(np.flatnonzero(classes == c))
            test += rows[:HELD_OUT].tolist()
            own += rows[HELD_OUT:][: int((len(rows) - HELD_OUT) * SHARE**rank)].tolist()
        kept_rows = np.array(own)
        with tempfile.TemporaryDirectory(dir=work) as folder:
            pool = made_pool(
                Path(folder) / "pool", len(own), x.shape[1], {"name": "tail", "seed": seed}, of_rows(x[kept_rows])
            )
            even = balance(pool, size=KEPT, seed=seed).kept_ids
        uniform = rng.choice(len(own), KEPT, replace=False)
        row = [entropy(classes[kept_rows])]
        for ids in (even, uniform):
            chosen = kept_rows[ids]
            head = LogisticRegression(C=1.0, max_iter=300).fit(unit_rows(x[chosen]) * 10, classes[chosen])
            row += [entropy(classes[chosen]), float((head.predict(unit_rows(x[test]) * 10) == classes[test]).mean())]
        found.append(row)
        print(f"seed {seed}: {len(own):,} items, " + ", ".join(f"{value:.4f}" for value in row), flush=True)
    before, even_bits, even_right, uniform_bits, uniform_right = np.array(found).T
    print(
        f"entropy of classes, bits: pool {before.mean():.3f}, "
        f"{KEPT} even {even_bits.mean():.3f}, uniform {uniform_bits.mean():.3f}"
    )
    gain = even_right - uniform_right
    half = 2.26 * gain.std(ddof=1) / len(gain) ** 0.5  # Student's t of ten seeds
    print(
        f"accuracy: even {even_right.mean():.4f}, uniform {uniform_right.mean():.4f}, "
        f"gain {gain.mean():.4f} ({gain.mean() - half:.4f} to {gain.mean() + half:.4f}, 95 %)"
    )


def of_rows(x: NDArray[np.float32]) -> Callable[[int, int], NDArray[np.floating]]:
    """Gives a pool these rows."""
    return lambda chunk, n: x[chunk * CHUNK_ROWS :][:n]


def entropy(classes: NDArray[np.int64]) -> float:
    """Of shares of classes, in bits."""
    share = np.bincount(classes) / len(classes)
    return float(-(share[share > 0] * np.log2(share[share > 0])).sum())


WAYS: dict[str, Callable[..., None]] = {
    "raysal": raysal,
    "plain": plain,
    "faiss": faiss,
    "super": lambda task: faiss(task, "SuperKmeans"),
    "minibatch": minibatch,
    "pass": one_pass,
}

if __name__ == "__main__":
    main()
