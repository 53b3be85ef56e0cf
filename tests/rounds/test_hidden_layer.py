"""Rounds whose head has a hidden layer: everything works in the hidden space, wherever the rows lie."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from pools import make_pool, mixture
from programs import context_of, local, task_of
from tiers import deep

import raysal
from raysal.config import parse_config
from raysal.context import LabelledVectors
from raysal.errors import ConfigError
from raysal.features import HiddenLayer
from raysal.fleet import Fleet, exclude, plan_partitions, use_features
from raysal.models.head import Head
from raysal.models.likelihood import softmax
from raysal.models.online.update import update
from raysal.models.trainers.base import TrainingData
from raysal.models.trainers.mlp import Mlp
from raysal.narrowing.anchoral import AnchorAL
from raysal.narrowing.base import narrow
from raysal.pool import Pool
from raysal.rng import derive, item_uniform
from raysal.rounds.arms import validate
from raysal.rounds.evaluation import evaluate, hold_out
from raysal.rounds.one_round import head_now
from raysal.rounds.session import Session
from raysal.scoring.inputs import score_inputs
from raysal.scoring.sweep import SweepRequest, sweep, sweep_partition
from raysal.strategies import SELECTORS
from raysal.strategies.base import select

X, NAMES = mixture(400, 12)
TRAINER = {"name": "mlp", "hidden": 20, "epochs": 30}
FIELDS: dict[str, Any] = {
    "select": "badge",
    "narrow": {"name": "anchoral", "subpool": 90, "anchors": 3, "neighbours": 15},
    "oracle": "simulated",
    "rounds": {"count": 3, "k": 12, "holdout": 0.2},
    "update": {"mode": "laplace", "trainer": TRAINER, "retrain_every": 2, "retrain_share": 2.0},
    "seed": 3,
}


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Pool]:
    root = tmp_path_factory.mktemp("hidden")
    return {rows: make_pool(root / str(rows), X, chunk_rows=rows, labels=NAMES) for rows in (70, 400)}


def rounds(out: Path, pool: Pool, fleet: Any, *, sessions: int = 1) -> dict[str, Any]:
    """Three rounds in so many sessions; everything that must not depend on where they were made."""
    for _ in range(sessions):
        with Session(out, pool, fleet=fleet, **FIELDS) as session:
            while session.rounds < 3:
                session.ask_oracle(session.query())
                if sessions > 1:
                    break
    with Session(out, pool, fleet=fleet) as session:
        closing = session.finish()
        return {
            "batches": [session.batch(r).table.to_pydict() for r in range(3)],
            "heads": [Head.load(path).digest() for path in sorted(out.rglob("head.safetensors"))],
            "accuracy": [record["evaluation"] for record in [*map(session.record, range(3)), closing]],
            "decisions": [session.record(r)["decision"] for r in range(3)],
        }


@pytest.fixture(scope="module")
def expected(pools, tmp_path_factory) -> dict[str, Any]:
    return rounds(tmp_path_factory.mktemp("expected") / "run", pools[400], {"backend": "local", "partitions": 1})


@pytest.mark.parametrize(("rows", "partitions", "sessions"), [(70, 2, 1), (400, 5, 1), (70, 1, 3)])
def test_a_run_is_the_same_for_any_partitions_chunks_and_sessions(
    rows, partitions, sessions, pools, expected, tmp_path
):
    fleet = {"backend": "local", "partitions": partitions}
    assert rounds(tmp_path / "run", pools[rows], fleet, sessions=sessions) == expected
    assert [decision.split(":")[0] for decision in expected["decisions"][:2]] == ["no labels yet", "fitted"]
    assert expected["decisions"][2].startswith("updated in closed form with 12 labels")
    assert expected["accuracy"][-1]["accuracy"] > 0.8


class Killing:
    """A fleet that loses a process by kill -9 before the sweep of a round whose head has a hidden layer."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet, self.size, self.killed = fleet, fleet.size, 0

    def reset(self) -> None:
        self.fleet.reset()

    def each(self, fn: Any, *args: Any) -> list[Any]:
        if fn is sweep_partition and args[0] is not None and not self.killed:
            os.kill(self.fleet.each(lambda partition: os.getpid())[1], signal.SIGKILL)
            self.killed += 1
        return self.fleet.each(fn, *args)


