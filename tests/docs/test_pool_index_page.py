"""The page on the index is true: numbers are those of the plan, commands and messages exist, examples run."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from pools import make_pool, mixture

import raysal
from raysal.cli import app, main
from raysal.config import parse_config
from raysal.fleet.replay import SESSIONS
from raysal.index import KINDS, MAX_DRIFT, human_bytes, plan_index
from raysal.index.build import RETRAIN_GROWTH
from raysal.index.kinds import OVERFETCH, row_bytes
from raysal.index.plan import BUFFER_BYTES, MAX_GRAPH_ROWS, MIN_GRAPH_QUERIES, MIN_INDEX_QUERIES, MIN_INDEX_ROWS
from raysal.index.recall import MAX_OVERFETCH, RECALL_AT, RECALL_QUERIES
from raysal.index.search import ANCHORS_PER_SEARCH
from raysal.index.shards import MAX_GPU_NEIGHBOURS
from raysal.narrowing import NARROWERS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "pool_index.md").read_text(encoding="utf-8")
SOURCES = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "raysal").rglob("*.py"))]
TEN_MILLION = [50_000] * 200
FORMULAS = """
    on disk      b N + T (S + 1)
    to build     64 MB + max(12 w t + T, 2 b R + T + 180,224 w)
    to search    64 MB + (b + 8) rows + T shards, of the shards that one process searches
