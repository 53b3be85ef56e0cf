"""Who is kept among the rows of a unit, without a list of all near pairs: a batch at a time, in the order of keeping.

The first rows are compared with one another, then all others with those of them that are kept. What is near to a kept
one is passed over from then on. So a group of jittered copies costs a product with the few of it that are kept.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raysal.curation.near.independent_set import first_independent_set
from raysal.curation.near.nearest import Nearest, nearest_of
from raysal.curation.near.pairs import near_pairs_of
from raysal.curation.near.unit import Unit
from raysal.types import Metric

FEWEST_TOGETHER, MOST_TOGETHER = 2**8, 2**12
"""Rows that are compared with one another: as few as possible first, as most others may be near to these; then twice as
many each time. Of the most, all pairs are 8 million."""


class Settled(NamedTuple):
    """What became of rows: the ids that are kept, ascending, and for each other row a kept one before it."""

    kept: NDArray[np.int64]
    dropped: Nearest


def settle(unit: Unit, order: NDArray[np.int64], threshold: float, metric: Metric, *, threads: int = 1) -> Settled:
    """Choose who is kept among rows of a unit: the first independent set of their near pairs.

    Cost: at most the products of all rows with the kept ones, O(n k d). Memory O(n).

    Args:
        unit: made for a radius of at least that of the threshold.
        order: positions of the rows in the order of keeping [m]; others are passed over.
        threshold: a cosine, or minus a squared distance.
        metric: of the pool.
        threads: how many compare.

    Returns:
        What became of each of them.
    """
    by_id = np.argsort(unit.ids)

    def rows_of(ids: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.asarray(by_id[np.searchsorted(unit.ids, ids, sorter=by_id)])

    open_, place = np.zeros(len(unit), bool), np.full(len(unit), -1)
    open_[order] = True
    kept, dropped, size = [np.empty(0, np.int64)], [], FEWEST_TOGETHER
    while len(first := order[open_[order]][:size]):
        place[first] = np.arange(len(first))
        some = unit.only(np.sort(first)).all_with_all()
        pairs = near_pairs_of(some, some, threshold, metric, threads=threads)
        ends = place[rows_of(pairs.first)], place[rows_of(pairs.second)]
        keeps = first_independent_set(len(first), *ends)
        kept.append(unit.ids[first[keeps]])
        for own, other in (ends, ends[::-1]):
            towards = keeps[other] & ~keeps[own] & (other < own)
            ids = unit.ids[first[own[towards]]], unit.ids[first[other[towards]]]
            dropped.append(Nearest.best(*ids, pairs.similarity[towards]))
        open_[first] = False
        if open_.any():
            right = unit.only(np.sort(first[keeps]))
            near = nearest_of(unit, right, threshold, metric, threads=threads, rows=open_)
            dropped.append(near)
            open_[rows_of(near.ids)] = False
        size = min(size * 2, MOST_TOGETHER)
    return Settled(np.sort(np.concatenate(kept)), Nearest.joined(dropped))
