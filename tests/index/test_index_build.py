"""The files of an index: equal bytes however it is built, one step to publish it, reuse where it fits, clear errors."""

from __future__ import annotations

import json
import resource
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import indexes
import numpy as np
import pytest
from indexes import built, exact, files_of, grown, planned, same_lists
from pools import make_pool, mixture
from programs import local
from tiers import deep_unless
from warm import python

from raysal.errors import Damaged, FingerprintMismatch, PoolError, RunError, UserError
from raysal.fleet import LocalFleet, plan_partitions
from raysal.index import (
    KINDS,
    Index,
    build_index,
    coverage,
    drift,
    drop_index,
    generations,
    index_neighbours,
    kinds,
    open_index,
    recall,
)
from raysal.index.coverage import MAX_DRIFT
from raysal.pool import Pool
from raysal.store import LOCK, locked, read_sealed, write_sealed

DIM = 8
every_kind = pytest.mark.parametrize("kind", KINDS)
X = mixture(600, DIM, classes=6, seed=3)[0]


@pytest.fixture
def pool(tmp_path):
    return make_pool(tmp_path / "pool", X, chunk_rows=50)


def bytes_of(index: Index) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in index.path.glob("*.faiss")}


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


# building


@every_kind
def test_equal_bytes_for_any_partitions_and_again(kind, pool):
    first, *others = [bytes_of(built(pool, kind, partitions=p, fresh=True)) for p in (1, 2, 5)]
    assert len(first) == 1 + len(planned(pool, kind).shards)
    assert all(other == first for other in others)


def test_equal_bytes_for_any_threads(tmp_path):
    """With several threads a rotation has other last bits, and so other codes. Only many, wide rows show it."""
    pool = make_pool(tmp_path / "pool", mixture(3000, 96)[0], chunk_rows=3000)
    plan = planned(pool, "ivf_rabitq")
    made = []
    for count in (1, 2, 5):
        with kinds.faiss_threads(count), LocalFleet(plan_partitions(pool, 1, threads=count)) as fleet:
            made.append(bytes_of(build_index(pool, fleet, plan, fresh=True, target_recall=0)))
    assert made[0] == made[1] == made[2]


def test_another_seed_trains_on_other_rows(pool):
    with local(pool) as fleet:
        plan = replace(planned(pool, "ivf_sq8"), training_rows=300)
        indexes = [build_index(pool, fleet, plan, seed=seed, fresh=True, target_recall=0) for seed in (0, 1)]
    assert indexes[0].trained != indexes[1].trained


def test_what_is_built_is_what_is_opened(pool):
    index = built(pool, "ivf_sq8")
    assert open_index(pool) == index
    assert index.path.name == "0001"
    assert index.rows == sum(shard.rows for shard in index.shards) == 600
    assert [(s.first, s.last) for s in index.shards] == [(0, 3), (4, 7), (8, 11)]
    assert set(index.recall) == {"10", "50"}
    assert index.queries == recall.RECALL_QUERIES


def test_the_pool_itself_is_never_touched(pool):
    before = files_of(pool)
    built(pool, "ivf_flat")
    drop_index(pool.path)
    assert files_of(pool) == before


def test_more_is_looked_at_until_the_recall_is_reached(pool):
    low, high = (built(pool, "ivf_flat", target_recall=target, fresh=True) for target in (0.2, 1.0))
    assert low.probes < high.probes <= high.lists
    assert low.recall["50"] < high.recall["50"]


def test_codes_that_mislead_are_made_up_for_by_fetching_more(tmp_path):
    """One bit of each of 8 dimensions says little: no number of lists reaches the target."""
    pool = make_pool(tmp_path / "pool", mixture(1500, DIM, classes=1, seed=5)[0], chunk_rows=50)
    with local(pool) as fleet:
        plan = planned(pool, "ivf_rabitq")
        index = build_index(pool, fleet, replace(plan, overfetch=1, probes=plan.lists), target_recall=0.9)
    assert index.overfetch > 1
    assert index.recall["50"] >= 0.9


def test_generations_follow_each_other_and_the_one_before_stays(pool):
    names = [(built(pool, "flat").name, generations(pool.path)) for _ in range(4)]
    assert names[-1] == ("0004", ["0003", "0004"])
    assert open_index(pool, "0003").name == "0003"
    with pytest.raises(PoolError, match=r"no index '0001'.*0003, 0004"):
        open_index(pool, "0001")


def test_who_holds_the_old_index_goes_on_with_it(pool):
    old = built(pool, "ivf_flat", target_recall=0.0)
    with local(pool, 2) as fleet:
        before = index_neighbours(fleet, old, X[:9], 40)
        built(pool, "flat")
        assert same_lists(index_neighbours(fleet, old, X[:9], 40), before)
        # A caller that opens the index again, over the same fleet, gets the new one.
        after, truth = index_neighbours(fleet, open_index(pool), X[:9], 40), exact(fleet, X[:9], 40)
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(after, truth, strict=True))
    assert not same_lists(before, after)


# added and changed vectors


