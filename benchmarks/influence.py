"""Whether ISAL by a sample of the pool is ISAL by held-out labels, and what its batches are worth.

    python -m benchmarks.influence [--parts agreement accuracy] [--seeds 5] [--l2 0.01]

scikit-learn's digits, raw, and 4,000 images of Fashion-MNIST turned to 64 principal directions; batches of 20 from 20
labels on. 300 items are held out as a reference, and 600 others are the test.

- `agreement`: Spearman's rank correlation of each rule with ISAL on the held-out labels, over all unlabelled items, and
  how many of its first 50 are among ISAL's. The labels are drawn uniformly, or asked for by margin.
- `accuracy`: on the test, the mean over 20 to 300 labels, and with 100 and 300.

`before` is the score `influence` as it was: expected absolute changes of the loss on the labels that train. `predicted`
and `nearest` are the sample of the pool with one of its two guesses alone; `true` is a sample with its true labels, out
of reach of any rule.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from benchmarks.machine import context_of, describe, made_pool
from raysal.fleet import LocalFleet, exclude, plan_partitions
from raysal.models.evidence import gather_evidence
from raysal.models.head import Head
from raysal.models.online.influence import influence_of
from raysal.models.trainers.base import TrainingData
from raysal.models.trainers.logistic import Logistic
from raysal.rng import derive
from raysal.sources.fashion_mnist import FashionMnist
from raysal.strategies import SELECTORS
from raysal.strategies.base import select

FIRST, BATCH, LAST = 20, 20, 300
REFERENCE, TEST, SAMPLE = 300, 600, 1_000
TOP = 50
Ids = NDArray[np.int64]
Values = NDArray[np.float64]


class Data:
    """A pool, of which some items are held out and some are the test, in another order for each seed."""

    def __init__(self, folder: Path, name: str, x: NDArray[Any], names: NDArray[np.str_], trainer: Logistic) -> None:
        self.name, self.names, self.trainer = name, names, trainer
        self.x = x.astype(np.float16).astype(np.float32)
        pool = made_pool(folder / name, len(x), x.shape[1], {"name": name}, lambda *_: self.x)
        self.fleet = LocalFleet(plan_partitions(pool, 1))

    def shuffle(self, seed: int) -> None:
        """Deal the items anew."""
        order = np.random.default_rng(seed).permutation(len(self.x))
        self.held, self.test, self.rest = np.split(order, [REFERENCE, REFERENCE + TEST])

    def fit(self, ids: Ids) -> Head:
        data = TrainingData(features=self.x[ids], labels=self.names[ids].tolist(), classes=sorted(set(self.names)))
        return self.trainer.fit(data)

    def pick(
        self, strategy: str, fields: dict[str, Any], head: Head, known: Ids, k: int, key: int
    ) -> tuple[Ids, Values]:
        """Ids [k] and scores."""
        known = np.sort(known)
        self.fleet.reset()
        self.fleet.each(exclude, np.sort(np.concatenate([known, self.held, self.test])))
        names = self.names[known].tolist()
        task = context_of(self.fleet, head=head, ids=known, vectors=self.x[known], classes=names, k=k, key=key)
        held = {int(id): str(self.names[id]) for id in self.held}
        picks = select(self.fleet, SELECTORS[strategy](**fields), replace(task, held_out_labels=lambda: held), k)
        return picks.ids, picks.scores


def data_sets(folder: Path, trainer: Logistic) -> Iterator[Data]:
    pixels, digits = load_digits(return_X_y=True)
    yield Data(folder, "digits", pixels, digits.astype(str), trainer)
    source = FashionMnist()
    items = [item for unit in source.units(4_000) for item in source.read(unit)][:4_000]
    pixels = np.array([item.payload for item in items]).reshape(len(items), -1) / 255
    pixels -= pixels.mean(0)
    _, directions = np.linalg.eigh(pixels.T @ pixels)
    names = np.array([item.carried["label"] for item in items])
    yield Data(folder, "fashion", pixels @ directions[:, ::-1][:, :64], names, trainer)


def rows_of(x: NDArray[Any]) -> Values:
    return np.column_stack([x.astype(np.float64), np.ones(len(x))])


def before(data: Data, head: Head, known: Ids, some: Ids) -> Values:
    """Σ_y p_y |⟨V, (p - e_y) h̃ᵀ⟩| with V of the labels that train."""
    labels = gather_evidence(data.x[known], data.names[known].tolist(), None, head.classes)
    p, pull = head.probabilities(data.x[some]), rows_of(data.x[some]) @ influence_of(head, labels).T
    return np.asarray((p * np.abs(pull - (p * pull).sum(1, keepdims=True))).sum(1))


def by_sample(kind: str) -> Callable[[Data, Head, Ids, Ids], Values]:
    """ISAL on a sample of the pool with its true labels, with the predicted ones, or with those of the nearest."""

    def values(data: Data, head: Head, known: Ids, some: Ids) -> Values:
        sample = np.random.default_rng(0).permutation(some)[:SAMPLE]
        labels = data.names[sample]
        if kind == "predicted":
            labels = np.array(head.classes)[head.probabilities(data.x[sample]).argmax(1)]
        elif kind == "nearest":
            labels = data.names[known][[((data.x[known] - row) ** 2).sum(1).argmin() for row in data.x[sample]]]
        found = influence_of(head, gather_evidence(data.x[sample], labels.tolist(), None, head.classes))
        p, pull = head.probabilities(data.x[some]), rows_of(data.x[some]) @ found.T
        return np.asarray((p * pull).sum(1) - pull[np.arange(len(some)), p.argmax(1)])

    return values


def by_strategy(strategy: str, **fields: Any) -> Callable[[Data, Head, Ids, Ids], Values]:
    def values(data: Data, head: Head, known: Ids, some: Ids) -> Values:
        ids, scores = data.pick(strategy, fields, head, known, len(some), 1)
        found = np.empty(len(data.x))
        found[ids] = scores
        return found[some]

    return values


def rank_correlation(a: Values, b: Values) -> float:
    """Spearman's, of values without ties."""
    return float(np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1])


