"""The page on the architecture is true: floors, registries, tests of laws, and the glossary."""

from __future__ import annotations

import ast
import re
from typing import Any

from pages import ROOT
from suite import in_make_test

from raysal.rounds.stages import ROUND

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def section(name: str) -> str:
    return PAGE.split(f"\n## {name}\n")[1].split("\n## ")[0]


def constant(name: str) -> Any:
    """A constant of the test of the code's shape."""
    tree = ast.parse((ROOT / "tests" / "test_architecture.py").read_text(encoding="utf-8"))
    values = {getattr(node.targets[0], "id", ""): node.value for node in tree.body if isinstance(node, ast.Assign)}
    return ast.literal_eval(values[name])


def first_cells(table: str) -> list[str]:
    return re.findall(r"^\| ([^|]+?) \|", table, flags=re.MULTILINE)[1:]


def test_floors_are_those_of_the_code() -> None:
    said = [re.findall(r"`(\w+)`", cell) for cell in first_cells(section("Floors"))]
    floors = constant("FLOORS")
    assert [sorted(floor) for floor in said] == [sorted(floor) for floor in reversed(floors)]


def test_a_round_has_the_stages_of_the_code() -> None:
    said = [cell.strip("`") for cell in first_cells(section("One round, followed through the code")) if "`" in cell]
    assert said == [stage.name for stage in ROUND]


def test_every_registry_is_named() -> None:
    parts = section("How to add a part")
    for package in constant("REGISTRIES"):
        assert f"(../raysal/{package.replace('.', '/')}/registry.py)" in parts, package


def test_the_tests_of_a_law_exist() -> None:
    laws = section("Laws")
    named = re.findall(r"`(test_\w+)`", laws)
    assert len(named) >= 20
    assert not set(named) - in_make_test().keys()
    for law in laws.strip().splitlines():
        if law.startswith("| ") and law[2].isdigit():
            assert any(in_make_test()[name] for name in re.findall(r"`(test_\w+)`", law)), f"deep alone: {law}"
    assert [int(number) for number in re.findall(r"^\| (\d+)\. ", laws, flags=re.MULTILINE)] == list(range(1, 12))


def test_words_of_the_glossary_are_sorted_and_said_once() -> None:
    words = first_cells(section("Glossary"))
    assert len(words) > 60
    assert words == sorted(set(words))
