"""SEALS over the rounds: a union that accumulates, only new labels searched, kept safe beside the rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import killed_runs
import numpy as np
import pytest
import reference
from pools import make_pool, mixture
from programs import labelled_of, local, run_program, task_of
from tiers import deep_unless

from raysal.config import parse_config
from raysal.context import LabelledVectors
from raysal.errors import Damaged, PoolExhausted
from raysal.fleet import LocalFleet, exclude, plan_partitions
from raysal.memory import Memory
from raysal.narrowing.base import Candidates, narrow
from raysal.narrowing.seals import Seals
from raysal.pool import Pool
from raysal.rng import derive
from raysal.rounds.loop import resume, run
from raysal.rounds.session import Session
from raysal.scoring.sweep import SweepRequest
from raysal.strategies import SELECTORS
from raysal.types import Metric

N, DIM, K = 420, 9, 8
LAYOUTS = ((64, 1), (64, 2), (N, 5))
"""(rows of a chunk, partitions)"""
ROUNDS = ([3, 77, 200], [152, 199, 201, 419], [], [24])
"""Labels that come, round by round; some are neighbours of earlier ones."""
TAKEN = list(range(0, N, 11))
"""Leased, skipped: neither labelled nor available."""


@pytest.fixture(scope="module")
def data():
    return mixture(N, DIM, classes=3, seed=2)


@pytest.fixture(scope="module")
def pools(data, tmp_path_factory):
    root = tmp_path_factory.mktemp("seals")
    return {
        (metric, rows): make_pool(root / f"{metric}-{rows}", data[0], chunk_rows=rows, metric=metric)
        for metric in ("cosine", "l2")
        for rows in (64, N)
    }


class Watching(LocalFleet):
    """Notes how many anchors each sweep was asked to search for."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.anchors: list[int] = []

    def each(self, fn: Callable[..., Any], *args: Any) -> list[Any]:
        for request in (arg for arg in args if isinstance(arg, SweepRequest)):
            self.anchors.append(sum(len(search.anchors) for search in request.searches))
        return super().each(fn, *args)


def watching(pool: Pool, partitions: int = 2) -> Watching:
    return Watching(plan_partitions(pool, partitions))


def labels_until(data, round: int) -> LabelledVectors:
    return labelled_of(*data, [id for ids in ROUNDS[: round + 1] for id in ids])


def one_round(fleet, known: LabelledVectors, memory: Memory | None, *, taken=TAKEN, k: int = 1) -> Candidates:
    fleet.reset()
    available = sum(fleet.each(exclude, np.union1d(known.ids, taken)))
    return narrow(fleet, Seals(neighbours=K), task_of(fleet, known, k=k, available=available, memory=memory))[1]


def all_rounds(fleet, data) -> list[Candidates]:
    found: list[Candidates] = []
    for round in range(len(ROUNDS)):
        found.append(one_round(fleet, labels_until(data, round), found[-1].memory if found else None))
    return found


def slow_unions(x: np.ndarray, metric: Metric) -> list[set[int]]:
    """Round by round, what was found so far less what is labelled or taken: everything searched by a full sort."""
    unions, found, labelled = [], set[int](), set[int]()
    for new in ROUNDS:
        labelled |= set(new)
        offered = np.array(sorted(set(range(N)) - labelled - set(TAKEN)))
        for id in new:
            near = (
                reference.cosine(x[offered], x[id]) if metric == "cosine" else -reference.sq_distance(x[offered], x[id])
            )
            found |= set(reference.ranked(near, offered, K, derive(7, "ties")).tolist())
        unions.append(found - labelled - set(TAKEN))
    return unions


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_the_union_over_the_rounds_is_that_of_a_slow_loop(metric, pools, data):
    expected = slow_unions(data[0], metric)
    assert len(expected[0]) < len(expected[1]) < len(expected[3]), "it grows"
    assert expected[0] - expected[1], "what is labelled leaves it"
    for rows, partitions in LAYOUTS:
        found = all_rounds(local(pools[metric, rows], partitions), data)
        for narrowed, union in zip(found, expected, strict=True):
            assert narrowed.ids is not None
            assert sorted(narrowed.ids.tolist()) == sorted(union)


