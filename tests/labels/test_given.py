"""Labels as Python passes them: what a label belongs to is said by name, in every container and every order."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

import raysal
from raysal.errors import ConfigError, LabelError
from raysal.labels import as_labels
from raysal.sources import Memory
from raysal.types import Label

KEYS = [f"k{i}" for i in range(8)]
NAMES = ["cat", None, "dog", "cat", "", None, "ant", "dog"]
"""None and "" are not labelled yet."""
ANNOTATORS = ["ann", "bob", None, "", "ann", "bob", "ann", "bob"]
WEIGHTS = [1.0, 2.0, None, 0.5, 1.0, 1.0, 3.0, None]
FRAME = pd.DataFrame({"note": range(8), "label": NAMES, "key": KEYS, "annotator": ANNOTATORS, "weight": WEIGHTS})
FRAMES: dict[str, Callable[[pd.DataFrame], Any]] = {
    "pandas": lambda frame: frame,
    "pandas, one index": lambda frame: frame.set_axis([0] * len(frame)),
    "pandas nullable": lambda frame: frame.convert_dtypes(),
    "pandas on arrow": lambda frame: frame.convert_dtypes(dtype_backend="pyarrow"),
    "pandas categories": lambda frame: frame.astype({"label": "category", "key": "category"}),
    "polars": pl.from_pandas,
    "polars categories": lambda frame: pl.from_pandas(frame).with_columns(pl.col("label").cast(pl.Categorical)),
    "arrow": lambda frame: pa.Table.from_pandas(frame, preserve_index=False),
    "arrow batch": lambda frame: pa.RecordBatch.from_pandas(frame, preserve_index=False),
}


@pytest.mark.parametrize("order", range(4))
@pytest.mark.parametrize(("name", "make"), [*FRAMES.items()])
def test_a_frame_is_read_by_the_names_of_its_columns(name: str, make: Callable[[Any], Any], order: int) -> None:
    places = random.Random(order).sample(range(8), 8) if order else list(range(8))
    expected = [
        Label(key=KEYS[i], label=str(NAMES[i]), annotator=ANNOTATORS[i] or "", weight=WEIGHTS[i] or 1.0)
        for i in places
        if NAMES[i]
    ]
    assert as_labels(make(FRAME.iloc[places])) == expected
    least = make(FRAME.iloc[places][["label", "key"]])
    assert as_labels(least) == [Label(key=label.key, label=label.label) for label in expected]


@pytest.mark.parametrize("order", range(4))
@pytest.mark.parametrize("dtype", ["str", "string", "object", "category", "string[pyarrow]"])
def test_a_series_is_read_by_its_index(dtype: str, order: int) -> None:
    places = random.Random(order).sample(range(8), 8) if order else list(range(8))
    series = pd.Series(NAMES, index=KEYS, dtype=dtype).iloc[places]
    assert {label.key: label.label for label in as_labels(series)} == {KEYS[i]: NAMES[i] for i in range(8) if NAMES[i]}
    assert [label.key for label in as_labels(series)] == [KEYS[i] for i in places if NAMES[i]]


def test_numbers_are_spelled_as_label_files_spell_them() -> None:
    for values in ([0, 1, 7], np.array([0.0, 1.0, 7.0]), np.array([0, 1, 7], np.int8), ["0", "1", "7"]):
        given = as_labels(pd.Series(values, index=["a", "b", "c"]))
        assert [label.label for label in given] == ["0", "1", "7"]
        frame = pl.DataFrame({"key": [1, 2, 3], "label": list(values)})
        assert [(label.key, label.label) for label in as_labels(frame)] == [("1", "0"), ("2", "1"), ("3", "7")]


WITHOUT_NAMES: list[Any] = [
    ["cat", "dog"], ("cat",), np.array(["cat", "dog"]), pl.Series(["cat"]), pa.array(["cat"]),
    pa.chunked_array([["cat"]]), pd.Index(["cat"]), pd.Series(["cat", "dog"]),
    pd.Series(["cat", "dog"]).sort_values(ascending=False),
    pd.Series(["cat", "dog"], index=[1, 0]), pd.Series(["cat"], index=[2.5]), pd.Series(["cat"], index=[("a", "b")]),
    pd.Series(["cat"], index=["x"]).reset_index(drop=True), {"cat"}, (name for name in "ab"), "labels", b"labels", 5,
    torch.tensor([1, 0]), np.ma.array([1, 0]), pd.DataFrame({"label": ["cat"]}), pd.DataFrame({"key": ["a"]}),
    pl.DataFrame({"Key": ["a"], "Label": ["cat"]}), pd.DataFrame([["a", "cat"]]), pl.DataFrame({"key": ["a"]}).lazy(),
    pd.DataFrame({"key": ["a", None], "label": ["cat", "dog"]}), pd.Series(["cat"], index=[None]), None,
    pd.DataFrame({"key": ["a", ""], "label": ["cat", "dog"]}), pd.DataFrame({"key": [1.5], "label": ["cat"]}),
    pd.DataFrame({"key": ["a"], "label": [[["cat"]]]}), pd.DataFrame({"key": ["a"], "label": [True]}),
    pd.DataFrame({"key": ["a"], "label": ["cat"], "weight": [0]}),
    pd.DataFrame({"key": ["a"], "label": ["cat"], "weight": ["heavy"]}),
    pd.DataFrame([["a", "cat", "dog"]], columns=["key", "label", "label"]),
    pd.DataFrame({"key": ["a", "a"], "label": ["cat", "dog"]}), pd.Series(["cat", "dog"], index=["a", "a"]),
]  # fmt: skip


@pytest.mark.parametrize("labels", WITHOUT_NAMES, ids=lambda labels: type(labels).__name__)
def test_labels_that_do_not_say_whose_they_are_are_refused(labels: Any) -> None:
    with pytest.raises((LabelError, ConfigError)):
        as_labels(labels)


def test_a_repeated_row_is_no_contradiction_and_two_annotators_are_none() -> None:
    frame = pd.DataFrame({"key": ["a", "a", "a"], "label": ["x", "x", "y"], "annotator": ["1", "1", "2"]})
    assert [label.label for label in as_labels(frame)] == ["x", "x", "y"]
    with pytest.raises(LabelError, match="labels, row 1: 'a' has another label or weight in an earlier row"):
        as_labels(frame.assign(label=["x", "y", "y"]))


@pytest.fixture
def pool(tmp_path: Path) -> raysal.Pool:
    x = np.random.default_rng(0).normal(size=(8, 4))
    return raysal.embed(Memory(keys=KEYS, vectors=x), out=tmp_path / "pool")


def test_select_and_tell_take_a_series_as_they_take_a_mapping(pool: raysal.Pool, tmp_path: Path) -> None:
    by_key = {"k0": "cat", "k2": "dog", "k3": "cat", "k6": "dog"}
    series = pd.Series(by_key).sort_index(ascending=False)
    frame = pl.DataFrame({"label": list(by_key.values())[::-1], "key": list(by_key)[::-1]})
    expected = raysal.select(pool, k=2, strategy="badge", labels=by_key)
    for number, labels in enumerate((series, frame, frame.to_pandas().iloc[::-1])):
        assert raysal.select(pool, k=2, strategy="badge", labels=labels).equals(expected)
        with raysal.Session(tmp_path / f"run{number}", pool) as session:
            assert session.tell(labels).new == 4
            assert session.tell(by_key).repeated == 4


KEY_COLUMNS: dict[str, Callable[[list[str]], Any]] = {
    "list": list,
    "tuple": tuple,
    "numpy": np.array,
    "pandas": lambda keys: pd.Series(keys, index=range(len(keys), 0, -1)),
    "pandas index": pd.Index,
    "polars": pl.Series,
    "arrow": pa.array,
    "keys of a dict": lambda keys: dict.fromkeys(keys).keys(),
}


@pytest.mark.parametrize("name", KEY_COLUMNS)
def test_keys_are_taken_from_any_column(name: str, pool: raysal.Pool, tmp_path: Path) -> None:
    make = KEY_COLUMNS[name]
    keys = ["k5", "k1"]
    assert pool.ids_of(make(keys)) == {"k5": 5, "k1": 1}
    assert raysal.search(pool, key=make(keys), k=3).equals(raysal.search(pool, key=keys, k=3))
    with raysal.Session(tmp_path / "run", pool) as session:
        assert session.skip(make(keys)) == 2
        assert session.withdraw(make(keys)) == 2


@pytest.mark.parametrize(
    "keys",
    ["k1", b"k1", {"k1"}, (key for key in ["k1"]), None, 3, ["k1", None], [1], [["k1"]]],
    ids=["text", "bytes", "set", "generator", "none", "number", "with a null", "numbers", "nested"],
)
def test_keys_that_are_no_column_of_texts_are_refused(keys: Any, pool: raysal.Pool, tmp_path: Path) -> None:
    """A generator is read once, and would then be empty; one text is a column of letters."""
    with raysal.Session(tmp_path / "run", pool) as session:
        for change in (session.skip, session.withdraw):
            with pytest.raises((ConfigError, LabelError)):
                change(keys)
    if keys != "k1" and keys is not None:  # for search one text is one key
        with pytest.raises((ConfigError, LabelError)):
            raysal.search(pool, key=keys)
