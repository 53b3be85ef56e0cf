"""Files as label tools write them are read as what they say, or refused by row. No class is called by JSON."""

from __future__ import annotations

import ast
import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysal.errors import LabelError
from raysal.labels import read_labels
from raysal.types import SKIP, Label

Answers = list[tuple[str, list[str] | None]]
"""What an annotator chose for each key: names, or None for a skip."""
CLASSES = ["cat", "hot dog", "7", "None", "it's", 'the "x"', "éa", "[x]", "a,b"]
ANSWERS: st.SearchStrategy[Answers] = st.lists(
    st.tuples(
        st.sampled_from([f"photos/{row}.jpg" for row in range(6)]),
        st.none() | st.lists(st.sampled_from(CLASSES), max_size=3, unique=True),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda pair: pair[0],
)


def joined(names: Sequence[str]) -> str:
    return "|".join(sorted(names))


# Label Studio, as label-studio-sdk 2.1.2 converts annotations; see findings/label_studio_choices.sh


def _choices(names: list[str]) -> list[dict[str, Any]]:
    """The results of one annotation, for a control `label` of choices."""
    result = {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": names}}
    return [result] if names else []


def _label_studio_tasks(path: Path, answers: Answers) -> str:
    tasks = [
        {
            "id": row,
            "data": {"image": f"/data/{key}", "key": key},
            "annotations": [
                {
                    "id": 10 + row,
                    "completed_by": {"id": 3, "email": "ann@lab.org"},
                    "was_cancelled": names is None,
                    "result": _choices(names or []),
                    "lead_time": 1.5,
                }
            ],
            "predictions": [],
        }
        for row, (key, names) in enumerate(answers)
    ]
    path.with_suffix(".json").write_text(json.dumps(tasks))
    return ".json"


def _pretty(names: list[str]) -> Any:
    """One name as a text, and several as an object."""
    return names[0] if len(names) == 1 else {"choices": names}


def _label_studio_rows(answers: Answers) -> list[dict[str, Any]]:
    rows = []
    for row, (key, names) in enumerate(answers):
        if names is not None:  # cancelled annotations are not exported
            chosen = {"label": _pretty(names)} if names else {}
            shared = {"image": f"/data/{key}", "key": key, "id": row, "annotator": "ann@lab.org", "annotation_id": row}
            rows.append({**shared, **chosen})
    return rows


def _label_studio_min(path: Path, answers: Answers) -> str:
    path.with_suffix(".json").write_text(json.dumps(_label_studio_rows(answers)))
    return ".json"


def _label_studio_csv(path: Path, answers: Answers) -> str:
    with open(path.with_suffix(".csv"), "w", newline="", encoding="utf-8") as file:
        fields = ["annotation_id", "annotator", "id", "image", "key", "label"]
        writer = csv.DictWriter(file, fields, quoting=csv.QUOTE_NONNUMERIC)
        writer.writeheader()
        for row in _label_studio_rows(answers):
            said = row.get("label", "")
            row["label"] = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
            writer.writerow(row)
    return ".csv"


# others


def _prodigy(path: Path, answers: Answers) -> str:
    rows = [
        {
            "image": key,
            "key": key,
            "options": [{"id": name, "text": name} for name in CLASSES],
            "accept": names or [],
            "answer": "ignore" if names is None else "accept",
            "_input_hash": -row,
            "_task_hash": row + 1,
            "_view_id": "choice",
            "_session_id": "set-ann",
            "_annotator_id": "ann@lab.org",
        }
        for row, (key, names) in enumerate(answers)
    ]
    path.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ".jsonl"


def _doccano(name: str) -> Callable[[Path, Answers], str]:
    def write(path: Path, answers: Answers) -> str:
        frame = pd.DataFrame(
            [
                {"id": row, "text": "t", "key": key, name: sorted(names), "Comments": [], "annotator": "ann@lab.org"}
                for row, (key, names) in enumerate(answers)
                if names is not None
            ],
            columns=["id", "text", "key", name, "Comments", "annotator"],
        )
        frame.to_json(path.with_suffix(".jsonl"), orient="records", lines=True, force_ascii=False)
        return ".jsonl"

    return write


def _argilla(path: Path, answers: Answers) -> str:
    rows = [
        {
            "id": f"record-{row}",
            "status": "completed",
            "key": key,
            "label.responses": [names or [], ["draft"]],
            "label.responses.users": ["ann@lab.org", "bob"],
            "label.responses.status": ["discarded" if names is None else "submitted", "draft"],
        }
        for row, (key, names) in enumerate(answers)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path.with_suffix(".parquet"))
    return ".parquet"


def _python_lists(path: Path, answers: Answers) -> str:
    """As pandas writes a column of lists into a CSV file."""
    frame = pd.DataFrame(
        [{"key": key, "label": names, "annotator": "ann@lab.org"} for key, names in answers if names is not None],
        columns=["key", "label", "annotator"],
    )
    frame.to_csv(path.with_suffix(".csv"), index=False)
    return ".csv"


def _arrow_lists(path: Path, answers: Answers) -> str:
    rows = [{"key": key, "labels": names, "annotator": "ann@lab.org"} for key, names in answers if names is not None]
    schema = pa.schema([("key", pa.string()), ("labels", pa.list_(pa.string())), ("annotator", pa.string())])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path.with_suffix(".pq"))
    return ".pq"


KNOWS_SKIPS = {"label studio json", "prodigy", "argilla"}
NONE_IS_AN_ANSWER = {"prodigy"}
TOOLS: dict[str, Callable[[Path, Answers], str]] = {
    "label studio json": _label_studio_tasks,
    "label studio json-min": _label_studio_min,
    "label studio csv": _label_studio_csv,
    "prodigy": _prodigy,
    "doccano": _doccano("label"),
    "doccano labels": _doccano("labels"),
    "argilla": _argilla,
    "pandas csv of lists": _python_lists,
    "parquet of lists": _arrow_lists,
}


@pytest.mark.parametrize("tool", TOOLS)
@given(answers=ANSWERS)
@settings(max_examples=10, deadline=None)
def test_an_export_is_read_as_what_it_says(
    tmp_path_factory: pytest.TempPathFactory, tool: str, answers: Answers
) -> None:
    path = tmp_path_factory.mktemp("export") / "export"
    suffix = TOOLS[tool](path, answers)
    if tool not in KNOWS_SKIPS and all(names is None for _, names in answers) and suffix == ".jsonl":
        return  # not even a column
    if tool == "label studio json-min" and not any(names for _, names in answers) and any(n == [] for _, n in answers):
        with pytest.raises(LabelError, match="no row has one"):  # the control may be called otherwise
            read_labels(path.with_suffix(suffix))
        return
    read = read_labels(path.with_suffix(suffix))
    expected = {}
    for key, names in answers:
        if names is None and tool in KNOWS_SKIPS:
            expected[key] = SKIP
        elif names or (names is not None and tool in NONE_IS_AN_ANSWER):
            expected[key] = joined(names) or "-"
    assert {label.key: label.label for label in read.labels} == expected
    assert {label.annotator for label in read.labels} <= {"ann@lab.org"}


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ([{"rating": 4}], "4"),
        ({"rating": 4.0}, "4"),
        ([{"number": 2.5}], "2.5"),
        ([{"text": ["a remark"]}], "a remark"),
        ({"taxonomy": [["animal", "cat"], ["plant"]]}, "animal/cat|plant"),
        ([{"datetime": "2026-01-01"}], "2026-01-01"),
        ({"selected": "left"}, "left"),
        ([{"choices": ["a"]}, {"choices": ["b"]}], "a|b"),
        ({"choices": []}, None),
        ([], None),
        ({}, None),
        ([None], None),
        (["1.0"], "1"),
    ],
)
def test_values_of_other_controls(tmp_path: Path, cell: Any, says: str | None) -> None:
    path = tmp_path / "cells.json"
    path.write_text(json.dumps([{"key": "nested", "label": cell}, {"key": "text", "label": json.dumps(cell)}]))
    read = read_labels(path)
    assert [label.label for label in read.labels] == ([] if says is None else [says] * 2)
    assert read.unanswered == (2 if says is None else 0)