def test_candidates_come_in_the_same_order_wherever_the_rows_lie(pools, data):
    runs = [all_rounds(local(pools["cosine", rows], partitions), data) for rows, partitions in LAYOUTS]
    for other in runs[1:]:
        for mine, theirs in zip(runs[0], other, strict=True):
            assert mine.ids is not None
            assert np.array_equal(mine.ids, theirs.ids)
            assert mine.rule == theirs.rule
            assert mine.memory is not None
            assert theirs.memory is not None
            assert mine.memory.dump() == theirs.memory.dump()
            assert mine.ids.tolist() != sorted(mine.ids.tolist()), "a first part of them is a uniform draw"


def test_only_new_labels_are_searched_for(pools, data):
    fleet = watching(pools["cosine", 64])
    found = all_rounds(fleet, data)
    assert fleet.anchors == [3, 4, 0, 1]
    assert [f"{new} of them new" in narrowed.rule for new, narrowed in zip(fleet.anchors, found, strict=True)]
    assert "of 8 labelled, 1 of them new" in found[3].rule
    afresh = one_round(fleet, labels_until(data, 3), None)
    assert fleet.anchors[-1] == 8, "without a memory all are"
    assert afresh.ids is not None


def test_a_memory_keeps_what_a_search_of_today_would_not_find(pools, data):
    """Neighbours are those of the round in which a label came: what has been labelled since has freed no place."""
    fleet = local(pools["cosine", 64], 2)
    kept = all_rounds(fleet, data)[-1]
    afresh = one_round(fleet, labels_until(data, len(ROUNDS) - 1), None)
    assert kept.ids is not None
    assert afresh.ids is not None
    assert len(afresh.ids) >= len(kept.ids)


def test_what_is_labelled_or_taken_is_no_candidate(pools, data):
    """Not even as one of the first candidates, of which a share may be taken."""
    fleet = local(pools["cosine", 64], 2)
    memory = one_round(fleet, labels_until(data, 0), None, taken=[]).memory
    assert memory is not None
    out = memory.found[::2].tolist()
    known = labelled_of(*data, [*ROUNDS[0], *out[::2]])
    narrowed = one_round(fleet, known, memory, taken=out)
    assert narrowed.ids is not None
    assert len(np.unique(narrowed.ids)) == len(narrowed.ids)
    assert not np.isin(narrowed.ids, [*known.ids, *out]).any()
    assert narrowed.rule.startswith(f"{len(narrowed.ids)} neighbours of ")
    again = one_round(fleet, known, narrowed.memory, taken=[])
    assert again.ids is not None
    assert set(out) - set(known.ids.tolist()) <= set(again.ids.tolist()), "what is offered again is a candidate again"


def test_without_labels_everything_is_offered_and_nothing_forgotten(pools, data):
    fleet = local(pools["cosine", 64], 2)
    first = one_round(fleet, labels_until(data, 0), None)
    nobody = one_round(fleet, labelled_of(*data, []), None)
    assert nobody.ids is None
    assert nobody.memory is None
    disputed = one_round(fleet, labelled_of(*data, []), first.memory)
    assert disputed.ids is None
    assert disputed.memory is first.memory


def test_a_memory_is_the_same_bytes_and_comes_back_as_it_was():
    for found, searched in (([], []), ([1, 5, 9], []), ([2], [3, 2**40])):
        memory = Memory(found=np.array(found, np.int64), searched=np.array(searched, np.int64))
        assert memory.dump() == replace(memory).dump()
        again = Memory.load(memory.dump())
        assert (again.found.tolist(), again.searched.tolist()) == (found, searched)
        assert again.found.dtype == again.searched.dtype == np.int64


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_smallest_pools(metric, n, tmp_path):
    x, names = mixture(n, 3, classes=2)
    x[-1] = 0
    fleet = local(make_pool(tmp_path / "pool", x, metric=metric), 2)
    for labels in range(n + 1):
        options: dict[str, Any] = {"head": None, "labelled": labelled_of(x, names, range(labels))}
        if labels == n:
            with pytest.raises(PoolExhausted):
                run_program(fleet, SELECTORS["random"](), Seals(), k=1, **options)
            continue
        picks = run_program(fleet, SELECTORS["random"](), Seals(neighbours=50), k=n - labels, **options).picks
        assert sorted(picks.ids.tolist()) == list(range(labels, n))


