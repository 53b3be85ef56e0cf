"""What people pass as a column, a matrix or a frame, read by position.

Lists, NumPy arrays and masked arrays, pandas, Polars, Arrow, torch, SciPy's sparse matrices, and whatever looks like
one of these: the nth value is the nth item's. Labels of rows, such as the index of a pandas Series, count for nothing.
A value that is missing (a mask, pd.NA, a null) is None, also inside of a row; it is never the number below a mask.

No library is imported to recognise its objects: they are known by the methods that these kinds of container share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from numbers import Number
from reprlib import repr as _short
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.arrow import ColumnKind
from raysal.errors import ConfigError, UserError
from raysal.tensors import SparseRows, is_dense, tensor_values

Rows = Sequence[Any] | NDArray[Any]
"""Values one after the other."""
_BLOCK = 4096
"""Values that are read at a time where all are wanted one by one."""


@dataclass(frozen=True)
class Column:
    """Values in the order of the items."""

    name: str
    """What an error calls it."""
    shape: tuple[int, ...]
    """(n,), or (n, ...) if all rows are arrays of one shape."""
    read: Callable[[int, int], Rows]
    """The values from one position to another: what `rows` gives."""

    def __len__(self) -> int:
        return self.shape[0]

    def rows(self, start: int = 0, stop: int | None = None) -> Rows:
        """Some of the values.

        Args:
            start: position of the first value.
            stop: position after the last one; by default that of the end.

        Returns:
            A NumPy array if there is a type that all values have, else a list, where None stands for a missing value. A
            row that lacks a value is a list with None in it.

        Raises:
            ConfigError: the container does not give its values.
        """
        end = len(self) if stop is None else min(stop, len(self))
        return cast("Rows", _ours(self.name, lambda: self.read(start, end)))

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self), _BLOCK):
            yield from self.rows(start, start + _BLOCK)


def column_of(name: str, value: Any, *, frames: bool = False) -> Column:
    """A column or matrix that somebody passed, by position.

    Args:
        name: what an error calls it, such as `memory.keys`.
        value: the container.
        frames: whether it may be a frame, whose columns of numbers are read side by side.

    Returns:
        Its values in order.

    Raises:
        ConfigError: it has no order or no length (a set, a mapping, an iterator, a lazy frame), or it cannot be read.
    """
    return value if isinstance(value, Column) else cast("Column", _ours(name, lambda: _column(name, value, frames)))


def columns_of(name: str, value: Any) -> dict[str, Column] | None:
    """The columns of a frame: of pandas, Polars or Arrow, or a mapping of columns.

    Args:
        name: what an error calls it.
        value: the frame.

    Returns:
        {name of a column: its values}; None if it is no frame.

    Raises:
        ConfigError: two columns have one name, or a column cannot be read.
    """
    if isinstance(value, Mapping):
        found = [(str(column), values) for column, values in value.items()]
    elif isinstance(value, pa.Table | pa.RecordBatch):
        found = list(zip(value.column_names, value.columns, strict=True))
    elif _can(value, "iloc", "columns"):
        found = [(str(column), value.iloc[:, place]) for place, column in enumerate(value.columns)]
    elif _can(value, "get_columns", "__len__"):
        found = list(zip(value.columns, value.get_columns(), strict=True))
    else:
        return None
    names = [column for column, _ in found]
    if len(set(names)) < len(names):
        raise ConfigError(name, f"two columns have the same name: {', '.join(names)}", "rename one")
    return {column: column_of(f"{name}.{column}", values) for column, values in found}


def texts_of(name: str, value: Any) -> list[str]:
    """Keys that somebody passed.

    Args:
        name: what an error calls them.
        value: a column of texts.

    Returns:
        The texts in order.

    Raises:
        ConfigError: it is one text and no column of them, or a value is missing or not text.
    """
    texts = []
    for place, text in enumerate(column_of(name, value)):
        if not isinstance(text, str):
            found = "is missing" if is_missing(text) else f"is no text, but {_short(text)}"
            raise ConfigError(name, f"value {place} {found}", "name items by their keys")
        texts.append(str(text))
    return texts


def is_missing(value: Any) -> bool:
    """Whether a value of a column of keys, texts or labels stands for none: None, NaN, pd.NA, NaT, a masked value."""
    if value is None or value is np.ma.masked:
        return True
    if isinstance(value, float | np.floating | np.datetime64 | np.timedelta64):
        return bool(value != value)
    return type(value).__name__ in ("NAType", "NaTType") and type(value).__module__.startswith("pandas.")


def not_numbers(kind: np.dtype[Any]) -> str | None:
    """What values of a type are.

    Args:
        kind: the type.

    Returns:
        In words what they are, if they cannot be real numbers; None if they can.
    """
    if kind.kind == "c":
        return f"complex numbers ({kind})"
    known = kind.kind in "biufO" or (kind.kind == "V" and kind.names is None and np.can_cast(kind, np.float64))
    return None if known else f"values of type {kind}, which are no numbers"


# -- containers -------------------------------------------------------------------------------------------------------


def _ours(name: str, read: Callable[[], Any]) -> Any:
    """What `read` returns; an error of another library becomes one of ours."""
    try:
        return read()
    except UserError:
        raise
    except Exception as error:  # whatever a library raises whose object this is
        problem = f"cannot be read ({type(error).__name__}: {error})"
        raise ConfigError(name, problem, "pass a list or a NumPy array") from error


def _column(name: str, value: Any, frames: bool) -> Column:
    """As `column_of`, with the errors of other libraries."""
    if _can(value, "tocsr"):  # before mappings: some sparse matrices are dicts
        return _of_sparse(name, value.tocsr())
    if value is None or isinstance(value, str | bytes | Mapping | set | frozenset | Number):
        problem = f"{_short(value)} is no column of values"
        raise ConfigError(name, problem, "pass a list in the order of the items")
    if isinstance(value, np.ma.MaskedArray):
        return _of_masked(name, value)
    if isinstance(value, np.ndarray | memoryview):
        return _of_array(name, np.asarray(value))
    if isinstance(value, pa.Array | pa.ChunkedArray):
        return _of_arrow(name, value)
    if _is_torch(value):
        return _of_torch(name, value)
    if (columns := columns_of(name, value)) is not None:
        if not frames:
            raise ConfigError(name, f"a frame with the columns {', '.join(columns)}", "pass one of its columns")
        return _of_frame(name, list(columns.values()))
    if _is_pandas(value):
        if hasattr(value.dtype, "pyarrow_dtype"):  # as NumPy has it, a null within a list would be a NaN
            return _of_arrow(name, pa.array(value))
        return Column(name, _shape(name, value), lambda start, stop: _pandas_rows(value, start, stop))
    if isinstance(value, list | tuple | range):
        return Column(name, (len(value),), lambda start, stop: [plain_value(one) for one in value[start:stop]])
    # Of a column of Python objects, Polars would give Arrow their addresses.
    if _can(value, "__arrow_c_stream__", "__len__") and str(getattr(value, "dtype", "")) != "Object":
        with suppress(pa.ArrowException):  # Polars has types that Arrow lacks
            return _of_arrow(name, pa.chunked_array(value))
    if _can(value, "__array__", "__getitem__") and hasattr(value, "shape"):
        return Column(name, _shape(name, value), lambda start, stop: _array_rows(np.asarray(value[start:stop])))
    if _can(value, "__len__", "__getitem__"):
        return Column(name, (len(value),), lambda start, stop: [plain_value(value[at]) for at in range(start, stop)])
    if _can(value, "__len__", "__iter__"):  # the keys or the values of a dict
        return _column(name, list(value), frames)
    fix = "call its .collect() first" if _can(value, "collect") else "pass list(...) of it"
    raise ConfigError(name, f"{_short(value)} has no length, so it is no column of values", fix)


def _shape(name: str, value: Any) -> tuple[int, ...]:
    """The shape of an array-like value, at least one size."""
    shape = tuple(int(size) for size in value.shape)
    if not shape:
        raise ConfigError(name, f"{_short(value)} is no column of values", "pass a list in the order of the items")
    return shape


def _of_array(name: str, array: NDArray[Any]) -> Column:
    return Column(name, _shape(name, array), lambda start, stop: _array_rows(array[start:stop]))


def _array_rows(rows: NDArray[Any]) -> Rows:
    """Rows of an array. Among objects, a NaN stands for a missing value, as pandas writes it."""
    if rows.dtype != object:
        return rows
    return [None if rows.ndim == 1 and is_missing(one) else plain_value(one) for one in rows]


def _of_masked(name: str, array: np.ma.MaskedArray[Any, Any]) -> Column:
    def read(start: int, stop: int) -> Rows:
        rows = array[start:stop]
        mask, data = np.asarray(np.ma.getmaskarray(rows)), np.ma.getdata(rows)
        if not mask.any():
            return _array_rows(data)
        lacking: list[bool] = np.asarray(mask.reshape(len(mask), -1).any(axis=1)).tolist()
        # `tolist` writes None for what is masked.
        return [rows[at : at + 1].tolist()[0] if lacks else data[at] for at, lacks in enumerate(lacking)]

    return Column(name, _shape(name, array), read)


def _of_arrow(name: str, column: pa.Array | pa.ChunkedArray) -> Column:
    column = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
    kind = ColumnKind.of(pa.field("", column.type))

    def read(start: int, stop: int) -> Rows:
        part = column.slice(start, stop - start)
        if kind.is_number and not part.null_count:
            return cast("Rows", part.to_numpy())
        read_chunk = kind.arrays if kind.is_vector or kind.shape is not None else kind.values
        return [value for chunk in part.chunks for value in read_chunk(chunk)]

    return Column(name, (len(column),), read)


def _of_frame(name: str, columns: list[Column]) -> Column:
    """The rows of columns of numbers side by side."""
    if not columns:
        raise ConfigError(name, "a frame without columns", "pass the columns of the vectors")
    for column in columns:
        head = column.rows(0, _BLOCK)
        kind = head.dtype if isinstance(head, np.ndarray) else np.dtype(object)
        one = next((value for value in head if value is not None), 0) if kind.hasobject else 0
        if (problem := not_numbers(kind)) or not isinstance(one, Number):
            problem = problem or f"{_short(one)} is no number"
            raise ConfigError(column.name, problem, "pass columns of numbers, or one column of vectors by itself")

    def read(start: int, stop: int) -> Rows:
        parts = [column.rows(start, stop) for column in columns]
        if all(isinstance(part, np.ndarray) for part in parts):
            return np.stack(parts, axis=1)
        return [list(row) for row in zip(*parts, strict=True)]

    return Column(name, (len(columns[0]), len(columns)), read)


def _pandas_rows(value: Any, start: int, stop: int) -> Rows:
    """Values of a Series, an Index or an extension array, by position and by pandas' own notion of what is missing."""
    part = value.iloc[start:stop] if _can(value, "iloc") else value[start:stop]
    missing = np.asarray(part.isna())
    if not missing.any():
        return _array_rows(part.to_numpy() if _can(part, "to_numpy") else np.asarray(part))
    values = np.asarray(part, object)
    return [None if lacks else plain_value(one) for one, lacks in zip(values, missing, strict=True)]


