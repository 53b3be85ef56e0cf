"""k-means on a fleet and the tree: as a slow one, the same for any cut of the pool, and kept as it goes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pools import make_pool, mixture
from tiers import deep

from raysal.config import FleetConfig
from raysal.curation.base import Work
from raysal.curation.job import ids_of
from raysal.curation.tree import kmeans, levels
from raysal.curation.tree.files import Tree
from raysal.curation.tree.kmeans import SHARES, bits_of, first_centroids, iterations
from raysal.curation.tree.levels import Levels, cluster_centroids, nearest_of, tree_of
from raysal.curation.tree.nearest import NearestCentroid
from raysal.errors import Damaged, PoolError
from raysal.fleet import Partition, open_fleet
from raysal.numerics import one_thread, round_up
from raysal.pool import Pool
from raysal.rng import derive, item_order
from raysal.types import Metric

N, DIM = 420, 12


def rows(seed: int = 0, n: int = N) -> NDArray[np.float32]:
    return mixture(n, DIM, classes=9, seed=seed)[0]


def tree(
    pool: Pool, folder: Path, clusters: tuple[int, ...] = (40, 8), *, dropped: int = 0, key: int = 3, **fleet: Any
) -> Tree:
    """The tree of a pool, whose first items were dropped before."""
    folder.mkdir(exist_ok=True)
    ids = ids_of(pool)
    with open_fleet(pool, FleetConfig(**{"backend": "local", **fleet})) as opened:
        work = Work(pool=pool, fleet=opened, ids=ids, left=np.arange(len(ids)) >= dropped, folder=folder, key=key)
        return tree_of(work, Levels.of(len(work.ids_left), clusters, 3))


def same(one: Tree, other: Tree) -> bool:
    pairs = zip((one.sq_distance, *one.levels()), (other.sq_distance, *other.levels()), strict=True)
    return all(np.array_equal(*pair) for pair in pairs)


def slow_centroids(x: NDArray[np.float64], ids: NDArray[np.int64], k: int, key: int) -> NDArray[np.float64]:
    """k-means over all rows and some of them, in double precision, where no cluster is ever empty."""
    first = np.argsort(item_order(derive(key, "first"), ids))[:k]
    centroids = x[np.sort(first)]
    hashes = item_order(derive(key, "rows"), ids)
    for share in SHARES:
        own = x[np.argsort(hashes)[: int(np.ceil(share * len(x)))]]
        nearest = ((own[:, None] - centroids) ** 2).sum(2).argmin(1)
        assert len(np.unique(nearest)) == k
        centroids = np.stack([own[nearest == c].mean(0) for c in range(k)])
    return centroids


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_centroids_are_those_of_a_slow_k_means(tmp_path: Path, metric: Metric) -> None:
    pool = make_pool(tmp_path / "pool", rows(), chunk_rows=64, missing=[5, 77], metric=metric)
    x = np.concatenate([chunk.vectors() for chunk in pool.chunks]).astype(np.float64)
    if metric == "cosine":
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    ids, k, key = ids_of(pool), 5, 12
    with open_fleet(pool, FleetConfig(backend="local", partitions=3)) as fleet:
        centroids = first_centroids(fleet, metric, ids, k, derive(key, "first"))
        *_, centroids = iterations(fleet, metric, ids, centroids, key, begin=fleet.reset)
    wanted = slow_centroids(x, ids, k, key)
    assert np.abs(centroids - wanted).max() < 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("partitions", [2, 5])
@pytest.mark.parametrize("chunk_rows", [33, 64])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_nothing_depends_on_partitions_and_chunks(
    tmp_path: Path, partitions: int, chunk_rows: int, metric: Metric
) -> None:
    x = rows(1)
    one = tree(make_pool(tmp_path / "one", x, metric=metric), tmp_path / "a", dropped=50)
    pool = make_pool(tmp_path / "other", x, chunk_rows=chunk_rows, metric=metric)
    assert same(tree(pool, tmp_path / "b", dropped=50, partitions=partitions), one)
    assert len(one.cluster) == N - 50
    assert [len(np.unique(level)) for level in one.levels()] == [8, 40]


def test_nothing_depends_on_threads_and_on_the_screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = make_pool(tmp_path / "pool", rows(2, 9000), chunk_rows=5000)
    found = []
    for threads, screen in ((1, True), (2, False), (3, True)):
        monkeypatch.setattr("raysal.curation.tree.nearest.halves_pay", lambda screen=screen: screen)
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            found.append(tree(pool, tmp_path / f"{threads}", (150, 10)))
        finally:
            torch.set_num_threads(before)
    assert same(found[0], found[1])
    assert same(found[0], found[2])


@deep
def test_ray_makes_the_same_tree(tmp_path: Path, ray_session: None) -> None:
    pool = make_pool(tmp_path / "pool", rows(3), chunk_rows=64)
    assert same(tree(pool, tmp_path / "b", backend="ray", partitions=2), tree(pool, tmp_path / "a"))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
@pytest.mark.parametrize("offset", [0.0, 50.0])
@pytest.mark.parametrize("k", [1, 255, 700])
def test_the_nearest_centroid_is_that_of_all_products(scale: float, offset: float, k: int) -> None:
    rng = np.random.default_rng(k)
    centroids = (scale * (rng.standard_normal((k, 40)) * rng.pareto(2, (k, 1)) + offset)).astype(np.float32)
    x = centroids[rng.integers(k, size=900)] + scale * rng.choice([0, 0.1, 1], (900, 1)) * rng.standard_normal(
        (900, 40)
    )
    wide = torch.zeros(900, round_up(40))
    wide[:, :40] = torch.from_numpy(x.astype(np.float32))
    with one_thread():
        which, sq_distance = NearestCentroid(centroids, 48, screen=False).of(wide)
        screened = NearestCentroid(centroids, 48, screen=True).of(wide)
    assert torch.equal(which, screened[0])
    assert torch.equal(sq_distance, screened[1])
    exact = ((wide[:, None, :40].numpy().astype(np.float64) - centroids) ** 2).sum(2)
    loss = exact[np.arange(900), which] - exact.min(1)
    assert loss.max() <= 1e-5 * (centroids.astype(np.float64).std(0) ** 2).sum() + 1e-5 * exact.max()
    assert np.abs(sq_distance.numpy() - exact.min(1)).max() <= 1e-5 * exact.max() + 1e-6 * (scale * offset) ** 2


def test_of_equal_centroids_the_first_is_the_nearest() -> None:
    x = np.random.default_rng(0).standard_normal((600, 16)).astype(np.float32)
    for screen in (False, True):
        which, _ = NearestCentroid(np.concatenate([x, x]), 16, screen=screen).of(torch.from_numpy(x))
        assert which.tolist() == list(range(600))


@pytest.mark.parametrize("kind", ["equal", "zero", "few", "one", "cosine zeros"])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_pools_with_fewer_distinct_rows_than_clusters(tmp_path: Path, kind: str, metric: Metric) -> None:
    x = {
        "equal": np.full((90, DIM), 0.3),
        "zero": np.zeros((90, DIM)),
        "few": rows(4, 5)[np.arange(90) % 5],
        "one": rows(4, 1),
        "cosine zeros": np.concatenate([np.zeros((40, DIM)), rows(4, 3)[np.arange(50) % 3]]),
    }[kind]
    distinct = {"equal": 1, "zero": 1, "few": 5, "one": 1, "cosine zeros": 4}[kind]
    found = tree(make_pool(tmp_path / "pool", x, metric=metric), tmp_path / "a", (20, 6), partitions=2)
    assert len(np.unique(found.cluster)) == distinct
    for level in found.levels():
        assert np.bincount(level).min() > 0
    assert found.sq_distance.max() < 1e-5


def test_a_centroid_without_rows_moves_to_a_far_row(tmp_path: Path) -> None:
    """All of the first centroids are copies of one row: the others are found on the way."""
    x = np.repeat(rows(5, 6), 30, axis=0)
    pool = make_pool(tmp_path / "pool", x, metric="l2")
    with open_fleet(pool, FleetConfig(backend="local")) as fleet:
        first = np.repeat(x[:1], 6, axis=0)
        *_, found = iterations(fleet, "l2", ids_of(pool), first, 1, begin=fleet.reset)
    assert np.abs(np.sort(found, 0) - np.sort(x[::30], 0)).max() < 1e-4


def test_sums_cannot_overflow() -> None:
    for metric, largest in (("cosine", 1.0), ("l2", 65504.0)):
        for n in (1, 1000, 2**31):
            assert n * largest * 2.0 ** bits_of(metric, n) < 2**63
        assert bits_of(metric, 4_000_000) >= 24


class Stop(Exception):
    pass


@pytest.mark.parametrize("at", [0, 4, 10])
def test_an_interrupted_tree_goes_on_and_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    pool = make_pool(tmp_path / "pool", rows(6), chunk_rows=64)
    whole = tree(pool, tmp_path / "whole")
    real, seen = kmeans._visit, []

    def stopping(*args: Any) -> None:
        if len(seen) == at:
            raise Stop
        seen.append(args)
        real(*args)

    monkeypatch.setattr(kmeans, "_visit", stopping)
    with pytest.raises(Stop):
        tree(pool, tmp_path / "part")
    monkeypatch.setattr(kmeans, "_visit", lambda *args: (seen.append(args), real(*args)))
    assert same(tree(pool, tmp_path / "part", partitions=2), whole)
    assert len(seen) == at + 2 * (len(SHARES) + 1 - at)  # each pass once, of two partitions from then on
    names = sorted(path.name for path in (tmp_path / "part").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "whole").iterdir()) == [
        "items.arrow", "level-1.arrow", "tree.json",
    ]  # fmt: skip
    for name in names:
        assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    monkeypatch.setattr(kmeans, "_visit", stopping)  # which would stop, or count
    assert same(tree(pool, tmp_path / "part"), whole)


def test_a_tree_of_something_else_is_not_read(tmp_path: Path) -> None:
    pool = make_pool(tmp_path / "pool", rows(7))
    for change in ({"clusters": (30, 8)}, {"dropped": 9}, {"key": 4}):
        shutil.rmtree(tmp_path / "fresh", ignore_errors=True)
        tree(pool, tmp_path / "kept")
        assert same(tree(pool, tmp_path / "kept", **change), tree(pool, tmp_path / "fresh", **change))


@pytest.mark.parametrize("name", ["items.arrow", "level-1.arrow", "tree.json", "centroids-10.arrow", "going.json"])
def test_a_damaged_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pool = make_pool(tmp_path / "pool", rows(8))
    if name in ("centroids-10.arrow", "going.json"):

        def stop(*args: Any) -> None:
            raise Stop

        monkeypatch.setattr(levels, "assigned", stop)
        with pytest.raises(Stop):
            tree(pool, tmp_path / "a")
        monkeypatch.undo()
    else:
        tree(pool, tmp_path / "a")
    victim = tmp_path / "a" / name
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    with pytest.raises(Damaged, match=f"{name}.*delete"):
        tree(pool, tmp_path / "a")


def test_a_vector_that_is_not_finite_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Partition.fill

    def spoilt(self: Partition, out: torch.Tensor, wanted: NDArray[np.int64]) -> None:
        whole(self, out, wanted)
        out[np.flatnonzero(self.ids[wanted] == 33)] = np.nan

    monkeypatch.setattr(Partition, "fill", spoilt)
    with pytest.raises(PoolError, match="item 33: its vector is not finite"):
        tree(make_pool(tmp_path / "pool", rows(9)), tmp_path / "a")


def slow_levels(x: NDArray[np.float32], k: int, rounds: int, key: int) -> list[int]:
    """Centroids that are clustered, and resampled, one cluster after the other."""
    centroids = levels.k_means(x, k, derive(key, "all")).centroids.astype(np.float32)
    which = nearest_of(x, centroids)[0]
    for number in range(rounds):
        chosen: list[int] = []
        for c in range(k):
            own = np.flatnonzero(which == c).tolist()
            far = {row: float(((x[row] - centroids[c]).astype(np.float64) ** 2).sum()) for row in own}
            chosen += sorted(own, key=lambda row: far[row])[: len(x) // (2 * k)]
        centroids = levels.k_means(x[sorted(chosen)], k, derive(key, number)).centroids.astype(np.float32)
        which = nearest_of(x, centroids)[0]
    return which.tolist()


def test_upper_levels_are_resampled_as_in_the_paper() -> None:
    """Clusters spread over what there is: a dense blob has fewer of them than by plain k-means."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.standard_normal((400, 2)), 8 * rng.standard_normal((40, 2))]).astype(np.float32)
    which, centroids = cluster_centroids(x, 12, 4, 5)
    assert which.tolist() == slow_levels(x, 12, 4, 5)
    plain = cluster_centroids(x, 12, 0, 5)[1]
    inside, before = ((np.linalg.norm(c, axis=1) < 3).sum() for c in (centroids, plain))
    assert inside < before


def test_default_levels() -> None:
    assert Levels.of(1_000_000, None, 10).clusters == (10_000, 1000, 100, 10)
    assert Levels.of(5000, None, 10).clusters == (500, 50)
    assert Levels.of(9, None, 10).clusters == (1,)
    assert Levels.of(7, (20, 5), 10).clusters == (7, 5)


def test_many_clusters_without_rows_are_filled_alike_on_any_fleet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a partition offers rows for: what several offer together is more than what one does."""
    monkeypatch.setattr(kmeans, "SPARE", 16)
    x = np.ones((600, DIM), np.float32)
    x[::4] = rows(n=150)
    pool = make_pool(tmp_path / "pool", x, chunk_rows=64)
    one = tree(pool, tmp_path / "one", (120, 8))
    for partitions in (2, 5):
        assert same(one, tree(pool, tmp_path / f"{partitions}", (120, 8), partitions=partitions))
