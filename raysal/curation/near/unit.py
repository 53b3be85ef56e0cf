"""Rows that are compared together: turned to main axes, in the order of cells, with the cells that they may be near."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.curation.near.cells import Cells, Reached
from raysal.curation.near.screen import Screen
from raysal.numerics import DRIVER_ROWS, slices
from raysal.scoring.similarity import unit_rows
from raysal.strategies.engine.distinct import distinct_rows
from raysal.types import Metric

UNIT_ROUNDING = math.ldexp(1.0, -20)
"""By how much two rows of unit length can be off together, each rounded to single precision; 4 times the bound."""
TOGETHER = 512
"""Rows on the left of a product where all are compared with all: with as many as `COLUMNS` on the right it is 1 MB."""


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


class Reach(NamedTuple):
    """Which rows of a unit are compared with each cell of another one."""

    rows: NDArray[np.int32]
    """positions in the unit [r], those of one cell after those of another"""
    starts: NDArray[np.int64]
    """where those of each cell begin, [c + 1]"""

    @classmethod
    def of(cls, reached: Reached, order: NDArray[np.int64], count: int) -> Self:
        """Sort by cell. O(r): there are tens of millions.

        Args:
            reached: which cells each row reaches, [r].
            order: of the rows in the unit, [n].
            count: of cells.

        Returns:
            The rows of each cell, ascending.
        """
        lengths = np.bincount(reached.row, minlength=len(order))
        begins = np.cumsum(lengths) - lengths
        lengths, begins = lengths[order], begins[order]
        own = np.repeat(begins - np.cumsum(lengths) + lengths, lengths) + np.arange(len(reached.row))
        cell, row = reached.cell[own], np.repeat(np.arange(len(order), dtype=np.int32), lengths)
        by_cell = np.argsort(cell, kind="stable")
        return cls(row[by_cell], np.concatenate([[0], np.cumsum(np.bincount(cell, minlength=count))]))

    @classmethod
    def nothing(cls, count: int) -> Self:
        """Of no row."""
        return cls(np.empty(0, np.int32), np.zeros(count + 1, np.int64))

    def of_cell(self, cell: int) -> NDArray[np.int64]:
        """The rows that are compared with a cell, ascending."""
        return self.rows[self.starts[cell] : self.starts[cell + 1]].astype(np.int64)

    def only(self, place: NDArray[np.int64]) -> Reach:
        """Of some rows alone: `place` [n] says where each is then, -1 where it is left out."""
        moved = place[self.rows]
        there = moved >= 0
        starts = np.concatenate([[0], np.cumsum(there)])[self.starts]
        return Reach(moved[there].astype(np.int32), starts)


class Placing(NamedTuple):
    """Where rows lie: what takes most of the time to find of a unit."""

    cell: NDArray[np.int64]
    """of each row in order of id, [n]"""
    reaches: NDArray[np.bool_] | None
    """as of `Unit`"""


@dataclass(frozen=True)
class Unit:
    """Rows that are compared together, in the order of their cells.

    Memory: 4 bytes a number of the vectors, 2 to 4 for their leading numbers, 2 for what they were, and 4 for each cell
    that a row is compared with.
    """

    ids: NDArray[np.int64]
    """[n], of the first item with each vector; of every item where the unit is not of distinct vectors"""
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
    screen: Screen
    """their leading numbers, for the products that rule pairs out"""
    rounding: float
    """by how much the distance of one of them to a row that is near is off, because both were turned"""
    cell: NDArray[np.int64]
    """of each row [n], ascending"""
    starts: NDArray[np.int64]
    """where the rows of each cell begin, [c + 1]"""
    reach: Reach | None
    """the rows that are compared with each cell of a unit on the left; None for all of them with each. Of no row where
    the unit was made for the left"""
    reaches: NDArray[np.bool_] | None
    """the cells that some row of a cell is compared with, [c, c]; None where only the right is asked, or all are"""
    copies: NDArray[np.int64]
    """ids [m, 2] of an item with the same vector as an earlier one, and of the first of these"""

    @classmethod
    def of(
        cls,
        ids: NDArray[np.int64],
        vectors: NDArray[np.float16],
        metric: Metric,
        cells: Cells,
        radius: float,
        *,
        distinct: bool = True,
        right: bool = True,
        placing: Placing | None = None,
    ) -> Self:
        """Make a unit. O(n d (c + d)), and O(n d^2) where its placing is known.

        Args:
            ids: [n], ascending.
            vectors: [n, d].
            metric: of the pool. By the cosine, a zero vector is near to none but other zero vectors.
            cells: that both sides of a comparison share.
            radius: up to which distance rows are to be found.
            distinct: whether of equal vectors only the first is a row, and the others are `copies`.
            right: whether it is looked at from the right, too.
            placing: of the same rows, for a unit that is looked at from the left alone.

        Returns:
            The unit.
        """
        copies, own = np.empty((0, 2), np.int64), np.arange(len(ids))
        if distinct:
            first, of = distinct_rows(vectors.astype(np.float32))
            copy = np.setdiff1d(own, first, assume_unique=True)
            copies, own = np.stack([ids[copy], ids[first[of[copy]]]], axis=1), np.sort(first)
        rows = torch.from_numpy(cells.turned(compared_rows(vectors[own], metric)))
        sq_norms = torch.linalg.vector_norm(rows, dim=1) ** 2
        # A row of another unit that is near to one of these is hardly longer.
        rounding = cells.rounding(1.01 * math.sqrt(float(sq_norms.max())) + radius if len(rows) else 0.0)
        reached: Reached | None = Reached.nothing()
        if placing is None:
            cell, reached = cells.placed(rows, radius + rounding)
            placing = Placing(cell, None if reached is None else reached.cells_of(cell, len(cells)))
        cell, reaches = placing
        order = np.argsort(cell, kind="stable")
        cell, ids, vectors, some = cell[order], ids[own[order]], vectors[own[order]], torch.from_numpy(order)
        reach = None if reached is None else Reach.nothing(len(cells))
        if right and reached is not None:
            reach = Reach.of(reached, order, len(cells))
        rows, sq_norms = rows.index_select(0, some), sq_norms[some]
        starts = np.searchsorted(cell, np.arange(len(cells) + 1))
        exact = np.concatenate([np.empty(0), *(_sq_norms(vectors[own]) for own in slices(len(vectors), DRIVER_ROWS))])
        return cls(
            ids=ids,
            vectors=torch.from_numpy(vectors),
            exact_sq_norms=exact,
            zero=exact == 0,
            rows=rows,
            sq_norms=sq_norms,
            screen=Screen.of(rows, sq_norms, cells.leading),
            rounding=rounding,
            cell=cell,
            starts=starts,
            reach=reach,
            reaches=reaches,
            copies=copies,
        )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def placing(self) -> Placing:
        """Where its rows lie, for the next time that the unit is made."""
        return Placing(self.cell[np.argsort(self.ids)], self.reaches)

    def only(self, rows: NDArray[np.int64]) -> Unit:
        """Take some rows. O(r d), and the memory of these.

        Args:
            rows: their positions [r], ascending.

        Returns:
            A unit of these alone, in the same cells.
        """
        some, place = torch.from_numpy(rows), np.full(len(self), -1)
        place[rows] = np.arange(len(rows))
        cell = self.cell[rows]
        return replace(
            self,
            ids=self.ids[rows],
            vectors=self.vectors[some],
            exact_sq_norms=self.exact_sq_norms[rows],
            zero=self.zero[rows],
            rows=self.rows[some],
            sq_norms=self.sq_norms[some],
            screen=self.screen.only(some),
            cell=cell,
            starts=np.searchsorted(cell, np.arange(len(self.starts))),
            reach=None if self.reach is None else self.reach.only(place),
        )

    @classmethod
    def together(
        cls, ids: NDArray[np.int64], vectors: NDArray[np.float16], metric: Metric, cells: Cells, radius: float
    ) -> Self:
        """Make a unit of rows all of which are compared with all, equal ones included. O(n d^2).

        Args:
            ids: [n], ascending.
            vectors: [n, d].
            metric: of the pool.
            cells: of which the axes count alone, which both sides of a comparison share.
            radius: up to which distance rows are to be found.

        Returns:
            The unit.
        """
        placing = Placing(np.zeros(len(ids), np.int64), None)
        unit = cls.of(ids, vectors, metric, cells, radius, distinct=False, right=False, placing=placing)
        return unit.all_with_all()

    def all_with_all(self) -> Self:
        """The same rows, all of which are compared with all: for few, that is less work than to rule pairs out."""
        starts = np.minimum(np.arange(0, len(self) + TOGETHER, TOGETHER), len(self))
        return replace(self, cell=np.arange(len(self)) // TOGETHER, starts=starts, reach=None, reaches=None)


def _sq_norms(vectors: NDArray[np.float16]) -> NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    wide *= wide
    return np.asarray(wide.sum(1))
