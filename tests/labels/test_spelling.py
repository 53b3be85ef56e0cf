"""One class has one name: whoever wrote the number, in whatever format, through whichever door it comes in."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import make_pool, mixture

import raysal
from raysal.errors import LabelError
from raysal.labels import Ledger, SimulatedOracle, as_labels, read_labels, write_labels
from raysal.labels.events import EventLog, PendingEvent
from raysal.labels.spelling import annotator_text, label_text, spelled
from raysal.types import Label

Writer = Callable[[Path, list[int]], Path]


def _frame(values: list[int]) -> pd.DataFrame:
    """Keys, and labels that became floating point because one of them is missing."""
    keys = [f"k{row}" for row in range(len(values) + 1)]
    return pd.DataFrame({"key": keys, "label": [*map(float, values), np.nan]})


def _pandas_csv(path: Path, values: list[int]) -> Path:
    _frame(values).to_csv(path.with_suffix(".csv"), index=False)
    return path.with_suffix(".csv")


def _pandas_tsv(path: Path, values: list[int]) -> Path:
    _frame(values).to_csv(path.with_suffix(".tsv"), index=False, sep="\t")
    return path.with_suffix(".tsv")


def _pandas_european(path: Path, values: list[int]) -> Path:
    _frame(values).to_csv(path.with_suffix(".csv"), index=False, sep=";")
    return path.with_suffix(".csv")


def _pandas_excel_text(path: Path, values: list[int]) -> Path:
    _frame(values).to_csv(path.with_suffix(".csv"), index=False, sep="\t", encoding="utf-16")
    return path.with_suffix(".csv")


def _pandas_parquet(path: Path, values: list[int]) -> Path:
    _frame(values).to_parquet(path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


def _pandas_jsonl(path: Path, values: list[int]) -> Path:
    _frame(values).to_json(path.with_suffix(".jsonl"), orient="records", lines=True)
    return path.with_suffix(".jsonl")


def _pandas_json(path: Path, values: list[int]) -> Path:
    _frame(values).to_json(path.with_suffix(".json"), orient="records")
    return path.with_suffix(".json")


def _polars(kind: str) -> Writer:
    def write(path: Path, values: list[int]) -> Path:
        frame = pl.DataFrame({"key": [f"k{row}" for row in range(len(values))], "label": list(map(float, values))})
        path = path.with_suffix(f".{kind}")
        {"csv": frame.write_csv, "pq": frame.write_parquet, "ndjson": frame.write_ndjson, "json": frame.write_json}[
            kind
        ](path)
        return path

    return write


def _csv_of(spell: Callable[[int], str]) -> Writer:
    def write(path: Path, values: list[int]) -> Path:
        with open(path.with_suffix(".csv"), "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["key", "label"])
            writer.writerows([f"k{row}", spell(value)] for row, value in enumerate(values))
        return path.with_suffix(".csv")

    return write


def _arrow_of(kind: pa.DataType) -> Writer:
    def write(path: Path, values: list[int]) -> Path:
        numbers = pa.array(values, pa.int64())
        whole = pa.array([Decimal(value) for value in values]) if pa.types.is_decimal(kind) else numbers
        keys = [f"k{row}" for row in range(len(values))]
        pq.write_table(pa.table({"key": keys, "label": whole.cast(kind)}), path.with_suffix(".parquet"))
        return path.with_suffix(".parquet")

    return write


def _savetxt(path: Path, values: list[int]) -> Path:
    """As numpy writes a column of numbers unless it is told how."""
    column = io.StringIO()
    np.savetxt(column, np.array(values, float))
    lines = [f"k{row},{cell}\n" for row, cell in enumerate(column.getvalue().split())]
    path.with_suffix(".csv").write_text("key,label\n" + "".join(lines))
    return path.with_suffix(".csv")


def _r(value: int) -> str:
    """As R writes a number: fifteen digits, and an exponent where that is shorter."""
    short, plain = f"{value:.15g}", str(value)
    mantissa, _, exponent = f"{value:e}".partition("e")
    power = f"{float(mantissa):g}e{int(exponent):+03d}"
    return power if len(power) < len(plain) and float(power) == value else short


WRITERS: dict[str, Writer] = {
    "pandas csv": _pandas_csv, "pandas tsv": _pandas_tsv, "semicolons": _pandas_european, "utf-16": _pandas_excel_text,
    "pandas parquet": _pandas_parquet, "pandas jsonl": _pandas_jsonl, "pandas json": _pandas_json,
    **{f"polars {kind}": _polars(kind) for kind in ("csv", "pq", "ndjson", "json")},
    **{str(kind): _arrow_of(kind) for kind in (pa.int64(), pa.int32(), pa.float32(), pa.decimal128(30, 2))},
    "csv digits": _csv_of(str), "csv r": _csv_of(_r), "csv .0": _csv_of(lambda value: f"{value}.0"),
    "csv %.2f": _csv_of(lambda value: f"{value:.2f}"), "csv %e": _csv_of(lambda value: f"{value:.18e}"),
    "savetxt": _savetxt,
}  # fmt: skip
WHOLE = st.integers(-(2**24), 2**24) | st.sampled_from([0, 1, -1, 10, 100_000, 1_000_000, -20_000])


@pytest.mark.parametrize("writer", WRITERS)
@given(values=st.lists(WHOLE, min_size=1, max_size=5))
@settings(max_examples=8, deadline=None)
def test_a_whole_number_is_one_class_whoever_wrote_it(
    tmp_path_factory: pytest.TempPathFactory, writer: str, values: list[int]
) -> None:
    path = WRITERS[writer](tmp_path_factory.mktemp("labels") / "labels", values)
    assert [label.label for label in read_labels(path).labels] == list(map(str, values))


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_of_any_type_is_one_class(value: float) -> None:
    text = label_text("label", value)
    assert text is not None
    assert float(text) == value
    same: list[Any] = [np.float64(value), np.array(value), Decimal(repr(value)), text, f"{value!r}"]
    if value.is_integer() and abs(value) < 2**53:
        same += [int(value), np.int64(value)]
        assert text == str(int(value))
    assert {label_text("label", other) for other in same} == {text}
    small = np.float32(min(max(value, -1e30), 1e30))
    assert np.float32(label_text("label", small)) == small
    assert len(str(label_text("label", np.float32(0.1)))) == 3


NAMES = [
    "007",
    "00",
    "01.0",
    "1.50",
    "3.10",
    "1.0.2",
    "1.",
    ".0",
    "12e3",
    "1e5",
    "+5",
    "0x10",
    "1_000",
    "1,0",
    "½",
    "²",
]


@pytest.mark.parametrize("name", NAMES)
def test_other_text_is_a_name(name: str) -> None:
    assert label_text("label", name) == name
    assert label_text("label", f" {name}\t") == name


@pytest.mark.parametrize("empty", [None, "", "  ", float("nan"), np.float32("nan"), pd.NA, pd.NaT, np.ma.masked])
def test_what_is_missing_is_no_label(empty: object) -> None:
    assert label_text("label", empty) is None
    assert annotator_text("annotator", empty) == ""


@pytest.mark.parametrize("wrong", [True, np.bool_(False), float("inf"), b"cat", {1}, object(), Decimal("Infinity")])
def test_what_can_be_no_label_is_refused(wrong: object) -> None:
    with pytest.raises(LabelError, match="the cell"):
        label_text("the cell", wrong)


@given(text=st.text(max_size=8))
def test_a_spelling_is_spelled_as_it_is(text: str) -> None:
    once = spelled(text)
    assert spelled(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert once == once.strip()
    for form in ("NFC", "NFD"):
        assert spelled(unicodedata.normalize(form, text)) == once


def test_several_numbers_are_spelled_one_by_one() -> None:
    assert label_text("label", "1.0|007|2e+01|cat") == "1|007|20|cat"


# doors

SAME: list[Any] = ["0", "0.0", "0.00", "-0.0", 0, 0.0, -0.0, np.int8(0), np.float32(0), Decimal("0.00"), "0e+00"]


@pytest.mark.parametrize("value", SAME, ids=[f"{type(value).__name__} {value}" for value in SAME])
def test_every_door_spells_alike(tmp_path: Path, value: Any) -> None:
    vectors, _ = mixture(20, 4, classes=2)
    carried = [value if row < 10 else 1 for row in range(20)]
    columns = pa.array(list(map(str, carried))) if isinstance(value, str) else pa.array(np.array(carried, float))
    pool = make_pool(tmp_path / "pool", vectors, labels=columns.to_pylist())
    keys = pool.items(["key"]).__next__()["key"].to_pylist()
    found = SimulatedOracle().bind(pool, seed=0).truth([0, 19])
    assert found == {0: "0", 19: "1"}
    with raysal.Session(tmp_path / "run", pool) as session:
        assert session.tell({keys[0]: value}).new == 1
        assert session.tell([Label(key=keys[0], label=value)]).repeated == 1
        assert session.tell({keys[0]: "0"}).repeated == 1
        assert session.status().classes == {"0": 1}
    assert [label.label for label in as_labels({keys[0]: value})] == ["0"]
    by_value = raysal.select(pool, k=3, labels={keys[0]: value, keys[19]: 1})
    assert by_value.equals(raysal.select(pool, k=3, labels={keys[0]: "0", keys[19]: "1"}))
    (tmp_path / "truth.json").write_text(json.dumps([{"key": keys[0], "label": float(value)}]))
    assert SimulatedOracle(labels=tmp_path / "truth.json").bind(pool, seed=0).truth([0]) == {0: "0"}


@pytest.mark.parametrize("one", ["1", "1.0", 1, 1.0, np.int64(1)])
def test_an_annotator_has_one_name(tmp_path: Path, one: Any) -> None:
    assert annotator_text("annotator", one) == "1"
    pool = make_pool(tmp_path / "pool", mixture(5, 4, classes=2)[0])
    with raysal.Session(tmp_path / "run", pool) as session:
        key = pool.items(["key"]).__next__()["key"][0].as_py()
        session.tell([Label(key=key, label="a", annotator="1")])
        assert session.tell([Label(key=key, label="a", annotator=one)]).repeated == 1
        assert session.withdraw([key], annotator=one) == 1


def test_numbers_to_learn_stay_numbers(tmp_path: Path) -> None:
    pool = make_pool(tmp_path / "pool", mixture(6, 4, classes=2)[0])
    keys = pool.items(["key"]).__next__()["key"].to_pylist()
    given = dict(zip(keys, ["007", "1.50", "1e3", 2.0, "-0.0", np.float32(0.1)], strict=True))
    with raysal.Session(tmp_path / "run", pool, select="coreset", update={"trainer": "regression"}) as session:
        session.tell(given)
        assert [answer.label for answer in session.ledger.answers()] == ["7", "1.5", "1000", "2", "0", "0.1"]


def test_labels_of_an_earlier_version_are_written_as_they_are(tmp_path: Path) -> None:
    old = [Label(key="a", label="0.0"), Label(key="b", label='{"x": 1}'), Label(key="c", label="[]")]
    write_labels(tmp_path / "old.csv", old)
    with open(tmp_path / "old.csv", newline="", encoding="utf-8") as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["0.0", '{"x": 1}', "[]"]


def test_an_annotator_of_an_earlier_version_is_the_same_person(tmp_path: Path) -> None:
    """Such a ledger has the name `1.0`, as it stood in a CSV file."""
    log = EventLog(tmp_path / "ledger.sqlite")
    with log.writing():
        list(log.read_new())
        log.append([PendingEvent(0, "k", "labeled", "a", "1.0", 1.0)])
    log.close()
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.tell([(0, Label(key="k", label="a", annotator="1"))]).repeated == 1
        assert ledger.tell([(0, Label(key="k", label="b", annotator="1.0"))]).corrected == 1
        assert [(item.label, item.weight) for item in ledger.labels()] == [("b", 1.0)]
        assert ledger.withdraw("k", "1")
        assert ledger.labels() == []
