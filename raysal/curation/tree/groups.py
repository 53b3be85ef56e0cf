"""Groups that items are given in: by the values of a column of the pool, and by the classes of predictions."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.arrow_values import numbers_of, taken
from raysal.errors import ConfigError, FingerprintMismatch
from raysal.pool import Pool
from raysal.prediction.files import Predictions

NONE = "(none)"
"""The name of the group of items without a value."""


class Groups(NamedTuple):
    """The groups of items."""

    group: NDArray[np.int64]
    """of each item [n]"""
    names: tuple[str, ...]
    """of the groups, in order of their values"""


def groups_of_column(pool: Pool, ids: NDArray[np.int64], column: str, bins: int) -> Groups:
    """Group items by a column of the pool.

    Each value is a group. Numbers of which there are more than `bins` different ones are cut into so many ranges of
    equal width. Items without a value, NaN included, are a group.

    Args:
        pool: the items.
        ids: which of them [n], ascending.
        column: its name.
        bins: ranges of numbers.

    Returns:
        Their groups. Memory: 8 bytes an item, and the distinct values.

    Raises:
        ConfigError: the values are lists, or the like.
        PoolError: the pool has no such column.
    """
    found = _grouped(pool.items(["id", column]), ids, column)
    numbers = [value for value in found.values if value is not None]
    if len(numbers) > bins and all(isinstance(value, int | float) and not isinstance(value, bool) for value in numbers):
        return _cut(found, bins)
    return found.named()


def groups_of_predictions(pool: Pool, ids: NDArray[np.int64], folder: Path) -> Groups:
    """Group items by the class that a head predicts for them.

    Args:
        pool: the items.
        ids: which of them [n], ascending.
        folder: of predictions, as `raysal predict` writes it.

    Returns:
        Their groups.

    Raises:
        ConfigError: the predictions are no classes.
        FingerprintMismatch: they are of another pool.
        PoolError: they are not finished.
        Damaged: a file is not as it was written.
    """
    predictions = predictions_of(pool, folder)
    return _grouped(predictions.tables(), ids, "class").named()


def predictions_of(pool: Pool, folder: Path) -> Predictions:
    """Open predictions of classes.

    Args:
        pool: that they must be of.
        folder: where they are.

    Returns:
        The predictions.

    Raises:
        ConfigError: they are no classes.
        FingerprintMismatch: they are of another pool.
        PoolError: they are not there, or not finished.
        Damaged: a file is not as it was written.
    """
    predictions = Predictions(folder)
    plan = predictions.plan
    if plan.pool != pool.fingerprint:
        fix = "predict this pool with `raysal predict`"
        raise FingerprintMismatch(folder, "the pool's fingerprint", plan.pool, pool.fingerprint, fix)
    if plan.link != "softmax":
        raise ConfigError(
            "predictions", f"{folder} holds no class for each item", "use predictions of a head of classes"
        )
    return predictions


class _Values(NamedTuple):
    group: NDArray[np.int64]
    """of each item [n]"""
    values: tuple[Any, ...]
    """of the groups, in order; None, for no value, is the last"""

    def named(self) -> Groups:
        return Groups(self.group, tuple(NONE if value is None else str(value) for value in self.values))


def _grouped(tables: Iterable[pa.Table], ids: NDArray[np.int64], column: str) -> _Values:
    """The values of a column of some items [n], n >= 1."""
    numbers: dict[Any, int] = {None: 0}
    group = np.zeros(len(ids), np.int64)
    for table in tables:
        own = numbers_of(table["id"])
        place = np.searchsorted(ids, own).clip(max=len(ids) - 1)
        there = np.flatnonzero(ids[place] == own)
        kind = table[column].type
        if pa.types.is_nested(kind):
            problem = f"the values of {column!r} are of the type {kind}"
            raise ConfigError("by", problem, "name a column with one text, number or date for each item")
        for piece in taken(table[column], there).chunks:
            encoded = piece if pa.types.is_dictionary(piece.type) else piece.dictionary_encode()
            known = [numbers.setdefault(_plain(value), len(numbers)) for value in encoded.dictionary.to_pylist()]
            codes = numbers_of(encoded.indices.fill_null(len(known)))
            rows, there = there[: len(piece)], there[len(piece) :]
            group[place[rows]] = np.array([*known, 0], np.int64)[codes]
    used = np.bincount(group, minlength=len(numbers))
    ordered = sorted((value for value, number in numbers.items() if used[number]), key=_place)
    renumbered = np.zeros(len(numbers), np.int64)
    renumbered[[numbers[value] for value in ordered]] = np.arange(len(ordered))
    return _Values(renumbered[group], tuple(ordered))


def _plain(value: Any) -> Any:
    """A value as a key: NaN is none."""
    return None if value != value else value


def _place(value: Any) -> tuple[bool, str, Any]:
    """Where a value stands: numbers by their size, before values of other types; none last."""
    number = isinstance(value, int | float)
    return value is None, "" if number else type(value).__name__, 0 if value is None else value


def _cut(found: _Values, bins: int) -> Groups:
    """Ranges of equal width of numbers of which some are finite."""
    numbers = np.array([value for value in found.values if value is not None], np.float64)
    finite = numbers[np.isfinite(numbers)]
    # Of halves: the difference of two floats may be more than one holds.
    edges = 2 * np.linspace(finite.min() / 2, finite.max() / 2, bins + 1)
    filled, of_value = np.unique(np.searchsorted(edges[1:-1], numbers, side="right"), return_inverse=True)
    names = [f"{edges[at]:g} to {edges[at + 1]:g}" for at in filled]
    if None in found.values:
        of_value, names = np.append(of_value, len(names)), [*names, NONE]
    return Groups(of_value[found.group], tuple(names))
