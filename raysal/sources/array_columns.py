"""Keys and carried values of array files, and what is wrong with them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from raysal.arrow import ColumnKind
from raysal.arrow_values import array_of
from raysal.errors import BadItem, SourceError
from raysal.sources.dataset_choice import Chosen
from raysal.sources.datasets import ArrayFile, Block, Dataset, read_block, texts_of
from raysal.sources.vectors import carried_in, keys_in


def carried_of(file: ArrayFile, chosen: Chosen, start: int, stop: int) -> tuple[dict[str, Any], dict[int, str]]:
    """The columns of some rows, which are read at once.

    Args:
        file: the file.
        chosen: its datasets.
        start: first row.
        stop: row after the last one.

    Returns:
        {column: values to keep}, and {row from `start`: why a value means nothing}.
    """
    carried: dict[str, Any] = {}
    bad: dict[int, str] = {}
    for one in chosen.carry:
        block = read_block(file, one, start, stop)
        carried[one.name], lost = _column(one, block)
        bad |= {row: f"column {one.name!r}: {why}" for row, why in (lost | block.bad).items()}
    return carried, bad


def _column(dataset: Dataset, block: Block) -> tuple[pa.Array | list[Any], dict[int, str]]:
    """The values of a column to keep, and {row: why its value means nothing}. A null stands for what is not there."""
    lost: dict[int, str] = {}
    unusable = block.unusable
    if dataset.holds == "texts":
        found = []
        for row, value in enumerate(block.values):
            try:
                found.append(value.decode() if isinstance(value, bytes) else value)
            except UnicodeDecodeError:
                lost[row] = "not UTF-8"
                found.append(None)
        if not lost and not unusable:
            return array_of(found, pa.string()), lost
    elif dataset.classes:
        found = [dataset.classes.get(number) for number in block.values.tolist()]
        lost = {row: f"{block.values[row]} is no number of a class" for row, name in enumerate(found) if name is None}
    else:
        column = pa.array(block.values)
        if not unusable:
            return carried_in(ColumnKind(column.type), column), lost
        found = column.to_pylist()
    return [None if row in unusable else value for row, value in enumerate(found)], lost


def keys_of(file: ArrayFile, dataset: Dataset, start: int, stop: int) -> pa.Array:
    """Keys of some rows as text.

    Args:
        file: the file.
        dataset: the keys in it.
        start: first row.
        stop: row after the last one.

    Returns:
        `string` [stop - start].

    Raises:
        SourceError: one is missing or empty, or was not written.
    """
    block = read_block(file, dataset, start, stop)
    if unusable := block.unusable:
        row = min(unusable)
        problem, _, fix = unusable[row].partition("; ")
        raise SourceError(file.path, f"row {start + row}: the key in {dataset.name!r}: {problem}", fix)
    found = texts_of(block.values) if dataset.holds == "texts" else pa.array(block.values)
    return keys_in(ColumnKind(found.type), found, file.path, start)


def bad_of(key: str, why: str) -> BadItem:
    """An item that could not be read, of a reason as a `Block` has it."""
    problem, _, fix = why.partition("; ")
    return BadItem(key, problem, fix)
