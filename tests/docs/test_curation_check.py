"""The section on labels of docs/curation.md: its commands and Python run, and it names every option and column."""

from __future__ import annotations

import shlex
from pathlib import Path

import pyarrow.csv as pa_csv
import pytest
from cli_tools import cli
from pages import ROOT, blocks, commands
from pools import make_pool, mixture

from raysal.cli.check_labels import check

PAGE = (ROOT / "docs" / "curation.md").read_text(encoding="utf-8")
SECTION = PAGE.split("## Labels that look wrong")[1].split("\n## ")[0]


def test_the_section_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    vectors, labels = mixture(200, 16)
    given = ["class-0" if i in (3, 50) and label != "class-0" else label for i, label in enumerate(labels)]
    make_pool(tmp_path / "pool", vectors * 2, labels=given)
    for line in (line for block in blocks(SECTION, "console") for line in commands(block)):
        assert cli(*shlex.split(line)[1:]).code == 0
    table = pa_csv.read_csv("suspects.csv")
    for name in table.column_names:
        assert f"`{name}`" in SECTION, name
    (code,) = blocks(SECTION, "python")
    exec(code, {})
    assert f"{table.num_rows} of 200 labels look wrong" in capsys.readouterr().out


def test_the_section_names_every_option() -> None:
    hidden = {"pool", "out", "json", "debug", "force", "partitions", "backend", "address", "device"}
    for name in {*check.__annotations__} - hidden - {"return"}:
        assert f"--{name.replace('_', '-')}" in SECTION, name
