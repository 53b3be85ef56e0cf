"""Exact greedy selection from the whole pool: what the driver calls on every partition, in this order."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from raysal.fleet import Partition
from raysal.strategies.engine.feature_maps import Arrays, FeatureMap
from raysal.strategies.engine.partition_state import RowStates
from raysal.strategies.engine.priorities import Rule
from raysal.strategies.engine.proposals import BestRows, Opening
from raysal.strategies.engine.sharing import sharing


def start(
    partition: Partition,
    feature_map: FeatureMap,
    rule: Rule,
    opening: Literal["lowest", "largest"],
    key: int,
    ties: int,
) -> Opening | None:
    """Set up the states of the candidate rows, and propose a first pick.

    Args:
        partition: The partition.
        feature_map: The space in which distances are taken.
        rule: What rows are judged by.
        opening: The first pick: the row of lowest hash, or of largest norm.
        key: Key of the hash.
        ties: Key of the hash that orders rows of equal priority.

    Returns:
        The proposal; None if there is none here.

    Raises:
        PoolError: The features of a candidate are not finite; it names the item.
    """
    with sharing(len(partition) * partition.width, partition.device):
        rows = partition.state["row_states"] = RowStates(partition, feature_map, rule, ties)
        return rows.largest_norm() if opening == "largest" else rows.lowest_hash(key)


def propose(
    partition: Partition, ids: NDArray[np.int64], factors: Arrays, times: NDArray[np.float64], wanted: int
) -> BestRows:
    """Add the last picks as centres, and propose the best rows.

    Args:
        partition: The partition.
        ids: Ids of the picks.
        factors: Their factors, [m, width] each. In the first call they may be those of labelled items, without ids.
        times: The rule's time of each pick, [m], ascending.
        wanted: How many rows to propose.

    Returns:
        The rows, and a bound of all others.
    """
    rows: RowStates = partition.state["row_states"]
    with sharing(len(partition) * partition.width, partition.device):
        rows.add_centres(ids, factors, times)
        return rows.best_rows(wanted)