REFUSED: list[tuple[Any, str]] = [
    ([{"x": 1.0, "y": 2.0, "width": 3, "height": 4, "rotation": 0, "rectanglelabels": ["cat"]}], "rectanglelabels"),
    ([{"start": 0, "end": 4, "text": "cats", "labels": ["ANIMAL"]}], "start, end"),
    ([[0, 5, "PER"]], "PER"),
    ({"format": "rle", "rle": [1, 2], "brushlabels": ["a"]}, "rle"),
    ({"label": "cat"}, "label"),
    ({"choices": [["a"]]}, "a"),
    ({"choices": ["a|b", "c"]}, "|"),
    (["a", "-"], "-"),
    ([0, 1, 0], "[0, 1, 0]"),
    ([1.0, 0.0], "1.0"),
]


@pytest.mark.parametrize(("cell", "names"), REFUSED)
@pytest.mark.parametrize("as_text", [False, True])
def test_what_is_no_label_of_the_whole_item_is_refused_by_row(
    tmp_path: Path, cell: Any, names: str, as_text: bool
) -> None:
    rows = [{"key": "a", "label": "fine"}, {"key": "b", "label": json.dumps(cell) if as_text else cell}]
    (tmp_path / "l.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(LabelError, match="line 2: label") as caught:
        read_labels(tmp_path / "l.jsonl")
    assert names in str(caught.value)


def test_a_list_that_lost_its_commas_is_refused(tmp_path: Path) -> None:
    """As pandas writes the arrays that it reads from a Parquet column of lists; Python reads them as one name."""
    for array in (np.array(["cat", "dog"]), np.array([1.0, 0.0])):
        pd.DataFrame({"key": ["a"], "label": [array]}).to_csv(tmp_path / "l.csv", index=False)
        with pytest.raises(LabelError, match=r"line 2: label.*without commas"):
            read_labels(tmp_path / "l.csv")
    assert ast.literal_eval(str(np.array(["cat", "dog"]))) == ["catdog"]


@pytest.mark.parametrize(
    "text", ["[unclear]", "{a}", "[]x", "[...]", "[nan]", "(1, 2)", '"cat"', "[a, b]", "{'a'", "{1}"]
)
def test_brackets_alone_make_no_list(tmp_path: Path, text: str) -> None:
    (tmp_path / "l.jsonl").write_text(json.dumps({"key": "a", "label": text}))
    assert read_labels(tmp_path / "l.jsonl").labels == [Label(key="a", label=text)]


def test_what_tools_cannot_say_is_refused_by_row(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    binary = {"key": "a", "text": "t", "label": "SPAM", "answer": "accept", "_input_hash": 1, "_task_hash": 2}
    path.write_text(json.dumps(binary) + "\n" + json.dumps({**binary, "key": "b", "answer": "ignore"}))
    assert [(label.key, label.label) for label in read_labels(path).labels] == [("a", "SPAM"), ("b", SKIP)]
    path.write_text(json.dumps(binary) + "\n" + json.dumps({**binary, "key": "b", "answer": "reject"}))
    with pytest.raises(LabelError, match="line 2: label: 'SPAM' was rejected"):
        read_labels(path)
    result = {"from_name": "mood", "type": "choices", "value": {"choices": ["glad"]}}
    task = {"data": {"key": "a"}, "annotations": [{"result": [result, {**result, "from_name": "style"}]}]}
    (tmp_path / "t.json").write_text(json.dumps([task]))
    with pytest.raises(LabelError, match="row 1: label: is answered by the controls mood, style"):
        read_labels(tmp_path / "t.json")
    (tmp_path / "t.json").write_text(json.dumps([{**task, "data": {"image": "a.jpg"}, "annotations": []}]))
    with pytest.raises(LabelError, match=r"row 1.*no column 'key'"):
        read_labels(tmp_path / "t.json")
    two = [{"completed_by": who, "result": [{**result, "from_name": "label"}]} for who in (1, 2)]
    (tmp_path / "t.json").write_text(json.dumps([{**task, "annotations": two}]))
    assert [label.annotator for label in read_labels(tmp_path / "t.json").labels] == ["1", "2"]


def test_a_plain_table_with_such_names_stays_plain(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("key,label,answer,accept,options\na,cat,reject,x,y\n")
    assert read_labels(tmp_path / "l.csv").labels == [Label(key="a", label="cat")]
