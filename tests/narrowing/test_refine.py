"""REFINE: what several strategies pick from subsets of their own, round by round, wherever the rows lie."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import reference
from pools import make_pool, mixture
from programs import labelled_of, local, random_head, run_program, task_of

from raysal.config import choice
from raysal.errors import ConfigError, PoolExhausted, UnknownName
from raysal.fleet import exclude
from raysal.narrowing import NARROWERS
from raysal.narrowing.base import Candidates, narrow
from raysal.narrowing.refine import MEMBERS, Refine
from raysal.rng import derive
from raysal.strategies import SELECTORS

N, DIM, KEY = 430, 7, 7
LAYOUTS = ((64, 1), (64, 2), (N, 5))
"""(rows of a chunk, partitions)"""
CHEAP = ("random", "top_score")


@pytest.fixture(scope="module")
def data():
    return mixture(N, DIM, classes=3, seed=2)


@pytest.fixture(scope="module")
def known(data):
    return labelled_of(*data, range(0, 60, 4))


@pytest.fixture(scope="module")
def head():
    return random_head(DIM, classes=3)


@pytest.fixture(scope="module")
def pools(data, tmp_path_factory):
    root = tmp_path_factory.mktemp("refine")
    return {rows: make_pool(root / str(rows), data[0], chunk_rows=rows) for rows in (64, N)}


def built(**fields: Any) -> Refine:
    """As a config builds it."""
    narrower = choice({"name": "refine", **fields}).build("narrow", NARROWERS)
    assert isinstance(narrower, Refine)
    return narrower


def refined(fleet, narrower: Refine, known, head=None, k: int = 10, key: int = KEY) -> Candidates:
    fleet.reset()
    available = sum(fleet.each(exclude, known.ids))
    return narrow(fleet, narrower, task_of(fleet, known, head=head, k=k, available=available, key=key))[1]


def ids_of(narrowed: Candidates) -> list[int]:
    assert narrowed.ids is not None
    return narrowed.ids.tolist()


def slow(
    data, known, head, k: int, *, rounds: int, batches: int, alpha: float, subset: int, size: int
) -> list[set[int]]:
    """What each round leaves, with members that can be told in a line: a uniform draw and a full sort by margin."""
    x = data[0]
    margin = reference.score("margin", reference.probabilities(x, head.weight, head.bias))
    pool, left = np.setdiff1d(np.arange(N), known.ids), []
    for round in range(rounds):
        union: set[int] = set()
        for place, member in enumerate(CHEAP):
            for batch in range(batches):
                key = derive(KEY, "refine", round, place, batch)
                few = max(subset if round == 0 else math.ceil(alpha * len(pool)), k)
                some = reference.uniform_sample(derive(key, "subset"), pool, few)
                if member == "random":
                    union |= set(reference.uniform_sample(derive(key, "select"), some, k).tolist())
                else:
                    union |= set(reference.ranked(margin[some], some, k).tolist())
        pool = np.array(sorted(union))
        pool = np.sort(reference.uniform_sample(derive(KEY, "refine", round), pool, size))
        left.append(set(pool.tolist()))
    return left


@pytest.mark.parametrize(
    "fields",
    [
        {"rounds": 1, "batches": 1, "alpha": 0.4, "subset": 50, "size": 1000},
        {"rounds": 3, "batches": 2, "alpha": 0.5, "subset": 150, "size": 1000},
        {"rounds": 2, "batches": 3, "alpha": 1.0, "subset": 100, "size": 30},
    ],
)
def test_every_round_is_that_of_a_slow_loop(fields, pools, data, known, head):
    expected = slow(data, known, head, 12, **fields)
    for rows, partitions in LAYOUTS:
        narrowed = refined(local(pools[rows], partitions), built(members=CHEAP, **fields), known, head, 12)
        assert ids_of(narrowed) == sorted(expected[-1])
        steps = " -> ".join(str(len(ids)) for ids in expected)
        assert narrowed.rule == f"refine: 2 members x {fields['batches']} batches, {N - len(known)} -> {steps}"


def test_the_published_members_pick_the_same_wherever_the_rows_lie(pools, known, head):
    """And the batch after them: they leave nothing behind that the last strategy could see."""
    published = [{"name": member.name, **dataclasses.asdict(member.part)} for member in MEMBERS]
    narrower = built(rounds=2, batches=1, subset=120, members=[*published, "bait"])
    options: dict[str, Any] = {"head": head, "labelled": known, "k": 5}
    outcomes = [
        run_program(local(pools[rows], partitions), SELECTORS["u_herding"](), narrower, **options)
        for rows, partitions in LAYOUTS
    ]
    assert all(outcome.same_as(outcomes[0]) for outcome in outcomes)
    assert "9 members x 1 batches, 415 -> " in outcomes[0].candidates.rule


def test_the_final_pick_sees_what_was_left_and_nothing_else(pools, known, head):
    """The candidates are the last round's union, also for a strategy that was a member before."""
    narrower = built(rounds=2, batches=2, subset=120, members=["badge", "typiclust"])
    fleet = local(pools[64], 2)
    outcome = run_program(fleet, SELECTORS["badge"](), narrower, head=head, labelled=known)
    assert set(outcome.picks.ids.tolist()) <= set(ids_of(outcome.candidates))
    candidates = np.concatenate(fleet.each(candidate_ids))
    assert candidates.tolist() == sorted(ids_of(outcome.candidates))
    fields = {"head": head, "labelled": known, "excluded": np.setdiff1d(np.arange(N), candidates).tolist()}
    alone = run_program(local(pools[64], 2), SELECTORS["badge"](), NARROWERS["none"](), **fields)
    assert np.array_equal(alone.picks.ids, outcome.picks.ids)


