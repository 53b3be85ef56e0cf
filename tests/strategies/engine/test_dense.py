"""Rules that bring every row up to date after every pick: what they share."""

from __future__ import annotations

import numpy as np
import pytest
from every_row import DIM, N, task
from pools import mixture
from scenes import scene

from raysal.errors import PoolError
from raysal.fleet.partition import Partition
from raysal.strategies import SELECTORS
from raysal.strategies.base import select
from raysal.strategies.engine import dense as every_row

rows, fleet, candidates = scene(mixture(N, DIM, seed=3)[0])
EVERY = ("bait", "falcun", "lcmd", "power_bald", "power_margin", "top_score")


@pytest.mark.parametrize("name", EVERY)
def test_a_vector_that_is_not_finite_is_named(name, rows, fleet, candidates, monkeypatch):
    whole = Partition.fill

    def spoilt(self, out, wanted):
        whole(self, out, wanted)
        out[np.flatnonzero(self.ids[wanted] == 77)] = np.nan

    monkeypatch.setattr(Partition, "fill", spoilt)
    with pytest.raises(PoolError, match="item 77: its vector is not finite"):
        select(fleet, SELECTORS[name](), task(rows), 3)


@pytest.mark.parametrize("name", ["bait", "lcmd"])
def test_features_read_again_give_the_picks_of_features_held(name, rows, fleet, candidates, monkeypatch):
    held = select(fleet, SELECTORS[name](), task(rows), 10)
    monkeypatch.setattr(every_row, "HELD_BYTES", 0)
    again = select(fleet, SELECTORS[name](), task(rows), 10)
    assert np.array_equal(held.ids, again.ids)
    assert np.array_equal(held.scores, again.scores)
