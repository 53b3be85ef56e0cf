"""What every page says is there: links lead to a file and a section, commands, targets of make and names exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import pytest
import typer.main
from pages import HISTORY, PAGES, README, ROOT, anchors, blocks, commands, name_of, prose

from raysal.cli import app
from raysal.models.trainers import TRAINERS
from raysal.scoring.registry import SCORES
from raysal.strategies import SELECTORS

COMMAND = typer.main.get_command(app)  # once: it is made of every function and its hints
every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


@pytest.mark.parametrize("page", [*PAGES, *HISTORY], ids=name_of)
def test_links_lead_to_a_file_and_a_section(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        path, _, section = target.partition("#")
        file = page if not path else page.parent / path
        assert file.is_file(), target
        assert not section or section in anchors(file), target


@every_page
def test_every_command_named_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = [line for block in blocks(text, "console") for line in commands(block) if line.startswith("raysal ")]
    named += re.findall(r"`(raysal [a-z]+[^`]*)`", text)
    assert len(named) > 10 or text != README
    for line in named:
        words, command = shlex.split(line)[1:], COMMAND
        while words and hasattr(command, "commands") and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        assert not (words and hasattr(command, "commands")), f"{line!r} names no command"
        options = {option for parameter in command.params for option in parameter.opts}
        for word in words:
            if word.startswith("-"):
                assert word in options, f"{line!r}: no option {word}"


@every_page
def test_targets_of_make_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:`|\$ )make ([a-z-]+)", page.read_text(encoding="utf-8")):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


@every_page
def test_files_named_exist(page: Path) -> None:
    for path in re.findall(r"`((?:raysal|tests|benchmarks|configs|docs|deploy)/[\w./-]+)`", prose(page)):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name_of)
def test_names_of_the_code_exist(page: Path) -> None:
    """`raysal.something`, and what mkdocstrings is asked to show. The changelog names what there was, too."""
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"(?:`|^::: )(raysal(?:\.[A-Za-z_]\w*)+)", text, flags=re.MULTILINE):
        assert exists(name), name


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    found: object = import_module("raysal")
    module = "raysal"
    for part in name.split(".")[1:]:
        module = f"{module}.{part}"
        try:
            found = getattr(found, part)
        except AttributeError:
            try:
                found = import_module(module)
            except ImportError:
                return False
    return True


@pytest.mark.parametrize(
    ("page", "registry"),
    [("selection.md", SELECTORS), ("models.md", TRAINERS), ("models.md", SCORES)],
    ids=["strategies", "trainers", "scores"],
)
def test_every_part_is_on_the_page_of_its_kind(page: str, registry: Mapping[str, object]) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert not [name for name in registry if not re.search(rf"\b{name}\b", text)]
