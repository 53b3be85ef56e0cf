"""Every format of a label tool gives back what was written for it: each answer, on its item, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysal.errors import LabelError, OutputExists, UnknownName
from raysal.labels import FORMATS, Sheet, read_labels, write_labels, write_sheet
from raysal.labels.formats.base import COLUMNS, KEY, POOL
from raysal.labels.formats.registry import all_formats, format_of
from raysal.labels.spelling import label_text
from raysal.types import SKIP, Label

FILES = [(name, suffix) for name in FORMATS for suffix in FORMATS[name].suffixes if FORMATS[name].reads]
"""Every kind of file that is written and read."""
ODD = "a b|,;\"'<>&\n\r\t\u2028\u00a0é漢😀=#[]{}-"
HAS_WEIGHTS = [name for name in FORMATS if name != "argilla"]


def is_name(text: str) -> bool:
    try:
        return label_text("label", text) == text and text != SKIP
    except LabelError:
        return False


KEYS = st.lists(st.text(ODD, min_size=1, max_size=6).filter(str.strip), min_size=1, max_size=5, unique=True)
NAMES = st.one_of(st.text(ODD, min_size=1, max_size=5).filter(is_name), st.sampled_from(["cat", "007", "NA", "1.50"]))
WHO = st.sampled_from(["", "ann", "bob, <jr.>", "7", "cy@lab.org"])


@st.composite
def sheets(draw: st.DrawFn, weights: bool = True, several: bool = False) -> Sheet:
    keys = draw(KEYS)
    rows = []
    for rank, key in enumerate(keys, 1):
        row: dict[str, Any] = {"key": key, "uri": f"/data/{rank}.jpg", "rank": rank, "score": draw(st.floats(0, 1))}
        rows.append(
            {**row, "reason": draw(st.sampled_from([None, "margin 0.2"])), "prediction": "dog", "probability": 0.5}
        )
    schema = pa.schema([(name, COLUMNS[name]) for name in rows[0]])
    given_names = st.lists(
        NAMES.filter(lambda name: "|" not in name and name != "-"), min_size=1, max_size=3, unique=True
    )
    texts = given_names.map(lambda names: "|".join(sorted(names))) if several else NAMES
    answers = {}
    for key in keys:
        who = draw(st.lists(WHO, max_size=3, unique=True))
        answers[key] = [
            Label(
                key=key,
                label=draw(st.one_of(texts, st.just(SKIP))),
                annotator=name,
                weight=draw(st.sampled_from([1.0, 0.5])) if weights else 1.0,
            )
            for name in who
        ]
    cut = draw(st.integers(0, len(rows)))
    parts = [pa.Table.from_pylist(part, schema=schema) for part in (rows[:cut], rows[cut:])]
    return Sheet(
        name="run & <1>", schema=schema, tables=lambda: parts, answers=answers, pool="f" * 64, modality="image",
        classes=("cat", "dog"), several=several, model="raysal-3-abc",
    )  # fmt: skip


def told(sheet: Sheet) -> set[Label]:
    return {
        Label(key=a.key, label=a.label, annotator=a.annotator, weight=1.0 if a.label == SKIP else a.weight)
        for answers in sheet.answers.values()
        for a in answers
    }


@pytest.mark.parametrize("several", [False, True], ids=["one class", "several"])
@pytest.mark.parametrize(("name", "suffix"), FILES)
@given(data=st.data())
@settings(max_examples=5, deadline=None)
def test_what_is_written_for_a_tool_comes_back_on_its_item(
    tmp_path_factory: pytest.TempPathFactory, name: str, suffix: str, several: bool, data: st.DataObject
) -> None:
    sheet = data.draw(sheets(weights=name in HAS_WEIGHTS, several=several))
    path = tmp_path_factory.mktemp("sheet") / f"batch{suffix}"
    write_sheet(path, sheet, format=name)
    for said in (None, name):
        read = read_labels(path, format=said)
        got = {Label(key=a.key, label=a.label, annotator=a.annotator, weight=1.0 if a.label == SKIP else a.weight)
               for a in read.labels}  # fmt: skip
        assert got == told(sheet)
        assert len(read.labels) == len(got), "nothing twice"
        assert {key for key, _ in read.blank} == {key for key, answers in sheet.answers.items() if not answers}
        assert read.pools <= {"f" * 64}
        assert set(read.places) == set(sheet.answers)


def small(answers: dict[str, list[Label]] | None = None, key: str = "a.jpg", **more: Any) -> Sheet:
    schema = pa.schema([("key", COLUMNS["key"]), ("prediction", COLUMNS["prediction"])])
    table = pa.Table.from_pylist([{"key": key, "prediction": "dog"}], schema=schema)
    fields = {"modality": "image", "classes": ("cat", "dog"), "pool": "p" * 64, "model": "raysal-0-x"} | more
    return Sheet(name="run", schema=schema, tables=lambda: [table], answers=answers or {}, **fields)


def test_every_file_says_its_pool_and_no_prediction_is_a_label(tmp_path: Path) -> None:
    for name, suffix in FILES:
        path = tmp_path / f"{name}{suffix}"
        write_sheet(path, small(), format=name)
        read = read_labels(path)
        assert (read.labels, read.blank) == ([], [("a.jpg", "")]), name
        assert read.pools == {"p" * 64}, name


def test_no_image_for_cvat_has_the_number_of_a_frame(tmp_path: Path) -> None:
    """CVAT takes the number for a frame where it does not find the name: the tag would be on another image."""
    write_sheet(tmp_path / "a.xml", small(), format="cvat")
    numbers = [int(number) for number in re.findall(r'<image id="(\d+)"', (tmp_path / "a.xml").read_text())]
    assert min(numbers) >= 10**9


def test_formats_are_found_by_name_and_say_what_they_can(tmp_path: Path) -> None:
    assert type(format_of("label-studio")) is type(format_of("label_studio"))
    assert type(format_of("csv")) is type(format_of("table"))
    read = "argilla, coco, csv, cvat, doccano, fiftyone, label-studio, prodigy"
    with pytest.raises(UnknownName, match=rf"did you mean 'label-studio'\? use one of: {read}$"):
        format_of("labelstudio")
    with pytest.raises(
        UnknownName, match=r"use one of: argilla, coco, csv, cvat, embedding-atlas, fiftyone, label-studio$"
    ):
        format_of("nope", written=True)
    for form in all_formats():
        assert form.title
        assert form.suffixes or form.reads
    with pytest.raises(LabelError, match="files of Prodigy are read, and not written"):
        write_sheet(tmp_path / "a.jsonl", small(), format="prodigy")
    with pytest.raises(LabelError, match=r"do not end in '\.csv'; use \.xml"):
        write_sheet(tmp_path / "a.csv", small(), format="cvat")
    write_sheet(tmp_path / "a.xml", small(), format="cvat")
    before = (tmp_path / "a.xml").read_bytes()
    with pytest.raises(OutputExists):
        write_sheet(tmp_path / "a.xml", small(key="b.jpg"), format="cvat")
    kept = write_sheet(tmp_path / "a.xml", small(key="b.jpg"), format="cvat", overwrite=True).kept
    assert kept == tmp_path / "a.xml.1"
    assert (tmp_path / "a.xml.1").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.xml", "a.xml.1"], "no leftovers"
    with pytest.raises(LabelError, match=r"line 3: is no record of COCO, but of CVAT; .*--format, as cvat"):
        read_labels(tmp_path / "a.xml", format="coco")


def test_the_map_is_no_label_file(tmp_path: Path) -> None:
    """Its answers are what annotators agree on; read as labels they would be the word of one more annotator."""
    said = {"a.jpg": [Label(key="a.jpg", label="cat", annotator=who) for who in ("ann", "bob")]}
    write_sheet(tmp_path / "map.parquet", small(said), format="embedding-atlas")
    (row,) = pq.read_table(tmp_path / "map.parquet").to_pylist()
    assert (row["key"], row["answer"], row["answers"], row["prediction"]) == ("a.jpg", "cat", 2, "dog")
    with pytest.raises(LabelError, match="no column 'label'"):
        read_labels(tmp_path / "map.parquet")
    with pytest.raises(LabelError):
        read_labels(tmp_path / "map.parquet", format="embedding_atlas")


@pytest.mark.parametrize(
    ("name", "answer", "key", "more", "says"),
    [
        ("argilla", Label(key="a.jpg", label="cat", weight=0.5), "a.jpg", {}, "Argilla has no weights"),
        ("cvat", Label(key="a.jpg", label="c\x01"), "a.jpg", {}, "XML cannot hold"),
        ("cvat", Label(key="a.jpg", label="-"), "a.jpg", {"several": True}, "CVAT cannot hold"),
        ("coco", Label(key="a.jpg", label="-"), "a.jpg", {"several": True}, "COCO cannot hold"),
        ("fiftyone", Label(key="a.jpg", label="-"), "a.jpg", {"several": True}, "FiftyOne cannot hold"),
        ("cvat", Label(key="a\x02", label="cat"), "a\x02", {}, "XML cannot hold"),
    ],
)
def test_what_a_tool_cannot_hold_is_refused_and_nothing_is_written(
    tmp_path: Path, name: str, answer: Label, key: str, more: dict[str, Any], says: str
) -> None:
    path = tmp_path / f"a{FORMATS[name].suffixes[0]}"
    with pytest.raises(LabelError, match=says):
        write_sheet(path, small({key: [answer]}, key, **more), format=name)
    assert list(tmp_path.iterdir()) == []


def test_a_key_of_the_tool_wins_over_a_field_of_that_name(tmp_path: Path) -> None:
    """`key` may be any field of the user's data; `raysal_key` is ours."""
    (tmp_path / "a.csv").write_text(f"key,{KEY},label\nother,a.jpg,cat\nb.jpg,,dog\n")
    assert [label.key for label in read_labels(tmp_path / "a.csv").labels] == ["a.jpg", "b.jpg"]
    (tmp_path / "b.csv").write_text(f"{KEY};label\na.jpg;cat\n")
    assert [label.key for label in read_labels(tmp_path / "b.csv").labels] == ["a.jpg"]
    rows = [{"key": "x", KEY: "a.jpg", POOL: "p", "label": "cat"}]
    (tmp_path / "c.json").write_text(json.dumps(rows))
    read = read_labels(tmp_path / "c.json")
    assert ([label.key for label in read.labels], read.pools, read.places) == (
        ["a.jpg"], {"p"}, {"a.jpg": f"{tmp_path / 'c.json'}, row 1"},
    )  # fmt: skip


@pytest.mark.parametrize("end", ["\n", "\n\n", "\n   \n", "\n,\n", "\n,,\n", '\n"",""\n', "\n \t \n", "\r\n\r\n", ""])
def test_a_blank_last_line_is_no_row(tmp_path: Path, end: str) -> None:
    (tmp_path / "a.csv").write_bytes(f"key,label\na,cat{end}".encode())
    assert read_labels(tmp_path / "a.csv").labels == [Label(key="a", label="cat")]
    write_labels(tmp_path / "b.jsonl", [Label(key="a", label="cat")])
    with open(tmp_path / "b.jsonl", "a") as file:
        file.write(end.replace(",", " ").replace('"', " "))
    assert read_labels(tmp_path / "b.jsonl").labels == [Label(key="a", label="cat")]
