"""An index is built and searched beside the data, in Ray actors too, and these may die."""

from __future__ import annotations

import os
import signal
import sys

import numpy as np
import pytest
from indexes import planned, same_lists
from pools import make_pool, mixture
from programs import local
from tiers import deep

from raysal.fleet import Partition, exclude, plan_partitions
from raysal.index import build_index, index_neighbours, open_index

X = mixture(600, 8, seed=9)[0]


def own_process(partition: Partition) -> int:
    return os.getpid()


@deep
@pytest.mark.usefixtures("ray_session")
def test_built_and_searched_in_actors_as_here_though_one_dies(tmp_path):
    import ray

    from raysal.fleet.ray_fleet import RayFleet

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # actors do not have this folder on their path
    pool = make_pool(tmp_path / "pool", X, chunk_rows=50)
    with local(pool, 1) as fleet:
        here = build_index(pool, fleet, planned(pool, "ivf_sq8"))
        fleet.each(exclude, np.arange(100))
        expected = index_neighbours(fleet, here, X[:5], 20)
    with RayFleet(plan_partitions(pool, 2)) as fleet:
        there = build_index(pool, fleet, planned(pool, "ivf_sq8"), fresh=True)
        assert [shard.sha256 for shard in there.shards] == [shard.sha256 for shard in here.shards]
        fleet.each(exclude, np.arange(100))
        assert same_lists(index_neighbours(fleet, open_index(pool), X[:5], 20), expected)
        os.kill(fleet.each(own_process)[1], signal.SIGKILL)
        assert same_lists(index_neighbours(fleet, open_index(pool), X[:5], 20), expected)
