"""A bounded set of candidates in the driver, for strategies that compare candidates with one another.

Whole-pool strategies never gather the pool. Clustering, coverage graphs and kernels have to, so they work on at most
`max_candidates` candidates: on all of them if narrowing left few enough, else on a uniform sample, and the reasons of
the batch say which.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysal.errors import UserError
from raysal.fleet import Fleet, vectors_of
from raysal.rng import derive, item_order
from raysal.scoring.row_values import refuse_broken
from raysal.scoring.similarity import unit_rows
from raysal.scoring.top_k import best_of_parts, lowest_hashes
from raysal.strategies.base import count_candidates, sample_candidates

QuadraticCount = Annotated[int, Field(ge=1, le=200_000)]
"""The type of a field that bounds items of which all pairs are compared."""
CANDIDATES_PER_PICK = 5
"""Candidates per pick that a strategy clusters at least, whatever `max_candidates` is."""


@dataclass(frozen=True, kw_only=True)
class Shortlist:
    """Candidates in the driver: the rows of a shortlist."""

    ids: NDArray[np.int64]
    """[n], in the order of a hash: a rule that goes by the lower row breaks its ties by that."""
    vectors: NDArray[np.float32]
    """[n, d]."""
    candidates: int
    """How many candidates there are in all."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def origin(self) -> str:
        """For reasons: that the rows are a sample; empty if they are all candidates."""
        return sample_origin(len(self.ids), self.candidates)


def sample_origin(count: int, of: int) -> str:
    """For reasons: that `count` candidates are a sample of those there are; empty if they are all."""
    return "" if count == of else f" (of {count:,} drawn from {of:,})"


def shortlist(fleet: Fleet, key: int, max_candidates: int) -> Shortlist:
    """Bring candidates into the driver.

    Two round trips; memory O(max_candidates d) in the driver.

    Args:
        fleet: The partitions of the pool.
        key: Key of the sample.
        max_candidates: The most rows.

    Returns:
        All candidates if they are at most `max_candidates`; else the `max_candidates` of lowest hash, a uniform sample
        that is the same for any partitions of the pool.

    Raises:
        PoolError: A vector is not finite; it names the item.
    """
    candidates = sum(fleet.each(count_candidates))
    ids, _ = best_of_parts(fleet.each(sample_candidates, key, max_candidates), max_candidates, ties=key)
    ids, vectors = gathered_by_hash(fleet, ids, derive(key, "ties"))
    return Shortlist(ids=ids, vectors=vectors, candidates=candidates)


def gathered(fleet: Fleet, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Bring the vectors of a bounded set of items into the driver. One round trip.

    Args:
        fleet: The partitions of the pool.
        ids: Ids of the items, ascending.

    Returns:
        (ids [n] ascending, vectors float32 [n, d]).

    Raises:
        PoolError: A vector is not finite; it names the item.
    """
    parts = fleet.each(vectors_of, ids)
    found, vectors = (np.concatenate(column) for column in zip(*parts, strict=True)) if len(parts) > 1 else parts[0]
    refuse_broken(found, np.asarray(np.isfinite(vectors).all(1)))
    return found, vectors


def gathered_by_hash(fleet: Fleet, ids: NDArray[np.int64], ties: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """As `gathered`, in the order of a hash, so that a rule which takes the lower of equal rows goes by it.

    Args:
        fleet: The partitions of the pool.
        ids: Ids of the items, in any order.
        ties: Key of the hash.

    Returns:
        (ids [n], vectors float32 [n, d]) in the order of `raysal.rng.item_order`.

    Raises:
        PoolError: A vector is not finite; it names the item.
    """
    ids, vectors = gathered(fleet, np.sort(ids))
    order = np.argsort(item_order(ties, ids))
    return ids[order], vectors[order]


def sampled_positions(ids: NDArray[np.int64], key: int, m: int) -> NDArray[np.int64]:
    """Ascending positions of the m ids of lowest hash: a smaller sample within a shortlist of the same key."""
    kept, _ = lowest_hashes(ids, key, m)
    return np.flatnonzero(np.isin(ids, kept))


def labelled_unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale the labelled items' vectors to length 1.

    Args:
        vectors: [n, d].

    Returns:
        Float32 [n, d]; zero rows stay zero.

    Raises:
        UserError: A row is not finite; it names the first.
    """
    broken = np.flatnonzero(~np.isfinite(vectors).all(1))
    if len(broken):
        raise UserError(f"labelled row {broken[0]}", "its vector is not finite numbers", "embed it again")
    return unit_rows(vectors)