@deep
def test_a_run_on_ray_is_the_one_in_this_process_and_a_process_that_comes_back_looks_through_the_hidden_layer_again(
    pools, expected, ray_session, tmp_path
):
    from raysal.fleet.ray_fleet import RayFleet

    with RayFleet(plan_partitions(pools[70], 2)) as fleet:
        killing = Killing(fleet)
        assert rounds(tmp_path / "run", pools[70], killing) == expected
        assert killing.killed == 1


@pytest.mark.parametrize("mode", ["laplace", "retrain"])
def test_a_fit_takes_raw_vectors_and_tasks_what_the_hidden_layer_shows(mode, pools, tmp_path):
    fields = {**FIELDS, "update": {"mode": mode, "trainer": TRAINER}}
    with Session(tmp_path / "run", pools[70], fleet={"backend": "local", "partitions": 2}, **fields) as session:
        for _ in range(3):
            session.ask_oracle(session.query())
        update = head_now(session._opened, session.ledger, session.start_fleet())
        ids = update.known.ids
        assert len(ids) == 36
        assert np.array_equal(update.known.vectors, update.head.see(X[ids]))
        assert np.concatenate([part[0] for part in session.start_fleet().each(seen_of, ids)]).shape == (36, 20)
        if mode == "retrain":
            anew = Mlp(hidden=20, epochs=30).fit(
                TrainingData(
                    features=X[ids],
                    labels=[NAMES[id] for id in ids],
                    classes=sorted({NAMES[id] for id in ids}),
                    encoder=update.head.encoder,
                    version=update.head.version,
                    ledger_seq=update.head.ledger_seq,
                    seed=derive(3, "fit") % 2**32,
                )
            )
            assert update.head.digest() == anew.digest()


def seen_of(partition, ids):
    return partition.gather(partition.rows_of(ids)), None


def test_a_single_batch_for_a_run_looks_through_the_hidden_layer_of_its_head(pools, tmp_path):
    with Session(tmp_path / "run", pools[400], **FIELDS) as session:
        session.ask_oracle(session.query())
    with Session.open(tmp_path / "run", pools[400], read_only=True) as session:
        head = session.current_head()
    table = raysal.select(pools[70], k=10, strategy="top_score", labels=tmp_path / "run", partitions=2)
    margins = reference.score("margin", head.probabilities(head.see(X)))
    np.testing.assert_allclose(table["score"].to_numpy(), margins[table["id"].to_numpy()], atol=1e-5)
    anchors = {"name": "anchoral", "subpool": 60, "anchors": 3, "neighbours": 5}
    assert len(raysal.select(pools[70], k=5, narrow=anchors, labels=tmp_path / "run")) == 5
    with pytest.raises(ConfigError, match="hidden layer"):
        raysal.select(pools[70], k=5, narrow={**anchors, "search": "index"}, labels=tmp_path / "run")


def test_a_label_moves_the_head_through_its_hidden_layer_at_once(pools, tmp_path):
    with Session(tmp_path / "run", pools[70], fleet={"backend": "local", "partitions": 2}, **FIELDS) as session:
        session.ask_oracle(session.query())
        batch, before = session.query(), session.current_head()
        key, item = batch.keys[0], batch.ids[0]
        session.tell({key: NAMES[item]})
        seq = session.ledger.head_seq
        wanted = update(before, before.see(X[[item]]), [NAMES[item]], np.ones(1), ledger_seq=seq)
        assert session.current_head().digest() == wanted.digest() != before.digest()


# -- fast = reference, in the hidden space ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def head() -> Head:
    known = np.arange(0, 400, 8)
    return Mlp(hidden=20, epochs=30).fit(
        TrainingData(features=X[known], labels=[NAMES[i] for i in known], classes=sorted(set(NAMES)), seed=1)
    )


