"""The few cells that each row lies in where rows are compared within cells alone: those of its nearest centroids.

Which these are depends on a row and the cells alone, to the last bit. They need not be the nearest to the last digit:
rows that are compared are compared exactly, and rows that share no cell are not.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.curation.near.cells import Cells
from raysal.curation.near.independent_set import first_independent_set
from raysal.curation.near.reading import rows_at
from raysal.curation.near.unit import compared_rows, radius_of
from raysal.numerics import DRIVER_ROWS, AlignedMatrix, ceil_div, one_thread, round_up, shared_out, slices
from raysal.pool import Pool
from raysal.rng import derive, item_order

FEW = 2
"""Cells that each row lies in. Of near pairs of mixtures of images at a cosine of 0.95, 73 % share the nearest cell,
and 97 % one of two (1,000,000 rows, 488 cells)."""
ITEMS_A_CELL = 4096
"""Items for each cell, about. With half as many, 300,000 rows took as long, and more near pairs were lost."""
MOST_CELLS = 2**13
"""Cells, at most: of more than 32 million items each has more."""
SAMPLED = 32
"""Items of the sample for each cell."""
ITERATIONS = 6
"""Of the clustering."""
BLOCK = 256
"""Rows that are placed together."""
TILE = 64
"""Centroids of which the nearest is found first."""


def cells_for(items: int) -> int:
    """How many cells there are for so many items, at most."""
    return min(max(items // ITEMS_A_CELL, 1), MOST_CELLS)


def cells_over(pool: Pool, items: NDArray[np.int64], threshold: float) -> Cells:
    """Cluster a sample of some items, the same however the pool is cut into chunks. O(k^2 d) for k cells.

    Cells whose rows are near to one another on average are one, as borders would cut groups of near rows: in cells like
    that most rows are near to the few that are kept, so that large ones take little time.

    Args:
        pool: the items.
        items: ids of those that are compared [n].
        threshold: a cosine, or minus a squared distance.

    Returns:
        The cells, at least one.
    """
    count = cells_for(len(items))
    order, most = item_order(derive(0, "near sample"), items), count * SAMPLED
    chosen = items[np.argpartition(order, most)[:most]] if len(items) > most else items
    vectors = rows_at(pool, np.sort(chosen))[1]
    rows = compared_rows(vectors, pool.metric) if len(vectors) else np.zeros((1, pool.dim), np.float32)
    cells = Cells.of(rows, count, derive(0, "near clusters"), iterations=ITERATIONS)
    with one_thread():
        return cells.only(_unlike(cells, rows, radius_of(threshold, pool.metric)))


def _unlike(cells: Cells, rows: NDArray[np.float32], radius: float) -> NDArray[np.bool_]:
    """Cells of which no two have rows that are within a radius of one another on average, bool [c]."""
    own, count = Places(cells).of(rows, 1)[:, 0], len(cells)
    turned, spread = cells.turned(rows), np.zeros(count)
    for piece in slices(len(rows), DRIVER_ROWS):
        sq = ((turned[piece] - cells.centroids[own[piece]]).astype(np.float64) ** 2).sum(1)
        spread += np.bincount(own[piece], weights=sq, minlength=count)
    spread /= np.maximum(np.bincount(own, minlength=count), 1)
    centroids, ends = torch.from_numpy(cells.centroids), []
    for piece in slices(count, DRIVER_ROWS):
        sq = torch.cdist(centroids[piece], centroids).double().square_().numpy() + spread[piece, None] + spread
        row, column = np.nonzero(sq <= radius**2)
        ends.append(np.stack([row + piece.start, column]))
    first, second = np.concatenate(ends, axis=1)
    return first_independent_set(count, first[first < second], second[first < second])


class Places:
    """Finds the nearest cells of rows."""

    def __init__(self, cells: Cells) -> None:
        """Lay the centroids out, about the origin of the cells, as rows were before they were turned."""
        self.count, dim = len(cells), len(cells.origin)
        about = np.zeros((round_up(self.count, TILE), dim))
        with one_thread(numpy=True):  # workers may have other numbers of threads than one another
            about[: self.count] = cells.centroids.astype(np.float64) @ cells.axes.T.astype(np.float64)
        self.origin = cells.origin
        self.matrix = AlignedMatrix(about.astype(np.float32), torch.float32, width=round_up(dim))
        self.halves = torch.from_numpy((about**2).sum(1) / 2).float()
        self.halves[self.count :] = torch.inf  # never the least

    def of(self, rows: NDArray[np.float32], few: int, *, threads: int = 1) -> NDArray[np.int32]:
        """Find the nearest cells. O(n c d).

        Args:
            rows: [n, d], as they are compared.
            few: how many, at most.
            threads: how many look.

        Returns:
            The cells of each row, the nearest first: [n, the lesser of `few` and c].
        """
        few, found = min(few, self.count), np.empty((len(rows), min(few, self.count)), np.int32)

        def some(pieces: list[slice]) -> None:
            block = torch.zeros(BLOCK, len(self.matrix.columns))
            values = torch.empty(BLOCK, len(self.halves))
            for own in pieces:
                block[: own.stop - own.start, : rows.shape[1]] = torch.from_numpy(rows[own] - self.origin)
                torch.sub(self.halves, self.matrix.padded_products(block, out=values), out=values)
                found[own] = self._least(values, few)[: own.stop - own.start]

        pieces = [*slices(len(rows), BLOCK)]
        share = max(ceil_div(len(pieces), threads), 1)
        shared_out(some, [pieces[own] for own in slices(len(pieces), share)], threads)
        return found

    def _least(self, values: torch.Tensor, few: int) -> NDArray[np.int32]:
        """The columns of the least values: they lie in the tiles that have the least ones."""
        tiled = values.view(len(values), -1, TILE)
        tiles = tiled.amin(2).topk(min(few, tiled.shape[1]), largest=False).indices
        near = tiled.gather(1, tiles[:, :, None].expand(-1, -1, TILE)).flatten(1)
        column = near.topk(few, largest=False).indices
        which = tiles.gather(1, column // TILE) * TILE + column % TILE
        return which.clamp_max_(self.count - 1).int().numpy()
