"""A run over a pool that grows and shrinks: its next round sees what is there, and its labels stay with their keys."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiers import deep_unless

import raysal
from raysal.errors import FingerprintMismatch, LabelError, PoolExhausted, RunError
from raysal.pool import Pool, open_pool
from raysal.pool.compacting import compact
from raysal.pool.removing import remove_items
from raysal.ranking import Ranking
from raysal.rounds.run_labels import RunLabels

DIM = 6


def write(place: Path, name: str, first: int, count: int, seed: int = 0) -> None:
    vectors = np.random.default_rng([seed, first]).normal(size=(count, DIM)).astype(np.float32)
    keys = [f"k{number}" for number in range(first, first + count)]
    (place / "items").mkdir(exist_ok=True)
    pq.write_table(pa.table({"key": keys, "vector": list(vectors)}), place / "items" / f"{name}.parquet")


def embedded(place: Path, out: str = "pool") -> Pool:
    return raysal.embed(place / "items", out=place / out, chunk_rows=50)


def truth(key: str) -> str:
    return "xy"[int(key[1:]) % 2]


def answer(session: raysal.Session, k: int) -> list[str]:
    keys = list(session.query(k).keys)
    session.tell({key: truth(key) for key in keys})
    return keys


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write(tmp_path, "a", 0, 120)
    embedded(tmp_path)
    return tmp_path


@pytest.mark.parametrize("partitions", deep_unless({3}, [1, 2, 3]))
def test_the_next_round_sees_new_items_and_not_removed_ones(place: Path, partitions: int) -> None:
    fleet = {"backend": "local", "partitions": partitions}
    with raysal.Session(place / "run", place / "pool", select="margin", fleet=fleet) as session:
        first = [*answer(session, 6), *answer(session, 6)]
    write(place, "b", 120, 100)
    embedded(place)
    out = [first[0], "k7" if "k7" not in first else "k8"]
    remove_items(place / "pool", out)
    with raysal.Session(place / "run", fleet=fleet) as session:
        assert session.rebound is not None
        assert (session.rebound.matched, session.rebound.absent) == (11, 1)
        assert session.status().items == 218
        batch = session.query(60)
        assert not {*batch.keys} & {*first, *out}
        assert any(int(key[1:]) >= 120 for key in batch.keys)
        assert session.run.record(2)["pool"] == session.pool.fingerprint
        with pytest.raises(LabelError, match=out[1]):
            session.tell({out[1]: "x"})
        labels = {label.key: label.label for label in session.ledger.answers()}
        assert labels == {key: truth(key) for key in first}, "labels of removed items stay"


def test_a_reader_sees_the_labels_matched_and_writes_nothing(place: Path) -> None:
    with raysal.Session(place / "run", place / "pool") as session:
        keys = answer(session, 5)
    write(place, "b", 120, 10)
    embedded(place)
    remove_items(place / "pool", keys[:1])
    before = (place / "run" / "ledger.sqlite").read_bytes()
    with raysal.Session.open(place / "run", read_only=True) as session:
        status = session.status()
        assert (status.items, status.labeled, status.absent) == (129, 4, 1)
    picks = raysal.select(place / "pool", k=20, strategy="margin", labels=place / "run")["key"].to_pylist()
    assert not {*picks} & {*keys}
    assert (place / "run" / "ledger.sqlite").read_bytes() == before


def test_who_labels_beside_a_process_keeps_its_generation(place: Path) -> None:
    with raysal.Session(place / "run", place / "pool", select="margin") as session:
        from raysal.store import locked

        answer(session, 5)
        write(place, "b", 120, 10)
        embedded(place)
        with locked(place / "run", "run"), RunLabels.open(place / "run") as labels:
            labels.tell({"k9": "x"})
            assert labels.pool().generation == 0
            with pytest.raises(LabelError, match="k125"):
                labels.tell({"k125": "x"})
        answer(session, 5)
    with RunLabels.open(place / "run") as labels:
        labels.tell({"k125": "x"})
        assert labels.pool().generation == 1


def test_a_pool_that_was_taken_from_an_earlier_generation_is_refused(place: Path) -> None:
    old = open_pool(place / "pool")
    write(place, "b", 120, 10)
    embedded(place)
    with raysal.Session(place / "run", place / "pool") as session:
        answer(session, 5)
    with pytest.raises(FingerprintMismatch):
        raysal.Session(place / "run", old)


def test_a_run_goes_on_over_a_compacted_pool(place: Path) -> None:
    with raysal.Session(place / "run", place / "pool", select="margin") as session:
        first = answer(session, 5)
    remove_items(place / "pool", [f"k{number}" for number in range(100, 118) if f"k{number}" not in first])
    with raysal.Session(place / "run") as session:
        second = answer(session, 5)
    compact(place / "pool")
    with raysal.Session(place / "run") as session:
        assert session.rebound is None, "no item changed"
        third = answer(session, 5)
    assert len({*first, *second, *third}) == 15


def test_only_new_items_are_selected(place: Path) -> None:
    with pytest.raises(PoolExhausted):
        raysal.select(place / "pool", k=121, strategy="random", only_new=True)
    write(place, "b", 120, 10)
    embedded(place)
    remove_items(place / "pool", ["k3", "k125"])
    keys = {f"k{number}" for number in range(120, 130)} - {"k125"}
    assert set(raysal.select(place / "pool", k=9, strategy="coreset", only_new=True)["key"].to_pylist()) == keys
    with pytest.raises(PoolExhausted):
        raysal.select(place / "pool", k=10, strategy="random", only_new=True)
    with raysal.Session(place / "run", place / "pool") as session:
        answer(session, 5)
    write(place, "c", 130, 4)
    embedded(place)
    write(place, "d", 134, 4)
    embedded(place)
    newest = raysal.select(place / "pool", k=4, strategy="random", only_new=True)["key"].to_pylist()
    assert set(newest) == {f"k{number}" for number in range(134, 138)}
    since = raysal.select(place / "pool", k=8, strategy="random", only_new=True, labels=place / "run")[
        "key"
    ].to_pylist()
    assert set(since) == {f"k{number}" for number in range(130, 138)}


def test_removed_items_are_found_by_no_search_and_no_prediction(place: Path) -> None:
    with raysal.Session(place / "run", place / "pool") as session:
        answer(session, 20)
    out = {f"k{number}" for number in range(0, 120, 7)}
    remove_items(place / "pool", sorted(out))
    found = raysal.search(place / "pool", key="k1", k=100)["key"].to_pylist()
    assert len({*found}) == 100
    assert not {*found} & out
    raysal.predict(place / "pool", run=place / "run", out=place / "predictions")
    rows = sum(pq.read_metadata(file).num_rows for file in (place / "predictions").rglob("*.parquet"))
    assert rows == 120 - len(out)
    raysal.rank(place / "run", out=place / "ranking", score="entropy")
    ranked = Ranking.open(place / "ranking").page(0, 200)["key"].to_pylist()
    assert len(ranked) == 120 - len(out)
    assert not {*ranked} & out


def test_a_ranking_goes_on_over_a_pool_that_grew(place: Path) -> None:
    with raysal.Session(place / "run", place / "pool") as session:
        answer(session, 20)
    raysal.rank(place / "run", out=place / "ranking", score="entropy")
    first = Ranking.open(place / "ranking").info
    write(place, "b", 120, 10)
    embedded(place)
    raysal.rank(place / "run", out=place / "ranking", score="entropy")
    second = Ranking.open(place / "ranking").info
    assert (first.items, second.items) == (120, 130)
    assert Ranking.open(place / "ranking", first.name).info == first, "what was ranked before can still be read"


def test_two_writers_of_a_pool_are_told_apart(place: Path) -> None:
    from raysal.store import locked

    with locked(place / "pool", "pool"), pytest.raises(RunError, match=rf"this pool: process {os.getpid()} on "):
        remove_items(place / "pool", ["k1"])
