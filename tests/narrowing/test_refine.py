"""REFINE: what several strategies pick from subsets of their own, round by round, wherever the rows lie."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import reference
import reference_coverage as cover
from numpy.typing import NDArray
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
from raysal.strategies.base import select

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


Pick = Callable[[NDArray[np.int64], int, int], NDArray[np.int64]]
"""A slow member: from ids, ascending, with a key, k of them."""


def slow(
    known, members: Mapping[str, Pick], k: int, *, rounds: int, batches: int, alpha: float, subset: int, size: int
) -> list[set[int]]:
    """What each round leaves, by the loop of the paper. A member knows its subset and what is labelled."""
    pool, left = np.setdiff1d(np.arange(N), known.ids), []
    for round in range(rounds):
        union: set[int] = set()
        for place, member in enumerate(members.values()):
            for batch in range(batches):
                key = derive(KEY, "refine", round, place, batch)
                few = max(subset if round == 0 else math.floor(alpha * len(pool)), k)
                some = np.sort(reference.uniform_sample(derive(key, "subset"), pool, few))
                union |= set(member(some, derive(key, "select"), k).tolist())
        pool = np.array(sorted(union))
        pool = np.sort(reference.uniform_sample(derive(KEY, "refine", round), pool, size))
        left.append(set(pool.tolist()))
    return left


def slow_members(x, known, head) -> dict[str, Pick]:
    """Members as their papers have them, with nothing but the subset to cover or to judge by."""
    wide, labelled = x.astype(np.float64), known.vectors.astype(np.float64)
    p, p_labelled = (reference.probabilities(rows, head.weight, head.bias) for rows in (x, known.vectors))
    margin = reference.score("margin", p)
    truth = [head.classes.index(name) for name in known.classes]
    logits = labelled @ head.weight.T + head.bias
    grid = np.arange(10, 200) / 10
    temperature = grid[np.argmin([cover.calibration_error(logits, truth, t) for t in grid])]
    gaps = cover.distances(cover.units(labelled), cover.units(labelled))
    u = cover.uncertainty(wide @ head.weight.T + head.bias, temperature)
    sigma = gaps[gaps > 1e-6].min()

    def max_herding(some, key, k):
        return some[cover.herding(x[some], x[some], known.vectors, np.ones(len(some)), 1.0, k)[0]]

    def u_herding(some, key, k):
        return some[cover.herding(x[some], x[some], known.vectors, u[some], sigma, k)[0]]

    def bait(some, key, k):
        """2k forward, k dropped, each trace from an inverse of its own."""
        known_roots, roots = (
            np.sqrt(q.max(1) * (1 - q.max(1)))[:, None] * h for q, h in ((p_labelled, labelled), (p, wide))
        )
        fisher = roots[some].T @ roots[some] / len(some)
        precision = np.trace(fisher) / DIM * np.eye(DIM) + known_roots.T @ known_roots
        trace = {}
        picked: list[int] = []
        while len(picked) < min(2 * k, len(some)):
            for row in set(some.tolist()) - set(picked):
                trace[row] = np.trace(np.linalg.inv(precision + np.outer(roots[row], roots[row])) @ fisher)
            picked.append(min(set(some.tolist()) - set(picked), key=trace.__getitem__))
            precision = precision + np.outer(roots[picked[-1]], roots[picked[-1]])
        while len(picked) > k:
            for row in picked:
                trace[row] = np.trace(np.linalg.inv(precision - np.outer(roots[row], roots[row])) @ fisher)
            least = min(picked, key=trace.__getitem__)
            precision = precision - np.outer(roots[least], roots[least])
            picked.remove(least)
        return np.array(picked)

    return {
        "random": lambda some, key, k: reference.uniform_sample(key, some, k),
        "top_score": lambda some, key, k: reference.ranked(margin[some], some, k, derive(key, "ties")),
        "bait": bait,
        "max_herding": max_herding,
        "u_herding": u_herding,
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"rounds": 1, "batches": 1, "alpha": 0.4, "subset": 50, "size": 1000},
        {"rounds": 3, "batches": 2, "alpha": 0.5, "subset": 150, "size": 1000},
        {"rounds": 2, "batches": 3, "alpha": 1.0, "subset": 100, "size": 30},
    ],
)
def test_every_round_is_that_of_a_slow_loop(fields, pools, data, known, head):
    members = slow_members(data[0], known, head)
    expected = slow(known, {name: members[name] for name in CHEAP}, 12, **fields)
    for rows, partitions in LAYOUTS:
        narrowed = refined(local(pools[rows], partitions), built(members=CHEAP, **fields), known, head, 12)
        assert ids_of(narrowed) == sorted(expected[-1])
        steps = " -> ".join(str(len(ids)) for ids in expected)
        assert narrowed.rule == f"refine: 2 members x {fields['batches']} batches, {N - len(known)} -> {steps}"


@pytest.mark.parametrize("member", ["bait", "max_herding", "u_herding"])
def test_a_subset_and_in_the_end_the_refined_pool_is_all_that_there_is(member, pools, data, known, head):
    """What is to be covered, and what the Fisher information is taken over, is the subset; then what was left."""
    fields = {"rounds": 2, "batches": 2, "alpha": 0.5, "subset": 70, "size": 1000}
    members = slow_members(data[0], known, head)
    expected = slow(known, {"random": members["random"], member: members[member]}, 8, **fields)
    narrower, left = built(members=["random", member], **fields), np.array(sorted(expected[-1]))
    outcome = run_program(local(pools[64], 2), SELECTORS[member](), narrower, head=head, labelled=known, k=8, key=KEY)
    assert sorted(ids_of(outcome.candidates)) == left.tolist()
    assert outcome.picks.ids.tolist() == members[member](left, KEY + 1, 8).tolist()


def test_the_defaults_are_the_published_ones():
    default = Refine()
    assert (default.rounds, default.batches, default.alpha) == (5, 100 // 9, 0.4)
    assert (default.subset, default.size, default.picks) == (5_000, 10_000, 0)
    assert [member.name for member in MEMBERS] == [
        "random", "top_score", "badge", "bait", "typiclust", "alfa_mix", "drop_query", "max_herding", "u_herding",
    ]  # fmt: skip
    assert SELECTORS["top_score"]() == MEMBERS[1].part
    for member in MEMBERS[-2:]:  # no subset is larger than what they can cover
        assert member.part.max_represented >= default.subset <= member.part.max_candidates


def test_the_published_members_pick_the_same_wherever_the_rows_lie(pools, known, head):
    """And the batch after them: they leave nothing behind that the last strategy could see."""
    published = [{"name": member.name, **dataclasses.asdict(member.part)} for member in MEMBERS]
    narrower = built(rounds=2, batches=1, subset=120, members=published)
    options: dict[str, Any] = {"head": head, "labelled": known, "k": 5}
    outcomes = [
        run_program(local(pools[rows], partitions), SELECTORS["u_herding"](), narrower, **options)
        for rows, partitions in LAYOUTS
    ]
    assert all(outcome.same_as(outcomes[0]) for outcome in outcomes)
    assert "9 members x 1 batches, 415 -> " in outcomes[0].candidates.rule


@pytest.mark.parametrize("strategy", ["badge", "epig", "skip_extremes", "u_herding"])
def test_the_final_pick_sees_what_was_left_and_nothing_else(strategy, pools, known, head):
    """It is the pool from then on, also to a strategy that was a member before; and there is no other."""
    members = ["badge", "typiclust"]
    narrower = built(rounds=2, batches=2, subset=120, members=[*members, strategy])
    fleet = local(pools[64], 2)
    outcome = run_program(fleet, SELECTORS[strategy](), narrower, head=head, labelled=known)
    assert set(outcome.picks.ids.tolist()) <= set(ids_of(outcome.candidates))
    candidates = np.concatenate(fleet.each(candidate_ids))
    assert candidates.tolist() == sorted(ids_of(outcome.candidates))
    fields = {"head": head, "labelled": known, "excluded": np.setdiff1d(np.arange(N), candidates).tolist()}
    alone = run_program(local(pools[64], 2), SELECTORS[strategy](), NARROWERS["none"](), **fields)
    assert np.array_equal(alone.picks.ids, outcome.picks.ids)
    assert np.array_equal(alone.picks.scores, outcome.picks.scores)


def test_what_a_filter_adds_is_part_of_the_refined_pool(pools, known, head):
    """A filter around it drops duplicates of what is left, and fills up from all that is available."""
    inner = {"name": "refine", "members": ["random"], "rounds": 1, "batches": 1, "picks": 3}
    narrower = choice({"name": "filter", "inner": inner, "duplicates": 0.95}).build("narrow", NARROWERS)
    fleet = local(pools[64], 2)
    outcome = run_program(fleet, SELECTORS["random"](), narrower, head=head, labelled=known, k=9)
    assert np.concatenate(fleet.each(candidate_ids)).tolist() == sorted(ids_of(outcome.candidates))
    assert sorted(outcome.picks.ids.tolist()) == sorted(ids_of(outcome.candidates))


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


def test_a_member_may_learn_from_held_out_items_and_never_picks_them(pools, data, known, head):
    """They are no part of its subset, but it can look their vectors up."""
    names, held_out = data[1], np.arange(1, N, 9)
    narrower = built(rounds=1, batches=1, subset=N, members=[{"name": "isal", "reference": "held_out"}])
    labels = {int(id): names[id] for id in held_out if id not in known.ids}
    found = []
    for partitions in (1, 3):
        fleet = local(pools[64], partitions)
        available = sum(fleet.each(exclude, np.union1d(known.ids, held_out)))
        task = task_of(fleet, known, head=head, k=9, available=available, key=KEY)
        task = dataclasses.replace(task, held_out_labels=lambda: labels)
        direct = select(fleet, SELECTORS["isal"](reference="held_out"), task, 9)
        found.append(sorted(ids_of(narrow(fleet, narrower, task)[1])))
        assert found[-1] == sorted(direct.ids.tolist())
    assert found[0] == found[1]
    assert not set(found[0]) & set(labels)


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
