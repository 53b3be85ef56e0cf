"""LCMD by vectors, by gradients and by sketches of them: what a label is worth, and what a query costs.

    python -m benchmarks.gradients [--seeds 5] [--sets digits friedman2 ...]

Sets of scikit-learn. `digits` are classes, under a linear head and one with a hidden layer of 256; accuracy on a
quarter that is kept back, 40 labels and then five batches of 30. `diabetes` and `friedman1` to `friedman3` (4,000 rows)
are numbers under a hidden layer of 512, trained by squared error, with Bayesian linear regression on top; log of the
root mean square error over the deviation of the labels, 30 labels and then five batches of 20.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import datasets

from benchmarks.machine import context_of, describe, made_pool
from raysal.features import HiddenLayer
from raysal.fleet import LocalFleet, exclude, plan_partitions, use_features
from raysal.models.head import Head
from raysal.models.trainers.base import TrainingData
from raysal.models.trainers.logistic import Logistic
from raysal.models.trainers.mlp import Mlp
from raysal.models.trainers.regression import Regression
from raysal.numerics import one_thread
from raysal.rng import derive
from raysal.strategies import SELECTORS
from raysal.strategies.base import select

ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "random": ("random", {}),
    "vectors": ("lcmd", {"space": "vectors"}),
    "exact gradients": ("lcmd", {"sketch": 0}),
    "sketch of 512": ("lcmd", {}),
    "sketch of 64": ("lcmd", {"sketch": 64}),
}
SETS = ("digits", "digits, hidden", "diabetes", "friedman1", "friedman2", "friedman3")
ROUNDS = 5
Floats = NDArray[np.float64]


class Task(NamedTuple):
    x: NDArray[np.float32]
    labels: list[str]
    test: NDArray[np.float32]
    truth: list[str]
    hidden: int
    """Units of a hidden layer; 0 for none."""
    numbers: bool


def task(name: str, seed: int) -> Task:
    numbers = not name.startswith("digits")
    if name == "diabetes":
        x, y = datasets.load_diabetes(return_X_y=True)
    elif numbers:
        x, y = getattr(datasets, f"make_{name}")(n_samples=4_000, noise=0.1, random_state=0)
    else:
        x, y = datasets.load_digits(return_X_y=True)
    order = np.random.default_rng(100 + seed).permutation(len(x))
    test, pool = order[: len(x) // 4], order[len(x) // 4 :]
    spread = x[pool].std(0)
    x = ((x - x[pool].mean(0)) / np.where(spread > 0, spread, 1)).clip(-8, 8).astype(np.float16).astype(np.float32)
    y = (y - y[pool].mean()) / y[pool].std() if numbers else y
    texts = [repr(value) for value in y.tolist()]
    hidden = 512 if numbers else 256 if "hidden" in name else 0
    return Task(x[pool], [texts[i] for i in pool], x[test], [texts[i] for i in test], hidden, numbers)


def fitted(job: Task, ids: NDArray[np.int64], seed: int) -> Head:
    x, labels = job.x[ids], [job.labels[id] for id in ids]
    if not job.numbers:
        data = TrainingData(features=x, labels=labels, classes=sorted(set(job.labels)), seed=seed)
        return (Mlp(hidden=job.hidden, epochs=150) if job.hidden else Logistic()).fit(data)
    layer = hidden_layer(x.astype(np.float64), np.array(labels, float), job.hidden, seed)
    data = TrainingData(features=layer.see(x).astype(np.float32), labels=labels, classes=[])
    return replace(Regression().fit(data), hidden_layer=layer)


def hidden_layer(x: Floats, y: Floats, units: int, seed: int, epochs: int = 200) -> HiddenLayer:
    """A layer trained for numbers as `Mlp` trains one for classes."""
    centre = x.mean(0)
    length = np.sqrt(((x - centre) ** 2).sum(1).mean())
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float) -> torch.Tensor:
        return (torch.randn(*shape, generator=random) * scale).requires_grad_()

    first, shift = normal(units, x.shape[1], scale=2**0.5), normal(units, scale=0.5)
    second, constant = normal(units, scale=units**-0.5), torch.zeros(1, requires_grad=True)
    inputs = torch.from_numpy(((x - centre) / length).astype(np.float32))
    targets = torch.from_numpy(((y - y.mean()) / (y.std() or 1)).astype(np.float32))
    optimizer = torch.optim.Adam([first, shift, second, constant], lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    with one_thread():
        for _ in range(epochs):
            said = torch.relu(inputs @ first.T + shift) @ second + constant
            loss = ((said - targets) ** 2).mean() + 0.5e-4 * ((first**2).sum() + (second**2).sum())
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
            optimizer.step()
            schedule.step()
    weight, bias = first.detach().double().numpy() / length, shift.detach().double().numpy()
    return HiddenLayer(weight=weight, bias=bias - weight @ centre)


def judged(job: Task, head: Head) -> float:
    outputs = head.logits(head.see(job.test))
    if job.numbers:
        return float(np.log(np.sqrt(np.mean((outputs[:, 0] - np.array(job.truth, float)) ** 2))))
    return float(100 * np.mean(np.array(head.classes)[outputs.argmax(1)] == np.array(job.truth)))


def curve(job: Task, fleet: LocalFleet, arm: str, seed: int) -> tuple[float, float]:
    """(mean over the rounds after the first, seconds of a query)."""
    strategy, fields = ARMS[arm]
    start, k = (30, 20) if job.numbers else (40, 30)
    known = np.sort(np.random.default_rng(seed).choice(len(job.x), start, replace=False))
    found, spent = [], 0.0
    for round in range(ROUNDS + 1):
        head = fitted(job, known, seed)
        found.append(judged(job, head))
        fleet.reset()
        fleet.each(use_features, head.hidden_layer)
        fleet.each(exclude, known)
        vectors = head.see(job.x[known]).astype(np.float32)
        context = context_of(fleet, head=head, ids=known, vectors=vectors, k=k, key=derive(seed, round))
        begun = time.perf_counter()
        picks = select(fleet, SELECTORS[strategy](**fields), context, k)
        spent += time.perf_counter() - begun
        known = np.sort(np.concatenate([known, picks.ids]))
    return float(np.mean(found[1:])), spent / (ROUNDS + 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    args = parser.parse_args()
    print(describe())
    print("| set | arm | mean of the rounds | less random | a query |\n|---|---|---|---|---|")
    for name in args.sets:
        found: dict[str, list[tuple[float, float]]] = {arm: [] for arm in ARMS}
        for seed in range(args.seeds):
            job = task(name, seed)
            with tempfile.TemporaryDirectory() as folder:
                x = job.x
                pool = made_pool(Path(folder) / "pool", len(x), x.shape[1], {"name": name}, lambda *_, x=x: x)
                fleet = LocalFleet(plan_partitions(pool, 1))
                for arm in ARMS:
                    found[arm].append(curve(job, fleet, arm, seed))
        control = np.array(found["random"])[:, 0]
        digits = 3 if not name.startswith("digits") else 1
        for arm, values in found.items():
            means, seconds = np.array(values).T
            gain = means - control
            error = 2 * gain.std(ddof=1) / len(gain) ** 0.5
            cells = f"{means.mean():.{digits}f} | {gain.mean():+.{digits}f} ± {error:.{digits}f}"
            print(f"| {name} | {arm} | {cells} | {1000 * seconds.mean():.0f} ms |", flush=True)


if __name__ == "__main__":
    main()
