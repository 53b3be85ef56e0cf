"""A batch: what a round asks people to label, in pick order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from raysal.arrow_values import array_of
from raysal.pool import Pool
from raysal.rounds.draws import LEAST, PROBABILITY, REMAINING, STRATEGY, DrawnTests
from raysal.types import OWNER_KEY

if TYPE_CHECKING:
    from raysal.models.head import Head
    from raysal.strategies.base import Picks


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A committed batch: what to label, in pick order."""

    round: int
    table: pa.Table
    """id, key, rank, score, reason, strategy, head_version; where the run draws tests also probability,
    least_probability and remaining, which only test draws have (`raysal.rounds.tested`); and where owners were picked
    for labels of their parts, owner_key"""

    @property
    def keys(self) -> list[str]:
        """Keys of the items, in pick order."""
        return list(self.table["key"].to_pylist())

    @property
    def ids(self) -> list[int]:
        """Ids of the items, in pick order."""
        return list(self.table["id"].to_pylist())

    @property
    def tests(self) -> list[bool]:
        """Which of the items are test draws, in pick order."""
        if PROBABILITY not in self.table.column_names:
            return [False] * len(self)
        return list(self.table[PROBABILITY].is_valid().to_pylist())

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def with_ids(self, ids: Mapping[str, int]) -> Batch:
        """The items of the batch that have an id here, with it.

        Args:
            ids: {key: id}, as another pool has them.

        Returns:
            A batch of the same round, in the same order.
        """
        table = self.table.filter(array_of([key in ids for key in self.keys], pa.bool_()))
        column = array_of([ids[key] for key in table["key"].to_pylist()], pa.int64())
        return Batch(round=self.round, table=table.set_column(table.column_names.index("id"), "id", column))


def batch_table(
    pool: Pool,
    picks: Picks,
    strategy: str | None = None,
    head: Head | None = None,
    tests: DrawnTests | None = None,
    owners: pa.Array | None = None,
) -> pa.Table:
    """A batch as people see it, in pick order: id, key, rank (from 1), score, reason.

    Test draws stand evenly among the picks: whoever stops early has then answered as many of them.

    Args:
        pool: where the keys are looked up.
        picks: what the strategy picked.
        strategy: the name of its strategy; with it the columns strategy and head_version are added.
        head: what chose it.
        tests: the test draws of a run that draws some. Their score is how many times as likely they were as in a
            uniform draw.
        owners: of a run by owner whose labels are of parts the key of each pick's owner, string [n], which becomes the
            column owner_key. Such a run draws no tests.

    Returns:
        One row for each item.
    """
    ids, scores, reasons = picks.ids, picks.scores, list(picks.reasons)
    order = np.arange(len(ids))
    if tests is not None:
        times = tests.probability * tests.remaining
        ids, scores = np.concatenate([ids, tests.ids]), np.concatenate([scores, times])
        reasons += [
            f"test draw: 1 of {left:,} held-out items, with a probability of {chance:.2g}; it never trains"
            for left, chance in zip(tests.remaining.tolist(), tests.probability.tolist(), strict=True)
        ]
        place = [(np.arange(count) + 0.5) / max(count, 1) for count in (len(picks.ids), len(tests))]
        order = np.argsort(np.concatenate(place), kind="stable")
        ids, scores, reasons = ids[order], scores[order], [reasons[row] for row in order.tolist()]
    keys = pool.keys_of(ids)
    columns = {
        "id": array_of(ids, pa.int64()),
        "key": array_of([keys[id] for id in ids.tolist()], pa.string()),
        "rank": array_of(np.arange(1, len(ids) + 1), pa.int64()),
        "score": array_of(scores, pa.float64()),
        "reason": array_of(reasons, pa.string()),
    }
    if owners is not None:
        columns[OWNER_KEY] = owners
    if strategy is not None:
        version = None if head is None else head.version
        names = [STRATEGY if row >= len(picks.ids) else strategy for row in order.tolist()]
        columns["strategy"] = array_of(names, pa.string())
        columns["head_version"] = array_of([version] * len(ids), pa.int64())
    if tests is not None:
        none: list[None] = [None] * len(picks.ids)
        for name, values, kind in (
            (PROBABILITY, tests.probability, pa.float64()),
            (LEAST, tests.least, pa.float64()),
            (REMAINING, tests.remaining, pa.int64()),
        ):
            all_values = [*none, *values.tolist()]
            columns[name] = array_of([all_values[row] for row in order.tolist()], kind)
    return pa.table(columns)
