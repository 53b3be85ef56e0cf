"""SEALS: candidates are the neighbours of everything labelled, gathered over the rounds.

Coleman et al., "Similarity Search for Efficient Active Learning and Search of Rare Concepts", AAAI 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from raysal.config import Count
from raysal.context import RoundContext
from raysal.fleet import Fleet, Partition
from raysal.memory import Memory
from raysal.narrowing.base import Candidates, OneSweep
from raysal.narrowing.round_sweep import search_note
from raysal.rng import derive, item_uniform
from raysal.scoring.sweep import Search, Sweep, SweepRequest


@dataclass(frozen=True, kw_only=True)
class Seals(OneSweep):
    """For every labelled item its `neighbours` nearest available items, as they were when its label came.

    The candidates grow with the labels. An item leaves them when it is labelled or taken out, and comes back when it is
    available again. A round searches only for items that were labelled since the last one. A session keeps what was
    found beside its rounds; a single `select` searches for all labels. The candidates are in the order of a hash, so
    that any first part of them is a uniform sample.

    With `search = "index"` the pool's index answers (`raysal index build`), with the recall that the rule states.

    Cost: one column in the sweep per new label, and a small round trip. After many rounds most anchors are of common
    classes; `anchoral` does not drift in this way.
    """

    neighbours: Count = 100
    search: Literal["exact", "index"] = "exact"

    def wants_index(self) -> bool:
        """Whether `search` says so."""
        return self.search == "index"

    def accumulates(self) -> bool:
        """It does."""
        return True

    def request(self, context: RoundContext) -> SweepRequest:
        """The neighbours of the items that were labelled since the last round."""
        anchors = context.labelled.vectors[self.not_searched(context)]
        search = Search(anchors=anchors, each=self.neighbours, by=self.search)
        return SweepRequest(searches=(search,) if len(anchors) else ())

    @staticmethod
    def not_searched(context: RoundContext) -> NDArray[np.bool_]:
        """Which of the labelled items were not searched for yet, bool [n]."""
        return ~np.isin(context.labelled.ids, [] if context.memory is None else context.memory.searched)

    def candidates(self, fleet: Fleet, context: RoundContext, found: Sweep) -> Candidates:
        """Those found now or before that are available, and the memory of both."""
        if len(context.labelled) == 0:
            return Candidates(ids=None, rule=f"all {found.rows} (no labels yet)", memory=context.memory)
        lists = [ids for search in found.searches for ids, _ in search.of_each]
        before = context.memory or Memory(found=np.empty(0, np.int64), searched=np.empty(0, np.int64))
        new = int(self.not_searched(context).sum())
        memory = Memory(
            found=np.unique(np.concatenate([before.found, *lists])),
            searched=np.union1d(before.searched, context.labelled.ids),
        )
        ids = np.concatenate(fleet.each(available_ids, memory.found))
        order = np.argsort(item_uniform(derive(context.key, "seals"), ids), kind="stable")
        return Candidates(
            ids=ids[order],
            rule=f"{len(ids)} neighbours of {len(memory.searched)} labelled, {new} of them new, of {found.rows}"
            f"{search_note(found)}",
            memory=memory,
        )


# Functions of a partition.


def available_ids(partition: Partition, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of `ids` that live here and are available, ascending."""
    rows = partition.rows_of(ids)
    return partition.ids[rows[partition.available[rows]]]
