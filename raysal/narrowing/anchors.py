"""Which labelled items are a round's anchors: some of every class, drawn anew each round."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from raysal.context import LabelledVectors
from raysal.models.head import Head
from raysal.rng import derive, generator, item_uniform
from raysal.scoring.similarity import unit_rows
from raysal.strategies.engine.kmeans import k_means, nearest_to_centroids
from raysal.types import Metric

Strategy = Literal["entropy", "kmeans", "kmeans++", "random"]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True)
class ClassAnchors:
    """Anchor settings of one class; None takes the common ones."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # a misspelled setting would otherwise set nothing

    anchors: Count | None = None
    strategy: Strategy | None = None


@dataclass(frozen=True, kw_only=True)
class Members:
    """The labelled items of one class: ids [n] ascending, vectors float32 [n, d] as the metric compares them, and the
    entropy [n] of their predicted classes (None without a head, and where it predicts numbers)."""

    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]
    entropy: NDArray[np.float64] | None


def anchor_rows(
    labelled: LabelledVectors,
    head: Head | None,
    metric: Metric,
    key: int,
    *,
    anchors: int,
    strategy: Strategy,
    classes: Mapping[str, ClassAnchors],
) -> NDArray[np.int64]:
    """Positions among the labelled of this round's anchors, ascending: `anchors` of every class by `strategy`, or what
    `classes` says of a class. One with no more labels than that gives all. An item of several labels
    may be an anchor for each; with numbers all are of one class, `value`."""
    chosen = [np.empty(0, np.int64)]
    for name, rows in labelled.by_class().items():
        own = classes.get(name, ClassAnchors())
        count = own.anchors or anchors
        if len(rows) > count:
            vectors = labelled.vectors[rows]
            members = Members(
                ids=labelled.ids[rows],
                vectors=unit_rows(vectors) if metric == "cosine" else vectors,
                entropy=None if head is None else head.likelihood.entropy(head.probabilities(vectors)),
            )
            rows = rows[STRATEGIES[own.strategy or strategy](members, count, derive(key, "anchors", name))]
        chosen.append(rows)
    return np.unique(np.concatenate(chosen))


# Strategies: `count` distinct rows of a class that has more, in any order.


def by_hash(members: Members, count: int, key: int) -> NDArray[np.int64]:
    """Uniform without replacement."""
    return np.argsort(item_uniform(key, members.ids), kind="stable")[:count]


def by_seeding(members: Members, count: int, key: int) -> NDArray[np.int64]:
    """k-means++ seeds: spread over the class."""
    return kmeans_plus_plus(members.vectors, count, generator(key))


def by_centroids(members: Members, count: int, key: int) -> NDArray[np.int64]:
    """The item nearest to each centroid of a k-means."""
    return nearest_to_centroids(members.vectors, k_means(members.vectors, count, key), count)


def by_entropy(members: Members, count: int, key: int) -> NDArray[np.int64]:
    """Those whose class the head is least sure of, ties to the lower id; without a head, or with numbers, as
    `by_seeding`."""
    if members.entropy is None:
        return by_seeding(members, count, key)
    return np.argsort(-members.entropy, kind="stable")[:count]


STRATEGIES: dict[Strategy, Callable[[Members, int, int], NDArray[np.int64]]] = {
    "entropy": by_entropy,
    "kmeans": by_centroids,
    "kmeans++": by_seeding,
    "random": by_hash,
}


def kmeans_plus_plus(vectors: NDArray[np.float32], k: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """k distinct rows of vectors [n, d] by D^2 sampling (Arthur & Vassilvitskii, SODA 2007), first row
    uniform.

    Once every remaining row coincides with a chosen one, the rest is filled by lowest row. O(k n d).
    """
    x = vectors.astype(np.float64)
    taken = np.zeros(len(x), bool)
    chosen = [int(rng.integers(len(x)))]
    gap = ((x - x[chosen[0]]) ** 2).sum(1)
    taken[chosen[0]] = True
    while len(chosen) < k:
        mass = np.cumsum(np.where(taken, 0.0, gap))
        row = min(int(np.searchsorted(mass, rng.random() * mass[-1], side="right")), len(x) - 1)
        if taken[row] or mass[-1] == 0:
            row = int(taken.argmin())
        chosen.append(row)
        taken[row] = True
        gap = np.minimum(gap, ((x - x[row]) ** 2).sum(1))
    return np.array(chosen)
