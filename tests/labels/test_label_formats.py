"""Keys and labels go through every format and tool as they are: written by us or by others, read by us."""

from __future__ import annotations

import csv
import json
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_tools import cli
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import make_pool, mixture
from tiers import deep_unless

from raysal.errors import LabelError
from raysal.labels import Ledger, read_labels, write_labels
from raysal.labels.files import FIELDS, SCHEMA
from raysal.labels.spelling import label_text
from raysal.rounds.session import Session
from raysal.tables import KINDS
from raysal.types import SKIP, Label

SUFFIXES = list(KINDS)
TEXT = st.text(
    st.one_of(st.sampled_from(list("a ,;\t\"'\n\r\u2028\u00a0\ufeffé漢=#|")), st.characters(codec="utf-8")), max_size=6
)


def is_spelled(text: str) -> bool:
    try:
        return label_text("label", text) == text
    except LabelError:
        return False


LABELS = st.lists(
    st.builds(
        Label,
        key=TEXT.filter(bool),
        label=TEXT.filter(is_spelled) | st.sampled_from(["cat", "007", "NA", "1.50", SKIP]),
        annotator=st.sampled_from(["", "ann", "bob, jr.", "7"]),
        weight=st.sampled_from([1.0, 0.5, 2.25]),
    ),
    max_size=8,
    unique_by=lambda label: (label.key, label.annotator),
)


def _frame(labels: list[Label]) -> pd.DataFrame:
    rows = [[label.key, label.label, label.annotator, label.weight] for label in labels]
    return pd.DataFrame(rows, columns=list(FIELDS)).astype({"key": str, "label": str, "annotator": str})


def _polars(labels: list[Label]) -> pl.DataFrame:
    frame = pl.from_arrow(pa.Table.from_pylist([_row(label) for label in labels], schema=SCHEMA))
    assert isinstance(frame, pl.DataFrame)
    return frame


def _row(label: Label) -> dict[str, object]:
    return {name: getattr(label, name) for name in FIELDS}


def _by_csv_module(path: Path, labels: list[Label], dialect: str) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*FIELDS, "note"], dialect=dialect, quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows({**_row(label), "note": "x" * 140_000 if row == 0 else ""} for row, label in enumerate(labels))


TOOLS: dict[str, tuple[str, Callable[[Path, list[Label]], object]]] = {
    **{f"raysal {suffix}": (suffix, write_labels) for suffix in SUFFIXES},
    "pandas csv": (".csv", lambda path, labels: _frame(labels).to_csv(path, index=False, lineterminator="\r\n")),
    "pandas tsv": (".tsv", lambda path, labels: _frame(labels).to_csv(path, index=False, sep="\t", quoting=1)),
    "pandas european": (".csv", lambda path, labels: _frame(labels).to_csv(path, index=False, sep=";", quoting=1)),
    "pandas utf-16": (
        ".csv",
        lambda path, labels: _frame(labels).to_csv(path, index=False, sep="\t", quoting=1, encoding="utf-16"),
    ),
    "pandas index": (".csv", lambda path, labels: _frame(labels).to_csv(path, quoting=1)),
    "pandas parquet": (".parquet", lambda path, labels: _frame(labels).to_parquet(path)),
    "pandas jsonl": (".jsonl", lambda path, labels: _frame(labels).to_json(path, orient="records", lines=True)),
    "pandas json": (".json", lambda path, labels: _frame(labels).to_json(path, orient="records", indent=2)),
    "polars csv": (".csv", lambda path, labels: _polars(labels).write_csv(path, quote_style="always")),
    "polars parquet": (".pq", lambda path, labels: _polars(labels).write_parquet(path)),
    "polars ndjson": (".ndjson", lambda path, labels: _polars(labels).write_ndjson(path)),
    "polars json": (".json", lambda path, labels: _polars(labels).write_json(path)),
    "csv": (".csv", lambda path, labels: _by_csv_module(path, labels, "excel")),
    "csv tabs": (".tsv", lambda path, labels: _by_csv_module(path, labels, "excel-tab")),
}

