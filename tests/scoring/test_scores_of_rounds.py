"""Scores that compare with the head of the round before, in rounds: handed on everywhere, and done without at first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pools import make_pool, mixture
from programs import labelled_of, local, random_head, task_of

import raysal
from raysal.config import choice
from raysal.models.head import Head
from raysal.narrowing import NARROWERS
from raysal.pool import Pool
from raysal.rounds.session import Session

FIELDS: dict[str, Any] = {
    "select": {"name": "top_score", "score": "tod"},
    "narrow": {"name": "top_score", "score": "tod", "size": 90},
    "oracle": {"name": "simulated"},
    "rounds": {"count": 5, "k": 8},
    "fleet": {"backend": "local"},
}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    vectors, labels = mixture(260, 9)
    return make_pool(tmp_path_factory.mktemp("rounds") / "pool", vectors, chunk_rows=90, labels=labels)


def rounds(pool: Pool, out: Path, count: int, **fields: Any) -> list[tuple[str, list[str], dict[str, Any]]]:
    """(rule, reasons, batch) of every round, each in a session of its own."""
    found = []
    for round in range(count):
        with Session(out, pool=pool if round == 0 else None, **({**FIELDS, **fields} if round == 0 else {})) as session:
            batch = session.query()
            table = batch.table.to_pydict()
            found.append((session.record(round)["narrow"], table["reason"], table))
            session.ask_oracle(batch)
    return found


def test_rounds_compare_with_the_last_head_and_the_first_with_none(pool: Pool, tmp_path: Path) -> None:
    cold, first, second, third = rounds(pool, tmp_path / "run", 4)
    assert "no head yet" in cold[0]
    assert "by entropy, as tod needs" in first[0]
    assert all(reason.startswith("entropy") and "as tod needs" in reason for reason in first[1])
    for rule, reasons, _ in (second, third):
        assert "by tod" in rule
        assert all(reason.startswith("tod") and "needs" not in reason for reason in reasons)
    with Session(tmp_path / "whole", pool=pool, **FIELDS) as session:
        for _, _, table in (cold, first, second, third):
            batch = session.query()
            assert batch.table.to_pydict() == table, "one session and one for each round choose the same"
            session.ask_oracle(batch)


def test_a_strategy_around_others_hands_it_on(pool: Pool, tmp_path: Path) -> None:
    select = {"name": "skip_extremes", "of": "random", "score": "tod"}
    _, first, second = rounds(pool, tmp_path / "run", 3, select=select, narrow={"name": "none"})
    assert all("entropy quantiles" in reason and "as tod needs" in reason for reason in first[1])
    assert all("tod quantiles" in reason and "needs" not in reason for reason in second[1])


def test_a_narrower_that_asks_strategies_hands_it_on(pool: Pool) -> None:
    fleet = local(pool, 2)
    task = task_of(fleet, labelled_of(np.zeros((1, 9)), ["class-0"], []), head=random_head(9), k=5, available=260)

    def found(score: str, previous: Head | None) -> list[int]:
        members = [{"name": "top_score", "score": score}]
        narrower = choice({"name": "refine", "members": members, "rounds": 1, "subset": 100}).build("narrow", NARROWERS)
        _, narrowed = narrower.narrow(fleet, replace(task, previous=previous))
        assert narrowed.ids is not None
        return sorted(narrowed.ids.tolist())

    earlier = random_head(9, seed=1)
    assert found("tod", None) == found("entropy", None) == found("entropy", earlier)
    assert found("tod", earlier) != found("tod", None)


def test_labels_without_a_history_are_enough(pool: Pool) -> None:
    labels = {f"item-{i:06d}": f"class-{i % 3}" for i in range(12)}
    top_score = {"name": "top_score", "score": "tod"}
    chosen = raysal.select(pool, k=6, strategy=top_score, labels=labels, narrow={**top_score, "size": 60})
    plain = raysal.select(pool, k=6, strategy={"name": "top_score", "score": "entropy"}, labels=labels)
    assert chosen["key"].to_pylist() == plain["key"].to_pylist()
    assert all("as tod needs" in reason for reason in chosen["reason"].to_pylist())
