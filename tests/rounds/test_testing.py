"""Test draws: their probabilities are what is recorded, they measure and never train, whatever happens to them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pools import make_pool, mixture
from programs import local, random_head

from raysal.config import parse_config
from raysal.errors import ConfigError, PoolExhausted
from raysal.models.active_testing import Sample
from raysal.models.head import Head
from raysal.pool import Pool
from raysal.rng import derive, item_uniform
from raysal.rounds.directory import RunDir
from raysal.rounds.draws import LEAST, PROBABILITY, REMAINING
from raysal.rounds.held_out import HeldOut
from raysal.rounds.loop import run
from raysal.rounds.session import Session
from raysal.rounds.tested import read_tests
from raysal.rounds.testing import STATE, STEPS, draw, number_of_tests, race, weigh
from raysal.rounds.training_labels import TrainingLabels
from raysal.scoring.inputs import score_inputs
from raysal.types import Label

N, DIM, SEED, SHARE, TARGET = 400, 8, 5, 0.4, "class-1"
ROUNDS = {"count": 3, "k": 20, "holdout": SHARE, "tests": 0.25}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    vectors, names = mixture(N, DIM, classes=4)
    return make_pool(tmp_path_factory.mktemp("tests") / "pool", vectors, chunk_rows=70, labels=names)


@pytest.fixture(scope="module")
def truth(pool: Pool) -> dict[str, str]:
    return {row["key"]: row["label"] for table in pool.items(["key", "label"]) for row in table.to_pylist()}


def session_of(pool: Pool, out: Path, **fields: Any) -> Session:
    return Session(out, pool, **{"select": "margin", "seed": SEED, "target": [TARGET], "rounds": ROUNDS, **fields})


def held(ids: np.ndarray) -> np.ndarray:
    return HeldOut(derive(SEED, "holdout"), SHARE).among(ids)


def drawn_of(session: Session, round: int) -> list[tuple[int, str, float, float, int]]:
    """(id, key, q, least, left) of the test draws of a round, in the order of drawing."""
    table = session.batch(round).table
    columns = [table[name].to_pylist() for name in ("id", "key", PROBABILITY, LEAST, REMAINING)]
    return sorted((row for row in zip(*columns, strict=True) if row[2] is not None), key=lambda row: -row[4])


def learnt(head: Head | None) -> str | None:
    """All of a head but the number of the ledger's event at which it was made."""
    return None if head is None else replace(head, ledger_seq=0).digest()


def play(session: Session, truth: dict[str, str], rounds: int = 3) -> None:
    for _ in range(rounds):
        session.tell({key: truth[key] for key in session.query().keys})


def test_draws_are_held_out_distinct_and_among_the_picks(pool: Pool, truth: dict[str, str], tmp_path: Path) -> None:
    with session_of(pool, tmp_path / "run") as session:
        play(session, truth)
        seen: list[int] = []
        for round in range(3):
            batch, drawn = session.batch(round), drawn_of(session, round)
            assert len(batch) == 20
            assert len(drawn) == 5 == sum(batch.tests)
            assert held(np.array(batch.ids)).tolist() == batch.tests, "what a strategy picks is not held out"
            places = np.flatnonzero(batch.tests)
            assert (np.diff(places) == 4).all(), "evenly: who stops early has answered as many"
            assert [row[4] for row in drawn] == [int(held(np.arange(N)).sum()) - len(seen) - i for i in range(5)]
            reasons = batch.table["reason"].to_pylist()
            assert [reason.startswith("test draw") for reason in reasons] == batch.tests
            assert all(0.5 / row[4] * 0.9 < row[3] <= row[2] for row in drawn), "never less than half of uniform"
            seen += [row[0] for row in drawn]
        assert len(set(seen)) == 15
        assert session.record(1)["tests"]["remaining"] == int(held(np.arange(N)).sum()) - 5
        assert session.status().tested == 15


