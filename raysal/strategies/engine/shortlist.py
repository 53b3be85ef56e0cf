"""A bounded set of candidates in the driver, for rules that compare candidates with one another.

Whole-pool rules never gather the pool. Clustering, coverage graphs and kernels do, so they work on at most `limit`
candidates: all of them where narrowing left few enough, else a uniform draw, and the batch says which.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysal.fleet import Fleet, Partition, vectors_of
from raysal.rng import item_uniform
from raysal.scoring.row_values import refuse_broken
from raysal.scoring.top_k import BestItems, best_of, best_of_parts
from raysal.strategies.base import count_candidates, sample_candidates


@dataclass(frozen=True, kw_only=True)
class Shortlist:
    """Candidates in the driver: ids [n] ascending, vectors float32 [n, d], and how many they were drawn from."""

    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]
    candidates: int

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def whole(self) -> bool:
        """Whether it holds every candidate."""
        return len(self.ids) == self.candidates

    @property
    def origin(self) -> str:
        """For reasons: empty, or that the candidates are a draw."""
        return "" if self.whole else f" (of {len(self.ids):,} drawn from {self.candidates:,})"


def shortlist(fleet: Fleet, key: int, limit: int) -> Shortlist:
    """All candidates if they are at most `limit`, else the `limit` of lowest hash: a uniform draw.

    Two round trips; memory O(limit d) in the driver. The same for any partitions of the pool.

    Raises:
        PoolError: a vector is not finite; it names the item.
    """
    candidates = sum(fleet.each(count_candidates))
    ids, _ = best_of_parts(fleet.each(sample_candidates, key, limit), limit)
    ids, vectors = gathered(fleet, np.sort(ids))
    return Shortlist(ids=ids, vectors=vectors, candidates=candidates)


def gathered(fleet: Fleet, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(ids ascending, finite vectors float32 [n, d]) of a bounded set of items, `ids` ascending.

    Raises:
        PoolError: a vector is not finite; it names the item.
    """
    parts = fleet.each(vectors_of, ids)
    ids, vectors = (np.concatenate(column) for column in zip(*parts, strict=True))
    refuse_broken(ids, np.isfinite(vectors).all(1))
    return ids, vectors


def lowest_available(partition: Partition, key: int, k: int) -> BestItems:
    """The k items of lowest hash among all that may be labelled, narrowed away or not; the score is 1 - hash."""
    ids = partition.ids[partition.available]
    return best_of(ids, 1 - item_uniform(key, ids), k)
