"""The short way to Arrow arrays and back gives what `pa.array` and `to_numpy` give, and no pandas."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysal.arrow_values import array_of, numbers_of

KINDS = st.sampled_from([pa.string(), pa.int64(), pa.float64(), pa.bool_(), pa.int32(), pa.large_string()])
TEXTS = st.text(st.characters(codec="utf-8"))
VALUES = st.one_of(
    st.lists(st.one_of(TEXTS, st.none())),
    st.lists(st.integers(-(2**63), 2**63 - 1)),
    st.lists(st.floats()),
    st.lists(st.booleans()),
    st.lists(st.none()),
    st.lists(st.one_of(TEXTS, st.integers(), st.floats(), st.booleans(), st.none())),
    st.lists(st.integers(-(2**63), 2**63 - 1)).map(lambda values: np.array(values, np.int64)),
    st.lists(st.floats()).map(lambda values: np.array(values, np.float64)[::-1]),
    st.lists(st.floats(width=32)).map(lambda values: np.array(values, np.float32)),
)


def outcome(make: Any, values: Any, kind: pa.DataType) -> Any:
    try:
        made = make(values, kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        return type(error)
    made.validate(full=True)
    return made


@given(values=VALUES, kind=KINDS)
def test_an_array_is_that_of_pyarrow(values: Any, kind: pa.DataType) -> None:
    expected, found = outcome(pa.array, values, kind), outcome(array_of, values, kind)
    if isinstance(expected, pa.Array) and pa.types.is_floating(kind):  # NaN is not equal to itself
        assert found.type == expected.type
        assert found.null_count == expected.null_count
        np.testing.assert_array_equal(found.to_numpy(False), expected.to_numpy(False))
        return
    same = found.equals(expected) if isinstance(expected, pa.Array) else found == expected
    assert same, (found, expected)


@pytest.mark.parametrize("values", [["a\ud800"], ["a", b"a"], [2**63], [1, "a"], [None, 3]])
@pytest.mark.parametrize("kind", [pa.string(), pa.int64()])
def test_what_cannot_be_held_is_refused_alike(values: list[Any], kind: pa.DataType) -> None:
    expected, found = outcome(pa.array, values, kind), outcome(array_of, values, kind)
    assert found.equals(expected) if isinstance(expected, pa.Array) else found == expected


@given(
    parts=st.lists(st.lists(st.integers(-9, 9), max_size=5), max_size=4),
    kind=st.sampled_from([pa.int64(), pa.int32(), pa.float64(), pa.float16()]),
    low=st.integers(0, 4),
)
def test_numbers_are_those_of_pyarrow(parts: list[list[int]], kind: pa.DataType, low: int) -> None:
    dtype = kind.to_pandas_dtype()
    column = pa.chunked_array([pa.array(np.array(part, dtype)) for part in parts], kind).slice(low)
    found = numbers_of(column)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, column.to_numpy())
    for chunk in column.chunks:
        np.testing.assert_array_equal(numbers_of(chunk), chunk.to_numpy())


def test_a_missing_number_is_refused() -> None:
    with pytest.raises(ValueError, match="1 numbers are missing"):
        numbers_of(pa.array([1, None], pa.int64()))


def test_pandas_is_not_imported() -> None:
    program = (
        "import sys, numpy as np, pyarrow as pa\n"
        "from raysal.arrow_values import array_of, numbers_of\n"
        "for values, kind in ((['a', None], pa.string()), ([1, 2], pa.int64()), ([.5], pa.float64()),\n"
        "                     ([True], pa.bool_()), ([None], pa.int64()), (np.arange(3), pa.int64())):\n"
        "    array_of(values, kind)\n"
        "numbers_of(pa.chunked_array([array_of([1, 2], pa.int64())]))\n"
        "print('pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
