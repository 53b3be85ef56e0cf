"""Near-duplicates of a whole pool: who is kept, and a table that says so of every item."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.arrow_values import array_of
from raysal.curation.equal import find_equal
from raysal.curation.near.against import check_against, find_near_to_other
from raysal.curation.near.clusters import kept_in_clusters
from raysal.curation.near.folder import read_pairs
from raysal.curation.near.job import find_near_pairs
from raysal.curation.near.keeping import Kept, kept_of
from raysal.curation.near.nearest import Nearest
from raysal.curation.near.pairs import TooManyPairs
from raysal.curation.near.recall import Recall, recall_of
from raysal.curation.near.sieve import kept_without_pairs
from raysal.curation.order import Prefer, check_threshold, order_of
from raysal.errors import ConfigError
from raysal.fleet import Fleet
from raysal.numerics import slices
from raysal.pool import Pool
from raysal.store import Written
from raysal.tables import write_table_file
from raysal.types import Report

FOLDER = "near"
"""Of the near pairs, in the directory of the pool. It is derived: lost, it is made again."""
SIEVE = "sieve"
"""Of what was found without pairs, in that folder."""
THRESHOLD = 0.95
ROWS_AT_ONCE = 2**17
"""Rows of a table that are made and written together."""
MODES = ("exact", "clusters")
Mode = Literal["exact", "clusters"]
Rows = Literal["all", "kept", "dropped"]


@dataclass(frozen=True, kw_only=True)
class NearDuplicates:
    """What became of the items of a pool."""

    pool: Pool
    threshold: float | None
    """as it was asked for: a cosine, or a distance of given vectors; None where equal items were looked for"""
    found: Kept
    """of the items that are not near to one of the other pool"""
    against: Pool | None = None
    """the other pool"""
    to_other: Nearest = field(default_factory=lambda: Nearest.joined([]))
    """those that are near to one of it; `nearest` are its ids"""
    listed: bool = True
    """whether near pairs were listed; if not, another threshold compares again"""
    pairs: int = 0
    """near pairs between unlike vectors, at the threshold that pairs were looked for"""
    compared: int = 0
    """pairs of units that had to be compared; 0 where all pairs were there, or none were listed"""
    recall: Recall | None = None
    """what the mode `clusters` found of what is near"""
    notes: tuple[str, ...] = ()
    """what was not looked at, and why"""
    seconds: float

    def __len__(self) -> int:
        return len(self.found.ids) + len(self.to_other.ids)

    @property
    def kept(self) -> int:
        """How many items are kept."""
        return int(self.found.kept.sum())

    @property
    def dropped(self) -> int:
        """How many are near-duplicates of a kept one, or near to an item of the other pool."""
        return len(self) - self.kept

    @property
    def near_other(self) -> int:
        """How many are near to an item of the other pool."""
        return len(self.to_other.ids)

    @property
    def groups(self) -> int:
        """How many kept items have near-duplicates that were dropped, those of the other pool included."""
        return len(self.group_sizes())

    def group_sizes(self) -> NDArray[np.int64]:
        """How many items each group has, its kept item of this pool included; of one with at least one dropped."""
        dropped = self.found.nearest[~self.found.kept]
        own = np.unique(dropped, return_counts=True)[1] + 1
        return np.concatenate([own, np.unique(self.to_other.nearest, return_counts=True)[1]])

    def listed_other(self) -> pa.Table | None:
        """Of the items that are near to one of the other pool its key: the columns `id` and `near_to`."""
        if self.against is None:
            return None
        named = self.against.keys_of(np.unique(self.to_other.nearest)) if self.near_other else {}
        keys = [named[number] for number in self.to_other.nearest.tolist()]
        return pa.table({"id": array_of(self.to_other.ids, pa.int64()), "near_to": pa.array(keys, pa.string())})

    def table(self, rows: Rows = "all") -> pa.Table:
        """One row for each item, in order of id.

        Args:
            rows: of `all` items, or of those that are `kept` or `dropped`.

        Returns:
            The columns `key`, `kept`, `group` (the id of the kept item that is nearest, its own for a kept one; where
            that is of the other pool, -1 less its id), `nearest_kept` (its key), and `similarity` to it; in a pool of
            the metric l2 `distance`, of vectors as they were given. With another pool also `against`: whether
            `nearest_kept` is one of its keys.
        """
        return pa.concat_tables(self._tables(rows))

    def _tables(self, rows: Rows) -> Iterator[pa.Table]:
        """The same in pieces of `ROWS_AT_ONCE`, the last of which may be empty; all keys are in memory."""
        ids = np.concatenate([self.found.ids, self.to_other.ids])
        order = np.argsort(ids)
        other = order >= len(self.found.ids)
        kept = np.concatenate([self.found.kept, np.zeros(self.near_other, bool)])[order]
        group = np.concatenate([self.found.nearest, -1 - self.to_other.nearest])[order]
        value = np.concatenate([self.found.similarity, self.to_other.similarity])[order]
        if self.pool.metric == "l2":
            value = np.sqrt(np.maximum(-value, 0)) / self.pool.scale
        keys, place = keys_of(self.pool), np.searchsorted(ids[order], np.where(other, ids[order], group))
        if (near := self.listed_other()) is not None:
            place = np.where(other, len(keys) + np.cumsum(other) - 1, place)
            keys = pa.concat_arrays([keys, near["near_to"].combine_chunks().cast(pa.large_string())])
        wanted = np.arange(len(ids)) if rows == "all" else np.flatnonzero(kept == (rows == "kept"))
        for piece in slices(max(len(wanted), 1), ROWS_AT_ONCE):
            own = wanted[piece]
            columns = {
                "key": keys.take(pa.array(own)).cast(pa.string()),
                "kept": pa.array(kept[own]),
                "group": array_of(group[own], pa.int64()),
                "nearest_kept": keys.take(pa.array(place[own])).cast(pa.string()),
                "similarity" if self.pool.metric == "cosine" else "distance": array_of(value[own], pa.float64()),
            }
            yield pa.table(columns if near is None else {**columns, "against": pa.array(other[own])})

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
        tables = self._tables(rows)
        first = next(tables)
        every = itertools.chain([first], tables)
        return write_table_file(Path(out), first.schema, every, overwrite=overwrite)


def find_near_duplicates(
    pool: Pool,
    fleet: Fleet,
    threshold: float = THRESHOLD,
    *,
    keep: str | None = None,
    prefer: Prefer = "largest",
    mode: Mode = "exact",
    against: Pool | None = None,
    left: NDArray[np.bool_] | None = None,
    folder: Path | None = None,
    sieve: Path | None = None,
    unit_rows: int | None = None,
    report: Report | None = None,
) -> NearDuplicates:
    """Find the near-duplicates of a pool, and choose who is kept.

    No two kept items are near, and every dropped item is near a kept one. Items are gone through in an order, and one
    is kept if it is near to none that is kept before it. The result is the same for any partitions and chunks, and does
    not depend on whether near pairs were listed.

    With another pool, items that are near to one of it are dropped first; of the rest no two kept ones are near.

    Cost: `find_near_pairs`; for a higher threshold than before, some seconds a million pairs. Where pairs are too many
    to list: `kept_without_pairs`; with `clusters`: `kept_in_clusters`. Memory: 100 bytes an item, and 60 for each near
    pair.

    Args:
        pool: the items.
        fleet: is over that pool.
        threshold: from which similarity on two items are near: a cosine, or in a pool of the metric l2 the distance up
            to which they are, of vectors as they were given.
        keep: a column of the pool that says who is kept; by default the order of the pool. Items without a value come
            last, and among equal ones the first of the pool is kept.
        prefer: whether items with the `largest` or the `smallest` value of the column are kept.
        mode: `exact`, or `clusters`: only items that share a cell are compared, as of `kept_in_clusters`.
        against: another pool.
        left: which items there are, bool [n]; None for all. Pairs are found and kept of the whole pool.
        folder: where pairs are kept for later calls; by default in the pool.
        sieve: where is kept what is found without pairs; by default in that folder.
        unit_rows: rows of a unit; for tests.
        report: called with the stage, what of it is done, and its total.

    Returns:
        What became of each item that is left.

    Raises:
        ConfigError: the threshold or the mode is none; or the column has no order.
        FingerprintMismatch: vectors of the other pool cannot be compared with those of this one.
        PoolError: the pool has no such column.
        RunError: another process looks for the pairs of the pool.
        Damaged: a file is not as it was written.
    """
    started = time.perf_counter()
    similarity = check_threshold(threshold, pool)
    check_mode(mode)
    if against is not None:
        check_against(pool, against)
    order = order_of(pool, keep, prefer)
    folder = pool.path / FOLDER if folder is None else folder
    ids = ids_of(pool)
    there = np.ones(len(ids), bool) if left is None else left.copy()
    compared, to_other = 0, Nearest.joined([])
    if against is not None:
        to_other, compared = find_near_to_other(
            pool, against, fleet, folder, similarity, unit_rows=unit_rows, report=report
        )
        to_other = to_other.only(np.isin(to_other.ids, ids[there]))
        there &= ~np.isin(ids, to_other.ids)
    order = order[there[order]]
    recall, listed, pairs = None, mode == "exact", 0
    if mode == "exact":
        try:
            done = find_near_pairs(pool, fleet, folder, similarity, unit_rows=unit_rows, report=report)
            pairs, compared = done.pairs, compared + done.found
            place = np.cumsum(there) - 1
            same = 1.0 if pool.metric == "cosine" else 0.0
            found = kept_of(ids[there], place[order], read_pairs(folder, done.plan, similarity), same)
        except TooManyPairs:
            listed = False
    if not listed:
        sieve = folder / SIEVE if sieve is None else sieve
        keep_of = kept_in_clusters if mode == "clusters" else kept_without_pairs
        found = keep_of(pool, fleet, sieve, similarity, ids[order], unit_rows=unit_rows, report=report)
        if mode == "clusters":
            recall = recall_of(pool, fleet, similarity, ids[order], found, report=report)
    return NearDuplicates(
        pool=pool,
        threshold=threshold,
        found=found,
        against=against,
        to_other=to_other,
        listed=listed,
        pairs=pairs,
        compared=compared,
        recall=recall,
        seconds=time.perf_counter() - started,
    )


def find_equal_items(
    pool: Pool,
    fleet: Fleet,
    *,
    keep: str | None = None,
    prefer: Prefer = "largest",
    report: Report | None = None,
) -> NearDuplicates:
    """Find the items of a pool that are equal to others, by the bytes of their files or by their vectors.

    Cost: one pass over the pool; linear also where all are equal. Memory: `raysal.curation.equal`.

    Args:
        pool: the items.
        fleet: is over that pool.
        keep: as for `find_near_duplicates`.
        prefer: likewise.
        report: called with the stage, what of it is done, and its total.

    Returns:
        What became of each item. The similarity of items that are equal by their bytes alone is NaN.

    Raises:
        ConfigError: the column has no order.
        PoolError: the pool has no such column.
        Damaged: a file is not as it was written.
    """
    started = time.perf_counter()
    ids, order = ids_of(pool), order_of(pool, keep, prefer)
    equal = find_equal(pool, fleet, ids[order], report=report)
    return NearDuplicates(
        pool=pool,
        threshold=None,
        found=equal.kept(pool),
        notes=equal.notes,
        seconds=time.perf_counter() - started,
    )


def check_mode(mode: str) -> None:
    """Refuse a mode that is none.

    Args:
        mode: as it was asked for.

    Raises:
        ConfigError: it is none of `MODES`.
    """
    if mode not in MODES:
        raise ConfigError("mode", f"unknown value {mode!r}", f"use {' or '.join(MODES)}")


def ids_of(pool: Pool) -> NDArray[np.int64]:
    """The ids of all items of a pool, ascending."""
    return np.concatenate([np.empty(0, np.int64), *(chunk.ids() for chunk in pool.chunks)])


def keys_of(pool: Pool) -> pa.Array:
    """The keys of all items of a pool, in order of id: large strings, as those of ten million URLs are above 2 GB."""
    pieces = [piece.cast(pa.large_string()) for table in pool.items(["key"]) for piece in table["key"].chunks]
    return pa.concat_arrays([pa.array([], pa.large_string()), *pieces])
