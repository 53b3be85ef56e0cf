"""AnchorAL: candidates are the neighbours of a few labelled items per class.

Lesci & Vlachos, "AnchorAL: Computationally Efficient Active Learning for Large and Imbalanced Datasets",
NAACL 2024. Each round draws anchors from every class seen, so that rare classes get as much of the search as
common ones, finds the nearest items of each anchor in the whole pool, and keeps those most similar to the
anchors that found them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysal.context import RoundContext
from raysal.errors import ConfigError
from raysal.fleet import Fleet
from raysal.narrowing.anchors import ClassAnchors, Count, Strategy, anchor_rows
from raysal.narrowing.base import Narrowed, OneSweep, by_what
from raysal.scoring.similarity import mean_similarities
from raysal.scoring.sweep import Neighbours, Ranked, Search, Sweep, SweepRequest
from raysal.scoring.top_k import best_of

By = Literal["retrieving", "all", "nearest"]


@dataclass(frozen=True, kw_only=True)
class AnchorAL(OneSweep):
    """Neighbours of class-wise anchors (the published method; exact neighbours instead of HNSW).

    Anchors: `anchors` per class by `strategy` (`kmeans++`, `kmeans`: the nearest item to each centroid, `entropy`: the
    labelled items the head is least sure of, `random`); a class with fewer labels gives all. `classes` sets both for
    single classes: `{shark = {anchors = 50, strategy = "random"}}`; the rule names those without a label yet.
    Re-drawn every round.
    Search: the `neighbours` available items most similar to each anchor, in the whole pool, by the pool's metric.
    With `search = "index"` that is answered by the pool's index (`raysal index build`): fewer may be found, with the
    recall that the rule states.
    Score of an item, `by`: its mean similarity to the anchors that found it (`retrieving`, as in the published code),
    or to all anchors (`all`, as in its text); or, with `nearest`, its similarity to the nearest anchor among all items,
    found by `neighbours` of one anchor or not. Subpool: the `subpool` best, ties to lower id.
    With no more than `subpool` items available nothing is narrowed, nor while no item has a label. With several labels
    at once an item is of each of its labels, and numbers are one class of anchors. A class without labels has no
    anchors; rounds mix in a uniform sample of `explore` items so that it can be found at all (0 is the published
    method).

    Cost: C * anchors more columns in the sweep; `all` one small round trip more. Use when classes are rare; for
    balanced pools it only biases towards what is known.
    """

    SIZE_FIELD: ClassVar[str] = "subpool"
    anchors: Count = 10
    neighbours: Count = 50
    subpool: Count = 10_000
    strategy: Strategy = "kmeans++"
    by: By = "retrieving"
    search: Literal["exact", "index"] = "exact"
    classes: Mapping[str, ClassAnchors] = field(default_factory=dict)
    explore: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        if self.by == "nearest" and self.search == "index":
            problem = "an index finds neighbours of each anchor, not the items nearest to any"
            raise ConfigError("narrow.search", problem, 'use search = "exact", or by = "retrieving"')

    def wants_index(self) -> bool:
        return self.search == "index"

    def request(self, context: RoundContext) -> SweepRequest:
        if context.available <= self.subpool or len(context.labelled) == 0:
            return SweepRequest()
        anchors = context.labelled.vectors[self.anchor_rows(context)]
        if not len(anchors):
            return SweepRequest()
        if self.by == "nearest":
            return SweepRequest(searches=(Search(anchors=anchors, nearest=self.subpool),), sample=self.explore)
        search = Search(anchors=anchors, each=self.neighbours, by=self.search)
        return SweepRequest(searches=(search,), sample=self.explore)

    def anchor_rows(self, context: RoundContext) -> NDArray[np.int64]:
        """Positions among the labelled of this round's anchors, ascending."""
        return anchor_rows(
            context.labelled,
            context.head,
            context.pool.metric,
            context.key,
            anchors=self.anchors,
            strategy=self.strategy,
            classes=self.classes,
        )

    def narrowed(self, fleet: Fleet, context: RoundContext, found: Sweep) -> Narrowed:
        unseen = sorted(self.classes.keys() - context.labelled.by_class().keys())
        missing = f" (no labels yet of: {', '.join(unseen)})" if unseen else ""
        if not found.searches:
            return Narrowed(ids=None, rule=f"all {found.rows}{missing}")
        anchors = context.labelled.vectors[self.anchor_rows(context)]
        ids, scores = self.scored(fleet, found.searches[0], anchors)
        near, sample = best_of(ids, scores, self.subpool)[0], found.sample[0][: self.explore]
        explored = f" and {len(sample)} uniform" if len(sample) else ""
        of = f"{len(near)} nearest to any" if self.by == "nearest" else f"{len(near)} of {len(ids)} neighbours"
        return Narrowed(
            ids=np.concatenate([near, sample[~np.isin(sample, near)]]),
            rule=f"{of} of {len(anchors)} anchors{explored}, of {found.rows}{missing}{by_what(found)}",
        )

    def scored(self, fleet: Fleet, neighbours: Neighbours, anchors: NDArray[np.float32]) -> Ranked:
        """(ids, scores) of every item that was found."""
        if self.by == "nearest":
            return neighbours.nearest
        ids, means = mean_similarity(neighbours)
        if self.by == "all":
            parts = fleet.each(mean_similarities, ids, anchors)
            ids, means = (np.concatenate(column) for column in zip(*parts, strict=True))
        return ids, means


def mean_similarity(neighbours: Neighbours) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(ids, scores): every item some anchor found, and its mean similarity to the anchors that found it.

    The neighbour lists are those of the whole pool. Averaging lists cut per partition would make both the set
    and the mean depend on how the pool is sharded.
    """
    ids = np.concatenate([ids for ids, _ in neighbours.of_each])
    values = np.concatenate([values for _, values in neighbours.of_each]).astype(np.float64)
    unique, place = np.unique(ids, return_inverse=True)
    return unique, np.bincount(place, values) / np.bincount(place)
