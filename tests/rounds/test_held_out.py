"""A held-out item is in no batch and in no head, whoever labels it and when; its label measures, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_tools import cli, refused
from pools import make_pool, mixture
from tiers import deep_unless

import raysal
from raysal.config import parse_config
from raysal.errors import ConfigError
from raysal.labels.files import read_labels
from raysal.models.head import Head
from raysal.pool import Pool, open_pool
from raysal.rng import derive, item_uniform
from raysal.rounds import evaluation
from raysal.rounds.held_out import held_out_keys
from raysal.rounds.loop import resume, run
from raysal.rounds.session import Session
from raysal.rounds.training_labels import TrainingLabels
from raysal.types import Label

N, DIM, SEED, SHARE = 300, 8, 5, 0.3
ROUNDS = {"count": 4, "k": 12, "holdout": SHARE}
CASES = [("retrain", "leave"), ("laplace", "leave"), ("laplace", "votes"), ("retrain", "votes")]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    vectors, names = mixture(N, DIM, classes=3)
    return make_pool(tmp_path_factory.mktemp("held-out") / "pool", vectors, chunk_rows=70, labels=names)


@pytest.fixture(scope="module")
def truth(pool: Pool) -> dict[str, str]:
    return {row["key"]: row["label"] for table in pool.items(["key", "label"]) for row in table.to_pylist()}


@pytest.fixture(scope="module")
def held(pool: Pool) -> list[str]:
    """Keys of the held-out items, in the order in which they are given to people; computed from the definition."""
    draws = item_uniform(derive(SEED, "holdout"), np.arange(N))
    keys = [key for table in pool.items(["key"]) for key in table["key"].to_pylist()]
    return [keys[id] for id in np.argsort(draws, kind="stable") if draws[id] < SHARE]


def session_of(pool: Pool, out: Path, mode: str, disputed: str = "leave", **fields: Any) -> Session:
    update = {"mode": mode, "disputed": disputed, "retrain_every": 3}
    asked = {"select": "badge", "seed": SEED, "update": update, "rounds": ROUNDS, **fields}
    return Session(out, pool, **asked)


def learnt(head: Head | None) -> str | None:
    """All of a head but the number of the ledger's event at which it was made."""
    return None if head is None else replace(head, ledger_seq=0).digest()


def play(session: Session, truth: dict[str, str], tell: Callable[[Session, int], None]) -> list[Any]:
    """Three rounds of labels for the batches, and what else `tell` tells; what came of it."""
    seen: list[Any] = []
    tell(session, 0)
    for number in range(3):
        batch = session.query()
        seen.append((batch.keys, learnt(session.run.head(number)), session.record(number)["labels"]))
        tell(session, 2 * number + 1)
        session.tell({key: truth[key] for key in batch.keys[: 12 - number]})
        tell(session, 2 * number + 2)
        seen.append(learnt(session.current_head()))
    session.finish()
    return [*seen, learnt(session.run.head(None)), session.record(None)["labels"]]


def at_every_moment(truth: dict[str, str], held: list[str]) -> Callable[[Session, int], None]:
    """Labels of held-out items that come, are corrected, repeated, disputed, skipped, weighed and taken back."""

    def tell(session: Session, moment: int) -> None:
        some = held[moment * 5 : moment * 5 + 5]
        session.tell({key: truth[key] for key in some})
        session.tell([Label(key=some[0], label="never seen before", annotator="b")])
        session.tell([Label(key=some[1], label=truth[some[1]], annotator="b", weight=9.0)])
        session.skip(some[2:3])
        session.tell({held[0]: "class-2" if moment % 2 else "class-0"})
        if moment > 2:
            session.withdraw(held[5:6])

    return tell


@pytest.mark.parametrize(
    ("mode", "disputed", "select"),
    [*deep_unless([(*CASES[1], "badge")], [(*case, "badge") for case in CASES]), ("retrain", "leave", "isal")],
)
def test_no_head_and_no_batch_depends_on_labels_of_held_out_items(
    mode: str, disputed: str, select: str, pool: Pool, truth: dict[str, str], held: list[str], tmp_path: Path
) -> None:
    """Bit for bit, in every round, in the head that follows labels, and at the close."""
    with session_of(pool, tmp_path / "plain", mode, disputed, select=select) as session:
        plain = play(session, truth, lambda session, moment: None)
    with session_of(pool, tmp_path / "told", mode, disputed, select=select) as session:
        told = play(session, truth, at_every_moment(truth, held))
        asked = {key for number in range(3) for key in session.batch(number).keys}
        assert session.status().tested == len(TrainingLabels.of(session.ledger, session.config, None).tests()) > 20
    assert told == plain
    assert not asked & set(held)


