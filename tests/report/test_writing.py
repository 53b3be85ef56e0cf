"""A report is drawn when something it shows has changed, and left as it is otherwise."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from small_run import begin

import raysal.report.html
from raysal.report import report_html, write_report
from raysal.report.markup import Html
from raysal.report.writing import made_of
from raysal.rounds.directory import RunDir
from raysal.rounds.run_labels import RunLabels


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with its report. Read only."""
    run = begin(tmp_path_factory.mktemp("written"), rounds=2, k=4)
    write_report(run)
    return run


@pytest.fixture
def run(reported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(reported, tmp_path / reported.name))


def never(path: Path) -> Html:
    raise AssertionError("the report is drawn again")


def withdraw(run: Path) -> None:
    with RunLabels.open(run) as labels:
        label = labels.ledger.answers()[0]
        labels.withdraw([label.key], label.annotator)


def withdraw_in_control(run: Path) -> None:
    withdraw(run / "control")


def drop_the_close(run: Path) -> None:
    shutil.rmtree(run / "final")


def drop_the_control(run: Path) -> None:
    shutil.rmtree(run / "control")


def lose_the_pool(run: Path) -> None:
    RunDir(run).remember_pool(run / "nowhere")


def test_a_report_of_the_same_is_left_as_it_is(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (run / "report.html").stat()
    monkeypatch.setattr(raysal.report.html, "report_html", never)
    assert write_report(run) == run / "report.html"
    assert (run / "report.html").stat().st_ino == before.st_ino


@pytest.mark.parametrize(
    "change", [withdraw, withdraw_in_control, drop_the_close, drop_the_control, lose_the_pool], ids=lambda f: f.__name__
)
def test_what_it_shows_is_in_its_digest(run: Path, change: Callable[[Path], None]) -> None:
    before = made_of(run)
    change(run)
    assert made_of(run) != before


def test_its_name_is_in_its_digest(run: Path) -> None:
    other = run.rename(run.with_name("another"))
    assert made_of(other) != made_of(Path(shutil.copytree(other, run)))


@pytest.mark.parametrize("how", ["other label", "edited", "cut", "gone"])
def test_any_other_report_is_drawn_again(run: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run / "report.html"
    content = path.read_bytes()
    if how == "other label":
        withdraw(run)
    elif how == "edited":
        path.write_bytes(content.replace(b"</h1>", b"!</h1>", 1))
    elif how == "cut":
        path.write_bytes(content[:-1])
    else:
        path.unlink()
    monkeypatch.setattr(raysal.report.html, "report_html", lambda path: Html("<!doctype html>drawn\n"))
    write_report(run)
    assert path.read_bytes().startswith(b"<!doctype html>drawn\n<!-- made of ")


def test_the_page_is_that_of_the_run(reported: Path) -> None:
    page, _, last = (reported / "report.html").read_text(encoding="utf-8").rpartition("<!-- made of ")
    assert page == report_html(reported)
    assert last.count("\n") == 1
