"""Pools of real image features of any size, for the benchmarks of selection.

    python -m benchmarks.features POOL --out FILE.npz      # once: the features of an embedded pool, reduced

The features are those of a real, labelled pool, centred, rotated to their leading principal directions. A pool of more
rows than there are images mixes two images of a class with random weights and adds a little noise: neither a Gaussian
mixture, which makes pruning look good, nor fresh data, which this machine cannot embed by the million in reasonable
time. Without a pool, `made_up` rows take their place: a long-tailed mixture of 500 clusters with a decaying spectrum.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import made_pool
from raysal.pool import Pool


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pool", type=Path)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    pool = Pool(args.pool)
    x = np.concatenate([chunk.vectors() for chunk in pool.chunks]).astype(np.float32)
    names = np.concatenate([table["label"].to_pylist() for table in pool.items(["label"])])
    x -= x.mean(0)
    _, directions = np.linalg.eigh(x.T.astype(np.float64) @ x)
    reduced = (x @ directions[:, ::-1][:, : args.dim]).astype(np.float32)
    np.savez(args.out, x=reduced, labels=np.unique(names, return_inverse=True)[1])


def base(features: Path | None, dim: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(features [n, dim], classes [n]) to make pools of."""
    if features is not None:
        with np.load(features) as file:
            return file["x"], file["labels"]
    rng = np.random.default_rng(seed)
    spectrum = (6 * np.arange(1, dim + 1) ** -0.5).astype(np.float32)
    centres = rng.standard_normal((500, dim), dtype=np.float32) * spectrum
    share = rng.pareto(1.2, 500) + 0.1
    which = rng.choice(500, size=70_000, p=share / share.sum())
    spread = rng.uniform(0.3, 1.0, 500).astype(np.float32)[which, None]
    x = centres[which] + rng.standard_normal((len(which), dim), dtype=np.float32) * spectrum * spread
    return x, which % 10


def mixtures(
    x: NDArray[np.float32], classes: NDArray[np.int64], seed: int
) -> Callable[[int, int], NDArray[np.float32]]:
    """Makes the n rows of a chunk, given its number and n: each a mixture of two rows of one class, with some noise."""
    members = [np.flatnonzero(classes == c) for c in range(int(classes.max()) + 1)]
    noise = 0.1 * float(x.std())

    def rows_of(index: int, n: int) -> NDArray[np.float32]:
        rng = np.random.default_rng([seed, index])
        which = rng.integers(len(members), size=n)
        first, second = np.empty(n, np.int64), np.empty(n, np.int64)
        for c, own in enumerate(members):
            here = which == c
            first[here], second[here] = rng.choice(own, (2, int(here.sum())))
        weight = rng.uniform(0, 0.5, (n, 1)).astype(np.float32)
        vectors: NDArray[np.float32] = (1 - weight) * x[first] + weight * x[second]
        vectors += noise * rng.standard_normal((n, x.shape[1]), dtype=np.float32)
        return vectors

    return rows_of


def write_pool(path: Path, rows: int, features: Path | None, dim: int, seed: int = 0) -> Pool:
    """A pool of `rows` rows: mixtures of two images of a class. Reused if it is there."""
    x, classes = base(features, dim, seed)
    source = {"name": "mixtures", "seed": seed}
    return made_pool(path, rows, x.shape[1], source, mixtures(x, classes, seed))


if __name__ == "__main__":
    main()
