"""Law 7: what reaches the driver does not grow with the pool.

Judged by what crosses the border, not by resident memory, which a test cannot hold still: every reply of every
partition is weighed while a session runs over a small pool and over one four times as large. benchmarks/memory.py
measures the resident memory of a real driver.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pools import make_pool, mixture

from raysal.fleet import LocalFleet, plan_partitions
from raysal.pool import Pool
from raysal.rounds.session import Session


class WeighingFleet(LocalFleet):
    """Keeps the size of the heaviest round trip, both ways."""

    heaviest = 0

    def each(self, fn: Callable[..., Any], *args: Any) -> list[Any]:
        replies = super().each(fn, *args)
        self.heaviest = max(self.heaviest, len(pickle.dumps(replies)), len(pickle.dumps(args)))
        return replies


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pool, Pool]:
    """Of some rows, and of four times as many."""
    root, made = tmp_path_factory.mktemp("pools"), []
    for rows in (1500, 6000):
        vectors, labels = mixture(rows, 16)
        made.append(make_pool(root / str(rows), vectors, chunk_rows=500, labels=labels))
    return made[0], made[1]


def heaviest_reply(folder: Path, pool: Pool, select: str | dict[str, Any], narrow: dict[str, Any]) -> int:
    with (
        WeighingFleet(plan_partitions(pool, 2)) as fleet,
        Session(
            folder / f"run-{len(pool)}",
            pool,
            fleet=fleet,
            select=select,
            narrow=narrow,
            oracle="simulated",
            start={"name": "typiclust", "sample": 300},
        ) as session,
    ):
        for _ in range(2):
            session.ask_oracle(session.query(20))
        session.query(20)
        return fleet.heaviest


@pytest.mark.parametrize(
    ("select", "narrow"),
    [
        ("badge", {"name": "anchoral", "anchors": 5, "subpool": 300, "explore": 50}),
        ("coreset", {"name": "none"}),
        ("top_score", {"name": "top_score", "size": 400}),
        ("random", {"name": "uniform", "size": 400}),
        ("random", {"name": "refine", "subset": 300, "batches": 1, "members": ["random", "top_score", "badge"]}),
        ("random", {"name": "filter", "inner": {"name": "mixed", "size": 400}, "outliers": "knn", "duplicates": 0.99}),
        ("bait", {"name": "none"}),
        ("falcun", {"name": "none"}),
        ("lcmd", {"name": "none"}),
        ({"name": "ldm", "directions": 20}, {"name": "none"}),
        ("power_bald", {"name": "none"}),
        ({"name": "class_balanced", "of": "random"}, {"name": "none"}),
        ("skip_extremes", {"name": "none"}),
        ({"name": "drop_query", "max_candidates": 300}, {"name": "none"}),
        ({"name": "probcover", "max_candidates": 300}, {"name": "none"}),
    ],
)
def test_replies_do_not_grow_with_the_pool(
    tmp_path: Path, pools: tuple[Pool, Pool], select: str | dict[str, Any], narrow: dict[str, Any]
) -> None:
    small, large = (heaviest_reply(tmp_path, pool, select, narrow) for pool in pools)
    assert large <= 1.1 * small
