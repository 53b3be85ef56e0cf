"""A dry run says what the run then does, refuses what the run would refuse, and touches nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pools import make_pool, mixture

from raysal.cli import main
from raysal.config import RunConfig, parse_config
from raysal.errors import Damaged, RaysalError, RunError
from raysal.rounds.directory import RunDir
from raysal.rounds.loop import run
from raysal.rounds.plan import plan_run
from raysal.rounds.session import Session
from raysal.rounds.stages import CLOSING, ROUND, SELECT, Clock


def config_of(folder: Path, **fields: Any) -> RunConfig:
    """Three rounds of ten over a pool of 199 items."""
    x, names = mixture(200, 6, classes=3)
    if not (folder / "pool").exists():
        make_pool(folder / "pool", x, labels=names, missing=[3])
    values = {
        "pool": str(folder / "pool"),
        "oracle": "simulated",
        "fleet": {"backend": "local"},
        "rounds": {"count": 3, "k": 10, "holdout": 0.2, "control": True},
    }
    return parse_config({**values, **fields})


def everything(folder: Path) -> dict[str, int]:
    """Every file and when it was written."""
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def test_it_says_what_the_run_then_does(tmp_path: Path) -> None:
    config, out = config_of(tmp_path), tmp_path / "run"
    before = everything(tmp_path)
    plan = plan_run(config, out)
    assert everything(tmp_path) == before
    assert (plan.items, plan.embed, plan.index, plan.exhausted) == (199, None, False, False)
    result = run(config, out)
    for arm, there in zip(plan.arms, (RunDir(out), RunDir(out).control), strict=True):
        batches = [there.batch(round) for round in range(there.rounds)]
        assert (arm.rounds, arm.labels) == (len(batches), sum(map(len, batches)))
        assert {batch.table["strategy"][0].as_py() for batch in batches[1:]} == {arm.select}
        assert batches[0].table["strategy"][0].as_py() == arm.start
    assert result.finished
    after = everything(tmp_path)
    assert [(arm.rounds_done, arm.labels) for arm in plan_run(config, out).arms] == [(3, 0), (3, 0)]
    assert everything(tmp_path) == after


def test_its_stages_are_those_of_the_records(tmp_path: Path) -> None:
    config, out = config_of(tmp_path), tmp_path / "run"
    plan = plan_run(config, out)
    run(config, out)
    there = RunDir(out)
    for round in range(there.rounds):
        assert list(there.record(round)["seconds"]) == sorted(stage.name for stage in plan.stages)
    assert list(there.record(None)["seconds"]) == sorted(stage.name for stage in plan.closing)
    assert (plan.stages, plan.closing) == (ROUND, CLOSING)
    assert all(f"    {stage.name}: {stage.does}" in plan.lines() for stage in ROUND)


def test_it_counts_what_is_to_be_embedded(tmp_path: Path) -> None:
    parts = {"source": "digits", "encoder": "efficientnet_lite0", "embed": {"chunk_rows": 500}}
    config = config_of(tmp_path, pool=str(tmp_path / "other"), **parts)
    plan = plan_run(config, tmp_path / "run")
    assert plan.embed is not None
    assert (plan.items, plan.embed.chunks, plan.embed.chunks_done) == (1797, 4, 0)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"start": "badge"},
        {"oracle": "files"},
        {"pool": "nowhere"},
        {"narrow": {"name": "anchoral", "search": "index"}},
        {"select": "falcun", "update": {"trainer": "regression"}},
        {"source": "digits", "encoder": "precomputed", "pool": "nowhere"},
        {
            "source": "digits",
            "encoder": "efficientnet_lite0",
            "pool": "nowhere",
            "select": "falcun",
            "update": {"trainer": "multi_label"},
        },
        {
            "source": "digits",
            "encoder": "efficientnet_lite0",
            "pool": "nowhere",
            "update": {"trainer": "regression", "classes": ["a"]},
        },
    ],
)
def test_it_is_refused_as_the_run_is(fields: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = config_of(tmp_path, **fields)
    with pytest.raises(RaysalError) as planned:
        plan_run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(RaysalError) as run_so:
        run(config, tmp_path / "run")
    assert str(planned.value) == str(run_so.value)


def test_it_counts_what_is_waited_for(tmp_path: Path) -> None:
    config = config_of(tmp_path, oracle="files", rounds={"count": 2, "k": 10})
    run(config, tmp_path / "run")
    (arm,) = plan_run(config, tmp_path / "run").arms
    assert (arm.rounds_done, arm.labels, arm.waiting) == (1, 10, 10)


def test_a_run_without_its_ledger_is_damaged(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    run(config, tmp_path / "run")
    (tmp_path / "run" / "ledger.sqlite").unlink()
    with pytest.raises(Damaged, match="ledger"):
        plan_run(config, tmp_path / "run")


def test_the_command_plans_with_its_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config_of(tmp_path)
    (tmp_path / "run.toml").write_text(f'pool = "{tmp_path / "pool"}"\noracle = "simulated"\n', encoding="utf-8")
    words = ["run", str(tmp_path / "run.toml"), "--out", str(tmp_path / "run"), "--dry-run", "--json"]
    assert main([*words, "--backend", "local", "--partitions", "3"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["backend"], found["partitions"], found["stages"]) == ("local", 3, [stage.name for stage in ROUND])
    assert not (tmp_path / "run").exists()


def test_it_says_when_the_items_run_out(tmp_path: Path) -> None:
    config = config_of(tmp_path, rounds={"count": 30, "k": 10, "holdout": 0.0})
    plan = plan_run(config, tmp_path / "run")
    assert plan.exhausted
    assert "run out" in plan.lines()[-1]
    run(config_of(tmp_path, rounds={"count": 1, "k": 10, "holdout": 0.0}), tmp_path / "run")
    done = plan_run(config_of(tmp_path, rounds={"count": 1, "k": 900, "holdout": 0.0}), tmp_path / "run")
    assert not done.exhausted, "nothing is left to do"
    last = plan_run(config_of(tmp_path, rounds={"count": 2, "k": 900, "holdout": 0.0}), tmp_path / "run")
    assert (last.exhausted, last.arms[0].labels) == (True, 189)


def test_an_error_while_a_round_is_written_is_of_its_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "no space left")

    config_of(tmp_path)
    with Session(tmp_path / "run", tmp_path / "pool") as session:
        monkeypatch.setattr(RunDir, "publish", full)
        with pytest.raises(OSError, match="no space") as caught:
            session.query(5)
    assert caught.value.__notes__ == ["in the stage 'commit' of a round"]


def test_a_session_that_only_looks_refuses_to_write(tmp_path: Path) -> None:
    config_of(tmp_path)
    with Session(tmp_path / "run", tmp_path / "pool") as session:
        session.query(5)
    with Session.open(tmp_path / "run", read_only=True) as session:
        key = session.batch(0).keys[0]
        writes = (session.prepare, session.query, session.finish, lambda: session.tell({key: "a"}))
        for write in (*writes, lambda: session.skip([key]), lambda: session.withdraw([key])):
            with pytest.raises(RunError, match="read-only"):
                write()
        assert session.status().waiting == 5


def test_an_error_is_noted_to_be_of_its_stage() -> None:
    clock = Clock()
    with pytest.raises(ValueError, match="x") as caught, clock.stage(SELECT):
        raise ValueError("x")
    assert caught.value.__notes__ == ["in the stage 'select' of a round"]
    assert list(clock.seconds) == ["select"]
