"""What batches chosen by information are worth, and what they cost.

    python -m benchmarks.information [--parts joint accuracy time ldm] [--rows 60000] [--seeds 4]

- `joint`: how much the labels of a batch, taken together, would say of the weights. scikit-learn's digits, a head of 40
  labels, batches of 3 and 5; judged by 8,000 draws of the weights that no strategy has seen, labels sampled from them.
- `accuracy`: rounds of 30 labels from 20 on; accuracy on 600 other digits, mean over rounds and seeds.
- `time`: batches of 50 and 100 from made-up vectors of 256 numbers in ten classes, one partition.
- `ldm`: the least disagree metric from directions that serve all sizes, as here, beside the published one from draws of
  each size's own. Digits, and 4,000 made-up rows of 256 numbers; two runs of each, so that what differs by the draws
  alone is seen too.

`as published` is batch_bald with the same draws throughout.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from benchmarks.features import write_pool
from benchmarks.machine import context_of, describe, made_pool, random_pool
from raysal.fleet import LocalFleet, Partition, exclude, plan_partitions
from raysal.models.head import Head
from raysal.models.trainers.base import TrainingData
from raysal.models.trainers.logistic import Logistic
from raysal.rng import derive
from raysal.rounds.gathering import gather_vectors
from raysal.scoring.linear import Linear
from raysal.strategies import SELECTORS
from raysal.strategies.base import select
from raysal.strategies.uncertainty.disagreement import STATE, measure
from raysal.strategies.uncertainty.ldm import Ldm

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

    def curve(self, strategy: str, fields: dict[str, Any], seed: int, rounds: int = 6) -> tuple[list[float], float]:
        """(accuracy before each of some batches of 30, from 20 uniform labels on; seconds of all selections)."""
        known = np.sort(np.random.default_rng(seed).choice(len(self.x), 20, replace=False))
        found, spent = [], 0.0
        for round in range(rounds):
            head = self.fit(known)
            outputs = head.logits(self.test)
            found.append(float((np.array(head.classes)[outputs.argmax(1)] == self.truth).mean()))
            begun = time.perf_counter()
            batch = self.pick(strategy, fields, head, known, 30, derive(seed, round))
            spent += time.perf_counter() - begun
            known = np.sort(np.concatenate([known, batch]))
        return found, spent


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
        curves = [digits.curve(strategy, fields, seed)[0] for seed in range(args.seeds)]
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


def least_disagreement(folder: Path, args: argparse.Namespace) -> Iterator[str]:
    del args
    digits, known = Digits(folder), np.arange(40)
    cases = [("digits, 40 labels", digits.fleet, digits.x, digits.fit(known), known, 30)]
    pool = write_pool(folder / "made up", 4_000, None, 256)
    fleet, known = LocalFleet(plan_partitions(pool, 1)), np.arange(300)
    x = gather_vectors(fleet, 256, np.arange(4_000))
    names = [str(c) for c in (x[known] @ np.random.default_rng(2).normal(size=(256, 10))).argmax(1)]
    cases.append(("made up, 300 labels", fleet, x, fitted(x[known], names, sorted(set(names))), known, 100))
    yield "| | ours: directions, seconds | published: draws, seconds | two of ours | two published | one of each |"
    yield "|---|---|---|---|---|---|"
    for title, fleet, x, head, known, k in cases:
        rows = np.column_stack([np.delete(x, known, 0), np.ones(len(x) - len(known))])
        runs, cells = [], []
        for make in (shared_directions, draws_of_each_size):
            started = time.perf_counter()
            found = [make(fleet, head, rows, known, key) for key in (1, 2)]
            cells.append(f"{found[0][1]:,}, {(time.perf_counter() - started) / 2:.1f} s")
            runs += [metric for metric, _ in found]
        firsts = [set(np.argsort(metric, kind="stable")[:k].tolist()) for metric in runs]
        for pairs in ([(0, 1)], [(2, 3)], list(itertools.product((0, 1), (2, 3)))):
            alike = np.mean([np.corrcoef(ranks(runs[a]), ranks(runs[b]))[0, 1] for a, b in pairs])
            common = np.mean([len(firsts[a] & firsts[b]) for a, b in pairs])
            cells.append(f"{alike:.3f}, {common:.0f} of {k}")
        yield f"| {title} | {' | '.join(cells)} |"


def ranks(values: NDArray[np.int64]) -> Floats:
    """[n], the mean of their places where values are equal."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    middle: Floats = (count.cumsum() - (count - 1) / 2)[place]
    return middle


def shared_directions(fleet: LocalFleet, head: Head, rows: Floats, known: NDArray[np.int64], key: int) -> Any:
    """Metrics [n] of what is not labelled, and the most directions tried: those of the package."""
    del rows
    fleet.reset()
    fleet.each(exclude, known)
    measure(fleet, Linear.of(head), key, directions=Ldm().directions, patience=Ldm().patience)
    return np.concatenate(fleet.each(metrics_of)), Ldm().directions


def metrics_of(partition: Partition) -> NDArray[np.int64]:
    metric: NDArray[np.int64] = partition.state[STATE].metric
    return metric


def draws_of_each_size(fleet: LocalFleet, head: Head, rows: Floats, known: NDArray[np.int64], key: int) -> Any:
    """As published: at each of 51 sizes, draws until ten in a row lower no metric; and how many that were."""
    del fleet, known
    rng, weights, draws = np.random.default_rng(key), head.mean.astype(np.float32), 0
    rows = rows.astype(np.float32)
    own, unit = (rows @ weights.T).argmax(1), np.sqrt((weights**2).mean())
    metric = np.full(len(rows), len(rows))
    for size in 10.0 ** np.arange(-5, 0.05, 0.1):
        quiet = 0
        while quiet < 10:
            drawn = weights + size * unit * rng.standard_normal(weights.shape, dtype=np.float32)
            changed = (rows @ drawn.T).argmax(1) != own
            lower = np.where(changed, np.minimum(metric, changed.sum()), metric)
            quiet = 0 if (lower < metric).any() else quiet + 1
            metric, draws = lower, draws + 1
    return metric, draws


PARTS: dict[str, Callable[[Path, argparse.Namespace], Iterator[str]]] = {
    "joint": joint,
    "accuracy": accuracy,
    "time": seconds,
    "ldm": least_disagreement,
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
