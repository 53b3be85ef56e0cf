"""What a search says of itself: what was found, at which price, and what is left, from its files alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_tools import cli
from pools import make_pool, mixture

import raysal
from raysal.pool import Pool
from raysal.rounds.session import Session
from raysal.rounds.tested import read_tests
from raysal.types import Label

N, TARGET = 500, "class-1"
ROUNDS = {"k": 20, "holdout": 0.4, "tests": 0.25}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    vectors, names = mixture(N, 8, classes=6)
    return make_pool(tmp_path_factory.mktemp("found") / "pool", vectors, chunk_rows=200, labels=names)


@pytest.fixture(scope="module")
def truth(pool: Pool) -> dict[str, str]:
    return {row["key"]: row["label"] for table in pool.items(["key", "label"]) for row in table.to_pylist()}


def search(pool: Pool, out: Path, **fields: Any) -> Session:
    return Session(out, pool, **{"select": "probability", "target": [TARGET], "rounds": ROUNDS, **fields})


def test_finds_are_counted_from_the_first_round(pool: Pool, truth: dict[str, str], tmp_path: Path) -> None:
    """Examples are known and not found; test draws and what people found by themselves count; so do corrections."""
    wanted = [key for key, name in truth.items() if name == TARGET]
    with search(pool, tmp_path / "run") as session:
        session.tell(dict.fromkeys(wanted[:3], TARGET))
        nothing = session.status().search
        assert nothing is not None
        assert (nothing.found, nothing.known, nothing.labels, nothing.since_find) == (0, 3, 0, 0)
        assert (nothing.precision, nothing.prevalence, nothing.left) == (None, None, None)
        given: dict[str, str] = {}
        for _ in range(3):
            batch = session.query()
            given |= {key: truth[key] for key in batch.keys}
            session.tell({key: truth[key] for key in batch.keys})
        free = next(key for key in wanted[3:] if key not in given)
        session.tell({free: TARGET})
        given[free] = TARGET
        found = session.status().search
        assert found is not None
        hits = sum(name == TARGET for name in given.values())
        assert (found.found, found.known, found.labels, found.since_find) == (hits, hits + 3, len(given), 0)
        assert found.precision == hits / len(given)
        others = [key for key, name in truth.items() if name != TARGET and key not in given]
        session.tell({key: truth[key] for key in others[:7]})
        assert session.status().search.since_find == 7
        session.tell([Label(key=free, label=TARGET, annotator="second")])  # says again what is known
        assert session.status().search.since_find == 7
        session.tell({key: TARGET for key in wanted if key not in given and key not in wanted[:3]}, examples=True)
        more = session.status().search
        assert (more.found, more.labels, more.since_find) == (hits, len(given) + 7, 7)  # examples are not found
        session.withdraw([free], "second")
        session.tell({free: "class-0"})
        corrected = session.status().search
        assert (corrected.found, corrected.known, corrected.since_find) == (hits - 1, more.known - 1, 8)


def test_what_is_left_follows_from_the_files(pool: Pool, truth: dict[str, str], tmp_path: Path) -> None:
    """By the draws' probabilities; the interval holds the truth; and both commands say the same."""
    with search(pool, tmp_path / "run") as session:
        for _ in range(4):
            session.tell({key: truth[key] for key in session.query().keys})
        found, tested = session.status().search, read_tests(session.run, session.ledger)
    assert found is not None
    value = np.array([truth[f"item-{id:06d}"] == TARGET for id in tested.ids], float)
    share = float(tested.sample.weights() @ value)
    assert found.prevalence == pytest.approx(share)
    assert found.left == pytest.approx(max(0, N * share - found.known))
    low, high = found.prevalence_interval
    assert low <= np.mean([name == TARGET for name in truth.values()]) <= high
    assert found.left_interval == pytest.approx((max(0, N * low - found.known), max(0, N * high - found.known)))
    assert (found.drawn, found.answered) == (20, 20)
    answer = cli("status", tmp_path / "run", "--json").json
    assert answer["search"]["left"] == pytest.approx(found.left)
    assert answer["search"]["hints"] == []
    text = cli("status", tmp_path / "run").out
    assert f"{found.found} in 80 labels" in text
    assert "20, 20 answered" in text
    assert "left to find" in text
    assert raysal.Session.open(tmp_path / "run", read_only=True).status().search == found


def test_hints_speak_for_stopping_and_for_measuring(pool: Pool, truth: dict[str, str], tmp_path: Path) -> None:
    with search(pool, tmp_path / "blind", rounds={"k": 40}) as session:
        session.tell(dict.fromkeys([key for key, name in truth.items() if name == TARGET][:2], TARGET))
        session.tell({session.query().keys[0]: TARGET})
        hints = session.status().search.hints
        assert len(hints) == 1
        assert "holds out no items" in hints[0]
        rest = [key for key, name in truth.items() if name != TARGET][:90]
        session.tell({key: truth[key] for key in rest})
        hints = session.status().search.hints
        assert "the last 90 labels found nothing new: fewer than 1 in 30" in hints[0]
    with search(pool, tmp_path / "unmeasured", rounds={"holdout": 0.2}) as session:
        session.query(3)
        assert "--holdout" in session.status().search.hints[0]
    whole = {"k": 200, "holdout": 0.4, "tests": 0.9}
    with search(pool, tmp_path / "all", select="random", rounds=whole, oracle="simulated") as session:
        while True:
            try:
                session.ask_oracle(session.query())
            except raysal.errors.PoolExhausted as error:
                if not error.available:
                    break
                session.ask_oracle(session.query(error.available))
        found = session.status().search
        assert found.left_interval[0] == 0
        assert found.found == sum(name == TARGET for name in truth.values())


def test_without_draws_the_last_evaluation_says_what_is_left(pool: Pool, tmp_path: Path) -> None:
    """A simulated run knows the truth of its held-out items; a run without a target has no search."""
    with search(pool, tmp_path / "run", oracle="simulated", rounds={"holdout": 0.4}) as session:
        for _ in range(2):
            session.ask_oracle(session.query(20))
        session.finish()
        status = session.status()
    assert status.known_by == "truth"
    assert (status.metric, status.value) == ("auprc", status.measures["auprc"])
    assert status.search.prevalence == status.measures["prevalence"]
    assert set(status.intervals) <= set(status.measures)
    assert {"accuracy", "auprc", "auroc", "precision_at_k", "recall_in_top"} <= set(status.intervals)
    for name, (low, high) in status.intervals.items():
        assert low <= status.measures[name] <= high, name
    with Session(tmp_path / "plain", pool, oracle="simulated", rounds={"holdout": 0.4}) as session:
        session.ask_oracle(session.query(20))
        session.finish()
        assert session.status().search is None
        assert set(session.status().intervals) == {"accuracy"}


def test_a_status_of_a_pool_that_is_gone_still_counts(pool: Pool, truth: dict[str, str], tmp_path: Path) -> None:
    vectors, names = mixture(60, 4, classes=6)
    gone = make_pool(tmp_path / "pool", vectors, labels=names)
    with search(gone, tmp_path / "run") as session:
        session.tell({key: truth[key] for key in session.query(20).keys})
    (tmp_path / "pool").rename(tmp_path / "elsewhere")
    answer = cli("status", tmp_path / "run", "--json").json
    assert (answer["items"], answer["search"]["left"], answer["search"]["labels"]) == (None, None, 20)
