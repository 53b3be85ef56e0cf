"""SEALS: candidates are the neighbours of everything labelled, gathered over the rounds.

Coleman et al., "Similarity Search for Efficient Active Learning and Search of Rare Concepts", AAAI 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from raysal.context import Memory, RoundContext
from raysal.fleet import Fleet, Partition
from raysal.narrowing.anchors import Count
from raysal.narrowing.base import Narrowed, OneSweep, by_what
from raysal.rng import derive, item_uniform
from raysal.scoring.sweep import Search, Sweep, SweepRequest


@dataclass(frozen=True, kw_only=True)
class Seals(OneSweep):
    """The union of the `neighbours` nearest available items of every labelled item, as they were when its label came.

    It grows with the labels and nothing leaves it but what is labelled or taken out, for as long as it is; only labels
    that came since the last round are searched for. A session keeps it beside its rounds; a single `select` searches
    for all labels. The candidates are in the order of a hash, so that any first part of them is a uniform draw.

    With `search = "index"` the search is answered by the pool's index (`raysal index build`), with the recall that the
    rule states.

    Cost: one column in the sweep per new label, and a small round trip. After many rounds most anchors are of common
    classes: `anchoral` does not drift so.
    """

    neighbours: Count = 100
    search: Literal["exact", "index"] = "exact"

    def wants_index(self) -> bool:
        return self.search == "index"

    def accumulates(self) -> bool:
        return True

    def request(self, context: RoundContext) -> SweepRequest:
        anchors = context.labelled.vectors[self.new(context)]
        search = Search(anchors=anchors, each=self.neighbours, by=self.search)
        return SweepRequest(searches=(search,) if len(anchors) else ())

    @staticmethod
    def new(context: RoundContext) -> NDArray[np.bool_]:
        """Which of the labelled items were not searched for yet, bool [n]."""
        return ~np.isin(context.labelled.ids, [] if context.memory is None else context.memory.searched)

    def narrowed(self, fleet: Fleet, context: RoundContext, found: Sweep) -> Narrowed:
        if len(context.labelled) == 0:
            return Narrowed(ids=None, rule=f"all {found.rows} (no labels yet)", memory=context.memory)
        lists = [ids for search in found.searches for ids, _ in search.of_each]
        before = context.memory or Memory(found=np.empty(0, np.int64), searched=np.empty(0, np.int64))
        new = int(self.new(context).sum())
        memory = Memory(
            found=np.unique(np.concatenate([before.found, *lists])),
            searched=np.union1d(before.searched, context.labelled.ids),
        )
        ids = np.concatenate(fleet.each(still_available, memory.found))
        order = np.argsort(item_uniform(derive(context.key, "seals"), ids), kind="stable")
        return Narrowed(
            ids=ids[order],
            rule=f"{len(ids)} neighbours of {len(memory.searched)} labelled, {new} of them new, of {found.rows}"
            f"{by_what(found)}",
            memory=memory,
        )


def still_available(partition: Partition, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of `ids` that live here and may be picked, ascending."""
    rows = partition.rows_of(ids)
    return partition.ids[rows[partition.available[rows]]]
