"""Which labelled items are a round's anchors: some of every class, sampled anew each round."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from raysal.config import Count
from raysal.context import LabelledVectors
from raysal.models.head import Head
from raysal.rng import derive, generator, item_order, item_uniform
from raysal.scoring.similarity import unit_rows
from raysal.strategies.engine.kmeans import k_means
from raysal.strategies.engine.representatives import nearest_to_centroids
from raysal.types import Metric

AnchorRule = Literal["entropy", "kmeans", "kmeans++", "random"]


@dataclass(frozen=True, kw_only=True)
class ClassAnchors:
    """The settings of one class; None takes those of the narrower."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # a misspelled setting would otherwise set nothing

    anchors: Count | None = None
    strategy: AnchorRule | None = None


@dataclass(frozen=True, kw_only=True)
class ClassItems:
    """The labelled items of one class."""

    ids: NDArray[np.int64]
    """[n] ascending"""
    vectors: NDArray[np.float32]
    """[n, d], of unit length where the pool's metric is the cosine"""
    entropy: NDArray[np.float64] | None
    """[n] nats, of what the head predicts; None without a head, and where it predicts numbers"""


def anchor_rows(
    labelled: LabelledVectors,
    head: Head | None,
    metric: Metric,
    key: int,
    *,
    anchors: int,
    strategy: AnchorRule,
    classes: Mapping[str, ClassAnchors],
) -> NDArray[np.int64]:
    """This round's anchors: some labelled items of every class.

    A class with no more labelled items than it is asked for gives all of them. An item of several labels may be an
    anchor for each of them. Numbers are all of one class, `value`.

    Args:
        labelled: the labelled items.
        head: the round's head; None before the first.
        metric: of the pool.
        key: randomness of the stage.
        anchors: how many of each class.
        strategy: how they are chosen within a class.
        classes: other settings for single classes, by name.

    Returns:
        Positions among the labelled items, ascending.
    """
    chosen = [np.empty(0, np.int64)]
    for name, rows in labelled.by_class().items():
        own = classes.get(name, ClassAnchors())
        count = own.anchors or anchors
        if len(rows) > count:
            vectors = labelled.vectors[rows]
            items = ClassItems(
                ids=labelled.ids[rows],
                vectors=unit_rows(vectors) if metric == "cosine" else vectors,
                entropy=None if head is None else head.likelihood.entropy(head.probabilities(vectors)),
            )
            rows = rows[ANCHOR_RULES[own.strategy or strategy](items, count, derive(key, "anchors", name))]
        chosen.append(rows)
    return np.unique(np.concatenate(chosen))


# Rules: positions of `count` distinct items of a class that has more, in any order.


def uniform_anchors(items: ClassItems, count: int, key: int) -> NDArray[np.int64]:
    """A uniform sample without replacement."""
    return np.argsort(item_uniform(key, items.ids), kind="stable")[:count]


def seed_anchors(items: ClassItems, count: int, key: int) -> NDArray[np.int64]:
    """Seeds of k-means++: items that are spread over the class."""
    return kmeans_plus_plus(items.vectors, count, generator(key))


def central_anchors(items: ClassItems, count: int, key: int) -> NDArray[np.int64]:
    """The item nearest to each centroid of a k-means."""
    order = np.argsort(item_order(derive(key, "ties"), items.ids))
    vectors = items.vectors[order]
    return order[nearest_to_centroids(vectors, k_means(vectors, count, key), count)]


def uncertain_anchors(items: ClassItems, count: int, key: int) -> NDArray[np.int64]:
    """The items of highest entropy; `seed_anchors` where no entropy is known."""
    if items.entropy is None:
        return seed_anchors(items, count, key)
    return np.lexsort((item_order(derive(key, "ties"), items.ids), -items.entropy))[:count]


ANCHOR_RULES: dict[AnchorRule, Callable[[ClassItems, int, int], NDArray[np.int64]]] = {
    "entropy": uncertain_anchors,
    "kmeans": central_anchors,
    "kmeans++": seed_anchors,
    "random": uniform_anchors,
}


def kmeans_plus_plus(vectors: NDArray[np.float32], k: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Distinct rows by D^2 sampling, the first of them uniform (Arthur & Vassilvitskii, SODA 2007). O(k n d).

    Args:
        vectors: [n, d].
        k: how many, up to n.
        rng: randomness.

    Returns:
        Positions [k]. Once every row that is left coincides with a chosen one, the rest is uniform.
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
            row = int(rng.choice(np.flatnonzero(~taken)))
        chosen.append(row)
        taken[row] = True
        gap = np.minimum(gap, ((x - x[row]) ** 2).sum(1))
    return np.array(chosen)
