"""How much a label is worth, by strategy: Fashion-MNIST, from 100 labels to 1,100 in batches of 100.

    python -m benchmarks.label_efficiency --out DIR [--strategies badge coreset] [--seeds 5] [--jobs 2]
    python -m benchmarks.label_efficiency --out DIR --tables [--plot docs/label_efficiency]

All 70,000 images are embedded once, with EfficientNet-Lite0 at 64 pixels as in the demo. Strategies choose from the
60,000 training images, whole, with their default fields and without narrowing; the head is the one a run fits; the
10,000 test images judge it and have no part in the fleet. Three experiments:

- `curve`: 100 labels drawn uniformly, the same for every strategy, then ten batches of 100.
- `minority`: the same, with one class cut to 1 % of the items offered and of those that judge. Which of its items
  stay is drawn by the seed. Where it has no label yet, the head does not know it and its F1 is 0.
- `cold`: 10, 30 and 50 labels chosen from nothing, by the strategies that need no head, each batch by itself. The seed
  draws the half of the training images that is offered; otherwise a rule without chance would seem to have no spread.

A job is one strategy with one seed; its record is written whole to DIR/EXPERIMENT/, and a record of the same settings
is not made again (delete it to have it made again). Every job runs in a process of one thread, so no number depends on
`--jobs`, but for the seconds, which are CPU seconds of the selection alone. Intervals are 95 %, Student's t over seeds;
differences to random are taken seed by seed. With 20 strategies about one such interval misses the truth.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from benchmarks.efficiency_data import PREVALENCE, Data, load, lowest, make_pool, minority_pool
from benchmarks.efficiency_tables import draw_curves, markdown, summaries
from benchmarks.figures import save_figure
from benchmarks.jobs import record_of, run_all
from benchmarks.machine import context_of, describe
from raysal.config import Choice
from raysal.context import RoundContext
from raysal.fleet import exclude
from raysal.models.trainers.logistic import Logistic
from raysal.pool import Pool
from raysal.rng import derive
from raysal.sources.fashion_mnist import CLASSES
from raysal.strategies import SELECTORS
from raysal.strategies.base import Selector, select

EXPERIMENTS = ("curve", "cold", "minority")
COLD = (10, 30, 50)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One strategy with one seed, in one experiment."""

    pool: Path
    out: Path
    experiment: str
    strategy: str
    seed: int
    initial: int
    batch: int
    rounds: int
    minority: str

    @property
    def path(self) -> Path:
        """Where its record lies."""
        return self.out / self.experiment / f"{self.strategy.replace(':', '-')}-{self.seed}.json"

    @property
    def title(self) -> str:
        return f"{self.experiment} {self.strategy} seed {self.seed}"

    def selector(self) -> Selector:
        """Raises: UnknownName, ConfigError."""
        return choice_of(self.strategy).build("strategies", SELECTORS)

    def settings(self) -> dict[str, Any]:
        """All that its numbers depend on, but for the code."""
        selector = self.selector()
        own: dict[str, Any] = {
            "curve": {"initial": self.initial, "batch": self.batch, "rounds": self.rounds},
            "minority": {
                "initial": self.initial,
                "batch": self.batch,
                "rounds": self.rounds,
                "class": self.minority,
                "prevalence": PREVALENCE,
            },
            "cold": {"labels": list(COLD)},
        }
        return {
            "pool": Pool(self.pool).fingerprint,
            "experiment": self.experiment,
            "strategy": self.strategy,
            "fields": TypeAdapter(type(selector)).dump_python(selector, mode="json"),
            "head": TypeAdapter(Logistic).dump_python(Logistic(), mode="json"),
            "seed": self.seed,
            **own[self.experiment],
        }


def choice_of(strategy: str) -> Choice:
    """`top_score:score=entropy,...`: a name and, after a colon, fields."""
    name, _, fields = strategy.partition(":")
    pairs = (field.partition("=")[::2] for field in fields.split(",") if field)
    return Choice.model_validate({"name": name, **dict(pairs)})


def offer(data: Data, barred: NDArray[np.int64]) -> None:
    """Begin a program without some items."""
    data.fleet.reset()
    data.fleet.each(exclude, barred)


def run_rounds(job: Job) -> dict[str, Any]:
    """The numbers of `curve` and `minority`."""
    selector, rare = job.selector(), job.minority if job.experiment == "minority" else None
    data = load(job.pool, rare, job.seed if rare else 0)
    first = lowest(derive(job.seed, "initial"), np.arange(len(data.classes)), job.initial)
    labelled = first
    numbers: dict[str, list[Any]] = {
        name: [] for name in ("labels", "accuracy", "f1", "found", "seconds", "cpu_seconds", "fit_seconds", "batches")
    }
    for round in range(job.rounds + 1):
        started = time.process_time()
        vectors, classes, head = data.fit(labelled, job.seed, first)
        numbers["fit_seconds"].append(time.process_time() - started)
        predicted = data.predicted(head)
        numbers["labels"].append(len(labelled))
        numbers["accuracy"].append(accuracy(predicted, data.truth))
        if rare is not None:
            numbers["f1"].append(f1(predicted == rare, data.truth == rare))
            numbers["found"].append(classes.count(rare))
        if round == job.rounds:
            break
        offer(data, labelled)
        key = derive(derive(job.seed, round), "select")
        context = context_of(
            data.fleet, head=head, ids=labelled, vectors=vectors, classes=classes, k=job.batch, key=key
        )
        batch = timed_select(data, selector, context, numbers)
        labelled = np.sort(np.concatenate([labelled, batch]))
    return numbers


