"""Predicates over the columns that a pool carries beside its vectors, evaluated beside the data.

A test of a column is a value (equal to it), a list of values (equal to one of them), `{"min": a, "max": b}` (from a to
b, both included, either may be left out), or `{"not": test}`. A null, or a NaN, never passes, whatever the test.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, time
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysal.errors import ConfigError

if TYPE_CHECKING:
    from raysal.fleet import Partition

SCALARS = (str, bool, int, float, date, time)  # a datetime is a date
FORMS = 'a value, a list of values, {"min": a, "max": b} or {"not": ...}'
PASSING = "rows that pass"
"""In what a partition holds: the last predicates, spelled out, and which of its rows pass them, bool [n]."""


def check_tests(where: Mapping[str, Any], field: str) -> None:
    """Refuse tests that mean nothing, before any data is read.

    Args:
        where: a test for each of these columns.
        field: its place in the config, for errors.

    Raises:
        ConfigError: a test has none of the forms, or no value can pass it; it names the column.
    """
    for column, test in where.items():
        _check_test(test, f"{field}.{column}")


def _check_test(test: Any, field: str) -> None:
    if isinstance(test, Mapping) and set(test) == {"not"}:
        return _check_test(test["not"], field)
    if isinstance(test, Mapping):
        if not test or not set(test) <= {"min", "max"}:
            raise ConfigError(field, f"{dict(test)!r} is no test", f"use {FORMS}")
        ends = list(test.values())
    else:
        ends = list(test) if isinstance(test, list | tuple | set | frozenset) else [test]
    for value in ends:
        if value is None:
            raise ConfigError(field, "null is no value to look for", "items without a value never pass")
        if not isinstance(value, SCALARS) or (isinstance(value, float) and math.isnan(value)):
            raise ConfigError(field, f"{value!r} is no value to look for", f"use {FORMS}")
    if isinstance(test, Mapping) and len(ends) == 2:
        try:
            upside_down = test["min"] > test["max"]
        except TypeError:
            raise ConfigError(field, f"{dict(test)!r} has ends of two kinds", "use two of one kind") from None
        if upside_down:
            raise ConfigError(field, f"min {test['min']!r} is above max {test['max']!r}", "swap them")
    return None


def passing_values(column: pa.ChunkedArray, test: Any, field: str) -> NDArray[np.bool_]:
    """Which values of a column pass a test.

    Args:
        column: n values.
        test: in one of the forms.
        field: its place in the config, for errors.

    Returns:
        bool [n].

    Raises:
        ConfigError: the test asks for values of another type than the column's.
    """
    values = column.combine_chunks()
    if isinstance(values, pa.ChunkedArray):  # of no chunk at all
        values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    there = ~np.asarray(pc.is_null(values, nan_is_null=True).to_numpy(zero_copy_only=False), bool)
    some = values.filter(pa.array(there))
    out = np.zeros(len(values), bool)
    if len(some):
        out[there] = _passing(some, test, field)
    return out


def _passing(values: pa.Array, test: Any, field: str) -> NDArray[np.bool_]:
    """As `passing_values`, of values none of which is null."""
    if isinstance(test, Mapping) and "not" in test:
        return ~_passing(values, test["not"], field)
    if isinstance(test, Mapping):
        out = np.ones(len(values), bool)
        if "min" in test:
            out &= _compare(values, "min", test["min"], field)
        if "max" in test:
            out &= _compare(values, "max", test["max"], field)
        return out
    out = np.zeros(len(values), bool)
    for value in test if isinstance(test, list | tuple | set | frozenset) else [test]:
        out |= _compare(values, "equal", value, field)
    return out


ARROW_TESTS = {"equal": pc.equal, "min": pc.greater_equal, "max": pc.less_equal}
NUMPY_TESTS = {"equal": np.equal, "min": np.greater_equal, "max": np.less_equal}


def _compare(values: pa.Array, how: str, value: Any, field: str) -> NDArray[np.bool_]:
    """Which values equal `value`, are at least as large, or at most."""
    kind = values.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _wrong_type(field, kind, value, "a number")
        numbers = values.to_numpy(zero_copy_only=False)
        if pa.types.is_integer(kind) and isinstance(value, float) and math.isfinite(value):
            if how == "equal" and value != int(value):
                return np.zeros(len(values), bool)
            value = math.ceil(value) if how == "min" else math.floor(value)  # large integers are no floats
        return np.asarray(NUMPY_TESTS[how](numbers, value))
    if pa.types.is_boolean(kind):
        if not isinstance(value, bool) or how != "equal":
            raise _wrong_type(field, kind, value, "true or false, without an order")
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        if not isinstance(value, str):
            raise _wrong_type(field, kind, value, f'text, as "{value}"')
    elif not pa.types.is_temporal(kind) or not isinstance(value, str | date | time):
        raise _wrong_type(field, kind, value, "a date or a time" if pa.types.is_temporal(kind) else "another column")
    try:
        return np.asarray(ARROW_TESTS[how](values, pa.scalar(value).cast(kind)).to_numpy(zero_copy_only=False))
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise _wrong_type(field, kind, value, f"a value of that type ({error})") from None


def _wrong_type(field: str, kind: pa.DataType, value: Any, fix: str) -> ConfigError:
    return ConfigError(field, f"the column is {kind}, and cannot be compared with {value!r}", f"use {fix}")


# Functions of a partition.


def drop_where(partition: Partition, where: Mapping[str, Any], field: str) -> int:
    """Drop the available rows that do not pass every test.

    The columns are read once. Which items pass is held, a byte for each, until other tests are asked for. An owner
    passes if one of its parts does.

    Args:
        partition: whose rows.
        where: a test for each of these columns.
        field: its place in the config, for errors.

    Returns:
        How many rows were dropped.

    Raises:
        ConfigError: a test does not go with its column's type.
    """
    spelled = repr(sorted(where.items()))
    if partition.held.get(PASSING, ("",))[0] != spelled:
        partition.held[PASSING] = spelled, _rows_that_pass(partition, where, field)
    passing = partition.held[PASSING][1]
    if partition.owners is not None:
        passing = partition.owners.reduced(passing, np.logical_or)
    dropped = partition.available & ~passing
    partition.available &= ~dropped
    return int(dropped.sum())


def _rows_that_pass(partition: Partition, where: Mapping[str, Any], field: str) -> NDArray[np.bool_]:
    chunks, found = partition.spec.open_pool().chunks, [np.empty(0, bool)]
    for chunk, low, high in partition.slices:
        items = chunks[chunk].items(list(where)).slice(low, high - low)
        out = np.ones(high - low, bool)
        for column, test in where.items():
            out &= passing_values(items[column], test, f"{field}.{column}")
        found.append(out)
    return np.concatenate(found)
