"""The commands and the Python of the section on cores of docs/curation.md; and that it names every option."""

from __future__ import annotations

import shlex
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from cli_tools import cli
from pages import ROOT, blocks, commands
from pools import make_pool, mixture

from raysal.cli.core import core

PAGE = (ROOT / "docs" / "curation.md").read_text(encoding="utf-8")
PAGE = PAGE.split("## A core that covers the rest")[1].split("\n## ")[0]


def test_the_page_makes_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_pool(tmp_path / "pool", mixture(150, 24)[0])
    answers = [cli(*shlex.split(line)[1:]) for block in blocks(PAGE, "console") for line in commands(block)]
    assert [answer.code for answer in answers] == [0, 0]
    assert "core.parquet: 50 of 150 items kept; 100 dropped by core\n" in answers[0].out
    assert "each dropped item is within" in answers[0].out
    assert pq.read_table("core.parquet").num_rows == 50
    levels = pq.read_table("levels.parquet")
    assert (levels.num_rows, sum(levels["kept"].to_pylist())) == (150, 30)
    (code,) = blocks(PAGE, "python")
    exec(code, {})
    assert capsys.readouterr().out.startswith("50 kept; the last one was 0.")


def test_the_page_names_every_option_of_core() -> None:
    hidden = {"pool", "out", "json", "debug", "force", "partitions", "backend", "address", "device"}
    for name in {*core.__annotations__} - hidden - {"return"}:
        assert f"--{name.replace('_', '-')}" in PAGE, name
