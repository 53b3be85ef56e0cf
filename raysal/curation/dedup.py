"""The step that finds near-duplicates: near pairs of a pool, who is kept, and a table that says so of every item."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.arrow_values import array_of
from raysal.curation.near.folder import read_pairs
from raysal.curation.near.job import find_near_pairs
from raysal.curation.near.keeping import Kept, kept_of
from raysal.errors import ConfigError
from raysal.fleet import Fleet
from raysal.narrowing.duplicates import duplicate_similarity
from raysal.pool import Pool
from raysal.store import Written, write_output
from raysal.tables import EXTENSIONS, KINDS, write_tables
from raysal.types import POOL_COLUMNS, Report

FOLDER = "near"
"""Of the near pairs, in the directory of the pool. It is derived: lost, it is made again."""
THRESHOLD = 0.95
Rows = Literal["all", "kept", "dropped"]
Prefer = Literal["largest", "smallest"]


@dataclass(frozen=True, kw_only=True)
class NearDuplicates:
    """What became of the items of a pool."""

    pool: Pool
    threshold: float
    """as it was asked for: a cosine, or a distance of given vectors"""
    found: Kept
    pairs: int
    """near pairs between unlike vectors, at the threshold that pairs were looked for"""
    compared: int
    """pairs of units that had to be compared; 0 where all pairs were there"""
    seconds: float

    def __len__(self) -> int:
        return len(self.found.ids)

    @property
    def kept(self) -> int:
        """How many items are kept."""
        return int(self.found.kept.sum())

    @property
    def dropped(self) -> int:
        """How many are near-duplicates of a kept one."""
        return len(self) - self.kept

    @property
    def groups(self) -> int:
        """How many kept items have near-duplicates that were dropped."""
        return len(np.unique(self.found.nearest[~self.found.kept]))

    def table(self, rows: Rows = "all") -> pa.Table:
        """One row for each item, in order of id.

        Args:
            rows: of `all` items, or of those that are `kept` or `dropped`.

        Returns:
            The columns `key`, `kept`, `group` (the id of the kept item that is nearest, its own for a kept one),
            `nearest_kept` (its key), and `similarity` to it; in a pool of the metric l2 `distance`, of vectors as they
            were given.
        """
        keys = pa.concat_arrays([pa.array([], pa.string()), *_keys(self.pool)])
        place = np.searchsorted(self.found.ids, self.found.nearest)
        value = self.found.similarity
        if self.pool.metric == "l2":
            value = np.sqrt(np.maximum(-value, 0)) / self.pool.scale
        table = pa.table(
            {
                "key": keys,
                "kept": pa.array(self.found.kept),
                "group": array_of(self.found.nearest, pa.int64()),
                "nearest_kept": keys.take(pa.array(place)),
                "similarity" if self.pool.metric == "cosine" else "distance": array_of(value, pa.float64()),
            }
        )
        return table if rows == "all" else table.filter(pa.array(self.found.kept == (rows == "kept")))

    def write(self, out: str | Path, rows: Rows = "all", *, overwrite: bool = False) -> Written:
        """Write the table into a file.

        Args:
            out: the file, with an extension of `raysal.tables.KINDS`.
            rows: as for `table`.
            overwrite: replace the file that is there; it is kept as `NAME.1`, `NAME.2` ...

        Returns:
            What became of the file that was there.

        Raises:
            ConfigError: the file has another extension.
            OutputExists: another file is there, and `overwrite` is false.
            OSError: it cannot be written; nothing is left there.
        """
        out = Path(out)
        if (kind := KINDS.get(out.suffix.lower())) is None:
            raise ConfigError(out, f"unknown extension {out.suffix!r}", f"use {EXTENSIONS}")
        table = self.table(rows)
        return write_output(out, lambda path: write_tables(path, kind, table.schema, [table]), overwrite=overwrite)


def find_near_duplicates(
    pool: Pool,
    fleet: Fleet,
    threshold: float = THRESHOLD,
    *,
    keep: str | None = None,
    prefer: Prefer = "largest",
    folder: Path | None = None,
    unit_rows: int | None = None,
    report: Report | None = None,
) -> NearDuplicates:
    """Find the near-duplicates of a pool, and choose who is kept.

    No two kept items are near, and every dropped item is near a kept one. Items are gone through in an order, and one
    is kept if it is near to none that is kept before it. The result is the same for any partitions and chunks.

    Cost: `find_near_pairs`; for a higher threshold than before, some seconds a million pairs.
    Memory: 100 bytes an item, and 24 for each near pair.

    Args:
        pool: the items.
        fleet: is over that pool.
        threshold: from which similarity on two items are near: a cosine, or in a pool of the metric l2 the distance up
            to which they are, of vectors as they were given.
        keep: a column of the pool that says who is kept; by default the order of the pool. Items without a value come
            last, and among equal ones the first of the pool is kept.
        prefer: whether items with the `largest` or the `smallest` value of the column are kept.
        folder: where pairs are kept for later calls; by default in the pool.
        unit_rows: rows of a unit; for tests.
        report: called with the stage, what of it is done, and its total.

    Returns:
        What became of each item.

    Raises:
        ConfigError: the threshold is none, or so low that too many pairs are near; or the column has no order.
        PoolError: the pool has no such column.
        RunError: another process looks for the pairs of the pool.
        Damaged: a file is not as it was written.
    """
    started = time.perf_counter()
    similarity = check_threshold(threshold, pool)
    order = order_of(pool, keep, prefer)
    folder = pool.path / FOLDER if folder is None else folder
    done = find_near_pairs(pool, fleet, folder, similarity, unit_rows=unit_rows, report=report)
    ids = np.concatenate([np.empty(0, np.int64), *(chunk.ids() for chunk in pool.chunks)])
    same = 1.0 if pool.metric == "cosine" else 0.0
    found = kept_of(ids, order, read_pairs(folder, done.plan, similarity), same)
    return NearDuplicates(
        pool=pool,
        threshold=threshold,
        found=found,
        pairs=done.pairs,
        compared=done.found,
        seconds=time.perf_counter() - started,
    )


def check_threshold(threshold: float, pool: Pool) -> float:
    """Check a threshold.

    Args:
        threshold: as it was asked for.
        pool: says what it is.

    Returns:
        The similarity (`raysal.scoring.similarity`) that it names.

    Raises:
        ConfigError: it is no cosine above 0 and up to 1, or no distance.
    """
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not math.isfinite(threshold):
        raise ConfigError("threshold", f"{threshold!r} is no number", "use a cosine, as 0.95")
    if pool.metric == "l2" and threshold < 0:
        raise ConfigError("threshold", f"{threshold:g} is no distance", "use 0 or more: this pool's metric is l2")
    return duplicate_similarity(threshold, pool.metric, "threshold", pool.scale)


def order_of(pool: Pool, keep: str | None, prefer: Prefer) -> NDArray[np.int64]:
    """Put the items of a pool in the order in which they are kept.

    Args:
        pool: the items.
        keep: a column; None for the order of the pool.
        prefer: which of its values come first. Missing ones, and NaN, come last.

    Returns:
        The positions of the items in the pool, [n].

    Raises:
        ConfigError: values of the column have no order.
        PoolError: the pool has no such column.
    """
    if keep is None:
        return np.arange(len(pool))
    import pyarrow.compute as pc

    if prefer not in ("largest", "smallest"):
        raise ConfigError("prefer", f"unknown value {prefer!r}", "use largest or smallest")
    column = pa.chunked_array([piece for table in pool.items([keep]) for piece in table[keep].chunks])
    try:
        if pa.types.is_floating(column.type):
            column = pc.if_else(pc.is_nan(column), None, column)
        table = pa.table({"missing": pc.is_null(column), "value": column, "row": np.arange(len(column))})
        how = "descending" if prefer == "largest" else "ascending"
        sorted_rows = pc.sort_indices(table, [("missing", "ascending"), ("value", how), ("row", "ascending")])
    except pa.ArrowException as error:
        known = ", ".join(name for name in pool.columns if name not in POOL_COLUMNS)
        problem = f"the values of the column {keep!r} ({column.type}) have no order"
        raise ConfigError("keep", problem, f"name a column of numbers, dates or texts; there are: {known}") from error
    return np.asarray(sorted_rows.to_numpy(), np.int64)


def _keys(pool: Pool) -> list[pa.Array]:
    return [piece.cast(pa.string()) for table in pool.items(["key"]) for piece in table["key"].chunks]
