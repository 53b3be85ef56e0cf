"""States of rows from exact distances, in double precision, to those centres alone that could have lowered them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.numerics import BLOCK_ROWS, EXACT_COLUMNS, EXACT_ROWS, ceil_div, slices
from raysal.strategies.engine.distances import Centres, WideRows
from raysal.strategies.engine.feature_maps import Factors
from raysal.strategies.engine.priorities import Rule
from raysal.strategies.engine.sharing import shared, threads_free

ROWS_AT_ONCE = 4 * EXACT_ROWS
"""Rows in double precision at once: 2 MB of 256 numbers. More of them took twice the time."""
ROWS_MADE_EXACT = 1024
"""Rows whose bounds for all centres are held at once, at least."""
PRODUCTS_AT_ONCE = 8
"""Exact products of a tile of centres that each thread may compute before they are applied, 3 MB."""
BOUNDS_HELD = 2**20
"""Bounds that are held at once, 8 MB, unless those of ROWS_MADE_EXACT are more."""


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
        factors: Their factors, float32 [n, width] each. An exact product takes as long for one row as for EXACT_ROWS:
            the more rows, the more of them share a tile.
        state: Their states, float64 [fields, n], changed in place.
    """
    able = able_tiles(rule, centres, tiles, factors, state[0])
    able = able[:, (able[0] > 0) | (tiles[able[1]] > 0)]
    for _, rows, gaps in gaps_of(centres, factors, [(0, rows) for rows in parts((tiles == 0).nonzero()[:, 0])]):
        begun = rule.begin(ids[rows.cpu().numpy()], gaps[0])
        rule.apply_centres(begun, gaps, centres.tile_times(0))
        state[:, rows] = begun
    # Where the state was exact, a bound that lowered it since is above the exact distance to the same centre.
    for tile, rows, gaps in exact_gaps(centres, factors, able):
        some_states = state[:, rows]
        rule.apply_centres(some_states, gaps, centres.tile_times(tile))
        state[:, rows] = some_states


def exact_gaps(
    centres: Centres, factors: Factors, able: torch.Tensor
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """Compute the exact distances of rows to all centres of tiles.

    Args:
        centres: The centres.
        factors: Of the rows, float32 [n, width] each.
        able: (tile, row) of each pair, int64 [2, p], in order.

    Yields:
        (tile, positions of rows [m], squared distances float64 [EXACT_COLUMNS, m]), tiles ascending.
    """
    bounds = torch.searchsorted(able[0].contiguous(), torch.arange(centres.tiles + 1, device=able.device)).tolist()
    pairs = [
        (tile, rows) for tile, (low, high) in enumerate(itertools.pairwise(bounds)) for rows in parts(able[1, low:high])
    ]
    yield from gaps_of(centres, factors, pairs)


def gaps_of(
    centres: Centres, factors: Factors, pairs: Sequence[tuple[int, torch.Tensor]]
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """As `exact_gaps`, of tiles and positions of rows as they are given; some of them in several threads at once."""

    def gaps(pair: tuple[int, torch.Tensor]) -> tuple[int, torch.Tensor, torch.Tensor]:
        tile, rows = pair
        return tile, rows, centres.sq_distances(tile, WideRows.of(of_rows(factors, rows)))

    for some in slices(len(pairs), PRODUCTS_AT_ONCE * threads_free()):
        yield from shared(gaps, pairs[some])


def able_tiles(
    rule: Rule, centres: Centres, tiles: torch.Tensor, factors: Factors, sq_distances: torch.Tensor
) -> torch.Tensor:
    """Find the tiles that hold a centre which could lower the state of a row, by bounds in single precision.

    Args:
        rule: What rows are judged by.
        centres: The centres.
        tiles: For each row the number of tiles to be passed over, int64 [n].
        factors: Of the rows, float32 [n, width] each.
        sq_distances: A bound for each row, float64 [n], where order does not matter.

    Returns:
        (tile, row) of each pair, int64 [2, p], in order.
    """
    rows_held = max(ROWS_MADE_EXACT, min(BLOCK_ROWS, BOUNDS_HELD // max(centres.tiles, 1)))

    def able_of(task: tuple[int, torch.Tensor]) -> torch.Tensor:
        tile, own = task
        first, some = tile * EXACT_COLUMNS, of_rows(factors, own)
        # No tile lowers a row that comes no nearer than one before it or, where order does not matter, than any.
        if rule.depends_on_order:
            lower, upper = centres.screen(first, centres.count, some)
            which, row = (lower <= upper.cummin(0).values).nonzero(as_tuple=True)
        else:
            which, row = centres.able(first, centres.count, some, sq_distances[own])
        return torch.stack([which + tile, own[row]])

    tasks = []
    for tile in torch.unique(tiles).tolist():
        rows = (tiles == tile).nonzero()[:, 0]
        size = min(rows_held, max(ceil_div(len(rows), threads_free()), 1))
        tasks += [(tile, rows[some]) for some in slices(len(rows), size)]
    able = torch.cat([torch.empty(2, 0, dtype=torch.int64, device=tiles.device), *shared(able_of, tasks)], 1)
    return able[:, able[0].argsort(stable=True)]


def parts(rows: torch.Tensor) -> Iterator[torch.Tensor]:
    """Positions [n], up to ROWS_AT_ONCE at a time."""
    return (rows[some] for some in slices(len(rows), ROWS_AT_ONCE))


def of_rows(factors: Factors, rows: torch.Tensor) -> Factors:
    """The factors of some rows, by their positions int64 [n]."""
    return tuple(factor.index_select(0, rows) for factor in factors)
