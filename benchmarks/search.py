"""Finding the rest of a few examples: `search` beside single rules, with and without the correction of the head.

    python -m benchmarks.search find --out DIR --fashion POOL [--digits] [--text NPZ] [--shuttle CSV] [--abalone DAT]
    python -m benchmarks.search table --out DIR --fashion POOL ...    # the same options
    python -m benchmarks.search fixmatch --out DIR                    # a network of the pictures, trained on few labels
    python -m benchmarks.search throughput                            # seconds to rank a pool once, and once more
    python -m benchmarks.search page RUN                              # from key to next picture, in a browser
    python -m benchmarks.search load RUN                              # many annotators at once, over HTTP

A task is a set of items of which one class (or two together) is rare and looked for. It begins with 5 items of it and
95 others; ten rounds of 25 follow. The simulated oracle answers what is asked and nothing else. `found` is what was
found in the rounds, without the 5. The judges are items apart, those of the class weighted to the prevalence of the
pool; the head is that after the last label. Each cell leaves a record; what is done is not done again.

`--fashion` is a pool that `benchmarks.label_efficiency` makes: Fashion-MNIST by efficientnet_lite0 at 64 pixels.
`--text` is what `benchmarks.laplace_text --every-section` writes: what 60,012 packages of Debian say of themselves in a
line, by all-MiniLM-L6-v2; a section of the archive is looked for. `--shuttle` is river's shuttle.csv.gz, `--abalone`
KEEL's abalone19.dat; scikit-learn's digits are always at hand.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import jobs as experiments
from benchmarks.efficiency_data import labels_of, lowest, split_of
from benchmarks.jobs import record_of
from benchmarks.search_tables import Cells, table_of_finds, table_of_models
from raysal.config import choice
from raysal.context import LabelledVectors, RoundContext, Yield
from raysal.fleet import LocalFleet, Partition, exclude
from raysal.models.head import Head
from raysal.models.ranking_measures import TOP_SHARE, auroc, average_precision, top_of_ranking
from raysal.models.trainers import TRAINERS
from raysal.models.trainers.base import Context, TrainingData
from raysal.pool import Pool
from raysal.rng import derive, generator
from raysal.sources.fashion_mnist import CLASSES
from raysal.strategies import SELECTORS
from raysal.strategies.base import select

FOUND, OTHER = "positive", "negative"
PAIRS = (("Bag", "Dress"), ("Coat", "Sneaker"))
"""Classes that are looked for together."""
SECTIONS = ("hamradio", "electronics", "database", "mail", "video")
"""Sections of the texts that are looked for, as rare as they are: 0.2 to 0.6 %."""
SHORT = 3
"""Rounds, up to which every model is measured, and not the last alone."""
BACKGROUND = 500
"""Items of it."""
LIGHTER = 0.2
"""What each counts in labels, where it is not 1."""
Rule = Mapping[str, Any]
RULES: dict[str, Rule] = {
    "search": {"select": "search", "background": BACKGROUND},
    "search, no correction": {"select": "search"},
    "search, lighter background": {"select": "search", "background": BACKGROUND, "weight": LIGHTER},
    "search, narrow": {
        "select": {"name": "search", "likeliest": 1, "uncertain": 0, "novel": 0},
        "background": BACKGROUND,
    },
    "margin": {"select": "margin"},
    "margin, background": {"select": "margin", "background": BACKGROUND},
    "probability": {"select": "log_odds"},
    "probability, background": {"select": "log_odds", "background": BACKGROUND},
    "novelty": {"select": "novelty"},
    "isolation forest": {"select": "novelty:isolation_forest"},
    "pseudo-labels": {"select": "log_odds", "trainer": "pseudo_labels"},
    "random": {"select": "random"},
}
"""By name: the strategy, the trainer, how many background items there are, and what each counts (1)."""
ELSEWHERE: dict[str, tuple[str, Sequence[str], str]] = {
    "fixmatch": ("benchmarks.fixmatch", ("--data", "rare"), "1: a network of the pictures, trained on few labels"),
    "throughput": ("benchmarks.search_throughput", (), "3: seconds to rank a pool once, and once more"),
    "page": ("benchmarks.page", (), "4: from key to next picture, in a browser"),
    "load": ("benchmarks.page_load", (), "4: many annotators at once, over HTTP"),
}
"""Parts that another module measures: its name, the options it begins with, and what it is."""
SINGLE = ("margin", "probability", "novelty", "isolation forest", "pseudo-labels")


@dataclass(frozen=True, kw_only=True)
class Task:
    """Items that are searched, and items that judge."""

    x: NDArray[np.float16]
    rare: NDArray[np.bool_]
    judges: NDArray[np.float32]
    truth: NDArray[np.bool_]
    weights: NDArray[np.float64]
    """of the judges"""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One rule on one task with one seed."""

    out: Path
    data: str
    """`fashion`, `digits`, `text`, `shuttle` or `abalone`"""
    file: str
    target: tuple[str, ...]
    prevalence: float
    rule: str
    seed: int
    dim: int = 256
    known: int = 5
    others: int = 95
    batch: int = 25
    rounds: int = 10

    @property
    def task(self) -> str:
        return f"{self.data} {'+'.join(self.target)} {100 * self.prevalence:g}%"

    @property
    def path(self) -> Path:
        name = f"{self.task}-{self.known}-{self.others}-{self.batch}x{self.rounds}-{self.dim}-{self.rule}-{self.seed}"
        return self.out / "cells" / (name.replace(" ", "_").replace("/", "_") + ".json")

    @property
    def title(self) -> str:
        return f"{self.task}, {self.rule}, seed {self.seed}"

    def settings(self) -> dict[str, Any]:
        known = {name: getattr(self, name) for name in ("known", "others", "batch", "rounds", "dim", "seed")}
        return {"task": self.task, "rule": self.rule, "how": dict(RULES[self.rule]), **known}


