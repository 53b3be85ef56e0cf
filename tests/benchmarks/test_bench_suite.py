"""The suite of benchmarks: builds take turns, each with its own raysal; gaps are said with a cause; every row runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import Namespace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tiers import deep

from benchmarks import suite
from benchmarks.suite_rows import CELLS, ROWS, Aim, Cell, Row, Setting, faster, least, most
from benchmarks.suite_table import table

ROOT = Path(suite.__file__).parents[1]
NEEDS_MORE = {"peer-50k", "demo", "driver", "embed"}
"""Cells without a small size, and cells that need scikit-activeml or start a Ray of their own."""
STUB = """
from pathlib import Path
def numbers(setting):
    with (setting.shared / "turns").open("a") as file:
        file.write("{name} ")
    return {{"ratio": {cost} / 2, "cost": {cost}, "picks": {{"badge": "{picks}"}}}}
def no_numbers(setting):
    {failing}
"""
ROW = Row(name="stub", what="a stub", cell="stub", number="ratio", unit="x nothing", cost="cost", aim=faster(3))


def stub(folder: Path, name: str, cost: float, picks: str = "a", failing: str = "return {}") -> Path:
    """A checkout whose raysal is one module with cells."""
    (folder / name / "raysal").mkdir(parents=True)
    (folder / name / "raysal" / "__init__.py").write_text("")
    text = STUB.format(name=name, cost=cost, picks=picks, failing=failing)
    (folder / name / "raysal" / "cells.py").write_text(text)
    return folder / name


def arguments(folder: Path, **given: Any) -> Namespace:
    usual = {"folder": folder / "work", "size": "usual", "against": None, "turns": None, "peers_python": None}
    return Namespace(**{**usual, **given})


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Namespace:
    """Two builds, the other one four times as slow and with a cell that ends in an error."""
    monkeypatch.setitem(CELLS, "stub", Cell(function="raysal.cells:numbers", turns=2))
    monkeypatch.setitem(CELLS, "failing", Cell(function="raysal.cells:no_numbers", turns=2))
    other = stub(tmp_path, "old", 8.0, failing="raise AttributeError('no such call')")
    this = stub(tmp_path, "new", 2.0, failing="return {'ratio': 1.0, 'cost': 2.0}")
    args = arguments(tmp_path, against=other)
    suite.make_paths({suite.OTHER: other, suite.THIS: this}, args.folder)
    return args


def test_builds_take_turns_each_with_its_own_code(two: Namespace) -> None:
    runs = suite.in_turn("stub", two)
    assert (two.folder / "shared" / "turns").read_text() == "old new old new "
    found = suite.result_of(ROW, runs)
    assert (found["value"], found["before"], found["faster"]) == (1.0, 4.0, 4.0)
    assert found["met"]
    assert found["same_picks"]


def test_no_turn_begins_once_the_budget_is_used_up(two: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CELLS, "stub", Cell(function="raysal.cells:numbers", turns=9, budget_s=0.0))
    runs = suite.in_turn("stub", two)
    assert [len(own) for own in runs.values()] == [1, 1]


def test_what_a_build_cannot_do_is_said_and_the_other_is_measured(two: Namespace) -> None:
    runs = suite.in_turn("failing", two)
    assert [len(own) for own in runs.values()] == [1, 2]
    found = suite.result_of(ROW, runs)
    assert found["reasons"] == {"other": "AttributeError: no such call"}
    assert (found["value"], found["before"], found["faster"], found["met"]) == (1.0, None, None, None)


@pytest.mark.parametrize(
    ("failing", "reason"),
    [
        ("import threading; threading.Event().wait()", "did not finish: 3 s"),
        ("import os; os._exit(3)", "ended with status 3 and no result"),
    ],
    ids=["hangs", "dies"],
)
def test_a_cell_that_gives_nothing_is_ended_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, reason: str
) -> None:
    monkeypatch.setitem(CELLS, "failing", Cell(function="raysal.cells:no_numbers", limit_s=3))
    args = arguments(tmp_path)
    suite.make_paths({suite.THIS: stub(tmp_path, "new", 1.0, failing=failing)}, args.folder)
    (run,) = suite.in_turn("failing", args)[suite.THIS]
    assert run["reason"] == reason


def test_numbers_of_another_build_are_refused(tmp_path: Path) -> None:
    args = arguments(tmp_path)
    suite.make_paths({suite.THIS: tmp_path / "nothing"}, args.folder)  # so the installed raysal is found instead
    run = suite.in_fresh_process("builtins:str", suite.THIS, 60, args)
    assert run["reason"].startswith("another raysal was imported")


def test_what_a_build_lacks_does_not_come_from_the_installed_one(two: Namespace) -> None:
    """raysal is installed in place here, and its finder knows every module of it."""
    run = suite.in_fresh_process("raysal.rng:derive", suite.THIS, 60, two)
    assert run["reason"] == "ModuleNotFoundError: No module named 'raysal.rng'"


def test_other_picks_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CELLS, "stub", Cell(function="raysal.cells:numbers", turns=1))
    builds = {suite.OTHER: stub(tmp_path, "old", 1.0, "a"), suite.THIS: stub(tmp_path, "new", 1.0, "b")}
    args = arguments(tmp_path, against=builds[suite.OTHER])
    suite.make_paths(builds, args.folder)
    found = suite.result_of(ROW, suite.in_turn("stub", args))
    assert not found["same_picks"]
    assert "**Other picks than the build before:** stub." in "\n".join(table(json_of([found])))


@pytest.mark.parametrize(
    ("aim", "value", "met", "text"),
    [
        (most(1.2), 1.2, True, "≤ 1.2"),
        (most(1.2), 1.3, False, "≤ 1.2"),
        (least(60), 59, False, "≥ 60"),
        (most(0.5, "status_s", "s"), 0.4, True, "≤ 0.5 s"),
        (faster(3), 3.1, True, "≥ 3 x the build before"),
    ],
)
def test_aims(aim: Aim, value: float, met: bool, text: str) -> None:
    assert (aim.met(value), str(aim)) == (met, text)


def json_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    machine = {"name": "a machine", "gemm_float32_gflops": 219.43, "python_s": 0.0177}
    about = {"date": "2026-11-29", "size": "usual", "minutes": 12.3, "machine": [machine, machine], "cells": {}}
    return {**about, "builds": {"this": "abc", "other": "def"}, "rows": rows}


def test_the_table_says_what_was_met_missed_and_not_measured() -> None:
    def row(name: str, **given: Any) -> dict[str, Any]:
        about = {"name": name, "what": f"work {name}", "unit": "x a loop", "aim": "≤ 1.2", "before": None}
        usual = {"value": 1.0, "judged": 1.0, "met": True, "faster": None, "reasons": {}, "same_picks": True}
        return {**about, **usual, **given}

    rows = [
        row("a", before=3.0, faster=2.5),
        row("b", value=2.0, judged=2.0, met=False),
        row("c", value=None, judged=None, met=None, reasons={"this": "no peer"}),
        row("d", value=7.0, judged=0.4, met=True, aim="≤ 0.5 s"),
    ]
    lines = list(table(json_of(rows)))
    assert "| work a | **1** x a loop | 3 | 2.5 | ≤ 1.2 | met |" in lines
    assert "| work b | **2** x a loop | – | – | ≤ 1.2 | **missed** |" in lines
    assert "| work c | not measured | – | – | ≤ 1.2 | – |" in lines
    assert "| work d | **7** x a loop | – | – | ≤ 0.5 s | met (0.4) |" in lines
    assert "- c: no peer" in lines
    assert "float32 products 219 and 219 GFLOP/s" in "\n".join(lines)


def test_every_row_names_a_cell_and_every_cell_a_function() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert {row.cell for row in ROWS} == set(CELLS)
    for cell in CELLS.values():
        module, _, name = cell.function.partition(":")
        assert callable(getattr(import_module(module), name))


def run_suite(out: Path, *words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.suite", "--quick", "--out", str(out), *words]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(out.read_text())
    return found


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    folder = tmp_path_factory.mktemp("suite")
    for name in ("shared", "own"):
        (folder / name).mkdir()
    return Setting(shared=folder / "shared", own=folder / "own", size="quick")


@deep
@pytest.mark.parametrize("name", [name for name in CELLS if name not in NEEDS_MORE])
def test_every_cell_gives_the_numbers_of_its_rows(name: str, small: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process: the processes of the real suite take longer to begin than such sizes do."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # of the processes that some cells begin
    module, _, function = CELLS[name].function.partition(":")
    found = getattr(import_module(module), function)(small)
    for row in (row for row in ROWS if row.cell == name):
        for number in {row.number, row.cost, row.aim.number if row.aim else ""} - {"", "faster"}:
            assert found[number] is not None, (row.name, number)
    json.dumps(found)


@deep
def test_a_build_that_cannot_run_a_row_does_not_stop_the_suite(tmp_path: Path) -> None:
    other = stub(tmp_path, "old", 1.0)
    rows = ("--rows", "bait", "bait-narrowed", "--against", str(other))
    found = run_suite(tmp_path / "suite.json", *rows)
    for row in found["rows"]:
        assert row["value"] is not None
        assert "raysal" in row["reasons"]["other"]
    assert all(rates["gemm_float32_gflops"] > 0 for rates in found["machine"])
    words = [sys.executable, "-m", "benchmarks.suite", "--table", str(tmp_path / "suite.json")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(f"| {row['what']} |" in done.stdout for row in found["rows"])


@deep
def test_no_cell_begins_when_the_minutes_are_over(tmp_path: Path) -> None:
    found = run_suite(tmp_path / "suite.json", "--rows", "bait", "--minutes", "0")
    assert "not begun" in found["rows"][0]["reasons"]["this"]
