"""Ready vectors as columns: from a column of Arrow, or from rows in whatever container.

What is read of an item does not depend on the items beside it: neither whether its row is odd, nor its type.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.arrow import ColumnKind, is_list, plain_array
from raysal.arrow_values import is_present, numbers_of, owned, taken
from raysal.errors import BadItem
from raysal.real_numbers import as_numbers
from raysal.sources.base import Source
from raysal.sources.listing import text_key
from raysal.sources.payloads import as_vector
from raysal.types import Columns, Item, Unit

Vectors = NDArray[np.floating[Any]]
BATCH_BYTES = 1 << 23
"""Size of the vectors that are read at a time."""
MOST_ROWS, FEWEST_ROWS = 8192, 64
"""Vectors that are read at a time."""
FLOATS = (np.float16, np.float32, np.float64)
"""Types of numbers that are taken as they are."""


def batch_rows(dim: int) -> int:
    """How many vectors of that length are read at a time."""
    return min(MOST_ROWS, max(FEWEST_ROWS, BATCH_BYTES // (4 * max(dim, 1))))


def columns_of(source: Source, unit: Unit, dim: int) -> Iterator[Columns]:
    """The items of a unit as columns, from any source of vectors.

    Args:
        source: gives them as columns (`raysal.sources.base.ColumnSource`), or one by one.
        unit: which.
        dim: length of a vector.

    Returns:
        The items, in order.
    """
    read = getattr(source, "columns", None)
    return _from_items(source.read(unit), dim) if read is None else read(unit, dim)


def _from_items(items: Iterator[Item], dim: int) -> Iterator[Columns]:
    """Items that a source gives one by one, as columns."""
    some: list[Item] = []
    for item in items:
        some.append(item)
        if len(some) == batch_rows(dim):
            yield from _joined(some, dim)
            some = []
    yield from _joined(some, dim)


def _joined(items: Sequence[Item], dim: int) -> Iterator[Columns]:
    names = dict.fromkeys(name for item in items for name in item.carried)
    carried = {name: [item.carried.get(name) for item in items] for name in names}
    return columns_of_rows([item.key for item in items], [item.payload for item in items], carried, dim)


def columns_of_matrix(
    keys: Sequence[str], matrix: NDArray[Any], carried: Mapping[str, Sequence[Any]]
) -> Iterator[Columns]:
    """Items whose payloads are the rows of a matrix [n, d] of numbers of any real type, as columns.

    Args:
        keys: of the items [n].
        matrix: their vectors.
        carried: {column: values [n]}.

    Yields:
        The items, in order.
    """
    if matrix.dtype.itemsize > 8:  # wider than float64, which may not hold a number: each row by itself
        payloads = [vector_or_bad(row, key) for row, key in zip(matrix, keys, strict=True)]
        yield from columns_of_rows(keys, payloads, carried, matrix.shape[1])
        return
    yield Columns(keys=keys, vectors=matrix if matrix.dtype in FLOATS else as_numbers(matrix), carried=carried)


def vector_or_bad(value: Any, key: str) -> Any:
    """A vector as an item has it, or a `BadItem` that says why it is none."""
    try:
        return as_vector(value)
    except ValueError as error:
        return BadItem(key, str(error))


def columns_of_rows(
    keys: Sequence[str], payloads: Sequence[Any], carried: Mapping[str, Sequence[Any]], dim: int
) -> Iterator[Columns]:
    """Items whose payloads are a sequence, as columns: of one type each, so that no vector takes the type of another.

    Args:
        keys: of the items [n].
        payloads: vectors, or `BadItem`s [n].
        carried: {column: values [n]}.
        dim: length of a vector.

    Yields:
        The items, in order.
    """
    found = [_numbers(payload, dim) for payload in payloads]
    start = 0
    while start < len(found):
        kind = next((row.dtype for row in found[start:] if row is not None), np.dtype(np.float32))
        stop = next((at for at in range(start, len(found)) if found[at] is not None and found[at].dtype != kind), None)  # type: ignore[union-attr]
        stop = len(found) if stop is None else stop
        matrix = np.zeros((stop - start, dim), kind)
        odd = {}
        for place, row in enumerate(found[start:stop]):
            if row is None:
                odd[place] = payloads[start + place]
            else:
                matrix[place] = row
        yield part_of(Columns(keys=keys, vectors=matrix, odd=odd, carried=carried), start, stop, matrix)
        start = stop


def part_of(columns: Columns, start: int, stop: int, matrix: Vectors) -> Columns:
    """Some rows of columns, with the vectors and the odd rows that these have."""
    whole = start == 0 and stop == len(columns.keys)
    keys = columns.keys if whole else columns.keys[start:stop]
    carried = columns.carried if whole else {name: values[start:stop] for name, values in columns.carried.items()}
    return Columns(keys=keys, vectors=matrix, odd=columns.odd, carried=carried)


def _numbers(payload: Any, dim: int) -> Vectors | None:
    """A payload as float32 or float64 [dim], or float16 if it is that; None if it is none."""
    if isinstance(payload, BadItem):
        return None
    if not (type(payload) is np.ndarray and payload.dtype in FLOATS):
        try:
            payload = as_numbers(payload)
        except ValueError:
            return None
    return payload if payload.shape == (dim,) else None


def vectors_in(kind: ColumnKind, column: pa.Array, dim: int) -> tuple[Vectors, list[int]] | None:
    """The vectors in a column of flat lists.

    Args:
        kind: of the column.
        column: n rows of it.
        dim: length of a vector.

    Returns:
        float16, float32 or float64 [n, dim], and the rows that are null, lack a value, or have another length. None if
        the column has another layout; `rows_in` reads any.
    """
    import pyarrow.compute as pc  # as long as to start a command

    column = plain_array(column)
    if not is_list(column.type) or is_list(column.type.value_type) or kind.order is not None:
        return None
    n = len(column)
    valid = is_present(column)
    flat = plain_array(column.flatten())  # without the values of rows that are null
    if pa.types.is_fixed_size_list(column.type):
        lengths = np.where(valid, column.type.list_size, 0)
    else:
        lengths = numbers_of(pc.fill_null(column.value_lengths(), 0)).astype(np.int64)
    good = valid & (lengths == dim)
    ends = np.cumsum(lengths)
    if flat.null_count:
        nulls = np.flatnonzero(~is_present(flat))
        good[np.searchsorted(ends, nulls, "right")] = False
        if not pa.types.is_floating(flat.type):  # of these NumPy makes NaN
            flat = pc.fill_null(flat, pa.scalar(0, pa.int8()).cast(flat.type))
    numbers = _floats(flat.cast(pa.float64()) if pa.types.is_decimal(flat.type) else flat)
    if good.all():
        return numbers.reshape(n, dim), []
    matrix = np.zeros((n, dim), numbers.dtype)
    rows = np.flatnonzero(good)
    matrix[rows] = numbers[(ends[rows] - dim)[:, None] + np.arange(dim)]
    return matrix, np.flatnonzero(~good).tolist()


def _floats(flat: pa.Array) -> Vectors:
    """Numbers without a null as NumPy has them, in a type of `FLOATS`."""
    is_plain = not flat.null_count and not pa.types.is_boolean(flat.type)
    numbers = numbers_of(flat) if is_plain else flat.to_numpy(zero_copy_only=False)
    return numbers if numbers.dtype in FLOATS else as_numbers(numbers)


def table_columns(
    kind: ColumnKind,
    column: pa.Array,
    name: str,
    keys: Sequence[str],
    carried: Mapping[str, Sequence[Any]],
    bad: Mapping[int, BadItem],
    dim: int,
) -> Iterator[Columns]:
    """Rows of a table as columns.

    Args:
        kind: of the column of vectors.
        column: n rows of it, in any layout.
        name: of that column, for errors.
        keys: of the items [n].
        carried: {column: values [n]}.
        bad: rows that are known to be bad, and why.
        dim: length of a vector.

    Yields:
        The rows, in order.
    """

    def payloads(some: pa.Array, places: Sequence[int]) -> list[Any]:
        rows = zip(places, kind.arrays(some), strict=True)
        return [bad[row] if row in bad else _vector_or_bad(value, name, keys[row]) for row, value in rows]

    found = vectors_in(kind, column, dim)
    if found is None:
        yield from columns_of_rows(keys, payloads(column, range(len(keys))), carried, dim)
        return
    vectors, rows = found
    rows = sorted({*rows, *bad})
    odd = dict(zip(rows, payloads(taken(column, np.array(rows, np.int64)), rows), strict=True)) if rows else {}
    yield Columns(keys=keys, vectors=vectors, odd=odd, carried=carried)


def _vector_or_bad(value: Any, name: str, key: str) -> Any:
    """A value of a column of vectors as an item has it, or a `BadItem` that says what it lacks."""
    if value is None:
        return BadItem(key, f"column {name!r} is null")
    try:
        return as_vector(value)
    except ValueError as error:
        return BadItem(key, f"column {name!r}: {error}")


def keys_in(kind: ColumnKind, column: pa.Array, where: object, first_row: int, word: str = "row") -> pa.Array:
    """Keys as text.

    Args:
        kind: of the column.
        column: n keys.
        where: the file, for errors.
        first_row: number of the first row, for errors.
        word: what errors call a row.

    Returns:
        `string` [n].

    Raises:
        SourceError: a key is null, empty, not UTF-8 or a list; the error names its row.
    """
    import pyarrow.compute as pc

    stored = _stored(kind, column)
    if stored is not None and (_is_text(stored.type) or pa.types.is_integer(stored.type)):
        with suppress(pa.ArrowException):
            texts = stored.cast(pa.string())
            texts.validate(full=True)
            if not texts.null_count and pc.min(pc.binary_length(texts)).as_py() != 0:
                return texts
        if not pa.types.is_integer(stored.type):  # as bytes, which need not be UTF-8
            column = stored.cast(pa.large_binary() if pa.types.is_large_string(stored.type) else pa.binary())
    rows = enumerate(kind.values(column), start=first_row)
    return pa.array([text_key(value, where, f"{word} {row}") for row, value in rows], pa.string())


@dataclass(frozen=True)
class Undecoded:
    """Stands for a text whose bytes are not UTF-8, which Arrow's writers do not check."""

    def __str__(self) -> str:
        return "not UTF-8"


