"""Prior shift: biases follow how common classes are in the pool; no label is counted for it, and nothing is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pools import make_pool, mixture

from raysal.errors import ConfigError
from raysal.models.prevalence import estimate_prevalence
from raysal.pool import Pool
from raysal.rounds.session import Session

N, DIM = 300, 5


def test_em_is_the_published_loop_and_finds_the_prevalence():
    """Two Gaussians, seen by the exact classifier of equal classes: one in twenty items is of the second."""
    rng = np.random.default_rng(3)
    x = np.concatenate([rng.normal(-1, 1, 9500), rng.normal(1, 1, 500)])
    outputs = np.column_stack([-x, x])  # log odds of N(1, 1) over N(-1, 1)
    known, trained = np.zeros(2), np.array([50.0, 50.0])
    found = estimate_prevalence(outputs, len(x), known, trained)
    shares = np.array([0.5, 0.5])
    for _ in range(400):
        p = np.exp(outputs) * shares / 0.5
        shares = (p / p.sum(1, keepdims=True)).mean(0)
    np.testing.assert_allclose(found.shares, shares, atol=1e-6)
    assert found.shares[1] == pytest.approx(0.05, abs=0.01)
    np.testing.assert_allclose(found.shift[1] - found.shift[0], np.log(shares[1] / shares[0]), atol=1e-4)


def test_labelled_items_count_as_what_they_are():
    outputs = np.full((100, 2), [3.0, -3.0])  # it believes in no second class
    alone = estimate_prevalence(outputs, 100, np.zeros(2), np.array([50.0, 50.0]))
    with_finds = estimate_prevalence(outputs, 100, np.array([10.0, 10.0]), np.array([50.0, 50.0]))
    assert alone.shares[1] < 1e-3
    assert with_finds.shares[1] >= 10 / 120


def test_a_class_without_evidence_stays():
    outputs = np.random.default_rng(0).normal(size=(50, 3))
    found = estimate_prevalence(outputs, 50, np.zeros(3), np.array([4.0, 0.0, 6.0]))
    assert found.shift[1] == found.shares[1] == 0
    assert found.shares.sum() == pytest.approx(1)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    x, names = mixture(N, DIM, classes=2)
    return make_pool(tmp_path_factory.mktemp("shift") / "pool", x, chunk_rows=70, labels=names)


def start(pool: Pool, out: Path, **update: Any) -> Session:
    given = {"mode": "laplace", "retrain_every": 2, "retrain_share": 9.0, "retrain_drift": 9.0, "prior_shift": "em"}
    return Session(
        out, pool, select="random", start="random", oracle="simulated", seed=1, rounds={"k": 10}, target=["class-0"],
        update={**given, **update},
    )  # fmt: skip


@pytest.mark.parametrize("passes", [0, 8])
def test_the_record_names_it_and_no_evidence_changes(passes, pool, tmp_path):
    """With no passes, a mean that had kept its shift would keep it for good."""
    with (
        start(pool, tmp_path / "on", passes=passes, retrain_every=99) as on,
        start(pool, tmp_path / "off", passes=passes, retrain_every=99, prior_shift="none") as off,
    ):
        for _ in range(4):
            for session in (on, off):
                session.ask_oracle(session.query())
        for round in range(1, 4):
            record, head, plain = on.record(round), on.run.head(round), off.run.head(round)
            assert sum(record["prevalence"].values()) == pytest.approx(1)
            shift = np.array([record["prior_shift"][name] for name in head.classes])
            np.testing.assert_allclose(head.mean[:, :-1], plain.mean[:, :-1], rtol=1e-6, atol=1e-9)
            np.testing.assert_allclose(head.bias - shift, plain.bias, rtol=1e-6, atol=1e-9)
            np.testing.assert_allclose(head.covariance, plain.covariance, rtol=1e-9)
            assert "prior_shift" not in off.record(round)
        assert [on.record(r)["decision"] for r in range(4)] == [off.record(r)["decision"] for r in range(4)]
        head = on.run.head(3)
        on.query()
        assert on.record(4)["decision"] != "no news"
        on.query()
        assert on.record(5)["decision"] == "no news"
        assert on.record(5)["head_digest"] == on.record(4)["head_digest"]
        assert on.record(5)["prior_shift"] == on.record(4)["prior_shift"]


@pytest.mark.parametrize("fit", [True, False])
@pytest.mark.parametrize("reopened", [False, True])
def test_between_rounds_the_head_learns_from_the_logits_that_the_next_round_starts_from(fit, reopened, pool, tmp_path):
    """Labels move the head as it learnt, not as it is shown; the correction of the last round stays on it."""

    def bare(head: Any, shift: dict[str, float]) -> np.ndarray:
        mean = head.mean.copy()
        mean[:, -1] -= [shift[name] for name in head.classes]
        return mean

    session = start(pool, tmp_path / "run", passes=0, retrain_every=99)
    for _ in range(3):
        session.ask_oracle(session.query())
    batch = session.query()
    if reopened:
        session.close()
        session = Session.open(tmp_path / "run")
    with session:
        shift = session.record(3)["prior_shift"]
        assert max(map(abs, shift.values())) > 0.01
        assert session.current_head(fit=fit).digest() == session.record(3)["head_digest"]
        items = pool.rows_where("key", batch.keys, ["key", "label"]).to_pylist()
        session.tell({item["key"]: item["label"] for item in items})
        live = session.current_head(fit=fit)
        session.query()
        after, record = session.run.head(4), session.record(4)
        assert record["decision"].startswith("updated")
        np.testing.assert_allclose(bare(live, shift), bare(after, record["prior_shift"]), rtol=1e-9, atol=1e-9)
        assert np.abs(bare(live, shift) - bare(session.run.head(3), shift)).max() > 1e-3


def test_interrupted_or_not_it_is_the_same(pool, tmp_path):
    heads = []
    for restart in (False, True):
        session = start(pool, tmp_path / f"run-{restart}", background=40, classes=["class-1"])
        for _ in range(5):
            session.ask_oracle(session.query())
            if restart:
                session.close()
                session = Session.open(tmp_path / f"run-{restart}", fleet={"backend": "local", "partitions": 4})
        heads.append([session.record(r)["head_digest"] for r in range(5)])
        session.close()
    assert heads[0] == heads[1]


@pytest.mark.parametrize(("trainer", "target"), [("multi_label", ["a"]), ("regression", [])])
def test_what_has_no_prior_of_classes_is_refused(trainer, target, pool, tmp_path):
    update = {"trainer": trainer, "prior_shift": "em"}
    with pytest.raises(ConfigError, match="prior_shift"):
        Session(tmp_path / "run", pool, select="random", start="random", target=target, update=update)
