"""`benchmarks.search`: one entry to all that the search is measured by, and numbers with their errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import search
from benchmarks.jobs import work
from benchmarks.search_tables import table_of_finds, table_of_models


def says(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    monkeypatch.setattr("sys.argv", ["search", *words])
    with pytest.raises(SystemExit) as ended:
        search.main()
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_the_help_names_every_part_and_each_part_has_its_own(capsys, monkeypatch):
    shown = says(capsys, monkeypatch, "--help")
    first = [line.split()[0] for line in shown.splitlines() if line.startswith("    ") and line.strip()]
    assert {"find", "table", "fixmatch", "throughput", "page", "load"} <= set(first)
    options = {"find": "--prevalence", "fixmatch": "--arms", "throughput": "--pictures", "page": "--labels"}
    for part, option in {**options, "load": "--annotators"}.items():
        assert option in says(capsys, monkeypatch, part, "--help")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> list[search.Job]:
    """Short searches of two digits by two rules and two seeds."""
    job = search.Job(
        out=tmp_path_factory.mktemp("searches"),
        data="digits",
        file="",
        target=("0",),
        prevalence=0.02,
        rule="search",
        seed=0,
        batch=5,
        rounds=2,
    )
    jobs = [
        replace(job, target=(digit,), rule=rule, seed=seed)
        for digit in "03"
        for rule in ("search", "margin")
        for seed in (0, 1)
    ]
    for each in jobs:
        assert work(search.run, each) == ""
    return jobs


def test_every_number_of_a_table_has_an_error(done):
    cells = search.cells_of(done)
    finds = table_of_finds(cells, list(search.RULES), search.SINGLE).splitlines()
    assert len(finds) == 2 + 2
    assert all(line.count("±") == 2 * 3 + 2 for line in finds[2:])
    models = table_of_models(cells).splitlines()
    assert len(models) == 2 + 2 * 3  # rules times models, over both digits
    assert all("| 2 of digits 2% |" in line for line in models[2:])


def test_a_record_counts_what_was_asked_for_and_no_more(done):
    for job in done:
        record = search.record_of(job)
        assert record is not None
        first, last = record["models"][0], record["models"][-1]
        assert first["left"] - last["left"] == sum(record["found"]) <= 10
        assert last["labels"] == 100 + 10
        assert record["f1_of_pool"] >= 2 * (5 + sum(record["found"])) / (2 * record["rare"]) / 2
    assert Path(done[0].path).name.startswith("digits_0_2%")
