"""One cell of the comparison with other tools: `python peer_cells.py TOOL FOLDER` prints one line of JSON.

Runs in the environment of the tool, so it imports numpy and nothing else until it knows the tool. FOLDER is what
`benchmarks.peers` wrote: task.json, vectors.npy float32 [rows, dim], head.npz, and the same rows as a pool.

A tool is a function of the task that loads, imports and builds all it can, and returns the query: only the query is
measured. What it asks of the head is part of that, and counted apart as well where the tool asks through `Head`.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEED = 1

Query = Callable[[], Any]
"""Picks rows of the pool: anything that numpy takes as integers [k]."""


class Head:
    """A fixed linear softmax classifier; counts the seconds it was at work."""

    def __init__(self, weight: NDArray[Any], bias: NDArray[Any]) -> None:
        self.weight, self.bias = weight.astype(np.float32), bias.astype(np.float32)
        self.seconds = 0.0

    def probabilities(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """float32 [n, C] of x [n, d]."""
        start = time.perf_counter()
        p = x.astype(np.float32, copy=False) @ self.weight.T
        p += self.bias
        p -= p.max(1, keepdims=True)
        np.exp(p, out=p)
        p /= p.sum(1, keepdims=True)
        self.seconds += time.perf_counter() - start
        return p


@dataclass(frozen=True, kw_only=True)
class Task:
    """Pick `k` of `rows` vectors of which the first `labelled` have a label."""

    name: str
    kind: str
    """k-center or BADGE"""
    rows: int
    dim: int
    classes: int
    labelled: int
    k: int
    memory_gb: float
    """A tool that takes more is stopped."""

    @property
    def dense(self) -> int:
        """Numbers in the gradient embedding of the pool, written out."""
        return self.rows * self.classes * self.dim


@dataclass(frozen=True)
class Inputs:
    """A task and where its arrays lie."""

    task: Task
    folder: Path
    head: Head

    @classmethod
    def read(cls, folder: Path) -> Inputs:
        arrays = np.load(folder / "head.npz")
        task = Task(**json.loads((folder / "task.json").read_text()))
        return cls(task, folder, Head(arrays["weight"], arrays["bias"]))

    def vectors(self) -> NDArray[np.float32]:
        loaded: NDArray[np.float32] = np.load(self.folder / "vectors.npy")
        return loaded

    def labels(self) -> NDArray[np.float64]:
        """[rows], nan where there is none."""
        y = np.full(self.task.rows, np.nan)
        y[: self.task.labelled] = np.arange(self.task.labelled) % self.task.classes
        return y


# raysal


def raysal_select(inputs: Inputs) -> Query:
    """From a closed pool to a batch: opening it, the head's pass over it, and the selection."""
    from raysal.context import LabelledVectors, RoundContext
    from raysal.fleet import LocalFleet, exclude, plan_partitions
    from raysal.fleet.partition import vectors_of
    from raysal.models.head import Head as LinearHead
    from raysal.pool import Pool
    from raysal.strategies import SELECTORS
    from raysal.strategies.base import select

    task, labelled = inputs.task, np.arange(inputs.task.labelled)
    head = LinearHead.of_weights(inputs.head.weight, inputs.head.bias, encoder="benchmark")
    selector = SELECTORS[{"k-center": "coreset", "BADGE": "badge"}[task.kind]]()

    def query() -> NDArray[np.int64]:
        pool = Pool(inputs.folder / "pool")
        with LocalFleet(plan_partitions(pool, 1)) as fleet:
            known = fleet.each(vectors_of, labelled)[0][1]
            fleet.each(exclude, labelled)
            asked = RoundContext(
                head=head if selector.needs_head else None,
                labelled=LabelledVectors(ids=labelled, vectors=known, classes=[]),
                pool=pool,
                k=task.k,
                available=len(pool) - len(labelled),
                key=SEED,
            )
            return select(fleet, selector, asked, task.k).ids

    return query


# The obvious incremental loops, float32, everything in memory, one product with the newest pick each time.


def numpy_k_center(inputs: Inputs) -> Query:
    x, task = inputs.vectors(), inputs.task

    def query() -> list[int]:
        sq_norms = np.einsum("nd,nd->n", x, x)
        gap = np.full(len(x), np.inf, np.float32)
        centres = list(range(task.labelled))
        while len(centres) < task.labelled + task.k:
            for c in centres if gap[0] == np.inf else centres[-1:]:
                np.minimum(gap, sq_norms + sq_norms[c] - 2 * (x @ x[c]), out=gap)
            gap[centres] = -np.inf
            centres.append(int(gap.argmax()))
        return centres[task.labelled :]

    return query