def values_in(kind: ColumnKind, column: pa.Array) -> list[Any]:
    """Values as `ColumnKind.values` means them, with an `Undecoded` for each that is no text."""
    try:
        return kind.values(column)
    except UnicodeDecodeError:
        stored = plain_array(column)
        if not _is_text(stored.type):  # texts in lists or structs
            raise
    found: list[Any] = []
    for value in stored.cast(pa.large_binary()).to_pylist():
        try:
            found.append(value if value is None else value.decode())
        except UnicodeDecodeError:
            found.append(Undecoded())
    return found


def carried_in(kind: ColumnKind, column: pa.Array) -> pa.Array | list[Any]:
    """Values to keep as `values_in` means them: in memory of their own, as text, int64, float64, or a list."""
    stored = _stored(kind, column)
    for is_one, kept in ((_is_text, pa.string()), (_is_whole, pa.int64()), (pa.types.is_floating, pa.float64())):
        if stored is not None and is_one(stored.type):
            with suppress(pa.ArrowInvalid):  # a text is not UTF-8
                found = stored.cast(kept)
                found.validate(full=True)
                return owned(found)
    return values_in(kind, column)


def _stored(kind: ColumnKind, column: pa.Array) -> pa.Array | None:
    """The values in the column's plain type; None if people mean others by them."""
    special = isinstance(column.type, pa.BaseExtensionType) or not kind.is_as_stored
    return None if special else plain_array(column)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_whole(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) and kind != pa.uint64())
