"""Whole programs over a fleet, and the inputs they need, for the tests of narrowing and selection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from reference import TARGET

from raysal.config import choice
from raysal.context import LabelledVectors, Reveal, RoundContext
from raysal.fleet import Fleet, LocalFleet, Partition, exclude, plan_partitions
from raysal.memory import Memory
from raysal.models.head import Head
from raysal.narrowing import NARROWERS
from raysal.narrowing.base import Candidates, Narrower, narrow
from raysal.pool import Pool
from raysal.scoring.sweep import Sweep
from raysal.scoring.top_k import BestItems
from raysal.strategies import SELECTORS
from raysal.strategies.base import Picks, Selector, select

SMALL: dict[str, dict[str, Any]] = {
    "anchoral": {"anchors": 3, "neighbours": 40, "subpool": 60, "explore": 5},
    "filter": {
        "inner": {"name": "uniform", "size": 80},
        "outliers": "knn",
        "outlier_share": 0.05,
        "duplicates": 0.98,
    },
    "mixed": {
        "size": 60,
        "parts": [
            {"name": "anchoral", "share": 2, "anchors": 3, "neighbours": 20},
            {"name": "seals", "neighbours": 9},
            {"name": "top_score"},
        ],
    },
    "novelty": {"size": 60, "by": {"name": "knn", "sample": 90}},
    "refine": {"rounds": 2, "batches": 1, "picks": 40, "subset": 120, "members": ["random", "top_score"]},
    "seals": {"neighbours": 9},
    "top_score": {"size": 60},
    "uniform": {"size": 60},
}
"""Settings with which a narrower binds on a pool of some hundred rows; an entry that is not here uses its
defaults."""


OPTIONS: dict[str, dict[str, Any]] = {
    "batch_bald": {"draws": 48, "configurations": 200, "fewest": 8},
    "epig": {"targets": 20, "draws": 16},
    "fantasy": {"of": "top_score", "every": 5, "label": "likely"},
    "ldm": {"directions": 40},
    "novelty": {"by": {"name": "knn", "sample": 90}},
    "reveal": {"of": "top_score", "every": 5},
}
"""Settings with which a strategy is tried, where its defaults would cost more and show no more; an entry that is not
here uses its defaults. `fantasy` and `reveal` run the one inside for every batch between two updates of the head: a few
times, and not a dozen."""


def strategy(name: str) -> Selector:
    """A strategy as the laws try it."""
    return choice({"name": name, **OPTIONS.get(name, {})}).build("select", SELECTORS)


def small(name: str) -> Narrower:
    return choice({"name": name, **SMALL.get(name, {})}).build("narrow", NARROWERS)


def local(pool: Pool, partitions: int = 1) -> LocalFleet:
    return LocalFleet(plan_partitions(pool, partitions))


def random_head(dim: int, classes: int = 5, seed: int = 0, scale: float = 0.3) -> Head:
    """Random weights, and a covariance as after some labels."""
    rng = np.random.default_rng(seed)
    weight, bias = rng.normal(size=(classes, dim)) * scale, rng.normal(size=classes) * 0.1
    rows = rng.normal(size=(2 * dim, dim + 1))
    return Head.of_weights(weight, bias, covariance=np.linalg.inv(np.eye(dim + 1) + rows.T @ rows))


def make_head(weight: NDArray[np.float64], bias: NDArray[np.float64]) -> Head:
    return Head.of_weights(weight, bias)


def labelled_of(x: NDArray[np.floating], names: Sequence[str], ids: Sequence[int]) -> LabelledVectors:
    rows = np.sort(np.array(ids, np.int64))
    return LabelledVectors(
        ids=rows, vectors=x[rows].astype(np.float16).astype(np.float32), classes=[names[row] for row in rows]
    )


def task_of(
    fleet: Fleet,
    labelled: LabelledVectors,
    *,
    head: Head | None = None,
    k: int = 1,
    available: int = 0,
    key: int = 7,
    memory: Memory | None = None,
    previous: Head | None = None,
) -> RoundContext:
    """What a narrower is told, over the pool of an open fleet."""
    pool = Pool(fleet.each(pool_of)[0])
    return RoundContext(
        head=head, labelled=labelled, pool=pool, k=k, available=available, key=key, memory=memory, previous=previous,
        target=TARGET, pool_scale=pool.scale,
    )  # fmt: skip


def context_of(
    *,
    head: Head | None,
    labelled: NDArray[np.floating],
    key: int,
    classes: Sequence[str] = (),
    previous: Head | None = None,
    reveal: Reveal | None = None,
) -> RoundContext:
    """What a strategy is told where these vectors [n, d] are labelled. Strategies do not look at the pool."""
    known = LabelledVectors(ids=np.arange(len(labelled)), vectors=labelled.astype(np.float32), classes=list(classes))
    pool: Any = None
    return RoundContext(
        head=head, labelled=known, pool=pool, k=1, available=0, key=key, previous=previous, reveal=reveal, target=TARGET
    )


def pool_of(partition: Partition) -> str:
    return partition.spec.pool


def same(a: BestItems, b: BestItems) -> bool:
    return np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1])


@dataclass(frozen=True, kw_only=True)
class Outcome:
    found: Sweep
    candidates: Candidates
    picks: Picks

    def same_as(self, other: Outcome) -> bool:
        """Equal to the last bit: candidates, picks, scores, reasons."""
        mine, theirs = self.candidates.ids, other.candidates.ids
        return (
            (mine is None) == (theirs is None)
            and (mine is None or np.array_equal(np.sort(mine), np.sort(theirs)))
            and self.candidates.rule == other.candidates.rule
            and np.array_equal(self.found.class_counts, other.found.class_counts)
            and all(same(self.found.top[name], other.found.top[name]) for name in self.found.top)
            and all(
                same(a.nearest, b.nearest) and all(map(same, a.of_each, b.of_each))
                for a, b in zip(self.found.searches, other.found.searches, strict=True)
            )
            and np.array_equal(self.picks.ids, other.picks.ids)
            and np.array_equal(self.picks.scores, other.picks.scores)
            and self.picks.reasons == other.picks.reasons
        )


def run_program(
    fleet: Fleet,
    selector: Selector,
    narrower: Narrower,
    *,
    head: Head | None,
    labelled: LabelledVectors,
    excluded: Sequence[int] = (),
    k: int = 12,
    key: int = 7,
    memory: Memory | None = None,
    previous: Head | None = None,
    reveal: Reveal | None = None,
) -> Outcome:
    """A round without a session: exclude, sweep and narrow, select."""
    to_narrow = task_of(fleet, labelled, head=head, k=k, key=key, memory=memory, previous=previous)
    fleet.reset()
    out = np.unique(np.concatenate([labelled.ids, np.array(excluded, np.int64)]))
    available = sum(fleet.each(exclude, out))
    found, candidates = narrow(fleet, narrower, replace(to_narrow, available=available))
    picks = select(fleet, selector, replace(to_narrow, key=key + 1, reveal=reveal), k)
    return Outcome(found=found, candidates=candidates, picks=picks)
