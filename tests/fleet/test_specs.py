"""What an actor is made of: it names rows of the pool, is small whatever the pool has, and cuts the pool exactly."""

from __future__ import annotations

import inspect
import itertools
import os
import pickle
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import fleet_calls as calls
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st
from pools import make_pool
from tiers import deep

from raysal.fleet import exclude, plan_partitions
from raysal.fleet.actors import PartitionActor, ServiceActor
from raysal.fleet.specs import slices_of
from raysal.pool import Manifest, Pool
from raysal.pool.layout import chunk_file
from raysal.store import sha256_of, write_sealed

ray.cloudpickle.register_pickle_by_value(calls)  # the actors' processes do not have this folder on their path

RAY_DROPS = 100 * 1024
"""Bytes of a constructor argument from which on Ray cannot restart an actor: findings/ray_actor_large_argument.sh."""


def pool_of(rows: list[int], path: str = "/pool") -> Pool:
    """As much of a pool of these chunks as planning looks at."""

    class Planned:
        place: str
        chunks = tuple(SimpleNamespace(rows=count) for count in rows)
        records = tuple[dict[str, Any]]({"rows": count} for count in rows)
        fingerprint = "f" * 64
        generation = 0

        def __len__(self) -> int:
            return sum(rows)

    planned = Planned()
    planned.place = path
    return cast(Pool, planned)


@given(st.lists(st.integers(0, 7), max_size=12), st.integers(1, 20))
def test_the_slices_of_all_partitions_are_all_rows_of_all_chunks_once(rows: list[int], count: int) -> None:
    """In order, also where chunks are empty, and where there are more partitions than rows."""
    pool = pool_of(rows)
    specs = plan_partitions(pool, count)
    found = [slices_of(pool, spec.start, spec.stop) for spec in specs]
    assert [(c, row) for part in found for c, low, high in part for row in range(low, high)] == [
        (c, row) for c, n in enumerate(rows) for row in range(n)
    ]
    sizes = [sum(high - low for _, low, high in part) for part in found]
    assert sizes == [spec.stop - spec.start for spec in specs]
    assert max(sizes) - min(sizes) <= 1
    assert all(a.stop == b.start for a, b in itertools.pairwise(specs))


@pytest.mark.parametrize("actor", [PartitionActor, ServiceActor])
@pytest.mark.parametrize("chunks", [1, 1_000, 100_000])
def test_what_an_actor_is_made_of_does_not_grow_with_the_pool(actor: type[Any], chunks: int) -> None:
    """The longest path that Linux takes included. Every argument of the constructor is looked at."""
    pool = pool_of([65_536] * chunks, path="/" + "p" * 4095)
    given: dict[str, Any] = {"spec": plan_partitions(pool, 2, device="cuda", threads=64)[1], "most": 16, "count": 4096}
    names = [name for name in inspect.signature(actor).parameters if not name.startswith("_ray")]  # Ray adds one
    assert set(names) <= set(given), "a new argument: can it grow?"
    for name in names:
        assert len(pickle.dumps(given[name])) < RAY_DROPS / 10


def many_chunks(path: Path, chunks: int) -> Pool:
    """A pool of chunks of one row. The files that are alike are links to one: it takes seconds, not minutes."""
    first = make_pool(path.with_name("first"), np.eye(1, 4), keys=["k"])
    manifest = Manifest.read(first.path)
    (record,) = first._records
    for kind in ("vectors", "items", "quarantine", "commits"):
        (path / kind).mkdir(parents=True)
    for index in range(chunks):
        files = {}
        for kind in ("vectors", "items", "quarantine"):
            file = path / chunk_file(kind, index)
            if kind == "items":
                columns = {"id": pa.array([index]), "key": [f"k{index}"], "uri": pa.nulls(1, pa.string())}
                pq.write_table(pa.table({**columns, "owner": pa.nulls(1, pa.int64())}), file)
            else:
                os.link(first.path / chunk_file(kind, 0), file)
            files[chunk_file(kind, index)] = {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
        write_sealed(path / chunk_file("commits", index), {**record, "index": index, "first_id": index, "files": files})
    fields = {**vars(manifest), "items": chunks, "chunks": chunks, "chunk_rows": 1}
    Manifest(**fields).write(path)
    return Pool(path)


@deep
def test_a_partition_of_many_chunks_comes_back_after_a_death(
    tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """12,000 of them: one entry for each, as specs once had, is more than Ray keeps for a restart."""
    from raysal.fleet.ray_fleet import RayFleet

    monkeypatch.setattr("raysal.store.fsync_path", lambda path: None)  # to make the pool sooner
    pool = many_chunks(tmp_path / "pool", 12_000)
    named = tuple((chunk, 0, 1) for chunk in range(len(pool.chunks)))
    assert len(pickle.dumps(named)) > RAY_DROPS, "not enough chunks to tell"
    with RayFleet(plan_partitions(pool, 1)) as fleet:
        assert fleet.each(exclude, np.array([0])) == [len(pool) - 1]
        os.kill(fleet.each(calls.process)[0], signal.SIGKILL)
        assert fleet.each(exclude, np.array([1])) == [len(pool) - 2]
