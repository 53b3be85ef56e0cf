"""The step that drops exact copies: of items with equal bytes or equal vectors one is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from raysal.curation.base import Forecast, Speed, Step, StepResult, Work
from raysal.curation.equal import REASONS, digest_of_files, find_equal
from raysal.curation.order import Prefer, check_order, order_of
from raysal.pool import Pool

A_ROW = 2e-6
"""Seconds for the digest of a vector and its place among the others."""


@dataclass(frozen=True, kw_only=True)
class Exact(Step):
    """Drop copies: items whose files have equal bytes, or whose vectors are equal. One of each group is kept.

    Bytes are compared where the pool has digests of its files (`raysal embed --check hash`), and of files that hold one
    item alone: rows of one table are not equal for having one file, and neither are parts. `facts` has a note where
    they were not compared.

    Cost: one pass, O(n d), also where all items are equal. Memory of the driver: 100 bytes an item.
    """

    keep: str | None = None
    """a column: the item with its largest value is kept; by default the first of the pool"""
    prefer: Prefer = "largest"
    """or `smallest`"""

    def check(self, pool: Pool) -> None:
        """As of `Step`."""
        check_order(pool, self.keep, self.prefer)

    def inputs(self, pool: Pool) -> Mapping[str, Any]:
        """The digests of files that the pool has: `raysal embed --check hash` may add some to a pool that is there."""
        return {"files": digest_of_files(pool)}

    def forecast(self, pool: Pool, left: int, speed: Speed) -> Forecast:
        """As of `Step`; how many are kept is not known before."""
        del left
        return Forecast(kept=None, seconds=len(pool) / speed.rows + len(pool) * A_ROW)

    def apply(self, work: Work) -> StepResult:
        """As of `Step`."""
        order = order_of(work.pool, self.keep, self.prefer)
        equal = find_equal(work.pool, work.fleet, work.ids[order[work.left[order]]], report=work.report)
        dropped = equal.nearest != equal.ids
        sizes, counts = np.unique(np.unique(equal.nearest[dropped], return_counts=True)[1] + 1, return_counts=True)
        same = 1.0 if work.pool.metric == "cosine" else 0.0
        return StepResult(
            ids=equal.ids[dropped],
            reason=equal.reason[dropped],
            reasons=REASONS,
            nearest=equal.nearest[dropped],
            value=np.where(equal.same_vector, same, np.nan)[dropped],
            facts={
                "group_sizes": dict(zip(map(str, sizes.tolist()), counts.tolist(), strict=True)),
                **({"notes": list(equal.notes)} if equal.notes else {}),
            },
        )