def _of_sparse(name: str, matrix: Any) -> Column:
    shape = _shape(name, matrix)
    if len(shape) != 2:
        raise ConfigError(name, f"a sparse array of shape {shape}", "pass a sparse matrix [n, d]")
    borders, places, values = matrix.indptr, matrix.indices, matrix.data

    def read(start: int, stop: int) -> Rows:
        low, high = borders[start], borders[stop]
        return SparseRows(borders[start : stop + 1] - low, places[low:high], values[low:high], shape[1])

    return Column(name, shape, read)


def _of_torch(name: str, tensor: Any) -> Column:
    if getattr(tensor, "is_nested", False):
        return _column(name, list(tensor.unbind()), False)
    shape = _shape(name, tensor)
    if is_dense(tensor):
        return Column(name, shape, lambda start, stop: tensor_values(tensor[start:stop]))
    found = tensor.detach().cpu().to_sparse().coalesce()
    if found.sparse_dim() != 2 or found.dense_dim():
        raise ConfigError(name, f"a sparse tensor of shape {shape}", "call its .to_dense() first")
    places = found.indices().numpy()
    borders = np.searchsorted(places[0], np.arange(shape[0] + 1))
    csr = SimpleNamespace(shape=shape, indptr=borders, indices=places[-1], data=tensor_values(found.values()))
    return _of_sparse(name, csr)