def test_draws_are_the_same_for_any_partitions_and_follow_from_the_definition(
    pool: Pool, truth: dict[str, str], tmp_path: Path
) -> None:
    """Against floating-point sums over the whole pool, from the head of the round."""
    tables = []
    for partitions in (1, 2, 5):
        fleet = {"backend": "local", "partitions": partitions}
        with session_of(pool, tmp_path / str(partitions), fleet=fleet) as session:
            play(session, truth)
            tables.append([session.batch(round).table for round in range(3)])
            head = session.run.head(2)
            drawn = drawn_of(session, 2)
            known = [row[0] for round in (0, 1) for row in drawn_of(session, round)]
    assert all(table == tables[0] for table in tables[1:])
    assert head is not None
    ids = np.array([id for id in np.flatnonzero(held(np.arange(N))) if id not in known])
    x = np.concatenate([chunk.vectors() for chunk in pool.chunks]).astype(np.float32)
    p = head.likelihood.responses(head.logits(x[ids]).astype(np.float64))[:, head.classes.index(TARGET)]
    q = 0.5 / len(ids) + 0.5 * p / p.sum()
    left = np.ones(len(ids), bool)
    for id, _, chance, least, count in drawn:
        place = int(np.flatnonzero(ids == id)[0])
        assert chance == pytest.approx(q[place] / q[left].sum(), rel=1e-4)
        assert least == pytest.approx(0.5 / len(ids) / q[left].sum(), rel=1e-4)
        assert count == left.sum()
        left[place] = False


def test_items_come_as_often_as_is_recorded(pool: Pool) -> None:
    """First and second draws over many keys, against the exact probabilities of sampling without replacement."""
    fleet, head = local(pool, 3), random_head(DIM, classes=4, scale=1.0)
    inputs = score_inputs(head, ("least_confidence",))
    parts = fleet.each(weigh, HeldOut(derive(SEED, "holdout"), 0.03), "all", np.empty(0, np.int64), inputs,
                       "least_confidence", None)  # fmt: skip
    _, left, total = (sum(column) for column in zip(*parts, strict=True))
    matters = dict(pair for part in fleet.each(kept) for pair in part)
    assert len(matters) == left > 6
    assert 0 < max(matters.values()) <= STEPS
    g = {id: total + left * own for id, own in matters.items()}
    whole, tries = sum(g.values()), 4000
    assert whole == 2 * left * total
    firsts, pairs = Counter(), Counter()
    for number in range(tries):
        found = fleet.each(race, derive(number, "x"), total, left, 2)
        order, ids, _ = (np.concatenate(column) for column in zip(*found, strict=True))
        first, second = ids[np.argsort(-order)[:2]].tolist()
        firsts[first] += 1
        pairs[first, second] += 1
    for id, own in g.items():
        q = own / whole
        assert abs(firsts[id] / tries - q) < 5 * (q * (1 - q) / tries) ** 0.5
    for (first, second), count in pairs.most_common(5):
        q = g[first] / whole * g[second] / (whole - g[first])
        assert abs(count / tries - q) < 5 * (q * (1 - q) / tries) ** 0.5


def kept(partition: Any) -> list[tuple[int, int]]:
    ids, matters = partition.state[STATE]
    return list(zip(ids.tolist(), matters.tolist(), strict=True))


