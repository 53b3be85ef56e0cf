"""How fast, and how exact, is selection over a whole pool?

    python -m benchmarks.selection growth   [--features FILE.npz] [--rows 100000 1000000 4000000] [--k 100 1000 10000]
    python -m benchmarks.selection eager    [--features FILE.npz] [--rows 1000000] [--k 1000]
    python -m benchmarks.selection trips    [--features FILE.npz]
    python -m benchmarks.selection race     [--tries 20000]
    python -m benchmarks.selection bait
    python -m benchmarks.selection gpu      [--rows 10000000]
    python -m benchmarks.selection plot     --numbers growth.json eager.json

`eager` sets the lazy engine beside the loop people write: all rows in memory in float32, every row compared with every
pick (for BADGE by the factors of its gradient). It starts both from nothing but the data, and compares their picks.
`growth` times it over N and k, beside one sweep of the same pool, with the driver's memory; `trips` counts round trips
and bytes on 1, 2 and 8 partitions; `race` compares the race with sequential D^2 sampling; `bait` BAIT with the
published loop; `gpu` runs BADGE and k-center with the pool on a GPU. Pools are kept in --folder (default: a temporary
one).
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.features import base, write_pool
from benchmarks.figures import save_figure
from benchmarks.loops import eager_badge, eager_coreset, published_bait
from benchmarks.machine import describe, made_pool
from raysal.fleet import LocalFleet, exclude, plan_partitions
from raysal.models.head import Head
from raysal.models.trainers.base import TrainingData
from raysal.models.trainers.logistic import Logistic
from raysal.pool import Pool
from raysal.rng import item_uniform
from raysal.scoring.linear import Linear
from raysal.scoring.sweep import SweepRequest, sweep
from raysal.strategies.engine.feature_maps import Gradients, Vectors, factors_of
from raysal.strategies.engine.lazy_greedy import GreedyResult, lazy_greedy
from raysal.strategies.engine.priorities import D2Race, FarthestPoint
from raysal.strategies.information.fisher import bait_of_rows

KEY = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=sorted(PARTS))
    parser.add_argument("--features", type=Path)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--rows", type=int, nargs="+", default=None)
    parser.add_argument("--k", type=int, nargs="+", default=None)
    parser.add_argument("--tries", type=int, default=20_000)
    parser.add_argument("--rules", nargs="+", default=["badge", "coreset"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--out", type=Path, help="Also write the numbers here, as JSON.")
    parser.add_argument("--numbers", type=Path, nargs="+", default=[], help="For `plot`: what --out wrote.")
    parser.add_argument("--stem", type=Path, default=Path("docs/selection_time"), help="For `plot`: the picture.")
    args = parser.parse_args()
    print(describe(args.device))
    with tempfile.TemporaryDirectory() as temporary:
        args.folder = args.folder or Path(temporary)
        found = PARTS[args.part](args)
    if args.out is not None:
        args.out.write_text(json.dumps({"machine": describe(args.device), args.part: found}, indent=1))


def head_of(args: argparse.Namespace) -> Head:
    """A head that has seen a thousand labels of the base."""
    x, classes = base(args.features, args.dim)
    some = np.random.default_rng(1).choice(len(x), 1000, replace=False)
    names = [str(c) for c in classes[some]]
    return Logistic().fit(
        TrainingData(
            features=x[some].astype(np.float16).astype(np.float32),
            labels=names,
            weights=np.ones(len(names)),
            classes=sorted(set(names)),
        )
    )


def pool_of(args: argparse.Namespace, rows: int) -> Pool:
    kind = "real" if args.features else "made-up"
    return write_pool(args.folder / f"{kind}-{rows}x{args.dim}", rows, args.features, args.dim)


def run(rule: str, fleet: LocalFleet, head: Head, dim: int, k: int) -> tuple[GreedyResult, float]:
    """What the engine found, and seconds: from the opening pass on."""
    linear = Linear.of(head)
    feature_map = Gradients(head=linear) if rule == "badge" else Vectors()
    centres = factors_of(feature_map, np.empty((0, dim), np.float32))
    start = time.perf_counter()
    found = lazy_greedy(
        fleet,
        FarthestPoint() if rule == "coreset" else D2Race(key=KEY),
        feature_map,
        k,
        centres=centres,
        opening="largest" if rule == "badge" else "lowest",
        key=KEY,
    )
    return found, time.perf_counter() - start


def row_of(rule: str, rows: int, k: int, found: GreedyResult, seconds: float) -> dict[str, Any]:
    return {
        "rule": rule,
        "rows": rows,
        "k": k,
        "seconds": round(seconds, 3),
        "round_trips": found.round_trips,
        "rows_sent": found.rows_sent,
        "pairs": round(found.pairs / rows / k, 4),
    }


# -- against the eager loop ------------------------------------------------------------------------------------------


def eager(args: argparse.Namespace) -> list[dict[str, Any]]:
    rows, k = (args.rows or [1_000_000])[0], (args.k or [1000])[0]
    pool, head = pool_of(args, rows), head_of(args)
    x = torch.from_numpy(np.concatenate([chunk.vectors() for chunk in pool.chunks])).float()
    table = []
    with LocalFleet(plan_partitions(pool, 1)) as fleet:
        for rule in args.rules:
            run(rule, fleet, head, pool.dim, min(k, 50))  # page the pool in, wake the threads
            fleet.reset()
            found, fast = run(rule, fleet, head, pool.dim, k)
            fleet.reset()
            start = time.perf_counter()
            if rule == "coreset":
                picks = eager_coreset(x, k, found.ids[0])
            else:
                weight = torch.from_numpy(head.weight).float()
                bias = torch.from_numpy(head.bias).float()
                budget = torch.from_numpy(-np.log(item_uniform(KEY, np.arange(rows))))
                picks = eager_badge(x, weight, bias, budget, k)
            slow = time.perf_counter() - start
            same = next((i for i, (a, b) in enumerate(zip(picks, found.ids, strict=True)) if a != b), k)
            table.append(
                {**row_of(rule, rows, k, found, fast), "eager_seconds": slow, "ratio": slow / fast, "same_picks": same}
            )
            print(
                f"{rule}: {rows:,} x {pool.dim}, k = {k}: eager {slow:.1f} s, lazy {fast:.2f} s, {slow / fast:.1f} x; "
                f"the first {same} of {k} picks are the same; {found.round_trips} round trips, "
                f"{found.pairs / rows / k:.1%} of the pairs looked at"
            )
    return table


# -- growth ----------------------------------------------------------------------------------------------------------


def growth(args: argparse.Namespace) -> list[dict[str, Any]]:
    table, head = [], head_of(args)
    for rows in args.rows or [100_000, 1_000_000, 4_000_000]:
        pool = pool_of(args, rows)
        with LocalFleet(plan_partitions(pool, 1)) as fleet:
            times = []
            for _ in range(4):
                start = time.perf_counter()
                sweep(fleet, head, SweepRequest(scores=("margin",), top=1000))
                times.append(time.perf_counter() - start)
            one_sweep = min(times[1:])
            for rule in args.rules:
                for k in args.k or [100, 1000, 10_000]:
                    fleet.reset()
                    found, seconds = run(rule, fleet, head, pool.dim, k)
                    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                    line = {**row_of(rule, rows, k, found, seconds), "sweep": one_sweep, "peak_mb": round(peak)}
                    print(
                        f"{rule}: {rows:,}, k = {k}: {seconds:.2f} s = {seconds / one_sweep:.1f} sweeps "
                        f"of {one_sweep:.2f} s; "
                        f"{found.round_trips} round trips, {found.pairs / rows / k:.1%} of pairs, peak {peak:.0f} MB",
                        flush=True,
                    )
                    table.append(line)
    return table


# -- round trips and bytes -------------------------------------------------------------------------------------------


class Counting:
    """A fleet that counts what passes between it and the driver, as it would be sent."""

    def __init__(self, fleet: LocalFleet) -> None:
        self.fleet, self.trips, self.bytes = fleet, 0, 0
        self.size = fleet.size

    def each(self, fn: Any, *args: Any) -> list[Any]:
        import pickle

        results = self.fleet.each(fn, *args)
        self.trips += 1
        self.bytes += self.size * len(pickle.dumps(args, 5)) + len(pickle.dumps(results, 5))
        return results


def trips(args: argparse.Namespace) -> list[dict[str, Any]]:
    rows, k = (args.rows or [1_000_000])[0], (args.k or [1000])[0]
    pool, head = pool_of(args, rows), head_of(args)
    table = []
    for rule in args.rules:
        known = None
        for partitions in (1, 2, 8):
            with LocalFleet(plan_partitions(pool, partitions)) as fleet:
                counting: Any = Counting(fleet)
                found, _ = run(rule, counting, head, pool.dim, k)
            known = known or found.ids
            line = {"rule": rule, "partitions": partitions, "trips": counting.trips, "mb": counting.bytes / 1e6}
            table.append({**line, "same_picks": found.ids == known})
            print(
                f"{rule}: {partitions} partitions: {counting.trips} round trips, {counting.bytes / 1e6:.1f} MB, "
                f"picks {'equal' if found.ids == known else 'DIFFER'}"
            )
    return table


# -- the race --------------------------------------------------------------------------------------------------------


def race(args: argparse.Namespace) -> dict[str, float]:
    """Ordered triples of picks among 7 rows against their probabilities, beside as many honest draws."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(7, 2)).astype(np.float16).astype(np.float32)
    gaps = ((x[:, None].astype(np.float64) - x[None]) ** 2).sum(2)
    probability: dict[tuple[int, ...], float] = {}
    for a in range(1, 7):
        one = gaps[0]
        for b in range(1, 7):
            two = np.minimum(one, gaps[a])
            for c in range(1, 7):
                three = np.minimum(two, gaps[b])
                if len({a, b, c}) == 3:
                    probability[a, b, c] = one[a] / one.sum() * two[b] / two.sum() * three[c] / three.sum()
    pool = made_pool(args.folder / "seven", 7, 2, {"name": "seven"}, lambda index, n: x[index:n])
    seen = dict.fromkeys(probability, 0)
    centres = factors_of(Vectors(), x[:1])
    torch.set_num_threads(1)
    with LocalFleet(plan_partitions(pool, 2)) as fleet:
        fleet.each(exclude, np.array([0]))
        for key in range(args.tries):
            found = lazy_greedy(fleet, D2Race(key=key), Vectors(), 3, centres=centres, opening="lowest", key=key)
            seen[tuple(found.ids)] += 1
    names, shares = list(probability), np.array(list(probability.values()))
    honest = rng.multinomial(args.tries, shares / shares.sum())
    counts = np.array([seen[name] for name in names])
    table = {
        "tries": float(args.tries),
        "chi2_per_df": chi2(counts, shares * args.tries),
        "chi2_per_df_of_honest_draws": chi2(honest, shares * args.tries),
        "total_variation": float(np.abs(counts / args.tries - shares).sum() / 2),
        "total_variation_of_honest_draws": float(np.abs(honest / args.tries - shares).sum() / 2),
    }
    print(json.dumps(table, indent=1))
    return table


