"""AnchorAL: candidates are the neighbours of a few labelled items per class.

Lesci & Vlachos, "AnchorAL: Computationally Efficient Active Learning for Large and Imbalanced Datasets", NAACL 2024.
Each round takes anchors from every class that has labels, so that rare classes get as much of the search as common
ones. It finds the nearest items of each anchor in the whole pool, and keeps those that are most similar to the anchors
that found them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysal.config import Count
from raysal.context import RoundContext
from raysal.errors import ConfigError
from raysal.fleet import Fleet
from raysal.narrowing.anchors import AnchorRule, ClassAnchors, anchor_rows
from raysal.narrowing.base import Candidates, OneSweep
from raysal.narrowing.round_sweep import search_note
from raysal.scoring.similarity import mean_similarities
from raysal.scoring.sweep import Neighbours, Search, Sweep, SweepRequest
from raysal.scoring.top_k import BestItems, best_of

ScoredBy = Literal["retrieving", "all", "nearest"]


@dataclass(frozen=True, kw_only=True)
class AnchorAL(OneSweep):
    """Neighbours of some labelled items of every class (the published method; exact neighbours instead of HNSW).

    Anchors: `anchors` labelled items of each class, chosen by `strategy`, anew each round. `kmeans++` takes seeds,
    `kmeans` the nearest item to each centroid, `entropy` the items that the head is least sure of, and `random` a
    uniform sample. A class with fewer labels gives all. `classes` sets both for single classes, as in
    `{shark = {anchors = 50, strategy = "random"}}`; the rule names those of them that have no label yet.

    Search: the `neighbours` available items most similar to each anchor, in the whole pool, by the pool's metric. With
    `search = "index"` the pool's index answers (`raysal index build`); it may find fewer, with the recall that the rule
    states.

    Score of an item, by the field `by`: `retrieving` is its mean similarity to the anchors that found it, as in the
    published code; `all` is its mean similarity to all anchors, as in the published text. With `nearest` it is the
    similarity to the nearest anchor, over all items of the pool, whether or not they are among the `neighbours` of an
    anchor. The candidates are the `subpool` best.

    The whole pool is kept while no item has a label, and where no more than `subpool` items are available. An item of
    several labels is of each of these classes; numbers are one class. A class without labels has no anchors. A uniform
    sample of `explore` items, added to the candidates, is how its items can be found; 0 is the published method.

    Cost: C * anchors more columns in the sweep; `all` takes one small round trip more. Use it when classes are rare.
    With balanced classes it only biases the batch towards what is known.
    """

    SIZE_FIELD: ClassVar[str] = "subpool"
    anchors: Count = 10
    neighbours: Count = 50
    subpool: Count = 10_000
    strategy: AnchorRule = "kmeans++"
    by: ScoredBy = "retrieving"
    search: Literal["exact", "index"] = "exact"
    classes: Mapping[str, ClassAnchors] = field(default_factory=dict)
    explore: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        if self.by == "nearest" and self.search == "index":
            problem = "an index finds neighbours of each anchor, not the items nearest to any"
            raise ConfigError("narrow.search", problem, 'use search = "exact", or by = "retrieving"')

    def wants_index(self) -> bool:
        """Whether `search` says so."""
        return self.search == "index"

    def request(self, context: RoundContext) -> SweepRequest:
        """The neighbours of the anchors, and a sample of `explore` items; nothing where the whole pool is kept."""
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
        """The positions of this round's anchors among the labelled items, ascending."""
        return anchor_rows(
            context.labelled,
            context.head,
            context.pool.metric,
            context.key,
            anchors=self.anchors,
            strategy=self.strategy,
            classes=self.classes,
        )

    def candidates(self, fleet: Fleet, context: RoundContext, found: Sweep) -> Candidates:
        """The `subpool` best neighbours by their score, then those of the sample that are not among them."""
        unseen = sorted(self.classes.keys() - context.labelled.by_class().keys())
        missing = f" (no labels yet of: {', '.join(unseen)})" if unseen else ""
        if not found.searches:
            return Candidates(ids=None, rule=f"all {found.rows}{missing}")
        anchors = context.labelled.vectors[self.anchor_rows(context)]
        ids, scores = self.scores_of_found(fleet, found.searches[0], anchors)
        near, sample = best_of(ids, scores, self.subpool, ties=context.ties)[0], found.sample[0][: self.explore]
        explored = f" and {len(sample)} uniform" if len(sample) else ""
        of = f"{len(near)} nearest to any" if self.by == "nearest" else f"{len(near)} of {len(ids)} neighbours"
        return Candidates(
            ids=np.concatenate([near, sample[~np.isin(sample, near)]]),
            rule=f"{of} of {len(anchors)} anchors{explored}, of {found.rows}{missing}{search_note(found)}",
        )

    def scores_of_found(self, fleet: Fleet, neighbours: Neighbours, anchors: NDArray[np.float32]) -> BestItems:
        """(ids, scores) of every item that was found."""
        if self.by == "nearest":
            return neighbours.nearest
        ids, means = mean_similarity(neighbours)
        if self.by == "all":
            parts = fleet.each(mean_similarities, ids, anchors)
            ids, means = (np.concatenate(column) for column in zip(*parts, strict=True))
        return ids, means


def mean_similarity(neighbours: Neighbours) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The mean similarity of every item to the anchors that found it.

    Args:
        neighbours: of each anchor, in the whole pool. With lists that were cut per partition, both the items and their
            means would depend on the partitions.

    Returns:
        Ids, ascending, and their means.
    """
    ids = np.concatenate([ids for ids, _ in neighbours.of_each])
    values = np.concatenate([values for _, values in neighbours.of_each]).astype(np.float64)
    unique, place = np.unique(ids, return_inverse=True)
    return unique, np.bincount(place, values) / np.bincount(place)