# -- values -----------------------------------------------------------------------------------------------------------


def _can(value: Any, *names: str) -> bool:
    """Whether the type of a value has these attributes. A Series itself also has one for every label of its rows."""
    return all(hasattr(type(value), name) for name in names)


def _is_torch(value: Any) -> bool:
    return _can(value, "detach", "layout")


def _is_pandas(value: Any) -> bool:
    """Whether it is a Series, an Index or an extension array of pandas, or of a library that follows pandas."""
    return _can(value, "isna", "shape")


def plain_value(value: Any) -> Any:
    """One value of a column, unwrapped; None if it stands for none."""
    if isinstance(value, PLAIN):
        return value
    if value is np.ma.masked or type(value).__name__ in _NONE:
        return None
    if isinstance(value, np.ma.MaskedArray):
        return value.tolist() if np.ma.is_masked(value) or value.ndim == 0 else value.data
    if isinstance(value, pa.Scalar):
        return value.as_py()
    if _is_torch(value):
        value = tensor_values(value)
    return value.item() if getattr(value, "shape", None) == () else value


PLAIN = (str, bytes, int, float, bool, np.generic, list, tuple, dict, type(None))
"""Types of values that are what they seem."""
_NONE = ("NAType", "NaTType")
"""Types of pandas' marks for a missing value."""
