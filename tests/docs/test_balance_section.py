"""The commands and the Python of the section Balance of docs/curation.md; and that it names every option and group."""

from __future__ import annotations

import shlex
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from cli_tools import cli
from pages import ROOT, blocks, commands
from pools import make_pool, mixture

from raysal.cli.balance import balance
from raysal.curation.steps.balance import CLASS, CLUSTERS, COLUMN, DENSITY

SECTION = (ROOT / "docs" / "curation.md").read_text(encoding="utf-8").split("## Balance")[1].split("\n## ")[0]


def test_the_section_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows, labels = mixture(60, 24)
    make_pool(tmp_path / "pool", rows, labels=labels)
    (lines,) = ([*commands(block)] for block in blocks(SECTION, "console"))
    for line in lines:
        assert cli(*shlex.split(line)[1:]).code == 0
    assert [pq.read_metadata(name).num_rows for name in ("balanced.parquet", "half.parquet")] == [20, 30]
    (code,) = blocks(SECTION, "python")
    exec(code, {})
    assert capsys.readouterr().out == "20 kept of 60 in 3 clusters\n"


def test_the_section_names_every_option_and_group() -> None:
    shared = {"pool", "out", "rows", "seed", "partitions", "backend", "address", "device", "force", "json", "debug"}
    for name in {*balance.__annotations__} - shared - {"return"}:
        assert f"--{name}" in SECTION, name
    for name in (CLUSTERS, CLASS, DENSITY, f"{COLUMN}NAME"):
        assert f"`{name}`" in SECTION, name