def candidate_ids(partition):
    return partition.ids[partition.candidates()]


def test_every_member_counts_and_every_round_is_a_subset_of_the_last(pools, known, head):
    fleet = local(pools[64], 2)
    fields = {"batches": 2, "subset": 150}
    rounds = [set(ids_of(refined(fleet, built(rounds=r, members=CHEAP, **fields), known, head))) for r in (1, 2, 3)]
    assert rounds[2] < rounds[1] < rounds[0]
    more = set(ids_of(refined(fleet, built(rounds=1, members=[*CHEAP, "coreset"], **fields), known, head)))
    assert rounds[0] < more, "a member that comes last changes nothing of the others' draws"
    twice = set(ids_of(refined(fleet, built(rounds=1, members=["random", "random"], **fields), known, head)))
    once = set(ids_of(refined(fleet, built(rounds=1, members=["random"], **fields), known, head)))
    assert once < twice, "a member named twice draws twice"
    other = set(ids_of(refined(fleet, built(rounds=1, members=CHEAP, **fields), known, head, key=8)))
    assert other != rounds[0]


def test_members_that_need_a_head_wait_until_there_is_one(pools, known, head):
    fleet = local(pools[64], 2)
    members = ["random", "badge", "typiclust", {"name": "top_score", "score": "entropy"}]
    narrower = built(rounds=1, batches=1, subset=100, members=members)
    nothing = labelled_of(*mixture(N, DIM, classes=3, seed=2), [])
    early = refined(fleet, narrower, nothing)
    assert early.rule.startswith("refine: 2 of 4 members (2 need a head) x 1 batches, 430 -> ")
    without = built(rounds=1, batches=1, subset=100, members=["random", "random", "typiclust"])
    assert 10 <= len(ids_of(early)) <= 20
    assert set(ids_of(early)) != set(ids_of(refined(fleet, without, nothing)))
    assert "refine: 4 members x 1" in refined(fleet, narrower, known, head).rule
    needy = refined(fleet, built(members=["badge"]), nothing)
    assert needy.ids is None
    assert needy.rule == "all 430 (refine: 0 of 1 members (1 need a head))"
    first = run_program(fleet, SELECTORS["typiclust"](), built(members=["badge"]), head=None, labelled=nothing)
    assert len(first.picks.ids) == 12


def test_with_picks_candidates_do_not_depend_on_the_batch(pools, known, head):
    fleet = local(pools[64], 2)
    fixed, free = ({"rounds": 2, "batches": 1, "subset": 90, "members": CHEAP, "picks": p} for p in (30, 0))
    small, large = (ids_of(refined(fleet, built(**fixed), known, head, k=k)) for k in (3, 9))
    assert small == large
    assert len(ids_of(refined(fleet, built(**free), known, head, k=3))) <= 6


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("cap", [1, 10_000])
def test_the_smallest_pools(n, cap, tmp_path):
    """Subsets and caps below the batch are raised to it; a pool that cannot fill the batch says so."""
    x, names = mixture(n, 3, classes=2)
    fleet = local(make_pool(tmp_path / "pool", x), 2)
    narrower = built(rounds=2, batches=1, subset=1, size=cap, alpha=0.1, members=["random", "coreset"])
    for labels in range(n + 1):
        options: dict[str, Any] = {"head": None, "labelled": labelled_of(x, names, range(labels))}
        with pytest.raises(PoolExhausted):
            run_program(fleet, SELECTORS["random"](), narrower, k=n - labels + 1, **options)
        for k in range(1, n - labels + 1):
            picks = run_program(fleet, SELECTORS["random"](), narrower, k=k, **options).picks
            assert len(np.unique(picks.ids)) == k


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"rounds": 0}, "narrow.rounds"),
        ({"batches": 0}, "narrow.batches"),
        ({"alpha": 0}, "narrow.alpha"),
        ({"alpha": 1.5}, "narrow.alpha"),
        ({"members": []}, "narrow.members"),
        ({"members": ["random", {"name": "top_score", "skore": "margin"}]}, "narrow.members.1.skore"),
    ],
)
def test_impossible_settings_are_named(fields, where):
    with pytest.raises(ConfigError) as caught:
        built(**fields)
    assert caught.value.where == where


def test_an_unknown_member_is_named():
    with pytest.raises(UnknownName, match=r"narrow\.members\.1.*oracle"):
        built(members=["random", "oracle"])


def test_it_cannot_be_a_part_of_a_mixture():
    with pytest.raises(ConfigError, match="needs more than the round's one sweep"):
        choice({"name": "mixed", "parts": ["refine"]}).build("narrow", NARROWERS)