def torch_k_center(inputs: Inputs) -> Query:
    import torch

    x, task = torch.from_numpy(inputs.vectors()), inputs.task

    def query() -> list[int]:
        sq_norms = (x * x).sum(1)
        known = x[: task.labelled]
        gap = (sq_norms[:, None] + (known * known).sum(1) - 2 * (x @ known.T)).amin(1)
        gap[: task.labelled] = -torch.inf
        picks: list[int] = []
        while len(picks) < task.k:
            picks.append(int(gap.argmax()))
            c = picks[-1]
            torch.minimum(gap, torch.addmv(sq_norms, x, x[c], alpha=-2).add_(sq_norms[c]), out=gap)
            gap[c] = -torch.inf
        return picks

    return query


def numpy_badge(inputs: Inputs) -> Query:
    x, task = inputs.vectors(), inputs.task
    rng = np.random.default_rng(SEED)

    def query() -> list[int]:
        r = inputs.head.probabilities(x)
        np.negative(r, out=r)
        r[np.arange(len(r)), r.argmin(1)] += 1
        sq_norms = np.einsum("nd,nd->n", x, x) * np.einsum("nc,nc->n", r, r)
        picks = [int(sq_norms.argmax())]
        gap = np.full(len(x), np.inf, np.float32)
        while len(picks) < task.k:
            c = picks[-1]
            np.minimum(gap, sq_norms + sq_norms[c] - 2 * (x @ x[c]) * (r @ r[c]), out=gap)
            np.maximum(gap, 0, out=gap)
            gap[c] = 0
            mass = gap.cumsum(dtype=np.float64)
            picks.append(int(mass.searchsorted(rng.random() * mass[-1], side="right")))
        return picks

    return query


def torch_badge(inputs: Inputs) -> Query:
    import torch

    x, task = torch.from_numpy(inputs.vectors()), inputs.task
    generator = torch.Generator().manual_seed(SEED)

    def query() -> list[int]:
        r = torch.from_numpy(inputs.head.probabilities(x.numpy())).neg_()
        r[torch.arange(len(r)), r.argmin(1)] += 1
        sq_norms = torch.linalg.vector_norm(x, dim=1).square_() * torch.linalg.vector_norm(r, dim=1).square_()
        picks = [int(sq_norms.argmax())]
        gap = torch.full((len(x),), torch.inf)
        while len(picks) < task.k:
            c = picks[-1]
            torch.minimum(gap, torch.addcmul(sq_norms, x @ x[c], r @ r[c], value=-2).add_(sq_norms[c]), out=gap)
            gap.clamp_(min=0)
            gap[c] = 0
            mass = gap.cumsum(0, dtype=torch.float64)
            at = torch.rand((), generator=generator, dtype=torch.float64) * mass[-1]
            picks.append(int(torch.searchsorted(mass, at, right=True)))
        return picks

    return query


def uniform(inputs: Inputs) -> Query:
    task, rng = inputs.task, np.random.default_rng(SEED)
    return lambda: task.labelled + rng.choice(task.rows - task.labelled, task.k, replace=False)


# Other tools, by their public classes, with their defaults but for what is said.


def scikit_activeml_coreset(inputs: Inputs) -> Query:
    from skactiveml.pool import CoreSet

    x, y = inputs.vectors(), inputs.labels()
    return lambda: CoreSet(random_state=SEED).query(x, y, batch_size=inputs.task.k)


def scikit_activeml_badge(inputs: Inputs) -> Query:
    from skactiveml.base import SkactivemlClassifier
    from skactiveml.pool import Badge

    class Fixed(SkactivemlClassifier):  # type: ignore[misc]
        """Ours is fitted already."""

        def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Fixed:
            del X, y, sample_weight
            return self

        def predict_proba(self, X: NDArray[Any], **kwargs: Any) -> NDArray[np.float32]:
            del kwargs
            return inputs.head.probabilities(X)

    x, y = inputs.vectors(), inputs.labels()
    head = Fixed(classes=list(range(inputs.task.classes)))
    return lambda: Badge(random_state=SEED).query(x, y, head, fit_clf=False, batch_size=inputs.task.k)


def small_text_coreset(inputs: Inputs) -> Query:
    """Euclidean over the vectors as they are, as all others; the default is over unit vectors."""
    from small_text.query_strategies import GreedyCoreset

    return _small_text(inputs, GreedyCoreset(distance_metric="euclidean", normalize=False))


def small_text_light(inputs: Inputs) -> Query:
    from small_text.query_strategies import LightweightCoreset

    np.random.seed(SEED)
    return _small_text(inputs, LightweightCoreset())


def _small_text(inputs: Inputs, strategy: Any) -> Query:
    task = inputs.task
    unlabelled, labelled = np.arange(task.labelled, task.rows), np.arange(task.labelled)
    x, y = inputs.vectors(), inputs.labels()[: task.labelled].astype(int)
    ordered = x[np.concatenate([unlabelled, labelled])]  # how it wants them
    return lambda: strategy.query(None, x, unlabelled, labelled, y, n=task.k, embeddings=ordered)


