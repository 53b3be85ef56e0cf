"""What the forms of BAIT are worth, and what they cost.

    python -m benchmarks.bait [--parts accuracy numbers narrowed time] [--seeds 5] [--rows 60000] [--dim 1280]

- `accuracy`: scikit-learn's digits, rounds of 30 labels from 20 on; accuracy on 600 other digits, mean over rounds and
  seeds, the difference from the default form paired by seed, and the time of a query.
- `numbers`: the same with labels that are numbers: the diabetes data (rounds of 10) and the digits read as numbers
  (rounds of 30), 20 labels first; log root mean squared error, mean over rounds and twice as many seeds.
- `narrowed`: one batch of 25 or 100 from all rows, and from 3,000 of them, with the same pool and head; aim a tenth.
- `time`: one batch of 100 from made-up vectors in ten classes, one partition; from 2,000 candidates
  also the forms with several classes, if --dim is at most 300.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_diabetes, load_digits

from benchmarks.information import Digits, fitted, picked
from benchmarks.machine import context_of, describe, made_pool, random_pool
from raysal.fleet import LocalFleet, exclude, keep, plan_partitions
from raysal.models.trainers.base import TrainingData
from raysal.models.trainers.regression import Regression
from raysal.rng import derive
from raysal.rounds.gathering import gather_vectors
from raysal.strategies import SELECTORS
from raysal.strategies.base import select

FORMS: dict[str, dict[str, Any]] = {
    "binary": {},
    "binary, forward only": {"oversample": 1},
    "binary, weights as in the authors' code": {"weights": "published"},
    "the same, ridge 0.01": {"weights": "published", "ridge": 0.01},
    "top_c, 1": {"fisher": "top_c", "top_classes": 1},
    "top_c, 2": {"fisher": "top_c"},
    "top_c, 5": {"fisher": "top_c", "top_classes": 5},
    "exact": {"fisher": "exact"},
    "exact, forward only": {"fisher": "exact", "oversample": 1},
    "exact, weights as in the authors' code": {"fisher": "exact", "weights": "published"},
}

STRATEGIES_FOR_NUMBERS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("random", "random", {}),
    ("bait", "bait", {}),
    ("bait, forward only", "bait", {"oversample": 1}),
    ("variance", "top_score", {"score": "epistemic_variance"}),
    ("batch_bald", "batch_bald", {}),
    ("lcmd", "lcmd", {}),
    ("coreset", "coreset", {}),
)
NARROW_DIM = 300
"""Features up to which the forms with all classes are timed: they grow with the cube of d C."""


def accuracy(folder: Path, args: argparse.Namespace) -> Iterator[str]:
    digits = Digits(folder)
    yield "| form | accuracy, mean of rounds | against binary | at the end | s a query |\n|---|---|---|---|---|"
    first = None
    others: list[tuple[str, str, dict[str, Any]]] = [
        ("margin", "top_score", {"score": "margin"}),
        ("badge", "badge", {}),
        ("random", "random", {}),
    ]
    for title, strategy, fields in [*((name, "bait", fields) for name, fields in FORMS.items()), *others]:
        if args.only and title not in args.only:
            continue
        curves, times = zip(*(digits.curve(strategy, fields, seed) for seed in range(args.seeds)), strict=True)
        middle = 100 * np.mean(curves, axis=1)
        first = middle if first is None else first
        apart = middle - first
        end = 100 * np.mean(curves, axis=0)[-1]
        root = np.sqrt(len(middle))
        yield (
            f"| {title} | {middle.mean():.2f} ± {2 * middle.std(ddof=1) / root:.2f} | {apart.mean():+.2f} ± "
            f"{2 * apart.std(ddof=1) / root:.2f} | {end:.1f} | {sum(times) / args.seeds / 6:.2f} |"
        )


def numbers(folder: Path, args: argparse.Namespace) -> Iterator[str]:
    yield "| data | strategy | log RMSE, mean of rounds | against random |\n|---|---|---|---|"
    (patients, severity), (pixels, digits) = load_diabetes(return_X_y=True), load_digits(return_X_y=True)
    for name, x, y, batch, rounds in (
        ("diabetes", patients / patients.std(0), severity, 10, 8),
        ("digits", pixels / 16, digits.astype(float), 30, 6),
    ):
        x = x.astype(np.float16).astype(np.float32)
        order = np.random.default_rng(0).permutation(len(x))
        rows, test = order[len(x) // 3 :], order[: len(x) // 3]
        texts = [f"{value:.6g}" for value in y]
        pool = made_pool(folder / name, len(rows), x.shape[1], {"name": name}, lambda *_, x=x[rows]: x)
        fleet, first = LocalFleet(plan_partitions(pool, 1)), None
        for title, strategy, fields in STRATEGIES_FOR_NUMBERS:
            means = []
            for seed in range(2 * args.seeds):
                known, curve = np.sort(np.random.default_rng(seed).choice(len(rows), 20, replace=False)), []
                for round in range(rounds + 1):
                    labels = [texts[row] for row in rows[known]]
                    head = Regression().fit(TrainingData(features=x[rows[known]], labels=labels, classes=["value"]))
                    off = head.probabilities(x[test])[:, 0] - y[test]
                    curve.append(np.log(np.mean(off**2)) / 2)
                    if round < rounds:
                        key = derive(seed, round)
                        batch_ids = picked(fleet, strategy, fields, head, known, x[rows[known]], labels, batch, key)
                        known = np.sort(np.concatenate([known, batch_ids]))
                means.append(np.mean(curve[1:]))
            found = np.array(means)
            first = found if first is None else first
            apart = found - first
            error = 2 * apart.std(ddof=1) / np.sqrt(len(apart))
            yield f"| {name} | {title} | {found.mean():.3f} | {apart.mean():+.3f} ± {error:.3f} |"


def seconds(folder: Path, args: argparse.Namespace) -> Iterator[str]:
    pool = random_pool(folder / "random", args.rows, args.dim, decay=0.5)
    fleet, ids = LocalFleet(plan_partitions(pool, 1)), np.arange(200)
    x = gather_vectors(fleet, pool.dim, ids)
    names = [f"c{c}" for c in (x @ np.random.default_rng(2).normal(size=(args.dim, 10))).argmax(1)]
    head = fitted(x, names, sorted(set(names)))
    yield "| strategy | candidates | seconds |\n|---|---|---|"
    whole: list[tuple[str, str, dict[str, Any]]] = [
        ("margin", "top_score", {"score": "margin"}),
        ("badge", "badge", {}),
        ("bait, binary, forward only", "bait", {"oversample": 1}),
        ("bait, binary", "bait", {}),
    ]
    for title, strategy, fields in whole:
        begun = time.perf_counter()
        picked(fleet, strategy, fields, head, ids, x, names, 100, 0)
        yield f"| {title} | {args.rows - len(ids):,} | {time.perf_counter() - begun:.1f} |"
    for title in ("binary", "top_c, 2", "exact") if args.dim <= NARROW_DIM else ("binary",):
        fleet.reset()
        fleet.each(exclude, ids)
        fleet.each(keep, np.arange(len(ids), len(ids) + 2_000))
        context = context_of(fleet, head=head, ids=ids, vectors=x, classes=names, k=100, key=0)
        begun = time.perf_counter()
        select(fleet, SELECTORS["bait"](**FORMS[title]), context, 100)
        yield f"| bait, {title} | 2,000 | {time.perf_counter() - begun:.1f} |"


def narrowed_ratios(folder: Path, rows: int, dim: int, candidates: int = 3_000, repeats: int = 3) -> dict[str, float]:
    """How many times as long a batch from the whole pool takes as one behind a narrower, by size of the batch."""
    pool = random_pool(folder / f"random-{rows}x{dim}", rows, dim, decay=0.5)
    fleet, ids = LocalFleet(plan_partitions(pool, 1)), np.arange(200)
    x = gather_vectors(fleet, pool.dim, ids)
    names = [f"c{c}" for c in (x @ np.random.default_rng(2).normal(size=(dim, 10))).argmax(1)]
    head = fitted(x, names, sorted(set(names)))
    some = np.sort(np.random.default_rng(3).choice(np.arange(len(ids), rows), candidates, replace=False))

    def taken(k: int, narrow: bool) -> float:
        fleet.reset()
        fleet.each(exclude, ids)
        if narrow:
            fleet.each(keep, some)
        context = context_of(fleet, head=head, ids=ids, vectors=x, classes=names, k=k, key=0)
        begun = time.perf_counter()
        select(fleet, SELECTORS["bait"](), context, k)
        return time.perf_counter() - begun

    found = {}
    for k in (25, 100):
        whole = taken(k, narrow=False)
        found[f"bait, k = {k}, whole pool / {candidates:,} candidates"] = whole / float(
            np.median([taken(k, narrow=True) for _ in range(repeats)])
        )
    return found


def narrowed(folder: Path, args: argparse.Namespace) -> Iterator[str]:
    for name, ratio in narrowed_ratios(folder, args.rows, args.dim).items():
        yield f"{args.rows:,} x {args.dim}, {name}: {ratio:.1f} x"


PARTS = {"accuracy": accuracy, "numbers": numbers, "narrowed": narrowed, "time": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--only", nargs="*", help="forms, for `accuracy`")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--dim", type=int, default=1280)
    args = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory() as folder:
        for part in args.parts:
            for line in PARTS[part](Path(folder), args):
                print(line, flush=True)


if __name__ == "__main__":
    main()