def chi2(counts: NDArray[np.int64], expected: NDArray[np.float64]) -> float:
    return float(((counts - expected) ** 2 / expected).sum() / (len(counts) - 1))


# -- BAIT ------------------------------------------------------------------------------------------------------------


def bait(args: argparse.Namespace) -> list[dict[str, Any]]:
    """BAIT's rank-one form beside the published loop, 1,000 x 384."""
    rng = np.random.default_rng(0)
    n, d = 1000, 384
    h = rng.normal(size=(n, d)) * np.arange(1, d + 1) ** -0.3
    p = rng.uniform(0.3, 0.99, n)
    roots = np.sqrt(p * (1 - p))[:, None, None]
    x = roots[:, 0] * h
    fisher = x.T @ x / n
    precision = fisher + np.eye(d) * np.trace(fisher) / d
    table = []
    for k in args.k or [100, 500]:
        bait_of_rows(roots, h, precision, fisher, 5)
        start = time.perf_counter()
        ours = bait_of_rows(roots, h, precision, fisher, k)
        fast = time.perf_counter() - start
        start = time.perf_counter()
        theirs = published_bait(p, h, np.linalg.inv(precision), fisher, k)
        slow = time.perf_counter() - start
        same = ours.tolist() == theirs
        table.append({"k": k, "published_seconds": slow, "seconds": fast, "ratio": slow / fast, "same_picks": same})
        print(f"BAIT, k = {k}: published {slow:.2f} s, rank-one {fast:.4f} s, {slow / fast:.0f} x, picks equal: {same}")
    return table


