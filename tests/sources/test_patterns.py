"""Patterns, `~`, and every form in which texts come."""

from __future__ import annotations

import csv
import glob
import io
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_tools import cli, refused
from hypothesis import given, settings
from hypothesis import strategies as st

import raysal
from raysal.errors import ConfigError, SourceError
from raysal.sources import check_apart, detect_source, json_values
from raysal.sources.files import Files
from raysal.sources.folder import Folder
from raysal.sources.places import place_of
from raysal.sources.table import Table
from raysal.sources.text import Text
from raysal.types import Item


def items(source: Any, chunk_rows: int = 100) -> list[Item]:
    return [item for unit in source.units(chunk_rows) for item in source.read(unit)]


# patterns

NAMES = (
    "a.jpg",
    "b.jpg",
    "c.png",
    "x/a.jpg",
    "x/d.gif",
    "x/y/a.jpg",
    "x/y/e.png",
    "xy/a.jpg",
    "x.jpg/f.jpg",
    "[z]/a.jpg",
)
HIDDEN = (".h/a.jpg", "x/.i.jpg", ".j.jpg")
PATTERNS = (
    "*.jpg", "*", "**", "**/*.jpg", "*/*.jpg", "x/*", "x/**", "x/**/*.png", "?.jpg", "[ab].jpg", "[!a]*", "x*", "x*/*",
    "**/y/*", "**/**/a.jpg", "x/y/[a-z].*", "*/y", ".h/*", ".*", "**/.*", "x/?/a.*",
    "*.jpg/*", "[[]z]/*.jpg", "nothing*",
)  # fmt: skip


def shell(root: Path, pattern: str) -> list[str]:
    """What the standard library finds, and below the folders that it finds what is not hidden."""
    found: set[str] = set()
    for match in glob.glob(pattern, root_dir=root, recursive=True):
        here = root / match
        inside = [file for file in here.rglob("*") if file.is_file()] if here.is_dir() else []
        found |= {
            str(file.relative_to(root))
            for file in inside
            if not any(part.startswith(".") for part in file.relative_to(here).parts)
        }
        found |= {match} if here.is_file() else set()
    return sorted(found)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("relative", [True, False])
