"""Near-duplicates of a whole pool: `raysal dedup` beside the products of all pairs, and beside SemHash.

    python -m benchmarks.curate WORK [--rows 100000 1000000] [--thresholds 0.95 0.9] [--features FILE.npz] [--semhash]

Rows are mixtures of two images of a class (`benchmarks.features`); a tenth are replaced by jittered copies of others,
of cosines from 0.85 to 1. Without features of an embedded pool, they are the pixels of Fashion-MNIST on their 256 main
axes. The products of all pairs are those of blocks of 4096 x 4096 in single precision, compared with the threshold: all
blocks of some rows are timed, and the time of the half that symmetry leaves is computed from it. Recall is counted
on 50,000 rows, by all products of these, in double precision where single cannot tell. `--semhash` needs `semhash`.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.features import base, mixtures
from benchmarks.machine import describe, made_pool
from raysal.config import FleetConfig
from raysal.curation.dedup import FOLDER, find_near_duplicates
from raysal.curation.near.folder import read_pairs
from raysal.curation.near.reading import rows_between
from raysal.fleet import open_fleet
from raysal.pool import Pool
from raysal.sources.fashion_mnist import FashionMnist

DIM = 256
COPIES = 0.1
SEED = 7
BLOCK = 4096
TIMED_ROWS = 8192
CHECKED_ROWS = 50_000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.95, 0.9])
    parser.add_argument("--features", type=Path)
    parser.add_argument("--semhash", action="store_true")
    parser.add_argument("--cell", nargs=3, metavar=("WHAT", "POOL", "THRESHOLD"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.cell is not None:
        what, pool, threshold = args.cell
        CELLS[what](Pool(pool), float(threshold))
        return
    print(describe())
    for rows in args.rows:
        pool = write_pool(args.work / f"pool-{rows}", rows, args.features)
        for threshold in args.thresholds:
            for what in ("near", "again", "all", "recall", *(["semhash"] if args.semhash else [])):
                words = [sys.executable, "-m", "benchmarks.curate", str(args.work)]
                subprocess.run([*words, "--cell", what, str(pool.path), str(threshold)], check=True)


def write_pool(path: Path, rows: int, features: Path | None) -> Pool:
    """The pool of some rows; reused if it is there."""
    x, classes = base(features, DIM) if features is not None else pixels()
    mixed = mixtures(x, classes, SEED)

    def rows_of(index: int, n: int) -> NDArray[np.float32]:
        vectors, rng = mixed(index, n), np.random.default_rng([SEED, index, 1])
        copies = rng.permutation(n)[: int(COPIES * n)]
        of = rng.integers(n, size=len(copies))
        cosine = rng.uniform(0.85, 1, (len(copies), 1)).astype(np.float32)
        jitter = rng.standard_normal((len(copies), x.shape[1]), dtype=np.float32) / np.float32(x.shape[1] ** 0.5)
        length = np.linalg.norm(vectors[of], axis=1, keepdims=True)
        vectors[copies] = vectors[of] + length * np.sqrt(1 / cosine**2 - 1) * jitter
        return vectors

    return made_pool(path, rows, x.shape[1], {"name": "mixtures with copies", "seed": SEED}, rows_of)


def pixels() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Fashion-MNIST on its main axes, and the classes."""
    source = FashionMnist()
    images, labels = [], []
    for unit in source.units(8192):
        for item in source.read(unit):
            images.append(np.asarray(item.payload, np.float32).reshape(-1) / 255)
            labels.append(item.carried["label"])
    x = np.stack(images)
    x -= x.mean(0)
    _, axes = np.linalg.eigh(x.T.astype(np.float64) @ x)
    return (x @ axes[:, ::-1][:, :DIM]).astype(np.float32), np.unique(labels, return_inverse=True)[1]


def unit(pool: Pool, rows: int) -> torch.Tensor:
    """The first rows, of unit length."""
    x = torch.from_numpy(rows_between(pool, 0, rows)[1]).float()
    unit_rows: torch.Tensor = x / x.norm(dim=1, keepdim=True)
    return unit_rows


def said(what: str, pool: Pool, threshold: float, **facts: Any) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    facts = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in facts.items()}
    print(f"{what:8s} {len(pool):>9,} rows, {threshold}: {facts}, peak {peak:,.0f} MB", flush=True)


def near(pool: Pool, threshold: float) -> None:
    """The whole job, from nothing."""
    shutil.rmtree(pool.path / FOLDER, ignore_errors=True)
    again(pool, threshold, "near")


def again(pool: Pool, threshold: float, what: str = "again") -> None:
    """The job with what is there of pairs."""
    with open_fleet(pool, FleetConfig(backend="local")) as fleet:
        start = time.perf_counter()
        found = find_near_duplicates(pool, fleet, threshold)
        seconds = time.perf_counter() - start
    said(what, pool, threshold, seconds=seconds, pairs=found.pairs, kept=found.kept, dropped=found.dropped)


def all_pairs(pool: Pool, threshold: float) -> None:
    """The products of all pairs in blocks, from some of the rows."""
    x = unit(pool, len(pool))
    start, hits = time.perf_counter(), 0
    for low in range(0, TIMED_ROWS, BLOCK):
        for high in range(0, len(x), BLOCK):
            hits += int((x[low : low + BLOCK] @ x[high : high + BLOCK].T >= threshold).sum())
    seconds = (time.perf_counter() - start) * len(x) / TIMED_ROWS / 2
    said("all", pool, threshold, seconds=seconds, hits=hits)


def recall(pool: Pool, threshold: float) -> None:
    """Of all pairs of some rows, how many are among the near pairs that were found."""
    from raysal.curation.near.folder import NearPlan

    plan = NearPlan.read(pool.path / FOLDER)
    assert plan is not None
    n = min(CHECKED_ROWS, len(pool))
    x = torch.from_numpy(rows_between(pool, 0, n)[1]).double()
    x /= x.norm(dim=1, keepdim=True)
    found: set[tuple[int, int]] = set()
    for pairs, copies in read_pairs(pool.path / FOLDER, plan, threshold):
        inside = (pairs.first < n) & (pairs.second < n)
        found |= set(zip(pairs.first[inside].tolist(), pairs.second[inside].tolist(), strict=True))
        found |= {(min(pair), max(pair)) for pair in copies.tolist() if max(pair) < n}
    wanted = missed = 0
    for low in range(0, n, BLOCK):
        values = x[low : low + BLOCK] @ x[low:].T
        rows, columns = torch.nonzero(values >= threshold + 1e-12, as_tuple=True)
        for i, j in zip((rows + low).tolist(), (columns + low).tolist(), strict=True):
            if i < j:
                wanted += 1
                missed += (i, j) not in found
    said("recall", pool, threshold, pairs=wanted, missed=missed)


def semhash(pool: Pool, threshold: float) -> None:
    """SemHash over the same vectors: approximate, with its own index."""
    from semhash import SemHash  # type: ignore[import-not-found]

    x = unit(pool, len(pool)).numpy()
    start = time.perf_counter()
    made = SemHash.from_embeddings(x, records=[str(i) for i in range(len(x))], model=None)
    found = made.self_deduplicate(threshold=threshold)
    said("semhash", pool, threshold, seconds=time.perf_counter() - start, kept=len(found.selected))


CELLS: dict[str, Callable[[Pool, float], None]] = {
    "near": near, "again": again, "all": all_pairs, "recall": recall, "semhash": semhash,
}  # fmt: skip

if __name__ == "__main__":
    main()
