"""The step near: only what is left can be kept, whatever found it; clusters say what they found, truly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_tools import cli
from near_rows import N, run, slow, vectors_with_copies
from pools import make_pool

import raysal
from raysal.config import FleetConfig
from raysal.curation import dedup
from raysal.curation.base import Speed, StepResult, Work
from raysal.curation.near.pairs import TooManyPairs
from raysal.curation.steps.near import Near
from raysal.errors import ConfigError
from raysal.fleet import open_fleet
from raysal.pool import Pool
from raysal.sources.memory import Memory
from raysal.types import Metric

SPEED = Speed(products=1e8, rows=1e6)


def applied(pool: Pool, folder: Path, left: Any = None, **fields: Any) -> StepResult:
    ids = np.concatenate([chunk.ids() for chunk in pool.chunks])
    folder.mkdir(exist_ok=True)
    step = Near(**fields)
    step.check(pool)
    with open_fleet(pool, FleetConfig(backend="local", partitions=2)) as fleet:
        left = np.ones(len(ids), bool) if left is None else left
        return step.apply(Work(pool=pool, fleet=fleet, ids=ids, left=left, folder=folder, key=0))


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("listed", [True, False])
def test_only_what_is_left_is_dropped_or_kept(
    tmp_path: Path, metric: Metric, listed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, threshold = vectors_with_copies(0), {"cosine": 0.9, "l2": 1.5}[metric]
    pool = make_pool(tmp_path / "pool", rows, metric=metric, chunk_rows=64)
    left = np.random.default_rng(0).random(N) < 0.6
    if not listed:

        def too_many(*args: Any, **options: Any) -> Any:
            raise TooManyPairs

        monkeypatch.setattr(dedup, "find_near_pairs", too_many)
    found = applied(pool, tmp_path / "step", left, threshold=threshold)
    alone = make_pool(tmp_path / "alone", rows[left], metric=metric, keys=[f"{i}" for i in np.flatnonzero(left)])
    wanted = {
        int(key): int(near) for key, (kept, near) in slow(alone, threshold, list(range(left.sum()))).items() if not kept
    }
    assert dict(zip(found.ids.tolist(), found.nearest.tolist(), strict=True)) == wanted
    assert len(wanted) > 10
    assert (found.value >= threshold).all() if metric == "cosine" else (found.value <= threshold).all()
    sizes = np.unique(found.nearest, return_counts=True)[1] + 1
    assert found.facts["group_sizes"] == {str(size): int((sizes == size).sum()) for size in np.unique(sizes)}
    assert (tmp_path / "step" / "plan.json").exists() != listed
    again = applied(pool, tmp_path / "step", ~left, threshold=threshold)
    assert not left[again.ids].any()
    assert len(applied(pool, tmp_path / "step", np.zeros(N, bool), threshold=threshold)) == 0


def test_items_near_to_another_pool_have_a_reason_of_their_own(tmp_path: Path) -> None:
    rows = vectors_with_copies(1)
    pool = make_pool(tmp_path / "pool", rows[:200])
    other = make_pool(tmp_path / "other", rows[150:], keys=[f"other-{i}" for i in range(150, N)])
    found = applied(pool, tmp_path / "step", threshold=0.9, against=str(other.path))
    outside = found.reason == 1
    assert {*range(150, 200)} <= {*found.ids[outside].tolist()}
    assert (found.nearest[outside] == -1).all()
    assert found.listed is not None
    assert found.listed["id"].to_pylist() == found.ids[outside].tolist()
    assert found.listed["near_to"].to_pylist()[-50:] == [f"other-{i}" for i in range(150, 200)]
    assert found.facts["against"] == {"pool": other.place, "near": int(outside.sum())}


def test_the_command_prints_the_recall(tmp_path: Path) -> None:
    pool = make_pool(tmp_path / "pool", vectors_with_copies(3))
    asked = ("dedup", pool.path, "--mode", "clusters", "--threshold", 0.9, "-o")
    words = cli(*asked, tmp_path / "a.parquet").out
    assert "% of the items that are near to a kept one were found (" in words
    data = cli(
        "dedup", pool.path, "--mode", "clusters", "--threshold", 0.9, "-o", tmp_path / "b.parquet", "--json"
    ).json
    assert data["recall"]["low"] <= data["recall"]["share"] <= data["recall"]["high"]
    assert data["recall"]["near"] > 0
    (tmp_path / "plan.toml").write_text('[[steps]]\nname = "exact"\n[[steps]]\nname = "near"\nmode = "clusters"')
    planned = cli("curate", pool.path, "--config", tmp_path / "plan.toml", "-o", tmp_path / "c.parquet", "--json").json
    (told,) = planned["steps"][1]["notes"]
    again = cli("curate", pool.path, "--config", tmp_path / "plan.toml", "-o", tmp_path / "c.parquet").out
    assert f"\nnear: {told}\n" in again


def test_a_sample_without_near_items_says_nothing_of_the_recall(tmp_path: Path) -> None:
    pool = make_pool(tmp_path / "pool", np.eye(8, dtype=np.float32))
    words = cli("dedup", pool.path, "--mode", "clusters", "-o", tmp_path / "a.csv").out
    assert "%" not in words
    assert "none of a sample of 8 is near to a kept one" in words


def test_a_group_of_copies_and_a_pool_of_equal_vectors_leave_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysal.curation.near.job.PAIRS_AN_ITEM", 10)
    monkeypatch.setattr("raysal.curation.near.job.FEWEST_MOST", 10)
    rng = np.random.default_rng(0)
    for name, noise in (("jittered", 0.01), ("equal", 0.0)):
        rows = (np.ones((2000, 8)) + noise * rng.standard_normal((2000, 8))).astype(np.float32)
        for mode in ("exact", "clusters"):
            found = raysal.dedup(make_pool(tmp_path / f"{name}-{mode}", rows), threshold=0.99, mode=mode)
            assert found.dropped > 1980
            if mode == "exact":
                assert (found.kept, found.listed) == (1, name == "equal")


def test_forecasts_grow_with_the_pool_and_vanish_with_the_pairs(tmp_path: Path) -> None:
    small, large = (make_pool(tmp_path / f"{n}", vectors_with_copies(4, n)) for n in (50, 500))
    near = Near(threshold=0.9)
    seconds = [near.forecast(pool, len(pool), SPEED).seconds for pool in (small, large)]
    assert 0 < seconds[0] < seconds[1] / 5
    assert Near(threshold=0.99).forecast(large, 500, SPEED).seconds < seconds[1]
    run(large, 0.9, unit_rows=1000)
    assert near.forecast(large, 500, SPEED).seconds < seconds[1] / 2
    assert near.forecast(large, 500, SPEED).kept is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"threshold": 1.5}, "threshold"),
        ({"mode": "fast"}, "mode: unknown value 'fast'; use exact or clusters"),
        ({"prefer": "best"}, "prefer: unknown value 'best'"),
        ({"keep": "size"}, "keep: .* has no column 'size'"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    pool = make_pool(tmp_path / "pool", vectors_with_copies(5, 20))
    with pytest.raises(ConfigError, match=words):
        Near(**fields).check(pool)
    if "keep" not in fields:
        with pytest.raises(ConfigError, match=words):
            raysal.dedup(pool, **fields)


def test_distances_are_those_of_vectors_as_they_were_given(tmp_path: Path) -> None:
    """A pool of the metric l2 scales large numbers down, so that its own format holds them."""
    rows = (1e6 * np.random.default_rng(0).standard_normal((40, 8))).astype(np.float32)
    rows[1], rows[2] = rows[0], rows[0] + np.float32(3e5) * np.eye(8, dtype=np.float32)[0]
    pool = raysal.embed(Memory(vectors=rows, keys=[f"k{i:02d}" for i in range(40)]), out=tmp_path / "pool", metric="l2")
    assert pool.scale != 1
    found = raysal.curate(pool, {"name": "near", "threshold": 4e5}).steps[0].result
    assert found.ids.tolist() == [1, 2]
    assert found.value.tolist() == pytest.approx([0, 3e5], rel=1e-2)
    table = raysal.dedup(pool, threshold=4e5).table("dropped")
    assert table["distance"].to_pylist() == found.value.tolist()
