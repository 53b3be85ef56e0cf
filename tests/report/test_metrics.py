"""Learning curves and labels saved: laws on curves made by hand, and on what records say."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pools import make_pool, mixture
from rich.console import Console
from rich.table import Table
from small_run import begin

from raysal.config import parse_config
from raysal.errors import Damaged, RunError
from raysal.models.measures import MEASURES
from raysal.report import (
    Curve,
    headline,
    labels_saved,
    learning_curve,
    report_html,
    rich_table,
    run_table,
    stage_seconds,
    summary,
)
from raysal.report.metrics import Row
from raysal.rounds.directory import RunDir
from raysal.rounds.loop import run as run_rounds
from raysal.store import read_sealed, write_sealed


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three rounds of eight labels, with its control. Read only."""
    return begin(tmp_path_factory.mktemp("report"))


def text(rows: list[Row]) -> str:
    return printed(rich_table(rows))


def printed(table: Table) -> str:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def curve(*points: tuple[int, float]) -> Curve:
    return Curve(labels=tuple(p[0] for p in points), values=tuple(p[1] for p in points))


def test_labels_saved_is_read_off_between_two_points():
    main, control = curve((100, 0.5), (200, 0.9)), curve((100, 0.4), (300, 0.7))
    assert labels_saved(main, control) == 300 - 150


def test_a_loss_is_a_negative_number():
    main, control = curve((100, 0.5), (400, 0.8)), curve((100, 0.6), (200, 0.8))
    assert labels_saved(main, control) == -200


def test_an_accuracy_never_reached_saves_nothing_known():
    assert labels_saved(curve((100, 0.5), (800, 0.79)), curve((100, 0.5), (200, 0.8))) is None


def test_the_first_time_counts_and_not_a_later_one():
    main = curve((10, 0.2), (20, 0.8), (30, 0.3), (40, 0.9))
    assert labels_saved(main, curve((10, 0.1), (40, 0.5))) == 40 - 15


def test_nothing_is_assumed_before_the_first_point():
    assert labels_saved(curve((100, 0.9), (200, 0.95)), curve((100, 0.5), (200, 0.6))) == 100


def test_an_empty_curve_is_compared_with_nothing():
    some = curve((1, 0.5))
    assert labels_saved(Curve(), some) is None
    assert labels_saved(some, Curve()) is None


POINTS = st.lists(st.tuples(st.integers(1, 50), st.integers(0, 1000)), min_size=1, max_size=12)


def from_steps(steps: list[tuple[int, int]]) -> Curve:
    labels, points = 0, []
    for step, accuracy in steps:
        labels += step
        points.append((labels, accuracy / 1000))
    return curve(*points)


@given(POINTS, POINTS)
def test_saved_labels_lead_to_a_point_that_has_the_controls_accuracy(a, b):
    main, control = from_steps(a), from_steps(b)
    target, reached = control.values[-1], main.first_reaching(control.values[-1])
    if reached is None:
        assert max(main.values) < target
        assert labels_saved(main, control) is None
        return
    assert labels_saved(main, control) == round(control.labels[-1] - reached)
    earlier = [accuracy for labels, accuracy in zip(main.labels, main.values, strict=True) if labels < reached]
    assert all(accuracy < target for accuracy in earlier)
    before = [labels for labels in main.labels if labels <= reached][-1]
    after = next(labels for labels in main.labels if labels >= reached)
    low, high = main.at(before), main.at(after)
    if before < after:
        assert low + (high - low) * (reached - before) / (after - before) == pytest.approx(target)


@given(POINTS, st.integers(0, 700))
def test_a_curve_cut_off_agrees_with_the_whole_up_to_there(steps, labels):
    whole = from_steps(steps)
    cut = whole.until(labels)
    assert all(cut.at(count) == pytest.approx(whole.at(count)) for count in cut.labels)
    if whole.at(labels) is not None:
        assert cut.labels[-1] == labels
        assert cut.values[-1] == pytest.approx(whole.at(labels))


@given(POINTS)
def test_an_arm_saves_nothing_over_itself_where_it_rises(steps):
    rising = Curve(labels=from_steps(steps).labels, values=tuple(i / 20 for i in range(len(steps))))
    assert labels_saved(rising, rising) == 0


def test_the_newest_of_two_evaluations_at_the_same_labels_counts():
    assert curve((10, 0.5), (10, 0.7)).at(10) == 0.7
    assert curve((10, 0.5), (20, 0.6)).at(21) is None


def records_of(run: Path) -> list[dict]:
    paths = [*sorted(run.glob("rounds/*/round.json")), run / "final" / "round.json"]
    return [read_sealed(path) for path in paths]


def test_the_curve_is_what_the_records_say(finished: Path):
    for run in (finished, finished / "control"):
        records = [r for r in records_of(run) if r["evaluation"]]
        found = learning_curve(run)
        assert list(found.labels) == [r["labels"] for r in records] == [8, 16, 24]
        assert list(found.values) == [r["evaluation"]["accuracy"] for r in records]


