"""Frozen vectors against a network trained on the labels: alone, and with FixMatch on the unlabelled pictures.

    python -m benchmarks.fixmatch --out build/fixmatch --seeds 0 1
    python -m benchmarks.fixmatch --out build/fixmatch --table

Each cell is a run with a few labels of each class and a third of its items held out; EfficientNet-Lite0 at 32 pixels.
A training that is stopped goes on, and a finished cell is not done again, so it can be run in pieces. Accuracy is that
of a head on the held-out items: `logistic` or `pseudo_labels` on the frozen vectors, `logistic` on the vectors of the
trained network. In `rare` the labels are 5 bags and 45 other clothes, bags are one item in a hundred, and the number is
the average precision of all bags without a label. About a minute of one core for each training.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score

import raysal
from benchmarks.machine import describe
from benchmarks.search_tables import with_error
from raysal.config import Choice
from raysal.models.trainers.base import Context, TrainingData
from raysal.models.trainers.logistic import Logistic
from raysal.models.trainers.pseudo_labels import PseudoLabels
from raysal.pool import Pool
from raysal.rng import derive, item_uniform
from raysal.rounds.directory import RunDir
from raysal.rounds.held_out import HeldOut
from raysal.rounds.run_labels import RunLabels
from raysal.rounds.training_labels import TrainingLabels
from raysal.sources import SOURCES
from raysal.sources.base import Source
from raysal.sources.fashion_mnist import CLASSES
from raysal.store import write_sealed

SIZE, HOLDOUT = 32, 0.34
LABELS, OTHERS = 5, 45
"""Of each class, and of what is not looked for."""
RARE = "Bag"
DATA: dict[str, tuple[dict[str, Any], str]] = {
    "digits": ({"name": "digits"}, "none"),
    "fashion": ({"name": "fashion_mnist", "thin": dict.fromkeys(CLASSES, 0.2)}, "mirror"),
    "rare": ({"name": "fashion_mnist", "thin": {**dict.fromkeys(CLASSES, 0.25), RARE: 0.025}}, "mirror"),
}
"""{name: (source, symmetry)}"""
COMMON: dict[str, Any] = {"steps": 200, "batch_size": 20, "ratio": 2}
ARMS: dict[str, dict[str, Any]] = {
    "labels alone": {"weight": 0.0},
    "fixmatch": {},
    "fixmatch, floor 0.5": {"floor": 0.5},
    "fixmatch, not balanced": {"balance": False},
    "fixmatch, batch norms follow": {"batch_norm": 0.1},
}
FROZEN = {"frozen, logistic": Logistic(), "frozen, pseudo_labels": PseudoLabels()}


def begin(home: Path, data: str, seed: int) -> Source:
    """The pool and the run of a cell, with its labels, unless they are there."""
    source = Choice(**DATA[data][0]).build("source", SOURCES)
    if (home / "run" / "run.json").exists():
        return source
    pool = raysal.embed(source, {"name": "efficientnet_lite0", "size": SIZE}, out=home / "pool")
    config: dict[str, Any] = {"fleet": {"backend": "local"}, "rounds": {"holdout": HOLDOUT}, "seed": seed}
    raysal.Session(home / "run", pool=home / "pool", **config).close()
    held_out = HeldOut.of(RunDir(home / "run").require_config(), None)
    assert held_out is not None
    told: dict[str, str] = {}
    counts: dict[str, int] = {}
    ids, keys, truth = items_of(pool, data)
    most = {"other": OTHERS}
    for row in np.argsort(item_uniform(derive(seed, "benchmark"), ids)).tolist():
        if not held_out.among(ids[row : row + 1])[0] and counts.get(truth[row], 0) < most.get(truth[row], LABELS):
            told[keys[row]] = truth[row]
            counts[truth[row]] = counts.get(truth[row], 0) + 1
    with RunLabels.open(home / "run") as labels:
        labels.tell(told)
    return source


def items_of(pool: Pool, data: str) -> tuple[Any, list[str], list[str]]:
    """Ids, keys and classes of all items."""
    tables = list(pool.items(["id", "key", "label"]))
    columns = [[value for table in tables for value in table[name].to_pylist()] for name in ("id", "key", "label")]
    truth = [name if data != "rare" or name == RARE else "other" for name in columns[2]]
    return np.array(columns[0], np.int64), columns[1], truth


def judged(home: Path, pool: Pool, trainer: Any, data: str) -> float:
    """The head that a trainer makes of the run's labels over a pool, by accuracy or average precision."""
    run = RunDir(home / "run")
    config = run.require_config()
    held_out = HeldOut.of(config, None)
    assert held_out is not None
    with closing(run.open_ledger()) as ledger:
        labels = TrainingLabels.of(ledger, config, None).labels(ledger.head_seq)
    ids, _, truth = items_of(pool, data)
    vectors = np.concatenate([chunk.vectors() for chunk in pool.chunks]).astype(np.float32)
    place = {id: row for row, id in enumerate(ids.tolist())}
    own = [place[item.id] for item in labels]
    test = held_out.among(ids)
    rest = np.setdiff1d(np.flatnonzero(~test), own)
    given = TrainingData(
        features=vectors[own],
        labels=[item.label for item in labels],
        classes=sorted(set(truth)),
        context=Context(unlabelled=vectors[rest]),
    )
    head = trainer.fit(given)
    if data == "rare":
        others = np.setdiff1d(np.arange(len(ids)), own)
        p = head.probabilities(vectors[others])[:, head.classes.index(RARE)]
        return float(average_precision_score(np.array(truth)[others] == RARE, p))
    named = np.array(head.classes)[head.probabilities(vectors[test]).argmax(1)]
    return float(np.mean(named == np.array(truth)[test]))


