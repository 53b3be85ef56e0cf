"""Background: what nobody labelled counts as not looked for, once, and no longer than until somebody labels it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pools import make_pool, mixture

from raysal.errors import ConfigError
from raysal.models.trainers.base import Context, TrainingData
from raysal.models.trainers.logistic import Logistic
from raysal.pool import Pool
from raysal.rng import derive, item_uniform
from raysal.rounds.session import Session

N, DIM, ABOUT = 400, 6, 60
UPDATE: dict[str, Any] = {"mode": "laplace", "retrain_every": 99, "retrain_share": 99.0, "retrain_drift": 99.0}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    vectors, labels = mixture(N, DIM, classes=2)
    return make_pool(tmp_path_factory.mktemp("background") / "pool", vectors, chunk_rows=90, labels=labels)


@pytest.fixture(scope="module")
def truth(pool: Pool) -> dict[str, str]:
    tables = list(pool.items(["key", "label"]))
    return {k: v for t in tables for k, v in zip(t["key"].to_pylist(), t["label"].to_pylist(), strict=True)}


def start(pool: Pool, out: Path, *, holdout: float = 0.2, partitions: int = 1, **update: Any) -> Session:
    return Session(
        out,
        pool=pool,
        select="random",
        start="random",
        rounds={"k": 12, "holdout": holdout},
        seed=3,
        target=["class-0"],
        fleet={"backend": "local", "partitions": partitions},
        update={**UPDATE, "background": ABOUT, "classes": ["class-1"], **update},
    )


def background_of(session: Session) -> dict[int, str]:
    """The items by the rule itself: {id: key}."""
    items = {i: k for t in session.pool.items(["id", "key"]) for i, k in zip(*t.to_pydict().values(), strict=True)}
    ids = np.array(sorted(items), np.int64)
    drawn = item_uniform(derive(3, "background"), ids) < ABOUT / N
    kept = ids[drawn & ~(item_uniform(derive(3, "holdout"), ids) < session.config.rounds.holdout)]
    said = {label.key for label in session.ledger.answers()}
    return {id: items[id] for id in kept.tolist() if items[id] not in said}


def test_a_fit_with_it_is_a_fit_with_these_items_as_labels_of_the_other_class(pool, truth, tmp_path):
    with start(pool, tmp_path / "run", background_weight=0.25) as session:
        session.tell({key: truth[key] for key in session.query().keys})
        session.query()
        head, record, seen = session.current_head(), session.record(1), background_of(session)
        told = {id: truth[key] for key, id in session.ledger.known_ids().items() if id is not None and key in truth}
        told = {item.id: item.label for item in session.ledger.labels()}
    vectors = np.concatenate([chunk.vectors() for chunk in pool.chunks]).astype(np.float32)
    ids = sorted([*told, *seen])
    expected = Logistic().fit(
        TrainingData(
            features=vectors[ids],
            labels=[told.get(id, "class-1") for id in ids],
            weights=np.array([1.0 if id in told else 0.25 for id in ids]),
            classes=["class-0", "class-1"],
            encoder=pool.vector_space,
            seed=derive(3, "fit") % 2**32,
            ledger_seq=head.ledger_seq,
            context=Context(rounds=np.array([0 if id in told else -1 for id in ids])),
        )
    )
    assert head.digest() == expected.digest()
    assert record["background"] == len(seen)
    assert record["labels"] == len(told) == 12
    assert abs(len(seen) - ABOUT * 0.8) < 20


def test_it_is_in_no_ledger_and_in_no_count(pool, truth, tmp_path):
    with start(pool, tmp_path / "run") as session, start(pool, tmp_path / "off", background=0) as off:
        for one in (session, off):
            one.tell({key: truth[key] for key in one.query().keys})
            one.query()
        assert session.ledger.counts() == off.ledger.counts()
        assert session.status().labeled == off.status().labeled == 12
        assert "background" not in off.record(1)


def test_it_holds_no_item_that_measures(pool, truth, tmp_path):
    with start(pool, tmp_path / "run", holdout=0.5) as session:
        held = set(session.held_out(N))
        assert not held & set(background_of(session).values())
        session.tell({key: truth[key] for key in session.query().keys})
        session.query()
        assert session.record(1)["background"] == len(background_of(session))


def precision(head) -> np.ndarray:
    return np.linalg.inv(head.covariance)


def test_a_label_takes_an_item_out_and_a_withdrawal_puts_it_back(pool, truth, tmp_path):
    """In closed form, one by one or at once, on the way of a round and of `tell`; a fit of everything is the same."""
    with start(pool, tmp_path / "run") as session:
        session.tell({key: truth[key] for key in session.query().keys})
        session.query()
        before = session.current_head()
        items = list(background_of(session).values())[:5]
        for key in items:
            session.tell({key: truth[key]})
        live = session.current_head()
        session.query()
        assert "closed form" in session.record(2)["decision"]
        assert session.record(2)["background"] == session.record(1)["background"] - 5
        after = session.current_head()
        np.testing.assert_allclose(precision(live), precision(after), rtol=1e-8, atol=1e-8)
        # With the likelihood's bound for a curvature, an item counts alike whatever its label: nothing is added.
        np.testing.assert_allclose(precision(after), precision(before), rtol=1e-6, atol=1e-6)
        assert after.labels_seen == before.labels_seen
        assert not np.allclose(after.mean, before.mean, rtol=1e-3)
        session.withdraw(items)
        session.query()
        back = session.current_head()
        assert session.record(3)["background"] == session.record(1)["background"]
        np.testing.assert_allclose(precision(back), precision(before), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mode", ["laplace", "retrain"])
def test_a_weighted_item_leaves_with_its_weight(mode, pool, truth, tmp_path):
    """A background item of weight 1/4 that becomes a label adds 3/4 of an item."""
    with start(
        pool, tmp_path / mode, background_weight=0.25, mode=mode, trainer={"name": "logistic", "l2": 1.0}
    ) as run:
        run.tell({key: truth[key] for key in run.query().keys})
        run.query()
        before = run.current_head()
        items = dict(list(background_of(run).items())[:3])
        run.tell({key: truth[key] for key in items.values()})
        run.query()
        after = run.current_head()
        if mode == "retrain":
            assert after.fitted_on == before.fitted_on
            return
        x = np.concatenate([chunk.vectors() for chunk in pool.chunks]).astype(np.float64)[list(items)]
        rows = np.hstack([x, np.ones((3, 1))])
        added = precision(after) - precision(before)
        np.testing.assert_allclose(added, 0.75 * rows.T @ rows, rtol=1e-4, atol=1e-6 * abs(added).max())


def test_a_dispute_takes_an_item_out_and_a_skip_does_not(pool, truth, tmp_path):
    with start(pool, tmp_path / "run") as session:
        session.tell({key: truth[key] for key in session.query().keys})
        session.query()
        first, second = list(background_of(session).values())[:2]
        session.tell({first: "class-0"})
        session.ledger.tell([(session.ledger.key_ids([first])[first], _label(first, "class-1", "b"))])
        session.skip([second])
        session.query()
        assert session.record(2)["background"] == session.record(1)["background"] - 1


def _label(key: str, text: str, annotator: str):
    from raysal.types import Label

    return Label(key=key, label=text, annotator=annotator)


def test_the_head_is_the_same_for_any_partitions_and_after_a_restart(pool, truth, tmp_path):
    heads = []
    for partitions, restart in ((1, False), (3, True)):
        session = start(pool, tmp_path / f"run-{partitions}", partitions=partitions)
        for _ in range(3):
            session.tell({key: truth[key] for key in session.query().keys})
            if restart:
                session.close()
                session = Session.open(tmp_path / f"run-{partitions}", fleet={"backend": "local", "partitions": 3})
        session.query()
        heads.append(session.record(3)["head_digest"])
        session.close()
    assert heads[0] == heads[1]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"target": []}, "no class is"),
        ({"update": {"background": 10, "classes": ["class-0"]}}, "no class is known for them"),
        ({"update": {"background": 10, "trainer": "regression"}, "target": []}, "number"),
        ({"update": {"background": -1}}, "background"),
        ({"update": {"background": 10, "background_weight": 0}}, "background_weight"),
    ],
)
def test_a_background_that_could_say_nothing_is_refused(fields, problem, pool, tmp_path):
    asked = {"target": ["class-0"], "select": "random", "update": {"background": 10, "classes": ["class-1"]}, **fields}
    with pytest.raises(ConfigError, match=problem):
        Session(tmp_path / "run", pool, **asked)


def test_with_several_labels_it_says_that_there_is_none(pool, tmp_path):
    update = {"trainer": "multi_label", "background": ABOUT}
    with Session(
        tmp_path / "run", pool, target=["a"], select="random", start="random", update=update, seed=3
    ) as session:
        session.tell(dict.fromkeys(session.query(6).keys, "a|b"))
        session.query(6)
        head = session.current_head()
        assert session.record(1)["background"] > 30
        x = np.concatenate([chunk.vectors() for chunk in pool.chunks]).astype(np.float32)
        assert head.probabilities(x).mean() < 0.5  # without it, six labels say that everything is a and b
