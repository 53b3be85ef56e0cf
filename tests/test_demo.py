"""The demo's config is the shipped one, and its way is whole even where Fashion-MNIST cannot be had."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from cli_tools import cli
from tiers import deep

import raysal.demo
from raysal.config import Choice, RunConfig, load_config
from raysal.demo import FASHION, demo, demo_config
from raysal.errors import SourceError
from raysal.report import summary
from raysal.sources import digits, fashion_mnist

ROOT = Path(__file__).parents[1]


def test_the_shipped_config_is_the_demo(tmp_path: Path) -> None:
    shipped = load_config(ROOT / "configs" / "fashion_mnist.toml")
    assert shipped.model_copy(update={"pool": tmp_path / "pool"}) == demo_config(tmp_path, FASHION)


def test_without_fashion_mnist_the_demo_runs_on_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every place is tried, the download too; then one line says what stands in."""
    run_on_digits(tmp_path, monkeypatch, "local")


@deep
def test_without_fashion_mnist_the_demo_runs_on_digits_on_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_session: None
) -> None:
    run_on_digits(tmp_path, monkeypatch, "ray")


def run_on_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: Literal["local", "ray"]) -> None:

    def nowhere(self: fashion_mnist.FashionMnist) -> None:
        raise SourceError("fashion_mnist", "not found in any place")

    def small(out: Path, source: Choice) -> RunConfig:
        """Two rounds of the eight, and vectors that are the pixels: `make demo` has the real encoder."""
        config = demo_config(out, source)
        rounds = config.rounds.model_copy(update={"count": 2})
        encoder = Choice.model_validate({"name": "torch:tiny_encoder:build", "size": 32})
        fleet = config.fleet.model_copy(update={"backend": backend})
        return config.model_copy(update={"rounds": rounds, "encoder": encoder, "fleet": fleet})

    monkeypatch.setattr(fashion_mnist.FashionMnist, "_arrays", nowhere)
    monkeypatch.setattr(raysal.demo, "demo_config", small)
    some = tuple(column[:900] for column in digits._load())
    monkeypatch.setattr(digits, "_load", lambda: some)
    said: list[str] = []
    seen: set[str] = set()
    made = demo(tmp_path, report=lambda stage, done, total: seen.add(stage), say=said.append)
    assert made.source == "digits"
    assert len(said) == 1
    assert "digits" in said[0]
    assert seen == {"embed", "rounds", "control"}
    assert made.result.finished
    assert made.result.labels == 200
    rows = summary(tmp_path)
    assert [row.labels for row in rows] == [0, 100, 200]
    assert rows[-1].value is not None
    assert rows[-1].control is not None
    assert rows[-1].value > 0.85
    assert made.report.read_text(encoding="utf-8").startswith("<!doctype html>")
    before = {path: path.stat().st_ino for path in tmp_path.rglob("*")}
    again = demo(tmp_path, say=said.append)
    assert again.result.accuracy == made.result.accuracy
    assert {path: path.stat().st_ino for path in tmp_path.rglob("*")} == before, "nothing is made again that is there"
    assert len(said) == 1, "a run that is there is not set up again"
    shown = cli("demo", "--out", tmp_path).out
    for words in ("accuracy, badge", "random (control)", "badge reached", "The control arm (random) ended at"):
        assert words in shown
