"""Class probabilities from outside, for the start of a run: read, matched with the items by key, and put in place.

A table has the column `key`, and a column of numbers for each class. It is a .csv, .tsv or .parquet file, or in Python
a frame. A folder of predictions (`raysal predict POOL --out FOLDER --top all`), of this pool or another one with the
same keys, will do too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raysal.arrays import Column, columns_of, texts_of
from raysal.context import RoundContext
from raysal.errors import ConfigError
from raysal.fleet import Fleet
from raysal.messages import brief
from raysal.paths import with_home
from raysal.pool import Pool
from raysal.scoring.given_probabilities import GivenProbabilities, place_given
from raysal.strategies.base import Selector
from raysal.tables import DELIMITERS, KINDS

FIELD = "probabilities"
"""The argument, option and config field, for errors."""
LARGEST_ERROR = 1e-3
"""How far the probabilities of an item may be from adding up to 1."""
SHOWN = 5
"""Keys that an error names."""
COLUMNS = "the columns are key, and for each class its probability"


class Table(NamedTuple):
    """Probabilities by key."""

    keys: pa.Array
    """[n] text"""
    classes: tuple[str, ...]
    values: NDArray[np.float64]
    """[n, C]"""


def read_probabilities(pool: Pool, given: Any) -> GivenProbabilities:
    """Read class probabilities, and match them with the items of a pool by key.

    One streaming pass over the items. Memory: the table, and 8 + 4 C bytes for each of its rows.

    Args:
        pool: whose items the keys name.
        given: a file, a folder of predictions, or a frame: of pandas, Polars or Arrow, or a mapping of columns.

    Returns:
        The probabilities by id. Items of the pool may lack some; `place` names them.

    Raises:
        ConfigError: it cannot be read; a key is missing, twice or not in the pool; or the numbers of an item are no
            probabilities. It names the items.
        PoolError, Damaged: a folder holds no predictions, or damaged ones.
    """
    if isinstance(given, str | Path):
        path = with_home(given)
        table = _of_folder(path) if path.is_dir() else _of_file(path)
    elif (columns := columns_of(FIELD, given)) is not None:
        table = _of_frame(columns)
    else:
        raise ConfigError(FIELD, f"{type(given).__name__} is no table", f"pass a file or a frame; {COLUMNS}")
    _check(table)
    ids = _ids_of(pool, table.keys)
    order = np.argsort(ids)
    ids, values = ids[order], table.values[order].astype(np.float32)
    digest = hashlib.sha256("\x1f".join(table.classes).encode("utf-8", "surrogatepass"))
    digest.update(ids.astype("<i8").tobytes())
    digest.update(values.astype("<f4").tobytes())
    return GivenProbabilities(ids=ids, values=values, classes=table.classes, digest=digest.hexdigest())


def place(fleet: Fleet, context: RoundContext) -> None:
    """Put the probabilities that count beside the data: none where there is a head. One round trip.

    Args:
        fleet: the pool's partitions, in a program from which what must not be offered was taken out.
        context: what the round knows.

    Raises:
        ConfigError: an item that may be offered has none; it names the first ones.
    """
    if context.given is None or context.head is not None:
        return
    lacking = fleet.each(place_given, context.given)
    if total := sum(part.total for part in lacking):
        ids = np.concatenate([part.ids for part in lacking])[:SHOWN].tolist()
        keys = context.pool.rows_where("id", ids, ["key"])["key"].to_pylist()
        items = "1 item that may be offered has" if total == 1 else f"{total:,} items that may be offered have"
        raise ConfigError(FIELD, f"{items} none: {_some(keys, total)}", "give a row for every item of the pool")


def check_strategy(name: str, selector: Selector) -> None:
    """Refuse probabilities for a strategy that cannot go by them.

    Args:
        name: what the strategy is called.
        selector: carries it out.

    Raises:
        ConfigError: it cannot.
    """
    if not selector.takes_probabilities:
        fix = "use one that can, as margin or class_balanced:typiclust (alone it is class_balanced:badge)"
        raise ConfigError(FIELD, f"the strategy {name!r} cannot go by them", fix)


def _of_file(path: Path) -> Table:
    """The table in a file."""
    kind = KINDS.get(path.suffix.lower())
    import pyarrow.csv as pa_csv  # with what it imports as long as to open a pool

    try:
        if kind == "parquet":
            found = pq.ParquetFile(path).read()
        elif kind in DELIMITERS:
            text = pa_csv.ConvertOptions(column_types={"key": pa.string()})
            found = pa_csv.read_csv(path, None, pa_csv.ParseOptions(delimiter=DELIMITERS[kind]), text)
        else:
            raise ConfigError(FIELD, f"{path}: unknown extension {path.suffix!r}", "pass .csv, .tsv or .parquet")
    except FileNotFoundError:
        raise ConfigError(FIELD, f"{path}: no such file or folder", "check the path") from None
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(FIELD, f"{path}: cannot be read ({brief(error)})", COLUMNS) from None
    return _of_frame(columns_of(FIELD, found) or {})


def _of_folder(path: Path) -> Table:
    """The table in a folder of predictions."""
    from raysal.prediction.files import Predictions

    predictions = Predictions(path)
    if predictions.plan.link != "softmax" or predictions.plan.options.get("top") != "all":
        problem = f"{path} does not hold the probabilities of all classes of one"
        raise ConfigError(FIELD, problem, "predict with --top all, by a head for one class of several")
    found = predictions.table()
    classes = predictions.plan.classes
    flat = found["probabilities"].combine_chunks().flatten().to_numpy()
    return Table(found["key"].combine_chunks(), classes, flat.astype(np.float64).reshape(-1, len(classes)))


def _of_frame(columns: Mapping[str, Column]) -> Table:
    """The table in columns by name."""
    classes = tuple(name for name in columns if name != "key")
    if "key" not in columns or not classes:
        listed = ", ".join(columns) or "none"
        raise ConfigError(FIELD, f"there is no column key, or none beside it (columns: {listed})", COLUMNS)
    values = [_numbers(name, columns[name]) for name in classes]
    return Table(pa.array(texts_of(f"{FIELD}.key", columns["key"]), pa.string()), classes, np.column_stack(values))


def _numbers(name: str, column: Column) -> NDArray[np.float64]:
    """A column as numbers; NaN where one is missing."""
    try:
        return np.array(column.rows(), np.float64).reshape(len(column))
    except (TypeError, ValueError):
        problem = f"the column {name!r} holds something else than numbers"
        raise ConfigError(FIELD, problem, f"leave it out; {COLUMNS}") from None


def _check(table: Table) -> None:
    """Refuse keys that are there twice, and numbers that are no probabilities."""
    counts = table.keys.value_counts()
    twice = counts.field("values").filter(pa.array(counts.field("counts").to_numpy() > 1)).to_pylist()
    if twice:
        raise ConfigError(FIELD, f"keys with several rows: {_some(twice)}", "keep one row for each item")
    with np.errstate(invalid="ignore"):
        fine = (table.values >= 0).all(1) & (np.abs(table.values.sum(1) - 1) <= LARGEST_ERROR)
    if not fine.all():
        row = int(fine.argmin())
        if np.isnan(table.values[row]).any():
            problem = f"the row of {table.keys[row].as_py()!r} has no number for a class"
            raise ConfigError(FIELD, problem, "give a number from 0 for every class")
        problem = f"those of {table.keys[row].as_py()!r} add up to {table.values[row].sum():.6g}, or one is below 0"
        raise ConfigError(FIELD, problem, "give numbers from 0 that add up to 1: a softmax, not logits")


def _ids_of(pool: Pool, keys: pa.Array) -> NDArray[np.int64]:
    """The ids of items by key, [n]. One streaming pass over the items."""
    import pyarrow.compute as pc

    ids = np.full(len(keys), -1, np.int64)
    for items in pool.items(["id", "key"]):
        found = pc.index_in(items["key"].combine_chunks().cast(pa.string()), value_set=keys)
        there = found.is_valid().to_numpy(zero_copy_only=False)
        ids[found.drop_null().to_numpy()] = items["id"].to_numpy()[there]
    if (ids < 0).any():
        missing = keys.filter(pa.array(ids < 0)).to_pylist()
        from raysal.pool.absent import words_of_absent

        problem, fix = words_of_absent(pool, missing)
        raise ConfigError(FIELD, f"{pool.path}: {problem}", f"leave them out; {fix}")
    return ids


def _some(keys: Sequence[str], total: int | None = None) -> str:
    """The first few keys, and how many there are in all."""
    total = len(keys) if total is None else total
    more = f" and {total - SHOWN:,} more" if total > SHOWN else ""
    return ", ".join(repr(key) for key in keys[:SHOWN]) + more
