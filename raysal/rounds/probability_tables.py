"""Tables of class probabilities, read piece by piece.

A table has the column `key`, and a column of numbers for each class. It is a .csv, .tsv or .parquet file, or in Python
a frame. A folder of predictions (`raysal predict POOL --out FOLDER --top all`), of this pool or another one with the
same keys, will do too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raysal.arrays import Column, columns_of, texts_of
from raysal.errors import ConfigError
from raysal.messages import brief
from raysal.paths import with_home
from raysal.tables import DELIMITERS, KINDS

FIELD = "probabilities"
"""The argument, option and config field, for errors."""
LARGEST_ERROR = 1e-3
"""How far the probabilities of an item may be from adding up to 1."""
SHOWN = 5
"""Keys that an error names."""
COLUMNS = "the columns are key, and for each class its probability"
PIECE_ROWS = 2**14
"""Rows of a Parquet file that are read at a time."""
BUFFER = 2**16
"""Bytes of each column of a Parquet file that are read ahead."""
T = TypeVar("T")


class Piece(NamedTuple):
    """Some rows of a table."""

    keys: pa.Array
    """[n] text"""
    values: NDArray[np.float64]
    """[n, C]"""


class ProbabilityTable(NamedTuple):
    """A table that is open."""

    classes: tuple[str, ...]
    """[C]"""
    pieces: Iterator[Piece]
    """all rows, in order; each piece is checked as `open_table` says"""


def open_table(given: Any) -> ProbabilityTable:
    """Open a table of class probabilities. Memory for a piece of it: a frame, a chunk of predictions, or some rows.

    Args:
        given: a file, a folder of predictions, or a frame: of pandas, Polars or Arrow, or a mapping of columns.

    Returns:
        Its classes, and its rows.

    Raises:
        ConfigError: it cannot be read, or has no such columns. Of a piece: the numbers of an item are no probabilities.
        PoolError, Damaged: a folder holds no predictions, or damaged ones.
    """
    if isinstance(given, str | Path):
        path = with_home(given)
        classes, pieces = _of_folder(path) if path.is_dir() else _of_file(path)
    elif (columns := columns_of(FIELD, given)) is not None:
        classes, pieces = _of_frame(columns)
    else:
        raise ConfigError(FIELD, f"{type(given).__name__} is no table", f"pass a file or a frame; {COLUMNS}")
    return ProbabilityTable(classes, map(_checked, pieces))


def refuse_twice(keys: Sequence[str]) -> None:
    """Refuse a table that has several rows of one key.

    Args:
        keys: those with several rows; none is fine.

    Raises:
        ConfigError: there is one.
    """
    if keys:
        raise ConfigError(FIELD, f"keys with several rows: {some(keys)}", "keep one row for each item")


def refuse_absent(pool: Any, keys: Sequence[str]) -> None:
    """Refuse a table with keys that a pool does not have.

    Args:
        pool: whose items the keys should name.
        keys: those that it does not have; none is fine.

    Raises:
        ConfigError: there is one.
    """
    if keys:
        from raysal.pool.absent import words_of_absent

        problem, fix = words_of_absent(pool, keys)
        raise ConfigError(FIELD, f"{pool.path}: {problem}", f"leave them out; {fix}")


def some(keys: Sequence[str], total: int | None = None) -> str:
    """The first few keys, and how many there are in all."""
    total = len(keys) if total is None else total
    more = f" and {total - SHOWN:,} more" if total > SHOWN else ""
    return ", ".join(repr(key) for key in keys[:SHOWN]) + more


def _of_file(path: Path) -> tuple[tuple[str, ...], Iterator[Piece]]:
    """The table in a file."""
    kind = KINDS.get(path.suffix.lower())
    if kind != "parquet" and kind not in DELIMITERS:
        raise ConfigError(FIELD, f"{path}: unknown extension {path.suffix!r}", "pass .csv, .tsv or .parquet")
    opened = _opened(path, lambda: _of_parquet(path) if kind == "parquet" else _of_lines(path, DELIMITERS[kind]))
    classes = _classes(opened.names)

    def pieces() -> Iterator[Piece]:
        tables = _opened(path, opened.tables, opened.names)
        while (table := _opened(path, lambda: next(tables, None), opened.names)) is not None:
            yield _of_arrow(table, classes)

    return classes, pieces()


class _File(NamedTuple):
    names: list[str]
    tables: Callable[[], Iterator[pa.Table]]


def _of_parquet(path: Path) -> _File:
    file = pq.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False)  # never a whole group of rows
    return _File(file.schema_arrow.names, lambda: (pa.table(batch) for batch in file.iter_batches(PIECE_ROWS)))


def _of_lines(path: Path, delimiter: str) -> _File:
    import pyarrow.csv as pa_csv  # with what it imports as long as to open a pool

    parse = pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    with pa_csv.open_csv(path, parse_options=parse) as first:
        names = first.schema.names
    # Types are said: those of later lines need not be those of the first ones, as 0.5 after 1.
    types = {name: pa.string() if name == "key" else pa.float64() for name in names}
    convert = pa_csv.ConvertOptions(column_types=types)
    return _File(names, lambda: map(pa.table, pa_csv.open_csv(path, parse_options=parse, convert_options=convert)))


def _opened(path: Path, read: Callable[[], T], names: Sequence[str] = ()) -> T:
    """What reads of a file, with errors for people."""
    try:
        return read()
    except FileNotFoundError:
        raise ConfigError(FIELD, f"{path}: no such file or folder", "check the path") from None
    except (OSError, pa.ArrowException) as error:
        if (place := re.search(r"CSV column #(\d+): (Row #\d+: )?CSV conversion error", str(error))) is not None:
            raise _no_numbers(names[int(place[1])]) from None
        raise ConfigError(FIELD, f"{path}: cannot be read ({brief(error)})", COLUMNS) from None


def _of_folder(path: Path) -> tuple[tuple[str, ...], Iterator[Piece]]:
    """The table in a folder of predictions."""
    from raysal.prediction.files import Predictions

    predictions = Predictions(path)
    if predictions.plan.link != "softmax" or predictions.plan.options.get("top") != "all":
        problem = f"{path} does not hold the probabilities of all classes of one"
        raise ConfigError(FIELD, problem, "predict with --top all, by a head for one class of several")
    classes = predictions.plan.classes

    def pieces() -> Iterator[Piece]:
        for table in predictions.tables():
            flat = table["probabilities"].combine_chunks().flatten().to_numpy()
            yield Piece(_keys(table["key"]), flat.astype(np.float64).reshape(-1, len(classes)))

    return classes, pieces()


def _of_frame(columns: Mapping[str, Column]) -> tuple[tuple[str, ...], Iterator[Piece]]:
    """The table in columns by name."""
    classes = _classes(list(columns))
    values = [_numbers(name, columns[name]) for name in classes]
    keys = pa.array(texts_of(f"{FIELD}.key", columns["key"]), pa.string())
    return classes, iter([Piece(keys, np.column_stack(values))])


def _of_arrow(table: pa.Table, classes: Sequence[str]) -> Piece:
    values = np.empty((table.num_rows, len(classes)))
    for place, name in enumerate(classes):
        try:
            values[:, place] = table[name].cast(pa.float64()).to_numpy()
        except (pa.ArrowException, ValueError):
            raise _no_numbers(name) from None
    return Piece(_keys(table["key"]), values)


def _keys(column: pa.ChunkedArray) -> pa.Array:
    if column.null_count or not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return pa.array(texts_of(f"{FIELD}.key", column), pa.string())
    whole = column.cast(pa.string()).combine_chunks()
    return pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole


def _classes(names: Sequence[str]) -> tuple[str, ...]:
    """The names of classes among those of columns."""
    if len(set(names)) < len(names):
        raise ConfigError(FIELD, f"two columns have the same name: {', '.join(names)}", "rename one")
    classes = tuple(name for name in names if name != "key")
    if len(classes) == len(names) or not classes:
        listed = ", ".join(names) or "none"
        raise ConfigError(FIELD, f"there is no column key, or none beside it (columns: {listed})", COLUMNS)
    return classes


def _numbers(name: str, column: Column) -> NDArray[np.float64]:
    """A column as numbers; NaN where one is missing."""
    try:
        return np.array(column.rows(), np.float64).reshape(len(column))
    except (TypeError, ValueError):
        raise _no_numbers(name) from None


def _no_numbers(name: str) -> ConfigError:
    problem = f"the column {name!r} holds something else than numbers"
    return ConfigError(FIELD, problem, f"mend them if it is of a class, else leave it out; {COLUMNS}")


def _checked(piece: Piece) -> Piece:
    """Refuse numbers that are no probabilities."""
    with np.errstate(invalid="ignore"):
        total = piece.values.sum(1)
        fine = (piece.values >= 0).all(1) & (np.abs(total - 1) <= LARGEST_ERROR)
    if not fine.all():
        row = int(fine.argmin())
        key = piece.keys[row].as_py()
        if np.isnan(piece.values[row]).any():
            raise ConfigError(
                FIELD, f"the row of {key!r} has no number for a class", "give a number from 0 for every class"
            )
        problem = f"those of {key!r} add up to {total[row]:.6g}, or one is below 0"
        raise ConfigError(FIELD, problem, "give numbers from 0 that add up to 1: a softmax, not logits")
    return piece
