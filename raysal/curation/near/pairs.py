"""Pairs of rows that are near each other: all of them, found without comparing all.

Rows come in units that fit into memory. Of two units, the rows of two cells are compared that may be near
(`raysal.curation.near.cells`), by one product in single precision with a proven bound of its error. What that cannot
tell is decided in double precision. So the pairs, and their similarities, depend on nothing but the vectors.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.curation.near.cells import Cells
from raysal.errors import ConfigError
from raysal.numerics import DRIVER_ROWS, shared_out, slices
from raysal.scoring.similarity import unit_rows
from raysal.strategies.engine.distances import slack
from raysal.strategies.engine.distinct import distinct_rows
from raysal.types import Metric

COLUMNS = 1024
"""Rows of one unit that are compared at once with a cell of the other: products of 2 MB for 512 rows a cell."""
MOST_PAIRS = 2**26
"""Near pairs of two units, at most: 1.6 GB, some 500 for each row. With more, the threshold is far too low."""
CANDIDATES_AT_ONCE = 2**13
"""Pairs that are looked at again together, by all of their numbers: they stay in the cache."""
PAIRS_AT_ONCE = 128
"""Pairs that are decided together in double precision: they stay in the cache, which makes it four times as fast."""


UNIT_ROUNDING = math.ldexp(1.0, -20)
"""By how much two rows of unit length can be off together, each rounded to single precision; 4 times the bound."""


def radius_of(similarity: float, metric: Metric) -> float:
    """The distance of rows, as they are compared, below which pairs of some similarity lie, rounding included.

    Args:
        similarity: a cosine, or minus a squared distance.
        metric: of the pool.

    Returns:
        The distance, at least 0.
    """
    if metric == "cosine":
        return math.sqrt(max(2 * (1 - similarity), 0.0)) + UNIT_ROUNDING
    return math.sqrt(max(-similarity, 0.0))  # float16 is exact in single precision; `slack` has the rest


def compared_rows(vectors: NDArray[np.float16], metric: Metric) -> NDArray[np.float32]:
    """Rows as they are compared: of unit length where the metric is the cosine, otherwise as they are.

    Args:
        vectors: [n, d].
        metric: of the pool.

    Returns:
        [n, d].
    """
    return unit_rows(vectors) if metric == "cosine" else vectors.astype(np.float32)


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


@dataclass(frozen=True)
class Unit:
    """Rows that are compared together, in the order of their cells, each distinct vector once.

    Memory: 4 bytes a number of the vectors and of their leading numbers, 2 more for what they were, and a byte for each
    row and cell.
    """

    ids: NDArray[np.int64]
    """[n], of the first item with each vector"""
    vectors: torch.Tensor
    """float16 [n, d], as they are in the pool"""
    exact_sq_norms: NDArray[np.float64]
    """of these, [n]"""
    zero: NDArray[np.bool_]
    """whether all numbers of a vector are 0, [n]"""
    rows: torch.Tensor
    """float32 [n, d], as they are compared, turned to the axes of the cells"""
    sq_norms: torch.Tensor
    """of these, float32 [n]"""
    leading: torch.Tensor
    """float32 [n, l + 3]: the l leading numbers of a row x, the length of the rest, 1, and -|x|^2 / 2"""
    rounding: float
    """by how much the distance of one of them to a row that is near is off, because both were turned"""
    cell: NDArray[np.int64]
    """of each row [n], ascending"""
    starts: NDArray[np.int64]
    """where the rows of each cell begin, [c + 1]"""
    reached_by: NDArray[np.bool_]
    """the rows that are compared with a cell, [c, n]"""
    reaches: NDArray[np.bool_]
    """the cells that some row of a cell is compared with, [c, c]"""
    copies: NDArray[np.int64]
    """ids [m, 2] of an item with the same vector as an earlier one, and of the first of these"""

    @classmethod
    def of(
        cls, ids: NDArray[np.int64], vectors: NDArray[np.float16], metric: Metric, cells: Cells, radius: float
    ) -> Self:
        """Make a unit. O(n d (c + d)).

        Args:
            ids: [n], ascending.
            vectors: [n, d].
            metric: of the pool. By the cosine, a zero vector is near to none but other zero vectors.
            cells: that both sides of a comparison share.
            radius: up to which distance rows are to be found.

        Returns:
            The unit.
        """
        first, of = distinct_rows(vectors.astype(np.float32))
        copy = np.setdiff1d(np.arange(len(ids)), first, assume_unique=True)
        copies = np.stack([ids[copy], ids[first[of[copy]]]], axis=1)
        kept = np.sort(first)
        rows = cells.turned(compared_rows(vectors[kept], metric))
        cell = cells.assigned(rows)
        order = np.argsort(cell, kind="stable")
        cell, ids, vectors, rows = cell[order], ids[kept[order]], vectors[kept[order]], rows[order]
        starts = np.searchsorted(cell, np.arange(len(cells) + 1))
        exact = np.concatenate([np.empty(0), *(_sq_norms(vectors[own]) for own in slices(len(vectors), DRIVER_ROWS))])
        placed, lead = torch.from_numpy(rows), cells.leading
        sq_norms = torch.linalg.vector_norm(placed, dim=1) ** 2
        # A row of another unit that is near to one of these is hardly longer.
        rounding = cells.rounding(1.01 * math.sqrt(float(sq_norms.max())) + radius if len(rows) else 0.0)
        reached_by = np.zeros((len(cells), len(rows)), bool)
        reaches = np.zeros((len(cells), len(cells)), bool)
        for at, (low, high) in enumerate(itertools.pairwise(starts.tolist())):
            reached = cells.within_reach(placed[low:high], at, radius + rounding)
            reached_by[:, low:high], reaches[at] = reached, reached.any(1)
        leading = torch.ones(len(rows), lead + 3)
        leading[:, :lead] = placed[:, :lead]
        leading[:, lead] = torch.linalg.vector_norm(placed[:, lead:], dim=1)
        leading[:, -1] = -sq_norms / 2
        return cls(
            ids=ids,
            vectors=torch.from_numpy(vectors),
            exact_sq_norms=exact,
            zero=exact == 0,
            rows=placed,
            sq_norms=sq_norms,
            leading=leading,
            rounding=rounding,
            cell=cell,
            starts=starts,
            reached_by=reached_by,
            reaches=reaches,
            copies=copies,
        )


def _sq_norms(vectors: NDArray[np.float16]) -> NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    wide *= wide
    return np.asarray(wide.sum(1))


def near_pairs_of(left: Unit, right: Unit, threshold: float, metric: Metric, *, threads: int = 1) -> Pairs:
    """All pairs of a row of one unit and a row of the other that are at least as similar as a threshold.

    Within one unit (`left is right`) each pair is found once, and copies of a vector are not paired: see `Unit.copies`.
    Cost: at most one product of all rows with all, O(n m d); memory O(pairs).

    Args:
        left: a unit, made for a radius of at least that of the threshold.
        right: another one with the same cells, or the same one.
        threshold: a cosine, or minus a squared distance.
        metric: of the pool.
        threads: how many compare.

    Returns:
        The pairs, in order of their ids, the smaller one first.

    Raises:
        ConfigError: there are more than `MOST_PAIRS`.
    """
    count = [0]

    def of_cell(cell: int) -> Pairs:
        found = []
        for rows, columns in _candidates(left, right, cell, radius_of(threshold, metric)):
            found.append(_near_among(left, right, rows, columns, threshold, metric))
            count[0] += len(found[-1].first)
            if count[0] > MOST_PAIRS:
                near = f"{threshold:g}" if metric == "cosine" else f"a squared distance of {-threshold:g}"
                rows_of = f"{len(left.ids):,} and {len(right.ids):,} items"
                problem = f"more than {MOST_PAIRS:,} pairs between {rows_of} are near at {near}"
                fix = "use a higher threshold" if metric == "cosine" else "use a smaller distance"
                raise ConfigError("threshold", problem, fix)
        return Pairs.joined(found)

    cells = np.flatnonzero(np.diff(left.starts))
    return Pairs.joined(shared_out(of_cell, cells.tolist(), threads)).in_order()


def _candidates(
    left: Unit, right: Unit, cell: int, radius: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Positions [p] in a cell of the left, and [p] on the right, whose distance is not surely above the radius."""
    share, sq_radius = slack((left.leading,)), (radius + left.rounding) ** 2
    low, high = left.starts[cell], left.starts[cell + 1]
    others = np.flatnonzero(right.reached_by[cell] & left.reaches[cell][right.cell])
    if left is right:
        others = others[others > low]
    # Of leading numbers a and b, and of the lengths r and s of the rest, a . b + r s >= x . y (Cauchy and Schwarz). So
    # a . b + r s - |x|^2 / 2 - |y|^2 / 2 is at least minus half of the squared distance, up to a share of the norms.
    x = left.leading[low:high].clone()
    x[:, -2:] = x[:, -2:].flip(1)
    x[:, -2] *= 1 - share
    for piece in slices(len(others), COLUMNS):
        own = torch.from_numpy(others[piece])
        y = right.leading[own]
        y[:, -1] *= 1 - share
        row, column = np.divmod(np.flatnonzero((x @ y.T >= -sq_radius / 2 * (1 + share)).numpy()), len(own))
        rows, columns = row + low, others[piece][column]
        if left is right:
            later = columns > rows
            rows, columns = rows[later], columns[later]
        for some in slices(len(rows), CANDIDATES_AT_ONCE):
            near = _may_be_near(left, right, rows[some], columns[some], sq_radius, share)
            yield rows[some][near], columns[some][near]


