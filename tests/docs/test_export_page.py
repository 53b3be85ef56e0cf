"""The commands of docs/export.md, in order; and that the page names every form, option and file."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from cli_tools import cli, write_images
from pages import ROOT, blocks, commands

import raysal
from raysal.cli.export import export
from raysal.exporting import FORMS
from raysal.exporting.layout import COCO, ITEMS, LOST, MANIFEST, PLAN, SUMS
from raysal.sources import Memory

PAGE = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")


def test_the_commands_of_the_page_do_what_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photos = sorted(write_images(tmp_path / "photos", 12).rglob("*.jpg"))
    keys = [path.relative_to(tmp_path / "photos").as_posix() for path in photos]
    source = Memory(
        keys=keys, images=[path.read_bytes() for path in photos], carry={"split": ["train", "test", "train"] * 4}
    )
    encoder = {"name": "torch:tiny_encoder:build", "size": 12}
    tiny = ("--encoder", encoder["name"], "--size", encoder["size"])
    (tmp_path / "keys.txt").write_text("\n".join(keys[:5]), encoding="utf-8")
    with_columns = raysal.embed(source, encoder, out="columns")
    assert cli("embed", "photos", *tiny, "--out", "pool").code == 0
    with raysal.Session("run", "pool") as session:
        session.tell({keys[0]: "red", keys[1]: "green", keys[2]: "red"})
    counts = {"train": 3, "red": 2, "some": 5, "table": 8, "all": 12}
    for line in commands(blocks(PAGE, "console")[0]):
        words = shlex.split(line)[1:]
        if "--where" in words:  # of a pool that carries a column
            words[1] = str(with_columns.path)
        answer = cli(*words, "--json")
        assert answer.code == 0, answer
        assert answer.json["exported"] == counts.pop(words[-1])
    assert counts == {}
    assert cli("embed", "red/data", *tiny, "--out", "again").code == 0


def test_the_page_names_every_form_option_and_file() -> None:
    for name in (*FORMS, COCO, ITEMS, LOST, MANIFEST, PLAN, SUMS):
        assert f"`{name}`" in PAGE, name
    hidden = {"pool", "form", "out", "json", "debug", "vectors", "copy", "k"}
    for name in {*export.__annotations__} - hidden - {"return"}:
        option = "class" if name == "cls" else name.replace("_", "-")
        assert f"--{option}" in PAGE, option
