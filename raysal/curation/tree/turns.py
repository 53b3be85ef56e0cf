"""The order in which groups within groups take turns: who is kept, however many are to be kept.

In each turn every group that still has an item gives one; within a group, its own groups take turns in the same way. So
among the first N items no group has fewer than another of the same parent unless it has no more, at every level: what
small groups cannot fill goes to the others. The first N are among the first N + 1.

This is the hierarchical sampling of Vo et al. (2024), which finds how many items each cluster gives by bisection, and
comes to about N of them; by turns it is exactly N.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from raysal.rng import derive, item_order


def turns(groups: Sequence[NDArray[np.int64]], order: NDArray[np.integer], key: int) -> NDArray[np.int64]:
    """Put items in the order of turns.

    Args:
        groups: the group of each item [n] at each level, numbered from 0, the outermost level first. A number says
            which group it is within the one above: the same number in two of them is two groups.
        order: of the items within an innermost group [n]: distinct numbers, the least comes first.
        key: of the hash by which groups of one turn are ordered.

    Returns:
        The place of each item [n], a permutation of 0 to n - 1. Time O(n log n) for each level.
    """
    n = len(order)
    nested = [np.zeros(n, np.int64)]
    for level in groups:
        wide = nested[-1] * (int(level.max(initial=0)) + 1) + level
        nested.append(np.unique(wide, return_inverse=True)[1].astype(np.int64))
    first = [np.asarray(order)]
    for depth in range(len(nested) - 1, -1, -1):
        place = _places_within(nested[depth], first)
        # Within the group above: by turn, and in a turn by the hash of the group.
        first = [item_order(derive(key, depth), nested[depth]), place]
    return place


def _places_within(group: NDArray[np.int64], by: Sequence[NDArray[np.integer]]) -> NDArray[np.int64]:
    """The place of each item within its group, from 0 on; items are in order of `by`, its last key first."""
    ordered = np.lexsort((*by, group))
    starts = np.cumsum(np.bincount(group)) - np.bincount(group)
    place = np.empty(len(group), np.int64)
    place[ordered] = np.arange(len(group)) - starts[group[ordered]]
    return place
