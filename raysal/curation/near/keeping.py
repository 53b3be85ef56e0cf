"""Which items of a pool are near-duplicates of others, and which of them is kept: from its near pairs.

Items in the order of keeping: one is kept if it is near to none that is kept before it. So no two kept items are near,
and each dropped one is near to a kept one. The order is that of a column, or of the ids; nothing else matters.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from raysal.curation.near.independent_set import first_independent_set
from raysal.curation.near.nearest import Nearest
from raysal.curation.near.pairs import Pairs


@dataclass(frozen=True)
class Kept:
    """What became of each of some items."""

    ids: NDArray[np.int64]
    """[n], ascending"""
    kept: NDArray[np.bool_]
    """[n]"""
    nearest: NDArray[np.int64]
    """[n] the id of the most similar item that is kept, of equally similar ones the lowest; of a kept one its own"""
    similarity: NDArray[np.float64]
    """[n] to that one"""


def kept_of(
    ids: NDArray[np.int64],
    order: NDArray[np.int64],
    found: Iterable[tuple[Pairs, NDArray[np.int64]]],
    same: float,
) -> Kept:
    """Choose who is kept.

    Time O(n log n + pairs log pairs); memory 60 bytes an item, and some 60 for each pair.

    Args:
        ids: of the items [n], ascending. Pairs of other items are passed over.
        order: which of them is kept rather than which [n]: a permutation of 0 to n - 1, the first one first.
        found: pairs, and ids [m, 2] of items that have the vector of another one, and of that one.
        same: the similarity of equal vectors.

    Returns:
        What became of each.
    """
    n = len(ids)
    rank = np.empty(n, np.int64)
    rank[order] = np.arange(n)
    pieces, copies = [], [np.empty((0, 2), np.int64)]
    for pairs, copied in found:
        pieces.append(pairs)
        copies.append(copied)
    names, classes = _classes(ids, np.concatenate(copies))
    # The best of each class stands for it: its members are near to the same items.
    best = np.full(len(names), n)
    np.minimum.at(best, classes, rank)
    edges = []
    while pieces:  # each is let go of as it is taken: pairs are most of the memory
        edges.append(_Edges.of(names, pieces.pop()))
    by_rank = np.argsort(best)
    place = np.empty(len(best), np.int32)
    place[by_rank] = np.arange(len(best))
    kept_class = np.empty(len(best), bool)
    ends = [np.concatenate([place[:0], *(place[some[side]] for some in edges)]) for side in (0, 1)]
    kept_class[by_rank] = first_independent_set(len(best), *ends)
    del ends
    stands = ids[order[best]]
    nearest = np.where(kept_class, stands, -1)
    values = np.where(kept_class, same, -np.inf)
    for some in edges:
        for own, other in ((some.first, some.second), (some.second, some.first)):
            towards = kept_class[other] & ~kept_class[own]
            near = Nearest.best(own[towards].astype(np.int64), stands[other[towards]], some.similarity[towards])
            before = values[near.ids]
            nearer = near.similarity > before
            nearer |= (near.similarity == before) & (near.nearest < nearest[near.ids])
            nearest[near.ids[nearer]], values[near.ids[nearer]] = near.nearest[nearer], near.similarity[nearer]
    return Kept(ids, kept_class[classes] & (rank == best[classes]), nearest[classes], values[classes])


class _Edges(NamedTuple):
    """Near pairs of classes, by their places."""

    first: NDArray[np.int32]
    second: NDArray[np.int32]
    similarity: NDArray[np.float64]

    @classmethod
    def of(cls, names: NDArray[np.int64], pairs: Pairs) -> Self:
        """Of pairs of ids those whose ids are names."""
        first, second = (_places(names, side).astype(np.int32) for side in (pairs.first, pairs.second))
        there = (first >= 0) & (second >= 0)
        return cls(first[there], second[there], pairs.similarity[there])


def _classes(ids: NDArray[np.int64], copies: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The ids that vectors are known by, ascending, also of items that are gone; and which of them each item has."""
    known_by = ids.copy()
    place = _places(ids, copies[:, 0])
    known_by[place[place >= 0]] = copies[place >= 0, 1]
    names, classes = np.unique(known_by, return_inverse=True)
    return names, classes


def _places(names: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where ids stand among ascending ones; -1 for those that are none of them."""
    place = np.searchsorted(names, ids)
    there = place < len(names)
    there[there] = names[place[there]] == ids[there]
    return np.where(there, place, -1)