FIRST_TOOLS = {"raysal .csv", "raysal .json", "pandas european", "pandas utf-16", "polars parquet", "csv tabs"}
"""One tool for each reader; the other pairs are deep."""


@pytest.mark.parametrize("tool", deep_unless(FIRST_TOOLS, TOOLS))
@given(labels=LABELS)
@settings(max_examples=8, deadline=None)
def test_the_ledger_is_the_same_whatever_the_file(
    tmp_path_factory: pytest.TempPathFactory, tool: str, labels: list[Label]
) -> None:
    folder = tmp_path_factory.mktemp("labels")
    suffix, write = TOOLS[tool]
    write(folder / f"labels{suffix}", labels)
    if not labels and suffix in (".jsonl", ".ndjson"):
        return  # such a file does not even have columns
    read = read_labels(folder / f"labels{suffix}")
    told = [label for label in labels if label.key.strip() or label.label]
    assert read.labels == told
    ids = {key: id for id, key in enumerate(dict.fromkeys(label.key for label in labels))}
    found = []
    for number, given_labels in enumerate((labels, read.labels)):
        with Ledger(folder / f"{number}.sqlite") as ledger:
            ledger.tell([(ids[label.key], label) for label in given_labels])
            found.append((ledger.labels(), ledger.counts(), ledger.answers(skips=True)))
    assert found[0] == found[1]


@pytest.mark.parametrize("suffix", deep_unless({".csv", ".parquet"}, SUFFIXES))
@given(keys=st.lists(TEXT.filter(bool), min_size=3, max_size=6, unique=True), seed=st.integers(0, 99))
@settings(max_examples=4, deadline=None)
def test_a_key_comes_back_from_every_file_that_asks_for_labels(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, keys: list[str], seed: int
) -> None:
    """Through `select -o`, `label export --waiting` and `label export`, filled in as a person or a program would."""
    folder = tmp_path_factory.mktemp("keys")
    make_pool(folder / "pool", mixture(len(keys), 4, classes=2, seed=seed)[0], keys=keys)
    batch, run = folder / f"batch{suffix}", folder / "run"
    assert cli("select", folder / "pool", "-k", 2, "--strategy", "random", "-o", batch).code == 0
    chosen = filled_in(batch)
    assert set(chosen) < set(keys)
    assert cli("label", "import", run, batch, "--pool", folder / "pool", "--json").json["new"] == 2
    out = folder / f"out{suffix}"
    assert cli("label", "export", run, "-o", out, "--json").json["labels"] == 2
    assert {label.key: label.label for label in read_labels(out).labels} == chosen
    assert cli("label", "import", run, out, "--json").json["repeated"] == 2
    with Session.open(run) as session:
        asked = session.query(1).keys
    waiting = folder / f"waiting{suffix}"
    assert cli("label", "export", run, "--waiting", "-o", waiting, "--json").json["waiting"] == 1
    assert list(filled_in(waiting)) == asked
    assert cli("label", "import", run, waiting, "--json").json["new"] == 1


def filled_in(path: Path) -> dict[str, str]:
    """Fill in the labels of a batch with a program that knows nothing of raysal; returns {key: label}."""
    kind = KINDS[path.suffix]
    if kind in ("csv", "tsv"):
        dialect = "excel" if kind == "csv" else "excel-tab"
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, dialect=dialect))
    elif kind == "parquet":
        rows = pq.read_table(path).to_pylist()
    elif kind == "json":
        rows = json.loads(path.read_text(encoding="utf-8"))
    else:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    for number, row in enumerate(rows):
        row["label"] = "ab"[number % 2]
    if kind in ("csv", "tsv"):
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0], dialect=dialect)
            writer.writeheader()
            writer.writerows(rows)
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        lines = [json.dumps(row) for row in rows]
        path.write_text("\n".join(lines) if kind == "jsonl" else f"[{','.join(lines)}]", encoding="utf-8")
    return {row["key"]: row["label"] for row in rows}


