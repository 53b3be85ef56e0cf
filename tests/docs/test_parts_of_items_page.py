"""The examples of docs/parts_of_items.md run, and its tables name all there is."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_tools import cli
from pages import ROOT, blocks, commands

import raysal
from raysal.config import PartsConfig
from raysal.scoring.aggregators.registry import AGGREGATORS
from raysal.sources.table import Table

PAGE = (ROOT / "docs" / "parts_of_items.md").read_text(encoding="utf-8")
COMMANDS = [line for block in blocks(PAGE, "console") for line in commands(block)]


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    pages = [f"page-{number}" for number in range(60) for _ in range(1 + number % 4)]
    vectors = rng.normal(size=(len(pages), 8)).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 8)
    minutes = rng.uniform(1, 5, len(pages))
    table = {"key": [f"k{row}" for row in range(len(pages))], "page": pages, "vector": column, "minutes": minutes}
    pq.write_table(pa.table(table), "parts.parquet")
    raysal.embed(Table(path=Path("parts.parquet"), owner="page", carry=("minutes",)), out="pool")
    return tmp_path / "pool"


def rows_of(name: str) -> list[dict[str, str]]:
    with Path(name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_commands_choose_what_the_page_says(pool):
    first, second, whole, minutes = (shlex.split(line)[1:] for line in COMMANDS if line.startswith("raysal select"))
    assert cli(*first).code == 0
    rows = rows_of("batch.csv")
    assert len(rows) == 20
    assert all(row["key"].startswith("page-") for row in rows)
    with Path("batch.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows({**row, "label": "ab"[place % 2]} for place, row in enumerate(rows))
    assert cli(*second).code == 0
    following = [row["key"] for row in rows_of("next.csv")]
    assert not {row["key"] for row in rows} & set(following)
    Path("batch.csv").unlink()
    whole[whole.index("200")] = "50"  # the pool here has 150 parts
    said = json.loads(cli(*whole[:-2], "--json").out)
    assert said["by"] == "owner"
    assert said["cost"] == sum(row["cost"] for row in said["rows"]) <= 50
    said = json.loads(cli(*minutes[:-2], "--json").out)
    assert 0 < said["cost"] <= 60


def test_a_run_goes_as_the_page_says(pool):
    config = next(
        block for block in blocks(PAGE, "toml") if "owner" in block.partition("oracle")[0] and "oracle" in block
    )
    Path("owners.toml").write_text(config, encoding="utf-8")
    lines = [line for line in COMMANDS if re.match(r"raysal (run|label|resume|export)", line)]
    begin, write, take, again, export = (shlex.split(line)[1:] for line in lines)
    assert cli(*begin).code == 0
    assert cli(*write).code == 0
    rows = rows_of("labels.csv")
    assert all(row["key"].startswith("page-") for row in rows)
    told = {row["key"]: "ab"[place % 2] for place, row in enumerate(rows)}
    Path("labels.csv").write_text("key,label\n" + "".join(f"{key},{label}\n" for key, label in told.items()))
    assert cli(*take).code == 0
    assert cli(*again).code == 0
    assert cli(*export).code == 0
    found = pq.read_table("parts.parquet", columns=["key", "page"]).to_pylist()
    wanted = {row["key"]: told[row["page"]] for row in found if row["page"] in told}
    (shard,) = Path("labelled").glob("data/*.csv")
    with shard.open(newline="") as file:
        assert {row["key"]: row["label"] for row in csv.DictReader(file)} == wanted


def test_the_example_in_python_runs(pool):
    (block,) = blocks(PAGE, "python")
    found: dict[str, pa.Table] = {}
    exec(block, found)
    assert found["batch"].num_rows == 3


def test_the_tables_name_all_there_is():
    assert set(re.findall(r"^\| `([a-z_]+)`, `--", PAGE, re.MULTILINE)) == set(PartsConfig.model_fields)
    assert set(re.findall(r"^\| `([a-z_]+)[^,|]*` \|", PAGE, re.MULTILINE)) == set(AGGREGATORS)
