"""The files of the page keep rules that a browser would not notice: small, no text that becomes markup, no address."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import raysal

STATIC = Path(raysal.__file__).parent / "web" / "static"
SCRIPTS = sorted(STATIC.glob("*.js"))
MARKUP = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc|DOMParser")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_short_and_says_what_it_is(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 400
    assert lines[0].startswith("// ")
    assert MARKUP.search("\n".join(lines)) is None, "text must not become markup"


@pytest.mark.parametrize("path", sorted(STATIC.rglob("*")), ids=lambda path: path.name)
def test_no_file_names_another_place(path: Path) -> None:
    addresses = re.findall(r"(?:https?:)?//[\w.-]+\.\w+", path.read_text()) if path.is_file() else []
    assert [address for address in addresses if "www.w3.org" not in address] == []


def test_the_page_has_no_script_or_style_in_it() -> None:
    page = (STATIC / "index.html").read_text()
    assert not re.search(r"<script>|<style|style=|\son\w+=", page)


def test_every_script_is_reached_from_the_page() -> None:
    reached, waiting = set(), ["app.js", "theme.js"]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += re.findall(r'from "\./([\w-]+\.js)"', (STATIC / name).read_text())
    assert reached == {path.name for path in SCRIPTS}


def test_the_docs_name_every_key() -> None:
    table = (STATIC / "keymap.js").read_text()
    page = (Path(__file__).parents[2] / "docs" / "serve.md").read_text()
    section = page.partition("## Keys and views")[2].partition("\n## ")[0].lower()
    named = set(re.findall(r"`([^`]+)`", section)) | {"arrows", "enter", "escape"}
    words = {"pageup": "page up", "pagedown": "page down", " ": "space", "ctrl+z": "ctrl z", "ctrl+a": "ctrl a"}
    also = {"backspace", "=", "_"}  # on the key beside, or with shift
    keys = {key for keys in re.findall(r"keys: \[(.*?)\],? act", table) for key in re.findall(r'"([^"]+)"', keys)}
    missing = {key for key in keys - also if not re.search("arrow|digit|enter|escape", key)}
    assert {key for key in missing if words.get(key, key) not in named} == set()
