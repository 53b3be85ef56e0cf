"""The commands and the Python of a section of docs/curation.md, in order; and that it names every option and column."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from cli_tools import cli
from pages import ROOT, blocks, commands
from pools import make_pool, mixture

from raysal.cli.dedup import dedup

PAGE = (ROOT / "docs" / "curation.md").read_text(encoding="utf-8").split("## Near-duplicates")[1].split("\n## ")[0]


def test_the_page_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows, _ = mixture(60, 24)
    make_pool(tmp_path / "pool", np.concatenate([rows, rows[:12] * 1.01]), keys=[f"{i}.jpg" for i in range(72)])
    make_pool(tmp_path / "other", np.concatenate([rows[:3] * 1.02, mixture(20, 24, seed=5)[0]]))
    lines = [line for block in blocks(PAGE, "console") for line in commands(block)]
    for line in lines[:1]:
        assert cli(*shlex.split(line)[1:]).code == 0
    table = pq.read_table("dedup.parquet")
    for name in table.column_names:
        assert f"`{name}`" in PAGE, name
    (code,) = blocks(PAGE, "python")
    exec(code, {})
    assert capsys.readouterr().out == "60 kept, 12 dropped, in 12 groups\n"
    for line in lines[1:]:
        assert cli(*shlex.split(line)[1:]).code == 0
    assert len(lines) == 6
    table = pq.read_table("against.parquet")
    assert sum(table["against"].to_pylist()) == 3
    assert "`against`" in PAGE
    exec(code, {})
    assert capsys.readouterr().out == "60 kept, 0 dropped, in 0 groups\n"


def test_the_page_names_every_option() -> None:
    hidden = {"pool", "out", "json", "debug", "force", "partitions", "backend", "address"}
    for name in {*dedup.__annotations__} - hidden - {"return"}:
        assert f"--{name.replace('_', '-')}" in PAGE, name
