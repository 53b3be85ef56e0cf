"""A partition that looks at owners: its rows are what a slow loop makes of the parts of each, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from part_pools import make_part_pool, owners_by_size
from pools import mixture
from programs import random_head
from reference import probabilities, score

from raysal.features import HiddenLayer
from raysal.fleet import LocalFleet, Partition, exclude, keep, plan_partitions, use_features
from raysal.fleet import owners as module
from raysal.fleet.by_owner import use_owners
from raysal.fleet.masks import exclude_before
from raysal.pool import Pool
from raysal.scoring.aggregators.simple import Max
from raysal.scoring.inputs import score_inputs
from raysal.scoring.owners import look_by_score, offer_best_parts
from raysal.scoring.sweep import SweepRequest, sweep

SIZES = [3, 1, 12, 2, 5] * 12
OWNERS: list[str | None] = [*owners_by_size(SIZES), *[None] * 5]
X, _ = mixture(len(OWNERS), 19, seed=8)
GONE = (0, 3, 4, 5)
HEAD = random_head(19, seed=5)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return make_part_pool(tmp_path_factory.mktemp("parts") / "pool", X, OWNERS, chunk_rows=40, missing=GONE)


def rows_by_owner() -> dict[int, list[int]]:
    """The rows of each owner that are there, by the id of the owner."""
    found: dict[int, list[int]] = {}
    for row, owner in enumerate(OWNERS):
        if row not in GONE:
            found.setdefault(row if owner is None else OWNERS.index(owner), []).append(row)
    return found


def fleet_of(pool: Pool, partitions: int = 3) -> LocalFleet:
    return LocalFleet(plan_partitions(pool, partitions))


def seen(partition: Partition) -> tuple[np.ndarray, np.ndarray]:
    return partition.ids, partition.gather(np.arange(len(partition)))


def all_seen(fleet: LocalFleet) -> tuple[np.ndarray, np.ndarray]:
    ids, vectors = zip(*fleet.each(seen), strict=True)
    return np.concatenate(ids), np.concatenate(vectors)


def entropies() -> np.ndarray:
    """The score of every part, by its definition."""
    return score("entropy", probabilities(X.astype(np.float16).astype(np.float64), HEAD.weight, HEAD.bias))


def rounded(vector: np.ndarray) -> np.ndarray:
    return vector.astype(np.float32).astype(np.float16)


@pytest.mark.parametrize("partitions", [1, 2, 5, 300])
def test_a_cut_never_lies_inside_an_owner(pool, partitions):
    specs = plan_partitions(pool, partitions)
    assert [spec.start for spec in specs[1:]] == [spec.stop for spec in specs[:-1]]
    assert specs[0].start == 0
    assert specs[-1].stop == len(pool)
    ids = np.concatenate([chunk.ids() for chunk in pool.chunks])
    for spec in specs[:-1]:
        if 0 < spec.stop < len(ids):
            before, after = OWNERS[ids[spec.stop - 1]], OWNERS[ids[spec.stop]]
            assert before is None or before != after


@pytest.mark.parametrize("kept", [0, 2**28])
@pytest.mark.parametrize("read", [7, 2**14])
def test_the_vector_of_an_owner_is_the_mean_of_its_parts(kept, read, pool, monkeypatch):
    monkeypatch.setattr(module, "KEPT_BYTES", kept)
    monkeypatch.setattr(module, "PARTS_READ", read)
    fleet = fleet_of(pool)
    fleet.each(use_owners)
    ids, vectors = all_seen(fleet)
    wanted = rows_by_owner()
    assert ids.tolist() == sorted(wanted)
    for id, vector in zip(ids.tolist(), vectors, strict=True):
        mean = X[wanted[id]].astype(np.float16).astype(np.float64).sum(0) / len(wanted[id])
        assert np.array_equal(vector, rounded(mean))


@pytest.mark.parametrize("features", ["weighted_mean", "best_part"])
def test_scores_of_parts_decide_what_stands_for_an_owner(features, pool):
    fleet = fleet_of(pool)
    fleet.each(use_owners)
    inputs = score_inputs(HEAD, ("entropy",))
    fleet.each(look_by_score, features, None, inputs, "entropy", 3)
    ids, vectors = all_seen(fleet)
    scores = entropies()
    for id, vector in zip(ids.tolist(), vectors, strict=True):
        rows = rows_by_owner()[id]
        if features == "best_part":
            assert np.array_equal(vector, X[rows[int(np.argmax(scores[rows]))]].astype(np.float16))
        else:
            mean = (scores[rows, None] * X[rows]).sum(0) / scores[rows].sum()
            assert np.allclose(vector.astype(np.float64), mean, atol=2e-3)


def test_with_no_score_above_zero_the_parts_count_alike(pool, monkeypatch):
    (partition,) = fleet_of(pool, 1)._partitions
    use_owners(partition)
    plain = seen(partition)[1]
    owners = partition.owners
    partition.use_owners(module.Owners(owners.ids, owners.begins, weights=np.zeros(owners.begins[-1])))
    assert np.allclose(seen(partition)[1].astype(np.float32), plain.astype(np.float32), atol=2e-3)


def test_a_hidden_layer_sees_owners_and_reset_brings_the_parts_back(pool):
    rng = np.random.default_rng(0)
    layer = HiddenLayer(weight=rng.normal(size=(6, 19)), bias=rng.normal(size=6))
    fleet = fleet_of(pool, 2)
    before = all_seen(fleet)
    fleet.each(use_owners)
    plain = all_seen(fleet)[1]
    fleet.each(use_features, layer)
    assert np.array_equal(all_seen(fleet)[1], layer.see(plain))
    norms = np.concatenate([part.sq_norms().numpy() for part in fleet._partitions])
    assert np.allclose(norms, (layer.see(plain).astype(np.float32) ** 2).sum(1), rtol=1e-5)
    fleet.reset()
    after = all_seen(fleet)
    assert all(map(np.array_equal, before, after))
    assert all(part.available.all() and len(part.available) == len(part) for part in fleet._partitions)


def test_norms_are_those_of_what_is_seen_now(pool):
    (partition,) = fleet_of(pool, 1)._partitions
    plain = partition.sq_norms().clone()
    for _ in range(2):
        use_owners(partition)
        wanted = (seen(partition)[1].astype(np.float32) ** 2).sum(1)
        assert np.allclose(partition.sq_norms().numpy(), wanted, rtol=1e-5)
        look_by_score(partition, "best_part", None, score_inputs(HEAD, ("entropy",)), "entropy", 3)
        best = (seen(partition)[1].astype(np.float32) ** 2).sum(1)
        assert np.allclose(partition.sq_norms().numpy(), best, rtol=1e-5)
        assert not np.allclose(best, wanted)
        partition.reset()
        assert np.array_equal(partition.sq_norms(), plain)


def test_masks_follow_the_rows(pool):
    (partition,) = fleet_of(pool, 1)._partitions
    wanted = rows_by_owner()
    whole, some = list(wanted)[3], list(wanted)[4]
    exclude(partition, np.array([*wanted[whole], *wanted[some][:-1]]))
    assert use_owners(partition) == len(wanted) - 1  # one whose every part is out
    assert not partition.available[partition.rows_of(np.array([whole]))].any()
    exclude(partition, np.array([some]))
    assert keep(partition, partition.ids[:20]) == 18
    look_by_score(partition, "best_part", None, score_inputs(HEAD, ("entropy",)), "entropy", 3)
    assert len(partition.candidates()) == 18  # other vectors, the same owners
    assert exclude_before(partition, int(partition.ids[10])) == len(wanted) - 10
    partition.use_owners(None)
    assert partition.available.sum() == len(partition) - len(wanted[whole]) - len(wanted[some]) + 1


def test_a_sweep_scores_the_parts_of_owners(pool):
    request = SweepRequest(scores=("entropy",), top=9, ties=4)
    scores = entropies()
    wanted = {id: max(scores[rows]) for id, rows in rows_by_owner().items()}
    found = []
    for partitions in (1, 4):
        fleet = fleet_of(pool, partitions)
        fleet.each(use_owners, Max())
        swept = sweep(fleet, HEAD, request)
        assert swept.rows == len(wanted)
        assert swept.histograms["entropy"].sum() == len(wanted)
        assert swept.class_counts.sum() == len(wanted)
        found.append(swept.top["entropy"])
    assert all(map(np.array_equal, *found))
    ids, values = found[0]
    assert np.allclose(values, sorted(wanted.values(), reverse=True)[:9], rtol=1e-5)
    assert np.allclose(values, [wanted[id] for id in ids.tolist()], rtol=1e-5)


@pytest.mark.parametrize("each", [1, 3])
def test_the_best_available_parts_of_each_owner_are_left(each, pool):
    scores = entropies()
    out = {rows[0] for rows in rows_by_owner().values()}
    wanted = set()
    for rows in rows_by_owner().values():
        left = [row for row in rows if row not in out]
        wanted |= set(sorted(left, key=lambda row: -scores[row])[:each])
    fleet = fleet_of(pool)
    fleet.each(exclude, np.array(sorted(out)))
    inputs = score_inputs(HEAD, ("entropy",))
    assert sum(fleet.each(offer_best_parts, each, inputs, "entropy", 1)) == len(wanted)
    left = np.concatenate([part.ids[part.available] for part in fleet._partitions])
    assert set(left.tolist()) == wanted