ISAL = {"name": "isal", "reference": "held_out"}


@pytest.fixture(scope="module")
def halves(pool: Pool, held: list[str]) -> tuple[list[str], list[str]]:
    """Keys of the held-out items that measure, and of those that are a reference; computed from the definition."""
    ids = pool.ids_of(held)
    draws = item_uniform(derive(derive(SEED, "holdout"), "reference"), np.array([ids[key] for key in held], np.int64))
    chosen = dict(zip(held, (draws < 0.5).tolist(), strict=True))
    return [key for key in held if not chosen[key]], [key for key in held if chosen[key]]


def test_where_a_strategy_learns_from_held_out_items_no_label_both_measures_and_decides(
    pool: Pool, truth: dict[str, str], held: list[str], halves: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    """One half decides picks and measures nothing, the other measures and decides nothing."""
    measure, reference = halves
    assert min(len(measure), len(reference)) > 20

    def batches(out: str, told: dict[str, str]) -> tuple[list[list[str]], Any]:
        with session_of(pool, tmp_path / out, "retrain", select=ISAL) as session:
            session.tell(told)
            keys = []
            for _ in range(3):
                batch = session.query()
                keys.append(batch.keys)
                session.tell({key: truth[key] for key in batch.keys})
            evaluation = session.record(1)["evaluation"]
        return keys, evaluation

    names = sorted(set(truth.values()))
    wrong = dict(zip(names, [*names[1:], names[0]], strict=True))
    first = {key: truth[key] for key in reference}
    plain, nothing = batches("plain", first)
    assert nothing is None, "the reference measures nothing"
    measured, evaluation = batches("measured", first | {key: truth[key] for key in measure})
    misled, misjudged = batches("misled", first | {key: wrong[truth[key]] for key in measure})
    assert measured == misled == plain, "what measures decides nothing"
    assert evaluation["items"] == misjudged["items"] == len(measure)
    assert misjudged["accuracy"] < evaluation["accuracy"]
    decided, _ = batches("decided", {key: wrong[truth[key]] for key in reference})
    assert decided[0] == plain[0], "the first batch has no head"
    assert decided[1] != plain[1]
    assert not {key for keys in (*plain, *decided) for key in keys} & set(held)


def test_a_reference_of_held_out_items_that_is_not_there_is_asked_for(
    pool: Pool, truth: dict[str, str], halves: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    """Before the run where nothing is held out, also within wrappers and narrowers; else when it is needed."""
    refine = {"name": "refine", "members": [ISAL]}
    for fields in ({"select": ISAL}, {"select": {"name": "skip_extremes", "of": ISAL}}, {"narrow": refine}):
        with pytest.raises(ConfigError, match=r"rounds\.holdout"):
            session_of(pool, tmp_path / "none", "retrain", **fields, rounds={"count": 2, "k": 12})
        rounds = {"count": 2, "k": 12, "holdout": SHARE, "control": True}
        with pytest.raises(ConfigError, match=r"rounds\.control"):  # it would be measured on other items
            session_of(pool, tmp_path / "none", "retrain", **fields, rounds=rounds)
    with session_of(pool, tmp_path / "run", "retrain", select=ISAL) as session:
        session.tell({key: truth[key] for key in session.query().keys})
        session.tell({key: truth[key] for key in halves[0]})
        with pytest.raises(ConfigError, match="label export RUN --holdout"):
            session.query()
        session.tell({key: truth[key] for key in halves[1][:9]})
        assert session.query().table["reason"][0].as_py().endswith("on 9 held-out items")
    with pytest.raises(ConfigError, match="nothing is held out here"):
        raysal.select(pool, k=5, labels={key: truth[key] for key in halves[0]}, strategy=ISAL)


@pytest.mark.parametrize("oracle", ["files", "simulated"])
@pytest.mark.parametrize("most", [10_000, 40])
def test_a_head_is_measured_on_exactly_the_held_out_items_that_somebody_knows(
    oracle: str, most: int, pool: Pool, truth: dict[str, str], held: list[str], tmp_path: Path, monkeypatch: Any
) -> None:
    """What people say goes before what the oracle knows; what they dispute or skip is known by the oracle alone."""
    monkeypatch.setattr(evaluation, "MOST", most)
    with session_of(pool, tmp_path / "run", "retrain", oracle=oracle) as session:
        batch = session.query()
        session.tell({key: truth[key] for key in batch.keys})
        told = {key: truth[key] for key in held[3:60:2]} | {held[9]: "class-9"}
        session.tell(told)
        session.tell([Label(key=held[3], label="another", annotator="b")])
        session.skip([held[5]])
        record = session.finish()["evaluation"]
        head = session.current_head()
    assert head is not None
    known = {key: label for key, label in told.items() if key not in (held[3], held[5])}
    if oracle == "simulated":
        known = {key: truth[key] for key in held[:most]} | known
    known = {key: known[key] for key in [key for key in held if key in known][:most]}
    ids = pool.ids_of(list(known))
    vectors = np.concatenate([chunk.vectors() for chunk in pool.chunks]).astype(np.float32)
    right = [head.classes[head.logits(vectors[[ids[key]]])[0].argmax()] == label for key, label in known.items()]
    assert (record["items"], record["accuracy"]) == (len(known), pytest.approx(np.mean(right)))


def test_people_get_held_out_items_in_one_random_order(
    pool: Pool, truth: dict[str, str], held: list[str], tmp_path: Path
) -> None:
    """Ten, and ten more once these are answered: always the beginning of what is left, so always a uniform sample."""
    with session_of(pool, tmp_path / "run", "retrain") as session:
        taken: set[int] = set()
        for first in (0, 10):
            keys = held_out_keys(pool, session.config, taken, 10)
            assert keys == session.held_out(10) == held[first : first + 10]
            session.tell({key: truth[key] for key in keys[:9]})
            session.skip(keys[9:])
            taken = set(session.ledger.excluded().tolist())
        assert held_out_keys(pool, session.config, taken, 10_000) == held[20:]


def test_from_the_command_line(pool: Pool, truth: dict[str, str], held: list[str], tmp_path: Path) -> None:
    """A run of people says that nothing is measured, and how to; then it is measured."""
    config, out, file = tmp_path / "run.toml", tmp_path / "run", tmp_path / "test.csv"
    text = f'pool = "{pool.path}"\nseed = {SEED}\n[fleet]\nbackend = "local"\n[rounds]\ncount = 2\nk = 12\n'
    config.write_text(f"{text}holdout = {SHARE}\n", encoding="utf-8")
    assert "raysal label export RUN --holdout" in cli("config", "validate", config).out
    assert f"raysal label export {out} --holdout" in cli("run", config, "--out", out).out
    answer = cli("label", "export", out, "--holdout", 25, "-o", file, "--json")
    assert (answer.code, answer.json["held_out"]) == (0, 25)
    assert [line.split(",")[0] for line in file.read_text().splitlines()[1:]] == held[:25]
    file.write_text("key,label\n" + "".join(f"{key},{truth[key]}\n" for key in held[:25]), encoding="utf-8")
    assert cli("label", "import", out, file).code == 0
    waiting = cli("resume", out).out  # a batch is waited for, so there is no new head to measure
    assert "the labels of 25 held-out items measure the next head" in waiting
    assert "--holdout" not in waiting
    for _ in range(2):
        with Session.open(out) as session:
            session.tell({key: truth[key] for _, key in session.ledger.outstanding()})
        answer = cli("resume", out)
    assert "accuracy" in answer.out
    assert "--holdout" not in answer.out
    status = cli("status", out, "--json").json
    assert (status["labeled"], status["tested"], status["finished"]) == (24 + 25, 25, True)
    assert status["value"] > 0.8
    assert len(read_labels(file).labels) == 25
    refused(cli("label", "export", out, "--holdout", 5, "--waiting", "-o", file.with_name("a.csv")), "--waiting")
    config.write_text(text, encoding="utf-8")
    cli("run", config, "--out", tmp_path / "plain")
    refused(cli("label", "export", tmp_path / "plain", "--holdout", 5, "-o", file.with_name("b.csv")), "holdout")


def test_items_to_test_are_of_the_runs_own_pool(pool: Pool, held: list[str], tmp_path: Path) -> None:
    """Held-out items go by ids. Where another pool lies in the place of the run's, its keys are not those."""
    there, out, file = tmp_path / "pool", tmp_path / "run", tmp_path / "test.csv"
    shutil.copytree(pool.path, there)
    with session_of(open_pool(there), out, "retrain") as session:
        session.query()
    shutil.move(there, tmp_path / "moved")
    vectors, names = mixture(N + 1, DIM, classes=3)
    make_pool(there, vectors, labels=names, keys=["new", *(f"item-{i:06d}" for i in range(N))])
    refused(cli("label", "export", out, "--holdout", 5, "-o", file), str(there), "--rebind")
    assert not file.exists()
    assert cli("label", "export", out, "--holdout", 5, "-o", file, "--pool", tmp_path / "moved").code == 0
    assert [line.split(",")[0] for line in file.read_text().splitlines()[1:]] == held[:5]


@pytest.mark.parametrize("mode", ["retrain", "laplace"])
def test_a_head_of_before_that_learnt_from_held_out_items_is_fitted_anew(
    mode: str, pool: Pool, truth: dict[str, str], held: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a run opens and goes on as one that never learnt from them; also where nothing was told since."""
    with session_of(pool, tmp_path / "plain", mode) as plain:
        first = plain.query()
        answers = {key: truth[key] for key in first.keys}
        plain.tell(answers)
        fit = plain.current_head()
    with session_of(pool, tmp_path / "old", mode) as session, monkeypatch.context() as before:
        session.query()
        session.tell(answers | {key: truth[key] for key in held[:6]})
        before.setattr(TrainingLabels, "of", classmethod(as_it_was))
        second = session.query()
        assert session.record(1)["labels"] == len(answers) + 6
    with Session.open(tmp_path / "old") as session:
        assert learnt(session.current_head()) != learnt(session.run.head(1))
        session.query()
        record, head = session.record(2), session.run.head(2)
    assert record["decision"] == "fitted: the last head had learnt from held-out items"
    assert record["labels"] == len(answers)
    assert head is not None
    assert fit is not None
    assert np.array_equal(head.weight, fit.weight)
    assert len(second) == 12


def as_it_was(cls: type[TrainingLabels], ledger: Any, config: Any, pool: Any) -> TrainingLabels:
    """All labels train."""
    return cls(ledger=ledger, held_out=None, votes=config.update.disputed == "votes")


def test_a_simulated_run_measures_as_before(pool: Pool, tmp_path: Path) -> None:
    """Nobody tells anything of a held-out item: all of them are known to the oracle."""
    config = parse_config({
        "pool": str(pool.path), "oracle": "simulated", "seed": SEED, "fleet": {"backend": "local"},
        "rounds": {"count": 2, "k": 12, "holdout": SHARE, "control": True},
    })  # fmt: skip
    done = run(config, tmp_path / "run")
    assert done.finished
    with Session.open(tmp_path / "run", read_only=True) as session:
        draws = item_uniform(derive(SEED, "holdout"), np.arange(N))
        assert session.record(None)["evaluation"]["items"] == (draws < SHARE).sum()
        assert session.status().tested == 0
    assert resume(tmp_path / "run").value == done.value


@pytest.mark.parametrize("mode", ["retrain", "laplace"])
def test_examples_train_even_where_they_would_be_held_out(mode, pool, held, truth, tmp_path):
    """Somebody with three examples loses none of them to the measurement; other labels of held-out items still test."""
    asked = {"update": {"mode": mode}, "start": "random", "rounds": {"k": 5, "holdout": SHARE}, "seed": SEED}
    some = {key: truth[key] for key in held[:3]}
    with Session(tmp_path / "run", pool, select="margin", **asked) as session:
        assert session.tell(some, examples=True).new == 3
        session.tell({held[4]: truth[held[4]]})
        events = session.ledger.head_seq
        assert session.tell(some, examples=True).repeated == 3
        assert session.ledger.head_seq == events, "to repeat it says nothing new"
        session.query(5)
        assert session.record(0)["labels"] == 3
        status = session.status()
        assert (status.labeled, status.tested, status.waiting) == (4, 1, 5)
        session.withdraw(held[:1])
        assert session.status().waiting == 5, "an example that is taken back waits for nobody"
