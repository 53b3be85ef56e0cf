"""The README is true: its examples run, and its table names what there is."""

from __future__ import annotations

import csv
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pages import README, blocks, commands
from PIL import Image
from pools import make_pool, mixture

from raysal.cli import main
from raysal.rounds.session import Session
from raysal.sources import digits


def shell(command: str, where: Path) -> subprocess.CompletedProcess[str]:
    bin_dir = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{bin_dir}:{os.environ['PATH']}"}
    return subprocess.run(shlex.split(command), cwd=where, env=environment, capture_output=True, text=True, check=False)


def test_the_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = blocks(README, "python")
    assert len(example.strip().splitlines()) <= 11
    monkeypatch.chdir(tmp_path)
    some = tuple(column[:600] for column in digits._load())
    monkeypatch.setattr(digits, "_load", lambda: some)
    scope: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), scope)
    assert float(capsys.readouterr().out) > 0.8
    assert scope["more"].num_rows == 10  # type: ignore[attr-defined]


def test_a_folder_of_images_goes_all_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands of "Your own images", in order, with a person filling in the batches; the last one as a process."""
    rng = np.random.default_rng(0)
    for i in range(60):
        path = tmp_path / "photos" / f"{'light' if i % 2 else 'dark'}" / f"{i:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 90, (48, 48, 3)) + (150 if i % 2 else 0)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    section = README.split("## Your own images")[1].split("\n## ")[0]
    lines = [line for block in blocks(section, "console") for line in commands(block)]
    assert [line.split()[1] for line in lines] == ["install", "embed", "select", "label", "select", "label", "status"]
    monkeypatch.chdir(tmp_path)
    for line in lines[1:-1]:
        assert main(shlex.split(line)[1:]) == 0, f"{line}\n{capsys.readouterr().err}"
        if (batch := re.search(r"-o (\S+\.csv)", line)) is not None:
            fill_in(tmp_path / batch[1])
    done = shell(lines[-1], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "40" in done.stdout


def test_the_examples_of_predictions_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    vectors, labels = mixture(300, 8, classes=3)
    make_pool(tmp_path / "pool", vectors, labels=labels, missing=[7])
    with Session(tmp_path / "runs" / "fashion", tmp_path / "pool", oracle="simulated") as session:
        for _ in range(2):
            session.ask_oracle(session.query(20))
        session.finish()
    section = README.split("## Predictions")[1].split("\n## ")[0]
    (block,) = blocks(section, "console")
    for line in commands(block):
        assert main(shlex.split(line)[1:]) == 0, capsys.readouterr().err
        assert "299 items, 1 quarantined left out" in capsys.readouterr().out
    found = pq.read_table(tmp_path / "scores" / "predictions").to_pydict()
    assert np.mean([labels[id] == name for id, name in zip(found["id"], found["class"], strict=True)]) > 0.8
    assert len(found["top_probabilities"][0]) == 3
    assert {"entropy"} <= found.keys()
    assert "bald" in pq.read_table(tmp_path / "careful" / "predictions").column_names


def fill_in(path: Path) -> None:
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    assert {"id", "key", "rank", "score", "reason", "label"} <= rows[0].keys()
    for row in rows:
        row["label"] = row["key"].split("/")[0]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def test_names_in_the_table_are_the_registries() -> None:
    from raysal.labels import ORACLES
    from raysal.narrowing import NARROWERS
    from raysal.scoring.registry import SCORES
    from raysal.strategies import SELECTORS

    for part, registry in {"narrow": NARROWERS, "select": SELECTORS, "scores": SCORES, "oracle": ORACLES}.items():
        row = next(line for line in README.splitlines() if line.startswith(f"| {part} |"))
        assert set(re.findall(r"`([a-z_]+)`", row)) == set(registry), part