def test_the_table_has_a_row_per_record_and_the_seconds_of_all(finished: Path):
    rows, records = summary(finished), records_of(finished)
    assert [row.labels for row in rows] == [r["labels"] for r in records]
    assert [row.seconds for row in rows] == [r["seconds"] for r in records]
    assert rows[0].value is None
    assert rows[0].control is None
    control = learning_curve(finished / "control")
    assert [row.control for row in rows[1:]] == list(control.values)
    assert rows[-1].saved == labels_saved(learning_curve(finished), control)
    total = stage_seconds(finished)
    assert list(total) == ["update", "sweep and narrow", "select", "evaluate", "commit"]
    for stage, seconds in total.items():
        assert seconds == pytest.approx(sum(r["seconds"].get(stage, 0) for r in records))


def test_the_table_of_a_run_names_the_strategies_of_both_arms(finished: Path) -> None:
    found = run_table(finished)
    heads = [str(column.header) for column in found.columns]
    assert heads[:4] == ["labels", "accuracy, badge", "random (control)", "saved"]
    assert "accuracy, badge" in printed(found)
    assert [list(column.cells) for column in found.columns] == [
        list(column.cells) for column in rich_table(summary(finished)).columns
    ]


def test_the_terminal_table_shows_what_is_there_and_no_more(finished: Path):
    shown = text(summary(finished))
    for head in ("labels", "accuracy", "control", "saved", "update", "sweep", "select"):
        assert head in shown
    plain = text([Row(labels=10, value=None, control=None, saved=None, seconds={"select": 1.5})])
    assert "control" not in plain
    assert "accuracy" not in plain
    assert "1.50" in plain
    behind = text([Row(labels=10, value=0.5, control=0.6, saved=None)])
    assert "behind" in behind
    loss = text([Row(labels=10, value=0.5, control=0.6, saved=-1234)])
    assert "−1,234" in loss


def test_no_run_and_an_altered_record_are_named(tmp_path: Path):
    with pytest.raises(RunError, match="no run is there"):
        learning_curve(tmp_path / "nowhere")
    run = tmp_path / "run"
    RunDir(run).begin(parse_config({"pool": tmp_path / "pool"}))
    assert learning_curve(run) == Curve()
    assert summary(run) == []
    folder = run / "rounds" / "0000"
    folder.mkdir()
    write_sealed(folder / "round.json", {"labels": 3})
    (folder / "round.json").write_text((folder / "round.json").read_text().replace("3", "4", 1))
    with pytest.raises(Damaged, match=r"round\.json"):
        learning_curve(run)


def test_where_lower_is_better_less_is_reached_and_saved():
    main = Curve(labels=(10, 20, 30), values=(2.0, 1.0, 0.5), metric="rmse")
    control = Curve(labels=(10, 30), values=(3.0, 1.5), metric="rmse")
    assert main.first_reaching(1.5) == 15
    assert main.first_reaching(0.4) is None
    assert labels_saved(main, control) == 15
    assert labels_saved(control, main) is None
    assert main.until(20).first_reaching(1.0) == 20


@pytest.mark.parametrize(("trainer", "metric"), [("multi_label", "macro_f1"), ("regression", "rmse")])
def test_a_run_of_another_link_shows_its_own_measure(trainer: str, metric: str, tmp_path: Path):
    vectors, labels = mixture(200, 6, classes=3, seed=1)
    far = [f"far|{name}" if row[0] > 0 else name for name, row in zip(labels, vectors, strict=True)]
    numbers = [f"{row[0]:.9f}" for row in vectors]
    make_pool(tmp_path / "pool", vectors, labels=numbers if trainer == "regression" else far)
    settings = {
        "pool": tmp_path / "pool",
        "fleet": {"backend": "local"},
        "oracle": {"name": "simulated"},
        "select": {"name": "random"},
        "update": {"trainer": {"name": trainer}},
        "rounds": {"count": 2, "k": 12, "holdout": 0.3, "control": True},
    }
    result = run_rounds(parse_config(settings), tmp_path / "run")
    rows, found = summary(tmp_path / "run"), learning_curve(tmp_path / "run")
    assert (found.metric, found.values[-1]) == (metric, result.value) == (result.metric, rows[-1].value)
    assert result.accuracy is None
    assert (rows[-1].calibration_error is None) == (trainer == "regression")
    words = MEASURES[metric].words
    assert words in text(rows)
    assert words in headline(tmp_path / "run")[0]
    page = report_html(tmp_path / "run")
    assert f"{words} on held-out items" in page
    assert ("calibration error" in page) == (trainer == "multi_label")
    assert ("lower is better" in page) == (trainer == "regression")
    assert ("the pool by class" in page) == (trainer == "multi_label")
    assert "far|" not in page  # spelled as in the ledger, so that picks have the colours of the map
    assert not re.search(r"\d\.\d{9} · ", page)  # and numbers for people
    assert ("|far · " in page) == (trainer == "multi_label")
