"""The items that a run keeps for its evaluation, and how to name some of them to people."""

from __future__ import annotations

from collections.abc import Set
from heapq import nsmallest
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.arrow_values import array_of, numbers_of
from raysal.config import RunConfig
from raysal.errors import ConfigError
from raysal.pool import Pool
from raysal.pool.owners import OwnerOf
from raysal.rng import derive, item_uniform

Half = Literal["all", "measure", "reference"]
"""All held-out items; or, where a strategy learns from some (`Selector.uses_held_out`), the half that measures and the
half that is its reference. By a hash of its own, as people label the items of lowest hash first."""


class HeldOut(NamedTuple):
    """The items that a run keeps for its evaluation, chosen by hash."""

    key: int
    """of `raysal.rng`"""
    share: float
    """of all items, in (0, 1)"""
    owners: OwnerOf | None = None
    """whose hash decides: of a run by owner whose labels are of parts, so that an owner is held out with all of them"""

    @classmethod
    def of(cls, config: RunConfig, pool: Pool | None) -> HeldOut | None:
        """Those of a run; None if it keeps none.

        Args:
            config: of the run.
            pool: of its items. Without it, nothing may be asked of a run by owner whose labels are of parts.

        Returns:
            How to tell them.
        """
        share = config.rounds.holdout
        if not share:
            return None
        owners = None
        if config.parts.labels_of_parts_of_owners and pool is not None:
            owners = OwnerOf.in_pool(pool)
        return cls(derive(config.seed, "holdout"), share, owners)

    def among(self, ids: NDArray[np.int64], half: Half = "all") -> NDArray[np.bool_]:
        """Which of these items are held out, and in this half of them, [n]."""
        if self.owners is not None:
            ids = self.owners.of(ids)
        held: NDArray[np.bool_] = item_uniform(self.key, ids) < self.share
        if half != "all":
            held &= (item_uniform(derive(self.key, "reference"), ids) < 0.5) == (half == "reference")
        return held

    def order(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """Draws in [0, 1), [n], by which these items are given to people and measured: the lowest first."""
        # By the same hash, the first part of an owner, which has its id, would come before the others.
        return item_uniform(self.key if self.owners is None else derive(self.key, "order"), ids)


def held_out_keys(pool: Pool, config: RunConfig, taken: Set[int], most: int) -> list[str]:
    """The keys of held-out items to label by hand: the first of one random order, so always a uniform sample.

    Streams the pool's items once; memory for those that are returned.

    Args:
        pool: the run's pool.
        config: of the run.
        taken: ids of items that somebody labelled or skipped; they are left out.
        most: how many are wanted at most.

    Returns:
        The keys, in that order; fewer where fewer are left.

    Raises:
        ConfigError: the run holds out nothing.
    """
    held_out = HeldOut.of(config, pool)
    if held_out is None:
        raise ConfigError("rounds.holdout", "0: the run holds out no items", "begin a run with holdout = 0.2, or less")
    best: list[tuple[float, int, str]] = []
    for table in pool.items(["id", "key"]):
        ids = numbers_of(table["id"])
        rows = np.flatnonzero(held_out.among(ids))
        draws, keys = (
            held_out.order(ids[rows]).tolist(),
            table["key"].take(array_of(rows, pa.int64())).to_pylist(),
        )
        found = [row for row in zip(draws, ids[rows].tolist(), keys, strict=True) if row[1] not in taken]
        best = nsmallest(most, [*best, *found])
    return [key for _, _, key in best]