def test_added_vectors_are_noticed_and_only_their_shards_are_coded(pool):
    old = built(pool, "ivf_sq8")
    pool = grown(pool, np.concatenate([X, X[:120] + np.float32(0.1)]))
    lacking = coverage(pool, old)
    assert (lacking.covered_rows, lacking.missing_rows, lacking.stale) == (600, 120, True)
    assert lacking.missing == (12, 13, 14)
    assert drift(pool, old) < MAX_DRIFT
    with local(pool, 2) as fleet:
        new = build_index(pool, fleet, planned(pool, "ivf_sq8"))
        found = index_neighbours(fleet, replace(new, probes=new.lists), X[:4], 30)
        truth = exact(fleet, X[:4], 30)
    assert new.trained == old.trained
    assert [shard.sha256 for shard in new.shards[:3]] == [shard.sha256 for shard in old.shards]
    assert (old.path / "00000.faiss").samefile(new.path / "00000.faiss")
    assert not coverage(pool, new).stale
    assert all(np.isin(a[0], b[0]).mean() > 0.9 for a, b in zip(found, truth, strict=True))
    assert (np.concatenate([ids for ids, _ in found]) >= 600).any()


def test_a_pool_that_drifted_is_trained_anew(pool):
    old = built(pool, "ivf_sq8")
    pool = grown(pool, np.concatenate([X, mixture(100, DIM, seed=77)[0]]))
    assert drift(pool, old) > MAX_DRIFT
    new = built(pool, "ivf_sq8")
    assert new.trained != old.trained


@pytest.mark.parametrize("change", ["fresh", "kind", "seed"])
def test_nothing_is_used_again_for_something_else(change, pool):
    old = built(pool, "ivf_sq8")
    kind = "ivf_flat" if change == "kind" else "ivf_sq8"
    new = built(pool, kind, fresh=change == "fresh", seed=int(change == "seed"))
    assert not (old.path / "trained.faiss").samefile(new.path / "trained.faiss")


def test_a_changed_chunk_is_not_covered(pool):
    index = built(pool, "flat")
    x = X.copy()
    x[60] += 1
    pool = grown(pool, x)
    assert coverage(pool, index).missing == (1,)
    new = built(pool, "flat")
    assert [a.sha256 == b.sha256 for a, b in zip(index.shards, new.shards, strict=True)] == [False, True, True]


# refusals


def test_no_index(pool):
    with pytest.raises(PoolError, match=r"has no index; build one with `raysal index build"):
        open_index(pool)
    assert drop_index(pool.path) == 0


@every_kind
@pytest.mark.parametrize("place", deep_unless([100], [0, 100, -1]))
def test_a_flipped_byte_is_never_searched(kind, place, pool):
    index = built(pool, kind)
    flip(index.path / "00001.faiss", place)
    for partitions in (1, 2):
        with local(pool, partitions) as fleet, pytest.raises(Damaged, match=r"00001\.faiss.*sha256.*index build"):
            index_neighbours(fleet, open_index(pool), X[:1], 3)
    built(pool, kind)  # the damaged shard is not reused
    with local(pool) as fleet:
        assert index_neighbours(fleet, open_index(pool), X[:1], 3)


def test_a_truncated_or_missing_file_is_named(pool):
    index = built(pool, "ivf_flat")
    shard = index.path / "00000.faiss"
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    with pytest.raises(Damaged, match=rf"00000\.faiss: {len(content) - 1} bytes, its record says {len(content)}"):
        open_index(pool)
    shard.unlink()
    with pytest.raises(Damaged, match=r"00000\.faiss.*index build"):
        open_index(pool)


@pytest.mark.parametrize("name", ["current.json", "0001/index.json", "0001/trained.faiss"])
def test_a_damaged_record_is_named_and_a_build_mends_it(name, pool):
    index = built(pool, "ivf_sq8")
    flip(pool.path / "index" / name, 40)
    grown_pool = grown(pool, np.concatenate([X, X[:50]]))
    with pytest.raises(Damaged, match=name.rpartition("/")[2]):
        drift(grown_pool, open_index(grown_pool))
    assert built(grown_pool, "ivf_sq8").name == "0002" != index.name
    assert not coverage(grown_pool, open_index(grown_pool)).stale


def test_an_index_newer_than_this_version_is_refused(pool):
    path = built(pool, "flat").path / "index.json"
    write_sealed(path, {**read_sealed(path), "version": 2, "unheard_of": 1})
    with pytest.raises(PoolError, match="version 2, this raysal reads 1; update raysal") as caught:
        open_index(pool)
    assert not isinstance(caught.value, Damaged)


@pytest.mark.parametrize("what", ["encoder", "dim", "metric"])
def test_an_index_of_something_else_is_refused(what, pool):
    index = built(pool, "flat")
    other = {"encoder": {}, "dim": {}, "metric": {"metric": "l2"}}[what]
    pool = grown(pool, mixture(600, 5)[0] if what == "dim" else X, **other)
    if what == "encoder":
        path = pool.path / "pool.json"
        record = read_sealed(path)
        write_sealed(path, {**record, "encoder": {**record["encoder"], "fingerprint": "another"}})
        pool = Pool(pool.path)
        # A partition asks for itself: records may be exchanged while a session is running.
        with local(pool) as fleet, pytest.raises(FingerprintMismatch, match="another"):
            index_neighbours(fleet, index, X[:1], 3)
    with pytest.raises(FingerprintMismatch, match="index build"):
        open_index(pool)
    assert built(pool, "flat").name == "0002"