"""


def section(name: str) -> str:
    return PAGE.split(f"\n## {name}\n")[1].split("\n## ")[0]


def rows_of(table: str, columns: int) -> Iterator[list[str]]:
    """The rows of the tables with so many columns, without heads and rules."""
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == columns and not set(cells[0]) <= {"-"}:
            yield cells


def kinds_table() -> dict[str, list[str]]:
    return {
        cells[0].strip("`"): cells[1:] for cells in rows_of(section("Kinds and their memory"), 7) if "`" in cells[0]
    }


def test_every_kind_has_a_row() -> None:
    assert sorted(kinds_table()) == sorted(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_and_overfetch_are_those_of_the_code(kind: str) -> None:
    _, formula, fetched, *stated = kinds_table()[kind]
    for dim in (8, 100, 256, 1280):
        width = -(-dim // 8) * 8
        times, parts, more = re.fullmatch(r"(?:(\d+) )?w(?: / (\d+))?(?: \+ (\d+))?", formula).groups()
        assert int(times or 1) * width // int(parts or 1) + int(more or 0) == row_bytes(kind, dim)
    assert int(fetched) == OVERFETCH[kind]
    plan = plan_index(TEN_MILLION, 256, kind=kind)
    assert stated == [human_bytes(plan.disk_bytes), human_bytes(plan.build_bytes), human_bytes(plan.search_bytes)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("processes", [1, 4])
def test_formulas_are_those_of_the_plan(kind: str, processes: int) -> None:
    """As FORMULAS says, line by line; in words, T."""
    assert FORMULAS in PAGE
    assert BUFFER_BYTES == 64_000_000
    for chunks, dim in ((TEN_MILLION, 256), ([1000] * 700, 100), ([300], 12)):
        plan = plan_index(chunks, dim, kind=kind, processes=processes)
        w, b, trained_on = -(-dim // 8) * 8, row_bytes(kind, dim), plan.training_rows
        largest = max(rows for _, _, rows in plan.shards)
        inverted = kind.startswith("ivf_")
        assert trained_on == (min(sum(chunks), max(64 * plan.lists, 10_000)) if inverted else 0)
        assert plan.lists <= max(sum(chunks) / 39, 1)
        made = 4 * w * plan.lists + (1024 * w if kind == "ivf_pq" else 0)
        own = max(sum(rows for _, _, rows in plan.shards[i::processes]) for i in range(processes))
        turns = -(-len(plan.shards) // processes)
        assert plan.disk_bytes == b * plan.rows + made * (len(plan.shards) + 1)
        assert plan.build_bytes == BUFFER_BYTES + max(12 * w * trained_on + made, 2 * b * largest + made + 180_224 * w)
        assert plan.search_bytes == BUFFER_BYTES + (b + 8) * own + made * turns


def test_auto_tries_what_the_table_says() -> None:
    def tried(rows: int, queries: int) -> list[str]:
        """The kinds that are passed over, when nothing fits."""
        with pytest.raises(raysal.RaysalError) as caught:
            plan_index([rows], 256, memory=1, queries=queries)
        return re.findall(r"(\w+) needs", str(caught.value))

    table = section("Building one").split("`auto` tries")[1]
    few, some, many, most = (re.findall(r"`(\w+)`", cells[2]) for cells in rows_of(table, 3) if "`" in cells[2])
    assert tried(MIN_INDEX_ROWS - 1, MIN_GRAPH_QUERIES) == few
    assert tried(MIN_INDEX_ROWS, MIN_GRAPH_QUERIES) == tried(MAX_GRAPH_ROWS, MIN_GRAPH_QUERIES) == some
    assert tried(MIN_INDEX_ROWS, MIN_GRAPH_QUERIES - 1) == tried(MAX_GRAPH_ROWS + 1, MIN_GRAPH_QUERIES) == many
    assert tried(10 * MAX_GRAPH_ROWS, 1) == many
    assert tried(10 * MAX_GRAPH_ROWS + 1, MIN_GRAPH_QUERIES) == most


def test_defaults_of_build_are_as_said() -> None:
    (command,) = (one for one in app_commands() if one.name == "build")
    options = {option: parameter for parameter in command.params for option in parameter.opts if option != "pool"}
    said = {}
    for names, default, _ in rows_of(section("Building one").split("| rows |")[0], 3):
        said |= dict.fromkeys(re.findall(r"`(--[a-z-]+)`", names), default.strip("`").replace(",", ""))
    assert said.keys() == options.keys() - {"--json", "--debug", "--dry-run", "--help"}
    for name, default in said.items():
        found = options[name].default
        known = "this machine's" if found is None else "off" if found is False else str(getattr(found, "value", found))
        assert known == default, name


def app_commands() -> list[typer.core.TyperCommand]:
    group = typer.main.get_command(app)
    return list(group.commands["index"].commands.values())  # type: ignore[attr-defined]


def test_numbers_are_those_of_the_code() -> None:
    text = re.sub(r"\s+", " ", PAGE)
    for said in (
        f"below {MIN_INDEX_ROWS:,} rows the plan says",
        f"below {MIN_INDEX_QUERIES:,} queries",
        f"on {RECALL_QUERIES} items of the pool",
        f"recall@{RECALL_AT[1]} is below the target",
        f"exact {RECALL_AT[0]} and {RECALL_AT[1]} nearest",
        f"up to {MAX_OVERFETCH} for each wanted",
        f"less than {RETRAIN_GROWTH} times the rows it was trained on",
        f"From {MAX_DRIFT} on a build trains anew",
        f"{SESSIONS} sessions are kept",
        f"more than {MAX_GPU_NEIGHBOURS:,} rows",
        f"round trips for {ANCHORS_PER_SEARCH:,} anchors",
    ):
        assert said.lower() in text.lower(), said


def test_every_message_is_one_of_ours() -> None:
    """Word for word, so that who searches the page for what was printed finds it."""
    table = list(rows_of(section("What is refused"), 3))[1:]
    assert len(table) >= 12
    for _, messages, _ in table:
        for message in re.findall(r"`(.+?)`", messages):
            assert any(message in source for source in SOURCES), message


@pytest.mark.parametrize("example", re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL))
def test_every_example_is_a_config(example: str) -> None:
    config = parse_config({"pool": "pool", **tomllib.loads(example)})
    config.narrow.build("narrow", NARROWERS)


def test_the_commands_of_building_and_the_python_example_run(tmp_path, monkeypatch, capsys) -> None:
    x, classes = mixture(60, 8)
    keys = [f"item-{i:04d}" for i in range(60)]
    make_pool(tmp_path / "pool", x, keys=["beach/0042.jpg", *keys[1:]], labels=classes)
    monkeypatch.chdir(tmp_path)
    lines = [line[2:] for line in section("Building one").splitlines() if line.startswith("$ ")]
    lines.insert(3, next(line[2:] for line in section("More like this").splitlines() if line.startswith("$ ")))
    assert len(lines) == 5
    for line in lines:
        assert main(shlex.split(line)[1:]) == 0, line
    assert "recall" in capsys.readouterr().out
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    exec(compile(f"found = {example}", "index.md", "exec"), scope := {"raysal": raysal})
    assert scope["found"].column_names == ["rank", "key", "similarity", "uri", "label"]
    assert scope["found"].num_rows == 20
