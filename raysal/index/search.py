"""Neighbours by an index: fetched by codes, ranked by exact similarities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from raysal.errors import Damaged
from raysal.fleet import Fleet
from raysal.index.files import Located
from raysal.index.kinds import prepared
from raysal.index.shards import fetch, first_of, rank
from raysal.scoring.sweep import Ranked, Search, SweepRequest, sweep
from raysal.scoring.top_k import best_of

DOUBLINGS = 4
"""Times a search that lost too much to excluded rows is made wider before all rows are looked at."""

GROUP = 1024
"""Anchors searched for together: what comes back for them is in the driver at once."""


class Searchable(Protocol):
    """What of an index a search needs: where it lies, and how it is searched."""

    @property
    def rows(self) -> int: ...
    @property
    def probes(self) -> int: ...
    @property
    def overfetch(self) -> int: ...
    def located(self) -> Located: ...


def index_neighbours(fleet: Fleet, index: Searchable, anchors: NDArray[np.float32], each: int) -> list[Ranked]:
    """The `each` available items nearest to each of the anchors [a, d], as far as the index finds them: (ids,
    similarities) best first, ties to the lower id. The same for any partitions.

    Similarities are exact (`raysal.scoring.similarity`); only what is among them is approximate, with the recall that
    `Index.recall` states. Excluded rows never use up a place: where they are more than half of what was fetched, the
    search is made wider, in rows and in what is looked at; and where they leave too few, it is exact at last, so an
    anchor has fewer than `each` neighbours only where fewer items are available.

    Two round trips for each GROUP of anchors where little is excluded. Memory of the driver, beside what is returned:
    O(GROUP * each * overfetch) for each partition.

    Raises:
        Damaged: a file of the index is missing, truncated or altered; or this generation of it is gone. The fleet's
            program can go on past the latter (`raysal.index.with_index`).
        FingerprintMismatch: the index is of another encoder than the pool.
    """
    found: list[Ranked] = []
    for start in range(0, len(anchors), GROUP):
        found += neighbours_of_group(fleet, index, anchors[start : start + GROUP], each)
    return found


def neighbours_of_group(fleet: Fleet, index: Searchable, anchors: NDArray[np.float32], each: int) -> list[Ranked]:
    found: list[Ranked] = [(np.empty(0, np.int64), np.empty(0, np.float32))] * len(anchors)
    if each < 1:
        return found
    left, lacking = np.arange(len(anchors)), np.zeros(len(anchors), bool)
    count, probes = each * index.overfetch, index.probes
    for _ in range(DOUBLINGS + 1):
        if len(left) == 0:
            break
        enough = max(each, count // 2)
        ranked, available = looked_up(fleet, index, anchors[left], min(count, index.rows), probes, enough)
        sizes = np.array([len(ids) for ids, _ in ranked])
        for place, (ids, values) in zip(left.tolist(), ranked, strict=True):
            found[place] = ids[:each], values[:each]
        lacking[left] = sizes < min(each, available)
        left = left[sizes < min(enough, available)]
        count, probes = 2 * count, 2 * probes
    if lacking.any():
        request = SweepRequest(searches=(Search(anchors=anchors[lacking], each=each),))
        exact = sweep(fleet, None, request).searches[0].of_each
        for place, neighbours in zip(np.flatnonzero(lacking).tolist(), exact, strict=True):
            found[place] = neighbours
    return found


def looked_up(
    fleet: Fleet, index: Searchable, anchors: NDArray[np.float32], count: int, probes: int, each: int
) -> tuple[list[Ranked], int]:
    """(neighbours, how many items are available), by one search that fetches `count` rows."""
    where = index.located()
    found = fleet.each(fetch, where, prepared(anchors, where.metric), count, probes, fleet.size)
    parts = [part for part in found if part is not None]
    if len(parts) < len(found):
        raise Damaged(f"index {where.folder}", "this generation is gone: it was built anew twice", "open it again")
    wanted, _ = first_of([ids for ids, _ in parts], [values for _, values in parts], count)
    answers = fleet.each(rank, wanted, anchors, each)
    lists = [merged([own[a] for own, _ in answers], each) for a in range(len(anchors))]
    return lists, sum(available for _, available in answers)


def merged(lists: Sequence[Ranked], each: int) -> Ranked:
    return best_of(np.concatenate([ids for ids, _ in lists]), np.concatenate([values for _, values in lists]), each)