def cell(out: Path, data: str, seed: int, arm: str) -> None:
    """Do one arm of one seed, and write its result."""
    home = out / f"{data}-{seed}"
    result = home / f"{arm.replace(', ', '-').replace(' ', '_')}.json"
    if result.exists():
        return
    source = begin(home, data, seed)
    started = time.perf_counter()
    if arm in FROZEN:
        found: dict[str, Any] = {"measure": judged(home, raysal.open_pool(home / "pool"), FROZEN[arm], data)}
    else:
        model = home / result.stem
        options = {**COMMON, "symmetry": DATA[data][1], **ARMS[arm]}
        done = raysal.finetune(home / "run", out=model, threads=1, save_every=10, **options)
        pool = raysal.embed(source, f"finetuned:{model}", out=home / f"pool-{result.stem}")
        found = {
            "measure": judged(home, pool, Logistic(), data),
            "pseudo_labelled": done.losses["pseudo_labelled"],
            "resumed": done.resumed,
        }
    write_sealed(result, {**found, "arm": arm, "seconds": time.perf_counter() - started})
    print(data, seed, json.dumps({"arm": arm, **found, "seconds": round(time.perf_counter() - started)}), flush=True)


def table(out: Path) -> None:
    """Print what there is: means with standard errors, and each seed."""
    print(describe())
    for data in DATA:
        rows: Mapping[str, list[float]] = {arm: [] for arm in (*FROZEN, *ARMS)}
        for path in sorted(out.glob(f"{data}-*/*.json")):
            found = json.loads(path.read_text())
            rows[found["arm"]].append(100 * found["measure"])
        for arm, found in rows.items():
            if found:
                print(f"| {data} | {arm} | {with_error(found, 1)} | {', '.join(f'{value:.1f}' for value in found)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=list(DATA))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--arms", nargs="+", default=[*FROZEN, *ARMS])
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    if given.table:
        table(given.out)
        return
    for data in given.data:
        for seed in given.seeds:
            for arm in given.arms:
                cell(given.out, data, seed, arm)


if __name__ == "__main__":
    main()
