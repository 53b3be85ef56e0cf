"""A batch: what a round asks people to label, in pick order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from raysal.arrow_values import array_of
from raysal.pool import Pool

if TYPE_CHECKING:
    from raysal.models.head import Head
    from raysal.strategies.base import Picks


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A committed batch: what to label, in pick order."""

    round: int
    table: pa.Table
    """id, key, rank, score, reason, strategy, head_version"""

    @property
    def keys(self) -> list[str]:
        """Keys of the items, in pick order."""
        return list(self.table["key"].to_pylist())

    @property
    def ids(self) -> list[int]:
        """Ids of the items, in pick order."""
        return list(self.table["id"].to_pylist())

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


def batch_table(pool: Pool, picks: Picks, strategy: str | None = None, head: Head | None = None) -> pa.Table:
    """A batch as people see it, in pick order: id, key, rank (from 1), score, reason.

    Args:
        pool: where the keys are looked up.
        picks: the batch.
        strategy: the name of its strategy; with it the columns strategy and head_version are added.
        head: what chose it.

    Returns:
        One row for each pick.
    """
    keys = pool.keys_of(picks.ids)
    columns = {
        "id": array_of(picks.ids, pa.int64()),
        "key": array_of([keys[id] for id in picks.ids.tolist()], pa.string()),
        "rank": array_of(np.arange(1, len(picks.ids) + 1), pa.int64()),
        "score": array_of(picks.scores, pa.float64()),
        "reason": array_of(picks.reasons, pa.string()),
    }
    if strategy is not None:
        version = None if head is None else head.version
        columns["strategy"] = array_of([strategy] * len(picks.ids), pa.string())
        columns["head_version"] = array_of([version] * len(picks.ids), pa.int64())
    return pa.table(columns)
