"""Which of near-duplicates are kept: the first independent set of the graph whose edges are the near pairs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROUNDS = 8
"""After so many rounds over all edges, the nodes that are still open are decided one by one."""


def first_independent_set(count: int, first: NDArray[np.integer], second: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Go through nodes in order, and keep each that has no edge to a kept one.

    So no two kept nodes share an edge, and every other one has an edge to a kept one before it. O(n + edges).

    Args:
        count: n, of nodes; their order is that of their numbers.
        first: one end of each edge, [m].
        second: the other end, [m], never the same.

    Returns:
        bool [n].
    """
    early, late = np.minimum(first, second), np.maximum(first, second)
    kept, open_ = np.zeros(count, bool), np.ones(count, bool)
    for _ in range(ROUNDS):
        waits = np.zeros(count, bool)
        waits[late] = True
        now = open_ & ~waits  # nothing before it is open or kept
        kept |= now
        open_ &= ~now
        beaten = late[now[early]]
        open_[beaten] = False
        left = open_[early] & open_[late]
        early, late = early[left], late[left]
        if not len(early):
            return kept | open_  # what is open has no edge to anything that is
    order = np.argsort(late, kind="stable")
    early, late = early[order], late[order]
    nodes, starts = np.unique(late, return_index=True)
    kept |= open_ & ~np.isin(np.arange(count), nodes)
    for node, before in zip(nodes.tolist(), np.split(early, starts[1:]), strict=True):
        kept[node] = not kept[before].any()
    return kept
