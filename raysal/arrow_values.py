"""Arrow arrays from values and back, without pandas.

`pa.array` and `to_numpy` import pandas, where it is installed, to find out whether they were given a Series: 0.2 s and
80 MB in a process that has nothing to do with pandas. What every command does goes through here instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import eq
from typing import Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_NUMBERS = {pa.int64(): int, pa.float64(): float}
"""The types of Arrow that values of one type of Python are written as bit for bit."""


def array_of(values: Sequence[Any] | NDArray[Any], kind: pa.DataType) -> pa.Array:
    """As `pa.array(values, kind)`.

    Texts, whole numbers, floats and truth values without anything else among them take the short way, and so does an
    array of NumPy; other values are left to `pa.array`.

    Args:
        values: the values; None for a missing one.
        kind: the type of Arrow.

    Returns:
        The array.

    Raises:
        pyarrow.ArrowException, TypeError, ValueError, OverflowError: as `pa.array`.
    """
    if isinstance(values, np.ndarray):
        known = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        plain = known and values.dtype == np.dtype(kind.to_pandas_dtype()) and values.ndim == 1
        return _of_numbers(values, kind) if plain else pa.array(values, kind)
    types = set(map(type, values))
    if kind == pa.string() and types <= {str, type(None)}:
        return _of_texts(values)
    if kind == pa.bool_() and types <= {bool}:
        bits = np.packbits(np.array(values, bool), bitorder="little")
        return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(bits)])
    if types == {type(None)}:
        return pa.nulls(len(values), kind)
    if kind in _NUMBERS and types <= {_NUMBERS[kind]}:
        try:
            return _of_numbers(np.array(values, _NUMBERS[kind]), kind)
        except OverflowError:
            pass  # `pa.array` has its own error
    return pa.array(values, kind)


def _of_numbers(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def _of_texts(values: Sequence[str | None]) -> pa.Array:
    """An array of texts. One that cannot be written as UTF-8 is a UnicodeEncodeError, as with `pa.array`."""
    content = [b"" if text is None else text.encode() for text in values]
    cuts = np.cumsum([0, *map(len, content)])
    if cuts[-1] > np.iinfo(np.int32).max:
        return pa.array(values, pa.string())
    there = None
    if None in values:
        there = pa.py_buffer(np.packbits([text is not None for text in values], bitorder="little"))
    return pa.StringArray.from_buffers(
        len(values), pa.py_buffer(cuts.astype(np.int32)), pa.py_buffer(b"".join(content)), there
    )


def numbers_of(column: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    """The numbers of a column, as `to_numpy` has them where none is missing.

    Args:
        column: numbers that NumPy has the same type for, n of them.

    Returns:
        Read-only [n], in place unless the column has several chunks.

    Raises:
        ValueError: a number is missing.
    """
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(whole, pa.ChunkedArray):  # of no chunks, or of too many numbers for one, in some versions
        whole = pa.concat_arrays(whole.chunks) if whole.num_chunks else pa.nulls(0, column.type)
    if whole.null_count:
        raise ValueError(f"{whole.null_count} numbers are missing")
    dtype = np.dtype(whole.type.to_pandas_dtype())
    if not len(whole):
        return np.empty(0, dtype)
    return np.frombuffer(whole.buffers()[1], dtype)[whole.offset : whole.offset + len(whole)]


def is_present(column: pa.Array) -> NDArray[np.bool_]:
    """Which rows [n] of a column are no null."""
    if not column.null_count:
        return np.ones(len(column), bool)
    present: NDArray[np.bool_] = column.is_valid().to_numpy(zero_copy_only=False)
    return present


def owned(column: pa.Array) -> pa.Array:
    """A copy of a column in memory of its own: not part of a larger one, and not of a file that somebody may change."""
    return taken(column, np.arange(len(column)))


def taken(column: pa.Array, rows: NDArray[np.int64]) -> pa.Array:
    """Some rows of a column, in memory of their own."""
    return column.take(array_of(rows, pa.int64()))


def empty_table(schema: pa.Schema) -> pa.Table:
    """A table without rows."""
    return pa.Table.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)


class Texts(Sequence[str]):
    """Texts that are held as a column of Arrow: a sequence of `str` that are made where they are asked for."""

    __slots__ = ("column",)

    def __init__(self, column: pa.Array) -> None:
        """`column` is of the type `string`, and lacks none."""
        self.column = column

    def __len__(self) -> int:
        return len(self.column)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Texts: ...
    def __getitem__(self, place: int | slice) -> str | Texts:
        found = self.column[place]
        return Texts(found) if isinstance(place, slice) else str(found)

    def __iter__(self) -> Iterator[str]:
        return iter(self.column.to_pylist())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Texts):
            return bool(self.column.equals(other.column))
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return Texts, (owned(self.column),)  # the pickle of a slice would hold what it is a slice of

    def __repr__(self) -> str:
        return f"Texts({self.column.slice(0, 3).to_pylist()}, {len(self)} in all)"


def text_array(texts: Sequence[str]) -> pa.Array:
    """Texts as a column of `string`; of `binary`, where one of them cannot be written as UTF-8."""
    if isinstance(texts, Texts):
        return texts.column
    try:
        return array_of(texts, pa.string())
    except UnicodeEncodeError:  # half a letter
        return pa.array([text.encode("utf-8", "surrogatepass") for text in texts], pa.binary())
