"""The index that a run searches: built where there is none, rebuilt where it lacks rows, named in every round."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from indexes import built, grown
from pools import make_pool, mixture
from tiers import deep

import raysal
from raysal.config import IndexConfig, parse_config
from raysal.errors import ConfigError, PoolError, RunError, UserError
from raysal.index import KINDS, drop_index, generations, kinds, maintenance, open_index
from raysal.pool import Pool
from raysal.rounds.loop import run
from raysal.rounds.session import Session
from raysal.store import locked

X, NAMES = mixture(400, 8, classes=4, seed=6)
FIELDS: dict[str, Any] = {
    "select": "random",
    "narrow": {"name": "anchoral", "anchors": 3, "neighbours": 20, "subpool": 50, "search": "index"},
    "oracle": "simulated",
    "rounds": {"count": 2, "k": 12},
}


def pool_of(path: Path, rows: int = len(X)) -> Pool:
    return make_pool(path, X[:rows], chunk_rows=50, labels=NAMES[:rows])


def stale(path: Path) -> Pool:
    """A pool with an index that lacks 100 of its rows."""
    built(pool_of(path, 300), "ivf_flat", target_recall=0.5, seed=3)
    return grown(Pool(path), X, labels=NAMES)


def next_rule(session: Session) -> str:
    """Label the next batch, and return how its candidates were found."""
    batch = session.query()
    session.ask_oracle(batch)
    return str(session.record(batch.round)["narrow"])


@pytest.fixture
def begun(monkeypatch):
    """The rebuilds that this process begins."""
    found: dict[Any, Any] = {}
    monkeypatch.setattr(maintenance, "_begun", found)
    yield found
    for child in found.values():
        child.wait()


# there is none


def test_an_index_is_built_before_the_first_round(tmp_path):
    pool, wanted = pool_of(tmp_path / "pool"), {"build": True, "kind": "ivf_flat", "memory": "1GB"}
    with Session(tmp_path / "run", pool, **FIELDS, index=wanted) as session:
        assert generations(pool.path) == []
        rules = [next_rule(session) for _ in range(2)]
    assert (generations(pool.path), open_index(pool).kind) == (["0001"], "ivf_flat")
    assert ", by index ivf_flat" in rules[1]


def test_a_run_builds_one_and_tells_how_far_it_is(tmp_path):
    pool, stages = pool_of(tmp_path / "pool"), []
    parts = {"select": {"name": "random"}, "oracle": {"name": "simulated"}}
    places = {"pool": pool.path, "fleet": {"backend": "local", "partitions": 2}}
    config = parse_config({**FIELDS, **parts, **places, "index": {"build": True}})
    run(config, tmp_path / "run", report=lambda stage, done, total: stages.append(stage))
    assert "coding" in stages[: stages.index("rounds", 1)]
    assert open_index(pool).kind == "flat"


def test_no_index_is_built_for_rounds_that_search_exactly(tmp_path):
    pool = pool_of(tmp_path / "pool")
    narrow = {**FIELDS["narrow"], "search": "exact"}
    with Session(tmp_path / "run", pool, **{**FIELDS, "narrow": narrow}, index={"build": True}) as session:
        next_rule(session)
    assert generations(pool.path) == []


RULES = {
    "anchoral": FIELDS["narrow"],
    "seals": {"name": "seals", "search": "index"},
    "mixed": {"name": "mixed", "parts": [{"name": "uniform"}, {"name": "seals", "search": "index"}]},
    "filter": {"name": "filter", "inner": {"name": "seals", "search": "index"}},
}


@pytest.mark.parametrize("name", sorted(RULES))
def test_it_is_missed_before_anything_is_begun(name, tmp_path):
    pool = pool_of(tmp_path / "pool")
    fields = {**FIELDS, "narrow": RULES[name]}
    with pytest.raises(PoolError, match="has no index; build one with `raysal index build"):
        Session(tmp_path / "run", pool, **fields)
    assert not (tmp_path / "run").exists()
    with pytest.raises(PoolError, match="has no index"):
        raysal.select(pool, k=5, narrow=RULES[name])
    built(pool, "flat")
    with Session(tmp_path / "run", pool, **fields) as session:
        next_rule(session)
    drop_index(pool.path)
    with Session.open(tmp_path / "run", read_only=True) as session:  # who looks, or labels, needs none
        assert session.rounds == 1


def test_a_run_misses_it_before_its_pool_is_embedded(tmp_path):
    source = {"name": "digits"}
    config = parse_config({
        "pool": tmp_path / "pool", "source": source, "encoder": {"name": "precomputed"}, "narrow": FIELDS["narrow"],
    })  # fmt: skip
    with pytest.raises(ConfigError, match=r"index\.build: false.*set it to true"):
        run(config, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_faiss_is_noticed_before_anything_is_begun(tmp_path, monkeypatch):
    pool = pool_of(tmp_path / "pool")
    monkeypatch.setattr(kinds, "_loaded", [])
    monkeypatch.setitem(sys.modules, "faiss", None)
    for begin in (
        lambda: Session(tmp_path / "run", pool, **FIELDS, index={"build": True}),
        lambda: raysal.select(pool, k=5, narrow=FIELDS["narrow"]),
    ):
        with pytest.raises(UserError, match="'faiss' cannot be imported"):
            begin()
    assert not (tmp_path / "run").exists()


def test_a_size_that_is_none_is_noticed_before_anything_is_begun(tmp_path):
    with pytest.raises(ConfigError, match=r"index\.memory: 'much' is not a size"):
        Session(tmp_path / "run", pool_of(tmp_path / "pool"), **FIELDS, index={"build": True, "memory": "much"})


# it lacks rows


@deep
def test_a_stale_index_is_rebuilt_once_while_rounds_go_on_exactly(tmp_path, begun):
    pool = stale(tmp_path / "pool")
    exact = {**FIELDS, "narrow": {**FIELDS["narrow"], "search": "exact"}}
    with (
        Session(tmp_path / "run", pool, **FIELDS, index={"rebuild": True}) as session,
        Session(tmp_path / "exact", pool, **exact) as other,
    ):
        next_rule(session)  # without labels nothing is searched
        assert not begun
        assert "by exact search, as the index lacks 100 rows; rebuild begun" in next_rule(session)
        next_rule(other), next_rule(other)
        assert session.batch(1).ids == other.batch(1).ids
        (child,) = begun.values()
        assert child.wait() == 0, (pool.path / "index" / "build.log").read_text(encoding="utf-8")
        assert ", by index ivf_flat" in next_rule(session)
    index = open_index(pool)
    assert (index.name, index.kind, index.seed, index.target_recall) == ("0002", "ivf_flat", 3, 0.5)
    assert len(begun) == 1


def test_a_rebuild_that_failed_is_not_begun_again_each_round(tmp_path, begun, monkeypatch):
    pool = stale(tmp_path / "pool")
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with Session(tmp_path / "run", pool, **FIELDS, index={"rebuild": True}) as session:
        rules = [next_rule(session), next_rule(session)]
        begun[next(iter(begun))].wait()
        rules += [next_rule(session), next_rule(session)]
    assert "rebuild begun" in rules[1]
    assert all("the rebuild failed (see index/build.log in the pool)" in rule for rule in rules[2:])


def test_no_rebuild_is_begun_while_somebody_builds_nor_unless_it_is_asked_for(tmp_path, begun):
    pool = stale(tmp_path / "pool")
    (pool.path / "index" / ".tmp-0002-1").mkdir()
    with Session(tmp_path / "run", pool, **FIELDS, index={"rebuild": True}) as session:
        next_rule(session)
        with locked(pool.path / "index", "index"):
            assert "; a rebuild is under way" in next_rule(session)
    with Session(tmp_path / "other", pool, **FIELDS) as session:
        next_rule(session)
        assert "; `raysal index build` adds them" in next_rule(session)
    assert not begun


def test_resumed_equals_uninterrupted_and_each_round_names_its_index(tmp_path):
    pool = pool_of(tmp_path / "pool")
    first = built(pool, "ivf_pq", target_recall=0.0)
    with Session(tmp_path / "whole", pool, **FIELDS) as whole:
        rules = [next_rule(whole) for _ in range(3)]
    for round in range(3):
        with Session(tmp_path / "halting", pool, **FIELDS) as session:
            assert next_rule(session) == rules[round]
            assert session.batch(round).ids == whole.batch(round).ids
    assert f", by index ivf_pq 0001-{first.trained[:12]}, recall@50 " in rules[2]
    second = built(pool, "ivf_flat")
    with Session(tmp_path / "halting", pool, **FIELDS) as session:
        assert f", by index ivf_flat 0002-{second.trained[:12]}, " in next_rule(session)


# the config


def test_when_an_index_is_built_may_change_and_what_kind_may_not(tmp_path):
    pool = pool_of(tmp_path / "pool")
    Session(tmp_path / "run", pool, **FIELDS, index={"build": True}).close()
    Session(tmp_path / "run", index={"build": True, "rebuild": True, "memory": "2GB"}).close()
    with pytest.raises(RunError, match="begun with another index"):
        Session(tmp_path / "run", index={"build": True, "kind": "hnsw"})


def test_the_kinds_of_a_config_are_those_there_are():
    assert set(get_args(IndexConfig.model_fields["kind"].annotation)) == {"auto", *KINDS}