# -- a GPU -----------------------------------------------------------------------------------------------------------


def gpu(args: argparse.Namespace) -> list[dict[str, Any]]:
    """BADGE and k-center with the pool resident on the GPU."""
    rows, k = (args.rows or [10_000_000])[0], (args.k or [1000])[0]
    pool, head = pool_of(args, rows), head_of(args)
    table = []
    with LocalFleet(plan_partitions(pool, 1, device="cuda")) as fleet:
        for rule in args.rules:
            run(rule, fleet, head, pool.dim, min(k, 50))
            fleet.reset()
            found, seconds = run(rule, fleet, head, pool.dim, k)
            table.append(row_of(rule, rows, k, found, seconds))
            once = rows * pool.dim * 2 / seconds / 1e9
            print(
                f"{rule}: {rows:,}, k = {k}: {seconds:.2f} s, {found.round_trips} round trips; one reading of the "
                f"pool in that time is {once:.0f} GB/s, the eager loop's {k} readings {once * k:,.0f}"
            )
    return table


# -- the plot --------------------------------------------------------------------------------------------------------


def plot(args: argparse.Namespace) -> None:
    """Time against N from what `growth` and `eager` wrote."""
    files = [json.loads(path.read_text()) for path in args.numbers]
    grown = [line for file in files for line in file.get("growth", [])]
    slow = [line for file in files for line in file.get("eager", [])]

    def draw(figure: Any) -> None:
        titles = {"badge": "BADGE", "coreset": "k-center (CoreSet)"}
        for axes, rule in zip(figure.subplots(1, 2, sharey=True), titles, strict=True):
            lines = [line for line in grown if line["rule"] == rule]
            for shade, k in zip(SHADES, sorted({line["k"] for line in lines}), strict=False):
                own = sorted((line["rows"], line["seconds"]) for line in lines if line["k"] == k)
                axes.plot(*zip(*own, strict=True), "o-", color=shade, label=f"k = {k:,}")
            sweeps = sorted({(line["rows"], line["sweep"]) for line in lines})
            axes.plot(*zip(*sweeps, strict=True), "--", color="#888888", label="one sweep of the pool")
            for line in slow:
                if line["rule"] == rule:
                    label = f"eager loop, k = {line['k']:,}"
                    axes.plot(line["rows"], line["eager_seconds"], "x", color="#c1440e", label=label)
            axes.set(xscale="log", yscale="log", title=titles[rule], xlabel="rows of the pool")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.minorticks_off()
        figure.axes[0].set_ylabel("seconds for a batch")
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center")

    save_figure(args.stem, draw, 10, 4)


SHADES = ("#9ecae1", "#4292c6", "#08519c")

PARTS: dict[str, Callable[[argparse.Namespace], Any]] = {
    "plot": plot,
    "growth": growth,
    "eager": eager,
    "trips": trips,
    "race": race,
    "bait": bait,
    "gpu": gpu,
}

if __name__ == "__main__":
    main()