# -- tasks -----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def rows_of(
    out: Path, data: str, file: str, dim: int
) -> tuple[NDArray[np.float32], NDArray[np.str_], NDArray[np.bool_]]:
    """Vectors, classes, and which rows are apart to judge."""
    if data == "fashion":
        pool = Pool(Path(file))
        kept = out / f"fashion-{dim}.npy"
        if not kept.exists():
            out.mkdir(parents=True, exist_ok=True)
            x = np.concatenate([chunk.vectors() for chunk in pool.chunks]).astype(np.float32)
            np.save(kept, reduced(x, dim).astype(np.float16))
        x = np.load(kept).astype(np.float32)
        judging = np.concatenate([[split_of(pool, c) == "test"] * chunk.rows for c, chunk in enumerate(pool.chunks)])
        return x, labels_of(pool, range(len(pool.chunks))), judging
    if data == "digits":
        from sklearn.datasets import load_digits

        found = load_digits()
        x, names = found.data.astype(np.float32), found.target.astype(str)
    elif data == "text":
        with np.load(file) as arrays:
            return arrays["x"].astype(np.float32), arrays["names"][arrays["labels"]], apart(data, len(arrays["x"]))
    elif data == "shuttle":
        with gzip.open(file, "rt") as lines:
            table = list(csv.reader(lines))
        begun = 0 if table[0][0].lstrip("-").replace(".", "").isdigit() else 1
        x = np.array([row[:-1] for row in table[begun:]], np.float32)
        names = np.array([row[-1] for row in table[begun:]])
    else:
        rows = Path(file).read_text().splitlines()
        table = [row for row in csv.reader(rows) if row and not row[0].startswith("@")]
        sexes = sorted({row[0].strip() for row in table})
        x = np.array([[*(row[0].strip() == sex for sex in sexes), *row[1:-1]] for row in table], np.float32)
        names = np.array([row[-1].strip() for row in table])
    x = (x - x.mean(0)) / np.where(x.std(0) > 0, x.std(0), 1)
    return x, names, apart(data, len(x))


def apart(data: str, items: int) -> NDArray[np.bool_]:
    """Which items judge, where a set has no such part of its own: three tenths."""
    return generator(derive(0, data)).random(items) < 0.3


