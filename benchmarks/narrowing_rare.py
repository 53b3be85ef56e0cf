"""The `rare` and `cost` parts of `benchmarks.narrowing`: what narrowing does to the search for a rare class.

A pool is Fashion-MNIST's 60,000 training images as vectors with one class thinned, or several jittered copies of such a
pool. Judges are the 10,000 test images; those of the class are weighted to the same prevalence, so that none of them is
lost to the count.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import jobs as experiments
from benchmarks.efficiency_data import Data, labels_of, lowest, split_of
from benchmarks.jobs import record_of
from benchmarks.label_efficiency import choice_of
from benchmarks.machine import CHUNK_ROWS, made_pool
from raysal.config import Choice
from raysal.context import LabelledVectors, RoundContext
from raysal.fleet import LocalFleet, exclude, keep, plan_partitions
from raysal.memory import Memory
from raysal.narrowing import NARROWERS
from raysal.narrowing.base import Narrower, narrow
from raysal.pool import Pool
from raysal.rng import derive
from raysal.sources.fashion_mnist import CLASSES
from raysal.strategies import SELECTORS
from raysal.strategies.base import Selector, select

OTHER = "other"
"""What is not of the rare class, where only that is asked."""
JITTER = 0.3
"""Standard deviation of a copy's noise, in those of the features, direction by direction."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A pool, one class of which is cut to a `prevalence`, then every row given `copies` times, and the question: which
    items are of that `minority` (two classes, as in AnchorAL's experiments), or of which of all classes they are."""

    prevalence: float
    copies: int = 1
    minority: str = "Dress"
    two_classes: bool = True

    @property
    def pool_name(self) -> str:
        return f"{CLASSES.index(self.minority)}-{100 * self.prevalence:g}%-x{self.copies}"

    @property
    def name(self) -> str:
        return f"{self.pool_name}-{'two' if self.two_classes else 'all'}"

    def asked(self, classes: NDArray[np.str_]) -> NDArray[np.str_]:
        """The answers to its question."""
        return np.where(classes == self.minority, classes, OTHER) if self.two_classes else classes


SCENARIOS = {
    "1%": Scenario(prevalence=0.01),
    "0.3%": Scenario(prevalence=0.003),
    "0.3%x3": Scenario(prevalence=0.003, copies=3),
    "0.1%": Scenario(prevalence=0.001),
    "0.3%bag": Scenario(prevalence=0.003, minority="Bag"),
    "1%all": Scenario(prevalence=0.01, two_classes=False),
    "0.3%all": Scenario(prevalence=0.003, two_classes=False),
}


def rules(size: int, scenario: Scenario) -> dict[str, dict[str, Any]]:
    """Narrowing rules by name, all for about `size` items a round but for `none`. AnchorAL searches for no more than
    `size` items in all: cutting a longer union down by similarity keeps what is dense, not what is rare."""
    classes = 2 if scenario.two_classes else len(CLASSES)
    anchoral = {"name": "anchoral", "anchors": 10, "neighbours": size // (10 * classes), "subpool": size}
    half = {**anchoral, "neighbours": size // (20 * classes)}
    return {
        "none": {"name": "none"},
        "uniform": {"name": "uniform", "size": size},
        "seals": {"name": "seals", "neighbours": 10},
        "anchoral": anchoral,
        "anchoral nearest": {**anchoral, "by": "nearest"},
        "mixed": {
            "name": "mixed",
            "size": size,
            "parts": [
                {**half, "share": 0.5},
                {"name": "top_score", "share": 0.25},
                {"name": "uniform", "share": 0.25},
            ],
        },
    }


@dataclass(frozen=True, kw_only=True)
class Job:
    """One narrowing rule before one strategy, with one seed, in one scenario."""

    pool: Path
    folder: Path
    out: Path
    scenario: Scenario
    rule: str
    strategy: str
    seed: int
    initial: int = 100
    known: int = 5
    """Of the initial labels are of the rare class."""
    batch: int = 25
    rounds: int = 20
    size: int = 1000

    @property
    def path(self) -> Path:
        """Where its record lies."""
        stem = f"{self.rule}-{self.strategy}-{self.seed}"
        return self.out / self.scenario.name / f"{stem.replace(':', '_').replace(',', '_').replace(' ', '_')}.json"

    @property
    def title(self) -> str:
        return f"{self.scenario.name} {self.rule} {self.strategy} seed {self.seed}"

    def choice(self) -> Choice:
        """A rule by its name here, or by its own name and fields."""
        named = rules(self.size, self.scenario)
        return Choice.model_validate(named[self.rule]) if self.rule in named else choice_of(self.rule)

    def narrower(self) -> Narrower:
        """Raises: UnknownName, ConfigError."""
        return self.choice().build("narrow", NARROWERS)

    def selector(self) -> Selector:
        """Raises: UnknownName, ConfigError."""
        return choice_of(self.strategy).build("strategies", SELECTORS)

    def settings(self) -> dict[str, Any]:
        """All that its numbers depend on, but for the code and the features."""
        return {
            "scenario": {**asdict(self.scenario), "jitter": JITTER},
            "rule": self.rule,
            "narrow": self.choice().model_dump(mode="json"),
            "strategy": self.strategy,
            "seed": self.seed,
            "initial": self.initial,
            "known": self.known,
            "batch": self.batch,
            "rounds": self.rounds,
            "size": self.size,
        }


# -- what is offered -------------------------------------------------------------------------------------------------


def thinned(classes: NDArray[np.str_], scenario: Scenario, seed: int) -> NDArray[np.int64]:
    """Rows, ascending, with as many of the rare class, drawn by the seed, as make up the prevalence."""
    rare = classes == scenario.minority
    count = round((~rare).sum() * scenario.prevalence / (1 - scenario.prevalence))
    some = lowest(derive(seed, "minority"), np.flatnonzero(rare), count)
    return np.sort(np.concatenate([np.flatnonzero(~rare), some]))


@lru_cache(maxsize=1)
def load(source: Path, folder: Path, scenario: Scenario, seed: int) -> tuple[Data, Pool]:
    """The pool of a scenario and a seed, made if it is not there, and the judges; opened once in a process."""
    full = Pool(source)
    offered, judging = ([c for c in range(len(full.chunks)) if split_of(full, c) == s] for s in ("train", "test"))
    classes = labels_of(full, offered)
    kept = thinned(classes, scenario, seed)
    pool = copies_of(full, offered, kept, scenario, seed, folder / f"{scenario.pool_name}-{seed}")
    data = Data(
        fleet=LocalFleet(plan_partitions(pool, 1, threads=1)),
        encoder=str(full.manifest.encoder["fingerprint"]),
        classes=scenario.asked(np.tile(classes[kept], scenario.copies)),
        judges=np.concatenate([full.chunks[chunk].vectors() for chunk in judging]).astype(np.float32),
        truth=scenario.asked(labels_of(full, judging)),
    )
    return data, pool


def copies_of(
    full: Pool, offered: Sequence[int], kept: NDArray[np.int64], scenario: Scenario, seed: int, path: Path
) -> Pool:
    """The rows `kept` of the chunks `offered`, and their jittered copies, as a pool; reused if it is there."""
    if (path / "pool.json").exists():
        return Pool(path)
    x = np.concatenate([full.chunks[chunk].vectors() for chunk in offered])
    spread = JITTER * x.std(0, dtype=np.float32)

    def rows_of(index: int, n: int) -> NDArray[np.float32]:
        places = index * CHUNK_ROWS + np.arange(n)
        noise = np.random.default_rng([seed, index]).standard_normal((n, x.shape[1]), dtype=np.float32)
        noise[places < len(kept)] = 0  # the first copy is the row itself
        vectors: NDArray[np.float32] = x[kept[places % len(kept)]] + spread * noise
        return vectors

    about = {"name": "thinned", "of": scenario.pool_name, "jitter": JITTER, "seed": seed}
    return made_pool(path, len(kept) * scenario.copies, full.dim, about, rows_of)


def first_labels(data: Data, job: Job) -> NDArray[np.int64]:
    """`known` items of the rare class and others to make up `initial`, both uniform, ascending. Of rows that come in
    several copies only the originals."""
    classes = data.classes[: len(data.classes) // job.scenario.copies]
    rare = classes == job.scenario.minority
    key = derive(job.seed, "initial")
    some = [
        lowest(key, np.flatnonzero(rare), job.known),
        lowest(key, np.flatnonzero(~rare), job.initial - job.known),
    ]
    return np.sort(np.concatenate(some))


def weighted_f1(predicted: NDArray[np.bool_], true: NDArray[np.bool_], prevalence: float) -> float:
    """F1 of a class among judges of whom the class counts `prevalence`; 0 where it is never predicted."""
    weight = prevalence / (1 - prevalence) * float((~true).sum()) / float(true.sum())
    hits, claims = float((predicted & true).sum()), float((predicted & ~true).sum())
    return 2 * weight * hits / (weight * hits + claims + weight * float(true.sum()))


# -- a job -----------------------------------------------------------------------------------------------------------

NUMBERS = ("labels", "f1", "found", "scored", "rare_scored", "narrow_cpu_s", "select_cpu_s", "fit_cpu_s")


def run_rounds(job: Job) -> dict[str, list[Any]]:
    """The numbers after each round, `NUMBERS`."""
    data, pool = load(job.pool, job.folder, job.scenario, job.seed)
    narrower, selector, rare = job.narrower(), job.selector(), job.scenario.minority
    first, memory = first_labels(data, job), None
    labelled = first
    numbers: dict[str, list[Any]] = {name: [] for name in NUMBERS}
    for round in range(job.rounds + 1):
        started = time.process_time()
        vectors, classes, head = data.fit(labelled, job.seed, first)
        numbers["fit_cpu_s"].append(time.process_time() - started)
        predicted = data.predicted(head)
        numbers["labels"].append(len(labelled))
        numbers["f1"].append(weighted_f1(predicted == rare, data.truth == rare, job.scenario.prevalence))
        numbers["found"].append(classes.count(rare))
        if round == job.rounds:
            break
        key = derive(job.seed, round)
        known = LabelledVectors(ids=labelled, vectors=vectors, classes=classes)
        started = time.process_time()
        context = RoundContext(
            head=head,
            labelled=known,
            pool=pool,
            k=job.batch,
            available=len(data.classes) - len(known),
            key=key,
            memory=memory,
        )
        memory = narrow_to_size(data, narrower, context, job, numbers)
        numbers["narrow_cpu_s"].append(time.process_time() - started)
        started = time.process_time()
        batch = select(data.fleet, selector, context.for_stage("select"), job.batch).ids
        numbers["select_cpu_s"].append(time.process_time() - started)
        labelled = np.sort(np.concatenate([labelled, batch]))
    return numbers


def narrow_to_size(
    data: Data, narrower: Narrower, context: RoundContext, job: Job, numbers: dict[str, list[Any]]
) -> Memory | None:
    """Start a program, take the labelled out, and narrow to at most `size` items: the first candidates in the order of
    the narrower (that of SEALS is random). Returns the narrower's memory."""
    known = context.labelled
    data.fleet.reset()
    data.fleet.each(exclude, known.ids)
    _, found = narrow(data.fleet, narrower, context.for_stage("narrow"))
    ids = found.ids
    if ids is None:
        scored, rare = context.available, int((data.classes == job.scenario.minority).sum())
        rare -= list(known.classes).count(job.scenario.minority)
    else:
        ids = ids[~np.isin(ids, known.ids)][: job.size]
        data.fleet.each(keep, ids)
        scored, rare = len(ids), int((data.classes[ids] == job.scenario.minority).sum())
    numbers["scored"].append(scored)
    numbers["rare_scored"].append(rare)
    return found.memory


def run_all(jobs: Sequence[Job], processes: int) -> int:
    """Do what is not done yet; returns how many jobs failed."""
    for job in {(job.scenario, job.seed): job for job in jobs if record_of(job) is None}.values():
        load(job.pool, job.folder, job.scenario, job.seed)  # two processes must not make the same pool
    return experiments.run_all(jobs, run_rounds, processes)


def ceiling(job: Job, others: int = 4000) -> list[tuple[int, float]]:
    """(rare items labelled, F1) of heads that were given half of the rare items, and all of them, beside `others`."""
    data, _ = load(job.pool, job.folder, job.scenario, job.seed)
    rare = data.classes == job.scenario.minority
    key = derive(job.seed, "ceiling")
    rest = lowest(key, np.flatnonzero(~rare), others)
    found = []
    for count in (int(rare.sum()) // 2, int(rare.sum())):
        some = lowest(key, np.flatnonzero(rare), count)
        _, _, head = data.fit(np.sort(np.concatenate([some, rest])), job.seed)
        predicted = data.predicted(head) == job.scenario.minority
        found.append((count, weighted_f1(predicted, data.truth == job.scenario.minority, job.scenario.prevalence)))
    return found


def jobs_of(
    base: Job, scenarios: Sequence[Scenario], names: Sequence[str], strategies: Sequence[str], seeds: int
) -> list[Job]:
    """Seed by seed."""
    return [
        replace(base, scenario=scenario, rule=rule, strategy=strategy, seed=seed)
        for scenario in scenarios
        for seed in range(seeds)
        for strategy in strategies
        for rule in names
    ]
