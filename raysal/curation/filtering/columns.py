"""Which items do not pass tests of columns, and for what reason; and which have the lowest or highest values of one.

The tests are those of `raysal.narrowing.predicates`. Columns are read chunk by chunk in the driver, once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysal.curation.sizes import whole_share
from raysal.embedding.measures import MEASURES
from raysal.errors import ConfigError
from raysal.narrowing.predicates import passing_values
from raysal.pool import Pool

PASSES = -1
"""In place of a reason."""


class Reason(NamedTuple):
    """One way in which an item does not pass."""

    column: str
    test: Any
    """None where the value is missing"""
    words: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Columns:
    """What columns say of n items of a pool, in order of id."""

    reason: NDArray[np.int16]
    """[n] the position of the first reason that an item does not pass for, or `PASSES`"""
    value: NDArray[np.float64]
    """[n] its value there; NaN where it passes, or that is no number"""
    like: NDArray[np.bool_]
    """[n] whether it passes the tests of a reference"""
    numbers: Mapping[str, NDArray[np.float64]]
    """{column: [n]} of those whose lowest or highest values are wanted; NaN where there is none"""


def reasons_of(where: Mapping[str, Any], *, keep_missing: bool) -> list[Reason]:
    """The reasons for which an item can be dropped, in the order in which they are looked at.

    Args:
        where: a test for each of some columns.
        keep_missing: whether an item without a value passes.

    Returns:
        One or more for each column.
    """
    found: list[Reason] = []
    for column, test in where.items():
        if not keep_missing:
            found.append(Reason(column, None, f"{column} is missing"))
        found += [Reason(column, part, f"{column} {words}") for part, words in _parts(test)]
    return found


def _parts(test: Any) -> Iterator[tuple[Any, str]]:
    """The parts of a test, all of which are to be passed, and what is said of a value that does not pass one."""
    if isinstance(test, Mapping) and "not" in test:
        yield test, f"is {_spelled(test['not'])}"
    elif isinstance(test, Mapping):
        for end, words in (("min", "is below"), ("max", "is above")):
            if end in test:
                yield {end: test[end]}, f"{words} {test[end]}"
    else:
        yield test, f"is not {_spelled(test)}"


def _spelled(test: Any) -> str:
    if isinstance(test, Mapping) and "not" in test:
        return f"other than {_spelled(test['not'])}"
    if isinstance(test, Mapping):
        return " and ".join(f"{'at least' if end == 'min' else 'at most'} {value}" for end, value in test.items())
    values = list(test) if isinstance(test, list | tuple | set | frozenset) else [test]
    return " or ".join(map(str, values))


def check_columns(pool: Pool, field: str, names: Iterable[str], *, numbers: bool = False) -> None:
    """Refuse columns that a pool does not have.

    Args:
        pool: the items.
        field: the place of the columns in the config, for errors.
        names: of the columns.
        numbers: whether they must hold numbers.

    Raises:
        ConfigError: one is not there, or holds something else.
    """
    there = pool.columns
    for name in names:
        place = f"{field}.{name}"
        if name not in there:
            fix = f"its columns: {', '.join(there)}"
            if name in MEASURES:
                fix = f"embed the source into another pool with --measure {name}; {fix}"
            raise ConfigError(place, "the pool has no such column", fix)
        if numbers:
            kinds = (table[name].type for table in pool.items([name]))  # a chunk may have no value at all
            kind = next((one for one in kinds if not pa.types.is_null(one)), pa.null())
            if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)):
                raise ConfigError(place, f"the column is {kind}, and no share of it is lowest", "name one of numbers")


def check_types(pool: Pool, field: str, where: Mapping[str, Any]) -> None:
    """Refuse tests of another type than that of their columns, by the first items of the pool.

    Args:
        pool: the items; it has the columns.
        field: the place of the tests in the config, for errors.
        where: a test for each of these columns.

    Raises:
        ConfigError: a test asks for values of another type.
    """
    if where and (first := next((table for table in pool.items(list(where)) if len(table)), None)) is not None:
        for column, test in where.items():
            passing_values(first[column], test, f"{field}.{column}")


def read_columns(
    pool: Pool,
    reasons: Sequence[Reason],
    like: Mapping[str, Any],
    numbers: Iterable[str],
    place: str,
) -> Columns:
    """Read what is needed of the columns of a pool. Memory: 11 bytes an item, and 8 for each column of numbers.

    Args:
        pool: the items.
        reasons: for which items are dropped; none twice.
        like: a test for each of some columns; an item is of the reference if it passes all.
        numbers: columns whose values are wanted.
        place: of the tests in the config, for errors.

    Returns:
        What they say.

    Raises:
        ConfigError: a test asks for values of another type than the column's.
    """
    wanted = list(dict.fromkeys(numbers))
    names = list(dict.fromkeys([*(one.column for one in reasons), *like, *wanted])) or ["id"]
    tables = [_read(table, reasons, like, wanted, place) for table in pool.items(names)]
    return Columns(
        reason=np.concatenate([np.empty(0, np.int16), *(one.reason for one in tables)]),
        value=np.concatenate([np.empty(0), *(one.value for one in tables)]),
        like=np.concatenate([np.empty(0, bool), *(one.like for one in tables)]),
        numbers={name: np.concatenate([np.empty(0), *(one.numbers[name] for one in tables)]) for name in wanted},
    )


def _read(
    table: pa.Table, reasons: Sequence[Reason], like: Mapping[str, Any], numbers: Sequence[str], place: str
) -> Columns:
    n = len(table)
    reason, value, passes = np.full(n, PASSES, np.int16), np.full(n, np.nan), np.ones(n, bool)
    for at, (column, test, _) in enumerate(reasons):
        missing = np.asarray(pc.is_null(table[column], nan_is_null=True).to_numpy(), bool)
        fails = missing if test is None else ~missing & ~passing_values(table[column], test, f"{place}.where.{column}")
        fails &= reason == PASSES
        reason[fails] = at
        if fails.any() and test is not None:
            value[fails] = numbers_of_column(table[column])[fails]
    for column, test in like.items():
        passes &= passing_values(table[column], test, f"{place}.like.{column}")
    return Columns(
        reason=reason, value=value, like=passes, numbers={name: numbers_of_column(table[name]) for name in numbers}
    )


def numbers_of_column(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """The values of a column as numbers; NaN where they are none."""
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        return np.full(len(column), np.nan)
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), np.float64)


def beyond(values: NDArray[np.float64], share: float, *, lowest: bool) -> NDArray[np.bool_]:
    """Which of n values are among the floor(share * n) lowest, or highest, ones.

    Those that tie with the last one to stay, stay. NaN is no value: it is not counted, and not among them.

    Args:
        values: [m].
        share: in (0, 1).
        lowest: which end.

    Returns:
        bool [m].
    """
    there = values[~np.isnan(values)]
    if not len(there):
        return np.zeros(len(values), bool)
    signed = there if lowest else -there
    last = np.partition(signed, count := whole_share(share, len(there)))[count]
    return np.asarray(values < last if lowest else values > -last)
