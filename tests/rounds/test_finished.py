"""To go on with a finished run is to read where it stands: the answer of the long way, and the same refusals."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pools import make_pool, mixture
from small_run import begin

import raysal.rounds.arms
from raysal.config import RunConfig, parse_config
from raysal.errors import FingerprintMismatch
from raysal.rounds.arms import go_on
from raysal.rounds.directory import RunDir
from raysal.rounds.finished import finished_run
from raysal.rounds.loop import resume, run
from raysal.rounds.run_labels import RunLabels
from raysal.types import no_report


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with a control arm, and its pool. Read only."""
    folder = tmp_path_factory.mktemp("finished")
    begin(folder, rounds=2)
    return folder


@pytest.fixture
def there(made: Path, tmp_path: Path) -> Path:
    """A copy of the run, whose pool is the same."""
    shutil.copytree(made / "run", tmp_path / "run")
    return tmp_path / "run"


def config_of(there: Path) -> RunConfig:
    return RunDir(there).require_config()


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def with_rounds(config: RunConfig, **fields: object) -> RunConfig:
    return config.model_copy(update={"rounds": config.rounds.model_copy(update=fields)})


@pytest.mark.parametrize("control", [True, False])
def test_the_short_way_says_what_the_long_way_says(there: Path, control: bool) -> None:
    config = with_rounds(config_of(there), control=control)
    short = finished_run(config, there, no_report)
    before = tree(there)
    assert short is not None
    assert short == go_on(config, there, rebind=False, report=no_report)
    assert tree(there) == before


def test_a_run_that_closed_early_is_finished_when_nothing_is_left(there: Path, made: Path, tmp_path: Path) -> None:
    base = config_of(there).model_dump(mode="json")
    config = parse_config({**base, "rounds": {"count": 3, "k": 200, "control": False}})
    early = run(config, tmp_path / "early")
    assert early.exhausted
    short = finished_run(config, tmp_path / "early", no_report)
    assert short == early
    assert finished_run(with_rounds(config_of(there), count=3), there, no_report) is None, "items are left"


def test_with_files_labels_may_be_waited_for_for_ever(made: Path, tmp_path: Path) -> None:
    config = parse_config(
        {"pool": made / "pool", "fleet": {"backend": "local"}, "rounds": {"count": 1, "k": 5}, "oracle": "files"}
    )
    assert run(config, tmp_path / "run").waiting == 5
    assert finished_run(config, tmp_path / "run", no_report) is None
    keys = RunDir(tmp_path / "run").batch(0).keys
    with RunLabels.open(tmp_path / "run") as labels:
        labels.tell({key: f"class-{i % 2}" for i, key in enumerate(keys[:3])})
    closed = run(config, tmp_path / "run")
    assert closed.finished
    assert closed.waiting == 2
    assert finished_run(config, tmp_path / "run", no_report) == closed


def test_what_may_have_more_to_do_takes_the_long_way(there: Path, made: Path, tmp_path: Path) -> None:
    config = config_of(there)
    assert finished_run(config, tmp_path / "none", no_report) is None
    assert finished_run(with_rounds(config, count=3), there, no_report) is None
    assert finished_run(config.model_copy(update={"seed": 1}), there, no_report) is None
    control = shutil.move(there / "control", tmp_path / "aside")
    assert finished_run(config, there, no_report) is None
    shutil.move(control, there / "control")
    assert finished_run(config, there, no_report) is not None
    for arm in (there / "control", there):  # after the run was closed
        with RunLabels.open(arm) as labels:
            label = labels.ledger.answers()[0]
            labels.withdraw([label.key], label.annotator)
        assert finished_run(config, there, no_report) is None
        with RunLabels.open(arm) as labels:
            labels.tell([label])
        assert finished_run(config, there, no_report) is None, "the closing record speaks of fewer events"
        shutil.rmtree(there)
        shutil.copytree(made / "run", there)


def test_another_pool_is_refused(there: Path, tmp_path: Path) -> None:
    vectors, labels = mixture(30, 8, classes=3, seed=2)
    make_pool(tmp_path / "other", vectors, labels=labels)
    with pytest.raises(FingerprintMismatch):
        finished_run(config_of(there).model_copy(update={"pool": tmp_path / "other"}), there, no_report)


def test_run_and_resume_take_the_short_way(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(raysal.rounds.arms, "go_on")
    assert run(config_of(there), there).finished
    assert resume(there).finished
