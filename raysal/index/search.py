"""Search an index for neighbours: fetch rows by their codes, then rank them by exact similarity."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from raysal.errors import Damaged
from raysal.fleet import Fleet
from raysal.index.files import IndexLocation
from raysal.index.kinds import prepare_vectors
from raysal.index.shards import fetch_nearest, merge_best, rank_exactly
from raysal.scoring.sweep import Search, SweepRequest, sweep
from raysal.scoring.top_k import BestItems, best_of_parts

MAX_DOUBLINGS = 4
"""How often a search that lost too many rows to exclusion is doubled, before exact search replaces it."""

ANCHORS_PER_SEARCH = 1024
"""Anchors searched for together. The driver holds their results at once."""


class Searchable(Protocol):
    """The part of an `Index` that a search needs: where it lies, and how it is searched."""

    @property
    def rows(self) -> int:
        """Rows in all shards."""
        ...

    @property
    def probes(self) -> int:
        """Lists, or rows of a graph, that a search looks at; 0 is everything."""
        ...

    @property
    def overfetch(self) -> int:
        """Rows fetched for each one wanted."""
        ...

    def location(self) -> IndexLocation:
        """What a partition needs to search it."""
        ...


def index_neighbours(
    fleet: Fleet, index: Searchable, anchors: NDArray[np.float32], each: int, ties: int | None = None
) -> list[BestItems]:
    """Find the available items nearest to each anchor. The result is the same for any partitions.

    The similarities are exact (`raysal.scoring.similarity`). Which items are found is approximate, with the recall
    that `Index.recall` states. Excluded rows never take a place: where they are more than half of the rows fetched,
    the search is doubled, in rows and in probes, up to MAX_DOUBLINGS times. Where too few are still left, the search
    is exact. An anchor therefore has fewer than `each` neighbours only where fewer items are available.

    Cost: two round trips for ANCHORS_PER_SEARCH anchors where few rows are excluded. Memory of the driver, beside the
    result: O(ANCHORS_PER_SEARCH * each * overfetch) for each partition.

    Args:
        fleet: is open over the index's pool.
        index: what is searched.
        anchors: vectors [a, d].
        each: neighbours wanted for each anchor.
        ties: key of the hash that orders items of equal similarity; None for the lower id. Which of many equal ones the
            index finds is its own choice.

    Returns:
        For each anchor (ids, similarities), best first.

    Raises:
        Damaged: a file of the index is missing, truncated or altered; or this generation is gone. After the latter the
            fleet's program can go on (`raysal.index.with_index`).
        FingerprintMismatch: the index is of another encoder than the pool.
    """
    found: list[BestItems] = []
    for start in range(0, len(anchors), ANCHORS_PER_SEARCH):
        found += neighbours_of_group(fleet, index, anchors[start : start + ANCHORS_PER_SEARCH], each, ties)
    return found


def neighbours_of_group(
    fleet: Fleet, index: Searchable, anchors: NDArray[np.float32], each: int, ties: int | None
) -> list[BestItems]:
    """As `index_neighbours`, for anchors that are searched together."""
    found: list[BestItems] = [(np.empty(0, np.int64), np.empty(0, np.float32))] * len(anchors)
    if each < 1:
        return found
    left, lacking = np.arange(len(anchors)), np.zeros(len(anchors), bool)
    count, probes = each * index.overfetch, index.probes
    for _ in range(MAX_DOUBLINGS + 1):
        if len(left) == 0:
            break
        enough = max(each, count // 2)
        ranked, available = search_once(fleet, index, anchors[left], min(count, index.rows), probes, enough, ties)
        sizes = np.array([len(ids) for ids, _ in ranked])
        for place, (ids, values) in zip(left.tolist(), ranked, strict=True):
            found[place] = ids[:each], values[:each]
        lacking[left] = sizes < min(each, available)
        left = left[sizes < min(enough, available)]
        count, probes = 2 * count, 2 * probes
    if lacking.any():
        request = SweepRequest(searches=(Search(anchors=anchors[lacking], each=each),), ties=ties)
        exact = sweep(fleet, None, request).searches[0].of_each
        for place, neighbours in zip(np.flatnonzero(lacking).tolist(), exact, strict=True):
            found[place] = neighbours
    return found


def search_once(
    fleet: Fleet,
    index: Searchable,
    anchors: NDArray[np.float32],
    count: int,
    probes: int,
    each: int,
    ties: int | None,
) -> tuple[list[BestItems], int]:
    """Search once, without doubling.

    Args:
        fleet: is open over the index's pool.
        index: what is searched.
        anchors: vectors [a, d].
        count: rows to fetch for each anchor, excluded ones among them.
        probes: how much is looked at.
        each: neighbours kept for each anchor.
        ties: as of `index_neighbours`.

    Returns:
        The neighbours of each anchor, and how many items of the pool are available.

    Raises:
        Damaged: this generation of the index is gone.
    """
    where = index.location()
    found = fleet.each(fetch_nearest, where, prepare_vectors(anchors, where.metric), count, probes, fleet.size)
    parts = [part for part in found if part is not None]
    if len(parts) < len(found):
        raise Damaged(f"index {where.folder}", "this generation is gone: it was built anew twice", "open it again")
    wanted, _ = merge_best([ids for ids, _ in parts], [values for _, values in parts], count)
    answers = fleet.each(rank_exactly, wanted, anchors, each, ties)
    lists = [best_of_parts([own[a] for own, _ in answers], each, ties=ties) for a in range(len(anchors))]
    return lists, sum(available for _, available in answers)
