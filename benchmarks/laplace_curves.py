"""Does a head that is updated between fits choose as well as one that is fitted anew each round, and what does it save?

    python -m benchmarks.laplace curves --out DIR [--seeds 5] [--jobs 2] [--quick]
    python -m benchmarks.laplace curves --out DIR --tables [--plot docs/updates]

Whole sessions on Fashion-MNIST, as `benchmarks.label_efficiency` has it: EfficientNet-Lite0 vectors of 60,000 training
images to choose from, no narrowing, 100 labels drawn uniformly, the same for all, then batches of 50; the 10,000 test
images judge the head of every round and the closing one. `badge`, `margin` (top_score) and `bait`, each with

- `retrain`: a new fit each round;
- `laplace-1`, `-5`, `-10`: closed-form updates, and a new fit every 1, 5, 10 rounds (and when the mean strays);
- `reveal`, for margin: the head also updated after every pick, by its true label; a new fit each round.

There are 14 rounds, so that the closing head of `laplace-5` and `-10` has been updated four times since its last fit. A
job is one of these with one seed, in a process of one thread; its record is written whole to DIR, and one of the same
settings is not made again. Seconds are wall-clock: run as few jobs at once as there are idle cores. Intervals are 95 %,
Student's t over seeds; differences to `retrain` are taken seed by seed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.efficiency_data import load, lowest, make_pool
from benchmarks.efficiency_tables import average, draw_line, last, mean_and_interval, mean_curve, paired
from benchmarks.figures import save_figure
from benchmarks.jobs import record_of, run_all
from benchmarks.machine import describe
from raysal.pool import Pool
from raysal.rng import derive
from raysal.rounds.session import Session

FIT_EACH_ROUND = {"mode": "retrain"}
VARIANTS: dict[str, dict[str, Any]] = {
    "retrain": FIT_EACH_ROUND,
    **{f"laplace-{n}": {"mode": "laplace", "retrain_every": n, "retrain_share": 1e9} for n in (1, 5, 10)},
    "reveal": FIT_EACH_ROUND,
}
STRATEGIES = {"badge": "badge", "margin": "top_score", "bait": "bait"}
REVEALED = ("margin",)
"""Strategies with the variant `reveal`."""
BASE = "retrain"
COLOURS = {
    "retrain": "#222222",
    "laplace-1": "#2a7f9e",
    "laplace-5": "#c1440e",
    "laplace-10": "#8a5fa8",
    "reveal": "#5b8c3a",
}

Record = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A strategy in one variant, with one seed."""

    pool: Path
    out: Path
    strategy: str
    variant: str
    seed: int
    initial: int
    batch: int
    rounds: int

    @property
    def path(self) -> Path:
        """Where its record lies."""
        return self.out / "curves" / f"{self.strategy}-{self.variant}-{self.seed}.json"

    @property
    def title(self) -> str:
        return f"{self.strategy} {self.variant} seed {self.seed}"

    @property
    def select(self) -> str:
        """The strategy's name in a config."""
        name = STRATEGIES[self.strategy]
        return f"reveal:{name}" if self.variant == "reveal" else name

    def settings(self) -> dict[str, Any]:
        """All that its numbers depend on, but for the code."""
        return {
            "pool": Pool(self.pool).fingerprint,
            "strategy": self.strategy,
            "variant": self.variant,
            "select": self.select,
            "update": VARIANTS[self.variant],
            "seed": self.seed,
            "initial": self.initial,
            "batch": self.batch,
            "rounds": self.rounds,
        }


def run_job(job: Job) -> dict[str, list[Any]]:
    """What each round took, and how its head does on the test images; one head more than rounds."""
    data, pool = load(job.pool, None, 0), Pool(job.pool)
    keys = [key for table in pool.items(["key"]) for key in table["key"].to_pylist()][: len(data.classes)]
    truth = dict(zip(keys, data.classes.tolist(), strict=True))
    numbers: dict[str, list[Any]] = defaultdict(list)
    with (
        tempfile.TemporaryDirectory() as folder,
        Session(
            Path(folder) / "run",
            pool,
            fleet=data.fleet,
            select=job.select,
            oracle="simulated",
            update=VARIANTS[job.variant],
            rounds={"k": job.batch},
            seed=job.seed,
        ) as session,
    ):

        def note(record: Record) -> None:
            head = session.current_head()
            assert head is not None
            numbers["labels"].append(record["labels"])
            numbers["accuracy"].append(float((data.predicted(head) == data.truth).mean()))
            numbers["decision"].append(record["decision"])

        first = lowest(derive(job.seed, "initial"), np.arange(len(keys)), job.initial)
        session.tell({keys[row]: truth[keys[row]] for row in first.tolist()})
        for round in range(job.rounds):
            batch, record = session.query(), session.record(round)
            note(record)
            numbers["update_seconds"].append(record["seconds"]["update"])
            numbers["select_seconds"].append(record["seconds"]["select"])
            numbers["round_seconds"].append(sum(record["seconds"].values()))
            for key in batch.keys:
                started = time.perf_counter()
                session.tell({key: truth[key]})
                numbers["tell_seconds"].append(time.perf_counter() - started)
        note(session.finish())
    return dict(numbers)


def jobs_of(given: argparse.Namespace) -> list[Job]:
    """Seed by seed, every strategy in every variant it has."""
    return [
        Job(
            pool=given.pool,
            out=given.out,
            strategy=strategy,
            variant=variant,
            seed=seed,
            initial=given.initial,
            batch=given.batch,
            rounds=given.rounds,
        )
        for seed in range(given.seeds)
        for strategy in given.strategies
        for variant in VARIANTS
        if variant != "reveal" or strategy in REVEALED
    ]