def test_over_seeds_what_is_estimated_is_what_is_true(pool: Pool, truth: dict[str, str]) -> None:
    """Of the held-out items, in the mean over keys: prevalence and error of a head; rounds go on where one ended."""
    fleet, head = local(pool, 3), random_head(DIM, classes=4, scale=1.0)
    held_out = HeldOut(derive(SEED, "holdout"), SHARE)
    names = [truth[f"item-{id:06d}"] for id in range(N)]
    inputs = score_inputs(head, ("least_confidence",))
    members = np.flatnonzero(held(np.arange(N)))
    x = np.concatenate([chunk.vectors() for chunk in pool.chunks]).astype(np.float32)
    wrong = [name != f"class-{row.argmax()}" for name, row in zip(names, head.logits(x), strict=True)]
    values = {"prevalence": np.array([name == TARGET for name in names], float), "error": np.array(wrong, float)}
    estimates: dict[str, list[float]] = {name: [] for name in values}
    for seed in range(150):
        ids, columns = np.empty(0, np.int64), []
        for round in range(2):
            fleet.reset()
            parts = fleet.each(weigh, held_out, "all", np.sort(ids), inputs, "least_confidence", None)
            population, left, total = (sum(column) for column in zip(*parts, strict=True))
            own, q, least = draw(fleet, derive(seed, round), total, left, 10)
            ids = np.concatenate([ids, own])
            columns.append((left - np.arange(10), q, least))
        remaining, q, least = (np.concatenate(column) for column in zip(*columns, strict=True))
        sample = Sample(population=population, remaining=remaining, probability=q, least=least)
        for name, value in values.items():
            estimates[name].append(float(sample.weights() @ value[ids]))
    for name, value in values.items():
        error = np.std(estimates[name]) / len(estimates[name]) ** 0.5
        assert abs(np.mean(estimates[name]) - value[members].mean()) < 4 * error, name
        assert error < 0.02


KINDS = ("right", "wrong", "new", "skip", "dispute", "corrected", "withdrawn", "nothing")


@pytest.mark.parametrize("mode", ["retrain", "laplace"])
def test_no_head_and_no_pick_depends_on_labels_of_test_draws(
    mode: str, pool: Pool, truth: dict[str, str], tmp_path: Path
) -> None:
    """Right, wrong, of a new class, skipped, disputed, corrected, taken back, or never given: bit for bit the same."""
    found = []
    for turn in (None, 0, 3):
        with session_of(pool, tmp_path / str(turn), update={"mode": mode}) as session:
            seen: list[Any] = []
            for round in range(3):
                batch = session.query()
                tests = [key for key, test in zip(batch.keys, batch.tests, strict=True) if test]
                seen.append((batch.keys, learnt(session.run.head(round)), session.record(round)["labels"]))
                session.tell({key: truth[key] for key in batch.keys if key not in tests})
                for place, key in enumerate(tests):
                    kind = "nothing" if turn is None else KINDS[(place + 5 * round + turn) % len(KINDS)]
                    answer(session, kind, [key], truth)
                seen.append(learnt(session.current_head()))
            session.finish()
            found.append([*seen, learnt(session.run.head(None))])
    assert all(one == found[0] for one in found[1:])


def answer(session: Session, kind: str, tests: list[str], truth: dict[str, str]) -> None:
    """Answer test draws in one of several ways."""
    wrong = {key: "class-0" if truth[key] != "class-0" else "class-2" for key in tests}
    if kind in ("right", "dispute", "withdrawn"):
        session.tell({key: truth[key] for key in tests})
    if kind in ("wrong", "corrected"):
        session.tell(wrong)
    if kind == "new":
        session.tell(dict.fromkeys(tests, "never seen before"))
    if kind == "skip":
        session.skip(tests)
    if kind == "dispute":
        session.tell([Label(key=key, label=wrong[key], annotator="b") for key in tests])
    if kind == "corrected":
        session.tell({key: truth[key] for key in tests})
    if kind == "withdrawn":
        session.withdraw(tests)


