"""Label files: what is written comes back, and what people write is read, or refused with its line."""

import json
import string

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysal.errors import LabelError
from raysal.labels import read_labels, write_labels
from raysal.labels.spelling import label_text, spelled
from raysal.tables import KINDS as KINDS_OF_FILES
from raysal.types import Label

KINDS = [suffix.removeprefix(".") for suffix in KINDS_OF_FILES]
AWKWARD = st.sampled_from(list("a,\";'\n\r\t \u2028\ufeffé漢😀=0\0"))
TEXT = st.text(st.one_of(AWKWARD, st.sampled_from(string.printable)), min_size=1, max_size=6)


def is_name(text):
    """Whether a text is the name of a class as it is: not blank, and not `[]`."""
    try:
        return label_text("label", text) == text
    except LabelError:
        return False


LABELS = st.lists(
    st.builds(
        Label,
        key=TEXT,
        label=TEXT.map(spelled).filter(is_name),
        annotator=TEXT.map(spelled),
        weight=st.floats(0, exclude_min=True, allow_infinity=False),
    ),
    max_size=6,
    unique_by=lambda label: (label.key, label.annotator),
)


@pytest.mark.parametrize("kind", KINDS)
@given(labels=LABELS)
@settings(max_examples=25)
def test_what_is_written_comes_back(tmp_path_factory, kind, labels):
    path = tmp_path_factory.mktemp("labels") / f"labels.{kind}"
    write_labels(path, labels)
    read = read_labels(path)
    assert read.labels == labels
    assert read.unanswered == 0


@given(labels=LABELS.filter(bool), kind=st.sampled_from(["csv", "tsv", "jsonl", "ndjson"]))
@settings(max_examples=25)
def test_a_bad_row_is_named_by_its_line(tmp_path_factory, labels, kind):
    path = tmp_path_factory.mktemp("labels") / f"labels.{kind}"
    write_labels(path, labels)
    before = path.read_bytes().decode()
    with open(path, "a", encoding="utf-8", newline="") as file:
        row = {"csv": "k,x,,-1\n", "tsv": "k\tx\t\t-1\n"}.get(kind)
        file.write(row or '{"key": "k", "label": "x", "weight": -1}\n')
    ends = before if row is None else before.replace("\r\n", "\n")
    lines = ends.count("\n") + (0 if row is None else ends.count("\r"))
    with pytest.raises(LabelError) as caught:
        read_labels(path)
    assert f"labels.{kind}, line {lines + 1}:" in str(caught.value)
    assert "weight" in str(caught.value)


def test_a_batch_filled_in_by_hand(tmp_path):
    path = tmp_path / "batch.CSV"
    rows = [
        "id,key,rank,score,reason,label",
        '7,"a, b.png",0,0.5,"near\nthe edge",cat',
        "8,ü.png,1,0.4,,  ",
        "",
        "9,c.png,2,0.3,,007",
        "10,d.png,3,0.2,,",
    ]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(rows).encode())
    read = read_labels(path)
    assert read.labels == [Label(key="a, b.png", label="cat"), Label(key="c.png", label="007")]
    assert read.unanswered == 2


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_numbers_become_their_digits(tmp_path, kind):
    rows = [{"key": "a", "label": 3.0}, {"key": "b", "label": None}, {"key": "c", "label": 12.0}]
    path = tmp_path / f"labels.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist([{**row, "other": [1, 2]} for row in rows]), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = read_labels(path)
    assert [label.label for label in read.labels] == ["3", "12"]
    assert read.unanswered == 1


