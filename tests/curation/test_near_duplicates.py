"""Who is kept among near-duplicates: no two that are near, and near each dropped one a kept one."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from raysal.curation.near.keeping import kept_of
from raysal.curation.near.pairs import Pairs


def kept_slowly(
    order: list[int], near: dict[tuple[int, int], float], same: float
) -> dict[int, tuple[bool, int, float]]:
    """What becomes of each item, going through them one by one."""
    value = {**near, **{(b, a): v for (a, b), v in near.items()}}
    kept: list[int] = []
    for item in order:
        if not any((item, other) in value for other in kept):
            kept.append(item)
    found = {item: (True, item, same) for item in kept}
    for item in order:
        if item not in found:
            best = max((value[item, other], -other) for other in kept if (item, other) in value)
            found[item] = (False, -best[1], best[0])
    return found


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_who_is_kept_is_what_going_through_in_order_keeps(data: st.DataObject) -> None:
    """With copies of vectors in two units, removed items, and any order."""
    n = data.draw(st.integers(1, 14))
    vector = data.draw(st.lists(st.integers(0, 6), min_size=n, max_size=n))
    near_vectors = data.draw(
        st.dictionaries(st.tuples(st.integers(0, 6), st.integers(0, 6)), st.sampled_from([0.9, 0.95]), max_size=8)
    )
    cut = data.draw(st.integers(0, n))
    alive = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, unique=True)))
    alive.sort()
    order = np.array(data.draw(st.permutations(range(len(alive)))))
    value = {(min(a, b), max(a, b)): v for (a, b), v in near_vectors.items() if a != b} | {
        (a, a): 1.0 for a in range(7)
    }
    units = [range(cut), range(cut, n)]
    first = [min(j for unit in units if i in unit for j in unit if vector[j] == vector[i]) for i in range(n)]
    copies = np.array([(i, first[i]) for i in range(n) if first[i] != i], np.int64).reshape(-1, 2)
    firsts = [i for i in range(n) if first[i] == i]
    edges = {
        (i, j): value[pair]
        for i in firsts
        for j in firsts
        if i < j and (pair := tuple(sorted((vector[i], vector[j])))) in value
    }
    ends = np.array(list(edges), np.int64).reshape(-1, 2)
    pairs = Pairs(ends[:, 0], ends[:, 1], np.array(list(edges.values())))
    found = kept_of(alive, order, [(pairs, copies)], 1.0)
    items = alive.tolist()
    near = {
        (i, j): value[pair]
        for i in items
        for j in items
        if i < j and (pair := tuple(sorted((vector[i], vector[j])))) in value
    }
    wanted = kept_slowly([items[place] for place in order], near, 1.0)
    assert found.ids.tolist() == items
    for item, kept, nearest, similarity in zip(items, found.kept, found.nearest, found.similarity, strict=True):
        assert (kept, nearest, similarity) == wanted[item]
