"""What batches chosen by information are worth, and what they cost.

    python -m benchmarks.information [--parts joint accuracy time] [--rows 60000] [--seeds 4]

- `joint`: how much the labels of a batch, taken together, would say of the weights. scikit-learn's digits, a head of 40
  labels, batches of 3 and 5; judged by 8,000 draws of the weights that no strategy has seen, labels sampled from them.
- `accuracy`: rounds of 30 labels from 20 on; accuracy on 600 other digits, mean over rounds and seeds.
- `time`: batches of 50 and 100 from made-up vectors of 256 numbers in ten classes, one partition.

`as published` is batch_bald with the same draws throughout.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from benchmarks.machine import context_of, describe, made_pool, random_pool
from raysal.fleet import LocalFleet, exclude, plan_partitions
from raysal.models.head import Head
from raysal.models.trainers.base import TrainingData
from raysal.models.trainers.logistic import Logistic
from raysal.rng import derive
from raysal.rounds.gathering import gather_vectors
from raysal.strategies import SELECTORS
from raysal.strategies.base import select

AS_PUBLISHED = ("batch_bald as published", "batch_bald", {"fewest": 0})
BY_INFORMATION: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("batch_bald", "batch_bald", {}),
    AS_PUBLISHED,
    ("top by bald", "top_score", {"score": "bald"}),
    ("power_bald", "power_bald", {}),
    ("epig", "epig", {}),
    ("ldm", "ldm", {}),
    ("badge", "badge", {}),
    ("random", "random", {}),
)
OTHERS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("margin", "top_score", {"score": "margin"}),
    ("bait", "bait", {}),
)
DRAWS, SAMPLES, TEST = 8_000, 1_500, 600
Floats = NDArray[np.float64]


class Digits:
    """A pool of the digits that are not for the test, and what is known of them."""

    def __init__(self, folder: Path) -> None:
        pixels, digits = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(pixels))
        x = (pixels / 16).astype(np.float16).astype(np.float32)
        self.x, self.test = x[order[TEST:]], x[order[:TEST]]
        self.names, self.truth = (digits[part].astype(str) for part in (order[TEST:], order[:TEST]))
        pool = made_pool(folder / "digits", len(self.x), 64, {"name": "digits"}, lambda *_: self.x)
        self.fleet = LocalFleet(plan_partitions(pool, 1))

    def fit(self, ids: NDArray[np.int64]) -> Head:
        return fitted(self.x[ids], self.names[ids].tolist(), sorted(set(self.names)))

    def pick(self, strategy: str, fields: dict[str, Any], head: Head, ids: NDArray[np.int64], k: int, key: int) -> Any:
        """Ids [k]."""
        return picked(self.fleet, strategy, fields, head, ids, self.x[ids], self.names[ids].tolist(), k, key)


def fitted(x: NDArray[np.float32], names: list[str], classes: list[str]) -> Head:
    return Logistic().fit(TrainingData(features=x, labels=names, classes=classes))


def picked(
    fleet: LocalFleet,
    strategy: str,
    fields: dict[str, Any],
    head: Head,
    ids: NDArray[np.int64],
    x: NDArray[np.float32],
    names: list[str],
    k: int,
    key: int,
) -> NDArray[np.int64]:
    """A batch of those that are not labelled."""
    fleet.reset()
    fleet.each(exclude, np.sort(ids))
    context = context_of(fleet, head=head, ids=ids, vectors=x, classes=names, k=k, key=key)
    return select(fleet, SELECTORS[strategy](**fields), context, k).ids


def joint_information(head: Head, x: NDArray[np.float32]) -> tuple[float, float]:
    """Nats between the labels of a batch [k, d] and the weights, and the standard error."""
    rng = np.random.default_rng(9)
    rows = np.column_stack([x.astype(np.float64), np.ones(len(x))])
    weights = head.posterior.samples(head.mean, rng.standard_normal((DRAWS, *head.mean.shape)))
    outputs = np.einsum("nd,tcd->ntc", rows, weights)
    log_p = outputs - np.logaddexp.reduce(outputs, axis=2)[:, :, None]
    found = []
    for true in rng.integers(DRAWS, size=SAMPLES):
        labels = [rng.choice(log_p.shape[2], p=np.exp(own[true])) for own in log_p]
        likely = np.sum([own[:, label] for own, label in zip(log_p, labels, strict=True)], axis=0)
        found.append(likely[true] - (np.logaddexp.reduce(likely) - np.log(DRAWS)))
    return float(np.mean(found)), float(np.std(found) / np.sqrt(SAMPLES))


def joint(folder: Path, args: argparse.Namespace) -> Iterator[str]:
    del args
    digits, known = Digits(folder), np.arange(40)
    head = digits.fit(known)
    yield "| strategy | batch of 3, nats | batch of 5, nats |\n|---|---|---|"
    for title, strategy, fields in BY_INFORMATION:
        cells = []
        for k in (3, 5):
            nats, error = joint_information(head, digits.x[digits.pick(strategy, fields, head, known, k, 3)])
            cells.append(f"{nats:.2f} ± {2 * error:.2f}")
        yield f"| {title} | {' | '.join(cells)} |"


def accuracy(folder: Path, args: argparse.Namespace) -> Iterator[str]:
    digits = Digits(folder)
    yield "| strategy | accuracy, mean of rounds | at the end |\n|---|---|---|"
    for title, strategy, fields in (*BY_INFORMATION, *OTHERS):
        curves = []
        for seed in range(args.seeds):
            known = np.sort(np.random.default_rng(seed).choice(len(digits.x), 20, replace=False))
            curve = []
            for round in range(6):
                head = digits.fit(known)
                outputs = head.logits(digits.test)
                curve.append((np.array(head.classes)[outputs.argmax(1)] == digits.truth).mean())
                batch = digits.pick(strategy, fields, head, known, 30, derive(seed, round))
                known = np.sort(np.concatenate([known, batch]))
            curves.append(curve)
        middle = np.mean(curves, axis=1)
        spread = middle.std(ddof=1) / np.sqrt(len(middle)) if len(middle) > 1 else 0.0
        yield f"| {title} | {100 * middle.mean():.1f} ± {200 * spread:.1f} | {100 * np.mean(curves, axis=0)[-1]:.1f} |"


def seconds(folder: Path, args: argparse.Namespace) -> Iterator[str]:
    pool = random_pool(folder / "random", args.rows, 256, decay=0.5)
    fleet, ids = LocalFleet(plan_partitions(pool, 1)), np.arange(200)
    x = gather_vectors(fleet, pool.dim, ids)
    names = [f"c{c}" for c in (x @ np.random.default_rng(2).normal(size=(256, 10))).argmax(1)]
    head = fitted(x, names, sorted(set(names)))
    yield f"| strategy, {args.rows:,} x 256 | k = 50 | k = 100 |\n|---|---|---|"
    for title, strategy, fields in BY_INFORMATION:
        cells = []
        for k in (50, 100):
            started = time.perf_counter()
            picked(fleet, strategy, fields, head, ids, x, names, k, 3)
            cells.append(f"{time.perf_counter() - started:.1f} s")
        yield f"| {title} | {' | '.join(cells)} |"


PARTS: dict[str, Callable[[Path, argparse.Namespace], Iterator[str]]] = {
    "joint": joint,
    "accuracy": accuracy,
    "time": seconds,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--seeds", type=int, default=4)
    args = parser.parse_args()
    print(describe())
    for part in args.parts:
        with tempfile.TemporaryDirectory() as folder:
            print(f"\n**{part}**\n", flush=True)
            for line in PARTS[part](Path(folder), args):
                print(line, flush=True)


if __name__ == "__main__":
    main()