def test_parquet_of_other_types(tmp_path):
    path = tmp_path / "labels.parquet"
    table = pa.table(
        {
            "key": pa.array([1, 2], pa.int64()),
            "label": pa.array(["x", "y"]).dictionary_encode(),
            "weight": pa.array([2, None], pa.int32()),
            "annotator": pa.array(["ann", None], pa.large_string()),
        }
    )
    pq.write_table(table, path)
    assert read_labels(path).labels == [
        Label(key="1", label="x", annotator="ann", weight=2.0),
        Label(key="2", label="y"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("l.txt", "key,label\n", list(KINDS_OF_FILES)),
        ("l.csv", "", ["l.csv", "empty"]),
        ("l.csv", "name,label\na,b\n", ["line 1", "'key'", "name, label"]),
        ("l.csv", "item;label\na;b\n", ["line 1", "item;label"]),
        ("l.csv", "key,label,label\na,b,c\n", ["two columns", "'label'"]),
        ("l.csv", "key,label\na,x\nb,y,z\n", ["line 3", "3 cells"]),
        ("l.csv", "key,label\na,x\nb\n", ["line 3", "1 cells"]),
        ("l.csv", 'key,label\n"a\nb",x\n,y\n', ["line 4", "key", "empty"]),
        ("l.csv", "key,label,weight\na,x,heavy\n", ["line 2", "weight", "'heavy'"]),
        ("l.csv", "key,label,weight\na,x,inf\n", ["line 2", "weight", "inf"]),
        ("l.csv", 'key,label\n"a"b,x\n', ["line 2", "quotes"]),
        ("l.csv", 'key,label\na,x\n"b,y\n', ["line 3", "quotes"]),
        ("l.csv", b"key,label\na,x\nb,\xff\n", ["line 3", "UTF-8"]),
        ("l.csv", "key,label\n".encode("utf-16-le"), ["line 1", "'key'"]),
        ("l.csv", "key,label\n".encode("utf-16")[:-1], ["UTF-16"]),
        ("l.csv", "key,label\na,x\nb,y\na,y\n", ["lines 2 and 4", "'a'", "'x'", "'y'", "label"]),
        ("l.csv", "key,label,weight\na,x,1\na,x,2\n", ["lines 2 and 3", "weight"]),
        ("l.jsonl", '{"key": "a", "label": "x"}\n\n{"key": "b"\n', ["line 3", "JSON"]),
        ("l.jsonl", "[1]\n", ["line 1", "object"]),
        ("l.jsonl", '{"key": "a"}\n', ["line 1", "'label'"]),
        ("l.jsonl", '{"key": "a", "label": true}\n', ["line 1", "label", "True"]),
        ("l.jsonl", '{"key": "a", "label": 1e999}\n', ["line 1", "label", "inf"]),
        ("l.jsonl", '{"key": "a", "label": [["x"]]}\n', ["line 1", "label"]),
        ("l.json", '{"key": "a", "label": "x"}', ["list of objects"]),
        ("l.json", '[{"key": "a", "label": "x"}, {"key": "b"}]', ["row 2", "'label'"]),
        ("l.json", '[{"key": "a", "label": "x"}, 3]', ["row 2", "object"]),
        ("l.json", "[", ["JSON"]),
        ("l.tsv", "key\tlabel\na\tx\ty\n", ["line 2", "3 cells"]),
        ("l.jsonl", '{"key": ["a"], "label": "x"}\n', ["line 1", "key"]),
        ("l.jsonl", '{"key": "a", "label": "\\ud800"}\n', ["line 1", "label", "Unicode"]),
        ("l.jsonl", '{"key": "a", "label": "x", "weight": true}\n', ["line 1", "weight"]),
        ("l.jsonl", "[" * 100_000 + "\n", ["line 1", "JSON"]),
        ("l.parquet", b"PAR1 nothing PAR1", ["l.parquet", "Parquet"]),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(LabelError) as caught:
        read_labels(path)
    message = str(caught.value)
    assert str(path) in message
    assert [part for part in says if part not in message] == []


def test_rows_of_parquet_are_counted_from_one(tmp_path):
    path = tmp_path / "labels.parquet"
    pq.write_table(pa.table({"key": ["a", "", "c"], "label": ["x", "y", "z"]}), path, row_group_size=1)
    with pytest.raises(LabelError, match="row 2"):
        read_labels(path)
    pq.write_table(pa.table({"key": ["a"], "text": ["x"]}), path)
    with pytest.raises(LabelError, match="'label'"):
        read_labels(path)


def test_files_that_are_not_there(tmp_path):
    for name in ("a.csv", "a.parquet", "a.jsonl"):
        with pytest.raises(LabelError, match="no such file"):
            read_labels(tmp_path / name)
        (tmp_path / name).mkdir()
        with pytest.raises(LabelError, match="cannot be read"):
            read_labels(tmp_path / name)


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_written_leaves_nothing(tmp_path, kind):
    with pytest.raises(LabelError, match="weight"):
        write_labels(tmp_path / f"a.{kind}", [Label(key="a", label="x"), Label(key="b", label="x", weight=0)])
    with pytest.raises(LabelError, match="extension"):
        write_labels(tmp_path / "a.xlsx", [])
    assert list(tmp_path.iterdir()) == []


def test_the_same_row_twice_is_no_contradiction(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("key,label,annotator\na,x,\na,y,bob\na,x,\n")
    assert [label.label for label in read_labels(path).labels] == ["x", "y", "x"]
