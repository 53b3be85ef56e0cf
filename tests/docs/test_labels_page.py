"""The page about labels is true: its commands run, and its tables say what the code does."""

from __future__ import annotations

import random
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_tools import cli
from label_tools import TOOLS
from pages import ROOT, blocks, commands
from pools import make_pool, mixture

from raysal import Session
from raysal.errors import LabelError
from raysal.labels import FORMATS
from raysal.labels.nested import SAID
from raysal.labels.rows import XML
from raysal.labels.spelling import MISSING, label_text
from raysal.tables import KINDS

PAGE = (ROOT / "docs" / "labels.md").read_text(encoding="utf-8")


def rows_of(section: str) -> list[list[str]]:
    """The rows of the table in a section of the page."""
    text = PAGE.split(f"## {section}\n")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def test_its_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run `search` waits; each file `from-TOOL` is what the tool makes of the file that was exported before it."""
    monkeypatch.chdir(tmp_path)
    keys = ["beach/0042.jpg", *(f"{row:04d}.jpg" for row in range(59))]
    truth = {key: "ab"[place % 2] for place, key in enumerate(keys)}
    make_pool(tmp_path / "pool", mixture(60, 8, classes=3)[0], keys=keys)
    with Session(tmp_path / "search", tmp_path / "pool", select="margin") as session:
        session.tell({key: truth[key] for key in keys[:4]})
        session.query(30)
    lines = [line for block in blocks(PAGE, "console") for line in commands(block)]
    assert len(lines) == 19
    exported, told = Path(), 0
    for line in lines:
        words = shlex.split(line)[1:]
        if words[:2] == ["label", "import"] and (name := words[3].removeprefix("from-")) != words[3]:
            tool = Path(name).stem.replace("-", "_")
            answered = TOOLS[tool](exported.read_text(encoding="utf-8"), random.Random(0), truth)
            Path(words[3]).write_text(answered, encoding="utf-8")
        answer = cli(*words, *(["--json"] if words[0] == "label" else []))
        assert answer.code == 0, (line, answer.err)
        if words[:2] == ["label", "import"] and words[2] == "search":
            told += answer.json["new"]
        exported = Path(words[-1])
    assert (tmp_path / "labels.csv").read_text() == "key,label,annotator,weight\n"
    with Session.open(tmp_path / "search", read_only=True) as session:
        labels = {label.key: label.label for label in session.ledger.answers()}
    assert told > 25
    assert labels == {key: truth[key] for key in labels}


def test_the_formats_are_those_of_the_code() -> None:
    said = {re.findall(r"`([\w-]+)`", row[0])[0]: row for row in rows_of("Round trip with label tools")}
    plain = {name: "csv" if name == "table" else name.replace("_", "-") for name in FORMATS}
    assert set(said) == set(plain.values())
    for name, shown in plain.items():
        form = FORMATS[name]
        assert bool(form.suffixes) == bool(said[shown][2]), name
        assert bool(form.reads) == bool(said[shown][3]), name
        assert set(re.findall(r"`(\.\w+)`", said[shown][2])) >= set(form.suffixes[:1]), name


def test_the_extensions_are_those_that_are_read() -> None:
    named = [suffix for row in rows_of("Label files") for suffix in re.findall(r"`(\.\w+)`", row[0])]
    assert named == [*KINDS, XML]


NUMBERS: dict[str, list[Any]] = {
    "`0`, `0.0`, `-0.0` as numbers of any type": [0, 0.0, -0.0, np.int8(0), np.float16(0)],
    "1.5, 1.50 as numbers": [1.5, np.float64(1.50)],
    "0.1 as float32": [np.float32(0.1)],
    "None, NaN, a blank cell": [None, float("nan"), " "],
    "true, false as booleans": [True, False],
    "`café` in any Unicode form": ["cafe\u0301", "caf\u00e9"],
    "` cat `": [" cat "],
}
"""The rows whose cells are not texts as they stand."""


@pytest.mark.parametrize("row", rows_of("One spelling"), ids=lambda row: row[0])
def test_the_spellings_are_those_of_the_code(row: list[str]) -> None:
    given, becomes = row
    values = NUMBERS[given] if given in NUMBERS else re.findall(r"`([^`]+)`", given.partition(":")[0])
    assert values
    if becomes.startswith("refused"):
        for value in values:
            with pytest.raises(LabelError):
                label_text("label", value)
        return
    found = [label_text("label", value) for value in values]
    if becomes.startswith("as it is"):
        assert found == values
    elif becomes == "no label":
        assert set(found) == {None}
    else:
        expected = re.findall(r"`([^`]+)`", becomes)
        assert found == (expected if len(expected) == len(found) else expected * len(found))


def test_the_missing_values_named_are_known() -> None:
    named = re.search(r"looks like a missing value: (.*?) and the like", PAGE, flags=re.DOTALL)
    assert named is not None
    for text in re.findall(r"`([^`]+)`", named[1]):
        assert text.casefold() in MISSING


def test_the_module_names_what_it_reads() -> None:
    from raysal.labels import nested

    assert nested.__doc__ is not None
    for kind in SAID:
        assert f'"{kind}"' in nested.__doc__