def accuracy(predicted: NDArray[np.str_], truth: NDArray[np.str_]) -> float:
    return float((predicted == truth).mean())


def f1(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    """F1 of one class; 0 where it is never predicted."""
    return 2 * float((predicted & true).sum()) / float(predicted.sum() + true.sum())


def run_cold(job: Job) -> dict[str, Any]:
    """The numbers of `cold`; `classes` are how many of them the batch holds."""
    data, selector = load(job.pool, None, 0), job.selector()
    rows = np.arange(len(data.classes))
    barred = lowest(derive(job.seed, "cold"), rows, len(rows) // 2)
    numbers: dict[str, list[Any]] = {
        name: [] for name in ("labels", "accuracy", "classes", "seconds", "cpu_seconds", "batches")
    }
    for count in COLD:
        offer(data, barred)
        nobody = np.empty(0, np.int64)
        key = derive(derive(job.seed, 0), "select")
        context = context_of(data.fleet, head=None, ids=nobody, vectors=data.vectors(nobody), k=count, key=key)
        batch = timed_select(data, selector, context, numbers)
        _, classes, head = data.fit(np.sort(batch), job.seed)
        numbers["labels"].append(count)
        numbers["accuracy"].append(accuracy(data.predicted(head), data.truth))
        numbers["classes"].append(len(set(classes)))
    return numbers


def timed_select(
    data: Data, selector: Selector, context: RoundContext, numbers: dict[str, list[Any]]
) -> NDArray[np.int64]:
    """A batch of ids in pick order, its time and itself noted in `numbers`."""
    wall, cpu = time.perf_counter(), time.process_time()
    picks = select(data.fleet, selector, context, context.k)
    numbers["cpu_seconds"].append(time.process_time() - cpu)
    numbers["seconds"].append(time.perf_counter() - wall)
    numbers["batches"].append(picks.ids.tolist())
    return picks.ids


def run_job(job: Job) -> dict[str, list[Any]]:
    """The numbers of a job."""
    return run_cold(job) if job.experiment == "cold" else run_rounds(job)


def jobs_of(given: argparse.Namespace) -> list[Job]:
    """Random and the strategies asked for, in every experiment, seed by seed."""
    names = dict.fromkeys(["random", *(given.strategies or SELECTORS)])
    jobs = [
        Job(
            pool=given.pool,
            out=given.out,
            experiment=experiment,
            strategy=name,
            seed=seed,
            initial=given.initial,
            batch=given.batch,
            rounds=given.rounds,
            minority=given.minority,
        )
        for experiment in given.experiments
        for seed in range(given.seeds)
        for name in names
    ]
    return [job for job in jobs if job.experiment != "cold" or not job.selector().needs_head]


def main() -> None:
    temporary = Path(tempfile.gettempdir()) / "raysal-label-efficiency"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, default=temporary / "pool", help="made if it is not there")
    parser.add_argument("--out", type=Path, default=temporary / "records")
    parser.add_argument("--experiments", nargs="+", choices=EXPERIMENTS, default=EXPERIMENTS)
    parser.add_argument("--strategies", nargs="+", metavar="NAME[:FIELD=VALUE,...]", help="default: all there are")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="processes of one thread")
    parser.add_argument("--initial", type=int, default=100)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--minority", choices=CLASSES, default="Dress", help="for `minority`")
    parser.add_argument("--tables", action="store_true", help="run nothing, tabulate the records there are")
    parser.add_argument("--plot", type=Path, metavar="STEM", help="write STEM.png and STEM.svg of `curve`")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if not given.tables:
        make_pool(given.pool)
    jobs = jobs_of(given)
    for job in jobs if not given.tables else ():
        if job.experiment == "minority" and record_of(job) is None:
            minority_pool(job.pool, job.minority, job.seed)
    failed = 0 if given.tables else run_all(jobs, run_job, given.jobs)
    records = [record for job in jobs if (record := record_of(job)) is not None]
    tables = summaries(records)
    if given.json:
        print(json.dumps({"machine": describe(), "tables": tables}))
    else:
        print(describe())
        for experiment, rows in tables.items():
            print(f"\n{experiment}\n\n{markdown(experiment, rows)}")
    if given.plot is not None:
        width, height, draw = draw_curves(records)
        save_figure(given.plot, draw, width, height)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
