"""Strategies by name and in configs, through the command line."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from cli_tools import cli, labels_csv, refused, write_vectors

from raysal.cli.config import resolve, toml_lines
from raysal.config import parse_config
from raysal.narrowing import NARROWERS
from raysal.pool import Pool
from raysal.rounds.session import Session
from raysal.strategies import SELECTORS

CONFIG = """
pool = {pool}
[fleet]
backend = "local"
[oracle]
name = "simulated"
[rounds]
count = 2
k = 6
holdout = 0.2
[select]
name = "skip_extremes"
high = 0.9
[select.of]
name = "class_balanced"
of = "coreset"
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("strategies")
    source = write_vectors(home / "vectors.parquet")
    assert cli("embed", source, "--out", home / "pool", "--carry", "label").code == 0
    labels_csv(home / "labels.csv")
    return home


def test_the_help_names_every_strategy() -> None:
    assert list(SELECTORS) == sorted(SELECTORS)
    text = cli("select", "--help").out
    words = set(re.findall(r"[\w:]+", text.replace("│", " ")))
    assert [name for name in (*SELECTORS, *SELECTORS.short) if name not in words] == []


@pytest.mark.parametrize(
    "strategy", ["class_balanced", "class_balanced:coreset", "skip_extremes:badge", "skip_extremes:class_balanced"]
)
@pytest.mark.parametrize("narrow", ["none", "uniform"])
def test_a_batch_by_a_strategy_inside_another(strategy: str, narrow: str, home: Path) -> None:
    words = ("select", home / "pool", "-k", 10, "--labels", home / "labels.csv", "--narrow", narrow, "--json")
    answer = cli(*words, "--strategy", strategy)
    rows = answer.json["rows"]
    assert answer.json["strategy"] == strategy
    assert len({row["id"] for row in rows}) == 10
    notes = ("predicted class-", "within margin quantiles")
    assert all(any(note in row["reason"] for note in notes) for row in rows)
    assert cli(*words, "--strategy", strategy, "--partitions", 4).json["rows"] == rows


def test_fields_of_the_strategy_inside(home: Path) -> None:
    words = ("select", home / "pool", "-k", 4, "--labels", home / "labels.csv", "--json", "--strategy")
    inside = cli(*words, "class_balanced", "--option", 'of={"name": "top_score", "score": "entropy"}').json["rows"]
    assert all(row["reason"].startswith("entropy") for row in inside)
    outside = cli(*words, "skip_extremes:top_score", "--option", "score=entropy", "--option", "high=0.5").json["rows"]
    assert all(row["reason"].endswith("within entropy quantiles 0 to 0.5") for row in outside)


def test_without_labels_it_is_the_cold_start(home: Path) -> None:
    rows = cli("select", home / "pool", "-k", 3, "--strategy", "class_balanced:coreset", "--json").json["rows"]
    assert all("no labels yet" in row["reason"] and "class_balanced:coreset" in row["reason"] for row in rows)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--strategy", "class_balanced:bagde"), ("strategy.of", "'bagde'", "badge, ")),
        (("--strategy", "badge:coreset"), ("strategy.name", "takes nothing after a colon")),
        (("--strategy", "class_balanced:coreset", "--option", "of=badge"), ("strategy.of", "give one of them")),
        (("--strategy", "class_balanced", "--option", "off=badge"), ("strategy.off", "its fields: exhausted, of")),
        (("--strategy", "margn"), ("strategy", "did you mean 'margin'")),
        (("--strategy", "class_balanced:Least-Confidence"), ("strategy.of", "did you mean 'least_confidence'")),
        (("--strategy", "margin", "--option", "score=entropy"), ("strategy.score", "'margin'", "give one of them")),
        (("--strategy", "margin:badge"), ("strategy.name", "'margin' takes nothing after a colon")),
        (("--strategy", "skip_extremes", "--option", "high=2"), ("strategy.high", "1")),
        (("--strategy", "skip_extremes", "--option", "low=0.99"), ("select.low", "no range")),
        (("--strategy", "skip_extremes", "--option", "score=x"), ("'x'", "margin")),
    ],
)
def test_a_wrong_wrapper_is_refused_in_one_line(words: tuple[str, ...], parts: tuple[str, ...], home: Path) -> None:
    refused(cli("select", home / "pool", "-k", 2, *words), *parts)


