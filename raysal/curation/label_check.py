"""What a check of labels found, by key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from raysal.arrow_values import numbers_of
from raysal.curation.curated import Curated, keys_at, words_of_check
from raysal.pool import Pool
from raysal.store import Written
from raysal.tables import write_table_file

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("given", pa.string()),
        ("suggested", pa.string()),
        ("score", pa.float64()),
        ("reason", pa.string()),
        ("rank", pa.int64()),
        ("twin", pa.string()),
    ]
)
"""Of the table."""


@dataclass(frozen=True, kw_only=True)
class LabelCheck:
    """Items whose labels look wrong."""

    pool: Pool
    listed: pa.Table
    """as the step `check` lists them, by id"""
    facts: Mapping[str, Any]
    """of the labels as a whole: `labelled`, `judged`, `error_rate`, `error_rate_of` (each class), `confused` (pairs of
    classes with the estimated number of items), `copies_with_other_labels`, `notes`"""
    seconds: float

    @classmethod
    def of(cls, curated: Curated) -> LabelCheck:
        """What a plan of the one step `check` found.

        Args:
            curated: the plan, done.

        Returns:
            The same, as a check.
        """
        (step,) = curated.steps
        assert step.result.listed is not None
        return cls(
            pool=curated.pool, listed=step.result.listed, facts=step.result.facts, seconds=curated.seconds
        )  # fmt: skip

    def __len__(self) -> int:
        return int(self.listed.num_rows)

    @property
    def error_rate(self) -> float | None:
        """The estimated share of labels that are wrong; None where nothing could be judged."""
        rate: float | None = self.facts["error_rate"]
        return rate

    @property
    def words(self) -> str:
        """What was found, on one line."""
        return words_of_check(len(self), self.facts)

    @property
    def notes(self) -> list[str]:
        """What was not judged, and why."""
        return list(self.facts["notes"])

    def table(self) -> pa.Table:
        """The items whose labels look wrong, the worst first. One pass over the keys; memory for those that it names.

        Returns:
            The columns `key`, `given`, `suggested`, `score` (0 for a wrong label to 1), `reason`, `rank` (from 1) and
            `twin` (the key of a copy with the suggested label).
        """
        ids, twins = numbers_of(self.listed["id"]), self.listed["twin"].combine_chunks()
        twin = np.asarray(twins.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)
        wanted = np.unique(np.concatenate([ids, twin[twin >= 0]]))
        keys = keys_at(self.pool, wanted)
        rest = [self.listed[name] for name in ("given", "suggested", "score", "reason", "rank")]
        own = keys.take(pa.array(np.searchsorted(wanted, ids))).cast(pa.string())
        of_twin = keys.take(pa.array(np.searchsorted(wanted, twin), mask=twin < 0)).cast(pa.string())
        return pa.table([own, *rest, of_twin], schema=SCHEMA)

    def write(self, out: str | Path, *, overwrite: bool = False) -> Written:
        """Write the table into a file.

        Args:
            out: the file, with an extension of `raysal.tables.KINDS`.
            overwrite: replace the file that is there; it is kept as `NAME.1`, `NAME.2` ...

        Returns:
            What became of the file that was there.

        Raises:
            ConfigError: the file has another extension.
            OutputExists: another file is there, and `overwrite` is false.
            OSError: it cannot be written; nothing is left there.
        """
        return write_table_file(Path(out), SCHEMA, [self.table()], overwrite=overwrite)
