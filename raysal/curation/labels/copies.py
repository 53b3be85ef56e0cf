"""Copies with different labels: items whose vectors are equal, or near, and whose labels are not.

Each copy has a vote. An item is a suspect if another label has as many votes as its own, or more: of three cats and a
dog the dog, of one and one both. Its score is the share of votes that its own label has.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raysal.curation.near.pairs import Pairs

Whole = NDArray[np.int64]


class Conflicts(NamedTuple):
    """Items that have another label than their copies."""

    ids: Whole
    """[m], ascending"""
    suggested: Whole
    """[m], the label of most other copies, of equally many the lowest"""
    share: NDArray[np.float64]
    """[m], of the votes, that have the item's own label"""
    twin: Whole
    """[m], the lowest id among the copies with that label"""


def conflicts(ids: Whole, groups: Whole, labels: Whole, near: Whole) -> Conflicts:
    """Find the items that have another label than their copies.

    Time O(n log n + e log e) for e near pairs of copies with labels; memory some 100 bytes an item, and for each pair.

    Args:
        ids: [n], ascending, of labelled items.
        groups: [n], from 0, equal for items of equal vectors.
        labels: [n], from 0.
        near: [e, 2] groups that are near each other, each pair once. A group is near to itself.

    Returns:
        The conflicts.
    """
    n = len(ids)
    if not n:
        none = np.empty(0, np.int64)
        return Conflicts(none, none, np.empty(0), none)
    wide = int(labels.max()) + 1
    # Votes: a row for each label of a group.
    names, first, votes = np.unique(groups * wide + labels, return_index=True, return_counts=True)
    group, lowest = names // wide, ids[first]
    begins = np.searchsorted(group, np.arange(int(groups.max()) + 2))
    mixed = np.flatnonzero(np.diff(begins) > 1)
    # Whose votes each group hears: its own, and those of near groups.
    hearing = np.unique(np.concatenate([mixed, near.ravel()]))
    ears = np.concatenate([hearing, near[:, 0], near[:, 1]])
    heard = np.concatenate([hearing, near[:, 1], near[:, 0]])
    sizes = begins[heard + 1] - begins[heard]
    ear = np.repeat(ears, sizes)
    row = np.repeat(begins[heard] - np.cumsum(sizes) + sizes, sizes) + np.arange(int(sizes.sum()))
    label = names[row] % wide
    order = np.lexsort((label, ear))
    ear, label, row = ear[order], label[order], row[order]
    new = np.append(True, (np.diff(ear) != 0) | (np.diff(label) != 0))[: len(ear)]
    starts = np.flatnonzero(new)
    if not len(starts):
        none = np.empty(0, np.int64)
        return Conflicts(none, none, np.empty(0), none)
    count = np.add.reduceat(votes[row], starts)
    least = np.minimum.reduceat(lowest[row], starts)
    ear, label = ear[starts], label[starts]
    # The best two labels that each group hears.
    order = np.lexsort((label, -count, ear))
    ear, label, count, least = ear[order], label[order], count[order], least[order]
    best = np.flatnonzero(np.append(True, np.diff(ear) != 0))
    heard_by = ear[best]
    total = np.add.reduceat(count, best)
    several = np.append(best[1:], len(ear)) - best > 1
    # Each item beside them.
    place = np.searchsorted(heard_by, groups).clip(max=len(heard_by) - 1)
    at = np.flatnonzero((heard_by[place] == groups) & several[place])
    place, own = place[at], labels[at]
    mine = label[best[place]] == own
    other = best[place] + mine
    key = np.searchsorted(_pairs(ear, label, wide, sort := np.lexsort((label, ear))), groups[at] * wide + own)
    votes_own = count[sort[key]]
    doubted = count[other] >= votes_own
    at, place, other, votes_own = at[doubted], place[doubted], other[doubted], votes_own[doubted]
    return Conflicts(ids[at], label[other], votes_own / total[place], least[other])


def _pairs(ear: Whole, label: Whole, wide: int, order: Whole) -> Whole:
    """The pairs of group and label as ascending numbers."""
    return ear[order] * wide + label[order]


def groups_of(hashes: NDArray[np.uint64]) -> Whole:
    """Number equal rows alike.

    Args:
        hashes: [n, 2].

    Returns:
        [n], from 0.
    """
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))
    some = hashes[order]
    new = np.append(False, (some[1:] != some[:-1]).any(1))[: len(some)]
    found = np.empty(len(hashes), np.int64)
    found[order] = np.cumsum(new)
    return found


def near_groups(ids: Whole, groups: Whole, found: Iterable[tuple[Pairs, Whole]]) -> Whole:
    """Which groups of equal vectors are near each other.

    Args:
        ids: [n], ascending, of labelled items.
        groups: [n], from 0, of each.
        found: near pairs, and ids [m, 2] of items that have the vector of another one, and of that one.

    Returns:
        [e, 2], each pair of unlike groups once.
    """
    pieces, copies = [], [np.empty((0, 2), np.int64)]
    for pairs, copied in found:
        pieces.append(pairs)
        copies.append(copied)
    pairs = Pairs.joined(pieces)
    copied = np.concatenate(copies)
    # Pairs name the first item with a vector, which may have no label: its copies then stand for it.
    known_by = np.concatenate([ids, copied[np.isin(copied[:, 0], ids), 1]])
    own = np.concatenate([groups, groups[np.searchsorted(ids, copied[np.isin(copied[:, 0], ids), 0])]])
    names, place = np.unique(known_by, return_index=True)
    if not len(names) or not len(pairs.first):
        return np.empty((0, 2), np.int64)
    ends = np.stack([pairs.first, pairs.second], 1)
    at = np.searchsorted(names, ends).clip(max=len(names) - 1)
    ends = own[place[at[(names[at] == ends).all(1)]]]
    ends.sort(axis=1)
    return np.unique(ends[ends[:, 0] != ends[:, 1]], axis=0)