def test_answers_count_as_they_are_now_and_missing_ones_not_at_all(
    pool: Pool, truth: dict[str, str], tmp_path: Path
) -> None:
    """A corrected label as it was corrected; skipped, disputed, withdrawn and open draws as if they were not there."""
    results = {}
    for kind in ("right", "corrected", "skip", "nothing"):
        with session_of(pool, tmp_path / kind) as session:
            batch = session.query()
            session.tell({key: truth[key] for key, test in zip(batch.keys, batch.tests, strict=True) if not test})
            play(session, truth, 1)
            tests = [key for key, test in zip(batch.keys, batch.tests, strict=True) if test]
            if kind in ("right", "corrected"):
                answer(session, kind, tests, truth)
            else:
                session.tell({key: truth[key] for key in tests[:3]})
                if kind == "skip":
                    session.skip(tests[3:])
            results[kind] = session.finish()["evaluation"]
            status = session.status()
            assert status.search is not None
            assert (status.search.drawn, status.search.answered) == (10, 10 if kind in ("right", "corrected") else 8)
    assert results["right"] == results["corrected"]
    assert results["skip"] == results["nothing"]
    assert (results["right"]["items"], results["skip"]["items"]) == (10, 8)
    assert results["right"]["known_by"] == "test draws"


def test_told_items_stand_for_themselves_unless_they_came_in_turn(
    pool: Pool, truth: dict[str, str], tmp_path: Path
) -> None:
    """The first of `label export --holdout` are uniform draws, as far as nobody left one out; others stand alone.

    An example stands alone, too, wherever it is: somebody chose it.
    """
    with session_of(pool, tmp_path / "run") as session:
        turn = session.held_out(12)
        session.tell({turn[1]: truth[turn[1]]}, examples=True)
        session.tell({key: truth[key] for key in (*turn[:4], turn[5], turn[11])})
        play(session, truth, 1)
        first = session.record(0)["tests"]
        ids = pool.ids_of(turn)
        in_turn, alone = [turn[0], *turn[2:4]], [turn[1], turn[5], turn[11]]
        assert first["told"] == [*(ids[key] for key in in_turn), *sorted(ids[key] for key in alone)]
        assert (first["uniform"], first["population"] - first["remaining"]) == (3, 6)
        session.tell({turn[4]: truth[turn[4]]})
        play(session, truth, 1)
        second = session.record(1)["tests"]
        assert (second["told"], second["uniform"]) == ([ids[turn[4]]], 1)
        tested = read_tests(session.run, session.ledger)
        assert len(tested.ids) == len(set(tested.ids.tolist())) == 6 + 5 + 1 + 5
        assert np.isnan(tested.sample.probability).sum() == 3
        assert (tested.sample.remaining == first["population"] - np.arange(17)).all()
        assert session.status().search.drawn == 10


def test_nothing_is_measured_by_items_that_stand_for_themselves_alone(
    pool: Pool, truth: dict[str, str], tmp_path: Path
) -> None:
    """Draws without an answer, and told items beside them: the evaluation waits; with one answer there is one."""
    with session_of(pool, tmp_path / "run") as session:
        turn = session.held_out(30)
        batch = session.query()
        session.tell({key: truth[key] for key, test in zip(batch.keys, batch.tests, strict=True) if not test})
        session.tell({key: truth[key] for key in turn[20:]})
        session.query()
        assert session.finish()["evaluation"] is None
        assert session.status().search.prevalence is None
        first = drawn_of(session, 0)[0][1]
        session.tell({first: truth[first]})
        assert 0 <= session.finish()["evaluation"]["accuracy"] <= 1