def test_a_file_that_is_no_index_of_ours_is_not_searched(pool):
    """Even with the right sha256, FAISS is asked to read only what has as many rows as the pool."""
    index = built(pool, "flat")
    shards = (replace(index.shards[0], last=2), *index.shards[1:])
    with local(pool) as fleet, pytest.raises(Damaged, match="200 rows for 150 items"):
        index_neighbours(fleet, replace(index, shards=shards), X[:1], 3)


@pytest.mark.parametrize("rows", [0, 1])
def test_fewer_than_two_rows_have_no_index(rows, tmp_path):
    pool = make_pool(tmp_path / "pool", X[:3], missing=range(rows, 3))
    with pytest.raises(PoolError, match=f"{rows} rows"):
        built(pool, "flat")
    assert not (pool.path / "index").exists()


@every_kind
def test_two_rows_have_one(kind, tmp_path):
    pool = make_pool(tmp_path / "pool", X[:2])
    assert built(pool, kind).rows == 2
    with local(pool, 5) as fleet:
        assert [ids.tolist() for ids, _ in index_neighbours(fleet, open_index(pool), X[:2], 9)] == [[0, 1], [1, 0]]


def test_one_build_at_a_time(pool):
    built(pool, "flat")
    with locked(pool.path / "index", "index"):
        for at_work in (lambda: built(pool, "flat"), lambda: drop_index(pool.path)):
            with pytest.raises(RunError, match="another process is at work on this index"):
                at_work()
    assert generations(pool.path) == ["0001"]


def test_without_faiss_the_error_says_what_to_do(pool, monkeypatch):
    monkeypatch.setattr(kinds, "_loaded", [])
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UserError, match=r"'faiss' cannot be imported.*pip install faiss-cpu"):
        built(pool, "flat")
    assert not (pool.path / "index").exists()


# interruptions

PROGRAM = """
import sys, signal, os
sys.path[:0] = {paths}
from indexes import planned
from programs import local
from raysal.index import build_index
from raysal.pool import Pool
def report(stage, done, total):
    if stage == "coding" and done == 2:
        os.kill(os.getpid(), signal.SIGKILL)
pool = Pool({pool!r})
with local(pool, 2) as fleet:
    build_index(pool, fleet, planned(pool, "ivf_flat"), report=report)
"""


def test_a_killed_build_leaves_the_old_index_in_force(pool):
    built(pool, "flat")
    before = files_of(pool)
    here = Path(indexes.__file__).parent
    program = PROGRAM.format(paths=[str(here)], pool=str(pool.path))
    assert python(program).returncode == -9
    after = files_of(pool)
    left = {name for name in after if name.startswith("index/.tmp-")}
    assert any(name.endswith("00001.faiss") for name in left)
    assert {name: after[name] for name in after.keys() - left} == before
    assert open_index(pool).kind == "flat"
    assert built(pool, "ivf_flat").name == "0002"
    assert not any("/.tmp-" in name for name in files_of(pool))


@pytest.mark.parametrize("where", ["training", "coding", "measuring recall"])
def test_an_interrupted_build_leaves_nothing(where, pool):
    built(pool, "flat")
    before = files_of(pool)

    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == where and done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        built(pool, "ivf_flat", report=interrupt)
    assert files_of(pool) == before


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_full_disk_changes_nothing(share, pool):
    """A limit on the size of a file stands for a full disk: at the first byte, in the middle and at the last byte."""
    built(pool, "flat")
    before = files_of(pool)
    size = max(shard.bytes for shard in open_index(pool).shards)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(int(size * share) - 1, 1), hard))
    try:
        with pytest.raises(PoolError, match=r"\.faiss: cannot be written.*free some space"):
            built(pool, "flat", fresh=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files_of(pool) == before


def test_a_build_that_died_before_the_swap_is_not_in_force(pool):
    """Its directory is complete, but current.json does not name it."""
    first = built(pool, "flat")
    current = (pool.path / "index" / "current.json").read_bytes()
    built(pool, "ivf_flat")
    (pool.path / "index" / "current.json").write_bytes(current)
    assert open_index(pool) == first
    third = built(pool, "flat")
    assert (third.name, generations(pool.path)) == ("0003", ["0001", "0003"])


def test_records_hold_no_path(pool):
    """A pool can be moved, and its index with it."""
    built(pool, "ivf_sq8")
    there = pool.path.with_name("elsewhere")
    shutil.move(pool.path, there)
    index = open_index(Pool(there))
    assert str(pool.path) not in json.dumps(index.record())
    with local(Pool(there), 2) as fleet:
        assert index_neighbours(fleet, index, X[:1], 3)
    assert (there / "index" / LOCK).stat().st_size == 0