RULES: dict[str, Callable[[Data, Head, Ids, Ids], Values]] = {
    "isal": by_strategy("isal"),
    "predicted": by_sample("predicted"),
    "nearest": by_sample("nearest"),
    "before": before,
    "margin": by_strategy("top_score", score="margin"),
    "true": by_sample("true"),
}


def labelled(data: Data, count: int, by_margin: bool) -> Ids:
    """Of the items that may be labelled the first ones, or a few and then those that margin asks for."""
    known = data.rest[: FIRST if by_margin else count]
    while len(known) < count:
        batch, _ = data.pick("top_score", {"score": "margin"}, data.fit(known), known, BATCH, len(known))
        known = np.concatenate([known, batch])
    return np.sort(known)


def agreement(folder: Path, trainer: Logistic, seeds: int) -> Iterator[str]:
    yield f"| data, labels | {' | '.join(RULES)} |\n|---|{'---|' * len(RULES)}"
    published = by_strategy("isal", reference="held_out")
    for data in data_sets(folder, trainer):
        for by_margin in (False, True):
            for count in (60, 100, 200, 500):
                found: dict[str, list[tuple[float, int]]] = {name: [] for name in RULES}
                for seed in range(seeds):
                    data.shuffle(seed)
                    known = labelled(data, count, by_margin)
                    head, some = data.fit(known), np.setdiff1d(data.rest, known)
                    truth = published(data, head, known, some)
                    top = set(np.argsort(-truth)[:TOP].tolist())
                    for name, rule in RULES.items():
                        values = rule(data, head, known, some)
                        same = len(top & set(np.argsort(-values)[:TOP].tolist()))
                        found[name].append((rank_correlation(values, truth), same))
                cells = [
                    f"{np.mean([r for r, _ in one]):.2f}, {np.mean([n for _, n in one]):.0f}" for one in found.values()
                ]
                yield f"| {data.name}, {count} {'by margin' if by_margin else 'uniform'} | {' | '.join(cells)} |"


BATCHES: dict[str, tuple[str, dict[str, Any]] | Callable[[Data, Head, Ids, Ids], Values]] = {
    "isal": ("isal", {}),
    "isal, held_out": ("isal", {"reference": "held_out"}),
    "predicted": by_sample("predicted"),
    "nearest": by_sample("nearest"),
    "before": before,
    "margin": ("top_score", {"score": "margin"}),
    "random": ("random", {}),
}


def accuracy(folder: Path, trainer: Logistic, seeds: int) -> Iterator[str]:
    yield "| data, rule | mean of rounds | 100 labels | 300 labels |\n|---|---|---|---|"
    for data in data_sets(folder, trainer):
        for name, rule in BATCHES.items():
            curves = []
            for seed in range(seeds):
                data.shuffle(seed)
                known, curve = np.sort(data.rest[:FIRST]), []
                while True:
                    head = data.fit(known)
                    guesses = np.array(head.classes)[head.probabilities(data.x[data.test]).argmax(1)]
                    curve.append(float((guesses == data.names[data.test]).mean()))
                    if len(known) == LAST:
                        break
                    if isinstance(rule, tuple):
                        batch, _ = data.pick(*rule, head, known, BATCH, derive(seed, len(known)))
                    else:
                        some = np.setdiff1d(data.rest, known)
                        batch = some[np.argsort(-rule(data, head, known, some), kind="stable")[:BATCH]]
                    known = np.sort(np.concatenate([known, batch]))
                curves.append(curve)
            all_of = 100 * np.array(curves)
            middle = all_of.mean(axis=1)
            error = 2 * middle.std(ddof=1) / np.sqrt(seeds) if seeds > 1 else 0.0
            at = [f"{all_of[:, (count - FIRST) // BATCH].mean():.1f}" for count in (100, LAST)]
            yield f"| {data.name}, {name} | {middle.mean():.1f} ± {error:.1f} | {' | '.join(at)} |"


PARTS: dict[str, Callable[[Path, Logistic, int], Iterator[str]]] = {"agreement": agreement, "accuracy": accuracy}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--l2", type=float, help="penalty of `logistic`, instead of its default")
    args = parser.parse_args()
    trainer = Logistic() if args.l2 is None else Logistic(l2=args.l2)
    print(describe())
    for part in args.parts:
        with tempfile.TemporaryDirectory() as folder:
            print(f"\n**{part}**\n", flush=True)
            for line in PARTS[part](Path(folder), trainer, args.seeds):
                print(line, flush=True)


if __name__ == "__main__":
    main()
