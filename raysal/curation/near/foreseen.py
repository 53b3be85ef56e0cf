"""What comparing a pool will cost, from a sample of it: which share of the pairs bounds leave, how many are near."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from raysal.curation.near.cells import Cells
from raysal.curation.near.reading import ROWS_A_CELL, UNIT_CELLS, sample_of
from raysal.curation.near.unit import compared_rows, radius_of
from raysal.numerics import slices
from raysal.pool import Pool
from raysal.rng import derive
from raysal.types import Metric

SAMPLE = 2**12
"""Items that are looked at: some tenths of a second."""
A_CELL = 16
"""Items of the sample for each cell; that cells are fewer than those of the pool makes the share too large, if any."""
ITERATIONS = 2
"""Of the clustering."""
SIDE = 512
"""Rows of a product."""
A_VALUE = 10
"""How often a number is gone through for each row and cell, in which products of them take the less time."""
A_NEAR_PAIR = 8
"""How often each number of a near pair is gone through: its similarity is computed in double, written and read."""
CLUSTERING = 8 * 3 * ROWS_A_CELL * UNIT_CELLS * UNIT_CELLS
"""Numbers that clustering the sample of a large pool goes through: three times in each iteration."""


class Foreseen(NamedTuple):
    """Of a pool, at a threshold."""

    share: float
    """of all pairs of items that are compared, about"""
    near: float
    """of all pairs that are near"""


def foreseen(pool: Pool, threshold: float) -> Foreseen | None:
    """Look at a sample of a pool. It takes less than a second.

    Args:
        pool: the items.
        threshold: a cosine, or minus the squared distance of what the pool holds.

    Returns:
        The shares; None of a pool that is not on this machine, or has fewer than two items.
    """
    if len(pool) < 2 or any(chunk.is_fetched for chunk in pool.chunks):
        return None
    rows = compared_rows(sample_of(pool, SAMPLE)[1], pool.metric)
    n, radius = len(rows), radius_of(threshold, pool.metric)
    cells = Cells.of(rows, max(n // A_CELL, 1), derive(0, "near foreseen"), iterations=ITERATIONS)
    cell, reached = cells.placed(torch.from_numpy(cells.turned(rows)), radius)
    share = 1.0
    if reached is not None:
        sizes = np.bincount(cell, minlength=len(cells))
        mutual = reached.cells_of(cell, len(cells))[reached.cell, cell[reached.row]]
        share = float(sizes[reached.cell][mutual].sum()) / n**2
    return Foreseen(
        share=share,
        near=max(_near(torch.from_numpy(rows), threshold, pool.metric) - n, 0) / (n * (n - 1)),
    )


def _near(rows: torch.Tensor, threshold: float, metric: Metric) -> int:
    """How many pairs of rows are near, up to rounding, each twice, and each row with itself."""
    sq_norms = rows.square().sum(1)
    count = 0
    for piece in slices(len(rows), SIDE):
        similarity = rows[piece] @ rows.T
        if metric == "l2":
            similarity = 2 * similarity - sq_norms[piece, None] - sq_norms
        count += int((similarity >= threshold).sum())
    return count
