"""Columns and matrices are read by position, and what is missing stays missing, whatever container they come in."""

from __future__ import annotations

import decimal
import itertools
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from containers import BELOW, COLUMNS, LACKING, MATRICES, OF_NUMBERS, OF_TEXTS, WHOLE
from tiers import only_if

from raysal.arrays import column_of, columns_of, texts_of
from raysal.errors import ConfigError
from raysal.real_numbers import as_numbers

TEXTS = ["b", None, "a", "c", "b", None, "ä"]
NUMBERS = [3, None, 1, 2**53 + 1, -5, None, 0]
DTYPES = ["float16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64", "uint64", "bool"]


def plain(values: Any) -> list[Any]:
    return [value.item() if isinstance(value, np.generic) else value for value in values]


@pytest.mark.parametrize(("name", "make"), [*(COLUMNS | OF_TEXTS).items()])
def test_texts_are_the_same_in_every_container(name: str, make: Callable[[Any], Any]) -> None:
    column = column_of("it", make(TEXTS))
    assert len(column) == len(TEXTS)
    assert plain(column) == TEXTS
    for start, stop in itertools.combinations(range(len(TEXTS) + 1), 2):
        assert plain(column.rows(start, stop)) == TEXTS[start:stop]


@pytest.mark.parametrize(("name", "make"), [*(COLUMNS | OF_NUMBERS).items()])
def test_numbers_are_the_same_in_every_container(name: str, make: Callable[[Any], Any]) -> None:
    floats = name in ("pandas", "pandas, one index", "pandas categories")  # pandas' own choice for numbers with a gap
    expected = [None if value is None else float(value) for value in NUMBERS] if floats else NUMBERS
    assert plain(column_of("it", make(NUMBERS))) == expected


@pytest.mark.parametrize(("name", "make"), [*(WHOLE | COLUMNS).items()])
def test_whole_columns_are_the_same_in_every_container(name: str, make: Callable[[Any], Any]) -> None:
    for values in ([5, 3, 4], ["x", "z", "y"], [0.5, -1.0, 1e300], [True, False, True]):
        assert plain(column_of("it", make(values))) == values


def is_a_type_of(name: str, dtype: str) -> bool:
    if name.startswith("scipy"):
        return dtype != "float16"
    return (dtype != "bool" or not name.startswith("arrow tensors")) and (dtype, name) != ("uint64", "torch sparse")


@only_if(is_a_type_of)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "make"), [*MATRICES.items()])
def test_rows_of_a_matrix_are_those_of_numpy(name: str, make: Callable[[Any], Any], dtype: str) -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(-100, 100, (5, 4)).astype(dtype) if dtype not in ("bool", "uint8", "uint64") else None
    x = rng.integers(0, 2, (5, 4)).astype(dtype) if x is None else x
    column = column_of("it", make(x), frames=True)
    found = [as_numbers(row).reshape(-1) for row in column]
    assert np.array_equal(found, x.astype(np.float64))
    assert {row.dtype for row in found} == {np.dtype(np.float32 if np.can_cast(dtype, np.float32) else np.float64)}
    whole = as_numbers(make(x))
    assert np.array_equal(whole.reshape(5, 4), x.astype(np.float32))


@pytest.mark.parametrize(("name", "make"), [*LACKING.items()])
def test_a_row_that_lacks_a_value_is_known_and_shows_nothing_else(name: str, make: Any) -> None:
    rng = np.random.default_rng(2)
    x = rng.integers(1, 100, (12, 3)).astype(np.float64)
    mask = rng.random(x.shape) < 0.3
    mask[0], mask[1] = True, False
    rows = list(column_of("it", make(x, mask), frames=True))
    assert len(rows) == len(x)
    for row, expected, off in zip(rows, x, mask, strict=True):
        if not off.any():
            assert np.array_equal(as_numbers(row), expected)
            continue
        with pytest.raises(ValueError, match="a value is missing"):
            as_numbers(row)
        assert str(BELOW) not in str(row)


