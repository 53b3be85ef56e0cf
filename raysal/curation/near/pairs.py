"""Pairs of rows that are near each other: all of them, found without comparing all.

Rows come in units that fit into memory. Of two units, the rows of two cells are compared that may be near
(`raysal.curation.near.cells`), by one product in single precision with a proven bound of its error. What that cannot
tell is decided in double precision. So the pairs, and their similarities, depend on nothing but the vectors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.curation.near.unit import Unit, radius_of
from raysal.numerics import shared_out, slices
from raysal.strategies.engine.distances import slack
from raysal.types import Metric

COLUMNS = 1024
"""Rows of one unit that are compared at once with a cell of the other: products of 2 MB for 512 rows a cell."""
MOST_PAIRS = 2**26
"""Near pairs of two units, at most: 1.6 GB, some 500 for each row. With more, the threshold is far too low."""
CANDIDATES_AT_ONCE = 2**13
"""Pairs that are looked at again together, by all of their numbers: they stay in the cache."""
PAIRS_AT_ONCE = 128
"""Pairs that are decided together in double precision: they stay in the cache, which makes it four times as fast."""


class Pairs(NamedTuple):
    """Pairs of items, and how similar they are."""

    first: NDArray[np.int64]
    """ids [p]"""
    second: NDArray[np.int64]
    """ids [p]"""
    similarity: NDArray[np.float64]
    """cosines, or minus squared distances, [p]"""

    @classmethod
    def joined(cls, pieces: list[Pairs]) -> Pairs:
        """Put pieces together.

        Args:
            pieces: any number.

        Returns:
            All of their pairs, in order.
        """
        empty = cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64))
        return cls(*(np.concatenate([getattr(piece, name) for piece in (empty, *pieces)]) for name in cls._fields))

    def in_order(self) -> Pairs:
        """Put the smaller id first, and sort by both.

        Returns:
            The same pairs.
        """
        low, high = np.minimum(self.first, self.second), np.maximum(self.first, self.second)
        order = np.lexsort((high, low))
        return Pairs(low[order], high[order], self.similarity[order])


class TooManyPairs(Exception):
    """More pairs are near than a list of them is for."""


def near_pairs_of(
    left: Unit, right: Unit, threshold: float, metric: Metric, *, threads: int = 1, most: int = MOST_PAIRS
) -> Pairs:
    """All pairs of a row of one unit and a row of the other that are at least as similar as a threshold.

    Within one unit (`left is right`) each pair is found once, and copies of a vector are not paired: see `Unit.copies`.
    Cost: at most one product of all rows with all, O(n m d); memory O(pairs).

    Args:
        left: a unit, made for a radius of at least that of the threshold.
        right: another one with the same cells, or the same one.
        threshold: a cosine, or minus a squared distance.
        metric: of the pool.
        threads: how many compare.
        most: how many pairs are listed.

    Returns:
        The pairs, in order of their ids, the smaller one first.

    Raises:
        TooManyPairs: there are more than `most`.
    """
    count = [0]

    def of_cell(cell: int) -> Pairs:
        found = []
        for rows, columns in _candidates(left, right, cell, radius_of(threshold, metric)):
            found.append(_near_among(left, right, rows, columns, threshold, metric))
            count[0] += len(found[-1].first)
            if count[0] > most:
                raise TooManyPairs
        return Pairs.joined(found)

    cells = np.flatnonzero(np.diff(left.starts))
    return Pairs.joined(shared_out(of_cell, cells.tolist(), threads)).in_order()


def columns_for(left: Unit, right: Unit, cell: int) -> NDArray[np.int64]:
    """The rows of a unit on the right that are compared with those of a cell on the left.

    Args:
        left: says which cells some row of the cell is compared with.
        right: says which of its rows are compared with the cell.
        cell: the cell.

    Returns:
        Positions on the right, ascending.
    """
    others = np.arange(len(right)) if right.reach is None else right.reach.of_cell(cell)
    return others if left.reaches is None else others[left.reaches[cell][right.cell[others]]]


def _candidates(
    left: Unit, right: Unit, cell: int, radius: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Positions [p] in a cell of the left, and [p] on the right, whose distance is not surely above the radius."""
    sq_radius = (radius + left.rounding) ** 2
    own = np.arange(left.starts[cell], left.starts[cell + 1])
    others = columns_for(left, right, cell)
    if left is right:
        others = others[others > own[0]]
    x = left.screen.left(own, torch.full((len(own),), sq_radius))
    for piece in slices(len(others), COLUMNS):
        row, column = right.screen.hits(x, others[piece])
        rows, columns = own[row], others[piece][column]
        if left is right:
            later = columns > rows
            rows, columns = rows[later], columns[later]
        for some in slices(len(rows), CANDIDATES_AT_ONCE):
            near = _may_be_near(left, right, rows[some], columns[some], sq_radius)
            yield rows[some][near], columns[some][near]


def _may_be_near(
    left: Unit, right: Unit, rows: NDArray[np.int64], columns: NDArray[np.int64], sq_radius: float
) -> NDArray[np.bool_]:
    """Whether pairs are not surely farther apart, by all of their numbers."""
    a, b = torch.from_numpy(rows), torch.from_numpy(columns)
    sq_distances = torch.linalg.vector_norm(left.rows.index_select(0, a) - right.rows.index_select(0, b), dim=1) ** 2
    error = slack((left.rows,)) * (left.sq_norms[a] + right.sq_norms[b] + sq_radius)
    return np.asarray((sq_distances <= sq_radius + error).numpy(), bool)


def _near_among(
    left: Unit, right: Unit, rows: NDArray[np.int64], columns: NDArray[np.int64], threshold: float, metric: Metric
) -> Pairs:
    """Decide candidates in double precision."""
    values = np.empty(len(rows))
    for piece in slices(len(rows), PAIRS_AT_ONCE):
        values[piece] = exact_similarities(left, right, rows[piece], columns[piece], metric)
    near = at_least(values, threshold)
    return Pairs(left.ids[rows[near]], right.ids[columns[near]], values[near])


def exact_similarities(
    left: Unit, right: Unit, rows: NDArray[np.int64], columns: NDArray[np.int64], metric: Metric
) -> NDArray[np.float64]:
    """Similarities of pairs from their vectors, in double precision. The bits of a pair do not depend on the others.

    Args:
        left: a unit.
        right: another one.
        rows: positions on the left, [p].
        columns: positions on the right, [p].
        metric: of the pool.

    Returns:
        Cosines, or minus squared distances, [p].
    """
    a = left.vectors.index_select(0, torch.from_numpy(rows)).float().double().numpy()
    b = right.vectors.index_select(0, torch.from_numpy(columns)).float().numpy()
    if metric == "l2":
        a -= b
        a *= a
        return np.asarray(-a.sum(1))
    a *= b
    # The root of a square is exact: of equal vectors the cosine is 1 to the bit.
    norms = np.sqrt(left.exact_sq_norms[rows] * right.exact_sq_norms[columns])
    values = np.divide(a.sum(1), norms, out=np.zeros(len(rows)), where=norms > 0)
    values[left.zero[rows] & right.zero[columns]] = 1.0  # equal, though they have no cosine
    return np.asarray(np.minimum(values, 1.0))


def at_least(similarities: NDArray[np.float64], threshold: float) -> NDArray[np.bool_]:
    """Which similarities reach a threshold, up to rounding in double precision.

    Args:
        similarities: cosines, or minus squared distances, [p].
        threshold: likewise.

    Returns:
        bool [p].
    """
    return similarities >= threshold - abs(threshold) * math.ldexp(1.0, -46)