def reduced(x: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
    """The leading principal directions, of the length that vectors of the pool have; the vectors as they are for 0."""
    if not dim or dim >= x.shape[1]:
        return x
    x = x - x.mean(0)
    _, directions = np.linalg.eigh(x.T.astype(np.float64) @ x)
    return np.asarray(x @ directions[:, ::-1][:, :dim], np.float32)


def task_of(job: Job) -> Task:
    """What a job searches: a draw of the rare class to its prevalence, and all else."""
    x, names, judging = rows_of(job.out, job.data, job.file, job.dim)
    rare = np.isin(names, job.target)
    mine, others = np.flatnonzero(rare & ~judging), np.flatnonzero(~rare & ~judging)
    prevalence = job.prevalence or len(mine) / (len(mine) + len(others))
    count = min(len(mine), max(round(len(others) * prevalence / (1 - prevalence)), job.known + 1))
    kept = np.sort(np.concatenate([others, lowest(derive(job.seed, "thin"), mine, count)]))
    truth = rare[judging]
    weight = prevalence / (1 - prevalence) * (~truth).sum() / max(truth.sum(), 1)
    return Task(
        x=x[kept].astype(np.float16),
        rare=rare[kept],
        judges=x[judging],
        truth=truth,
        weights=np.where(truth, weight, 1.0),
    )


# -- a search --------------------------------------------------------------------------------------------------------


def run(job: Job) -> dict[str, Any]:
    """Search once: what each round found, and how the last head judges."""
    task, rule = task_of(job), RULES[job.rule]
    fleet = LocalFleet.of(Partition.of_items(np.arange(len(task.x)), task.x, "l2"))
    selector = choice(rule["select"]).build("select", SELECTORS)
    key = derive(job.seed, "initial")
    labelled = np.concatenate(
        [
            lowest(key, np.flatnonzero(task.rare), job.known),
            lowest(key, np.flatnonzero(~task.rare), job.others),
        ]
    )
    rounds = np.full(len(labelled), -1)
    drawn = lowest(derive(job.seed, "background"), np.arange(len(task.x)), rule.get("background", 0))
    found, yields, asked = [], list[dict[str, Yield]](), []
    head = fit(job, task, labelled, rounds, drawn)
    models = [ranked(task, head, labelled)] if job.rounds <= SHORT else []
    for round in range(job.rounds):
        order = np.argsort(labelled)
        known = LabelledVectors(
            ids=labelled[order],
            vectors=task.x[labelled[order]].astype(np.float32),
            classes=words(task, labelled[order]),
        )
        fleet.reset()
        available = sum(fleet.each(exclude, known.ids))
        k = min(job.batch, available)
        context = RoundContext(
            head=head,
            labelled=known,
            pool=None,  # type: ignore[arg-type]  # these strategies do not look at it
            k=k,
            available=available,
            key=derive(job.seed, round, "select"),
            target=(FOUND,),
            background=len(drawn),
            yields=yields,
        )
        picks = select(fleet, selector, context, k)
        hits = task.rare[picks.ids]
        found.append(int(hits.sum()))
        asked.append({way: picks.shares.count(way) for way in sorted(set(picks.shares))})
        if picks.shares:
            ways = np.array(picks.shares)
            yields.append({w: Yield(int((ways == w).sum()), int(hits[ways == w].sum())) for w in sorted(set(ways))})
        labelled, rounds = np.concatenate([labelled, picks.ids]), np.append(rounds, np.full(k, round))
        head = fit(job, task, labelled, rounds, drawn)
        if job.rounds <= SHORT or round == job.rounds - 1:
            models.append(ranked(task, head, labelled))
    counts = {"rare": int(task.rare.sum()), "items": len(task.x)}
    last = {**judged(task, head), "f1_of_pool": f1_of_pool(task, head, labelled)}
    return {"found": found, **counts, "asked": asked, "models": models, **last}


def words(task: Task, ids: NDArray[np.int64]) -> list[str]:
    return [FOUND if rare else OTHER for rare in task.rare[ids]]


def fit(job: Job, task: Task, labelled: NDArray[np.int64], rounds: NDArray[np.int64], drawn: NDArray[np.int64]) -> Head:
    """The head after labels and the background, as a run fits it (`raysal.rounds.learner`)."""
    rule = RULES[job.rule]
    trainer = choice(rule.get("trainer", "logistic")).build("update.trainer", TRAINERS)
    others = np.setdiff1d(drawn, labelled)
    ids, names = np.concatenate([labelled, others]), [*words(task, labelled), *[OTHER] * len(others)]
    order = np.argsort(ids)
    free = np.setdiff1d(np.arange(len(task.x)), labelled)
    sample = lowest(derive(job.seed, len(labelled), "unlabelled"), free, trainer.sample) if trainer.sample else None
    return trainer.fit(
        TrainingData(
            features=task.x[ids[order]].astype(np.float32),
            labels=[names[place] for place in order],
            weights=np.append(np.ones(len(labelled)), np.full(len(others), rule.get("weight", 1.0)))[order],
            classes=[FOUND, OTHER],
            seed=derive(job.seed, "fit") % 2**32,
            context=Context(
                rounds=np.append(rounds, np.full(len(others), -1))[order],
                unlabelled=None if sample is None else task.x[sample].astype(np.float32),
            ),
        )
    )


def log_odds_of(head: Head, x: NDArray[np.floating]) -> NDArray[np.float64]:
    """[n] log odds of what is looked for."""
    found = head.classes.index(FOUND)
    outputs = head.logits(x.astype(np.float32)) / head.temperature
    return np.asarray(outputs[:, found] - outputs[:, 1 - found], np.float64)


def ranked(task: Task, head: Head, labelled: NDArray[np.int64]) -> dict[str, float]:
    """How a head ranks the items of the pool that nobody has labelled."""
    left = np.setdiff1d(np.arange(len(task.x)), labelled)
    scores, rare = log_odds_of(head, task.x[left]), task.rare[left]
    top = top_of_ranking(scores, rare, round(TOP_SHARE * len(left)))
    return {
        "labels": len(labelled),
        "left": int(rare.sum()),
        "auroc": auroc(scores, rare),
        "auprc": average_precision(scores, rare),
        "precision_in_top": top.precision,
        "attained_in_top": top.attained,
    }


def f1_of_pool(task: Task, head: Head, labelled: NDArray[np.int64]) -> float:
    """F1 over the pool that was searched: of what is labelled as labelled, and of all else by the head."""
    says = log_odds_of(head, task.x) > 0
    says[labelled] = task.rare[labelled]
    return float(2 * (says & task.rare).sum() / max(says.sum() + task.rare.sum(), 1))


def f1_above(task: Task, scores: NDArray[np.float64], threshold: float) -> float:
    """F1 of what has more than a threshold, on the judges."""
    says, weights = scores > threshold, task.weights
    hits = float(weights[says & task.truth].sum())
    return 2 * hits / max(float(weights[says].sum() + weights[task.truth].sum()), 1e-12)


def by_threshold(task: Task, head: Head) -> dict[str, float]:
    """F1 with other thresholds than a probability of 0.5.

    `f1_best` is that of the best threshold in hindsight. `f1_matched` calls as many items of the pool positive as there
    are, and `_half` and `_twice` so many of these. `f1_shifted` adds to the bias what makes the mean probability over
    the pool the prevalence.
    """
    judges, pool = log_odds_of(head, task.judges), np.sort(log_odds_of(head, task.x))
    order = np.argsort(-judges, kind="stable")
    hits, said = np.cumsum((task.weights * task.truth)[order]), np.cumsum(task.weights[order])
    f1 = {"f1_best": float((2 * hits / (said + hits[-1])).max())}
    count = int(task.rare.sum())
    for name, factor in (("f1_matched", 1.0), ("f1_matched_half", 0.5), ("f1_matched_twice", 2.0)):
        f1[name] = f1_above(task, judges, float(pool[len(pool) - max(round(factor * count), 1) - 1]))
    low, high = -40.0, 40.0
    for _ in range(50):
        shift = (low + high) / 2
        more = (1 / (1 + np.exp(-(pool + shift).clip(-500, 500)))).sum() > count
        low, high = (low, shift) if more else (shift, high)
    return f1 | {"f1_shifted": f1_above(task, judges, -low)}


def judged(task: Task, head: Head) -> dict[str, float]:
    """F1, average precision and log loss of a head on the judges, weighted to the prevalence."""
    p = head.probabilities(task.judges)[:, head.classes.index(FOUND)]
    truth, weights, says = task.truth, task.weights, p > 0.5
    hits = float(weights[says & truth].sum())
    order = np.argsort(-p, kind="stable")
    mine, all_ = np.cumsum((weights * truth)[order]), np.cumsum(weights[order])
    right = np.where(truth, p, 1 - p).clip(1e-12)
    return {
        "f1": 2 * hits / max(float(weights[says].sum() + weights[truth].sum()), 1e-12),
        "auprc": float((mine / all_ * (weights * truth)[order]).sum() / mine[-1]),
        "log_loss": float(-(weights * np.log(right)).sum() / weights.sum()),
        "predicted": float((weights * p).sum() / weights.sum()),
        "prevalence": float(weights[truth].sum() / weights.sum()),
        **by_threshold(task, head),
    }


# -- command line ----------------------------------------------------------------------------------------------------


def cells_of(jobs: Sequence[Job]) -> Cells:
    """The records of jobs that are done: by task and rule, and then by seed."""
    cells: dict[tuple[str, str], dict[int, Mapping[str, Any]]] = defaultdict(dict)
    for job in jobs:
        if (record := record_of(job)) is not None:
            cells[job.task, job.rule][job.seed] = record
    return cells


def jobs_of(args: argparse.Namespace) -> list[Job]:
    """All cells that were asked for."""
    base = Job(out=args.out, data="", file="", target=(), prevalence=0.0, rule="", seed=0, dim=args.dim)
    base = replace(base, others=args.others, batch=args.batch, rounds=args.rounds)
    tasks: list[tuple[str, str, tuple[str, ...], float]] = []
    if args.fashion:
        wanted = [CLASSES[int(c)] for c in args.classes] if args.classes else CLASSES
        tasks += [("fashion", str(args.fashion), (name,), p) for p in args.prevalence for name in wanted]
        if not args.classes:
            tasks += [("fashion", str(args.fashion), pair, p) for p in args.prevalence for pair in PAIRS]
    if args.digits:
        tasks += [("digits", "", (str(digit),), 0.02) for digit in range(0, 10, 3)]
    if args.text:
        tasks += [("text", str(args.text), (name,), 0.0) for name in SECTIONS]
    if args.shuttle:
        tasks.append(("shuttle", str(args.shuttle), tuple(args.shuttle_classes), 0.008))
    if args.abalone:
        tasks.append(("abalone", str(args.abalone), ("positive",), 0.0))
    rules = args.rules or list(RULES)
    return [
        replace(base, data=data, file=file, target=target, prevalence=prevalence, rule=rule, seed=seed)
        for seed in args.seeds
        for data, file, target, prevalence in tasks
        for rule in rules
    ]


def forward(part: str, rest: Sequence[str]) -> None:
    """Hand over to another benchmark, which takes its own options."""
    module, first, _ = ELSEWHERE[part]
    sys.argv = [f"{sys.argv[0]} {part}", *first, *rest]
    import_module(module).main()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True, metavar="PART")
    for part, (module, _, help) in ELSEWHERE.items():
        parts.add_parser(part, help=f"{help} (benchmarks.{module.rpartition('.')[2]})", add_help=False)
    for part, help in {"find": "1, 2: search, a record for each cell", "table": "1, 2: what the records say"}.items():
        options_of(parts.add_parser(part, help=help))
    if len(sys.argv) > 1 and sys.argv[1] in ELSEWHERE:
        forward(sys.argv[1], sys.argv[2:])
        return
    args = parser.parse_args()
    jobs = jobs_of(args)
    if args.part == "find":
        for job in jobs:
            rows_of(job.out, job.data, job.file, job.dim)  # reduced once
        raise SystemExit(bool(experiments.run_all(jobs, run, args.processes)))
    cells = cells_of(jobs)
    print(table_of_models(cells) if args.rounds <= SHORT else table_of_finds(cells, list(RULES), SINGLE))


def options_of(parser: argparse.ArgumentParser) -> None:
    """Which cells."""
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--fashion", type=Path)
    parser.add_argument("--classes", default="", help="digits of classes, as 138; all by default")
    parser.add_argument("--prevalence", type=float, nargs="+", default=[0.01, 0.001])
    parser.add_argument("--dim", type=int, default=256, help="principal directions of the vectors; 0 for all")
    parser.add_argument("--digits", action="store_true")
    parser.add_argument("--text", type=Path)
    parser.add_argument("--shuttle", type=Path)
    parser.add_argument("--shuttle-classes", nargs="+", default=["1"])
    parser.add_argument("--abalone", type=Path)
    parser.add_argument("--rules", nargs="+", choices=list(RULES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--others", type=int, default=95, help="labels of others at the start")
    parser.add_argument("--batch", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=10, help=f"up to {SHORT}, every model is measured on the pool")
    parser.add_argument("--processes", type=int, default=2)


if __name__ == "__main__":
    main()
