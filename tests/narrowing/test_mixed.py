"""Shares of several rules: each gives its best, nothing twice, exactly as many as asked for, in one sweep."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pools import make_pool, mixture
from programs import labelled_of, local, random_head, run_program, task_of

import raysal
from raysal.config import choice
from raysal.context import LabelledVectors
from raysal.errors import ConfigError, UnknownName
from raysal.fleet import LocalFleet, exclude, plan_partitions
from raysal.memory import Memory
from raysal.narrowing import NARROWERS
from raysal.narrowing.base import Candidates, Narrower, narrow
from raysal.pool import Pool
from raysal.rounds.session import Session
from raysal.scoring.sweep import sweep_partition
from raysal.strategies import SELECTORS

N, DIM = 500, 6
HEAD = random_head(DIM)
NO_LABELS = LabelledVectors(ids=np.empty(0, np.int64), vectors=np.empty((0, DIM), np.float32), classes=[])
ANCHORAL = {"name": "anchoral", "anchors": 2, "neighbours": 12}
PARTS: list[dict[str, Any]] = [
    {**ANCHORAL, "share": 0.5},
    {"name": "seals", "neighbours": 3, "share": 0.1},
    {"name": "top_score", "share": 0.2},
    {"name": "anchoral", "by": "nearest", "anchors": 1, "explore": 7, "share": 0.1},
    {"name": "uniform", "share": 0.1},
]


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, LabelledVectors]:
    x, names = mixture(N, DIM, classes=3, seed=2)
    return x, labelled_of(x, names, range(0, 60, 4))


@pytest.fixture(scope="module")
def pool(data: tuple[np.ndarray, LabelledVectors], tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return make_pool(tmp_path_factory.mktemp("mixed") / "pool", data[0], chunk_rows=64)


def built(**fields: Any) -> Narrower:
    """As a config builds it."""
    return choice({"name": "mixed", **fields}).build("narrow", NARROWERS)


def narrowed_by(
    fleet: LocalFleet, rule: Narrower, known: LabelledVectors, memory: Memory | None = None, head: Any = HEAD
) -> Candidates:
    fleet.reset()
    left = sum(fleet.each(exclude, known.ids))
    return narrow(fleet, rule, task_of(fleet, known, head=head, available=left, memory=memory))[1]


def one_by_one(fleet: LocalFleet, size: int, parts: list[dict[str, Any]], known: LabelledVectors) -> list[int]:
    """Each rule by itself, in a sweep of its own, and the shares cut from what it gave."""
    own_sizes = {"anchoral": "subpool", "top_score": "size", "uniform": "size"}
    total, taken = sum(round(10 * part["share"]) for part in parts), list[int]()
    for part in parts:
        fields = {name: value for name, value in part.items() if name != "share"}
        if part["name"] in own_sizes:
            fields[own_sizes[part["name"]]] = size
        ids = narrowed_by(fleet, choice(fields).build("narrow", NARROWERS), known).ids
        assert ids is not None
        taken += [id for id in ids.tolist() if id not in taken][: round(10 * part["share"]) * size // total]
    uniform = narrowed_by(fleet, NARROWERS["uniform"](size=size), known).ids
    assert uniform is not None
    return (taken + [id for id in uniform.tolist() if id not in taken])[:size]


@pytest.mark.parametrize("partitions", [1, 2, 5])
@pytest.mark.parametrize("parts", [PARTS, PARTS[::-1], PARTS[:1], PARTS[2:]], ids=["all", "turned", "one", "three"])
def test_each_part_gives_what_it_would_alone_and_nothing_twice(partitions, parts, pool, data):
    mine = narrowed_by(local(pool, partitions), built(size=90, parts=parts), data[1]).ids
    assert mine is not None
    assert mine.tolist() == one_by_one(local(pool), 90, parts, data[1])
    assert len(set(mine.tolist())) == 90


class Counting(LocalFleet):
    """Counts the calls of each function."""

    def each(self, fn, *args):
        self.calls[fn] += 1
        return super().each(fn, *args)


def test_all_parts_share_one_sweep(pool, data):
    fleet = Counting(plan_partitions(pool, 2))
    fleet.calls = Counter()
    narrowed_by(fleet, built(size=90, parts=PARTS), data[1])
    assert fleet.calls[sweep_partition] == 1


def test_as_many_come_out_as_are_asked_for_or_there(pool, data):
    """A benchmark compares rules that score equally many items."""
    left = N - len(data[1])
    for size in (10, 99, left - 1):
        for parts in (PARTS, [{"name": "seals", "neighbours": 1}], [{**ANCHORAL, "anchors": 1, "neighbours": 1}]):
            narrowed = narrowed_by(local(pool, 3), built(size=size, parts=parts), data[1])
            assert narrowed.ids is not None
            assert len(set(narrowed.ids.tolist())) == len(narrowed.ids) == size
            assert not np.isin(narrowed.ids, data[1].ids).any()
            assert narrowed.rule.startswith(f"mixed {size} of {left}: ")


def test_a_pool_no_larger_than_the_mixture_is_not_narrowed(pool, data):
    left = N - len(data[1])
    before = Memory(found=np.array([70]), searched=np.array([0]))
    whole = narrowed_by(local(pool, 2), built(size=left, parts=PARTS), data[1], before)
    assert whole.ids is None
    assert whole.rule == f"all {left}"
    assert whole.memory == before
    assert narrowed_by(local(pool, 2), built(size=left - 1, parts=PARTS), data[1]).ids is not None


def test_what_narrows_nothing_counts_as_uniform(pool, data):
    uniform = narrowed_by(local(pool), NARROWERS["uniform"](size=40), NO_LABELS, head=None).ids
    narrowed = narrowed_by(local(pool, 2), built(size=40), NO_LABELS, head=None)
    assert narrowed.ids is not None
    assert uniform is not None
    assert narrowed.ids.tolist() == uniform.tolist()
    assert "0 by anchoral" in narrowed.rule
    assert "0 by top_score" in narrowed.rule
    everything = [{"name": "none"}, {"name": "top_score"}]
    half = narrowed_by(local(pool, 2), built(size=40, parts=everything), data[1])
    assert "0 by none" in half.rule
    assert "20 by top_score" in half.rule
    assert half.rule.endswith("20 uniform for what they left")


def test_the_rule_counts_what_each_part_gave(pool, data):
    rule = narrowed_by(local(pool, 2), built(size=90, parts=PARTS), data[1]).rule
    for text in ("45 by anchoral (", "9 by seals (", "18 by top_score (", "9 by anchoral (", "9 by uniform ("):
        assert text in rule
    assert "for what they left" not in rule


def test_shares_are_decimals_in_proportion():
    def quotas(size: int, *shares: float) -> list[int]:
        return built(size=size, parts=[{"name": "uniform", "share": share} for share in shares]).quotas()  # type: ignore[attr-defined]

    assert quotas(100, 0.29, 0.71) == [29, 71]  # 0.29 * 100 is below 29 in floats
    assert quotas(100, 29, 71) == quotas(100, 2.9, 7.1) == [29, 71]
    assert quotas(10, 1, 1, 1) == [3, 3, 3]
    assert built(size=10, parts=["uniform", "none"]).quotas() == [5, 5]  # type: ignore[attr-defined]


def test_a_part_may_have_a_size_of_its_own(pool, data):
    parts = [{"name": "top_score", "size": 5}, {"name": "uniform"}]
    rule = narrowed_by(local(pool, 2), built(size=90, parts=parts), data[1]).rule
    assert "5 by top_score" in rule
    assert "40 uniform for what they left" in rule


def test_what_a_part_remembers_is_carried_on(pool, data):
    """Two rounds of a mixture with seals search each label once, as seals does alone."""
    known, rule = data[1], built(size=90, parts=[{"name": "seals", "neighbours": 3}, {"name": "uniform"}])
    early = LabelledVectors(ids=known.ids[:9], vectors=known.vectors[:9], classes=known.classes[:9])
    alone, mixed = None, None
    for labelled in (early, known):
        alone = narrowed_by(local(pool), NARROWERS["seals"](neighbours=3), labelled, alone).memory
        fleet = local(pool, 2)
        narrowed = narrowed_by(fleet, rule, labelled, mixed)
        mixed = narrowed.memory
        assert alone is not None
        assert mixed is not None
        assert alone.dump() == mixed.dump()
    assert "6 of them new" in narrowed.rule


@pytest.mark.parametrize(
    ("fields", "where", "says"),
    [
        ({"parts": [{"name": "uniform", "share": 0}]}, "narrow.parts.0.share", "more than 0"),
        ({"parts": ["none", {"name": "uniform", "share": -1}]}, "narrow.parts.1.share", "more than 0"),
        ({"parts": [{"name": "uniform", "share": "much"}]}, "narrow.parts.0.share", "number"),
        ({"parts": [{"name": "uniform", "share": float("inf")}]}, "narrow.parts.0.share", "finite"),
        ({"parts": [{"share": 1}]}, "narrow.parts.0.name", "is not given"),
        ({"parts": []}, "narrow.parts", "none"),
        ({"parts": ["uniform", "filter:anchoral"]}, "narrow.parts.1", "one sweep"),
        ({"parts": ["seals", "none", {"name": "seals", "neighbours": 5}]}, "narrow.parts", "accumulate"),
        ({"parts": ["seals", {"name": "mixed", "parts": ["seals"]}]}, "narrow.parts", "accumulate"),
        ({"parts": ["uniform", {"name": "anchoral", "anchor": 3}]}, "narrow.parts.1.anchor", "no such field"),
        ({"parts": ["uniform", {"name": "anchoral", "anchors": 0}]}, "narrow.parts.1.anchors", "use 1 or more"),
        ({"size": 0}, "narrow.size", "use 1 or more"),
    ],
)
def test_a_mistake_is_named_by_its_place(fields, where, says):
    with pytest.raises(ConfigError) as caught:
        built(**fields)
    assert caught.value.where == where
    assert says in str(caught.value)


def test_an_unknown_part_is_named_with_those_there_are():
    with pytest.raises(UnknownName) as caught:
        built(parts=["anchors"])
    assert caught.value.where == "narrow.parts.0"
    assert "anchoral" in caught.value.known
    assert "filter" not in caught.value.known


def test_mixtures_may_be_nested(pool, data):
    inner = {"name": "mixed", "parts": [ANCHORAL, {"name": "seals", "neighbours": 3}], "share": 1}
    narrowed = narrowed_by(local(pool, 2), built(size=60, parts=[inner, "top_score"]), data[1])
    assert narrowed.ids is not None
    assert len(set(narrowed.ids.tolist())) == 60
    assert narrowed.memory is not None


def test_it_works_where_people_name_it(pool, data, tmp_path: Path):
    """From Python at once, and over the rounds of a session, whose memory is the one of seals."""
    parts = [{**ANCHORAL, "share": 0.6}, {"name": "seals", "neighbours": 5, "share": 0.2}, {"name": "uniform"}]
    fields: dict[str, Any] = {"name": "mixed", "size": 50, "parts": parts}
    labels = {f"item-{id:06d}": name for id, name in zip(data[1].ids, data[1].classes, strict=True)}
    table = raysal.select(pool, k=7, labels=labels, narrow=fields)
    assert table.equals(raysal.select(pool, k=7, labels=labels, narrow=fields, partitions=3))
    traces = []
    for again in (False, True):  # left alone, and opened anew before each round
        run = tmp_path / str(again)
        session = Session(run, pool, select="random", narrow=fields)
        session.tell(labels)
        for _ in range(2):
            if again:
                session.close()
                session = Session(run)
            batch = session.query(5)
            session.tell(dict.fromkeys(batch.keys, "class-0"))
        traces.append([session.batch(r).table.to_pydict() for r in range(2)])
        assert "15 of them new" in session.record(0)["narrow"]
        assert "5 of them new" in session.record(1)["narrow"]
        session.close()
    assert traces[0] == traces[1]


def test_selection_sees_the_candidates_alone(pool, data):
    outcome = run_program(
        local(pool, 2), SELECTORS["coreset"](), built(size=30, parts=PARTS), head=HEAD, labelled=data[1]
    )
    assert outcome.candidates.ids is not None
    assert np.isin(outcome.picks.ids, outcome.candidates.ids).all()