def test_badge_over_a_hidden_layer_is_the_race_over_gradients_of_hidden_features(pools, head):
    fleet = local(pools[70], 3)
    fleet.each(exclude, np.arange(0, 400, 8))
    fleet.each(use_features, head.hidden_layer)
    ids = np.setdiff1d(np.arange(400), np.arange(0, 400, 8))
    hidden = head.see(X).astype(np.float64)
    centre = head.frame.centre
    gradients = reference.gradient_embeddings(hidden[ids] - centre, head.weight, head.bias + head.weight @ centre)
    task = context_of(head=head, labelled=head.see(X[::8]).astype(np.float32), key=5)
    assert np.array_equal(select(fleet, SELECTORS["badge"](), task, 40).ids, reference.badge(gradients, ids, 40, 5))
    found = sweep(fleet, head, SweepRequest(scores=("margin",), top=40))
    values = reference.score("margin", reference.probabilities(hidden[ids], head.weight, head.bias))
    wanted = dict(zip(ids.tolist(), values.tolist(), strict=True))
    np.testing.assert_allclose(found.top["margin"][1], sorted(wanted.values(), reverse=True)[:40], atol=1e-5)
    np.testing.assert_allclose(
        [wanted[id] for id in found.top["margin"][0].tolist()], found.top["margin"][1], atol=1e-5
    )


def test_members_of_a_dropped_out_layer_are_the_draws_that_scores_see(pools, head):
    drop = Mlp(hidden=20, epochs=30, dropout=0.3, members=6).fit(
        TrainingData(features=X[::8], labels=NAMES[::8], classes=sorted(set(NAMES)), seed=1)
    )
    fleet = local(pools[70], 3)
    fleet.each(use_features, drop.hidden_layer)
    found = sweep(fleet, drop, SweepRequest(scores=("bald",), top=400))
    rows = np.column_stack([drop.see(X).astype(np.float64), np.ones(400)])
    p = softmax(np.einsum("tcd,nd->tnc", drop.posterior.weights, rows))

    def entropy(p: np.ndarray) -> np.ndarray:
        return -(p * np.log(np.maximum(p, 1e-300))).sum(-1)

    gain = entropy(p.mean(0)) - entropy(p).mean(0)
    ids, values = found.top["bald"]
    scale = values.max() / gain.max()  # in whatever unit the score has
    np.testing.assert_allclose(values, gain[ids] * scale, atol=1e-4)


def test_evaluation_looks_through_the_hidden_layer_wherever_the_fleet_looked_before(pools, head):
    fleet = local(pools[70], 2)
    fleet.each(hold_out, 11, 0.5)
    held = np.flatnonzero(item_uniform(11, np.arange(400)) < 0.5)
    predicted = head.probabilities(head.see(X[held])).argmax(1)
    accuracy = np.mean([head.classes[k] == NAMES[i] for k, i in zip(predicted, held, strict=True)])
    for before in (None, HiddenLayer(weight=np.ones((3, 12)), bias=np.ones(3))):
        fleet.each(use_features, before)
        found = evaluate(fleet, head, 11, 0.5, lambda ids: {id: NAMES[id] for id in ids})
        assert (found.items, found.accuracy) == (len(held), accuracy)


# -- what a hidden layer is not for -----------------------------------------------------------------------------------


def test_searches_by_an_index_are_refused_before_the_run_begins(pools, head, tmp_path):
    fields = {**FIELDS, "narrow": {**FIELDS["narrow"], "search": "index"}}
    with pytest.raises(ConfigError, match="own vectors, and the head looks at them through a hidden layer"):
        validate(parse_config({**fields, "pool": str(pools[70].path)}))
    with pytest.raises(ConfigError, match="hidden layer"):
        Session(tmp_path / "run", pools[70], **fields)
    assert not (tmp_path / "run").exists()
    fleet = local(pools[70])
    known = LabelledVectors(ids=np.arange(9), vectors=head.see(X[:9]).astype(np.float32), classes=NAMES[:9])
    with pytest.raises(ConfigError, match="hidden layer"):
        narrow(
            fleet, AnchorAL(search="index", subpool=50, neighbours=10), task_of(fleet, known, head=head, available=391)
        )


def test_heads_with_different_lenses_are_not_compared(head):
    other = replace(head, hidden_layer=HiddenLayer(weight=head.hidden_layer.weight * 2, bias=head.hidden_layer.bias))
    assert score_inputs(head, needs=("previous",), previous=replace(head, version=1)).previous is not None
    for previous in (other, replace(head, hidden_layer=None)):
        with pytest.raises(ConfigError, match="over the same features"):
            score_inputs(head, needs=("previous",), previous=previous)