def test_what_is_interrupted_goes_on_as_if_it_was_not(pool: Pool, truth: dict[str, str], tmp_path: Path) -> None:
    """Killed between the rename of a round and its lease; and a run that is continued with more rounds."""
    with session_of(pool, tmp_path / "whole") as session:
        play(session, truth)
    with session_of(pool, tmp_path / "cut") as session, pytest.MonkeyPatch.context() as patch:
        play(session, truth, 1)
        publish = RunDir.publish

        def killed(*args: Any) -> None:
            publish(*args)
            raise KeyboardInterrupt

        patch.setattr(RunDir, "publish", killed)
        with pytest.raises(KeyboardInterrupt):
            session.query()
    with Session.open(tmp_path / "cut") as session:
        batch = session.batch(1)
        assert session.ledger.drawn(np.array(batch.ids)).tolist() == batch.tests
        session.tell({key: truth[key] for key in batch.keys})
        play(session, truth, 1)
    config = {"pool": str(pool.path), "oracle": "simulated", "seed": SEED, "select": "margin", "target": [TARGET]}
    config["fleet"] = {"backend": "local"}
    for out, counts in (("once", [3]), ("twice", [1, 3])):
        for count in counts:
            run(parse_config({**config, "rounds": {**ROUNDS, "count": count}}), tmp_path / out)
    for one, other in (("whole", "cut"), ("once", "twice")):
        for round in range(3):
            for name in ("batch.parquet", "head.safetensors"):
                paths = [tmp_path / out / "rounds" / f"{round:04d}" / name for out in (one, other)]
                assert [path.exists() for path in paths] in ([True] * 2, [False] * 2)
                assert not paths[0].exists() or paths[0].read_bytes() == paths[1].read_bytes()


def test_after_a_match_with_another_pool_draws_begin_anew_and_never_train(
    pool: Pool, truth: dict[str, str], tmp_path: Path
) -> None:
    """Which items are held out goes by ids. What was drawn in the old pool and is held out in the new one is told."""
    vectors, names = mixture(N, DIM, classes=4)
    order = np.random.default_rng(1).permutation(N)
    keys = [f"item-{id:06d}" for id in order]
    other = make_pool(tmp_path / "other", vectors[order], labels=[names[id] for id in order], keys=keys)
    with session_of(pool, tmp_path / "run") as session:
        play(session, truth, 2)
        old = [row[1] for round in (0, 1) for row in drawn_of(session, round)]
    with Session.open(tmp_path / "run", other, rebind=True) as session:
        assert len(read_tests(session.run, session.ledger).ids) == 0
        batch = session.query()
        tests = session.record(2)["tests"]
        ids = other.ids_of(old)
        still = sorted(id for id in ids.values() if held(np.array([id]))[0])
        assert 0 < len(still) < len(old)
        assert set(still) <= set(tests["told"])
        trained = other.ids_of([key for round in (0, 1) for key in session.run.batch(round).keys if key not in old])
        assert set(tests["told"]) - set(still) == {id for id in trained.values() if held(np.array([id]))[0]}
        assert not {row[0] for row in drawn_of(session, 2)} & set(ids.values())
        assert session.record(2)["labels"] == 30, "no draw of the old pool trains"
        session.tell({key: truth[key] for key in batch.keys})
        tested = read_tests(session.run, session.ledger)
        assert len(tested.ids) == len(tests["told"]) + 5
        answers = TrainingLabels.of(session.ledger, session.config, None).tests()
        assert not set(answers) & set(trained.values()), "what trained measures nothing"
    with Session.open(tmp_path / "run", pool, rebind=True) as session:
        tested = read_tests(session.run, session.ledger)
        assert set(old) <= {f"item-{id:06d}" for id in tested.ids}
        session.query()
        assert session.record(3)["tests"]["remaining"] <= int(held(np.arange(N)).sum()) - 10


def test_a_run_draws_until_nothing_is_left(tmp_path: Path) -> None:
    """Batches end with what is left of either kind, every item is asked for once, and the estimate is the truth."""
    vectors, names = mixture(60, DIM, classes=2, seed=4)
    small = make_pool(tmp_path / "pool", vectors, labels=names)
    config = {"pool": str(small.path), "oracle": "simulated", "seed": 1, "select": "margin", "target": ["class-1"]}
    config |= {"fleet": {"backend": "local"}, "rounds": {"count": 40, "k": 7, "holdout": 0.2, "tests": 0.4}}
    done = run(parse_config(config), tmp_path / "run")
    assert done.finished
    with Session.open(tmp_path / "run", read_only=True) as session:
        asked = [id for round in range(session.rounds) for id in session.batch(round).ids]
        tested = read_tests(session.run, session.ledger)
        in_all = HeldOut(derive(1, "holdout"), 0.2).among(np.arange(60))
        assert len(asked) == len(set(asked))
        assert set(np.flatnonzero(~in_all)) <= set(asked)
        assert set(tested.ids.tolist()) == set(np.flatnonzero(in_all).tolist())
        share = session.status().search.prevalence
        assert share == pytest.approx(np.mean([names[id] == "class-1" for id in np.flatnonzero(in_all)]))


