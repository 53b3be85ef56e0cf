"""What became of each item of a pool that was curated, and the table that says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.arrow_values import numbers_of, taken
from raysal.curation.base import StepResult
from raysal.errors import ConfigError
from raysal.pool import Pool
from raysal.store import Written
from raysal.tables import write_table_file

Rows = Literal["all", "kept", "dropped"]
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("kept", pa.bool_()),
        ("step", pa.string()),
        ("reason", pa.string()),
        ("nearest_kept", pa.string()),
        ("value", pa.float64()),
    ]
)
"""Of the table."""
KEPT = -1


def words_of_check(suspects: int, facts: Mapping[str, Any]) -> str:
    """What a check of labels found, in words: `18 of 500 labels look wrong; about 3.8% of the labels are wrong`.

    Args:
        suspects: items that are listed.
        facts: of the step `check`.

    Returns:
        Without the estimate where nothing could be judged.
    """
    labelled, rate = facts["labelled"], facts["error_rate"]
    estimate = "" if rate is None else f"; about {rate:.1%} of the labels are wrong"
    return f"{suspects} of {labelled} label{'s' * (labelled != 1)} look wrong{estimate}"


@dataclass(frozen=True, kw_only=True)
class StepDone:
    """A step of a plan, and what it found."""

    label: str
    """what the table calls it: its name, and a number from the second one of that name on, as `near_2`"""
    name: str
    fields: Mapping[str, Any]
    """its config, as JSON"""
    said: Mapping[str, Any]
    """those of the fields that differ from their defaults"""
    left: int
    """items that it was given"""
    result: StepResult
    seconds: float
    """that it took, when it was done"""
    resumed: bool
    """whether it was done before, and only read"""

    @property
    def dropped(self) -> int:
        """How many items it dropped."""
        return len(self.result)

    @property
    def reasons(self) -> dict[str, int]:
        """How many items it dropped for each reason; those of none are left out."""
        counts = np.bincount(self.result.reason, minlength=len(self.result.reasons))
        return {reason: int(count) for reason, count in zip(self.result.reasons, counts, strict=True) if count}

    @property
    def notes(self) -> list[str]:
        """What is to be known beside what it dropped, as how many labels look wrong, or a recall; a line each."""
        facts, listed = self.result.facts, self.result.listed
        checked = [words_of_check(listed.num_rows, facts)] if listed is not None and "labelled" in facts else []
        return [*checked, *facts.get("notes", ())]


@dataclass(frozen=True, kw_only=True)
class Curated:
    """What became of the items of a pool.

    Memory: 10 bytes an item of the pool, and 25 for each that was dropped.
    """

    pool: Pool
    ids: NDArray[np.int64]
    """[n] of all items, ascending"""
    steps: Sequence[StepDone]
    seed: int
    seconds: float
    """that this call took"""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def kept(self) -> int:
        """How many items are kept."""
        return len(self) - self.dropped

    @property
    def dropped(self) -> int:
        """How many are dropped."""
        return sum(step.dropped for step in self.steps)

    @cached_property
    def dropped_by(self) -> NDArray[np.int16]:
        """The position of the step that dropped each item, [n]; `KEPT` for those that are kept."""
        found = np.full(len(self.ids), KEPT, np.int16)
        for at, step in enumerate(self.steps):
            found[np.searchsorted(self.ids, step.result.ids)] = at
        return found

    @property
    def kept_ids(self) -> NDArray[np.int64]:
        """Ids of the items that are kept, ascending."""
        found: NDArray[np.int64] = self.ids[self.dropped_by == KEPT]
        return found

    def table(self, rows: Rows = "kept") -> pa.Table:
        """One row for each item, in order of id.

        Args:
            rows: of the items that are `kept`, of those that are `dropped`, or of `all`.

        Returns:
            The columns `key`, `kept`, `step` (which one dropped it), `reason`, `nearest_kept` (the key of the kept item
            that it was dropped for; empty where there is none, or where a later step dropped that one), and `value`
            (the number that it was dropped for). Of kept items the last four are empty.

        Raises:
            ConfigError: there are no such rows.
        """
        return pa.concat_tables([SCHEMA.empty_table(), *self.tables(rows)])

    def tables(self, rows: Rows = "kept") -> Iterator[pa.Table]:
        """The same, one table for each chunk of the pool: memory for one, and for the keys of `nearest_kept`."""
        if rows not in ("all", "kept", "dropped"):
            raise ConfigError("rows", f"unknown value {rows!r}", "use all, kept or dropped")
        return self._tables(rows)

    def _tables(self, rows: Rows) -> Iterator[pa.Table]:
        targets, keys = (np.empty(0, np.int64), pa.array([], pa.large_string())) if rows == "kept" else self._targets()
        for chunk in self.pool.items(["id", "key"]):
            ids = numbers_of(chunk["id"])
            if not len(ids):
                continue
            by = self.dropped_by[np.searchsorted(self.ids, ids)]
            wanted = np.flatnonzero((by == KEPT) == (rows == "kept")) if rows != "all" else np.arange(len(ids))
            key = taken(chunk["key"].cast(pa.string()), wanted)
            yield self._rows(key, ids[wanted], by[wanted], targets, keys)

    def _rows(
        self,
        key: pa.ChunkedArray,
        ids: NDArray[np.int64],
        by: NDArray[np.int16],
        targets: NDArray[np.int64],
        keys: pa.Array,
    ) -> pa.Table:
        """The rows of some items, where the kept items that others were dropped for are `targets` [t] with `keys`."""
        value = np.full(len(ids), np.nan)
        nearest = np.full(len(ids), -1, np.int64)
        reason = np.full(len(ids), -1, np.int64)
        reasons: list[str] = []
        for at in np.unique(by[by != KEPT]):
            result, rows = self.steps[at].result, np.flatnonzero(by == at)
            place = np.searchsorted(result.ids, ids[rows])
            value[rows], nearest[rows] = result.value[place], result.nearest[place]
            reason[rows] = result.reason[place].astype(np.int64) + len(reasons)
            reasons += result.reasons
        slot = np.searchsorted(targets, nearest)
        unknown = np.append(targets, -1)[slot] != nearest
        unknown |= nearest < 0
        labels = pa.array([step.label for step in self.steps], pa.string())
        columns = [
            key,
            pa.array(by == KEPT),
            labels.take(pa.array(by, mask=by == KEPT)),
            pa.array(reasons, pa.string()).take(pa.array(reason, mask=reason < 0)),
            keys.take(pa.array(slot, mask=unknown)).cast(pa.string()),
            pa.array(value, mask=np.isnan(value)),
        ]
        return pa.table(columns, schema=SCHEMA)

    def _targets(self) -> tuple[NDArray[np.int64], pa.Array]:
        """The kept items that others were dropped for: their ids, ascending, and their keys."""
        every = [np.unique(step.result.nearest) for step in self.steps]
        wanted = np.intersect1d(np.unique(np.concatenate([np.empty(0, np.int64), *every])), self.kept_ids)
        return wanted, keys_at(self.pool, wanted)

    def write(self, out: str | Path, rows: Rows = "kept", *, overwrite: bool = False) -> Written:
        """Write the table into a file.

        Args:
            out: the file, with an extension of `raysal.tables.KINDS`.
            rows: as for `table`.
            overwrite: replace the file that is there; it is kept as `NAME.1`, `NAME.2` ...

        Returns:
            What became of the file that was there.

        Raises:
            ConfigError: the file has another extension, or there are no such rows.
            OutputExists: another file is there, and `overwrite` is false.
            OSError: it cannot be written; nothing is left there.
        """
        return write_table_file(Path(out), SCHEMA, self.tables(rows), overwrite=overwrite)


def keys_at(pool: Pool, ids: NDArray[np.int64]) -> pa.Array:
    """The keys of some items. One pass over the keys of the pool, unless there are none; memory for those asked for.

    Args:
        pool: the items.
        ids: [m] of items that it has, ascending, each once.

    Returns:
        Their keys, in that order, as large strings: all of them may be above the 2 GB of a string array.
    """
    found = [pa.array([], pa.large_string())]
    if len(ids):
        for chunk in pool.items(["id", "key"]):
            there = numbers_of(chunk["id"])
            here = ids[slice(*np.searchsorted(ids, [there[0], there[-1] + 1]))] if len(there) else ids[:0]
            found += taken(chunk["key"].cast(pa.large_string()), np.searchsorted(there, here)).chunks
    return pa.concat_arrays(found)
