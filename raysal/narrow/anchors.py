"""AnchorAL: candidates are the neighbours of a few labelled items per class.

Lesci & Vlachos, "AnchorAL: Computationally Efficient Active Learning for Large and Imbalanced Datasets",
NAACL 2024. Each round draws anchors from every class seen, so that rare classes get as much of the search as
common ones, finds the nearest items of each anchor in the whole pool, and keeps those most similar to the
anchors that found them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from raysal.narrow.base import LabelledVectors, Narrowed
from raysal.rng import derive, generator, item_uniform
from raysal.sweep import Sweep, SweepRequest

Strategy = Literal["kmeans++", "random"]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True)
class ClassAnchors:
    """Anchor settings of one class; None takes the common ones."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # a misspelled setting would otherwise set nothing

    anchors: Count | None = None
    strategy: Strategy | None = None


@dataclass(frozen=True, kw_only=True)
class AnchorAL:
    """Neighbours of class-wise anchors (the published method; exact neighbours instead of HNSW).

    Anchors: `anchors` per class by `strategy`; a class with fewer labels gives all. `classes` sets both for
    single classes: `{shark = {anchors = 50, strategy = "random"}}`; the rule names those without a label yet.
    Re-drawn every round.
    Search: the `neighbours` most cosine-similar available items of each anchor, in the whole pool.
    Score of an item: its mean similarity to the anchors that found it. Subpool: the `subpool` best, ties to
    lower id. With no more than `subpool` items available nothing is narrowed. A class without labels has no
    anchors; rounds mix in a uniform sample of `explore` items so that it can be found at all (0 is the
    published method).

    Cost: C * anchors more columns in the sweep. Use when classes are rare; for balanced pools it only biases
    towards what is known.
    """

    anchors: Count = 10
    neighbours: Count = 50
    subpool: Count = 10_000
    strategy: Strategy = "kmeans++"
    classes: Mapping[str, ClassAnchors] = field(default_factory=dict)
    explore: Annotated[int, Field(ge=0)] = 0

    def request(self, labelled: LabelledVectors, available: int, key: int) -> SweepRequest:
        if available <= self.subpool or len(labelled) == 0:
            return SweepRequest()
        rows = self.anchor_rows(labelled, key)
        return SweepRequest(
            anchors=labelled.vectors[rows],
            neighbours=self.neighbours,
            sample=self.explore,
        )

    def anchor_rows(self, labelled: LabelledVectors, key: int) -> NDArray[np.int64]:
        """Positions among the labelled of this round's anchors, ascending."""
        names = np.asarray(labelled.classes, dtype=object)
        chosen = []
        for name in sorted(set(labelled.classes)):
            rows = np.flatnonzero(names == name)
            own = self.classes.get(name, ClassAnchors())
            count, strategy = own.anchors or self.anchors, own.strategy or self.strategy
            if len(rows) > count:
                place = derive(key, "anchors", name)
                if strategy == "random":
                    rows = rows[np.argsort(item_uniform(place, labelled.ids[rows]), kind="stable")[:count]]
                else:
                    rows = rows[kmeans_plus_plus(labelled.vectors[rows], count, generator(place))]
            chosen.append(rows)
        return np.sort(np.concatenate(chosen))

    def narrow(self, found: Sweep) -> Narrowed:
        if not found.neighbours:
            return Narrowed(ids=None, rule=f"all {found.rows}")
        ids, similarity = mean_similarity(found)
        best = np.lexsort((ids, -similarity))[: self.subpool]
        near, sample = ids[best], found.sample[0][: self.explore]
        explored = f" and {len(sample)} uniform" if len(sample) else ""
        return Narrowed(
            ids=np.union1d(near, sample),
            rule=f"{len(near)} of {len(ids)} neighbours of {len(found.neighbours)} anchors{explored}, of {found.rows}",
        )


def mean_similarity(found: Sweep) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(ids, scores): every item some anchor found, and its mean similarity to the anchors that found it.

    The neighbour lists are those of the whole pool. Averaging lists cut per partition would make both the set
    and the mean depend on how the pool is sharded.
    """
    ids = np.concatenate([ids for ids, _ in found.neighbours])
    values = np.concatenate([values for _, values in found.neighbours]).astype(np.float64)
    unique, place = np.unique(ids, return_inverse=True)
    return unique, np.bincount(place, values) / np.bincount(place)


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