FLOATS = ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float16", "float32", "float64"]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("grad", [False, True])
def test_tensors_of_every_float_are_exact(dtype: str, grad: bool) -> None:
    values = torch.tensor([[0.5, -1.25], [3.0, 448.0], [2.0**-6, 0.0]]).to(getattr(torch, dtype))
    expected = values.float().numpy()
    given = values.requires_grad_(grad) if grad and dtype in ("float16", "float32", "float64") else values
    for container in (given, list(given), given.T.contiguous().T, [list(row) for row in given]):
        assert np.array_equal(as_numbers(container), expected)


def test_numbers_of_python_count_and_nothing_else_does() -> None:
    assert as_numbers([1, True, 0.5, decimal.Decimal("0.25"), np.float16(2), 2**70]).tolist() == [
        1,
        1,
        0.5,
        0.25,
        2,
        2**70,
    ]
    for value, problem in (
        (["1", 2], "'1'"),
        (["1", "2"], "'1'"),
        ([b"1", 2], "b'1'"),
        ([1j, 2], "complex"),
        (np.array([1j]), "complex"),
        (torch.tensor([1j]), "complex"),
        (np.array(["2020-01-01"], "M8[D]"), "datetime64"),
        (np.array(["1"]), "no numbers"),
        ([1, None], "missing"),
        ([1, pd.NA], "missing"),
        ([1, pd.NaT], "missing"),
        ([1, np.ma.masked], "missing"),
        ([10**400, 1], "does not fit float64"),
        ([[1, 2], [3]], "different shapes"),
        ({"a": 1}, "no number"),
        ([{"a": 1}], "no number"),
        (torch.ones(2, device="meta"), "meta"),
    ):
        with pytest.raises(ValueError, match=problem):
            as_numbers(value)


class Odd:
    """Claims a length, and fails."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, place: object) -> object:
        raise RuntimeError("no")


ODD: list[Any] = [
    None, 5, 2.5, "abc", b"abc", {1, 2}, frozenset("ab"), {"a": 1}, (x for x in "ab"), map(str, "ab"), iter([1]),
    itertools.count(), object(), list, len, np.float32(1), np.array(1), np.ma.masked, torch.tensor(1.0),
    torch.ones(2, 2, device="meta"), pl.DataFrame({"a": [1]}).lazy(), pd.DataFrame({"a": [1]}),
    pl.DataFrame({"a": [1]}), pd.MultiIndex.from_tuples([(1, 2)]), Odd(), range, np.random.default_rng(0), memoryview,
]  # fmt: skip


@pytest.mark.parametrize("value", ODD, ids=lambda value: type(value).__name__)
def test_what_is_no_column_is_an_error_of_ours_that_names_it(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^the\.name"):
        list(column_of("the.name", value))
    with pytest.raises(ConfigError, match=r"^keys"):
        texts_of("keys", value)


def test_columns_of_a_frame_are_by_name_and_position() -> None:
    frame = pd.DataFrame({"b": [1, 2, 3], 7: ["x", "y", "z"]}, index=[2, 2, 0])
    for given in (frame, pl.from_dict({"b": [1, 2, 3], "7": ["x", "y", "z"]}), {"b": [1, 2, 3], 7: ["x", "y", "z"]}):
        found = columns_of("it", given)
        assert found is not None
        assert {name: plain(column) for name, column in found.items()} == {"b": [1, 2, 3], "7": ["x", "y", "z"]}
    assert columns_of("it", [1, 2]) is None
    with pytest.raises(ConfigError, match="same name: a, a"):
        columns_of("it", pd.DataFrame([[1, 2]], columns=["a", "a"]))


def test_a_series_whose_rows_are_called_like_attributes_is_still_a_series() -> None:
    names = ["columns", "tocsr", "detach", "layout", "get_columns", "collect", "iloc", "shape", "numpy_dtype"]
    random.Random(0).shuffle(names)
    assert plain(column_of("it", pd.Series(range(len(names)), index=names))) == list(range(len(names)))


def test_no_library_is_imported_to_recognise_its_containers() -> None:
    program = (
        "import sys; from raysal.sources import Memory; from raysal.labels import as_labels; import numpy as np\n"
        "source = Memory(keys=['a', 'b'], vectors=np.eye(2), carry={'x': [None, 1]}); source.fingerprint()\n"
        "[list(source.read(unit)) for unit in source.units(1)]; as_labels({'a': 'b'})\n"
        "print(*[name for name in ('pandas', 'polars', 'scipy', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
