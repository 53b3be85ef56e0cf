"""One cell of `benchmarks.laplace_update`: a head of some labels, some labels more, and every way to take them in."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.models.evidence import gather_evidence
from raysal.models.head import Head
from raysal.models.likelihood import softmax
from raysal.models.online.update import update
from raysal.models.trainers.base import TrainingData
from raysal.models.trainers.logistic import Logistic

NONE, REFIT, PUBLISHED = "no update", "refit", "published retraining"
STEPS = (1.0, 3.0, 10.0)
PASSES = (8, 16)
"""Steps over everything seen. 8 are what a round takes by default."""
EPOCHS, BATCH, RATE, DECAY = 200, 64, 1e-2, 1e-4
"""Of the published retraining: RAdam and a cosine schedule (Huseljic et al., arXiv 2210.06112)."""
REPEATS = 3
"""How often a rule is timed for each seed; the median counts."""


def alone(step: float) -> str:
    """The name of the update by the new labels alone."""
    return f"new labels alone, step {step:g}"


def seen(passes: int) -> str:
    """The name of the update by everything seen."""
    return f"seen, {passes} passes"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """`initial` labels, then `new` ones, for `seeds` draws of them."""

    data: str
    file: str
    content: str
    """sha256 of the file"""
    initial: int
    new: int
    seeds: int
    published: int
    """seeds of which the published retraining is run as well"""
    test: int
    out: Path

    @property
    def path(self) -> Path:
        return self.out / f"{self.data}-{self.initial}-{self.new}.json"

    @property
    def title(self) -> str:
        return f"{self.data}, {self.initial} + {self.new}"

    def settings(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name not in ("out", "file")}


@dataclass(frozen=True)
class Data:
    """Vectors float64 [n, d] with their classes [n]; the last `test` judge, the others are labelled."""

    x: NDArray[np.float64]
    labels: NDArray[np.int64]
    test: int

    @property
    def names(self) -> list[str]:
        return [f"class-{c:02d}" for c in range(int(self.labels.max()) + 1)]

    def judged(self, mean: NDArray[np.float64]) -> tuple[float, float]:
        """(accuracy, mean negative log likelihood in nats) of weights [C, d + 1] on the test items."""
        x, labels = self.x[-self.test :], self.labels[-self.test :]
        p = softmax(x @ mean[:, :-1].T + mean[:, -1])
        named = np.maximum(p[np.arange(len(p)), labels], 1e-300)
        return float((p.argmax(1) == labels).mean()), float(-np.log(named).mean())


@cache
def load(file: str, test: int) -> Data:
    """What `benchmarks.features` or `benchmarks.laplace_text` wrote. Fashion-MNIST keeps its own split, which is the
    order of the file; a file that names its classes is of texts and is shuffled, the same way for every seed."""
    with np.load(file) as arrays:
        x, labels = arrays["x"].astype(np.float64), arrays["labels"].astype(np.int64)
        if "names" in arrays:
            order = np.random.default_rng(0).permutation(len(x))
            x, labels = x[order], labels[order]
    return Data(x, labels, test)


def run(cell: Cell) -> dict[str, Any]:
    """Seconds, accuracy and negative log likelihood of every rule, a list over seeds each."""
    data = load(cell.file, cell.test)
    one_draw(data, cell, 0, published=False)  # not counted: libraries start slowly
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(cell.seeds):
        for rule, numbers in one_draw(data, cell, seed, published=seed < cell.published).items():
            found.setdefault(rule, []).append(numbers)
    return {
        "rules": {
            rule: {name: [draw[name] for draw in draws] for name in ("seconds", "accuracy", "nll")}
            for rule, draws in found.items()
        }
    }


def one_draw(data: Data, cell: Cell, seed: int, *, published: bool) -> dict[str, dict[str, float]]:
    """What every rule makes of one uniform draw of labels."""
    rng = np.random.default_rng([seed, cell.initial, cell.new])
    drawn = rng.permutation(len(data.x) - data.test)[: cell.initial + cell.new]
    x, named = data.x[drawn], [data.names[c] for c in data.labels[drawn]]
    n = cell.initial

    def fitted(count: int) -> Head:
        return Logistic().fit(TrainingData(features=x[:count], labels=named[:count], classes=data.names, seed=seed))

    def moved(step: float) -> Head:
        return update(head, x[n:], named[n:], ledger_seq=1, step=step)

    def polished(passes: int) -> Head:
        everything = gather_evidence(x, named, None, head.classes)
        return update(head, x[n:], named[n:], ledger_seq=1, passes=passes, seen=everything)

    head = fitted(n)
    rules: dict[str, Callable[[], Head]] = {
        **{alone(step): partial(moved, step) for step in STEPS},
        **{seen(passes): partial(polished, passes) for passes in PASSES},
        REFIT: partial(fitted, len(named)),
    }
    accuracy, nll = data.judged(head.mean)
    found = {NONE: {"seconds": 0.0, "accuracy": accuracy, "nll": nll}}
    for rule, take in rules.items():
        seconds = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            after = take()
            seconds.append(time.perf_counter() - start)
        accuracy, nll = data.judged(after.mean)
        found[rule] = {"seconds": statistics.median(seconds), "accuracy": accuracy, "nll": nll}
    if published:
        start = time.perf_counter()
        mean = published_retraining(x, data.labels[drawn], len(data.names), seed)
        seconds_taken = time.perf_counter() - start
        accuracy, nll = data.judged(mean)
        found[PUBLISHED] = {"seconds": seconds_taken, "accuracy": accuracy, "nll": nll}
    return found


def published_retraining(
    x: NDArray[np.float64], labels: NDArray[np.int64], classes: int, seed: int
) -> NDArray[np.float64]:
    """Weights [C, d + 1] of a linear layer trained in float32 as the paper's is; the last batch of an epoch is kept,
    whatever its size. Rows are drawn by a plain permutation, which is faster than a loader of torch."""
    torch.manual_seed(seed)
    inputs, targets = torch.from_numpy(x.astype(np.float32)), torch.from_numpy(labels)
    layer = torch.nn.Linear(inputs.shape[1], classes)
    optimizer = torch.optim.RAdam(layer.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        for batch in torch.split(torch.randperm(len(inputs)), BATCH):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(layer(inputs[batch]), targets[batch]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    return np.column_stack([weight, bias]).astype(np.float64)
