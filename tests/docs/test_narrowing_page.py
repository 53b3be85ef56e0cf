"""The page on narrowing is true: every example is a config, every rule and field is named, defaults are as said."""

from __future__ import annotations

import ast
import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

from raysal.config import parse_config
from raysal.narrowing import NARROWERS
from raysal.narrowing.refine import MEMBERS
from raysal.strategies import SELECTORS

PAGE = (Path(__file__).parents[2] / "docs" / "narrowing.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
COMMON = {"search", "inner"}
"""Said once for several rules."""


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_a_config(example: str) -> None:
    config = parse_config({"pool": "pool", **tomllib.loads(example)})
    config.narrow.build("narrow", NARROWERS)
    config.select.build("select", SELECTORS)


def test_every_rule_has_a_row_and_its_fields_are_named() -> None:
    table = PAGE.split("## Which one")[1].split("##")[0]
    for name, rule in NARROWERS.items():
        assert f"`{name}`" in table or f"`{name}:" in table, name
        (section,) = (part for part in PAGE.split("\n## ")[1:] if name in part.partition("\n")[0].split(", "))
        for field in dataclasses.fields(rule):  # type: ignore[arg-type]
            where = PAGE if field.name in COMMON else section
            assert f"`{field.name}`" in where or f"{field.name} =" in where, f"{name}.{field.name}"


def test_defaults_are_as_the_tables_say() -> None:
    for name in ("anchoral", "refine"):
        section = PAGE.split(f"\n## {name}\n")[1].split("\n## ")[0]
        said = 0
        for names, values in re.findall(r"^\| (`.+?`) \| (.+?) \|", section, flags=re.MULTILINE):
            fields = re.findall(r"`(\w+)`", names)
            for field, value in zip(fields, values.split(", "), strict=True):
                if value in ("none", "see below"):
                    continue
                given = value.strip("`") if value.startswith("`") else ast.literal_eval(value.replace(",", ""))
                assert getattr(NARROWERS[name](), field) == given, f"{name}.{field}"
                said += 1
        assert said >= 5
    members = re.search(r"^Members: (.*?)\.", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert members is not None
    assert re.findall(r"`(\w+)`", members[1]) == [member.name for member in MEMBERS]