def by_variant(records: Sequence[Record]) -> dict[tuple[str, str], dict[int, Record]]:
    """Records of each (strategy, variant) by seed, in their order."""
    groups: dict[tuple[str, str], dict[int, Record]] = defaultdict(dict)
    for record in records:
        settings = record["settings"]
        groups[settings["strategy"], settings["variant"]][settings["seed"]] = record
    return groups


def rows_of(records: Sequence[Record]) -> list[dict[str, Any]]:
    """A row for each strategy and variant, in their order."""
    rows = []
    groups = by_variant(records)
    for (strategy, variant), seeds in groups.items():
        base = groups.get((strategy, BASE), {})
        rows.append(
            {
                "strategy": strategy,
                "variant": variant,
                "seeds": len(seeds),
                "final": mean_and_interval([last("accuracy")(record) for record in seeds.values()]),
                "mean": mean_and_interval([average("accuracy")(record) for record in seeds.values()]),
                "final_over_retrain": None if variant == BASE else paired(seeds, base, last("accuracy")),
                "mean_over_retrain": None if variant == BASE else paired(seeds, base, average("accuracy")),
                "fits": float(np.mean([fits(record) for record in seeds.values()])),
                **{f"{name}_seconds": median(seeds, f"{name}_seconds") for name in ("update", "round", "tell")},
            }
        )
    return rows


def fits(record: Record) -> int:
    """How many heads of a job were fitted anew."""
    return sum(decision.startswith("fitted") for decision in record["decision"])


def median(seeds: Mapping[int, Record], name: str) -> float:
    """Over all rounds (or labels) of all seeds."""
    return float(np.median([seconds for record in seeds.values() for seconds in record[name]]))


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Accuracy in percent of the test images, seconds of the median round, milliseconds of the median label."""
    names = ("strategy", "head", "accuracy, mean of rounds", "- retrain", "at the end", "- retrain", "fits")
    times = ("update, s", "round, s", "tell, ms")
    lines = ["| " + " | ".join((*names, *times)) + " |", "|---" * 10 + "|"]
    for row in rows:
        cells = [
            row["strategy"],
            row["variant"],
            percent(row["mean"]),
            percent(row["mean_over_retrain"], "+"),
            percent(row["final"]),
            percent(row["final_over_retrain"], "+"),
            f"{row['fits']:.1f}",
            f"{row['update_seconds']:.3f}",
            f"{row['round_seconds']:.2f}",
            f"{1e3 * row['tell_seconds']:.1f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(records: Sequence[Record], figure: Any) -> None:
    """A column for each strategy: accuracy against labels, and below it what each variant is off from a new fit each
    round, seed by seed, with 95 % intervals."""
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    groups = by_variant(records)
    strategies = list(dict.fromkeys(strategy for strategy, _ in groups))
    panels = figure.subplots(2, len(strategies), sharex=True, sharey="row", squeeze=False)
    for (above, below), strategy in zip(panels.T, strategies, strict=True):
        base = groups.get((strategy, BASE), {})
        for variant, colour in COLOURS.items():
            seeds = groups.get((strategy, variant))
            if seeds is None:
                continue
            above.plot(*mean_curve(seeds), color=colour, linewidth=1.6, label=variant)
            both = seeds.keys() & base.keys()
            if not both:
                continue
            apart = {seed: np.subtract(seeds[seed]["accuracy"], base[seed]["accuracy"]) for seed in both}
            draw_line(below, {seed: {**seeds[seed], "accuracy": apart[seed]} for seed in both}, colour, variant)
        above.set_title(f"{strategy}, {len(base)} seed{'s' if len(base) > 1 else ''}", fontweight="bold")
        below.set_xlabel("labels")
    panels[0, 0].set_ylabel("accuracy on the test images")
    panels[1, 0].set_ylabel("- retrain, points")
    panels[0, 0].yaxis.set_major_locator(MultipleLocator(0.02))
    panels[1, 0].yaxis.set_major_locator(MultipleLocator(0.01))
    panels[0, 0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    panels[1, 0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:+.0f}"))
    handles = {line.get_label(): line for axes in panels[0] for line in axes.get_lines()}
    figure.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=len(handles))


def percent(value: tuple[float, float | None] | None, sign: str = "") -> str:
    """Mean and interval in percent."""
    if value is None:
        return ""
    mean, half = value
    return f"{100 * mean:{sign}.2f}" + ("" if half is None else f" ± {100 * half:.2f}")


def main() -> None:
    temporary = Path(tempfile.gettempdir()) / "raysal-label-efficiency"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, default=temporary / "pool", help="made if it is not there")
    parser.add_argument("--out", type=Path, default=temporary / "laplace")
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="processes of one thread")
    parser.add_argument("--initial", type=int, default=100)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=14)
    parser.add_argument("--quick", action="store_true", help="two seeds of margin and badge, 7 rounds of 10")
    parser.add_argument("--tables", action="store_true", help="run nothing, tabulate the records there are")
    parser.add_argument("--plot", type=Path, metavar="STEM", help="write STEM.png and STEM.svg")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.quick:
        given.seeds, given.batch, given.rounds, given.strategies = 2, 10, 7, ["margin", "badge"]
    if not given.tables:
        make_pool(given.pool)
    jobs = jobs_of(given)
    failed = 0 if given.tables else run_all(jobs, run_job, given.jobs)
    records = [record for job in jobs if (record := record_of(job)) is not None]
    rows = rows_of(records)
    if given.plot is not None:
        save_figure(given.plot, partial(draw, records), 1.2 + 2.9 * len(given.strategies), 6)
    print(json.dumps({"machine": describe(), "rows": rows}) if given.json else f"{describe()}\n\n{markdown(rows)}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