BLANK = ["", " ", "\t", None]


@given(rows=st.lists(st.sampled_from(["row", *BLANK]), max_size=12), seed=st.integers(0, 9))
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".jsonl"])
@settings(max_examples=20, deadline=None)
def test_rows_of_blanks_are_no_rows(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, rows: list[str | None], seed: int
) -> None:
    rng = random.Random(seed)
    table = []
    for number, row in enumerate(rows):
        blank = [rng.choice(BLANK) if suffix in (".parquet", ".jsonl") else rng.choice(["", " "]) for _ in range(3)]
        table.append([f"k{number}", "cat", "a note"] if row == "row" else blank)
    path = tmp_path_factory.mktemp("blank") / f"labels{suffix}"
    names = ["key", "label", "note"]
    if suffix in (".csv", ".tsv"):
        mark = "," if suffix == ".csv" else "\t"
        path.write_text("".join(mark.join(map(str, cells)) + "\n" for cells in [names, *table]))
    elif suffix == ".parquet":
        columns = list(zip(*table, strict=True)) or [[], [], []]
        pq.write_table(
            pa.table({n: pa.array(cells, pa.string()) for n, cells in zip(names, columns, strict=True)}), path
        )
    else:
        path.write_text("".join(json.dumps(dict(zip(names, cells, strict=True))) + "\n" for cells in table))
    read = read_labels(path)
    assert [label.key for label in read.labels] == [f"k{number}" for number, row in enumerate(rows) if row == "row"]
    assert read.unanswered == 0


def test_a_label_that_the_file_names_is_read_by_its_name(tmp_path: Path) -> None:
    """Hugging Face's files hold numbers, and the names of the classes in the metadata."""
    features = {"label": {"names": ["cat", "hot dog"], "_type": "ClassLabel"}, "key": {"dtype": "string"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.table({"key": ["a", "b", "c"], "label": pa.array([1, 0, -1], pa.int64())})
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "l.parquet")
    read = read_labels(tmp_path / "l.parquet")
    assert [(label.key, label.label) for label in read.labels] == [("a", "hot dog"), ("b", "cat")]
    assert read.unanswered == 1
    table = table.set_column(1, "label", pa.array([1, 7, 0], pa.int64()))
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "l.parquet")
    with pytest.raises(LabelError, match="row 2: label 7 is not one of the 2 classes"):
        read_labels(tmp_path / "l.parquet")


def test_the_header_says_how_the_cells_are_parted(tmp_path: Path) -> None:
    for number, text in enumerate(
        ["key;label\na;x,y\n", "sep=;\nkey;label\na;x,y\n", "sep=;\r\nkey;label\r\na;x,y\r\n", "key\tlabel\na\tx,y\n"]
    ):
        (tmp_path / f"{number}.csv").write_bytes(text.encode())
        assert read_labels(tmp_path / f"{number}.csv").labels == [Label(key="a", label="x,y")], text
    (tmp_path / "comma.tsv").write_text("key,label\na,x\n")
    assert read_labels(tmp_path / "comma.tsv").labels == [Label(key="a", label="x")]


def test_the_limit_of_the_csv_module_is_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_text(f"key,text,label\na,{'x' * 200_000},cat\n")
    (tmp_path / "wrong.csv").write_text('key,label\na,"x"y\n')
    before = csv.field_size_limit()
    read = [read_labels(tmp_path / "long.csv").labels]
    with pytest.raises(LabelError):
        read_labels(tmp_path / "wrong.csv")
    threads = [threading.Thread(target=lambda: read.append(read_labels(tmp_path / "long.csv").labels)) for _ in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == [[Label(key="a", label="cat")]] * 5
    assert csv.field_size_limit() == before
