"""What comparing a pool will cost is seen in a sample of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pools import make_pool, mixture

import raysal
from raysal.curation.base import Speed
from raysal.curation.near.foreseen import foreseen
from raysal.curation.order import check_threshold
from raysal.curation.steps.near import Near
from raysal.types import Metric

SPEED = Speed(products=1e10, rows=1e6)


@pytest.mark.parametrize(("metric", "thresholds"), [("cosine", (0.6, 0.9, 0.99)), ("l2", (6.0, 2.0, 0.5))])
def test_a_small_pool_is_seen_whole(tmp_path: Path, metric: Metric, thresholds: tuple[float, ...]) -> None:
    vectors = mixture(300, 8)[0]
    vectors[200:] = vectors[:100] + 0.01
    pool = make_pool(tmp_path / "pool", vectors, chunk_rows=64, metric=metric)
    shares = []
    for threshold in thresholds:
        seen = foreseen(pool, check_threshold(threshold, pool))
        assert seen is not None
        found = np.concatenate([chunk.vectors() for chunk in pool.chunks]).astype(np.float64)
        if metric == "cosine":
            found /= np.linalg.norm(found, axis=1, keepdims=True)
            near = found @ found.T >= threshold
        else:
            near = np.linalg.norm(found[:, None] - found, axis=2) / pool.scale <= threshold
        assert seen.near == pytest.approx((near.sum() - 300) / (300 * 299), abs=3e-5)
        assert seen.near <= seen.share <= 1
        shares.append(seen)
    assert shares == sorted(shares, reverse=True)
    assert shares[0].share > shares[-1].share


def test_near_pairs_take_time_and_few_items_have_none(tmp_path: Path) -> None:
    vectors = mixture(2000, 8)[0]
    rng = np.random.default_rng(0)
    apart = make_pool(tmp_path / "apart", rng.normal(size=(2000, 8)).astype(np.float32))
    alike = make_pool(tmp_path / "alike", 5 + 0.1 * rng.normal(size=(2000, 8)).astype(np.float32))
    times = [Near(threshold=0.99).forecast(pool, 2000, SPEED).seconds for pool in (apart, alike)]
    assert times[1] > 5 * times[0]
    few = make_pool(tmp_path / "few", 5 + 0.1 * rng.normal(size=(300, 8)).astype(np.float32))
    before = Near(threshold=0.99).forecast(few, 300, SPEED).seconds
    raysal.dedup(few, threshold=0.99)
    assert Near(threshold=0.99).forecast(few, 300, SPEED).seconds < before / 5
    alone = make_pool(tmp_path / "alone", vectors[:1])
    assert foreseen(alone, 0.9) is None
    assert Near().forecast(alone, 1, SPEED).seconds < 0.1
