"""Narrowing by an index: the same candidates for any partitions, no pass over vectors, and a rule that names it."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any

import numpy as np
import pytest
from indexes import built, grown
from pools import make_pool, mixture
from programs import labelled_of, local, random_head, run_program

import raysal
import raysal.index as index_package
from raysal.config import choice
from raysal.errors import ConfigError, Damaged, PoolError
from raysal.fleet import Partition, exclude, plan_partitions
from raysal.fleet.replay import Done, Host
from raysal.index import KINDS, index_neighbours, open_index, search
from raysal.index.shards import fetch_nearest
from raysal.narrowing import NARROWERS, round_sweep
from raysal.narrowing.base import Narrower
from raysal.pool import Pool
from raysal.strategies import SELECTORS

DIM = 8
X, NAMES = mixture(600, DIM, classes=4, seed=6)
KNOWN = labelled_of(X, NAMES, range(0, 200, 17))
RULES: dict[str, dict[str, Any]] = {
    "anchoral": {"anchors": 3, "neighbours": 20, "subpool": 50},
    "anchoral by all": {"name": "anchoral", "by": "all", "anchors": 3, "neighbours": 20, "subpool": 50},
    "seals": {"neighbours": 7},
}


def rule_of(name: str, search: str = "index") -> Narrower:
    return choice({"name": name, **RULES[name], "search": search}).build("narrow", NARROWERS)


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    pool = make_pool(tmp_path_factory.mktemp("narrow") / "pool", X, chunk_rows=50)
    built(pool, "ivf_sq8")
    return pool


def outcome(pool: Pool, narrower: Narrower, partitions: int = 1, **settings: Any):
    with local(pool, partitions) as fleet:
        return run_program(fleet, SELECTORS["random"](), narrower, head=random_head(DIM, 4), labelled=KNOWN, **settings)


@pytest.mark.parametrize("name", sorted(RULES))
def test_the_same_for_any_partitions(name, pool):
    one, *others = [outcome(pool, rule_of(name), p, excluded=range(300, 400)) for p in (1, 2, 5)]
    assert all(one.same_as(other) for other in others)
    assert not np.isin(one.candidates.ids, [*KNOWN.ids, *range(300, 400)]).any()
    index = open_index(pool)
    trained = hashlib.sha256((index.path / "trained.faiss").read_bytes()).hexdigest()
    assert f", by index ivf_sq8 0001-{trained[:12]}, recall@50 0." in one.candidates.rule


@pytest.mark.parametrize("name", sorted(RULES))
def test_an_index_that_finds_all_narrows_as_exact_search_does(name, tmp_path):
    pool = make_pool(tmp_path / "pool", X, chunk_rows=50)
    index = built(pool, "flat")
    mine, true = (outcome(pool, rule_of(name, search)) for search in ("index", "exact"))
    assert np.array_equal(np.sort(mine.candidates.ids), np.sort(true.candidates.ids))
    assert mine.candidates.rule == f"{true.candidates.rule}, by index flat 0001-{index.trained[:12]}, recall@50 1.00"


def test_a_mixture_asks_the_index_for_those_of_its_parts_that_want_it(pool):
    parts = [
        {"name": "anchoral", "anchors": 2, "search": "index"},
        {"name": "seals", "neighbours": 5},
        {"name": "top_score"},
    ]
    mixed = choice({"name": "mixed", "size": 60, "parts": parts}).build("narrow", NARROWERS)
    one, *others = [outcome(pool, mixed, p) for p in (1, 2, 5)]
    assert all(one.same_as(other) for other in others)
    anchoral, rest = one.candidates.rule.split(" by seals ")
    assert "by index ivf_sq8" in anchoral
    assert "by index" not in rest
    exact = choice({"name": "mixed", "size": 60, "parts": [{**parts[0], "search": "exact"}, *parts[1:]]})
    true = outcome(pool, exact.build("narrow", NARROWERS))
    # What was not asked of the index is what it would be without one.
    assert one.found.searches[1].of_each[0][0].tolist() == true.found.searches[1].of_each[0][0].tolist()
    assert np.array_equal(one.found.class_counts, true.found.class_counts)


@pytest.mark.parametrize("kind", KINDS)
def test_one_search_does_where_only_the_anchors_themselves_are_excluded(kind, tmp_path, monkeypatch):
    pool = make_pool(tmp_path / "pool", X, chunk_rows=50)
    index = built(pool, kind, target_recall=0.0)
    searches = []
    monkeypatch.setattr(search, "fetch_nearest", lambda *args: searches.append(args[2]) or fetch_nearest(*args))
    with local(pool) as fleet:
        fleet.each(exclude, KNOWN.ids)
        index_neighbours(fleet, index, KNOWN.vectors[:1], 20)
    assert len(searches) == 1


def test_no_vector_is_read_where_only_neighbours_are_asked_for(pool, monkeypatch):
    passes = []
    monkeypatch.setattr(Partition, "_stream", lambda partition, buffer: passes.append(partition) or iter(()))
    found = outcome(pool, rule_of("anchoral"), 2).found
    assert passes == []
    assert found.rows == 600 - len(KNOWN)
    assert len(found.class_counts) == 0


def test_a_stale_index_is_not_searched_and_the_rule_says_so(tmp_path):
    pool = make_pool(tmp_path / "pool", X[:500], chunk_rows=50)
    built(pool, "flat")
    pool = grown(pool, X)
    for name in RULES:
        stale, exact = outcome(pool, rule_of(name)), outcome(pool, rule_of(name, "exact"))
        assert np.array_equal(stale.candidates.ids, exact.candidates.ids)
        assert stale.candidates.rule.startswith(exact.candidates.rule)
        assert "by exact search, as the index lacks 100 rows" in stale.candidates.rule
    built(pool, "flat")  # the next round sees it
    assert "by index flat 0002-" in outcome(pool, rule_of("seals")).candidates.rule


def exchanged(pool: Pool, monkeypatch: pytest.MonkeyPatch, module: Any, times: int) -> list[str]:
    """Rebuild the index `times` times after it was opened and before it is searched; the names of those searched."""
    searched: list[str] = []

    def meanwhile(fleet, index, anchors, each, ties=None):
        for _ in range(0 if searched else times):
            built(pool, "flat", fresh=True)
        searched.append(index.name)
        return index_neighbours(fleet, index, anchors, each, ties)

    monkeypatch.setattr(module, "index_neighbours", meanwhile)
    return searched


@pytest.mark.parametrize(("times", "expected"), [(1, ["0001"]), (2, ["0001", "0003"])])
def test_an_index_that_vanished_after_it_was_opened_is_opened_anew(times, expected, tmp_path, monkeypatch):
    pool = make_pool(tmp_path / "pool", X, chunk_rows=50)
    built(pool, "flat")
    whole = outcome(pool, rule_of("seals"))
    searched = exchanged(pool, monkeypatch, round_sweep, times)
    after = outcome(pool, rule_of("seals"), 2)
    assert searched == expected
    assert np.array_equal(after.picks.ids, whole.picks.ids)
    assert f"by index flat {expected[-1]}-" in after.candidates.rule


def test_so_is_it_for_similar_items(tmp_path, monkeypatch):
    pool = make_pool(tmp_path / "pool", X, chunk_rows=50)
    built(pool, "flat")
    searched = exchanged(pool, monkeypatch, index_package, 2)
    found = raysal.search(pool, vector=X[3], k=5)
    assert searched == ["0001", "0003"]
    assert found.equals(raysal.search(pool, vector=X[3], k=5, exact=True))


def test_a_partition_that_misses_a_generation_can_go_on(tmp_path):
    """It must not be an error: every later call of the program would repeat the error."""
    pool = make_pool(tmp_path / "pool", X, chunk_rows=50)
    first = built(pool, "flat")
    hosts = [Host(partial(Partition, spec)) for spec in plan_partitions(pool, 2)]
    built(pool, "flat", fresh=True), built(pool, "flat", fresh=True)
    for host in hosts:
        assert host.run(1, 0, [(fetch_nearest, (first.location(), X[:1], 3, 0, 2))]) == Done(None)
        assert host.run(1, 1, [(exclude, (KNOWN.ids,))]).result >= 0
    last = open_index(pool)
    (last.path / "00000.faiss").unlink()  # the generation exists: a missing file is damage
    with pytest.raises(Damaged):
        hosts[0].run(2, 0, [(fetch_nearest, (last.location(), X[:1], 3, 0, 2))])


def test_without_an_index_it_says_how_to_build_one(tmp_path):
    pool = make_pool(tmp_path / "pool", X, chunk_rows=50)
    with pytest.raises(PoolError, match=r"has no index; build one with `raysal index build"):
        outcome(pool, rule_of("seals"))


def test_what_an_index_cannot_find_is_refused_by_its_field():
    with pytest.raises(ConfigError) as caught:
        choice({"name": "anchoral", "by": "nearest", "search": "index"}).build("narrow", NARROWERS)
    assert caught.value.where == "narrow.search"


def test_a_class_that_the_head_has_never_seen_has_anchors_all_the_same(pool):
    labelled = labelled_of(X, ["new" if i == 17 else name for i, name in enumerate(NAMES)], KNOWN.ids.tolist())
    with local(pool, 2) as fleet:
        found = run_program(
            fleet, SELECTORS["random"](), rule_of("anchoral"), head=random_head(DIM, 4), labelled=labelled
        )
    assert len(found.candidates.ids) == 50
