"""States of rows from exact distances, in double precision, to those centres alone that could have lowered them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.numerics import EXACT_COLUMNS, EXACT_ROWS, slices
from raysal.strategies.engine.distances import Centres, WideRows
from raysal.strategies.engine.feature_maps import Factors
from raysal.strategies.engine.priorities import Rule

ROWS_AT_ONCE = 4 * EXACT_ROWS
"""Rows in double precision at once: 2 MB of 256 numbers. More of them took twice the time."""


def make_exact(
    rule: Rule,
    centres: Centres,
    tiles: torch.Tensor,
    ids: NDArray[np.int64],
    factors: Factors,
    state: torch.Tensor,
) -> None:
    """Make states exact. Bounds in single precision first find the tiles of centres that could matter.

    Args:
        rule: What rows are judged by.
        centres: The centres.
        tiles: For each row the number of tiles for which its state was exact before bounds of later centres were
            applied to it, int64 [n]; 0 for the other rows, and for all where the order of centres matters.
        ids: Ids of the rows, [n].
        factors: Their factors, float32 [n, width] each.
        state: Their states, float64 [fields, n], changed in place.
    """
    able = torch.zeros(centres.tiles, len(tiles), dtype=torch.bool, device=tiles.device)
    for tile in torch.unique(tiles).tolist():
        rows = (tiles == tile).nonzero()[:, 0]
        some = factors if len(rows) == len(tiles) else of_rows(factors, rows)
        lower, upper = centres.screen(tile * EXACT_COLUMNS, centres.count, some)
        # No tile lowers a row that comes no nearer than one before it or, where order does not matter, than any other.
        least = upper.cummin(0).values if rule.depends_on_order else torch.minimum(upper.amin(0), state[0, rows])
        able[tile:, rows] = lower <= least
    for rows in parts(tiles == 0):
        gaps = centres.sq_distances(0, WideRows.of(of_rows(factors, rows)))
        begun = rule.begin(ids[rows.cpu().numpy()], gaps[0])
        rule.apply_centres(begun, gaps, centres.tile_times(0))
        state[:, rows] = begun
        able[0, rows] = False
    # Where the state was exact, a bound that lowered it since is above the exact distance to the same centre.
    for tile in able.any(1).nonzero()[:, 0].tolist():
        for rows in parts(able[tile]):
            some_states, gaps = state[:, rows], centres.sq_distances(tile, WideRows.of(of_rows(factors, rows)))
            rule.apply_centres(some_states, gaps, centres.tile_times(tile))
            state[:, rows] = some_states


def parts(which: torch.Tensor) -> Iterator[torch.Tensor]:
    """The positions at which a mask [n] is true, up to ROWS_AT_ONCE at a time."""
    rows = which.nonzero()[:, 0]
    return (rows[some] for some in slices(len(rows), ROWS_AT_ONCE))


def of_rows(factors: Factors, rows: torch.Tensor) -> Factors:
    """The factors of some rows, by their positions int64 [n]."""
    return tuple(factor[rows] for factor in factors)
