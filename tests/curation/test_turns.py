"""The order of turns: exactly so many, and no group gives fewer than another that is beside it and could."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from raysal.curation.tree.turns import turns
from raysal.rng import derive, item_order


def slow(paths: list[tuple[int, ...]], order: list[int], key: int) -> list[int]:
    """The items in the order of turns, one turn after the other."""

    numbers = [
        {path: n for n, path in enumerate(sorted({p[:depth] for p in paths}))} for depth in range(len(paths[0]) + 1)
    ]

    def queue(members: list[int], depth: int) -> list[int]:
        if depth == len(paths[0]):
            return sorted(members, key=lambda item: order[item])
        names = sorted({paths[item][: depth + 1] for item in members})
        hashes = item_order(derive(key, depth + 1), np.array([numbers[depth + 1][name] for name in names])).tolist()
        names = [name for _, name in sorted(zip(hashes, names, strict=True))]
        own = {name: [item for item in members if paths[item][: depth + 1] == name] for name in names}
        queues = [queue(own[name], depth + 1) for name in names]
        return [one[turn] for turn in range(max(map(len, queues))) for one in queues if turn < len(one)]

    return queue(list(range(len(paths))), 0)


items = st.integers(1, 3).flatmap(
    lambda levels: st.lists(st.tuples(*[st.integers(0, 3)] * levels), min_size=1, max_size=40)
)


def by_turns(paths: Sequence[tuple[int, ...]], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    order = np.random.default_rng(seed).permutation(len(paths))
    return turns([np.array(level) for level in zip(*paths, strict=True)], order, seed), order


@given(items, st.integers(0, 5))
def test_the_order_is_that_of_turns_one_by_one(paths: list[tuple[int, ...]], seed: int) -> None:
    place, order = by_turns(paths, seed)
    assert np.argsort(place).tolist() == slow(paths, order.tolist(), seed)


@given(items, st.integers(0, 5), st.integers(1, 40))
def test_no_group_gives_fewer_than_another_unless_it_has_no_more(
    paths: list[tuple[int, ...]], seed: int, size: int
) -> None:
    place, _ = by_turns(paths, seed)
    assert sorted(place.tolist()) == list(range(len(paths)))
    kept = [path for path, at in zip(paths, place.tolist(), strict=True) if at < size]
    assert len(kept) == min(size, len(paths))
    for depth in range(1, len(paths[0]) + 1):
        names = {path[:depth] for path in paths}
        given_by = {name: sum(path[:depth] == name for path in kept) for name in names}
        has = {name: sum(path[:depth] == name for path in paths) for name in names}
        for one in names:
            for other in names:
                if one[:-1] == other[:-1] and given_by[one] < given_by[other] - 1:
                    assert given_by[one] == has[one]


def test_without_groups_it_is_the_order_of_items() -> None:
    assert turns([], np.array([30, -1, 2]), 1).tolist() == [2, 0, 1]
    assert turns([], np.empty(0, np.int64), 1).tolist() == []


@pytest.mark.parametrize("key", [1, 2])
def test_which_group_gives_one_more_is_random(key: int) -> None:
    group = np.repeat(np.arange(50), 4)
    first = np.flatnonzero(turns([group], np.arange(200), key) < 25)
    assert len(set(group[first].tolist())) == 25
    other = np.flatnonzero(turns([group], np.arange(200), key + 10) < 25)
    assert first.tolist() != other.tolist()
