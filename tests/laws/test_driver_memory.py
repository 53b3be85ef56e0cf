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
from raysal.narrowing import NARROWERS
from raysal.pool import Pool
from raysal.rounds.session import Session
from raysal.strategies import SELECTORS
from raysal.strategies.information import bait


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


def heaviest_reply(folder: Path, pool: Pool, select: dict[str, Any], narrow: dict[str, Any]) -> int:
    with (
        WeighingFleet(plan_partitions(pool, 2)) as fleet,
        Session(
            folder / f"run-{len(pool)}",
            pool,
            fleet=fleet,
            select=select,
            narrow=narrow,
            oracle="simulated",
            target=["class-1"],
            start={"name": "typiclust", "max_candidates": 300},
            update={"trainer": {"name": "logistic", "l2": 1.0}},  # given, as to choose it is half of a round
        ) as session,
    ):
        for _ in range(2):
            session.ask_oracle(session.query(20))
        session.query(20)
        return fleet.heaviest


BOUNDED: dict[str, dict[str, Any]] = {
    "alfa_mix": {"max_candidates": 300},
    "batch_bald": {"max_candidates": 300, "draws": 16, "configurations": 50},
    "class_balanced": {"of": "random"},
    "clue": {"max_candidates": 300},
    "drop_query": {"max_candidates": 300},
    "epig": {"targets": 20, "draws": 8},
    "fantasy": {"of": "top_score", "every": 10},
    "isal": {"sample": 300},
    "ldm": {"directions": 20},
    "max_herding": {"max_candidates": 300, "max_represented": 300},
    "novelty": {"by": {"name": "knn", "sample": 300}},
    "probcover": {"max_candidates": 300},
    "reveal": {"of": "top_score", "every": 10},
    "search": {"by": {"name": "knn", "sample": 300}},
    "typiclust": {"max_candidates": 300},
    "u_herding": {"max_candidates": 300, "max_represented": 300},
}
"""Bounds that bind on the small pool already, of strategies that bring candidates into the driver."""
NARROW: dict[str, dict[str, Any]] = {
    "anchoral": {"anchors": 5, "subpool": 300, "explore": 50},
    "filter": {"inner": {"name": "mixed", "size": 400}, "outliers": "knn", "duplicates": 0.99},
    "mixed": {"size": 400},
    "novelty": {"size": 400, "by": {"name": "knn", "sample": 300}},
    "refine": {"subset": 300, "batches": 1, "members": ["random", "top_score", "badge"]},
    "seals": {"neighbours": 3},
    "top_score": {"size": 400},
    "uniform": {"size": 400},
}


def check(folder: Path, pools: tuple[Pool, Pool], select: dict[str, Any], narrow: dict[str, Any]) -> None:
    small, large = (heaviest_reply(folder, pool, select, narrow) for pool in pools)
    assert large <= 1.1 * small


@pytest.mark.parametrize("name", sorted(SELECTORS))
def test_replies_to_a_strategy_do_not_grow_with_the_pool(
    tmp_path: Path, pools: tuple[Pool, Pool], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(bait, "DRIVER_NUMBERS", 300 * 16)  # candidates that bait takes into the driver, at most
    check(tmp_path, pools, {"name": name, **BOUNDED.get(name, {})}, {"name": "none"})


@pytest.mark.parametrize("name", sorted(NARROWERS))
def test_replies_to_a_narrower_do_not_grow_with_the_pool(tmp_path: Path, pools: tuple[Pool, Pool], name: str) -> None:
    check(tmp_path, pools, {"name": "random"}, {"name": name, **NARROW.get(name, {})})