def _may_be_near(
    left: Unit, right: Unit, rows: NDArray[np.int64], columns: NDArray[np.int64], sq_radius: float, share: float
) -> NDArray[np.bool_]:
    """Whether pairs are not surely farther apart, by all of their numbers."""
    a, b = torch.from_numpy(rows), torch.from_numpy(columns)
    sq_distances = torch.linalg.vector_norm(left.rows[a] - right.rows[b], dim=1) ** 2
    error = share * (left.sq_norms[a] + right.sq_norms[b] + sq_radius)
    return np.asarray((sq_distances <= sq_radius + error).numpy(), bool)


def _near_among(
    left: Unit, right: Unit, rows: NDArray[np.int64], columns: NDArray[np.int64], threshold: float, metric: Metric
) -> Pairs:
    """Decide candidates in double precision."""
    values = np.empty(len(rows))
    for piece in slices(len(rows), PAIRS_AT_ONCE):
        values[piece] = _exact_similarities(left, right, rows[piece], columns[piece], metric)
    near = at_least(values, threshold)
    return Pairs(left.ids[rows[near]], right.ids[columns[near]], values[near])


def _exact_similarities(
    left: Unit, right: Unit, rows: NDArray[np.int64], columns: NDArray[np.int64], metric: Metric
) -> NDArray[np.float64]:
    """Similarities of pairs [p] from their vectors. The bits of a pair do not depend on the others."""
    a = left.vectors[torch.from_numpy(rows)].float().double().numpy()
    b = right.vectors[torch.from_numpy(columns)].float().numpy()
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
