"""Runs whose heads an older raysal fitted, with a penalty on the bias: they open, say so, and fit anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_tools import cli
from pools import make_pool, mixture

from raysal.models.head import Head
from raysal.models.trainers.base import Fit
from raysal.pool import Pool
from raysal.rounds import learner
from raysal.rounds.session import Session
from raysal.rounds.status import read_status


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    vectors, labels = mixture(300, 6, classes=3)
    return make_pool(tmp_path_factory.mktemp("older") / "pool", vectors, chunk_rows=50, labels=labels)


def begun_before(pool: Pool, out: Path) -> list[str]:
    """Decisions of a run of three rounds whose heads are files of format 2: with a mass, and without a frame."""
    made, reason = Fit.head, learner.reason_to_refit

    def as_before(*given, **named) -> Head:
        head = made(*given, **named)
        return replace(head, mass=12.5, posterior=replace(head.posterior, frame=None))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fit, "head", as_before)
        patch.setattr(learner, "reason_to_refit", lambda head, *more: reason(head and replace(head, mass=None), *more))
        fields = {"select": "badge", "start": "random", "rounds": {"k": 10}, "oracle": "simulated"}
        with Session(
            out,
            pool=pool,
            **fields,
            update={"mode": "laplace", "retrain_every": 99, "retrain_share": 99, "retrain_drift": 99},
        ) as one:
            for _ in range(3):
                one.ask_oracle(one.query())
            return [one.record(round)["decision"] for round in range(3)]


def test_a_run_with_older_heads_opens_says_so_and_fits_anew(pool: Pool, tmp_path: Path) -> None:
    out = tmp_path / "run"
    before = begun_before(pool, out)
    assert before[2].startswith("updated")  # the older raysal would have gone on so
    heads = sorted(out.glob("rounds/*/head.safetensors"))
    content = [path.read_bytes() for path in heads]
    assert all(Head.was_fitted_otherwise(path) for path in heads)
    note = read_status(out).note
    assert note is not None
    assert "fits anew" in note
    assert "fits anew" in " ".join(cli("status", out).out.split())
    said = "an older raysal fitted this head"
    predicted = cli("predict", pool.path, "--run", out, "-o", tmp_path / "predicted", "--round", 2)
    assert said in " ".join(predicted.out.split())
    predicted = cli("predict", pool.path, "--run", out, "-o", tmp_path / "of-now")  # the head of now is a new fit
    assert said not in " ".join(predicted.out.split())
    with Session(out) as session:
        last = session.run.head(2)
        assert last is not None
        assert last.fitted_otherwise
        assert last.digest() == session.record(2)["head_digest"]
        batch = session.query()
        assert session.record(3)["decision"].startswith("fitted: an older raysal fitted the last head")
        session.ask_oracle(batch)
        session.query()
        assert session.record(4)["decision"].startswith("updated")
        fresh = session.run.head(4)
        assert fresh is not None
        assert not fresh.fitted_otherwise
        assert fresh.frame is not None
    assert read_status(out).note is None
    assert [path.read_bytes() for path in heads] == content


def test_the_bytes_of_an_older_head_stay_what_they_were(pool: Pool, tmp_path: Path) -> None:
    begun_before(pool, tmp_path / "run")
    path = next((tmp_path / "run").glob("rounds/0002/head.safetensors"))
    head = Head.load(path)
    assert head.content() == path.read_bytes()
    assert np.isfinite(head.covariance).all()
    assert not Head.was_fitted_otherwise(tmp_path / "nothing")
