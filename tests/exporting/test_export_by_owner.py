"""What leaves a run by owner: the parts of labelled owners with their label and owner; and a row for each owner."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from served_runs import Lengths, Shades

import raysal
from raysal.api.labels import export_labels
from raysal.pool.removing import remove_items
from raysal.report.html import report_html
from raysal.rounds.run_labels import RunLabels
from raysal.sources.boxes import Boxes
from raysal.sources.text import Text

LABELS = {"p2": "red", "p5": "blue", "p3": "red", "p0": "blue", "p9": "red"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with 0 to 3 boxes each, of which some were removed; and a run by image with five labels."""
    home = tmp_path_factory.mktemp("owners")
    pictures = [np.random.default_rng(row).integers(0, 256, (30, 40, 3), np.uint8) for row in range(12)]
    files = []
    for pixels in pictures:
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "PNG")
        files.append(out.getvalue())
    boxes = [[[place, 2, place + 9, 12] for place in range(row % 4)] for row in range(12)]
    table = {"key": [f"p{row}" for row in range(12)], "image": files, "boxes": boxes, "place": list(range(12))}
    pq.write_table(pa.table(table), home / "pages.parquet")
    source = Boxes(path=home / "pages.parquet", boxes="boxes", carry=("place",))
    raysal.embed(source, Shades(), out=home / "pool", chunk_rows=5)
    with raysal.Session(home / "run", home / "pool", start="random", parts={"by": "owner"}) as session:
        session.tell(LABELS)
        session.query(3)
        session.tell({"p2": "red"})
    remove_items(home / "pool", ["p3#1", "p9#0"])
    return home


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_all_parts_of_labelled_owners_are_exported_with_label_and_owner(form, home, tmp_path):
    made = raysal.export(home / "pool", out=tmp_path / "out", form=form, run=home / "run")
    assert made.left_out == {"absent": 1}
    rows = pq.read_table(tmp_path / "out" / "items.parquet").to_pylist()
    wanted = [("p0", "p0"), *((f"p2#{i}", "p2") for i in range(2)), ("p3#0", "p3"), ("p3#2", "p3"), ("p5#0", "p5")]
    assert [row["key"] for row in rows] == [key for key, _ in wanted]
    if form == "parquet":
        (shard,) = sorted((tmp_path / "out" / "data").glob("*.parquet"))
        table = pq.read_table(shard).to_pylist()
        assert [(row["key"], row["owner_key"] or row["key"]) for row in table] == wanted
        assert [row["label"] for row in table] == [LABELS[owner] for _, owner in wanted]
        assert [row["place"] for row in table] == [int(owner[1:]) for _, owner in wanted]
        assert len({row["owner"] for row in table if row["owner_key"] == "p2"}) == 1
        sizes = {Image.open(io.BytesIO(row["image"]["bytes"])).size for row in table if "#" in row["key"]}
        assert sizes == {(9, 10)}
    one = raysal.export(home / "pool", out=tmp_path / "red", form=form, run=home / "run", classes="red")
    assert one.items == 4


def test_a_label_file_has_a_row_for_each_owner(home, tmp_path):
    with RunLabels.open(home / "run") as held:
        answers = {label.key: label.label for label in held.ledger.answers()}
        assert answers == LABELS
        waiting = [key for _, key in held.ledger.outstanding()]
    out = tmp_path / "labels.json"
    done = export_labels(home / "run", out, format="label-studio")
    assert done.items == 5
    tasks = json.loads(out.read_text(encoding="utf-8"))
    assert {task["data"]["raysal_key"] for task in tasks} == set(LABELS)
    export_labels(home / "run", tmp_path / "waiting.csv", format="csv", which="waiting")
    rows = (tmp_path / "waiting.csv").read_text(encoding="utf-8").splitlines()
    assert {row.split(",")[0] for row in rows[1:]} == set(waiting)
    export_labels(home / "run", tmp_path / "map.parquet", format="embedding-atlas")
    table = pq.read_table(tmp_path / "map.parquet").to_pylist()
    assert len(table) == 11
    states = {row["key"]: row["state"] for row in table}
    assert {key for key, state in states.items() if state == "labeled"} == set(LABELS) - {"p9"}
    assert str(report_html(home / "run")).count("data:image/png") >= 3, "the report shows parts of the batch"


def test_texts_of_owners_are_those_that_windows_were_cut_from(tmp_path):
    rows = "".join(f"t{row},{' '.join(f'w{word}' for word in range(3 + 4 * row))}\n" for row in range(5))
    (tmp_path / "texts.csv").write_text(f"key,text\n{rows}", encoding="utf-8")
    source = Text(path=tmp_path / "texts.csv", window=4, overlap=1)
    raysal.embed(source, Lengths(), out=tmp_path / "pool", chunk_rows=7)
    with raysal.Session(tmp_path / "run", tmp_path / "pool", start="random", parts={"by": "owner"}) as session:
        session.tell({f"t{row}": "ab"[row % 2] for row in range(5)})
        session.finish()
    export_labels(tmp_path / "run", tmp_path / "out.json", format="argilla")
    texts = (tmp_path / "out.json").read_text(encoding="utf-8")
    for row in range(5):
        assert " ".join(f"w{word}" for word in range(3 + 4 * row)) in texts