def modal_ranked_batch(inputs: Inputs) -> Query:
    """Ranked batch-mode sampling (Cardoso et al. 2017): distance to what is picked, weighed with uncertainty."""
    from modAL.batch import uncertainty_batch_sampling
    from modAL.models import ActiveLearner
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Fixed(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        def fit(self, X: Any, y: Any) -> Fixed:
            del X, y
            return self

        def predict_proba(self, X: NDArray[Any]) -> NDArray[np.float32]:
            return inputs.head.probabilities(X)

    x, known = inputs.vectors(), inputs.task.labelled
    learner = ActiveLearner(Fixed(), X_training=x[:known], y_training=inputs.labels()[:known])
    pool = x[known:]
    return lambda: known + uncertainty_batch_sampling(learner, pool, n_instances=inputs.task.k)[0]


def distil_coreset(inputs: Inputs) -> Query:
    from distil.active_learning_strategies import CoreSet

    return _distil(inputs, CoreSet)


def distil_badge(inputs: Inputs) -> Query:
    from distil.active_learning_strategies import BADGE

    return _distil(inputs, BADGE)


def _distil(inputs: Inputs, strategy: Any) -> Query:
    import torch
    from torch.utils.data import Dataset

    class Net(torch.nn.Module):
        """The head alone: the features are the vectors."""

        def forward(self, x: torch.Tensor, last: bool = False) -> Any:
            start = time.perf_counter()
            logits = x @ torch.from_numpy(inputs.head.weight).T + torch.from_numpy(inputs.head.bias)
            inputs.head.seconds += time.perf_counter() - start
            return (logits, x) if last else logits

        def get_embedding_dim(self) -> int:
            return inputs.task.dim

    class Rows(Dataset[tuple[torch.Tensor, int]]):
        def __init__(self, x: torch.Tensor) -> None:
            self.x = x

        def __len__(self) -> int:
            return len(self.x)

        def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
            return self.x[row], row

    np.random.seed(SEED)
    x, known = torch.from_numpy(inputs.vectors()), inputs.task.labelled
    settings = {"batch_size": 1000, "device": "cpu"}
    chosen = strategy(x[:known], inputs.labels()[:known], x[known:], Net(), Rows, inputs.task.classes, settings)
    return lambda: known + np.asarray(chosen.select(inputs.task.k))


@dataclass(frozen=True)
class Tool:
    """Who picks, by what, and in whose environment."""

    name: str
    kind: str
    prepare: Callable[[Inputs], Query]
    package: str
    peer: bool = True
    """Lives in the environment of the peers."""
    other_aim: str = ""
    """What it strives for, if not what is measured."""
    dense_bytes: int = 0
    """Bytes of each number of the gradient embedding, if it writes that out."""


TOOLS = {
    tool.name: tool
    for tool in (
        Tool("raysal coreset", "k-center", raysal_select, "raysal", peer=False),
        Tool("numpy loop", "k-center", numpy_k_center, "numpy", peer=False),
        Tool("torch loop", "k-center", torch_k_center, "torch", peer=False),
        Tool("scikit-activeml CoreSet", "k-center", scikit_activeml_coreset, "scikit-activeml"),
        Tool("DISTIL CoreSet", "k-center", distil_coreset, "decile-distil"),
        Tool("small-text GreedyCoreset", "k-center", small_text_coreset, "small-text"),
        Tool("small-text LightweightCoreset", "k-center", small_text_light, "small-text", other_aim="angle to mean"),
        Tool("modAL ranked batch", "k-center", modal_ranked_batch, "modAL-python", other_aim="and uncertainty"),
        Tool("uniform sample", "k-center", uniform, "numpy", peer=False, other_aim="none"),
        Tool("raysal badge", "BADGE", raysal_select, "raysal", peer=False),
        Tool("numpy factored loop", "BADGE", numpy_badge, "numpy", peer=False),
        Tool("torch factored loop", "BADGE", torch_badge, "torch", peer=False),
        Tool("scikit-activeml Badge", "BADGE", scikit_activeml_badge, "scikit-activeml", dense_bytes=8),
        Tool("DISTIL BADGE", "BADGE", distil_badge, "decile-distil", dense_bytes=4),
        Tool("uniform sample of gradients", "BADGE", uniform, "numpy", peer=False, other_aim="none"),
    )
}


def measure(tool: Tool, folder: Path) -> dict[str, Any]:
    """Seconds and peak memory of the query alone, and its picks."""
    inputs = Inputs.read(folder)
    query = tool.prepare(inputs)
    held_mb = resident_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    inputs.head.seconds = 0.0
    start = time.perf_counter()
    picks = query()
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "head_seconds": inputs.head.seconds,
        "held_mb": held_mb,
        "peak_mb": resident_mb("VmHWM"),
        "picks": [int(pick) for pick in picks],
        "version": version(tool.package),
    }


def resident_mb(field: str, process: str = "self") -> float:
    """VmRSS or VmHWM of a process. Linux only."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def main() -> None:
    warnings.simplefilter("ignore")
    try:
        print(json.dumps(measure(TOOLS[sys.argv[1]], Path(sys.argv[2]))))
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}))


if __name__ == "__main__":
    main()