def test_how_many_are_drawn() -> None:
    """The share on average, never a whole batch, never more than there are; too large a batch is refused by size."""
    keys = [derive(seed, "tests") for seed in range(400)]
    assert np.mean([number_of_tests(7, 0.2, key, 100, 100) for key in keys]) == pytest.approx(1.4, abs=0.1)
    assert {number_of_tests(1, 0.9, key, 100, 100) for key in keys} == {0}
    assert number_of_tests(10, 0.5, keys[0], 100, 3) == 3
    for key in keys[:20]:
        counts = [number_of_tests(k, 0.3, key, 100, 100) for k in range(1, 60)]
        picks = [k - count for k, count in zip(range(1, 60), counts, strict=True)]
        assert (np.diff(counts) >= 0).all()
        assert (np.diff(picks) >= 0).all()
        with pytest.raises(PoolExhausted) as refused:
            number_of_tests(50, 0.3, key, 20, 100)
        assert 20 - 1 <= refused.value.available - number_of_tests(refused.value.available, 0.3, key, 20, 100) <= 20
        with pytest.raises(PoolExhausted) as refused:
            number_of_tests(5, 0.3, key, 0, 100)
        assert refused.value.available == 0


def test_tests_need_held_out_items_and_change_the_run(pool: Pool, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"rounds\.tests"):
        session_of(pool, tmp_path / "none", rounds={"tests": 0.2})
    with session_of(pool, tmp_path / "run") as session:
        session.query()
    with pytest.raises(Exception, match="another rounds"):
        session_of(pool, tmp_path / "run", rounds={**ROUNDS, "tests": 0.1})


@pytest.mark.parametrize(("trainer", "uniform"), [("regression", True), ("multi_label", False)])
def test_other_kinds_of_labels_are_tested_too(
    trainer: str, uniform: bool, pool: Pool, truth: dict[str, str], tmp_path: Path
) -> None:
    labels = {key: str(int(name[-1]) + 0.5) if uniform else f"{name}|any" for key, name in truth.items()}
    select = "random" if uniform else "margin"
    with session_of(pool, tmp_path / "run", update={"trainer": trainer}, target=[], select=select) as session:
        play(session, labels)
        found = session.finish()["evaluation"]
        drawn = drawn_of(session, 2)
    assert (found["items"], found["known_by"]) == (15, "test draws")
    assert all((row[2] == pytest.approx(1 / row[4])) == uniform for row in drawn)


def test_where_a_strategy_learns_from_held_out_items_draws_come_from_the_other_half(
    pool: Pool, truth: dict[str, str], tmp_path: Path
) -> None:
    isal = {"name": "isal", "reference": "held_out"}
    with session_of(pool, tmp_path / "run", select=isal, target=[]) as session:
        key = derive(SEED, "holdout")
        ids = np.flatnonzero(held(np.arange(N)))
        measures = item_uniform(derive(key, "reference"), ids) >= 0.5
        names = [f"item-{id:06d}" for id in ids[~measures]]
        session.tell({name: truth[name] for name in names[:20]})
        play(session, truth)
        drawn = {row[0] for round in range(3) for row in drawn_of(session, round)}
        assert drawn <= set(ids[measures].tolist())
        assert session.record(2)["tests"]["population"] == measures.sum()
