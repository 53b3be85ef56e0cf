"""The section "A plan" of docs/curation.md: what it shows runs, and it names every column, option and step."""

from __future__ import annotations

import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest
from cli_tools import cli
from pages import ROOT, blocks, commands
from pools import make_pool, mixture

from raysal.cli.curate import curate
from raysal.curation.curated import SCHEMA
from raysal.curation.plan import parse_plan, plan_of
from raysal.curation.registry import STEPS

PLAN = (ROOT / "docs" / "curation.md").read_text(encoding="utf-8").split("## A plan")[1].split("\n## ")[0]


def test_the_section_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows, _ = mixture(60, 128)
    make_pool(tmp_path / "pool", np.concatenate([rows, rows[:12], rows[20:30] * 1.01]))
    for block in blocks(PLAN, "console"):
        for line in commands(block):
            done = cli(*shlex.split(line)[1:])
            assert done.code == 0, done.err
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"curation.html", "curation.json"}
    (code,) = blocks(PLAN, "python")
    exec(code, {})
    assert capsys.readouterr().out == "exact 82 12\nnear 70 10\n"


def test_its_config_is_a_plan() -> None:
    (text,) = blocks(PLAN, "toml")
    steps = plan_of(parse_plan(tomllib.loads(text)).steps)
    assert [step.label for step in steps] == ["exact", "near"]


def test_it_names_every_column_option_and_step() -> None:
    for name in SCHEMA.names:
        assert f"| `{name}` |" in PLAN, name
    for name in {*curate.__annotations__} - {
        "pool",
        "out",
        "json",
        "debug",
        "partitions",
        "address",
        "device",
        "return",
    }:
        assert f"--{name}" in PLAN, name
    for name in STEPS:
        assert f"| `{name}`" in PLAN, name
