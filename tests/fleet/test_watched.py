"""A watched fleet opens late, says when a round trip begins, and can be stopped between two."""

from __future__ import annotations

import numpy as np
import pytest

from raysal.fleet import LocalFleet, Partition
from raysal.fleet.watched import WatchedFleet


def rows(partition: Partition, add: int) -> int:
    partition.state["calls"] = partition.state.get("calls", 0) + 1
    return len(partition) + add


def calls(partition: Partition) -> int:
    return partition.state.get("calls", 0)


def test_it_is_the_other_fleet_and_says_when_a_trip_begins():
    opened = []

    def opening() -> LocalFleet:
        opened.append(1)
        ids, vectors = np.arange(6), np.eye(6, 2, dtype=np.float16)
        return LocalFleet.of(*(Partition.of_items(ids[k:], vectors[k:], "cosine") for k in (0, 2)))

    with WatchedFleet(opening) as fleet:
        assert opened == []
        told: list[int] = []
        fleet.before = lambda: told.append(fleet.calls)
        assert (fleet.size, fleet.each(rows, 1), fleet.each(rows, 0)) == (2, [7, 5], [6, 4])
        assert (opened, told) == ([1], [0, 1])

        def stop() -> None:
            raise KeyError("stop")

        fleet.before = stop
        with pytest.raises(KeyError):
            fleet.each(rows, 1)
        fleet.before = lambda: None
        assert fleet.each(calls) == [2, 2]  # the stopped trip was not made
        fleet.reset()
        assert fleet.each(calls) == [0, 0]
    WatchedFleet(opening).close()
    assert opened == [1]