def test_a_run_by_a_strategy_inside_another(home: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text(CONFIG.format(pool=json.dumps(str(home / "pool"))), encoding="utf-8")
    assert cli("config", "validate", config, "--json").json["select"] == "skip_extremes"
    shown = cli("config", "show", config).out
    select = tomllib.loads(shown)["select"]
    assert (select["name"], select["of"]["name"], select["of"]["of"]["name"]) == (
        "skip_extremes", "class_balanced", "coreset",
    )  # fmt: skip
    assert (select["score"], select["low"], select["high"]) == ("margin", 0.0, 0.9)
    (tmp_path / "again.toml").write_text(shown, encoding="utf-8")
    assert cli("config", "show", tmp_path / "again.toml").out == shown
    made = cli("run", config, "--out", tmp_path / "run", "--json").json
    assert (made["rounds"], made["labels"], made["finished"]) == (2, 12, True)
    assert cli("resume", tmp_path / "run", "--json").json == made


@pytest.mark.parametrize("name", ["class_balanced:coreset", "class_balanced"])
def test_a_colon_in_a_config_stays_what_it_was(name: str, home: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text(f'pool = {json.dumps(str(home / "pool"))}\nselect = "{name}"\n', encoding="utf-8")
    shown = cli("config", "show", config).out
    assert tomllib.loads(shown)["select"]["name"] == name
    (tmp_path / "again.toml").write_text(shown, encoding="utf-8")
    assert cli("config", "show", tmp_path / "again.toml").out == shown


MIXED = {"name": "mixed", "size": 50, "parts": [{"name": "anchoral", "share": 3, "anchors": 2}, "uniform"]}


@pytest.mark.parametrize("narrow", [MIXED, {"name": "filter", "inner": MIXED}, "filter:mixed", "refine"])
def test_parts_within_parts_are_shown_with_all_their_fields(narrow: Any, home: Path) -> None:
    config = parse_config({"pool": home / "pool", "narrow": narrow})
    shown = resolve(config)
    again = parse_config(tomllib.loads("\n".join(toml_lines(shown))))
    assert resolve(again) == shown
    assert again.narrow.build("narrow", NARROWERS) == config.narrow.build("narrow", NARROWERS)


@pytest.mark.parametrize("name", ["margin", "class_balanced:margin"])
def test_a_score_is_a_strategy_in_a_config(name: str, home: Path, tmp_path: Path) -> None:
    """Validated, shown so that it can be read again, run, and recorded under the name that was typed."""
    config = tmp_path / "run.toml"
    pool = json.dumps(str(home / "pool"))
    text = f'pool = {pool}\nselect = "{name}"\noracle = "simulated"\nfleet = {{ backend = "local" }}\n'
    config.write_text(f"{text}rounds = {{ count = 2, k = 6 }}\n", encoding="utf-8")
    assert cli("config", "validate", config, "--json").json["select"] == name
    shown = cli("config", "show", config).out
    assert tomllib.loads(shown)["select"]["name"] == name
    (tmp_path / "again.toml").write_text(shown, encoding="utf-8")
    assert cli("config", "show", tmp_path / "again.toml").out == shown
    assert cli("run", tmp_path / "again.toml", "--out", tmp_path / "run", "--json").json["finished"]
    with Session.open(tmp_path / "run", read_only=True) as session:
        rows = session.batch(1).table.to_pylist()
        assert session.record(1)["strategy"] == name
    assert {row["strategy"] for row in rows} == {name}
    assert all(row["reason"].startswith("margin ") for row in rows)


def test_probabilities_for_the_start(home: Path, tmp_path: Path) -> None:
    keys = [row["key"] for table in Pool(home / "pool").items(["key"]) for row in table.to_pylist()]
    rows = [f"{key},{0.9 - place % 9 / 10},{0.1 + place % 9 / 10}" for place, key in enumerate(keys)]
    given = tmp_path / "given.csv"
    given.write_text("\n".join(["key,cat,dog", *rows]), encoding="utf-8")
    words = ("select", home / "pool", "-k", 8, "--strategy")
    found = cli(*words, "class_balanced:margin", "--probabilities", given, "--json").json["rows"]
    assert sum("predicted dog" in row["reason"] for row in found) == 4
    refused(cli(*words, "badge", "--probabilities", given), "probabilities", "'badge' cannot go by them")
    given.write_text("\n".join(["key,cat,dog", *rows[1:]]), encoding="utf-8")
    refused(
        cli(*words, "margin", "--probabilities", given),
        "probabilities",
        f"1 item that may be offered has none: {keys[0]!r}",
    )
    assert cli(*words, "margin", "--probabilities", given, "--labels", home / "labels.csv").code == 2