# -- in a session -------------------------------------------------------------------------------------------

FIELDS: dict[str, Any] = {**killed_runs.FIELDS, "narrow": {"name": "seals", "neighbours": 9}}
POINTS = ["rename:7", "lease:2", "tell:2"]
"""Around the second round and the third, which go on from a memory."""


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    vectors, labels = mixture(500, 12)
    return make_pool(tmp_path_factory.mktemp("session") / "pool", vectors, chunk_rows=150, labels=labels)


def trace(out: Path) -> dict[str, Any]:
    memories = {path.parent.name: path.read_bytes() for path in sorted(out.rglob("memory.safetensors"))}
    with Session(out) as session:
        rules = [session.record(round)["narrow"] for round in range(session.rounds)]
    return {**killed_runs.trace(out), "memories": memories, "rules": rules}


@pytest.fixture(scope="module")
def whole(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The trace of the run that nothing interrupts."""
    out = tmp_path_factory.mktemp("whole") / "run"
    run(parse_config({**FIELDS, "pool": str(pool.path)}), out)
    return trace(out)


@pytest.mark.parametrize("point", deep_unless(["rename:7"], POINTS))
def test_killed_and_resumed_equals_uninterrupted(pool: Pool, whole: dict[str, Any], point: str, tmp_path: Path) -> None:
    assert sorted(whole["memories"]) == ["0001", "0002"], "before the first label there is nothing to remember"
    assert "of 24 labelled, 12 of them new" in whole["rules"][2]
    killed_runs.kill_run(point, {**FIELDS, "pool": str(pool.path)}, tmp_path / "run")
    resume(tmp_path / "run")
    assert trace(tmp_path / "run") == whole


def start(pool: Pool, out: Path, **fields: Any) -> Session:
    return Session(out, pool=pool, **{**FIELDS, "oracle": "files", "rounds": {"k": 12}, **fields})


def told(session: Session, pool: Pool) -> None:
    truth = killed_runs.truth_of(pool)
    batch = session.query()
    session.tell({key: truth[key] for key in batch.keys})


def test_a_round_searches_only_for_what_was_labelled_since(pool: Pool, tmp_path: Path) -> None:
    fleet = watching(pool)
    with start(pool, tmp_path / "run", fleet=fleet) as session:
        truth = killed_runs.truth_of(pool)
        told(session, pool)
        keys = session.query().keys
        session.tell({key: truth[key] for key in keys[:5]})
        session.query()
        session.tell({key: truth[key] for key in keys[:6]})  # five of them again
        session.skip(keys[6:8])
        session.query()
        session.query()
        rules = [session.record(round)["narrow"] for round in range(session.rounds)]
    assert fleet.anchors == [0, 12, 5, 1, 0]
    assert "of 18 labelled, 0 of them new" in rules[-1]


@pytest.mark.parametrize("harm", ["flipped", "cut short", "missing", "another round's"])
def test_a_damaged_memory_is_named(pool: Pool, tmp_path: Path, harm: str) -> None:
    with start(pool, tmp_path / "run") as session:
        for _ in range(3):
            told(session, pool)
    path = tmp_path / "run" / "rounds" / "0002" / "memory.safetensors"
    content = bytearray(path.read_bytes())
    if harm == "missing":
        path.unlink()
    elif harm == "cut short":
        path.write_bytes(content[:-8])
    elif harm == "another round's":
        path.write_bytes((tmp_path / "run" / "rounds" / "0001" / path.name).read_bytes())
    else:
        content[-9] ^= 1
        path.write_bytes(content)
    with Session(tmp_path / "run") as session, pytest.raises(Damaged, match=r"0002/memory\.safetensors"):
        session.query()
    assert not (tmp_path / "run" / "rounds" / "0003").exists()