def test_patterns_are_those_of_the_standard_library(
    tmp_path: Path, pattern: str, relative: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "fotos [2024]"  # what is there is no pattern
    for name in (*NAMES, *HIDDEN):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    monkeypatch.chdir(root)
    files = Files(path=Path(pattern) if relative else root / pattern, takes=(".jpg", ".png", ".gif"))
    found = [(files.root / name).absolute() for name in files.names()]
    assert found == [root / name for name in shell(root, pattern)]
    source = Folder(path=files.path)
    if found:
        assert [item.payload.decode() for item in items(source, 2)] == shell(root, pattern)
    assert sum(source.passed_over().counts.values()) == sum(
        name in HIDDEN and name not in shell(root, pattern) for name in _below(root, pattern)
    )


def _below(root: Path, pattern: str) -> set[str]:
    """Everything in the folders that a pattern names, hidden files too."""
    matches = [root / match for match in glob.glob(pattern, root_dir=root, recursive=True)]
    matches += [root] if pattern == "**" else []
    return {str(file.relative_to(root)) for match in matches if match.is_dir() for file in match.rglob("*")}


def test_what_a_pattern_names_and_nobody_reads_is_passed_over(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.svg", "c.txt", "d.PNG"):
        (tmp_path / name).write_bytes(b"x")
    assert Folder(path=tmp_path / "*.jpg").passed_over().counts == {}
    assert Folder(path=tmp_path / "[a-c]*").passed_over().counts == {".svg": 1, ".txt": 1}
    assert Folder(path=tmp_path / "*").passed_over().share == 1 / 3


def test_a_file_that_is_there_is_no_pattern(tmp_path: Path) -> None:
    (tmp_path / "t[1].csv").write_text("key,text\na,b\n")
    (tmp_path / "t1.csv").write_text("key,text\nc,d\n")
    assert [item.key for item in items(detect_source(tmp_path / "t[1].csv"))] == ["a"]
    assert [item.key for item in items(detect_source(tmp_path / "t[12].csv"))] == ["c"]


@pytest.mark.parametrize("path", ["no", "no/no.csv", "no/*.csv", "*.parquet"])
def test_what_matches_nothing_is_an_error(tmp_path: Path, path: str) -> None:
    with pytest.raises(SourceError, match=r"no such file or directory|no file that raysal reads matches"):
        detect_source(tmp_path / path)


@pytest.mark.parametrize(
    ("name", "kind"), [("p/*.jpg", Folder), ("*.tsv", Text), ("p/../*.tsv", Text), ("**/t.*", Text)]
)
def test_the_kind_is_that_of_the_files(tmp_path: Path, name: str, kind: type) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.jpg").write_bytes(b"")
    (tmp_path / "t.tsv").write_text("key\ttext\n")
    assert type(detect_source(tmp_path / name)) is kind


def test_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.png").write_bytes(b"")
    assert detect_source("~") == Folder(path=tmp_path)
    assert detect_source("~/*.png") == Folder(path=tmp_path / "*.png")
    assert place_of(Path("/")).root == Path("/")


# texts

ROWS = [
    {"key": "1", "text": "plain", "n": "x"},
    {"key": "zwei", "text": 'two\nlines, "quoted"\tand a tab', "n": ""},
    {"key": "3", "text": "ß ✓ \u2028 end", "n": "y"},
]


def separated(rows: list[dict[str, str]], separator: str) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, ["key", "text", "n"], delimiter=separator)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


FORMS: dict[str, tuple[str, Callable[[list[dict[str, str]]], str]]] = {
    "csv": (".csv", lambda rows: separated(rows, ",")),
    "tsv": (".TSV", lambda rows: separated(rows, "\t")),
    "jsonl": (".jsonl", lambda rows: "\n".join(map(json.dumps, rows))),
    "ndjson": (".ndjson", lambda rows: "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)),
    "list": (".json", json.dumps),
    "indented list": (".json", lambda rows: json.dumps(rows, indent=2, ensure_ascii=False)),
    "lines": (".json", lambda rows: "\n".join(map(json.dumps, rows))),
    "one after another": (".json", lambda rows: " ".join(json.dumps(row, indent=1) for row in rows)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("block", [1, 7, 1 << 20])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_the_same_rows_in_every_form(
    tmp_path: Path, form: str, block: int, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_values, "_BLOCK", block)
    suffix, write = FORMS[form]
    file = tmp_path / f"t{suffix}"
    file.write_text(write(ROWS), encoding=encoding, newline="")
    source = detect_source(file, carry=["n"])
    for chunk_rows in (1, 2, 9):
        assert [(i.key, i.payload, i.carried["n"]) for i in items(source, chunk_rows)] == [
            (row["key"], row["text"], row["n"]) for row in ROWS
        ]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=60)
@given(st.lists(VALUES, max_size=6), st.sampled_from([None, 1, 3]), st.integers(1, 12), st.randoms())
def test_values_of_a_list_are_those_of_the_json_module(
    values: list[Any], indent: int | None, block: int, rng: random.Random
) -> None:
    text = rng.choice(["", " \n"]) + json.dumps(values, indent=indent) + rng.choice(["", "\n\n"])
    was = json_values._BLOCK
    json_values._BLOCK = block
    try:
        found = list(json_values.json_values(io.StringIO(text)))
    finally:
        json_values._BLOCK = was
    assert [value for _, value in found] == values
    lines = [line for line, _ in found]
    assert lines == sorted(lines)
    assert all(1 <= line <= text.count("\n") + 1 for line in lines)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"key": 1, "text": "a"},\n{"key": 2,', "line 2: not JSON"),
        ('[{"key": 1, "text": "a"}\n{"key": 2}]', "line 2: expected a comma"),
        ('[{"key": 1, "text": "a"}', "the list does not end|expected a comma"),
        ('[{"key": 1, "text": "a"}]\nmore', "line 2: text after the end"),
        ('[{"key": 1, "text": "a"}, 3]', "line 1: not a JSON object"),
        ('{"key": 1, "text": "a"}\n[]', "line 2: not a JSON object"),
        ('[\n\n{"key": null, "text": "a"}]', "line 3: the key is null"),
        ('[{"id": 1}]', "no column 'key'; its columns: id"),
        ("", None),
        ("[]", None),
    ],
)
def test_json_that_is_no_list_of_objects_is_refused_by_its_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "t.json").write_text(content)
    if message is None:
        assert items(Text(path=tmp_path / "t.json")) == []
        return
    with pytest.raises(SourceError, match=f"t.json: .*({message})"):
        items(Text(path=tmp_path / "t.json"))


def test_a_pool_inside_its_own_source_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tables would be items of the source when the same command is run again."""
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    (tmp_path / "in" / "a.parquet").write_bytes(b"")
    for source, out in ((".", "pool"), (".", "."), (tmp_path / "in", "pool"), ("../in", tmp_path / "in" / "b" / "c")):
        with pytest.raises(ConfigError, match=r"out: .* lies in the source .*; name a directory outside of it"):
            raysal.embed(source, out=out)
        refused(cli("embed", source, "--out", out), "outside of it")
    assert [file.name for file in (tmp_path / "in").iterdir()] == ["a.parquet"]
    for source, out in ((".", "../pool"), ("a.parquet", "pool"), ("*.parquet", "pool"), (".", "../in2")):
        check_apart(source, Path(out))


def test_a_file_that_is_not_what_its_source_reads(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / "a.xyz").write_bytes(b"")
    for name, kind in (("a.jpg", "folder of images"), ("a.xyz", "unknown kind '.xyz'")):
        with pytest.raises(SourceError, match=re.escape(kind)):
            detect_source(tmp_path / name)
    with pytest.raises(SourceError, match=r"not one of \.parquet, \.pq"):
        Table(path=tmp_path / "a.xyz").vector_dim()
    with pytest.raises(SourceError, match="is a file, not a folder"):
        items(Folder(path=tmp_path / "a.jpg"))
