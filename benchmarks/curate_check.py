"""Planted wrong labels: the check of labels beside cleanlab 2.9, on the same probabilities.

    python -m benchmarks.curate_check WORK [--seeds 10] [--rows 1000000] [--classes 10 100] [--peer FOLDER]

Sets are the digits of scikit-learn, and Fashion-MNIST on its 64 main axes (its features in --features, if given). A
tenth of the labels are wrong: `uniform`, each other class as likely; or `by class`, where each class has a rate of its
own from 0 to 0.3, and two classes that its items are mistaken for. `several` is made up: five labels that items have or
not, of which 7 % of the answers are flipped. Probabilities are those of heads that did not see an item. Average
precision is of a ranking of all items by score; of suspects, the precision and the share of the planted ones that they
have. Natural errors of the sets count as mistakes of every ranking. For times, probabilities are drawn around a class.

`--peer` is a folder with cleanlab 2.9 and its dependencies (pip install --target FOLDER cleanlab==2.9.0).
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score

from benchmarks.curate import pixels
from benchmarks.features import base, mixtures
from benchmarks.machine import describe, made_pool
from raysal.config import FleetConfig
from raysal.curation.base import Work
from raysal.curation.labels.base import Checker, Estimate, Floats, How, Score, Suspects
from raysal.curation.labels.confident import OneOfSeveral
from raysal.curation.labels.held_out import fit_heads, fold_of
from raysal.curation.labels.several import SeveralLabels
from raysal.curation.steps.check import Check
from raysal.fleet import open_fleet
from raysal.numerics import slices

FOLDS = 5
ROWS = 4096
METHODS: tuple[How, ...] = ("class", "noise_rate", "confident")
PEER_METHODS = {"noise_rate": "prune_by_noise_rate", "class": "prune_by_class", "confident": "confident_learning"}
PEER_SCORES = {
    "self_confidence": "self_confidence",
    "normalized_margin": "normalized_margin",
    "entropy": "confidence_weighted_entropy",
}
Whole = NDArray[np.int64]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, nargs="*", default=[10, 100])
    parser.add_argument("--sets", nargs="*", default=["digits", "fashion"])
    parser.add_argument("--features", type=Path)
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--pool-rows", type=int, default=0, help="rows of a pool that is checked whole; 0 for none")
    parser.add_argument("--cell", nargs=3, metavar=("WHO", "ROWS", "CLASSES"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer is not None:
        sys.path.insert(0, str(args.peer))
    if args.cell is not None:
        who, rows, classes = args.cell
        timed(who, int(rows), int(classes))
        return
    print(describe(), f"load {os.getloadavg()[0]:.1f}")
    for name in args.sets:
        x, y = _set(name, args.features)
        for noise in ("uniform", "by class"):
            compare(f"{name}, {noise}", [one_set(x, y, noise, seed) for seed in range(args.seeds)])
    compare("several labels", [several_set(seed) for seed in range(args.seeds)])
    peer = [] if args.peer is None else ["--peer", str(args.peer)]
    for classes in args.classes:
        for who in ("raysal", *(["cleanlab"] if args.peer else [])):
            words = [sys.executable, "-m", "benchmarks.curate_check", str(args.work), *peer]
            subprocess.run([*words, "--cell", who, str(args.rows), str(classes)], check=True)
    if args.pool_rows:
        whole_pool(args.work, args.pool_rows, args.features)


def _set(name: str, features: Path | None) -> tuple[Floats, Whole]:
    if name == "digits":
        found = load_digits()
        return found.data.astype(np.float32), found.target.astype(np.int64)
    if features is not None:
        return base(features, 64)
    x, y = pixels()
    return x[:, :64], y


def planted(y: Whole, noise: str, rng: np.random.Generator) -> Whole:
    """Labels of which some are wrong."""
    c = int(y.max()) + 1
    if noise == "uniform":
        wrong = rng.random(len(y)) < 0.1
        return np.where(wrong, (y + rng.integers(1, c, len(y))) % c, y)
    table = np.eye(c)
    for own in range(c):
        rate, part = rng.uniform(0, 0.3), rng.uniform()
        others = rng.choice(np.setdiff1d(np.arange(c), own), 2, replace=False)
        table[own] *= 1 - rate
        table[own, others] += rate * np.array([part, 1 - part])
    return np.asarray((rng.random(len(y))[:, None] > table.cumsum(1)[y]).sum(1).clip(max=c - 1))


def predicted(x: Floats, targets: NDArray[Any], key: int, *, exclusive: bool) -> Floats:
    """Probabilities of each item from a head that did not see it."""
    fold = fold_of(np.arange(len(x), dtype=np.uint64), FOLDS, key)
    heads = fit_heads(x, targets, np.ones(len(x)), fold, FOLDS, key, exclusive=exclusive)
    outputs = np.einsum("nd,ncd->nc", np.hstack([x, np.ones((len(x), 1))]), heads.weights[fold])
    if not exclusive:
        return np.asarray(1 / (1 + np.exp(-outputs)), np.float32)
    p = np.exp(outputs - outputs.max(1, keepdims=True))
    return np.asarray(p / p.sum(1, keepdims=True), np.float32)


def passes(checker: Checker, p: Floats, given: NDArray[Any], how: How, score: Score) -> tuple[Estimate, Suspects]:
    """All passes in one process, in blocks."""
    ids = np.arange(len(p))
    blocks = [*slices(len(p), ROWS)]
    tally = np.add.reduce([checker.tally(p[own], given[own]) for own in blocks])
    thresholds = checker.thresholds(tally)
    joint = np.add.reduce([checker.joint(p[own], given[own], thresholds) for own in blocks])
    estimate = checker.estimate(tally, joint)
    limits = np.array([len(p)]) if how == "lowest" else estimate.limits[how]
    found = [checker.suspects(ids[own], p[own], given[own], thresholds, estimate, how, score) for own in blocks]
    return estimate, Suspects.joined(found).first_of_groups(limits)


def one_set(x: Floats, y: Whole, noise: str, seed: int) -> dict[str, float]:
    """Average precision of rankings, and what suspects are, on one set of labels."""
    rng = np.random.default_rng(seed)
    given = planted(y, noise, rng)
    c = int(y.max()) + 1
    p, wrong = predicted(x, np.eye(c)[given], seed, exclusive=True), given != y
    found: dict[str, float] = {}
    for score in OneOfSeveral.scores:
        _, ranked = passes(OneOfSeveral(c), p, given, "lowest", score)
        found[f"AP {score}"] = average_precision_score(wrong[ranked.ids], -ranked.score)
    scores: list[tuple[How, Score]] = [("class", "transitions"), *((how, "self_confidence") for how in METHODS)]
    for how, score in scores:
        estimate, suspects = passes(OneOfSeveral(c), p, given, how, score)
        found |= _of_suspects(f"{how}, {score}", suspects.ids, wrong)
        found["estimated / planted"] = estimate.error_rate / wrong.mean()
    if (peer := _peer()) is not None:
        rank, issues = peer
        for name, theirs in PEER_SCORES.items():
            quality = rank.get_label_quality_scores(given, p, method=theirs)
            found[f"AP {name}, cleanlab"] = average_precision_score(wrong, -quality)
        for name, theirs in PEER_METHODS.items():
            mask = issues.find_label_issues(given, p, filter_by=theirs, n_jobs=1)
            found |= _of_suspects(f"{name}, cleanlab", np.flatnonzero(mask), wrong)
    return found


def several_set(seed: int, n: int = 4000, c: int = 5) -> dict[str, float]:
    """The same of several labels."""
    rng = np.random.default_rng(seed)
    true = rng.random((n, c)) < np.linspace(0.1, 0.6, c)
    x = (2 * true @ rng.standard_normal((c, 32)) + 5 * rng.standard_normal((n, 32))).astype(np.float32)
    given = true ^ (rng.random((n, c)) < 0.07)
    p, wrong = predicted(x, given, seed, exclusive=False), (given != true).any(1)
    _, ranked = passes(SeveralLabels(c), p, given, "lowest", "self_confidence")
    _, suspects = passes(SeveralLabels(c), p, given, "noise_rate", "self_confidence")
    found = {"AP self_confidence": float(average_precision_score(wrong[ranked.ids], -ranked.score))}
    found |= _of_suspects("noise_rate", np.unique(suspects.ids), wrong)
    if _peer() is not None:
        from cleanlab import filter as issues
        from cleanlab import multilabel_classification as several

        lists = [np.flatnonzero(row).tolist() for row in given]
        found["AP self_confidence, cleanlab"] = average_precision_score(
            wrong, -several.get_label_quality_scores(lists, p)
        )
        mask = issues.find_label_issues(lists, p, multi_label=True, n_jobs=1)
        found |= _of_suspects("noise_rate, cleanlab", np.flatnonzero(mask), wrong)
    return found


def _of_suspects(name: str, ids: Whole, wrong: NDArray[np.bool_]) -> dict[str, float]:
    right = float(wrong[ids].sum())
    return {f"precision {name}": right / max(len(ids), 1), f"found {name}": right / float(wrong.sum())}


def _peer() -> Any:
    try:
        import cleanlab.filter
        import cleanlab.rank
    except ImportError:
        return None
    return cleanlab.rank, cleanlab.filter


def compare(title: str, found: list[dict[str, float]]) -> None:
    """Print means with their 95 % intervals over seeds."""
    print(title)
    for name in found[0]:
        values = np.array([one[name] for one in found])
        half = 1.96 * values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        print(f"  {name:40s} {values.mean():.3f} ± {half:.3f}", flush=True)


def timed(who: str, rows: int, classes: int) -> None:
    """Suspects, ranked, of probabilities that lie in memory."""
    rng = np.random.default_rng(0)
    true = rng.integers(classes, size=rows)
    p = np.empty((rows, classes), np.float32)
    for own in slices(rows, 2**16):
        outputs = rng.standard_normal((own.stop - own.start, classes), np.float32)
        outputs[np.arange(len(outputs)), true[own]] += 5
        np.exp(outputs, out=outputs)
        p[own] = outputs / outputs.sum(1, keepdims=True)
    wrong = rng.random(rows) < 0.1
    given = np.where(wrong, (true + rng.integers(1, classes, rows)) % classes, true)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run = _ours if who == "raysal" else _theirs
    start = time.perf_counter()
    count = run(p, given)
    seconds = time.perf_counter() - start
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    load = os.getloadavg()[0]
    print(f"{who:9s} {rows:>9,} x {classes}: {seconds:.1f} s, {count:,} suspects, {more:,.0f} MB more, load {load:.1f}")


def _ours(p: Floats, given: Whole) -> int:
    _, found = passes(OneOfSeveral(p.shape[1]), p, given, "noise_rate", "self_confidence")
    return len(found.take(np.lexsort((found.ids, found.score))).ids)


def _theirs(p: Floats, given: Whole) -> int:
    from cleanlab import filter as issues

    return len(issues.find_label_issues(given, p, return_indices_ranked_by="self_confidence", n_jobs=1))


def whole_pool(work: Path, rows: int, features: Path | None) -> None:
    """The step on a pool of mixtures of two images of a class, from vectors to the list."""
    x, y = base(features, 256) if features is not None else pixels()
    classes = int(y.max()) + 1

    def labels_of(index: int, n: int) -> dict[str, list[str]]:
        # The class of a row is the first number of its generator in `mixtures`.
        true = np.random.default_rng([7, index]).integers(classes, size=n)
        rng = np.random.default_rng([8, index])
        wrong = rng.random(n) < 0.1
        return {"label": np.where(wrong, (true + rng.integers(1, classes, n)) % classes, true).astype(str).tolist()}

    source = {"name": "mixtures with labels", "seed": 7}
    pool = made_pool(work / f"labelled-{rows}", rows, x.shape[1], source, mixtures(x, y, 7), labels_of)
    with open_fleet(pool, FleetConfig(backend="local")) as fleet:
        ids = np.arange(rows)
        job = Work(pool=pool, fleet=fleet, ids=ids, left=np.ones(rows, bool), folder=work, key=1, report=_said)
        start = time.perf_counter()
        result = Check().apply(job)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds, rate = time.perf_counter() - start, result.facts["error_rate"]
    assert result.listed is not None
    listed = result.listed.num_rows
    print(f"step: {rows:,} rows, {seconds:.1f} s, {listed:,} suspects, rate {rate:.3f}, peak {peak:,.0f} MB")


def _said(stage: str, done: int, total: int) -> None:
    print(f"  {stage} {done}/{total} at {time.perf_counter():.1f}", flush=True)


if __name__ == "__main__":
    main()
