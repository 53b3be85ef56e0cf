"""The set of commands and options is written out here, so that it cannot grow or change unnoticed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
import typer
from cli_tools import cli

from raysal.cli import app

COMMON = ["--debug", "--json"]
SURFACE = {
    "": ["--version"],
    "check": [
        "pool",
        "--out/-o*",
        "--labels",
        "--several",
        "--probabilities",
        "--folds",
        "--sample",
        "--fewest",
        "--method",
        "--score",
        "--share",
        "--most",
        "--near",
        "--seed",
        "--partitions",
        "--backend",
        "--address",
        "--device",
        "--force",
    ],
    "config show": ["config?"],
    "config validate": ["config", "--pool"],
    "core": [
        "pool",
        "--out/-o*",
        "--size*",
        "--mode",
        "--epsilon",
        "--always",
        "--rows",
        "--seed",
        "--partitions",
        "--backend",
        "--address",
        "--device",
        "--force",
    ],
    "curate": [
        "pool",
        "--out/-o",
        "--config",
        "--rows",
        "--report",
        "--plan",
        "--seed",
        "--partitions",
        "--backend",
        "--address",
        "--device",
        "--force",
    ],
    "dedup": [
        "pool",
        "--out/-o*",
        "--threshold",
        "--keep",
        "--prefer",
        "--mode",
        "--against",
        "--equal",
        "--rows",
        "--partitions",
        "--backend",
        "--address",
        "--force",
    ],
    "demo": ["--data", "--out"],
    "doctor": ["--out", "--quick"],
    "embed": [
        "source",
        "--out*",
        "--encoder",
        "--key-column",
        "--keys",
        "--vector-column",
        "--image-column",
        "--text-column",
        "--hdu",
        "--owner",
        "--boxes",
        "--box-form",
        "--window",
        "--overlap",
        "--carry",
        "--data",
        "--size",
        "--channel",
        "--stretch",
        "--precision",
        "--batch-size",
        "--chunk-rows",
        "--workers",
        "--decode-threads",
        "--max-quarantine",
        "--max-passed-over",
        "--backend",
        "--device",
        "--metric",
        "--scale",
        "--origin",
        "--check",
        "--measure",
    ],
    "export": [
        "pool",
        "--as*",
        "--out/-o*",
        "--keys",
        "--run",
        "--class",
        "--where",
        "--ranking",
        "-k",
        "--vectors",
        "--copy",
        "--shard-items",
        "--shard-bytes",
        "--source",
        "--max-lost",
    ],
    "serve": [
        "run",
        "--port",
        "--host",
        "--per-item",
        "--media",
        "--no-open",
        "--backend",
        "--pool",
    ],
    "balance": [
        "pool",
        "--out/-o*",
        "--size*",
        "--by",
        "--clusters",
        "--rounds",
        "--prefer",
        "--predictions",
        "--bins",
        "--rows",
        "--seed",
        "--partitions",
        "--backend",
        "--address",
        "--device",
        "--force",
    ],
    "filter": [
        "pool",
        "--out/-o*",
        "--where",
        "--keep-missing",
        "--lowest",
        "--highest",
        "--outliers",
        "--like",
        "--outlier-share",
        "--outlier-k",
        "--outlier-sample",
        "--novelty",
        "--novelty-share",
        "--rows",
        "--seed",
        "--partitions",
        "--backend",
        "--address",
        "--device",
        "--force",
    ],
    "find": ["pool", "--out/-o*", "--example/-e", "--other", "--text", "--image", "--target", "--rest", "-k", "--seed"],
    "finetune": [
        "run",
        "--out/-o*",
        "--encoder",
        "--source",
        "--size",
        "--steps",
        "--batch-size",
        "--ratio",
        "--cutoff",
        "--floor",
        "--weight",
        "--balance",
        "--sample",
        "--learning-rate",
        "--average-steps",
        "--symmetry",
        "--precision",
        "--seed",
        "--device",
        "--threads",
        "--decode-threads",
        "--save-every",
        "--max-lost",
    ],
    "index build": [
        "pool",
        "--kind",
        "--queries",
        "--memory",
        "--shard-rows",
        "--target-recall",
        "--fresh",
        "--partitions",
        "--backend",
        "--seed",
        "--dry-run",
        "--background",
    ],
    "index drop": ["pool"],
    "index info": ["pool"],
    "index search": [
        "pool",
        "--key",
        "--text",
        "--image",
        "-k",
        "--exact",
        "--columns",
        "--service",
        "--out/-o",
        "--force",
    ],
    "index serve": ["pool", "--name*", "--partitions", "--threads", "--device", "--address"],
    "index stop": ["--name*", "--address"],
    "label backend": ["run", "--host", "--port", "--pool"],
    "label export": [
        "run",
        "--out/-o*",
        "--format",
        "--waiting",
        "--holdout",
        "--ranking",
        "--top",
        "--skips",
        "--url",
        "--force",
        "--pool",
    ],
    "label import": [
        "run",
        "file",
        "--format",
        "--pool",
        "--rebind",
        "--blank-withdraws",
        "--skip-unknown",
        "--other-pool",
        "--strict",
    ],
    "label release": ["run", "keys?", "--keys", "--all"],
    "label skip": ["run", "keys", "--annotator", "--pool"],
    "label withdraw": ["run", "keys", "--annotator", "--pool"],
    "pool changes": ["pool", "--since", "-k"],
    "pool compact": ["pool"],
    "pool export": ["pool", "--out/-o*", "--force"],
    "pool info": ["pool"],
    "pool quarantine": ["pool", "--stage", "-k", "--out/-o", "--force"],
    "pool remove": ["pool", "keys?", "--keys", "--missing", "--most"],
    "pool verify": ["pool"],
    "predict": [
        "pool",
        "--out/-o*",
        "--run",
        "--round",
        "--head",
        "--predictive",
        "--top",
        "--uncertainty",
        "--target",
        "--novelty",
        "--novelty-option",
        "--draws",
        "--partitions",
        "--backend",
        "--device",
        "--address",
        "--seed",
    ],
    "rank": [
        "path",
        "--out/-o",
        "--pool",
        "--score",
        "--target",
        "--novelty",
        "--top",
        "--round",
        "--unlabeled",
        "--version",
        "--start",
        "--rows/-n",
        "--find",
        "--export",
        "--draws",
        "--seed",
        "--partitions",
        "--backend",
        "--device",
        "--address",
        "--force",
    ],
    "resume": ["run", "--pool", "--rebind"],
    "run": ["config", "--out*", "--backend", "--partitions", "--dry-run", "--rebind"],
    "select": [
        "pool",
        "-k",
        "--strategy",
        "--option",
        "--labels",
        "--probabilities",
        "--only-new",
        "--narrow",
        "--narrow-option",
        "--partitions",
        "--backend",
        "--seed",
        "--rebind",
        "--target",
        "--by",
        "--labels-of",
        "--aggregate-features",
        "--aggregate-scores",
        "--part-score",
        "--per-owner",
        "--budget",
        "--cost",
        "--out/-o",
        "--force",
    ],
    "status": ["run", "--pool"],
}
"""Arguments in order (`?`: may be left out), then options (`*`: must be given)."""


def spelled(parameter: Any) -> str:
    if not parameter.opts[0].startswith("-"):
        return str(parameter.name) + ("" if parameter.required else "?")
    return "/".join(parameter.opts) + ("*" if parameter.required else "")


def commands(command: Any, path: str = "") -> Iterator[tuple[str, list[str]]]:
    inner = getattr(command, "commands", {})
    options = [spelled(parameter) for parameter in command.params]
    if not inner or options:
        yield path, options
    for name, child in inner.items():
        yield from commands(child, f"{path} {name}".strip())


def test_the_commands_are_those_written_out() -> None:
    found = dict(commands(typer.main.get_command(app)))
    expected = {path: sorted([*options, *(COMMON if path else [])]) for path, options in SURFACE.items()}
    assert {path: sorted(options) for path, options in found.items()} == expected
    for path, options in SURFACE.items():
        arguments = [name for name in options if not name.startswith("-")]
        assert [name for name in found[path] if not name.startswith("-")] == arguments


@pytest.mark.parametrize("path", sorted(SURFACE))
def test_every_command_explains_itself(path: str) -> None:
    answer = cli(*path.split(), "--help")
    assert answer.code == 0
    assert answer.err == ""
    text = re.sub(r"\s+", " ", answer.out)
    for option in SURFACE[path]:
        for spelling in option.rstrip("*?").split("/"):
            assert spelling in text


@pytest.mark.parametrize("path", ["", "label", "pool", "config"])
def test_a_group_by_itself_shows_its_help(path: str) -> None:
    answer = cli(*path.split())
    assert answer.code in (0, 2)  # which one is typer's affair, and differs between its versions
    assert answer.out.count("Usage:") == 1
    assert answer.err == ""


def test_names_in_the_help_are_all_there_are() -> None:
    """Names that the help takes from a registry, and names that a command writes out."""
    from raysal.cli.embed import Distance, HowChecked, Numbers
    from raysal.cli.export import Forms
    from raysal.cli.filter import Outliers
    from raysal.cli.index import KindName
    from raysal.curation.filtering.distances import OutlierRule
    from raysal.embedding import ENCODERS
    from raysal.embedding.measures import MEASURES
    from raysal.embedding.precision import Precision
    from raysal.exporting import FORMS
    from raysal.index import KINDS
    from raysal.models.predictive import Predictive
    from raysal.narrowing import NARROWERS
    from raysal.scoring import SCORES
    from raysal.scoring.aggregators.registry import AGGREGATORS
    from raysal.scoring.novelty.registry import NOVELTIES
    from raysal.strategies import SELECTORS
    from raysal.types import Check, Metric

    listed = {
        "select": (*SELECTORS, *SELECTORS.short, *NARROWERS, *AGGREGATORS),
        "embed": (*ENCODERS, *MEASURES),
        "filter": NOVELTIES,
        "rank": SCORES,
        "predict": (*SCORES, *NOVELTIES, *get_args(Predictive)),
    }
    for command, names in listed.items():
        text = cli(command, "--help").out
        assert [name for name in names if name not in text] == []
    assert set(KindName) == {"auto", *KINDS}
    assert set(Forms) == set(FORMS)
    assert set(Distance) == set(get_args(Metric))
    assert set(Outliers) == set(get_args(OutlierRule))
    assert set(HowChecked) == set(get_args(Check))
    assert set(Numbers) == set(get_args(Precision))
