"""What a head says of parts, where a program looks at owners: whose vector stands for one, which parts are offered.

These are functions of a partition. All parts of an owner are in one, so that nothing has to be joined.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from raysal.fleet.by_owner import owners_of
from raysal.fleet.owners import Aggregator
from raysal.fleet.partition import Partition
from raysal.rng import item_order, item_uniform
from raysal.scoring.given_probabilities import AnyInputs
from raysal.scoring.registry import SCORES
from raysal.scoring.row_values import row_values

Features = Literal["mean", "weighted_mean", "best_part"]
"""What stands for an owner: the mean of the vectors of its parts, their mean weighted by scores (one below 0 counts as
0), or the vector of the part of highest score."""


def look_by_score(
    partition: Partition, features: Features, scores: Aggregator | None, inputs: AnyInputs, score: str, ties: int
) -> int:
    """Have the rows be owners, whose vectors depend on the scores of their parts, for the rest of the program.

    Cost: one product of all parts. 8 bytes a part while the program lasts.

    Args:
        partition: where they live; its rows are owners already.
        features: what stands for an owner.
        scores: how scores of parts become that of their owner; None where the owner's own vector is scored.
        inputs: what the score needs of the head.
        score: a name of `SCORES`.
        ties: key of the hash that orders parts of equal score.

    Returns:
        The number of owners here that are not excluded.

    Raises:
        PoolError: a part has no score, as its vector is not finite; it names the item.
    """
    owners, parts = owners_of(partition), partition.parts()
    values = row_values(parts, inputs, np.arange(len(parts)), SCORES[score]).astype(np.float64)
    if features == "weighted_mean":
        seen = replace(owners, weights=np.maximum(values, 0), scores=scores)
    else:
        seen = replace(owners, chosen=_best_rows(values, parts.ids, owners.begins, ties, 1), scores=scores)
    partition.use_owners(seen)
    return int(partition.available.sum())


def offer_best_parts(partition: Partition, each: int, inputs: AnyInputs | None, score: str, key: int) -> int:
    """Let the best parts of each owner be the pool; everything else is excluded for the rest of the program.

    Args:
        partition: where they live; its rows are parts.
        each: how many of each owner, of those that are not excluded.
        inputs: what the score needs of the head; None for parts drawn uniformly.
        score: a name of `SCORES`.
        key: key of `raysal.rng`, of the draw, or of the hash that orders parts of equal score.

    Returns:
        The number of rows here that are left.

    Raises:
        PoolError: a part has no score, as its vector is not finite; it names the item.
    """
    owners, rows = owners_of(partition), np.flatnonzero(partition.available)
    ids = partition.ids[rows]
    values = -item_uniform(key, ids) if inputs is None else row_values(partition, inputs, rows, SCORES[score])
    counts = owners.reduced(partition.available.astype(np.int64), np.add)
    begins = np.concatenate([[0], np.cumsum(counts[counts > 0])])
    kept = rows[_best_rows(values.astype(np.float64), ids, begins, key, each)]
    partition.available[:] = False
    partition.available[kept] = True
    partition.candidate &= partition.available
    return len(kept)


def _best_rows(
    values: NDArray[np.float64], ids: NDArray[np.int64], begins: NDArray[np.int64], ties: int, each: int
) -> NDArray[np.int64]:
    """The rows of largest value of each owner, ascending by owner, best first: fewer where it has fewer."""
    counts = np.diff(begins)
    owner = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((item_order(ties, ids), -values, owner))
    place = np.arange(len(values)) - np.repeat(begins[:-1], counts)
    return order[place < each]
