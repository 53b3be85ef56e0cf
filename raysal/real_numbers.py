"""Numbers that people pass, as float32 or float64: no digit is lost that a float64 can hold."""

from __future__ import annotations

from decimal import Decimal
from numbers import Real
from reprlib import repr as _short
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.arrays import PLAIN, column_of, not_numbers, plain_value
from raysal.errors import UserError


def as_numbers(value: Any) -> NDArray[np.floating[Any]]:
    """Numbers as float32 where their type fits it, and else as float64; in no other way changed.

    Args:
        value: an array, a tensor of any type and device, a sparse row, or a list of numbers.

    Returns:
        float32 or float64, in the shape of the value.

    Raises:
        ValueError: something in it is missing, or no real number, or does not fit float64. The message says what.
    """
    if type(value) is np.ndarray and value.dtype in (np.float32, np.float64):
        return value
    array = as_array(value)
    if array.dtype == object:
        array = np.array([_number(one) for one in array.reshape(-1)], np.float64).reshape(array.shape)
    elif (problem := not_numbers(array.dtype)) is not None:
        raise ValueError(problem)
    with np.errstate(over="ignore"):
        numbers: NDArray[np.floating[Any]] = array.astype(
            np.float32 if np.can_cast(array.dtype, np.float32) else np.float64, copy=False
        )
    if array.dtype.itemsize > numbers.itemsize and not np.isfinite(numbers).all() and np.isfinite(array).all():
        raise ValueError(f"a value of {np.abs(array).max():.6g} does not fit float64")
    return numbers


def finite_rows(matrix: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Which rows of a matrix [n, d] are finite. Of float16 it looks at the bits, in a tenth of the time."""
    if matrix.dtype != np.float16:
        with np.errstate(over="ignore", invalid="ignore"):
            sums = matrix.sum(1)  # not finite if a number is not, or if it is too large
        finite: NDArray[np.bool_] = np.isfinite(sums)
        doubtful = np.flatnonzero(~finite)
        finite[doubtful] = np.isfinite(matrix[doubtful]).all(1)
        return finite
    finite = np.ones(len(matrix), bool)
    for start in range(0, len(matrix), _FINITE_ROWS):
        bits = matrix[start : start + _FINITE_ROWS].view(np.uint16) & np.uint16(0x7FFF)
        if bits.max(initial=0) >= _INFINITE_HALF:
            finite[start : start + _FINITE_ROWS] = (bits < _INFINITE_HALF).all(1)
    return finite


_FINITE_ROWS = 512
_INFINITE_HALF = 0x7C00
"""The bits of an infinite float16; a NaN has more."""


def as_array(value: Any) -> NDArray[Any]:
    """Values as an array; of objects, where they have no type in common or one is missing.

    Args:
        value: as for `as_numbers`.

    Returns:
        The values.

    Raises:
        ValueError: the value cannot be read, or has rows of different shapes.
    """
    try:
        return _array(value)
    except ValueError:
        raise
    except UserError as error:
        raise ValueError(error.problem) from None
    except Exception as error:  # whatever a library raises whose object this is
        raise ValueError(f"cannot be read ({type(error).__name__}: {error})") from error


def _array(value: Any) -> NDArray[Any]:
    if isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray):
        return np.asarray(value)
    if not isinstance(value, list | tuple):
        value = plain_value(value)
        if isinstance(value, list):
            return _array(value)
        if isinstance(value, PLAIN) and not hasattr(value, "tocsr"):  # some sparse matrices are dicts
            return _objects([value]).reshape(())
        rows = column_of("it", value, frames=True).rows()
        return rows if isinstance(rows, np.ndarray) else _array(list(rows))
    kinds = set(map(type, value))
    if all(issubclass(kind, int | float | np.number | np.bool_) for kind in kinds):
        return np.asarray(value)
    rows = [plain_value(one) for one in value]
    if any(isinstance(row, str | bytes | dict) or np.isscalar(row) or row is None for row in rows):
        return _objects(rows)
    parts = [_array(row) for row in rows]
    if len({part.shape for part in parts}) > 1:
        raise ValueError(f"rows of different shapes, such as {parts[0].shape}")
    return np.stack(parts)


def _objects(values: list[Any]) -> NDArray[Any]:
    found = np.empty(len(values), object)
    for place, value in enumerate(values):
        found[place] = value
    return found


def _number(value: Any) -> float:
    """One number of an array of objects."""
    value = plain_value(value)
    if value is None:
        raise ValueError("a value is missing")
    if isinstance(value, complex | np.complexfloating):
        raise ValueError("complex numbers")
    if not isinstance(value, Real | Decimal):
        raise ValueError(f"it holds {_short(value)}, which is no number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"a value of {_short(value)} does not fit float64") from None
