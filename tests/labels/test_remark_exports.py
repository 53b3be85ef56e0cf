"""Notes and ratings leave a run with its labels, in the row of who wrote them; no import takes them for labels."""

from __future__ import annotations

import csv
import json
import shutil
import sqlite3
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from cli_tools import cli
from pools import make_pool, mixture

import raysal
from raysal.errors import Damaged
from raysal.labels.files import read_labels
from raysal.labels.remarks import FILE, Remark, Remarks, remarks_of
from raysal.rounds.label_files import import_labels
from raysal.rounds.session import Session
from raysal.types import Label

KEYS = [f"{name}.jpg" for name in "abcdef"]
SAID = [
    Label(key="a.jpg", label="cat", annotator="ann"),
    Label(key="a.jpg", label="dog", annotator="bob"),
    Label(key="b.jpg", label="cat", annotator="ann"),
    Label(key="c.jpg", label="!skip", annotator="ann"),
]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without remarks."""
    folder = tmp_path_factory.mktemp("remarks")
    make_pool(folder / "pool", mixture(6, 4, classes=2)[0], keys=KEYS)
    with Session(folder / "run", folder / "pool", fleet={"backend": "local"}) as session:
        session.tell(SAID)
    return folder / "run"


@pytest.fixture(scope="module")
def noted(plain: Path) -> Path:
    """The same run with remarks: beside an answer, changed, of who gave none, beside a skip, taken back."""
    run = Path(shutil.copytree(plain, plain.parent / "noted"))
    remarks = Remarks(run)
    remarks.add("ann", [("a.jpg", Remark("blured", 1)), ("c.jpg", Remark("too dark")), ("b.jpg", Remark("x"))])
    remarks.add("ann", [("a.jpg", Remark('blurred, "really"', 1)), ("b.jpg", Remark())])
    remarks.add(
        "cy", [("a.jpg", Remark(rating=5)), ("e.jpg", Remark("what is it?", 0)), ("f.jpg", Remark(disputed=True))]
    )
    remarks.close()
    return run


ROWS = [
    ("a.jpg", "cat", "ann", 'blurred, "really"', 1),
    ("a.jpg", "dog", "bob", None, None),
    ("a.jpg", None, "cy", None, 5),
    ("b.jpg", "cat", "ann", None, None),
    ("e.jpg", None, "cy", "what is it?", 0),
]


@pytest.mark.parametrize("format", [None, "csv"])
@pytest.mark.parametrize("suffix", ["csv", "parquet", "json", "jsonl"])
def test_tables_have_them_beside_the_answers(noted: Path, tmp_path: Path, format: str | None, suffix: str) -> None:
    out = tmp_path / f"labels.{suffix}"
    cli("label", "export", noted, "-o", out, *([] if format is None else ["--format", format]))
    if suffix == "parquet":
        rows = pq.read_table(out).to_pylist()
    elif suffix == "csv":
        rows = [{k: v or None for k, v in row.items()} for row in csv.DictReader(out.read_text().splitlines())]
    else:
        text = out.read_text()
        rows = json.loads(text) if suffix == "json" else [json.loads(line) for line in text.splitlines()]
    found = [tuple(row.get(name) for name in ("key", "label", "annotator", "note", "rating")) for row in rows]
    wanted = [tuple(None if each is None else str(each) for each in row) for row in ROWS]
    assert [tuple(None if each is None else str(each) for each in row) for row in found] == wanted
    assert len(read_labels(out).labels) == 3
    assert import_labels(noted, out).told.new == 0, "to import it into the same run changes nothing"


def test_what_belongs_to_a_skip_comes_with_the_skips(noted: Path, tmp_path: Path) -> None:
    done = json.loads(cli("label", "export", noted, "-o", tmp_path / "all.csv", "--skips", "--json").out)
    assert done["remarks"] == 4
    assert "c.jpg,!skip,ann,1.0,too dark," in (tmp_path / "all.csv").read_text()


def test_label_studio_keeps_them_in_meta(noted: Path, tmp_path: Path) -> None:
    raysal.export_labels(noted, tmp_path / "tasks.json", format="label_studio")
    tasks = {task["data"]["raysal_key"]: task for task in json.loads((tmp_path / "tasks.json").read_text())}
    assert {key: task["meta"]["raysal_remarks"] for key, task in tasks.items() if "meta" in task} == {
        "a.jpg": [
            {"raysal_annotator": "ann", "note": 'blurred, "really"', "rating": 1},
            {"raysal_annotator": "cy", "rating": 5},
        ],
        "e.jpg": [{"raysal_annotator": "cy", "note": "what is it?", "rating": 0}],
    }
    assert import_labels(noted, tmp_path / "tasks.json").told.new == 0


@pytest.mark.parametrize("format", [None, "csv", "label_studio", "fiftyone"])
def test_without_any_nothing_changes(plain: Path, tmp_path: Path, format: str | None) -> None:
    """Not a byte of the file, and no file of the run."""
    suffix = "csv" if format in (None, "csv") else "json"
    words = [] if format is None else ["--format", format]
    cli("label", "export", plain, "-o", tmp_path / f"without.{suffix}", *words)
    assert not (plain / FILE).exists()
    run = Path(shutil.copytree(plain, tmp_path / plain.name))
    Remarks(run).close()
    cli("label", "export", run, "-o", tmp_path / f"empty.{suffix}", *words)
    assert (tmp_path / f"empty.{suffix}").read_bytes() == (tmp_path / f"without.{suffix}").read_bytes()
    assert b"note" not in (tmp_path / f"empty.{suffix}").read_bytes()


def test_a_broken_file_is_said_and_one_that_was_begun_is_empty(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / FILE).close()
    (tmp_path / FILE).touch()
    assert remarks_of(tmp_path) == {}
    (tmp_path / FILE).write_bytes(b"no database, and longer than its head" * 9)
    with pytest.raises(Damaged, match=FILE):
        remarks_of(tmp_path)
