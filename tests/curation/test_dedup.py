"""`raysal.dedup`: the two promises on whole pools, on any fleet, after growth, removal and interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_tools import cli, refused
from near_rows import DIM, N, Stop, run, slow, vectors_with_copies
from object_store import ObjectStore
from pools import make_pool
from tiers import deep

import raysal
from raysal.buckets import Bucket
from raysal.config import FleetConfig
from raysal.curation.dedup import FOLDER, NearDuplicates, find_near_duplicates
from raysal.curation.near import job as near_job
from raysal.curation.near.folder import NearPlan, UnitPair, unit_pairs
from raysal.errors import ConfigError, Damaged, PoolError
from raysal.fleet import open_fleet
from raysal.pool.removing import remove_items
from raysal.types import Metric


def said(found: NearDuplicates) -> dict[str, tuple[bool, str]]:
    return {row["key"]: (row["kept"], row["nearest_kept"]) for row in found.table().to_pylist()}


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_the_two_promises_hold_as_if_all_were_compared(tmp_path: Path, metric: Metric) -> None:
    pool = make_pool(tmp_path / "pool", vectors_with_copies(), chunk_rows=64, missing=[3, 80], metric=metric)
    threshold = {"cosine": 0.9, "l2": 1.5}[metric]
    found = run(pool, threshold)
    wanted = slow(pool, threshold, list(range(len(pool))))
    assert said(found) == wanted
    assert 20 < found.dropped == sum(not kept for kept, _ in wanted.values()) < len(pool) - 20
    table = found.table()
    dropped = table.filter(pa.compute.invert(table["kept"]))
    if metric == "cosine":
        assert min(dropped["similarity"].to_pylist()) >= threshold
    else:
        assert max(dropped["distance"].to_pylist()) <= threshold


@pytest.mark.parametrize("partitions", [2, 5])
@pytest.mark.parametrize("chunk_rows", [64, 1000])
@pytest.mark.parametrize("unit_rows", [33, 1000])
def test_nothing_depends_on_partitions_chunks_and_units(
    tmp_path: Path, partitions: int, chunk_rows: int, unit_rows: int
) -> None:
    rows = vectors_with_copies(1)
    one = run(make_pool(tmp_path / "one", rows)).table()
    other = make_pool(tmp_path / "other", rows, chunk_rows=chunk_rows)
    assert run(other, partitions=partitions, unit_rows=unit_rows).table().equals(one)


@deep
def test_ray_finds_the_same(tmp_path: Path, ray_session: None) -> None:
    pool = make_pool(tmp_path / "pool", vectors_with_copies(2), chunk_rows=64)
    here = run(pool, folder=tmp_path / "here").table()
    with open_fleet(pool, FleetConfig(backend="ray", partitions=2)) as fleet:
        assert find_near_duplicates(pool, fleet, 0.9, unit_rows=40).table().equals(here)


def test_a_column_says_who_is_kept(tmp_path: Path) -> None:
    rows = vectors_with_copies(3, 120)
    width = np.random.default_rng(0).integers(5, size=120).tolist()
    names = [None if w == 0 else f"{w}" for w in width]
    pool = make_pool(tmp_path / "pool", rows, labels=names)
    order = sorted(range(120), key=lambda i: (width[i] == 0, -width[i], i))
    assert said(run(pool, keep="label")) == slow(pool, 0.9, order)
    order = sorted(range(120), key=lambda i: (width[i] == 0, width[i], i))
    assert said(run(pool, keep="label", prefer="smallest")) == slow(pool, 0.9, order)
    with pytest.raises(PoolError, match="no column 'size'"):
        run(pool, keep="size")


def test_another_threshold_compares_nothing(tmp_path: Path) -> None:
    pool = make_pool(tmp_path / "pool", vectors_with_copies(4))
    low = run(pool, 0.8)
    assert low.compared == 10  # of 4 units
    high = run(pool, 0.95)
    assert high.compared == 0
    assert said(high) == slow(pool, 0.95, list(range(len(pool))))
    assert run(pool, 0.7).compared == 10
    assert NearPlan.read(pool.path / FOLDER).threshold == 0.7  # type: ignore[union-attr]


def test_a_pool_that_grew_compares_the_new_and_removed_items_are_gone(tmp_path: Path) -> None:
    rows = vectors_with_copies(5)
    rows[N - 1] = rows[0]  # so that it matters whether the last one is compared
    table = {"key": [f"item-{i:03d}" for i in range(N)], "vector": list(rows)}
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({name: column[:200] for name, column in table.items()}), tmp_path / "data" / "0.parquet")
    raysal.embed(tmp_path / "data", out=tmp_path / "pool")
    first = run(raysal.open_pool(tmp_path / "pool"), unit_rows=64)
    assert first.compared == 10
    pq.write_table(pa.table({name: column[200:] for name, column in table.items()}), tmp_path / "data" / "1.parquet")
    raysal.embed(tmp_path / "data", out=tmp_path / "pool")
    grown = raysal.open_pool(tmp_path / "pool")
    second = run(grown, unit_rows=64)
    assert second.compared == 5  # the new unit with each of five
    assert said(second) == slow(grown, 0.9, list(range(N)))
    kept_with_copies = {row["nearest_kept"] for row in second.table().to_pylist() if not row["kept"]}
    remove_items(tmp_path / "pool", sorted(kept_with_copies)[:20])
    smaller = raysal.open_pool(tmp_path / "pool")
    third = run(smaller, unit_rows=64)
    assert third.compared == 0
    assert len(third) == N - 20
    assert said(third) == slow(smaller, 0.9, list(range(N - 20)))


def test_a_pool_in_a_bucket_is_deduplicated_here(tmp_path: Path, bucket_store: ObjectStore) -> None:
    """Its near pairs are kept beside what stands for it on this machine; nothing of them goes into the bucket."""
    rows = vectors_with_copies(13, 90)
    pq.write_table(pa.table({"key": [f"{i:02d}" for i in range(90)], "vector": list(rows)}), tmp_path / "v.parquet")
    here = raysal.embed(tmp_path / "v.parquet", out=tmp_path / "pool")
    there = raysal.embed(tmp_path / "v.parquet", out=f"{bucket_store.url}/pool")
    wanted = raysal.dedup(here, threshold=0.9).table()
    assert raysal.dedup(f"{bucket_store.url}/pool", threshold=0.9).table().equals(wanted)
    again = raysal.dedup(f"{bucket_store.url}/pool", threshold=0.9)
    assert (again.compared, again.table()) == (0, wanted)
    assert not [one.name for one in Bucket(there.place).list() if one.name.startswith(FOLDER)]


@pytest.mark.parametrize("at", [0, 3, 9])
def test_an_interrupted_job_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    pool = make_pool(tmp_path / "pool", vectors_with_copies(6))
    whole = run(pool, folder=tmp_path / "whole")
    real, calls = near_job.near_pairs_of, iter(range(100))

    def stopping(*args: Any, **options: Any) -> Any:
        if next(calls) == at + 1:  # the first one counts pairs of a sample
            raise Stop
        return real(*args, **options)

    monkeypatch.setattr(near_job, "near_pairs_of", stopping)
    with pytest.raises(Stop):
        run(pool)
    monkeypatch.undo()
    rest = run(pool)
    assert rest.compared == whole.compared - at
    assert rest.table().equals(whole.table())
    names = sorted(path.name for path in (tmp_path / "whole" / "pairs").iterdir())
    for name in names:
        assert (pool.path / FOLDER / "pairs" / name).read_bytes() == (tmp_path / "whole" / "pairs" / name).read_bytes()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    pool = make_pool(tmp_path / "pool", vectors_with_copies(7))
    run(pool)
    victim = next(iter(sorted((pool.path / FOLDER / "pairs").iterdir())))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    with pytest.raises(Damaged, match=r"00000.arrow.*delete"):
        run(pool)


@pytest.mark.parametrize("rows", [1, 300])
def test_equal_items_leave_one(tmp_path: Path, rows: int) -> None:
    found = run(make_pool(tmp_path / "pool", np.ones((rows, DIM), np.float32)), 1.0)
    assert (found.kept, found.dropped) == (1, rows - 1)
    assert found.table()["similarity"].to_pylist() == [1.0] * rows


def test_zero_vectors_are_near_one_another_alone(tmp_path: Path) -> None:
    rows = vectors_with_copies(8, 60)
    rows[[4, 9, 50]] = 0
    found = said(run(make_pool(tmp_path / "pool", rows), 0.5, unit_rows=20))
    assert [found[f"item-{i:06d}"] for i in (4, 9, 50)] == [
        (True, "item-000004"), (False, "item-000004"), (False, "item-000004"),
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "most"), [("MOST_PAIRS", 300), ("FEWEST_MOST", 2500), ("FEWEST_MOST", 3)])
def test_more_pairs_than_can_be_listed_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, most: int
) -> None:
    """Whether two units have too many, the whole pool has, or a sample says so; and the next call knows of it."""
    pool = make_pool(tmp_path / "pool", vectors_with_copies(12))
    wanted = run(pool, 0.6, folder=tmp_path / "pairs")
    assert wanted.listed
    if most > 3:
        monkeypatch.setattr(near_job, "FEWEST_SEEN", 10**6)  # a sample of all would say the same
    monkeypatch.setattr(near_job, "PAIRS_AN_ITEM", 0)
    monkeypatch.setattr(near_job, name, most)
    found = run(pool, 0.6)
    assert (found.listed, found.table()) == (False, wanted.table())
    assert not (pool.path / FOLDER / "pairs").exists()
    monkeypatch.setattr(near_job, "stage_unit_pair", None)
    assert run(pool, 0.6).table().equals(wanted.table())
    monkeypatch.undo()
    assert said(run(pool, 0.95)) == slow(pool, 0.95, list(range(len(pool))))


@pytest.mark.parametrize("threshold", [0.0, 1.01, -1, float("nan"), True, "0.9"])
def test_a_threshold_that_is_none_is_refused(tmp_path: Path, threshold: Any) -> None:
    pool = make_pool(tmp_path / "pool", vectors_with_copies(9, 20))
    with pytest.raises(ConfigError, match="threshold"):
        raysal.dedup(pool, threshold=threshold)
    assert not (pool.path / FOLDER).exists()


def test_units_come_in_blocks_and_each_pair_once() -> None:
    pairs = unit_pairs(7, 2)
    assert sorted(pairs) == sorted(UnitPair(u, v) for v in range(7) for u in range(v + 1))
    assert sorted(pair.number for pair in pairs) == list(range(28))


def test_the_command_writes_a_row_for_every_item(tmp_path: Path) -> None:
    pool = make_pool(tmp_path / "pool", vectors_with_copies(10))
    out = tmp_path / "dedup.parquet"
    done = cli("dedup", pool.path, "--threshold", "0.9", "-o", out, "--json")
    assert done.code == 0
    assert pq.read_table(out).equals(raysal.dedup(pool, threshold=0.9).table())
    assert done.json["kept_items"] + done.json["dropped_items"] == N
    again = cli("dedup", pool.path, "--threshold", "0.9", "-o", out)
    assert again.code == 0
    assert "it was there, with the same content" in again.out
    other = cli("dedup", pool.path, "--threshold", "0.95", "-o", out)
    assert other.code == 2
    assert "is there already" in other.err


def test_what_the_command_cannot_do_is_refused_before_the_work(tmp_path: Path) -> None:
    pool = make_pool(tmp_path / "pool", vectors_with_copies(10))
    words, out = ("dedup", pool.path, "-o"), tmp_path / "a.csv"
    (tmp_path / "notes.csv").write_text("mine")
    before = sorted(pool.path.rglob("*"))
    refused(cli(*words, pool.path / "a.csv"), "lies in the pool", "name a file elsewhere")
    refused(cli(*words, pool.path / "vectors" / "a.parquet"), "lies in the pool")
    refused(cli(*words, tmp_path / "notes.csv"), "is there already")
    refused(cli(*words, out, "--equal", "--threshold", "0.9"), "--threshold", "leave out one of them")
    refused(cli(*words, out, "--prefer", "smallest"), "prefer", "name the column in keep")
    assert (sorted(pool.path.rglob("*")), out.exists()) == (before, False)


def test_what_is_dropped_can_be_removed_and_nothing_is_near_then(tmp_path: Path) -> None:
    pool = make_pool(tmp_path / "pool", vectors_with_copies(11))
    words = ("--threshold", 0.9, "--rows", "dropped", "-o", tmp_path / "dropped.csv", "--json")
    found = cli("dedup", pool.path, *words).json
    assert cli("pool", "remove", pool.path, "--keys", tmp_path / "dropped.csv").code == 0
    left = raysal.dedup(tmp_path / "pool", threshold=0.9)
    assert (len(left), left.dropped) == (found["kept_items"], 0)


def test_an_older_generation_has_the_pairs_of_what_was_removed_since(tmp_path: Path) -> None:
    pool = make_pool(tmp_path / "pool", vectors_with_copies(5))
    remove_items(pool.path, [f"item-{i:06d}" for i in range(0, len(pool), 2)])
    for generation in (None, 0, None):
        opened = raysal.open_pool(pool.path, generation)
        assert said(run(opened)) == slow(opened, 0.9, list(range(len(opened))))
